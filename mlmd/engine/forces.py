"""What OpenMM calls every step: the potential and the bias behind one PythonForce.

OpenMM asks several times within one step (integrator, printing, trial volumes), so the last evaluation is kept and
given again for the same positions. The bias is computed with each new configuration and updated once per step, when
the first question about the next step comes: the configuration computed last is then the one the step ended with.
A bias to which the potential does not matter is computed while a slow potential is, where a core is free for that.
Nothing non-finite passes: OpenMM's Reference platform would not notice. Of a potential without an energy (AGNI) OpenMM
and the bias get the energy 0 and no virial; what reads an answer knows of it by `Forces.has_energy`.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openmm

from mlmd import units
from mlmd.bias import Bias
from mlmd.bias.plumed import PlumedBias
from mlmd.engine.beside import Beside
from mlmd.engine.limits import problem_of_forces, problem_of_moves
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation, Evaluator

NM = 10.0
"""One nm in Å."""
_FORCE = NM / units.EV_PER_KJMOL
"""One eV/Å in kJ/mol/nm."""
_ENERGY = 1.0 / units.EV_PER_KJMOL
SLOW = 1e-3
"""Seconds of a potential, beside which to hand a bias to another thread costs little."""


@dataclass(frozen=True)
class Answer:
    """Energy and forces at one configuration, bias included."""

    positions: np.ndarray
    """(n_atoms, 3) nm, as OpenMM gave them."""
    cell: np.ndarray
    """(3, 3) Å."""
    evaluation: Evaluation
    """Potential and bias together."""
    potential: Evaluation
    """The potential alone."""
    step: int
    """Global step."""


class ForceFailure(SimulationError):
    """Energy, forces or moves were not finite, or above the guard's limit."""

    def __init__(self, message: str, positions: np.ndarray, forces: np.ndarray | None, atom: int | None) -> None:
        super().__init__(message)
        self.positions = positions
        """(n_atoms, 3) Å, the configuration that failed."""
        self.forces = forces
        """(n_atoms, 3) eV/Å there; None where the potential was not asked any more."""
        self.atom = atom
        """Index of the worst atom, counted from 0."""


def positions_in(state: openmm.State) -> np.ndarray:
    """(n_atoms, 3) nm of an OpenMM state; a copy."""
    if not _FILLS:
        return np.array(state.getPositions(asNumpy=True)._value)
    # the public getter looks around in the object first, which costs more than the copy of a thousand atoms
    array = np.empty((state._getNumParticles(), 3))
    state._getVectorAsNumpy(openmm.State.Positions, array)
    return array


_FILLS = hasattr(openmm.State, "_getVectorAsNumpy") and hasattr(openmm.State, "_getNumParticles")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    # in a new step the first number differs already
    return bool(a[0, 0] == b[0, 0]) and np.array_equal(a, b)


class Forces:
    """The function behind OpenMM's PythonForce, with the memory that a step needs."""

    def __init__(
        self,
        evaluator: Evaluator,
        cell: np.ndarray,
        *,
        bias: Bias | None = None,
        max_force: float | None = None,
        max_displacement: float | None = None,
        first_step: int = 0,
        bias_cell: np.ndarray | None = None,
        has_energy: bool = True,
        free_core: bool = False,
    ) -> None:
        """
        Args:
            evaluator: the potential, made ready for this system.
            cell: (3, 3) Å in the engine's frame.
            bias: acts on all atoms, or None.
            max_force: eV/Å, above which the run stops, or None.
            max_displacement: Å in one step, above which the run stops, or None.
            first_step: global step at which OpenMM's counter is zero.
            bias_cell: the cell PLUMED sees where it differs (rows of zeros for open directions).
            has_energy: whether the potential knows energies and virials, or forces alone.
            free_core: whether the potential leaves a core to the bias.
        """
        self.evaluator, self.has_energy = evaluator, has_energy
        self.cell = np.ascontiguousarray(cell, dtype=np.float64)
        self.bias = bias
        self.max_force, self.max_displacement = max_force, max_displacement
        self.first_step = first_step
        self.step: int | None = None
        """Global step of the last question."""
        self.answer: Answer | None = None
        self.failure: BaseException | None = None
        """What went wrong inside OpenMM's call, kept because OpenMM passes on only its text."""
        self.seconds = {"potential": 0.0, "bias": 0.0}
        """Wall-clock time spent; of the bias, what the potential did not take anyway."""
        self._open_cell = bias_cell
        self.beside = Beside() if free_core else None
        """Where the bias is computed while a slow potential is; None where one follows the other."""
        self._slow = False
        """Whether the potential was, when it was asked last."""
        self._push = np.zeros((0, 3))
        """(n_atoms, 3) eV/Å, forces of the bias; one array for all steps."""
        self._scaled = np.zeros((0, 3))
        """(n_atoms, 3) kJ/mol/nm, what OpenMM gets and copies; one array for all steps."""

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (n_atoms, 3) (kJ/mol/nm) of an OpenMM state."""
        try:
            answer = self.at(positions_in(state), self.first_step + state.getStepCount())
        except BaseException as error:  # an impatient Ctrl-C too: OpenMM would make a physical failure of it
            self.failure = error
            raise
        if len(self._scaled) != len(answer.positions):
            self._scaled = np.empty_like(answer.positions)
        np.multiply(answer.evaluation.forces, _FORCE, out=self._scaled)
        return answer.evaluation.energy * _ENERGY, self._scaled

    def at(self, positions: np.ndarray, step: int, *, details: bool = False) -> Answer:
        """Energy and forces at positions (n_atoms, 3) nm in the present cell, at a global step.

        With details, the answer of the potential has energies and virials of atoms, where it knows them.
        """
        kept, same_step = self.answer, self.bias is None or step == self.step
        if kept is not None and same_step and _same(positions, kept.positions):
            if details and kept.potential.virials is None:
                found = self._ask(positions * NM, self.cell, details=True)
                # energy and forces stay what the step began with, to the last bit
                more = replace(kept.potential, energies=found.energies, virials=found.virials)
                self.answer = kept = replace(kept, potential=more)
            return kept
        self.step = step
        if kept is not None and (failure := self._jump(positions, kept.positions, step - kept.step)) is not None:
            if not same_step:
                self.finish_step()
            raise failure
        answer = self._evaluate(positions, self.cell, step, details=details, new_step=not same_step)
        self._inspect(answer)
        self.answer = answer
        return answer

    def trial(self, positions: np.ndarray, cell: np.ndarray, step: int) -> Answer:
        """Energy and forces at trial positions (n_atoms, 3) nm and cell (3, 3) Å; followed by `accept` or `reject`.

        A trial may be absurd; it is inspected when it is accepted.
        """
        return self._evaluate(positions, np.ascontiguousarray(cell), step)

    def accept(self, answer: Answer) -> None:
        """Go on from a trial."""
        self._inspect(answer)
        self.answer, self.cell = answer, answer.cell

    def change_lattice(self, cell: np.ndarray) -> None:
        """Describe the same crystal by other lattice vectors (3, 3) Å: positions and energy stay."""
        self.cell = np.ascontiguousarray(cell)
        if self.answer is not None:
            self.answer = replace(self.answer, cell=self.cell)

    def bias_at(self, positions: np.ndarray, cell: np.ndarray, energy: float, step: int) -> float:
        """The bias energy (eV) of another configuration: positions (n_atoms, 3) nm, cell (3, 3) Å, its energy (eV)."""
        if not isinstance(self.bias, PlumedBias):
            return 0.0
        return self.bias.energy_at(step, positions * NM, self._box(cell), energy)

    def go_to(self, positions: np.ndarray, cell: np.ndarray, step: int) -> None:
        """Go on from another configuration at the same step: positions (n_atoms, 3) nm and cell (3, 3) Å.

        The step has ended before, so that the bias deposits and prints nothing for the new configuration.
        """
        self.finish_step()
        answer = self._evaluate(positions, np.ascontiguousarray(cell), step)
        self.cell, self.step = answer.cell, step  # also of a frame whose forces are not fine
        self._inspect(answer)
        self.answer = answer
        if isinstance(self.bias, PlumedBias):
            self.bias.pending = False

    def resume(self, answer: Answer, step: int) -> None:
        """Begin with the answer of a checkpoint, bit for bit, and bring the bias to its step."""
        self.cell, self.answer, self.step = answer.cell, answer, step
        self.reject(step)

    def reject(self, step: int) -> None:
        """Go back to the configuration before the trial; the bias must see it last before its update."""
        if self.bias is not None and self.answer is not None:
            potential = self.answer.potential.energy
            nowhere, virial = np.zeros_like(self.answer.positions), np.zeros((3, 3))
            self.bias.compute(step, self.answer.positions * NM, self._box(self.cell), potential, nowhere, virial)

    def finish_step(self) -> None:
        """Update the bias for the step that has ended, at the configuration computed last."""
        if self.bias is not None:
            clock = time.perf_counter()
            self.bias.update()
            self.seconds["bias"] += time.perf_counter() - clock

    def _ask(self, positions: np.ndarray, cell: np.ndarray, *, details: bool) -> Evaluation:
        clock = time.perf_counter()
        ask = getattr(self.evaluator, "detailed", self.evaluator.evaluate) if details else self.evaluator.evaluate
        result: Evaluation = ask(positions, cell)
        spent = time.perf_counter() - clock
        self.seconds["potential"] += spent
        self._slow = spent > SLOW
        if not self.has_energy:
            result = replace(result, energy=0.0, virial=np.zeros((3, 3)))
        return result

    def _evaluate(
        self, positions: np.ndarray, cell: np.ndarray, step: int, *, details: bool = False, new_step: bool = False
    ) -> Answer:
        """Both at a configuration, in a new step after the update of the one that has ended."""
        scaled, bias = positions * NM, self.bias
        if bias is None:
            result = self._ask(scaled, cell, details=details)
            return Answer(positions, cell, result, result, step)
        if not bias.independent:
            if new_step:
                self.finish_step()
            result = self._ask(scaled, cell, details=details)
            clock = time.perf_counter()
            forces, virial = result.forces.copy(), np.array(result.virial, order="C")
            energy = bias.compute(step, scaled, self._box(cell), result.energy, forces, virial)
            self.seconds["bias"] += time.perf_counter() - clock
            return Answer(positions, cell, Evaluation(result.energy + energy, forces, virial), result, step)
        if len(self._push) != len(scaled):
            self._push = np.empty_like(scaled)
        push, virial = self._push, np.zeros((3, 3))

        def act() -> float:
            push[:] = 0.0
            if new_step:
                bias.update()
            return bias.compute(step, scaled, self._box(cell), math.nan, push, virial)

        def ask() -> Evaluation:
            return self._ask(scaled, cell, details=details)

        clock, before = time.perf_counter(), self.seconds["potential"]
        energy, result = self.beside.both(act, ask) if self.beside is not None and self._slow else (act(), ask())
        together = Evaluation(result.energy + energy, result.forces + push, result.virial + virial)
        self.seconds["bias"] += time.perf_counter() - clock - (self.seconds["potential"] - before)
        return Answer(positions, cell, together, result, step)

    def _box(self, cell: np.ndarray) -> np.ndarray:
        return cell if self._open_cell is None else self._open_cell

    def _jump(self, positions: np.ndarray, before: np.ndarray, steps: int) -> ForceFailure | None:
        """What is wrong before the potential is asked: what searches for pairs need not survive atoms that are nowhere.

        Forces that OpenMM computes by itself are looked at after many steps, in which atoms go farther than in one.
        """
        problem = problem_of_moves((positions - before) * NM, self.max_displacement, max(1, steps))
        return None if problem is None else ForceFailure(problem[0], positions * NM, None, problem[1])

    def _inspect(self, answer: Answer) -> None:
        result = answer.evaluation
        problem = problem_of_forces(result.forces, result.energy, self.max_force, has_energy=self.has_energy)
        if problem is not None:
            raise ForceFailure(problem[0], answer.positions * NM, result.forces, problem[1])
