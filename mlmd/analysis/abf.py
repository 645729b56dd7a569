"""What adaptive biasing forces have collected, as a free energy; and the tables that tell of it.

Of an extended variable λ on a spring k to the variable ξ, CZAR gives the gradient of the free energy of ξ itself
(Lesage, Lelièvre, Stoltz, Hénin, J. Phys. Chem. B 121, 3676 (2017)),

    A'(z) = -kT d ln ρ(z)/dz + k (⟨λ⟩_z - z),

with ρ the histogram of ξ under the bias. Only the second part is integrated here, as the integral of the first is
-kT ln ρ. Without an extended variable the mean forces are the gradient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mlmd import units
from mlmd.analysis.gradients import integrate_gradient
from mlmd.errors import InputError

HEADER = "#! mlmd abf 1 "


@dataclass(frozen=True)
class Axis:
    """One variable and its bins."""

    name: str
    unit: str
    """Of everything below; empty for plain numbers."""
    minimum: float
    maximum: float
    n_bins: int
    periodic: bool
    """Whether the last bin neighbours the first."""

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.maximum - self.minimum) / self.n_bins

    @property
    def centres(self) -> np.ndarray:
        """(n_bins,) middles of the bins."""
        return self.minimum + self.width * (np.arange(self.n_bins) + 0.5)

    @property
    def per_unit(self) -> str:
        """The unit of a slope, e.g. ``eV/Å``."""
        return f"eV/{self.unit}" if self.unit else "eV"


@dataclass(frozen=True)
class AdaptiveForces:
    """Samples and mean forces of all bins at one moment."""

    axes: tuple[Axis, ...]
    temperature: float
    """K."""
    step: int
    """Global step."""
    time: float
    """fs since the run began."""
    samples: np.ndarray
    """(*shape) of the variable itself."""
    forces: np.ndarray
    """(n_dim, *shape) eV per unit: k (⟨λ⟩ - z) with an extended variable, else the mean of dA/dξ; 0 without samples."""
    extended: np.ndarray | None = None
    """(*shape) samples of the extended variable; None where there is none."""
    extended_forces: np.ndarray | None = None
    """(n_dim, *shape) eV per unit, the mean slope that the bias takes away from the extended variable."""

    @cached_property
    def free_energy(self) -> np.ndarray:
        """(*shape) eV, zero at its lowest point, nan where nothing was sampled."""
        known = self.samples > 0
        found = integrate_gradient(
            self.forces,
            [axis.width for axis in self.axes],
            known=known,
            periodic=[axis.periodic for axis in self.axes],
        )
        if self.extended is not None:
            found[known] -= units.KB * self.temperature * np.log(self.samples[known])
        return found - np.nanmin(found) if known.any() else found

    @cached_property
    def gradient(self) -> np.ndarray:
        """(n_dim, *shape) eV per unit: the slope of the free energy at the middles of bins; nan where not known."""
        if self.extended is None:
            return np.where(self.samples > 0, self.forces, np.nan)
        with np.errstate(divide="ignore"):
            logs = np.where(self.samples > 0, np.log(self.samples), np.nan)
        slopes = [_slope(logs, number, axis) for number, axis in enumerate(self.axes)]
        return np.asarray(self.forces - units.KB * self.temperature * np.array(slopes))


def together(tables: Sequence[AdaptiveForces]) -> AdaptiveForces:
    """What several runs have collected, as if one had: samples add up, and mean forces are weighted with them.

    At a value of the variable both the mean of the force and what CZAR sees do not depend on a bias along it, so that
    runs may have been biased in different ways.

    Raises:
        InputError: for other variables, grids or temperatures, and for an extended variable in some of them alone.
    """
    first = tables[0]
    for one in tables[1:]:
        for what, a, b in (
            ("variables and bins", one.axes, first.axes), ("temperature", one.temperature, first.temperature),
            ("kind", one.extended is None, first.extended is None),
        ):  # fmt: skip
            if a != b:
                raise InputError(f"adaptive forces of another {what} cannot be added up: {a} and {b}.")
    samples = np.sum([one.samples for one in tables], axis=0)
    forces = _mean(samples, [one.samples for one in tables], [one.forces for one in tables])
    found = AdaptiveForces(
        first.axes, first.temperature, max(one.step for one in tables), max(one.time for one in tables), samples, forces
    )
    if first.extended is None:
        return found
    weights = [one.extended for one in tables if one.extended is not None]
    slopes = [one.extended_forces for one in tables if one.extended_forces is not None]
    extended = np.sum(weights, axis=0)
    return replace(found, extended=extended, extended_forces=_mean(extended, weights, slopes) if slopes else None)


def _slope(values: np.ndarray, number: int, axis: Axis) -> np.ndarray:
    """(*shape) central differences along one axis, one-sided at ends and beside what is not known."""
    before, after = np.roll(values, 1, number), np.roll(values, -1, number)
    if not axis.periodic:
        np.moveaxis(before, number, 0)[0] = np.nan
        np.moveaxis(after, number, 0)[-1] = np.nan
    sides = np.array([values - before, after - values])
    counted = np.isfinite(sides).sum(axis=0)
    return np.where(counted > 0, np.nansum(sides, axis=0) / np.maximum(counted, 1), np.nan) / axis.width


def _mean(total: np.ndarray, weights: Sequence[np.ndarray], forces: Sequence[np.ndarray]) -> np.ndarray:
    """(n_dim, *shape) weighted mean, 0 where all weights are."""
    summed = np.sum([weight * force for weight, force in zip(weights, forces, strict=True)], axis=0)
    return np.asarray(summed / np.maximum(total, 1.0))


def write_table(found: AdaptiveForces, *, only_sampled: bool = False) -> str:
    """The table of one moment, with everything that `read_tables` needs to compute it again.

    Args:
        found: what was collected.
        only_sampled: leave bins without samples out.
    """
    head = {
        "step": found.step,
        "time_fs": found.time,
        "temperature_K": found.temperature,
        "extended": found.extended is not None,
        "axes": [asdict(axis) for axis in found.axes],
    }
    names = [f"{axis.name} [{axis.unit}]" if axis.unit else axis.name for axis in found.axes]
    slopes = [axis.per_unit for axis in found.axes]
    columns = [
        *np.meshgrid(*(axis.centres for axis in found.axes), indexing="ij"), found.free_energy, found.samples,
        *found.gradient, *found.forces,
    ]  # fmt: skip
    titles = [
        *names, "free energy [eV]", "samples",
        *(f"gradient {axis.name} [{unit}]" for axis, unit in zip(found.axes, slopes, strict=True)),
        *(f"mean force {axis.name} [{unit}]" for axis, unit in zip(found.axes, slopes, strict=True)),
    ]  # fmt: skip
    kept = found.samples > 0
    if found.extended is not None and found.extended_forces is not None:
        columns += [found.extended, *found.extended_forces]
        titles.append("samples of extended variable")
        titles += [f"its mean force {axis.name} [{unit}]" for axis, unit in zip(found.axes, slopes, strict=True)]
        kept = kept | (found.extended > 0)
    table = np.stack([np.asarray(column, dtype=float).ravel() for column in columns], axis=1)
    if only_sampled:
        table = table[kept.ravel()]
    rows = "".join(" ".join(f"{value:.10g}" for value in row) + "\n" for row in table)
    return f"{HEADER}{json.dumps(head, ensure_ascii=False)}\n# {' | '.join(titles)}\n{rows}\n"


def read_tables(path: Path) -> Iterator[AdaptiveForces]:
    """All tables of abf.dat or abf_history.dat, in order.

    Raises:
        InputError: when the file is something else, or was cut.
    """
    try:
        blocks = path.read_text().split(HEADER)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None
    if blocks[0].strip() or len(blocks) < 2:
        raise InputError(f"{path} is not a table of adaptive biasing forces that mlmd wrote.")
    for block in blocks[1:]:
        try:
            yield _table(block)
        except (ValueError, KeyError, TypeError, IndexError):
            raise InputError(f"{path}: one of its tables is damaged.") from None


def _table(block: str) -> AdaptiveForces:
    first, _, rest = block.partition("\n")
    head = json.loads(first)
    axes = tuple(Axis(**axis) for axis in head["axes"])
    n_dim, shape = len(axes), tuple(axis.n_bins for axis in axes)
    rows = np.array([line.split() for line in rest.splitlines() if line and line[0] != "#"], dtype=float)
    rows = rows.reshape(len(rows), -1) if len(rows) else np.zeros((0, 3 + 4 * n_dim))
    places = tuple(
        np.rint((rows[:, number] - axis.minimum) / axis.width - 0.5).astype(int) for number, axis in enumerate(axes)
    )

    def spread(column: np.ndarray) -> np.ndarray:
        whole = np.zeros(shape)
        whole[places] = column
        return whole

    several = [spread(column) for column in rows[:, n_dim + 1 :].T]
    samples, forces = several[0], np.array(several[1 + n_dim : 1 + 2 * n_dim])
    more = several[1 + 2 * n_dim :]
    extended, extended_forces = (more[0], np.array(more[1:])) if head["extended"] else (None, None)
    return AdaptiveForces(
        axes, head["temperature_K"], head["step"], head["time_fs"], samples, forces, extended, extended_forces
    )
