"""Sums of Gaussians on a grid: the hills of metadynamics and the kernels of OPES."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlmd.analysis.abf import Axis
from mlmd.errors import InputError
from mlmd.io.plumed_table import PlumedTable

METAD_CUTOFF = math.sqrt(2 * 6.25)
"""Standard deviations at which PLUMED ends a hill (its DP2CUTOFF)."""
MAX_POINTS = {1: 1000, 2: 200, 3: 60}
"""Number of variables -> most points of an axis that is not asked for."""
_PER_WIDTH = 3.0
"""Points in one standard deviation."""


@dataclass(frozen=True)
class Bumps:
    """Gaussians that end at a cutoff where they are continuous; values as in the file, periods too."""

    names: tuple[str, ...]
    times: np.ndarray
    """(n,) in the file's unit."""
    centres: np.ndarray
    """(n, n_dim)."""
    widths: np.ndarray
    """(n, n_dim)."""
    heights: np.ndarray
    """(n,)."""
    periods: tuple[tuple[float, float] | None, ...]
    cutoff: float
    """Standard deviations."""
    floor: float
    """What is taken off exp(-d²/2) so that they end at zero."""
    scale: float
    """Of the height."""

    def __len__(self) -> int:
        """How many they are."""
        return len(self.heights)


def bumps_of(table: PlumedTable, *, cutoff: float | None = None) -> Bumps:
    """The Gaussians of HILLS, KERNELS or a STATE.

    Args:
        table: the file.
        cutoff: standard deviations; by default that of the hills of METAD.

    Raises:
        InputError: when the file is another one, or its Gaussians are tilted (adaptive hills).
    """
    names = tuple(name for name in table.names if f"sigma_{name}" in table.names)
    if table.constants.get("multivariate", "false") == "true":
        raise InputError(f"{table.path}: hills of adaptive, tilted shape (ADAPTIVE=GEOM or DIFF) are not summed up.")
    if not names or "height" not in table.names:
        raise InputError(f"{table.path} has no hills or kernels: columns x, sigma_x and height are needed.")
    if len(names) > 3:
        raise InputError(f"{table.path}: {len(names)} variables; a free energy of one to three is computed.")
    table.check_finite([*names, *(f"sigma_{name}" for name in names), "height"])
    ends_at = METAD_CUTOFF if cutoff is None else cutoff
    floor = 0.0 if table.constants.get("kerneltype", "").lower() == "gaussian" else math.exp(-0.5 * ends_at**2)
    scale = 1.0 / (1.0 - floor) if cutoff is None else 1.0
    return Bumps(
        names, table["time"], np.stack([table[name] for name in names], axis=1),
        np.stack([table[f"sigma_{name}"] for name in names], axis=1), table["height"],
        tuple(table.period(name) for name in names), ends_at, floor, scale,
    )  # fmt: skip


def scaled(bumps: Bumps, sizes: Sequence[float], energy: float) -> Bumps:
    """The same in other units: `sizes` of the file's units of variables, `energy` of that of heights."""
    size = np.array(sizes)
    periods = tuple(
        None if period is None else (period[0] * one, period[1] * one)
        for period, one in zip(bumps.periods, sizes, strict=True)
    )
    return replace(
        bumps, centres=bumps.centres * size, widths=bumps.widths * size, heights=bumps.heights * energy, periods=periods
    )


def add_up(bumps: Bumps, axes: Sequence[Axis], which: np.ndarray | slice = slice(None)) -> np.ndarray:
    """(*shape) the sum of some of them at the middles of bins.

    At d standard deviations from its centre, below the cutoff c, a hill of metadynamics is
    h (exp(-d²/2) - exp(-c²/2)) / (1 - exp(-c²/2)), as PLUMED has it since 2.8, and a kernel of OPES the same without
    the denominator.
    """
    total = np.zeros(tuple(axis.n_bins for axis in axes))
    points = [axis.centres for axis in axes]
    scale, lower = bumps.scale, bumps.floor
    for centre, width, height in zip(
        bumps.centres[which], bumps.widths[which], bumps.heights[which].tolist(), strict=True
    ):
        squares, places = [], []
        for number in range(len(axes)):
            off = points[number] - centre[number]
            if (period := bumps.periods[number]) is not None:
                off -= (period[1] - period[0]) * np.rint(off / (period[1] - period[0]))
            near = np.flatnonzero(np.abs(off) < bumps.cutoff * width[number])
            places.append(near)
            squares.append((off[near] / width[number]) ** 2)
        if len(axes) == 1:
            total[places[0]] += height * scale * (np.exp(-0.5 * squares[0]) - lower)
            continue
        square = sum(np.ix_(*squares))
        inside = square < bumps.cutoff**2
        total[np.ix_(*places)] += height * scale * np.where(inside, np.exp(-0.5 * square) - lower, 0.0)
    return total


def natural_axes(bumps: Bumps, units: Sequence[str]) -> tuple[Axis, ...]:
    """A grid that holds all of them, with a few points in the narrowest; a whole period where there is one."""
    axes = []
    most = MAX_POINTS[len(bumps.names)]
    for number, name in enumerate(bumps.names):
        width, period = float(bumps.widths[:, number].min()), bumps.periods[number]
        reach = 2.0 * float(np.median(bumps.widths[:, number]))
        places = bumps.centres[:, number]
        low, high = period or (float(places.min()) - reach, float(places.max()) + reach)
        n_bins = int(np.clip(math.ceil((high - low) / width * _PER_WIDTH), 20, most))
        axes.append(Axis(name, units[number], low, high, n_bins, period is not None))
    return tuple(axes)
