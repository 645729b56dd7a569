"""Extended-system ABF: a variable λ beside the atoms, on a spring to a variable ξ of theirs, feels the adaptive force.

U(x, λ) = U(x) + ½ k (ξ(x) - λ)². The mean slope of the free energy of λ, ⟨k (λ - ξ)⟩_λ, is collected in bins of λ and
acts on λ with the opposite sign, so that λ diffuses freely and pulls ξ along. As λ is a coordinate like any other,
nothing but the value of ξ is needed: any variable of PLUMED will do. For the free energy of ξ itself k (⟨λ⟩ - z) is
collected in bins of z = ξ (CZAR, see `mlmd.analysis.abf`).

λ has the mass m = k (τ/2π)² of a period τ on its spring, and is moved once per step by the scheme that moves the
atoms, OpenMM's middle scheme of Langevin dynamics:

    v ← v + Δt f/m,  λ ← λ + Δt/2 v,  v ← e^(-γΔt) v + √((1 - e^(-2γΔt)) kT/m) R,  λ ← λ + Δt/2 v

References: Lelièvre, Rousset, Stoltz, J. Chem. Phys. 126, 134111 (2007); Fiorin, Klein, Hénin, Mol. Phys. 111, 3345
(2013); Comer et al., J. Phys. Chem. B 119, 1129 (2015); Lesage, Lelièvre, Stoltz, Hénin, J. Phys. Chem. B 121, 3676
(2017).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from mlmd import units
from mlmd.bias.bins import Bins, Dimension, Ramp

EXTENDED = "_ext"
"""What follows the label of a variable in that of its extended variable."""


class ExtendedABF:
    """The extended variables of one run, and what they have collected."""

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        *,
        timestep: float,
        temperature: float,
        friction: float,
        period: float,
        full_samples: int,
        reflect: bool,
        rng: np.random.Generator,
    ) -> None:
        """
        Args:
            dimensions: the variables.
            timestep: fs.
            temperature: K.
            friction: 1/fs.
            period: of λ on its spring, fs.
            full_samples: see `Ramp`.
            reflect: whether λ bounces at the ends of its range; else a wall is there.
            rng: of the random forces.
        """
        self.dimensions, self.temperature, self._reflect, self._rng = tuple(dimensions), temperature, reflect, rng
        n = len(self.dimensions)
        self.xi, self.values, self.forces = np.zeros(n), np.zeros(n), np.zeros(n)
        """ξ and the force of PLUMED on λ as PLUMED gives them; λ as PLUMED gets it."""
        self.velocities = np.zeros(n)
        self.last_step = -1
        """The last step that was sampled; -1 before the first."""
        self.bins, self.true_bins = Bins(dimensions), Bins(dimensions)
        self._ramp = Ramp(self.bins, full_samples)
        self._springs = np.array([one.spring for one in dimensions])
        self._dt = timestep * 1e-3
        self._masses = self._springs * (period * 1e-3 / (2 * np.pi)) ** 2
        kt = units.KB * temperature / units.EV_PER_KJMOL
        self._damping = float(np.exp(-friction * timestep))
        self._speeds = np.sqrt(kt / self._masses)
        self._noise = self._speeds * np.sqrt(1 - self._damping**2)

    @property
    def begun(self) -> bool:
        """Whether λ has a place."""
        return self.last_step >= 0

    def begin(self) -> None:
        """Put λ where ξ is, or at the end of the range that is nearer."""
        for number, one in enumerate(self.dimensions):
            place = one.near(float(self.xi[number]))
            self.values[number] = place if one.whole else min(max(place, one.minimum), one.maximum)
        self.velocities[:] = self._speeds * self._rng.standard_normal(len(self.values))

    def update(self, step: int) -> None:
        """Collect what PLUMED has computed for a step, and move λ to the next one; once, however often it is asked."""
        if step <= self.last_step:
            return
        self.last_step = step
        stretch = [d.difference(float(s)) for d, s in zip(self.dimensions, self.values - self.xi, strict=True)]
        slope = self._springs * stretch
        self.bins.add(self.bins.of(self.values), slope)
        self.true_bins.add(self.true_bins.of(self.xi), slope)
        walls = [d.push(float(v)) for d, v in zip(self.dimensions, self.values, strict=True)]
        self._move(self.forces + self._ramp.at(self.values) + (0.0 if self._reflect else np.array(walls)))

    def _move(self, force: np.ndarray) -> None:
        dt = self._dt
        speed = self.velocities + dt * force / self._masses
        place = self.values + 0.5 * dt * speed
        speed = self._damping * speed + self._noise * self._rng.standard_normal(len(speed))
        place = place + 0.5 * dt * speed
        for number, one in enumerate(self.dimensions):
            value = one.near(float(place[number]))
            if self._reflect and not one.whole:
                for end, side in ((one.minimum, 1.0), (one.maximum, -1.0)):
                    if side * (value - end) < 0:
                        value, speed[number] = 2 * end - value, side * abs(speed[number])
            self.values[number] = value
        self.velocities[:] = speed

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs, exact."""
        rng = json.dumps(self._rng.bit_generator.state).encode()
        return {
            "values": self.values.copy(),
            "velocities": self.velocities.copy(),
            "last step": np.array([self.last_step]),
            "rng": np.frombuffer(rng, np.uint8),
            **self.bins.state("extended"),
            **self.true_bins.state("true"),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.values[:], self.velocities[:] = state["values"], state["velocities"]
        self.last_step = int(state["last step"][0])
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())
        self.bins.restore("extended", state)
        self.true_bins.restore("true", state)
