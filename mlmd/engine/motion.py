"""Equations of motion of the atoms of one process: those of the OpenMM engine, in NumPy.

Velocities are held half a step back where nothing but forces acts (leapfrog). A step is, with F of the positions,

    v += Δt F/m;  x += Δt/2 v;  v ← bath(v);  x += Δt/2 v

and nothing is done between the halves in NVE, nor to atoms outside of the layer that a deposition holds at a
temperature. At a wall (`mlmd.engine.layer`) an atom above it is turned downwards there, v_z ← -|v_z|.

The bath of Langevin is v ← a v + √(1-a²) √(kT/m) R, a = exp(-γ Δt) (middle scheme: Zhang, Liu, Wu, Shao and Liu,
J. Phys. Chem. A 123, 6056, 2019), that of Nosé and Hoover a factor from a chain of thermostats (Martyna, Tuckerman,
Tobias and Klein, Mol. Phys. 87, 1117, 1996), the same on all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlmd import units
from mlmd.config import NPT, NVE, NVT, Bath, Deposit, Langevin
from mlmd.engine.noise import normal_numbers
from mlmd.kernels.motion import Scheme

if TYPE_CHECKING:
    from mlmd.engine.system import Body


def scheme_of(stage: NVE | NVT | NPT | Deposit, timestep: float, body: Body, seed: int) -> Scheme:
    """What moves the atoms of a stage, with a timestep in fs and a seed of random forces."""
    bath = stage.bath if isinstance(stage, Deposit) else stage.thermostat if isinstance(stage, NVT | NPT) else None
    if bath is None:
        return Scheme(timestep, body.n_dof, remove_com=body.remove_com)
    if isinstance(bath, Langevin | Bath):
        return Scheme(timestep, body.n_dof, "langevin", bath.friction, seed=seed, remove_com=body.remove_com)
    return Scheme(timestep, body.n_dof, bath.kind, bath.frequency, bath.chain_length, remove_com=body.remove_com)


@dataclass(frozen=True)
class Owned:
    """Atoms of a process, all arrays (n_own,) or (n_own, 3)."""

    names: np.ndarray
    """Identities."""
    masses: np.ndarray
    """amu."""
    mobile: np.ndarray
    """1.0 or 0.0."""
    bathed: np.ndarray | None = None
    """Whether Langevin's bath acts on an atom; None where it acts on all."""


class Motion:
    """Moves the atoms of a process; what all processes have to know together they add up."""

    def __init__(self, scheme: Scheme, add_up: Callable[[float], float]) -> None:
        """`add_up` gives the sum of a number over processes."""
        self.scheme, self._add_up = scheme, add_up
        self.chain = Chain(scheme.chain_length, scheme.rate)
        self.temperature = 0.0
        """K, of the bath."""
        self.wall: float | None = None
        """z in Å above which atoms are turned back."""

    def step(
        self, owned: Owned, velocities: np.ndarray, forces: np.ndarray, drift: np.ndarray, step: int,
        heights: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """How far atoms go in a step, (n_own, 3) Å, and their velocities then.

        Args:
            owned: the atoms.
            velocities: (n_own, 3) Å/fs.
            forces: (n_own, 3) eV/Å.
            drift: (3,) Å/fs, of the centre of mass of all atoms, taken away where the scheme says so.
            step: global, from which it goes on.
            heights: (n_own,) Å, z of the atoms, unwrapped, where there is a wall.
        """
        scheme, mobile = self.scheme, owned.mobile[:, None]
        moving = velocities + (scheme.timestep * mobile / (units.KINETIC * owned.masses[:, None])) * forces
        if scheme.remove_com:
            moving -= mobile * drift
        if scheme.bath == "none" and self.wall is None:
            return scheme.timestep * moving, moving
        before = moving
        if scheme.bath == "langevin":
            moving = self._bathe(owned, moving, step)
        elif scheme.bath == "nose-hoover":
            twice = self._add_up(twice_kinetic(owned, moving))
            kt = units.KB * self.temperature
            moving = moving * self.chain.factor(twice, scheme.n_dof, kt, scheme.timestep)
        if self.wall is not None:
            assert heights is not None
            moving = _turned_back(moving, heights + 0.5 * scheme.timestep * before[:, 2] > self.wall)
        return 0.5 * scheme.timestep * (before + moving), moving

    def _bathe(self, owned: Owned, velocities: np.ndarray, step: int) -> np.ndarray:
        """Velocities (n_own, 3) Å/fs after Langevin's bath, which some may not feel."""
        scheme, who = self.scheme, slice(None) if owned.bathed is None else np.flatnonzero(owned.bathed)
        kept = np.exp(-scheme.rate * scheme.timestep)
        spread = np.sqrt((1.0 - kept**2) * units.KB * self.temperature / (units.KINETIC * owned.masses[who]))
        noise = normal_numbers(scheme.seed, step, owned.names[who])
        after = velocities.copy()
        after[who] = kept * velocities[who] + (spread * owned.mobile[who])[:, None] * noise
        return after


def _turned_back(velocities: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Velocities (n_own, 3) of which those of atoms above a wall, (n_own,) bool, point downwards."""
    after = velocities.copy()
    after[above, 2] = -np.abs(after[above, 2])
    return after


def twice_kinetic(owned: Owned, velocities: np.ndarray) -> float:
    """Σ m v² of the atoms of a process, eV."""
    return float(units.KINETIC * np.einsum("i,ij,ij->", owned.masses, velocities, velocities))


class Chain:
    """A chain of thermostats, the first of which has the degrees of freedom of the system to hold."""

    _WEIGHTS = (*[1.0 / (4.0 - 4.0 ** (1.0 / 3.0))] * 2, 1.0 - 4.0 / (4.0 - 4.0 ** (1.0 / 3.0)),
                *[1.0 / (4.0 - 4.0 ** (1.0 / 3.0))] * 2)  # fmt: skip
    """Of Suzuki, J. Math. Phys. 32, 400 (1991), to fourth order."""

    def __init__(self, length: int, frequency: float) -> None:
        """`frequency` is 1/fs."""
        self._frequency = frequency
        self.rates = np.zeros(length)
        """1/fs, velocities of the thermostats."""

    def factor(self, twice: float, n_dof: int, kt: float, timestep: float) -> float:
        """By what velocities change in a step, and the chain with them.

        Args:
            twice: twice the kinetic energy, eV.
            n_dof: degrees of freedom.
            kt: eV.
            timestep: fs.
        """
        inertia = np.full(len(self.rates), kt / self._frequency**2)
        inertia[0] *= n_dof
        rates, last, total = self.rates, len(self.rates) - 1, 1.0

        def push(j: int) -> float:
            """Acceleration of a thermostat by what it holds."""
            held = twice - n_dof * kt if j == 0 else inertia[j - 1] * rates[j - 1] ** 2 - kt
            return float(held / inertia[j])

        def turn(j: int, part: float) -> None:
            """Half a turn of a thermostat that the next one holds."""
            slower = np.exp(-0.25 * part * rates[j + 1]) if j < last else 1.0
            rates[j] = (rates[j] * slower + 0.5 * part * push(j)) * slower

        for weight in self._WEIGHTS:
            part = weight * timestep
            for j in range(last, -1, -1):
                turn(j, part)
            slower = float(np.exp(-part * rates[0]))
            total, twice = total * slower, twice * slower**2
            for j in range(last + 1):
                turn(j, part)
        return total
