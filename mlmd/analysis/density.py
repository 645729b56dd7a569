"""Where atoms are: probability densities on a grid of the mean cell, relative to what is at rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
from scipy import fft

from mlmd.analysis.blocks import N_BLOCKS, block_of, mean_and_error
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.paths import check_path, frames_at_rest, mean_cell, mean_places, still
from mlmd.errors import InputError
from mlmd.io.cube import cube_text
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 2e7
"""Points of a grid: about 1 GB of memory, and a cube file of 260 MB."""
HELD = 0.9
"""Part of the atoms that an isosurface is given for."""
_REACH = 7.0
"""Standard deviations up to which a Gaussian is taken."""
AT_REST = 1.0
"""Å: atoms that stay this close to their mean place, root mean square, are shown there."""


@dataclass(frozen=True)
class ElementDensity:
    """The density of the atoms of one element."""

    element: str
    n_atoms: int
    values: np.ndarray
    """(n_a, n_b, n_c) 1/Å³ at the points (i/n_a, j/n_b, k/n_c) of the cell; its integral is the number of atoms."""
    error: np.ndarray
    """(n_a, n_b, n_c) standard error; nan for a single frame."""
    peak: Estimate
    """Highest density, 1/Å³."""
    peak_place: tuple[float, float, float]
    """Of the cell's vectors."""
    level: float
    """1/Å³: points of at least this density hold `HELD` of the atoms (a value for an isosurface)."""
    volume: float
    """Å³ of those points."""
    profiles: tuple[np.ndarray, np.ndarray, np.ndarray]
    """(n, 2) along each vector of the cell: mean density of the plane, 1/Å³, and its error."""


@dataclass(frozen=True)
class DensityResult:
    """Probability densities of a trajectory."""

    elements: tuple[ElementDensity, ...]
    cell: np.ndarray
    """(3, 3) Å, the mean cell."""
    framework: ase.Atoms
    """Atoms that stay where they are, at their mean places."""
    smooth: float
    """Å, standard deviation of the Gaussian that densities are smoothed with; 0 for none."""
    drift: str | tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    name = "density"

    def __str__(self) -> str:
        """One line for each element."""
        lines = [
            f"density of {one.element}: up to {one.peak}; {HELD:.0%} within {one.volume:.4g} Å³ "
            f"(at least {one.level:.3g} 1/Å³)"
            for one in self.elements
        ]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Peaks, levels for isosurfaces and provenance; the densities are in cube files."""
        return {
            "analysis": self.name,
            "elements": {
                one.element: {
                    "n_atoms": one.n_atoms,
                    "peak": one.peak.to_dict(),
                    "peak_place": list(one.peak_place),
                    "level_1_per_A3": one.level,
                    "volume_A3": one.volume,
                    "held": HELD,
                    "grid": list(one.values.shape),
                    "cube": f"{self.name}-{one.element}.cube",
                }
                for one in self.elements
            },
            "cell_A": self.cell.tolist(),
            "smooth_A": self.smooth,
            "drift": self.drift if isinstance(self.drift, str) else list(self.drift),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Mean density of the planes along each vector of the cell, with errors."""
        names = ["along", "fraction", "distance [Å]"]
        for one in self.elements:
            names += [f"{one.element} [1/Å^3]", f"{one.element} error"]
        rows = []
        heights = 1.0 / np.linalg.norm(np.linalg.inv(self.cell), axis=0)
        for axis, letter in enumerate("abc"):
            n = self.elements[0].values.shape[axis]
            for index in range(n):
                numbers = [x for one in self.elements for x in one.profiles[axis][index]]
                place = [f"{index / n:.8g}", f"{heights[axis] * index / n:.8g}"]
                rows.append(",".join([letter, *place, *(f"{x:.8g}" for x in numbers)]))
        return ",".join(names) + "\n" + "\n".join(rows) + "\n"

    def more_files(self) -> dict[str, str]:
        """A cube file for each element."""
        return {
            f"{self.name}-{one.element}.cube": cube_text(
                one.values, self.framework, f"probability density of {one.element} in 1/Angstrom^3 (mlmd)"
            )
            for one in self.elements
        }

    def figure(self) -> Figure:
        """Densities in projection along the vectors of the cell, and as an isosurface."""
        from mlmd.analysis.density_figure import density_figure

        return density_figure(self)


def density(
    trajectory: Trajectory,
    *,
    elements: Sequence[str] | None = None,
    spacing: float = 0.25,
    smooth: float = 0.0,
    drift: str | Sequence[str] = "cell",
) -> DensityResult:
    """Number density of each element, ρ(x) = ⟨Σ_i δ(x - x_i)⟩, on a grid of the mean cell.

    Positions are relative to what is at rest, where that was in the first frame; at changing volume they are reduced
    coordinates times the mean cell. Each atom counts at the nearest point of the grid, so that the densities add up
    to the number of atoms. Errors are the scatter of ten parts of the trajectory.

    Args:
        trajectory: periodic in all three directions, frames at equal intervals.
        elements: by default all.
        spacing: Å, largest distance of points along a vector of the cell.
        smooth: Å, standard deviation of a Gaussian; 0 for none.
        drift: what is at rest: ``"cell"``, ``"none"``, or elements of a framework.

    Raises:
        InputError: without three periodic directions, for unknown elements, more than `MAX_POINTS` points, and what
            has no path (`check_path`).
    """
    if not trajectory.pbc.all():
        raise InputError("A density is on a grid of the cell, which must be periodic in all three directions.")
    if not (0.0 < spacing < math.inf and 0.0 <= smooth < math.inf):
        raise InputError(f"spacing = {spacing:g} Å, smooth = {smooth:g} Å: needed spacing > 0 and smooth >= 0.")
    check_path(trajectory, "A density", n_least=1)
    chosen = tuple(dict.fromkeys(elements)) if elements else trajectory.elements
    cell = mean_cell(trajectory)
    shape = _shape(cell, spacing)
    rest = still(trajectory, drift)
    densities = tuple(_density_of(trajectory, element, cell, shape, smooth, rest) for element in chosen)
    return DensityResult(
        densities, cell, framework(trajectory, rest), smooth, drift if isinstance(drift, str) else tuple(drift),
        trajectory.provenance.notes, trajectory.provenance,
    )  # fmt: skip


def framework(trajectory: Trajectory, rest: np.ndarray, without: Sequence[str] = ()) -> ase.Atoms:
    """The atoms that stay within `AT_REST` of their mean places, at these, in the mean cell.

    Args:
        trajectory: periodic in all directions.
        rest: of `mlmd.analysis.paths.still`.
        without: elements that are left out.
    """
    places, spread = mean_places(trajectory, np.arange(trajectory.n_atoms), rest)
    stays = (spread < AT_REST) & ~np.isin(trajectory.symbols, list(without))
    atoms = ase.Atoms(trajectory.numbers[stays], places[stays], cell=mean_cell(trajectory), pbc=True)
    atoms.wrap()
    return atoms


def smoothed(values: np.ndarray, cell: np.ndarray, width: float) -> np.ndarray:
    """A periodic field (n_a, n_b, n_c) folded with a Gaussian of standard deviation `width` Å in a cell (3, 3) Å.

    The Gaussian is taken at the points of the grid and adds up to one there: nothing becomes negative, and nothing is
    lost, on however coarse a grid.
    """
    if width == 0.0:
        return values
    shape = np.array(values.shape)
    steps = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0) / shape  # Å between planes of points
    reach = np.ceil(_REACH * width / steps).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-k, k + 1) for k in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.exp(-0.5 * np.sum((offsets / shape @ cell) ** 2, axis=1) / width**2)
    points = np.ravel_multi_index(tuple((offsets % shape).T), values.shape)
    kernel = np.bincount(points, weights / weights.sum(), values.size).reshape(values.shape)
    spectrum = fft.rfftn(values) * fft.rfftn(kernel)
    return np.maximum(fft.irfftn(spectrum, s=values.shape), 0.0)  # rounding may be negative


def counted(
    trajectory: Trajectory, atoms: np.ndarray, cell: np.ndarray, shape: tuple[int, int, int], rest: np.ndarray
) -> Iterator[np.ndarray]:
    """Mean number of atoms that are nearest to each point of a grid of the cell, in up to ten parts of time.

    Args:
        trajectory, atoms, rest: as for `mlmd.analysis.paths.frames_at_rest`.
        cell: (3, 3) Å.
        shape: of the grid.

    Yields:
        (n_a, n_b, n_c) of one part after another, as long as each other within a frame.
    """
    part_of = block_of(trajectory.n_frames, min(N_BLOCKS, trajectory.n_frames))
    inverse, n_points = np.linalg.inv(cell), math.prod(shape)
    counts, n_frames, current = np.zeros(n_points), 0, 0
    for frames, positions in frames_at_rest(trajectory, atoms, rest):
        parts = part_of[frames]
        for part in np.unique(parts).tolist():
            if part != current:
                yield (counts / n_frames).reshape(shape)
                counts, n_frames, current = np.zeros(n_points), 0, part
            chosen = positions[parts == part]
            reduced = chosen.reshape(-1, 3) @ inverse
            points = np.rint(reduced * shape).astype(np.int64) % shape
            counts += np.bincount(np.ravel_multi_index(tuple(points.T), shape), minlength=n_points)
            n_frames += len(chosen)
    yield (counts / n_frames).reshape(shape)


def _shape(cell: np.ndarray, spacing: float) -> tuple[int, int, int]:
    a, b, c = (max(1, math.ceil(length / spacing - 1e-6)) for length in np.linalg.norm(cell, axis=1))
    if float(a) * b * c > MAX_POINTS:
        least = spacing * (float(a) * b * c / MAX_POINTS) ** (1 / 3)
        raise InputError(
            f"spacing = {spacing:g} Å makes a grid of {a} × {b} × {c} points; at most {MAX_POINTS:.0e} are counted. "
            f"Give a spacing of {math.ceil(100 * least) / 100:g} Å or more (--spacing)."
        )
    return a, b, c


def _density_of(
    trajectory: Trajectory, element: str, cell: np.ndarray, shape: tuple[int, int, int], smooth: float,
    rest: np.ndarray,
) -> ElementDensity:  # fmt: skip
    atoms = trajectory.atoms_of([element])
    voxel = abs(float(np.linalg.det(cell))) / math.prod(shape)
    total, squares = np.zeros(shape), np.zeros(shape)
    planes: list[list[np.ndarray]] = [[], [], []]
    n_parts = 0
    for counts in counted(trajectory, atoms, cell, shape, rest):
        part = smoothed(counts / voxel, cell, smooth)
        total += part
        squares += part**2
        n_parts += 1
        for axis in range(3):
            planes[axis].append(part.mean(axis=tuple(k for k in range(3) if k != axis)))
    values = total / n_parts
    variance = np.maximum(squares / n_parts - values**2, 0.0) / max(n_parts - 1, 1)
    error = np.sqrt(variance) if n_parts > 1 else np.full(shape, np.nan)
    highest = np.unravel_index(int(np.argmax(values)), shape)
    level, volume = held(values, voxel)
    a, b, c = (float(index / n) for index, n in zip(highest, shape, strict=True))
    along = [np.stack(mean_and_error(np.array(one)), axis=1) for one in planes]
    return ElementDensity(
        element, len(atoms), values, error,
        Estimate(float(values[highest]), float(error[highest]), "1/Å³", float(n_parts)), (a, b, c), level, volume,
        (along[0], along[1], along[2]),
    )  # fmt: skip


def held(values: np.ndarray, voxel: float) -> tuple[float, float]:
    """The density above which `HELD` of the atoms are, and the volume there."""
    ordered = np.sort(values, axis=None)[::-1]
    sums = np.cumsum(ordered)
    index = min(int(np.searchsorted(sums, HELD * sums[-1])), len(ordered) - 1)
    return float(ordered[index]), (index + 1) * voxel
