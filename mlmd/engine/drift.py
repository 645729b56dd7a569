"""The drift of the total energy where nothing should change it: a warning in NVE.

A timestep that is too long, forces that are not the derivative of the energy, or rounding in them show as a slow
change of the total energy long before anything explodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlmd.config import NVE, Simulate, Stage
from mlmd.potentials import Potential, has_energy

LARGEST = 1e-5
"""eV per atom and ps that are told of: 10 meV/atom/ns, which heats a crystal by 40 K in a nanosecond."""
FIRST = 50
"""Lines of the log after which the slope is looked at for the first time; then whenever there are twice as many."""
_PARTS = 5
_CERTAIN = 5.0
"""Standard errors that a slope must be away from zero."""


class EnergyDrift:
    """Looks at the lines of one stage of NVE."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is called once, with a warning."""
        self._tell = tell
        self._times: list[float] = []
        self._energies: list[float] = []
        self._next = FIRST

    def look(self, time: float, energy: float) -> None:
        """Take the total energy (eV per atom) at a time (ps)."""
        self._times.append(time)
        self._energies.append(energy)
        if len(self._times) < self._next:
            return
        self._next *= 2
        slope, error = slope_of(np.array(self._times), np.array(self._energies))
        if abs(slope) > max(LARGEST, _CERTAIN * error):
            self._next = 2**62
            self._tell(
                f"the total energy drifts by {1e6 * slope:+.3g} ± {1e6 * error:.1g} meV per atom and ns since "
                f"{self._times[0]:g} ps, where nothing should change it: the timestep is too long, or the forces are "
                "not the derivative of the energy (single precision, a cutoff that is not smooth)."
            )


def drift_of(stage: Stage, config: Simulate, potential: Potential, tell: Callable[[str], None]) -> EnergyDrift | None:
    """What looks at a stage in which the total energy should not change, and there is one."""
    conserves = isinstance(stage, NVE) and config.guard.enabled and has_energy(potential)
    return EnergyDrift(tell) if conserves else None


def slope_of(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope of values (n,) over times (n,) by least squares, and its standard error.

    The error is from the slopes of five parts in sequence, which scatter 5^1.5 times as much as that of the whole.
    Values near each other in time need not be independent for that.
    """
    n = len(times) // _PARTS * _PARTS
    parts = zip(np.split(times[:n], _PARTS), np.split(values[:n], _PARTS), strict=True)
    slopes = [np.polyfit(t - t[0], v - v[0], 1)[0] for t, v in parts]
    slope = float(np.polyfit(times - times[0], values - values[0], 1)[0])
    return slope, float(np.std(slopes, ddof=1)) / _PARTS**1.5
