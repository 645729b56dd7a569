"""A free energy as a result: its minima and barriers with errors, its convergence, its table and its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.abf import Axis
from mlmd.analysis.course import Course
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.landscape import basins
from mlmd.io.frames import Provenance
from mlmd.units import KB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEPTH = 1.0
"""kT: a dent less deep is no minimum."""
LOW = 10.0
"""kT above the lowest point: up to there the free energy is looked at for its convergence."""


@dataclass(frozen=True)
class Minimum:
    """A minimum of a free energy."""

    position: tuple[Estimate, ...]
    """Along each axis; the error is that of the grid."""
    free_energy: Estimate
    """eV above the lowest."""


@dataclass(frozen=True)
class Barrier:
    """The lowest way between two minima."""

    first: int
    """Number of the minimum from which it is climbed, from 1."""
    second: int
    position: tuple[Estimate, ...]
    height: Estimate
    """eV above the first."""
    back: Estimate
    """eV above the second."""


@dataclass(frozen=True)
class FreeEnergy:
    """The free energy of one to three variables."""

    axes: tuple[Axis, ...]
    values: np.ndarray
    """(*shape) eV, zero at the lowest point, nan where not known."""
    errors: np.ndarray
    """(*shape) eV, standard errors; nan where not known."""
    temperature: float
    """K."""
    method: str
    """In words."""
    counted: str
    """What `provenance` counts: hills, kernels, lines or samples."""
    minima: tuple[Minimum, ...]
    """From the lowest."""
    barriers: tuple[Barrier, ...]
    fractions: np.ndarray
    """(n,) of the run."""
    changes: np.ndarray
    """(n,) eV, root mean square of what separates the free energy up to there from that of the whole run."""
    differences: np.ndarray
    """(n,) eV, of the two lowest minima up to there; nan where there are no two."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "fes"

    @property
    def kt(self) -> float:
        """eV."""
        return KB * self.temperature

    def __str__(self) -> str:
        """Lines about minima and barriers."""
        lines = [f"minimum {n}: {_places(one.position)}, {one.free_energy}" for n, one in enumerate(self.minima, 1)]
        lines += [f"barrier {one.first} to {one.second}: {one.height}, back {one.back}" for one in self.barriers]
        return "\n".join([f"free energy by {self.method} at {self.temperature:.4g} K", *lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Minima, barriers and convergence; the free energy itself is in the CSV file."""
        found: dict[str, Any] = {"analysis": self.name, "method": self.method}
        if len(self.minima) > 1:
            found["difference_of_minima"] = self.minima[1].free_energy.to_dict()
        if self.barriers:
            found["barrier"] = min((one for one in self.barriers if one.first == 1), key=_height).height.to_dict()
        return found | {
            "temperature_K": self.temperature,
            "kT_eV": self.kt,
            "minima": {
                f"minimum {n}": _at(self.axes, one.position) | _both("free_energy", one.free_energy, self.kt)
                for n, one in enumerate(self.minima, 1)
            },
            "barriers": {
                f"{one.first} to {one.second}": _at(self.axes, one.position)
                | _both("height", one.height, self.kt) | _both("back", one.back, self.kt)
                for one in self.barriers
            },
            "convergence": {
                "fraction_of_run": self.fractions.tolist(),
                "rms_change_eV": _listed(self.changes),
                "difference_of_minima_eV": _listed(self.differences),
            },
            "axes": [asdict(axis) for axis in self.axes],
            "notes": list(self.notes),
            "provenance": asdict(self.provenance) | {"counted": self.counted},
        }  # fmt: skip

    def to_csv(self) -> str:
        """The free energy of every point, with its error."""
        names = [f"{axis.name} [{axis.unit}]" if axis.unit else axis.name for axis in self.axes]
        columns = [
            *np.meshgrid(*(axis.centres for axis in self.axes), indexing="ij"),
            self.values, self.errors, self.values / self.kt, self.errors / self.kt,
        ]  # fmt: skip
        heads = [*names, "free energy [eV]", "error [eV]", "free energy [kT]", "error [kT]"]
        rows = np.stack([column.ravel() for column in columns], axis=1)
        lines = (",".join(f"{value:.8g}" for value in row) for row in rows)
        return ",".join(heads) + "\n" + "\n".join(lines) + "\n"

    def figure(self) -> Figure:
        """The free energy, and how it has converged."""
        from mlmd.analysis.free_energy_figure import free_energy_figure

        return free_energy_figure(self)


def summarise(
    course: Course, temperature: float, method: str, counted: str, notes: Sequence[str], provenance: Provenance
) -> FreeEnergy:
    """Minima, barriers and convergence of a free energy.

    A dent counts as a minimum when it is deeper than kT and than twice the error of its depth.
    """
    kt = KB * temperature
    periodic = [axis.periodic for axis in course.axes]
    points, passes = basins(course.values, periodic, DEPTH * kt)
    doubtful = {
        one.second for one in passes if course.difference(one.top, one.second).value
        < 2.0 * np.nan_to_num(course.difference(one.top, one.second).error)
    }  # fmt: skip
    points = [point for point in points if point not in doubtful]
    passes = [one for one in passes if one.second not in doubtful and one.first not in doubtful]
    numbers = {point: number for number, point in enumerate(points, 1)}
    minima = tuple(
        Minimum(_position(course.axes, point), _zero() if number == 1 else course.difference(point, points[0]))
        for point, number in numbers.items()
    )
    barriers = tuple(
        Barrier(
            numbers[one.first], numbers[one.second], _position(course.axes, one.top),
            course.difference(one.top, one.first), course.difference(one.top, one.second),
        )
        for one in passes
    )  # fmt: skip
    values = course.values - np.nanmin(course.values)
    flat = course.so_far.reshape(len(course.so_far), -1)
    differences = flat[:, points[1]] - flat[:, points[0]] if len(points) > 1 else np.full(len(flat), np.nan)
    return FreeEnergy(
        course.axes, values, course.errors(kt), temperature, method, counted, minima, barriers, course.fractions,
        _changes(course.so_far, values, kt), differences, tuple(notes), provenance,
    )  # fmt: skip


def _changes(so_far: np.ndarray, values: np.ndarray, kt: float) -> np.ndarray:
    """(n,) eV, of points that are low at the end and known at both times, a constant between them taken out."""
    low = values < LOW * kt
    changes = np.full(len(so_far), np.nan)
    for number, one in enumerate(so_far):
        known = low & np.isfinite(one)
        if known.sum() > 0.5 * low.sum():
            changes[number] = float(np.std(one[known] - values[known]))
    return changes


def _position(axes: Sequence[Axis], point: int) -> tuple[Estimate, ...]:
    places = np.unravel_index(point, tuple(axis.n_bins for axis in axes))
    return tuple(
        Estimate(float(axis.centres[place]), axis.width / math.sqrt(12), axis.unit, math.nan)
        for axis, place in zip(axes, places, strict=True)
    )


def _zero() -> Estimate:
    return Estimate(0.0, 0.0, "eV", math.nan)


def _height(barrier: Barrier) -> float:
    return barrier.height.value


def _places(position: Sequence[Estimate]) -> str:
    return ", ".join(map(str, position))


def _at(axes: Sequence[Axis], position: Sequence[Estimate]) -> dict[str, Any]:
    return {axis.name: one.to_dict() for axis, one in zip(axes, position, strict=True)}


def _both(key: str, energy: Estimate, kt: float) -> dict[str, Any]:
    """An energy in eV and in kT."""
    reduced = Estimate(energy.value / kt, energy.error / kt, "kT", energy.n_independent)
    return {key: energy.to_dict(), f"{key}_in_kT": reduced.to_dict()}


def _listed(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
