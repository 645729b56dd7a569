"""Plain ABF: the variable itself feels the adaptive force, and its time derivatives give the slope of the free energy.

With the generalised mass M = Z⁻¹, Z_ab = Σ_i ∇_i ξ_a · ∇_i ξ_b / m_i, and the momentum p = M dξ/dt,

    dA/dξ = -⟨dp/dt⟩_ξ

(Darve, Pohorille, J. Chem. Phys. 115, 9169 (2001); Darve, Rodríguez-Gómez, Pohorille, J. Chem. Phys. 128, 144120
(2008)).
The bias is a force f along ξ, f·∇ξ on the atoms, which adds exactly f to dp/dt and is taken away from the sample again.
Derivatives are differences of neighbouring steps,

    p(n+½) = ½ (M(n) + M(n+1)) (ξ(n+1) - ξ(n)) / Δt,   dp/dt(n) = (p(n+½) - p(n-½)) / Δt.

Under Langevin's friction in the middle scheme the mean of such a difference is (1 + e^(-γΔt))/2 of the force, as the
velocity loses e^(-γΔt) in the middle of a step; it is divided by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mlmd import units
from mlmd.bias.bins import Bins, Dimension, Ramp

_MOMENTUM = units.KINETIC / units.EV_PER_KJMOL
"""One amu Å²/fs² in kJ/mol."""


class PlainABF:
    """What moves along the variables of one run, and what was collected."""

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        *,
        timestep: float,
        temperature: float,
        friction: float,
        full_samples: int,
        inverse_masses: np.ndarray,
        remove_com: bool,
    ) -> None:
        """
        Args:
            dimensions: the variables.
            timestep: fs.
            temperature: K.
            friction: 1/fs, of a Langevin thermostat of the atoms; else 0.
            full_samples: see `Ramp`.
            inverse_masses: (n_atoms,) 1/amu, 0 for atoms that do not move.
            remove_com: whether the centre of mass is held.
        """
        self.dimensions, self.temperature = tuple(dimensions), temperature
        n = len(self.dimensions)
        self.xi = np.zeros(n)
        """As PLUMED gives it."""
        self.force = np.zeros(n)
        """kJ/mol per unit, of bias and walls along each variable at the configuration computed last."""
        self.bins = Bins(dimensions)
        self.last_step = -1
        self._ramp = Ramp(self.bins, full_samples)
        self._dt = timestep
        self._correction = 2.0 / (1.0 + float(np.exp(-friction * timestep)))
        self._inverse_masses, self._remove_com = inverse_masses, remove_com
        self._mass = np.zeros((n, n))
        """amu Å² per unit², at the configuration computed last."""
        self._before: dict[str, np.ndarray] = {}
        """ξ, mass, force and momentum of the step before."""

    def look(self, gradients: np.ndarray) -> np.ndarray:
        """Take over a configuration, of which `xi` is known.

        Args:
            gradients: (n_dim, n_atoms, 3) of each variable, units per Å.

        Returns:
            (n_dim,) the force along each variable, kJ/mol per unit.
        """
        inverse = self._inverse_masses
        if self._remove_com:  # what moves is the motion relative to the centre, whose mass is that of all
            together = (1.0 / inverse) / (1.0 / inverse).sum()
            gradients = gradients - gradients.sum(axis=1, keepdims=True) * together[:, None]
        metric = np.einsum("aix,bix,i->ab", gradients, gradients, inverse)
        self._mass = np.linalg.pinv(metric)
        walls = [d.push(float(v)) for d, v in zip(self.dimensions, self.xi, strict=True)]
        self.force = self._ramp.at(self.xi) + np.array(walls)
        return self.force

    def update(self, step: int) -> None:
        """Collect the force of the step before, which is known now; once for each step."""
        if step <= self.last_step:
            return
        now = {"xi": self.xi.copy(), "mass": self._mass, "force": self.force}
        before = self._before
        if step == self.last_step + 1 and "xi" in before:
            moved = [d.difference(float(s)) for d, s in zip(self.dimensions, self.xi - before["xi"], strict=True)]
            now["momentum"] = 0.5 * (self._mass + before["mass"]) @ moved / self._dt
            if "momentum" in before:
                change = (now["momentum"] - before["momentum"]) / self._dt * _MOMENTUM * self._correction
                self.bins.add(self.bins.of(before["xi"]), before["force"] - change)
        self._before, self.last_step = now, step

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs, exact."""
        before = {f"before {name}": array for name, array in self._before.items()}
        return {"last step": np.array([self.last_step]), **before, **self.bins.state("true")}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.last_step = int(state["last step"][0])
        self._before = {
            name.removeprefix("before "): array for name, array in state.items() if name.startswith("before ")
        }
        self.bins.restore("true", state)
