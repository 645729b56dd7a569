"""The bins in which adaptive biasing forces are collected, and the ramp by which they begin to act.

All values are in PLUMED's units; energies in kJ/mol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dimension:
    """One variable of an adaptive biasing force."""

    label: str
    """Of the variable in PLUMED."""
    minimum: float
    maximum: float
    n_bins: int
    period: float | None
    """Length of its period; None where it has none."""
    spring: float
    """kJ/mol per unit², to the extended variable."""
    wall: float
    """kJ/mol per unit², beyond minimum and maximum."""
    unit: str
    """In tables; empty for plain numbers."""
    unit_size: float
    """That unit in PLUMED's."""

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.maximum - self.minimum) / self.n_bins

    @property
    def whole(self) -> bool:
        """Whether the bins go all around a period, so that there are no ends."""
        return self.period is not None and self.maximum - self.minimum > self.period * (1 - 1e-9)

    def near(self, value: float) -> float:
        """The image of a value that is nearest to the middle of the range."""
        if self.period is None:
            return value
        start = 0.5 * (self.minimum + self.maximum - self.period)
        return start + (value - start) % self.period

    def difference(self, value: float) -> float:
        """A difference of two values, of nearest images."""
        return value if self.period is None else (value + 0.5 * self.period) % self.period - 0.5 * self.period

    def place(self, value: float) -> tuple[int, bool]:
        """The bin nearest to a value, and whether the value is in it: beyond the ends it is in none."""
        number = int((self.near(value) - self.minimum) // self.width)
        if self.whole:
            return number % self.n_bins, True
        nearest = min(max(number, 0), self.n_bins - 1)
        return nearest, nearest == number

    def push(self, value: float) -> float:
        """The force (kJ/mol per unit) of the wall that a value is behind, 0 between them."""
        if self.whole:
            return 0.0
        value = self.near(value)
        return self.wall * (max(self.minimum - value, 0.0) - max(value - self.maximum, 0.0))


class Bins:
    """Counts and sums of forces on a grid."""

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.dimensions = tuple(dimensions)
        self.shape = tuple(one.n_bins for one in dimensions)
        size = int(np.prod(self.shape))
        self.counts = np.zeros(size, dtype=np.int64)
        self.sums = np.zeros((size, len(self.shape)))
        self.others: tuple[np.ndarray, np.ndarray] | None = None
        """Counts and sums of walkers beside this run, which act here and are not this run's."""

    def nearest(self, values: np.ndarray) -> tuple[int, np.ndarray]:
        """The number of the bin nearest to (n_dim,) values, and along which variables they are between the ends."""
        number, inside = 0, []
        for dimension, value in zip(self.dimensions, values.tolist(), strict=True):
            one, within = dimension.place(value)
            number = number * dimension.n_bins + one
            inside.append(within)
        return number, np.array(inside)

    def of(self, values: np.ndarray) -> int:
        """The number of the bin of (n_dim,) values, -1 outside of all."""
        number, inside = self.nearest(values)
        return number if inside.all() else -1

    def add(self, number: int, force: np.ndarray) -> None:
        """One sample of a force (n_dim,) in a bin; outside nothing is kept."""
        if number >= 0:
            self.counts[number] += 1
            self.sums[number] += force

    def means(self) -> np.ndarray:
        """(n_dim, *shape) mean forces, 0 where there is no sample."""
        return np.asarray((self.sums / np.maximum(self.counts, 1)[:, None]).T.reshape(-1, *self.shape))

    def known(self, where: int | slice) -> tuple[np.ndarray, np.ndarray]:
        """Counts and sums of some bins, with those of other walkers."""
        counts, sums = self.counts[where], self.sums[where]
        if self.others is None:
            return counts, sums
        return counts + self.others[0][where], sums + self.others[1][where]

    def state(self, name: str) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        return {f"{name} counts": self.counts.copy(), f"{name} sums": self.sums.copy()}

    def restore(self, name: str, state: Mapping[str, np.ndarray]) -> None:
        """From a `state`."""
        self.counts[:], self.sums[:] = state[f"{name} counts"], state[f"{name} sums"]


class Ramp:
    """The mean force of a bin as it acts: nothing below half of the full samples, all of it from there on linearly.

    The force of a bias has to be a slope, or it would drive what it acts on in circles and hold it out of equilibrium.
    Around a whole period of a single variable the mean over the circle is taken away, since the slope of a free energy
    has none. Beyond an end of one variable the others feel what the nearest bin says, and that one nothing: with no
    force at all out there, a way along the rim inside and back outside would be downhill from beginning to end.
    """

    def __init__(self, bins: Bins, full_samples: int) -> None:
        self._bins, self._full = bins, full_samples
        self._least = full_samples / 2
        self._closed = len(bins.shape) == 1 and bins.dimensions[0].whole

    def at(self, values: np.ndarray) -> np.ndarray:
        """(n_dim,) force at values of the variables, kJ/mol per unit."""
        number, inside = self._bins.nearest(values)
        if not inside.any():
            return np.zeros(len(self._bins.shape))
        counted, total = self._bins.known(number)
        if (count := int(counted)) <= self._least:
            return np.zeros(len(self._bins.shape))
        mean = total / count
        if self._closed:
            counts, sums = self._bins.known(slice(None))
            mean = mean - float(np.mean(sums[:, 0] / np.maximum(counts, 1)))
        share = min(1.0, (count - self._least) / (self._full - self._least))
        return np.where(inside, mean * share, 0.0)
