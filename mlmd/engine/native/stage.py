"""A stage of dynamics whose steps the compiled library makes, many at a time.

What is due between them (log, frames, barostat, guard, checkpoints) is that of every stage. Random forces depend on
seed, step and atom alone, and forces are added up in one order: where a block of steps ends changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import openmm
import torch

from mlmd.config import NVE
from mlmd.engine.fluxes import on_time
from mlmd.engine.forces import NM, Answer, ForceFailure
from mlmd.engine.limits import problem_of_forces, problem_of_moves
from mlmd.engine.motion import scheme_of
from mlmd.engine.stage import DynamicsStage, Hardware, Particles
from mlmd.errors import SimulationError
from mlmd.kernels.motion import FORCES, MOVES, Moving, Problem, Steps
from mlmd.potentials import Evaluation
from mlmd.potentials.fused import fused_of


class NativeStage(DynamicsStage):
    """As its base, with the library in the place of OpenMM."""

    def _take_up(self, start: Particles, seed: int, hardware: Hardware, force: openmm.Force | None) -> None:
        body = self.body
        scheme = scheme_of(self.stage, self.record.timestep, body, seed)
        parts = fused_of(self.forces.evaluator)
        self._steps = Steps(parts, body.masses, body.mobile, scheme)
        self._positions = np.array(start.positions, dtype=np.float64, order="C")
        self._velocities = np.array(start.velocities, dtype=np.float64, order="C")
        self._rates = np.zeros(scheme.chain_length)

    def _advance(self, n_steps: int) -> None:
        before, clock = self.answer(), time.perf_counter()
        whole, spent = before.evaluation, np.array(self._steps.seconds)
        moving = Moving(
            self._positions, self._velocities, np.array(whole.forces, order="C"), self._rates, whole.energy,
            np.array(whole.virial),
        )  # fmt: skip
        max_force, max_move = self.forces.max_force, self.forces.max_displacement
        done, problem = self._steps.advance(
            moving, self.forces.cell, n_steps, first_step=self.global_step,
            temperature=self.target_temperature or 0.0,
            max_force=math.inf if max_force is None else max_force, max_move=math.inf if max_move is None else max_move,
            n_threads=torch.get_num_threads(),
        )  # fmt: skip
        self.seconds["steps"] += time.perf_counter() - clock
        on_lists, on_potentials = (float(seconds) for seconds in np.array(self._steps.seconds) - spent)
        self.seconds["lists"] += on_lists
        self.forces.seconds["potential"] += on_lists + on_potentials
        assert moving.virial is not None
        found, step = Evaluation(moving.energy, moving.forces, moving.virial), self.global_step + done
        self.forces.answer = Answer(self._positions / NM, self.forces.cell, found, found, step)
        self.forces.step = step
        if problem is not None:
            self.forces.step = step + 1
            raise self._failure(problem)
        self.step += n_steps

    def _failure(self, problem: Problem) -> SimulationError:
        """What is wrong with the step after that of the last answer."""
        forces, where = self.forces, problem.positions
        if problem.kind == MOVES:
            told = problem_of_moves(where - self._positions, forces.max_displacement)
            assert told is not None
            return ForceFailure(told[0], where, None, told[1])
        if problem.kind == FORCES:
            wrong = problem_of_forces(problem.forces, problem.energy, forces.max_force)
            assert wrong is not None
            return ForceFailure(wrong[0], where, problem.forces, wrong[1])
        try:
            forces.evaluator.evaluate(where, forces.cell)
        except SimulationError as error:
            return ForceFailure(str(error), where, None, None)
        return SimulationError("the library finds no neighbours where others do, which is a bug.")

    def _move_to(self, positions: np.ndarray) -> None:
        self._positions = np.ascontiguousarray(positions * NM)
        if (answer := self.forces.answer) is not None:
            # it was computed there, and would be once more: to Å and back changes the last bits of some numbers
            self.forces.answer = replace(answer, positions=self.positions())

    def set_thermostat(self) -> None:
        """Nothing: each block of steps is told the temperature of its bath."""

    # -- reading -------------------------------------------------------------------------------------------------------

    def positions(self) -> np.ndarray:
        """(n_atoms, 3) nm, unwrapped."""
        return self._positions / NM

    def velocities(self) -> np.ndarray:
        """(n_atoms, 3) Å/fs as they are held (leapfrog: half a step back)."""
        return self._velocities.copy()

    def set_velocities(self, velocities: np.ndarray) -> None:
        """Hold others, (n_atoms, 3) Å/fs."""
        self._velocities = np.array(velocities, dtype=np.float64, order="C")

    def kinetic_energy(self) -> float:
        """eV, at the time of the positions where velocities are those of leapfrog."""
        if not isinstance(self.stage, NVE):
            return self.held_kinetic_energy()
        return self.body.kinetic_energy(on_time(self))

    # -- stopped and continued -----------------------------------------------------------------------------------------

    def engine_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a checkpoint keeps besides: positions in Å to the last bit, and the chain of thermostats."""
        return {}, {"native/positions": self._positions.copy(), "native/rates": self._rates.copy()}

    def go_to(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, exact: bool) -> None:
        """Be where a checkpoint is, as `step`, `frame` and the cell of `forces` are already; exactly, if so asked."""
        self.set_velocities(arrays["velocities"])
        if exact:
            self._positions, self._rates = arrays["native/positions"].copy(), arrays["native/rates"].copy()
        else:
            self._positions = np.ascontiguousarray(arrays["positions"] * NM)
