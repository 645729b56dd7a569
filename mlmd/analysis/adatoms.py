"""Adatoms on the surface of a slab: who they are, how they hop from site to site, and how they diffuse in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.film import below_the_vacuum, check_plane
from mlmd.analysis.layers import layer_spacing, top_layer
from mlmd.analysis.neighbours import chosen_frames
from mlmd.analysis.paths import check_path, frames_at_rest, mean_cell, mean_places
from mlmd.analysis.sites import SitesResult, sites
from mlmd.analysis.surface_sites import is_lattice, sites_of_face
from mlmd.analysis.surroundings import bond_length, pairs_within
from mlmd.analysis.unwrap import unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import ArrayReader, Provenance, Trajectory
from mlmd.io.growing import Moment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOVE = 0.95
"""Part of the frames in which an adatom is above the surface; less, and it has come from the slab or gone into it."""
SOMETIMES = 0.05
"""Part of the frames from which on an atom is told to have come or gone."""
TOUCH = 1.4
"""Bonds: below this atoms touch."""
LOOKS = 20
"""Frames in which neighbours of adatoms are looked for."""
IN_PLANE = 1.5
"""D = MSD / 4t in a plane, over the MSD / 6t of the same path in space."""
_DEPTH = 12.0
"""Å, of the cell in which paths in the plane are, so that no image in it is near."""


@dataclass(frozen=True)
class ElementAdatoms:
    """Adatoms of one element."""

    element: str
    n_atoms: int
    coefficient: Estimate
    """D = lim MSD / 4t in the plane, cm²/s, from lags in which an adatom has hopped several times."""
    along: Mapping[str, Estimate]
    """D = lim MSD / 2t along x and y, cm²/s, from the same lags: D is their mean."""
    hop_diffusion: Estimate
    """D_J = Σ l² / 4Nt, cm²/s: of hops that know nothing of each other."""
    hops: SitesResult
    """Sites in the plane, hops between them and their rates; its own D are those of space, 2/3 of these."""


@dataclass(frozen=True)
class AdatomsResult:
    """Adatoms of a trajectory."""

    species: tuple[ElementAdatoms, ...]
    atoms: np.ndarray
    """(n_adatoms,) indices."""
    monolayer: int
    """Atoms of the top layer."""
    coverage: Estimate
    """ML, of all atoms above the surface."""
    alone: Estimate
    """Part of the adatoms that touch no other atom above the surface."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "adatoms"

    def __str__(self) -> str:
        """A line for each element."""
        lines = [
            f"{one.n_atoms} {one.element} on the surface: D = {one.coefficient}; {len(one.hops.visits.atom)} hops, "
            f"{one.hops.rate} each, {one.hops.length}, D of hops {one.hop_diffusion}"
            for one in self.species
        ]
        return "\n".join([*lines, f"coverage {self.coverage}, alone {self.alone}", *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors and provenance; the paths of hops are in the CSV file."""
        return {
            "analysis": self.name,
            "elements": {
                one.element: {
                    "n_atoms": one.n_atoms,
                    "D": one.coefficient.to_dict(),
                    **{f"D_{axis}": value.to_dict() for axis, value in one.along.items()},
                    "n_hops": len(one.hops.visits.atom),
                    "hop_rate": one.hops.rate.to_dict(),
                    "hop_length": one.hops.length.to_dict(),
                    "returns": one.hops.returns.to_dict(),
                    "D_of_hops": one.hop_diffusion.to_dict(),
                    "correlation_factor": one.hops.correlation.to_dict(),
                    "n_sites": len(one.hops.places.reduced),
                }
                for one in self.species
            },
            "adatoms": self.atoms.tolist(),
            "monolayer_atoms": self.monolayer,
            "coverage": self.coverage.to_dict(),
            "alone": self.alone.to_dict(),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Every hop: when, who, and by which vector in the plane."""
        begin, interval = self.provenance.first_time, self.provenance.interval
        lines = ["time [ps],element,adatom,dx [Å],dy [Å]"]
        for one in self.species:
            seen = one.hops.visits
            for atom, frame, vector in zip(seen.atom.tolist(), seen.frame.tolist(), seen.vector.tolist(), strict=True):
                time = (begin + frame * interval) / 1e3
                lines.append(f"{time:.8g},{one.element},{atom},{vector[0]:.6g},{vector[1]:.6g}")
        return "\n".join(lines) + "\n"

    def figure(self) -> Figure:
        """Vectors of the hops, how long adatoms stay, and where the sites are."""
        from mlmd.analysis.adatoms_figure import adatoms_figure

        return adatoms_figure(self)


def adatoms(trajectory: Trajectory, *, core: float | None = None) -> AdatomsResult:
    """Adatoms, their hops and their diffusion in the plane of x and y.

    The top layer is the highest one with at least half as many atoms as the layers below have in the median
    (`mlmd.analysis.layers.top_layer`), in the first frame. Adatoms are those that are higher than its mean place by
    more than half the distance of layers in at least 95 % of the frames, and touch something; positions are relative to
    all other atoms. Sites are those of the face (`mlmd.analysis.surface_sites`); where its top layer is no lattice,
    those that were visited. A hop is from the core of one site to that of another (`mlmd.analysis.visits`), D the
    slope of the mean squared displacement with the error of `mlmd.analysis.diffusion`.

    Args:
        trajectory: of a slab with its surface along z, always the same atoms, at equal intervals.
        core: Å, radius of the cores of sites; by default 0.3 of the shortest distance between them.

    Raises:
        InputError: for what is no slab or has no adatoms, and for what has no path.
    """
    check_path(trajectory, "Adatom diffusion")
    path = trajectory.provenance.path
    first = next(trajectory.chunks(0, 1))
    moment = Moment(
        float(first.times[0]), trajectory.numbers, first.positions[0], np.arange(trajectory.n_atoms), first.cells[0],
        trajectory.pbc,
    )  # fmt: skip
    check_plane(moment, path)
    bond = bond_length(moment.positions, moment.cell, moment.pbc)
    try:
        whole = below_the_vacuum(moment, TOUCH * bond)
        top = np.flatnonzero(top_layer(whole.positions[:, 2]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    lift = whole.positions - moment.positions  # images, where the slab is wrapped across the cell
    rise = 0.5 * layer_spacing(whole.positions[:, 2])
    if not rise:
        raise InputError(f"{path}: the slab is a single layer, so that nothing tells how far above it an adatom is.")
    slab = np.flatnonzero(whole.positions[:, 2] <= whole.positions[top, 2].mean() + rise)
    rest = _motion(trajectory, slab)
    surface = mean_places(trajectory, top, rest)[0] + lift[top]
    level = float(surface[:, 2].mean()) + rise
    looks = chosen_frames(trajectory, LOOKS)
    share, above, high = _above(trajectory, rest, lift[:, 2], level, looks)
    touching, alone = _touching(trajectory, share >= ABOVE, looks, high, TOUCH * bond)
    found = np.flatnonzero((share >= ABOVE) & touching)
    if not len(found):
        raise InputError(
            f"{path}: no atom stays above the surface, {rise:.2f} Å over its top layer of {len(top)} atoms, so there "
            "are no adatoms. After a deposition, run a stage in which nothing arrives."
        )
    cell = mean_cell(trajectory).copy()
    cell[2] = (0.0, 0.0, _DEPTH)
    species = tuple(
        _of_element(trajectory, found[trajectory.symbols[found] == element], rest, surface, cell, core)
        for element in dict.fromkeys(trajectory.symbols[found].tolist())
    )
    notes = _notes(share, touching, alone, is_lattice(surface * (1.0, 1.0, 0.0), cell), species)
    return AdatomsResult(
        species, found, len(top), average(above / len(top), "ML"), alone, (*notes, *trajectory.provenance.notes),
        trajectory.provenance,
    )  # fmt: skip


def _motion(trajectory: Trajectory, slab: np.ndarray) -> np.ndarray:
    """How the slab has moved since the first frame, (n_frames, 3) Å."""
    path = np.concatenate([part.mean(axis=1) for part in unwrapped(trajectory, slab)])
    return path - path[0]


def _above(
    trajectory: Trajectory, rest: np.ndarray, lift: np.ndarray, level: float, looks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part of the frames in which each atom is above a height, (n_atoms,), how many are in each, (n_frames,), and who
    in some of them, (n_looks, n_atoms).
    """
    counts, above, some = np.zeros(trajectory.n_atoms), np.zeros(trajectory.n_frames), []
    for frames, positions in frames_at_rest(trajectory, np.arange(trajectory.n_atoms), rest):
        high = positions[:, :, 2] + lift > level
        counts += high.sum(axis=0)
        above[frames] = high.sum(axis=1)
        some.append(high[looks[(looks >= frames.start) & (looks < frames.stop)] - frames.start])
    return counts / trajectory.n_frames, above, np.concatenate(some)


def _touching(
    trajectory: Trajectory, candidates: np.ndarray, looks: np.ndarray, high: np.ndarray, contact: float
) -> tuple[np.ndarray, Estimate]:
    """Who touches something in all of some frames, (n_atoms,), and the part of candidates that touch nobody above."""
    touching, alone = np.ones(trajectory.n_atoms, dtype=bool), []
    for frame, above in zip(looks.tolist(), high, strict=True):
        part = next(trajectory.chunks(frame, frame + 1))
        pairs = pairs_within(contact, part.positions[0], part.cells[0], trajectory.pbc)
        touching &= pairs.coordination > 0
        both = above[pairs.centres] & above[pairs.neighbours]
        lone = np.bincount(pairs.centres[both], minlength=trajectory.n_atoms) == 0
        alone.append(lone[candidates].mean() if candidates.any() else np.nan)
    return touching, average(np.array(alone), "")


def _of_element(
    trajectory: Trajectory, atoms: np.ndarray, rest: np.ndarray, surface: np.ndarray, cell: np.ndarray,
    core: float | None,
) -> ElementAdatoms:  # fmt: skip
    """Hops and diffusion of some atoms, whose paths in the plane are kept in memory."""
    flat = np.concatenate([part for _, part in frames_at_rest(trajectory, atoms, rest)])
    flat[:, :, 2] = 0.0
    own = replace(
        trajectory, reader=ArrayReader(flat, None), rows=range(len(flat)), numbers=trajectory.numbers[atoms],
        cells=np.broadcast_to(cell, (len(flat), 3, 3)), masses=trajectory.masses[atoms], pbc=np.ones(3, dtype=bool),
        unwrapped=True,
    )  # fmt: skip
    (element,) = own.elements
    top = surface * (1.0, 1.0, 0.0)
    reference = sites_of_face(flat.reshape(-1, 3), top, cell).atoms(element) if is_lattice(top, cell) else None
    hops = sites(own, element=element, reference=reference, core=core, drift="none")
    tracer = hops.tracer_diffusion
    # displacements are counted along three axes there, and there are two; hops are as many in both
    return ElementAdatoms(
        element, len(atoms), replace(_in_plane(tracer), n_independent=IN_PLANE * tracer.n_independent),
        {axis: hops.tracer_along[axis] for axis in "xy"}, _in_plane(hops.jump_diffusion), hops,
    )  # fmt: skip


def _in_plane(one: Estimate) -> Estimate:
    """D of a path in a plane from what it is in space."""
    return replace(one, value=IN_PLANE * one.value, error=IN_PLANE * one.error)


def _notes(
    share: np.ndarray, touching: np.ndarray, alone: Estimate, lattice: bool, species: tuple[ElementAdatoms, ...]
) -> tuple[str, ...]:
    notes = []
    between = int(((share > SOMETIMES) & (share < ABOVE)).sum())
    if between:
        notes.append(
            f"{between} atoms were above the surface for a part of the time only: they came out of the slab or went "
            "into it, or exchanged with an atom of it. What they do there is not in D"
        )
    gone = int(((share >= ABOVE) & ~touching).sum())
    if gone:
        notes.append(f"{gone} atoms above the surface touch nothing: they have left it, and do not count")
    if alone.value < 0.5:
        notes.append(f"{1.0 - alone.value:.0%} of the adatoms touch another one: D is that of islands and their edges")
    if not lattice:
        notes.append("the top layer is no lattice: sites are those that adatoms have visited, and hops between these")
    for one in species:
        notes += [f"{one.element}: {note}" for note in one.hops.notes]
        if not one.coefficient.determined and one.hop_diffusion.value > 0.0:
            notes.append(
                f"{one.element}: too few hops for a line through the mean squared displacement; the D of hops is that "
                "of hops that know nothing of each other"
            )
    return tuple(dict.fromkeys(notes))
