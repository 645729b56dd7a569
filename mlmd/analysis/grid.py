"""What a person asks of the grid of a free energy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlmd.analysis.abf import Axis
from mlmd.errors import InputError

BINS = {1: 60, 2: 40, 3: 20}
"""Number of variables -> bins of an axis for samples, where nothing is asked for."""
LEAST_BINS, PER_BIN = 10, 10
"""Of an axis, and samples of a bin on the average, below which bins become wider: emptier ones are minima by chance."""
MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """Ends and bins, one for each variable in the units that are shown; empty where nothing is asked for."""

    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    n_bins: tuple[int, ...] = ()

    def refine(self, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        """These axes with what is asked for in the place of what they have.

        Raises:
            InputError: when there are more or fewer numbers than variables, an end is not beyond the other, or there
                are too many points.
        """
        for name, given in (("--min", self.minimum), ("--max", self.maximum), ("--bins", self.n_bins)):
            if given and len(given) != len(axes):
                raise InputError(f"{name}: {len(given)} given for {len(axes)} variables. Give one for each: a,b.")
        refined = []
        for number, axis in enumerate(axes):
            low = self.minimum[number] if self.minimum else axis.minimum
            high = self.maximum[number] if self.maximum else axis.maximum
            n_bins = self.n_bins[number] if self.n_bins else axis.n_bins
            if not (high > low and n_bins > 1):
                raise InputError(f"{axis.name}: a grid from {low:g} to {high:g} of {n_bins} bins cannot be.")
            period = axis.maximum - axis.minimum
            whole = axis.periodic and math.isclose(high - low, period, rel_tol=1e-6)
            if axis.periodic and high - low > period * (1 + 1e-6):
                raise InputError(f"{axis.name}: from {low:g} to {high:g} is more than its period, {period:g}.")
            refined.append(replace(axis, minimum=low, maximum=high, n_bins=n_bins, periodic=whole))
        if math.prod(axis.n_bins for axis in refined) > MAX_POINTS:
            raise InputError(f"--bins: {MAX_POINTS:,} points of the grid are the most.")
        return tuple(refined)

    def around(
        self, names: Sequence[str], units: Sequence[str], samples: np.ndarray,
        periods: Sequence[tuple[float, float] | None],
    ) -> tuple[Axis, ...]:  # fmt: skip
        """Bins that hold all samples (n, n_dim), a whole period where there is one; wider ones for few samples."""
        axes, most = [], BINS[len(names)]
        n_bins = min(most, max(LEAST_BINS, round((len(samples) / PER_BIN) ** (1 / len(names)))))
        for number, name in enumerate(names):
            low, high = periods[number] or (float(samples[:, number].min()), float(samples[:, number].max()))
            if high <= low:
                raise InputError(f"{name} is {low:g} throughout: it has no free energy to tell.")
            axes.append(Axis(name, units[number], low, high, n_bins, periods[number] is not None))
        return self.refine(axes)
