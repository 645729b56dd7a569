"""Profiles along an axis: density, charge, composition and crystalline order, and the interfaces that they show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd import units
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import average
from mlmd.analysis.interface import FEW, Slab, find_slab
from mlmd.analysis.recognition import CNA, OTHER, Recognition
from mlmd.analysis.unwrap import drift_path
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = ("x", "y", "z")
"""Names of the axes, which are normal to the planes of the other two cell vectors."""
_MOVED = 0.5
"""Å of drift that is worth telling."""


@dataclass(frozen=True)
class Curve:
    """One quantity along the axis."""

    name: str
    unit: str
    values: np.ndarray
    """(n_bins,) nan where no atom is."""
    errors: np.ndarray
    """(n_bins,) standard errors; nan where they are not known."""
    slab: Slab | None
    """The interfaces; None where it does not look like a slab."""

    @property
    def errors_known(self) -> bool:
        """Whether there is an error wherever there is a value, and of the interfaces."""
        slab = self.slab
        told = [] if slab is None or any(slab.sharp) else [one.error for one in slab.estimates.values()]
        return bool(np.isfinite(self.errors[np.isfinite(self.values)]).all() and np.isfinite(told).all())


@dataclass(frozen=True)
class ProfileResult:
    """Profiles of a trajectory."""

    axis: str
    heights: np.ndarray
    """(n_bins,) Å, middles of the bins."""
    period: float | None
    """Å, mean height of the cell along the axis; None where it does not repeat."""
    curves: tuple[Curve, ...]
    n_frames: int
    """Frames that were used."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "profile"

    def __str__(self) -> str:
        """A line for each quantity with interfaces, and the notes."""
        told = [
            f"{one.name}: interfaces at {one.slab.lower} and {one.slab.upper}, widths {one.slab.lower_width} and "
            f"{one.slab.upper_width}; {one.slab.inside} between them, {one.slab.outside} beyond"
            for one in self.curves
            if one.slab is not None
        ]
        return "\n".join([*(told or ["no interfaces"]), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Interfaces with errors and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "axis": self.axis,
            "interfaces": {
                one.name: {key: value.to_dict() for key, value in one.slab.estimates.items()}
                for one in self.curves
                if one.slab is not None
            },
            "period_A": self.period,
            "bin_A": float(self.heights[1] - self.heights[0]),
            "n_frames_used": self.n_frames,
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """All curves with errors."""
        names, columns = [f"{self.axis} [Å]"], [self.heights]
        for one in self.curves:
            names += [f"{one.name} [{one.unit}]" if one.unit else one.name, f"{one.name} error"]
            columns += [one.values, one.errors]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """Densities, and the rest."""
        from mlmd.analysis.profile_figure import profile_figure

        return profile_figure(self)


def profile(
    trajectory: Trajectory, *, axis: str = "z", bin_width: float = 0.25, charges: Mapping[str, float] | None = None,
    drift: str | list[str] = "cell", order: bool = False, max_frames: int = 1000, recognition: Recognition = CNA,
) -> ProfileResult:  # fmt: skip
    """Profiles along an axis, averaged over the plane at right angles to it and over time.

    The density of mass and of each element's atoms, the fraction of each element, the density of charge, and the
    fraction of atoms that are found in a lattice. Along a periodic axis positions are counted in
    units of the cell, whose mean height gives lengths.

    Args:
        trajectory: periodic in the two directions across the axis.
        axis: x, y or z, for what is at right angles to the second and third, third and first, first and second vector.
        bin_width: Å.
        charges: e, by element; all elements have to be there.
        drift: what is at rest in the profile, as in `mlmd.analysis.diffusion`: "cell" (centre of mass), "none", or
            elements.
        order: whether the order is looked at, which takes a search of neighbours in every frame.
        max_frames: at most so many frames, at equal distances in time, are used.
        recognition: how it is told whether an atom is part of a lattice.

    Raises:
        InputError: without a plane, for an unknown axis or element, without some charges, a bin that is too large.
    """
    if axis not in AXES:
        raise InputError(f"axis {axis!r} is not one of {', '.join(AXES)}.")
    index = AXES.index(axis)
    across = [one for one in range(3) if one != index]
    if not trajectory.pbc[across].all():
        raise InputError(f"A profile along {axis} needs an area: a cell periodic in the two directions across it.")
    frames = np.unique(np.linspace(0, trajectory.n_frames - 1, min(max_frames, trajectory.n_frames)).astype(int))
    path = drift_path(trajectory, drift)
    ruler = _ruler(trajectory, index, path, frames, bin_width)
    told = recognition if order else None
    counts = np.array([_counted(trajectory, ruler, path, frame, told) for frame in frames.tolist()])
    curves = _curves(trajectory, ruler, counts, charges or {}, order)
    moved = float(np.ptp(path[frames] @ ruler.normal))
    notes = list(trajectory.provenance.notes)
    if order and recognition != CNA:
        notes.append(f"order: {recognition}")
    if moved > _MOVED:
        whose = "" if drift == "cell" else f" of {', '.join([drift] if isinstance(drift, str) else drift)}"
        notes.append(f"the centre of mass{whose} moved over {moved:.2g} Å along {axis}; the profile moves with it")
    if len(frames) < FEW:
        notes.append(f"{len(frames)} frames are too few: errors are not known")
    elif unknown := [one.name for one in curves if not one.errors_known]:
        notes.append(
            f"{', '.join(unknown)}: frames remember each other for more than 1/{FEW:g} of the trajectory, at some "
            "heights or in where interfaces are; errors there are not known, and the means are not those of equilibrium"
        )
    if sharp := [one.name for one in curves if one.slab is not None and any(one.slab.sharp)]:
        notes.append(
            f"{', '.join(sharp)}: an interface lies between two bins, which do not tell its place and width further: "
            "errors of them are not known. Take narrower bins (--bin)"
        )
    period = ruler.length if ruler.periodic else None
    return ProfileResult(axis, ruler.middles, period, curves, len(frames), tuple(notes), trajectory.provenance)


@dataclass(frozen=True)
class _Ruler:
    """Bins along the axis."""

    index: int
    normal: np.ndarray
    """(3,) along the axis."""
    periodic: bool
    start: float
    """Å."""
    length: float
    """Å."""
    n_bins: int
    area: float
    """Å²."""

    @property
    def middles(self) -> np.ndarray:
        """(n_bins,) Å."""
        return self.start + self.length * (np.arange(self.n_bins) + 0.5) / self.n_bins

    def bins(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Of atoms at positions (n_atoms, 3) Å."""
        if self.periodic:
            share = (positions @ np.linalg.inv(cell)[:, self.index]) % 1.0
        else:
            share = (positions @ self.normal - self.start) / self.length
        return np.clip((share * self.n_bins).astype(int), 0, self.n_bins - 1)


def _ruler(trajectory: Trajectory, index: int, path: np.ndarray, frames: np.ndarray, bin_width: float) -> _Ruler:
    cell = trajectory.cells.mean(axis=0)
    normal = np.cross(cell[(index + 1) % 3], cell[(index + 2) % 3])
    area = float(np.linalg.norm(normal))
    normal = normal / area if normal[index] >= 0.0 else -normal / area  # a left-handed cell is not upside down
    periodic = bool(trajectory.pbc[index])
    start, length = 0.0, abs(float(cell[index] @ normal))
    if not periodic:
        ends = [
            (heights.min(), heights.max())
            for frame in frames.tolist()
            for heights in [(_positions(trajectory, frame) - path[frame]) @ normal]
        ]
        start, end = float(min(low for low, _ in ends)) - bin_width, float(max(high for _, high in ends)) + bin_width
        length = end - start
    if not 0.0 < bin_width <= length / 2:
        raise InputError(f"bin_width = {bin_width:g} Å: needed above 0 and at most half of {length:.4g} Å.")
    return _Ruler(index, normal, periodic, start, length, round(length / bin_width), area)


def _positions(trajectory: Trajectory, frame: int) -> np.ndarray:
    positions: np.ndarray = next(trajectory.chunks(frame, frame + 1)).positions[0]
    return positions


def _counted(
    trajectory: Trajectory, ruler: _Ruler, path: np.ndarray, frame: int, recognition: Recognition | None
) -> np.ndarray:
    """Atoms in bins, (n_elements + 1, n_bins): by element, and in the last row those in a lattice."""
    kinds = np.array([trajectory.elements.index(symbol) for symbol in trajectory.symbols])
    n_kinds = len(trajectory.elements)
    counts = np.zeros((n_kinds + 1, ruler.n_bins), dtype=np.int32)
    positions, cell = _positions(trajectory, frame), trajectory.cells[frame]
    bins = ruler.bins(positions - path[frame], cell)
    places = np.bincount(kinds * ruler.n_bins + bins, minlength=n_kinds * ruler.n_bins)
    counts[:n_kinds] = places.reshape(n_kinds, -1)
    if recognition is not None:
        ordered = recognition.of(positions, cell, trajectory.pbc).types != OTHER
        counts[n_kinds] = np.bincount(bins[ordered], minlength=ruler.n_bins)
    return counts


def _curves(
    trajectory: Trajectory, ruler: _Ruler, counts: np.ndarray, charges: Mapping[str, float], order: bool
) -> tuple[Curve, ...]:
    """From the counts of each frame (n_frames, n_elements + 1, n_bins)."""
    elements = trajectory.elements
    trajectory.atoms_of(list(charges))
    missing = [element for element in elements if charges and element not in charges]
    if missing:
        raise InputError(f"charges: none is given for {', '.join(missing)}, and a charge density needs all.")
    atoms = counts[:, : len(elements)]
    volume = ruler.area * ruler.length / ruler.n_bins
    masses = np.array([trajectory.masses[trajectory.atoms_of([element])].mean() for element in elements])
    period = ruler.length if ruler.periodic else None

    def density(name: str, unit: str, amounts: np.ndarray) -> Curve:
        frames = np.einsum("e,teh->th", amounts / volume, atoms)
        mean = frames.mean(axis=0)
        return _curve(name, unit, mean, frames - mean, ruler.middles, period)

    def fraction(name: str, own: np.ndarray) -> Curve:
        # ⟨n⟩/⟨N⟩, which a frame moves by (n - N ⟨n⟩/⟨N⟩)/⟨N⟩; a mean of n/N would need atoms in every frame
        total = atoms.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = own.sum(axis=0) / total.sum(axis=0)
            return _curve(name, "", mean, (own - total * mean) / total.mean(axis=0), ruler.middles, period)

    found = [density("mass", "g/cm³", masses * units.DENSITY)]
    found += [density(element, "1/Å³", one) for element, one in zip(elements, np.eye(len(elements)), strict=True)]
    if charges:
        found.append(density("charge", "e/Å³", np.array([charges[element] for element in elements])))
    if len(elements) > 1:
        found += [fraction(f"fraction of {element}", atoms[:, k]) for k, element in enumerate(elements)]
    if order:
        found.append(fraction("order", counts[:, -1]))
    return tuple(found)


def _curve(
    name: str, unit: str, mean: np.ndarray, deviations: np.ndarray, heights: np.ndarray, period: float | None
) -> Curve:
    """From the mean (n_bins,) and by how much each frame is off it, (n_frames, n_bins); nan where no atom ever is."""
    errors = np.array([average(series, unit, least=FEW).error for series in (mean + deviations).T])
    slab = None if name == "charge" else find_slab(heights, mean, deviations, unit, period)
    return Curve(name, unit, mean, np.where(np.isfinite(mean), errors, math.nan), slab)
