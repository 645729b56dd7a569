"""Hyperdynamics by bond boost: a bias that is gone where a bond is about to break, and the clock that it makes faster.

With the bonds of the quenched state, of lengths R_i, and their strains ε_i = (r_i - R_i) / R_i,

    ΔV = V_max (1 - (ε/q)²) where |ε| < q, else 0,      ε: the strain of the most strained bond,

raises the bottom of a basin and leaves its saddle points as they are, so that events happen in the right proportions,
each sooner, and the time that a step stands for is longer:

    t_hyper = Σ Δt exp(ΔV / kT).

Now and then the configuration is quenched. Where an atom has left its place an event has happened, and the bonds are
those of the new state. Until that is seen the bond that broke is strained by more than q, and nothing is boosted.

Voter, Phys. Rev. Lett. 78, 3908 (1997); Miron, Fichthorn, J. Chem. Phys. 119, 6210 (2003); the form with the most
strained bond alone is that of LAMMPS' `fix hyper/global`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell
from ase.neighborlist import primitive_neighbor_list

from mlmd import units
from mlmd.errors import SimulationError

PAPERS = (
    "Voter, Phys. Rev. Lett. 78, 3908 (1997)",
    "Miron and Fichthorn, J. Chem. Phys. 119, 6210 (2003)",
)


@dataclass(frozen=True)
class Bonds:
    """The bonds of a quenched state. Positions are unwrapped, so their images never change."""

    pairs: np.ndarray
    """(n_bonds, 2) atoms i and j."""
    shifts: np.ndarray
    """(n_bonds, 3) Å, from j to its image that i is bound to."""
    lengths: np.ndarray
    """(n_bonds,) Å, R."""

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """(n_bonds, 3) Å, from i to j, at positions (n_atoms, 3) Å."""
        vectors: np.ndarray = positions[self.pairs[:, 1]] - positions[self.pairs[:, 0]] + self.shifts
        return vectors

    def strains(self, positions: np.ndarray) -> np.ndarray:
        """(n_bonds,), at positions (n_atoms, 3) Å."""
        vectors = self.vectors(positions)
        strains: np.ndarray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors)) / self.lengths - 1.0
        return strains


def bonds_of(positions: np.ndarray, cell: np.ndarray, cutbond: float, boosted: np.ndarray) -> Bonds:
    """Bonds shorter than `cutbond` with at least one atom that is boosted, each once.

    Args:
        positions: (n_atoms, 3) Å, of a quenched state.
        cell: (3, 3) Å, rows of zeros where not periodic.
        cutbond: Å.
        boosted: (n_atoms,) bool.
    """
    i, j, crossed = primitive_neighbor_list("ijS", cell.any(axis=1), complete_cell(cell), positions, cutbond)
    # of the two directions of a pair the first; an atom and its own image keep their distance for ever
    once = (i < j) & (boosted[i] | boosted[j])
    pairs, shifts = np.stack([i, j], axis=1)[once], crossed[once] @ cell
    vectors = positions[pairs[:, 1]] - positions[pairs[:, 0]] + shifts
    return Bonds(pairs, shifts, np.linalg.norm(vectors, axis=1))


@dataclass(frozen=True)
class Event:
    """The system has gone from one state to another."""

    number: int
    """From 1."""
    step: int
    """Global step at whose quench it was seen."""
    hypertime: float
    """fs, until this step."""
    boost: float
    """t_hyper over the time of the dynamics, until this step."""
    atoms: np.ndarray
    """Those that have left their places, the farthest first."""
    distance: float
    """Å, of the first of them."""
    bond: tuple[int, int]
    """The bond of the old state that is most strained in the new one."""
    strain: float


class BondBoost:
    """The bias of one stage, its reference state, and the clock."""

    def __init__(
        self,
        *,
        cutbond: float,
        q: float,
        vmax: float,
        temperature: float,
        timestep: float,
        boosted: np.ndarray,
        quench: Callable[[np.ndarray], np.ndarray],
        quench_every: int,
        event_distance: float,
        first_step: int = 0,
        record: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """
        Args:
            cutbond: Å.
            q: strain from which on there is no boost.
            vmax: eV.
            temperature: K, of the thermostat.
            timestep: fs.
            boosted: (n_atoms,) bool.
            quench: gives positions (n_atoms, 3) Å at the bottom of the basin in which those are that it gets.
            quench_every: steps.
            event_distance: Å.
            first_step: global step at which the stage begins; quenches are counted from here.
            record: called with every event.
        """
        self.record = record
        self.pending = False
        """Whether a configuration was computed that has not been updated."""
        self.last_step, self.n_events = -1, 0
        self.time = self.clock = 0.0
        """fs, of the dynamics and of hyperdynamics, with the last step."""
        self._before = (0.0, 0.0)
        """Both without the last step."""
        self.boost = 0.0
        """ΔV (eV) of the configuration computed last."""
        self._cutbond, self._q, self._vmax, self._boosted = cutbond, q, vmax, boosted
        self._kt, self._dt = units.KB * temperature, timestep
        self._quench, self._every, self._event_distance = quench, quench_every, event_distance
        self._first_step = first_step
        self._bonds: Bonds | None = None
        self._quenched = np.zeros((0, 3))
        """(n_atoms, 3) Å, the reference state."""
        self._step, self._positions, self._cell = -1, np.zeros((0, 3)), np.zeros((3, 3))

    def compute(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> float:
        """Add the boost to forces and virial; a first time also find the state that it belongs to.

        Args:
            step: global step.
            positions: (n_atoms, 3) Å, unwrapped.
            cell: (3, 3) Å, zero rows where not periodic; always the same.
            energy: of the potential, which does not matter here.
            forces: (n_atoms, 3) eV/Å, changed in place.
            virial: (3, 3) eV, Σ r ⊗ dE/dr, changed in place.

        Returns:
            ΔV, eV.

        Raises:
            SimulationError: when the quenched state has no bonds.
        """
        if self._bonds is None:
            self._refer_to(self._quench(positions), cell)
            assert self._bonds is not None
        self._step, self._positions, self._cell, self.pending = step, positions, cell, True
        bonds = self._bonds
        strains = bonds.strains(positions)
        most = int(np.abs(strains).argmax())
        strain = float(strains[most])
        if abs(strain) >= self._q:
            self.boost = 0.0
            return 0.0
        self.boost = self._vmax * (1.0 - (strain / self._q) ** 2)
        i, j = bonds.pairs[most]
        vector = positions[j] - positions[i] + bonds.shifts[most]
        length = bonds.lengths[most]
        slope = -2.0 * self._vmax * strain / (self._q**2 * length)  # dΔV/dr
        gradient = slope / (length * (1.0 + strain)) * vector
        forces[i] += gradient
        forces[j] -= gradient
        virial += np.outer(vector, gradient)
        return self.boost

    def update(self) -> None:
        """Let the clock go on by the step computed last, and quench where that is due: once per step."""
        if not self.pending:
            return
        self.pending = False
        if self._step <= self.last_step:  # a continued run, or a stage that begins where another ended
            return
        self.last_step, self._before = self._step, (self.time, self.clock)
        if self._step > self._first_step and (self._step - self._first_step) % self._every == 0:
            self._look()
        self.time += self._dt
        self.clock += self._dt * float(np.exp(self.boost / self._kt))

    def hypertime(self, step: int) -> float:
        """fs, of the steps before a global one, which is the last that was updated or the next."""
        return self.clock if step > self.last_step else self._before[1]

    def mean_boost(self, step: int) -> float:
        """t_hyper over the time of the dynamics, of the steps before a global one; 1 before there was any."""
        time = self.time if step > self.last_step else self._before[0]
        return self.hypertime(step) / time if time else 1.0

    def _look(self) -> None:
        """Quench, and where that leads to another state go on from there."""
        assert self._bonds is not None
        quenched = self._quench(self._positions)
        moves = np.linalg.norm(quenched - self._quenched, axis=1)
        farthest = np.argsort(-moves, kind="stable")
        moved = farthest[moves[farthest] > self._event_distance]
        if not len(moved):
            return
        strains = self._bonds.strains(quenched)
        most = int(np.abs(strains).argmax())
        i, j = self._bonds.pairs[most]
        self.n_events += 1
        event = Event(
            self.n_events, self._step, self.hypertime(self._step), self.mean_boost(self._step), moved,
            float(moves[moved[0]]), (int(i), int(j)), float(strains[most]),
        )  # fmt: skip
        self.record(event)
        self._refer_to(quenched, self._cell)

    def _refer_to(self, quenched: np.ndarray, cell: np.ndarray) -> None:
        bonds = bonds_of(quenched, cell, self._cutbond, self._boosted)
        if not len(bonds.pairs):
            raise SimulationError(
                f"hyperdynamics: no two atoms of the quenched state are closer than cutbond = {self._cutbond:g} Å, "
                "one of them boosted: there is nothing to boost. Take a longer cutbond, between the first and the "
                "second neighbours."
            )
        self._bonds, self._quenched = bonds, quenched

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs, exact, after `update`."""
        if self._bonds is None:
            return {}
        return {
            "clock": np.array([self.time, self.clock]),
            "before": np.array(self._before),
            "counts": np.array([self.last_step, self.n_events]),
            "quenched": self._quenched,
            "pairs": self._bonds.pairs,
            "shifts": self._bonds.shifts,
            "lengths": self._bonds.lengths,
        }

    def restore(self, state: Mapping[str, np.ndarray], *, same_stage: bool) -> None:
        """Continue from a `state`: of this stage, or of an earlier one, of which the clock and the count stay."""
        self.last_step, self.n_events = map(int, state["counts"])
        time, clock = map(float, state["before"])
        self._before = time, clock
        if not same_stage:  # its last configuration is the first of this one, and counts here
            self.time, self.clock, self.last_step = time, clock, self.last_step - 1
            return
        self.time, self.clock = map(float, state["clock"])
        self._quenched = state["quenched"]
        self._bonds = Bonds(state["pairs"], state["shifts"], state["lengths"])

    @property
    def n_bonds(self) -> int:
        """Of the state that is boosted; 0 before one is known."""
        return 0 if self._bonds is None else len(self._bonds.pairs)
