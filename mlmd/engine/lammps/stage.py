"""A stage of dynamics of which each process moves the atoms that it owns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openmm

from mlmd import units
from mlmd.config import NVE, Deposit
from mlmd.engine.forces import NM, Answer, ForceFailure
from mlmd.engine.lammps.forces import SharedForces
from mlmd.engine.lammps.part import Limits
from mlmd.engine.lammps.team import Failed
from mlmd.engine.motion import scheme_of
from mlmd.engine.outputs import Log, Trajectory
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation

RANK = "rank{}/"
"""What names of arrays of a process begin with in a checkpoint."""


class SharedStage(DynamicsStage):
    """As its base, with the processes of a team in the place of OpenMM."""

    forces: SharedForces  # type: ignore[assignment]
    kept = True
    """Whether a continued stage has the division of the cell that its checkpoint was made with."""

    def _take_up(self, start: Particles, seed: int, hardware: Hardware, force: openmm.Force | None) -> None:
        self._shared = self.forces.evaluator
        self._team = self._shared.team
        self._gathered: dict[str, np.ndarray] | None = None
        self._place(start.positions, start.velocities, start.cell)
        self._ask("move_by", scheme_of(self.stage, self.record.timestep, self.body, seed))
        self.set_thermostat()

    def _place(self, positions: np.ndarray, velocities: np.ndarray, cell: np.ndarray) -> None:
        """Deal out all atoms anew: (n_atoms, 3) Å and Å/fs in the engine's frame, and a cell (3, 3) Å."""
        try:
            self._shared.place(positions, velocities, cell)
        except Failed as failed:
            raise self._explained(failed, self.global_step) from None

    def _ask(self, name: str, *arguments: Any, each: Sequence[Any] | None = None) -> Any:
        try:
            return self._team.ask(name, *arguments, each=each)
        except Failed as failed:
            raise self._explained(failed, self.global_step) from None

    def _explained(self, failed: Failed, step: int) -> SimulationError:
        """The failure with the frame in which it was seen, at a global step."""
        part, problem = self._team.part, failed.problem
        if problem.kind == "engine" or part is None:
            return SimulationError(f"{problem.message} (at step {step:,})")
        self._team.ask("forget_problem")
        self.forces.step = step
        found = self._shared.gather()
        return ForceFailure(problem.message, found["positions"], found["forces"], problem.atom)

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self, log: Log, trajectory: Trajectory, **others: Any) -> None:
        """Go on to the end of the stage, as the base does."""
        self._ask("limit", Limits(self.forces.max_force, self.forces.max_displacement))
        super().run(log, trajectory, **others)

    def _advance(self, n_steps: int) -> None:
        clock = time.perf_counter()
        try:
            self._team.ask("advance", n_steps, self.global_step)
        except Failed as failed:
            assert self._team.part is not None
            raise self._explained(failed, self._team.part.step) from None
        self.seconds["steps"] += time.perf_counter() - clock
        self._forget()
        self.step += n_steps

    def _forget(self) -> None:
        """Atoms have moved."""
        self._gathered = self.forces.answer = None

    def set_thermostat(self) -> None:
        """Give the thermostat the target of this step."""
        if self.target_temperature is not None:
            self._ask("set_temperature", self.target_temperature)

    def set_layer(self, layer: np.ndarray) -> None:
        """Let the bath of a deposition act on some atoms (n_atoms,) bool from now on."""
        self._ask("set_layer", layer)

    def set_wall(self, height: float) -> None:
        """Let atoms of a deposition turn back at a height in Å from now on."""
        self._ask("set_wall", height)

    def _change_volume(self) -> None:
        assert self.barostat is not None and self.target_temperature is not None
        nowhere = np.zeros((self.body.n_atoms, 3))  # each process scales its own
        try:
            moved = self.barostat.move(
                self.forces,  # type: ignore[arg-type]
                nowhere,
                self.global_step,
                self.target_temperature,
                self._target_pressure * units.BAR,
            )
        except Failed as failed:
            raise self._explained(failed, self.global_step) from None
        self._forget()  # a trial that is taken back may have dealt out the atoms anew: same forces, other last bits
        if moved is None:
            return
        cell, frame = self.frame.reduce(self.forces.cell)
        if not np.array_equal(frame.lattice, self.frame.lattice):
            found = self._all()
            self.frame, self.forces.cell = frame, cell
            self._place(found["positions"], found["velocities"], cell)
            self._forget()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _all(self) -> dict[str, np.ndarray]:
        if self._gathered is None:
            self._gathered = self._shared.gather()
        return self._gathered

    def sums(self) -> Answer:
        """Energy and virial, which every process knows; positions and forces only where they were gathered before."""
        return self.forces.sums(self.global_step)

    def answer(self, *, details: bool = False) -> Answer:
        """Energy and forces at the present positions."""
        if self.forces.answer is None:
            assert self._team.part is not None
            found, (energy, virial) = self._all(), self._team.part.results()
            whole = Evaluation(energy, found["forces"], virial)
            self.forces.answer = Answer(found["positions"] / NM, self.forces.cell, whole, whole, self.global_step)
        return self.forces.answer

    def held_kinetic_energy(self) -> float:
        """eV, of the velocities as they are held."""
        return float(self._ask("kinetic", 0.0))

    def kinetic_energy(self) -> float:
        """eV, at the time of the positions where velocities are those of leapfrog."""
        leapfrog = isinstance(self.stage, NVE | Deposit)
        return float(self._ask("kinetic", 0.5 * self.record.timestep if leapfrog else 0.0))

    def guarded_temperature(self) -> float:
        """K, of what the guard looks at, from the velocities as they are held."""
        if self._layer is not None:
            return super().guarded_temperature()
        return self.body.temperature(self.held_kinetic_energy())

    def positions(self) -> np.ndarray:
        """(n_atoms, 3) nm, unwrapped."""
        found: np.ndarray = self._all()["positions"] / NM
        return found

    def velocities(self) -> np.ndarray:
        """(n_atoms, 3) Å/fs as they are held."""
        return self._all()["velocities"]

    def particles(self) -> Particles:
        """Where everything is now, for the stage that follows."""
        found = self._all()
        return Particles(found["positions"], found["velocities"], self.forces.cell, self.frame)

    def division(self) -> str:
        """How atoms are divided among processes, in words."""
        counts = np.array(self._ask("census"))
        own, copies = counts[:, 0], counts[:, 1]
        each = f"{own.min():,}" if own.min() == own.max() else f"{own.min():,} to {own.max():,}"
        many = "process has" if len(own) == 1 else "processes have"
        return f"{len(own)} {many} {each} atoms and {copies.sum() / own.sum():.2f} copies for each"

    # -- stopped and continued -----------------------------------------------------------------------------------------

    def engine_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint keeps of every process."""
        states = self._ask("state")
        return {"ranks": len(states)}, {
            RANK.format(rank) + name: array for rank, one in enumerate(states) for name, array in one.items()
        }

    def go_to(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, exact: bool) -> None:
        """Be where a checkpoint is, as `step`, `frame` and the cell of `forces` are already; exactly, if so asked."""
        self.kept = exact and self._as_it_was(header, arrays)
        if not self.kept:
            self._place(arrays["positions"] * NM, arrays["velocities"], self.forces.cell)
        self.set_thermostat()
        self._forget()

    def _as_it_was(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
        states = []
        for prefix in (RANK.format(rank) for rank in range(int(header["ranks"]))):
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            of_own = {name: arrays[name][own["names"] - 1] for name in ("velocities", "forces")}
            states.append(own | of_own)
        energy, virial = float(header["energy"]), arrays["virial"]
        return bool(self._ask("restore", self.forces.cell, self.body.n_atoms, energy, virial, each=states))
