"""The mean temperature where a thermostat holds it: a warning where it is another one.

Heat flows in where a force is too stiff for the timestep, long before anything explodes, where forces are not the
derivative of an energy, and where a bias grows beneath the atoms faster than the thermostat cools them: an atom among
narrow kernels of OPES had 400 to 460 K in a bath of 300 K for 60 ns, whatever its timestep. Forces that are no
derivative of an energy let it flow out, too.

A start at rest in a minimum has half of the temperature, and forgets it, as every fluctuation, by and by with the
relaxation time of the thermostat: many of these have to pass before a mean says anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlmd.config import NPT, NVT, Langevin, Simulate, Stage
from mlmd.config.stages import temperatures_of

LARGEST = 0.1
"""Part of the temperature of the bath that is told of."""
FIRST = 512
"""Lines of the log after which the mean is looked at for the first time; then whenever there are twice as many."""
MOST = 4096
"""Means that are kept: of single lines at first, of more of them the longer a stage is."""
_BLOCKS = 16
_LONG = 2.0
"""Relaxation times in a block, at least: means of shorter ones are too much alike for an error."""
_CERTAIN = 3.0
"""Standard errors by which it has to be more than that."""
_HOT = (
    "something heats the atoms faster than it cools them. Forces that are too stiff for the timestep do (halve it), "
    "forces that are no derivative of an energy, and a bias that grows too fast (wider or rarer kernels, more "
    "friction)."
)
_COLD = (
    "something cools the atoms faster than it heats them. Forces that are no derivative of an energy do, as a model "
    "may predict them, and atoms that are not yet in equilibrium (a longer run, more friction)."
)


class Warmth:
    """Looks at the lines of one stage that has one temperature."""

    def __init__(self, target: float, relaxation: float, tell: Callable[[str], None]) -> None:
        """`target` in K, relaxation time of the thermostat in ps; `tell` is called once, with a warning."""
        self._target, self._tell = target, tell
        self._span = 2.0 * _BLOCKS * _LONG * relaxation
        self._times: list[float] = []
        self._temperatures: list[float] = []
        self._sum, self._summed, self._each = 0.0, 0, 1
        self._next = FIRST

    def look(self, time: float, temperature: float) -> None:
        """Take the temperature (K) at a time (ps)."""
        self._sum, self._summed = self._sum + temperature, self._summed + 1
        if self._summed < self._each:
            return
        self._times.append(time)
        self._temperatures.append(self._sum / self._each)
        self._sum, self._summed = 0.0, 0
        if len(self._times) == MOST:
            self._times = self._times[::2]
            pairs = zip(self._temperatures[::2], self._temperatures[1::2], strict=True)
            self._temperatures = [0.5 * (one + other) for one, other in pairs]
            self._each, self._next = 2 * self._each, self._next // 2
        if len(self._times) < self._next or time - self._times[0] < self._span:
            return
        half = len(self._times) // 2
        del self._times[:half], self._temperatures[:half]  # the beginning, which may come from elsewhere
        self._next = 4 * len(self._times)
        blocks = np.array([block.mean() for block in np.array_split(np.array(self._temperatures), _BLOCKS)])
        mean, error = float(blocks.mean()), float(blocks.std(ddof=1)) / _BLOCKS**0.5
        off = abs(mean - self._target)
        if off - _CERTAIN * error > LARGEST * self._target:
            self._next = 2**62
            self._tell(
                f"the mean temperature since {self._times[0]:g} ps is {mean:.1f} ± {error:.1g} K, where the thermostat "
                f"holds {self._target:g} K: {_HOT if mean > self._target else _COLD}"
            )


def warmth_of(stage: Stage, config: Simulate, tell: Callable[[str], None]) -> Warmth | None:
    """What looks at a stage whose thermostat has one temperature."""
    if not isinstance(stage, NVT | NPT) or not config.guard.enabled or len(set(temperatures_of(stage))) != 1:
        return None
    bath = stage.thermostat
    rate = bath.friction if isinstance(bath, Langevin) else bath.frequency
    return Warmth(temperatures_of(stage)[0], 1e-3 / rate, tell)
