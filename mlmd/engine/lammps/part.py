"""What one process does: forces and motion of the atoms that it owns.

Every method of `Part` is carried out by all processes at the same time. What goes wrong on one of them is kept as its
problem; all hear of it at the next sum and let their atoms rest, so that nobody waits for who has gone.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlmd import units
from mlmd.engine.lammps.domains import Atoms, Domains, together, uncrossed
from mlmd.engine.lammps.returns import Returns
from mlmd.engine.limits import problem_of_forces, problem_of_moves
from mlmd.engine.motion import Motion, Owned, twice_kinetic
from mlmd.kernels.motion import Scheme
from mlmd.potentials import Evaluation
from mlmd.potentials.centres import Make

INSISTED = 130
"""Exit code of all processes where the run was interrupted twice."""
BUG = 70
"""Exit code of all processes where one has met what nobody foresaw."""
NOWHERE = np.eye(3)
"""The cell that evaluators without periodicity are given."""


@dataclass(frozen=True)
class Kinds:
    """What kinds of atoms there are: arrays (n_kinds,)."""

    numbers: np.ndarray
    """Atomic numbers."""
    masses: np.ndarray
    """amu."""
    mobile: np.ndarray
    """1.0 or 0.0."""


@dataclass(frozen=True)
class Limits:
    """What ends a run."""

    max_force: float | None
    """eV/Å."""
    max_displacement: float | None
    """Å in a step."""


NO_LIMITS = Limits(None, None)


@dataclass(frozen=True)
class Problem:
    """What went wrong on a process."""

    message: str
    atom: int | None = None
    """Index in the structure, counted from 0."""
    kind: str = "physics"
    """physics, or engine for what LAMMPS says."""


class Part:
    """The atoms of one process."""

    def __init__(
        self, comm: Any, make: Make, kinds: Kinds, pbc: np.ndarray, reach: float, skin: float,
        grid: tuple[int, int, int] | None, factor: float,
    ) -> None:  # fmt: skip
        """
        Args:
            comm: of MPI.
            make: evaluators of the potential.
            kinds: of atoms.
            pbc: (3,) bool.
            reach: Å, cutoff of the potential.
            skin: Å.
            grid: parts along the cell vectors, or None.
            factor: on the potential.
        """
        self._comm, self._make, self._kinds, self.skin, self._reach = comm, make, kinds, skin, reach
        self._factor = factor
        self.domains = Domains(comm, pbc, len(kinds.numbers), reach, skin, grid, self._called)
        self._limits = NO_LIMITS
        self._motion = Motion(Scheme(1.0, 1), self._sum)
        self._left, self.step = 0, 0
        self.seconds = 0.0
        """Wall-clock time that this process has spent on its forces."""
        self.problem: Problem | None = None
        self._resting = False
        self._built = np.zeros((0, 3))
        self._owned = Owned(np.zeros(0, dtype=np.int32), np.zeros(0), np.zeros(0))
        self._layer: np.ndarray | None = None
        """(n_atoms,) bool: all atoms on which the bath acts, where these are not all."""
        self.energy, self.virial, self._drift = 0.0, np.zeros((3, 3)), np.zeros(3)
        self._forces = np.zeros((0, 3))

    # -- what the leader asks for ------------------------------------------------------------------------------------

    def know(self, kinds: Kinds) -> None:
        """There are other kinds of atoms from now on, which are placed next."""
        self._kinds, self.domains.n_kinds = kinds, len(kinds.numbers)

    def place(self, cell: np.ndarray, kinds: np.ndarray, positions: np.ndarray, velocities: np.ndarray) -> None:
        """Begin anew with all atoms, (n_atoms,) kinds from 1 and (n_atoms, 3) Å and Å/fs, and compute forces."""
        names = np.arange(1, len(kinds) + 1, dtype=np.int32)
        self._fill(cell, Atoms(names, kinds, positions, velocities, uncrossed(len(kinds))), len(kinds))

    def follow(self, positions: np.ndarray) -> None:
        """Forces at other positions (n_atoms, 3) Å, near the present ones, in the same cell."""
        own = self.domains.positions()[: self.domains.n_own]
        own += positions[self._owned.names - 1] - self.domains.unwrapped()
        self._left = 0
        self.domains.run(1)

    def move_by(self, scheme: Scheme) -> None:
        """Let a scheme move the atoms from now on."""
        self._motion = Motion(scheme, self._sum)

    def forget_problem(self) -> None:
        """So that asking where atoms are does not fail again."""
        self.problem = None

    def limit(self, limits: Limits) -> None:
        """Hold forces and moves against limits from now on, the present forces too."""
        self._limits = limits
        wrong = problem_of_forces(self._forces, self.energy, self._limits.max_force, self._owned.names - 1)
        if self.problem is None and wrong is not None:
            self.problem = Problem(*wrong)

    def set_temperature(self, temperature: float) -> None:
        """Of the bath, K."""
        self._motion.temperature = temperature

    def set_layer(self, layer: np.ndarray) -> None:
        """Let the bath act on some of all atoms, (n_atoms,) bool, until they are placed anew."""
        self._layer = layer
        self._owned = replace(self._owned, bathed=layer[self._owned.names - 1])

    def set_wall(self, height: float) -> None:
        """Let atoms turn back at a height in Å, until something else moves them."""
        self._motion.wall = height

    def advance(self, n_steps: int, step: int) -> tuple[float, np.ndarray]:
        """Go on by so many steps from a global step; energy (eV) and virial (3, 3) eV then."""
        self.step, self._left = step, n_steps
        self._move()
        self.domains.run(n_steps)
        return self.energy, self.virial

    def results(self) -> tuple[float, np.ndarray]:
        """Energy (eV) and virial (3, 3) eV of all atoms."""
        return self.energy, self.virial

    def kinetic(self, later: float) -> float:
        """Kinetic energy of all atoms (eV) with velocities so many fs later, by the present forces.

        Of atoms in a layer that a bath holds velocities are those of now.
        """
        return 0.5 * self._sum(twice_kinetic(self._owned, self._later(later)))

    def gather(self) -> list[dict[str, np.ndarray]]:
        """Names, unwrapped positions, velocities and forces of the atoms of each process, for the leader."""
        own = {
            "names": self._owned.names, "positions": self.domains.unwrapped(),
            "velocities": self.domains.velocities().copy(), "forces": self._forces,
        }  # fmt: skip
        return self._comm.gather(own) or []

    def trial(self, cell: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and virial with positions and cell (3, 3) Å changed alike; nothing moves."""
        change = np.linalg.solve(self.domains.cell, cell)
        if self._slack(change) < 0.0:
            self._left = 0
            self.domains.build()
        found = self._asked(self.domains.positions() @ change)
        energy, virial, failed = self._total(found)
        return (float("nan") if failed else energy), virial

    def accept(self, cell: np.ndarray) -> None:
        """Change positions and cell alike, for good."""
        change = np.linalg.solve(self.domains.cell, cell)
        self._resting = True  # forces are those of the new cell
        self.domains.build()  # atoms have drifted out of the parts of their owners
        own = self._atoms()
        n_atoms = int(self._sum(len(own.names)))
        self._fill(cell, replace(own, positions=own.positions @ change), n_atoms, cell.diagonal() * [[0.0], [1.0]])

    def census(self) -> list[tuple[int, int]]:
        """Atoms and copies that each process has, for the leader."""
        n_own = self.domains.n_own
        return self._comm.gather((n_own, len(self.domains.names()) - n_own)) or []

    def state(self) -> list[dict[str, np.ndarray]]:
        """What each process needs to go on bit for bit, for the leader."""
        own = self._atoms()
        arrays = {
            "names": own.names, "kinds": own.kinds, "crossed": own.crossed, "built": self._built,
            "now": own.positions, "chain": self._motion.chain.rates, "drift": self._drift,
            "bounds": self.domains.bounds,
        }  # fmt: skip
        arrays |= {f"evaluator/{name}": array for name, array in self._evaluator.state().items()}
        return self._comm.gather(arrays) or []

    def restore(
        self, cell: np.ndarray, n_atoms: int, energy: float, virial: np.ndarray, mine: dict[str, np.ndarray]
    ) -> bool:
        """Go back to a `state` of this process, with velocities and forces; whether the division is the same.

        Lists of pairs and copies are those that were built there, at the positions where they were built.
        """
        names = mine["names"]
        built = Atoms(names, mine["kinds"], mine["built"], mine["velocities"], mine["crossed"])
        self._fill(cell, built, n_atoms, mine["bounds"])
        same = np.array_equal(self._owned.names, names)
        if self._sum(float(not same)):
            return False
        self.domains.positions()[: len(names)] = mine["now"]
        self._motion.chain.rates[:] = mine["chain"]
        prefix = "evaluator/"
        self._evaluator.restore({k.removeprefix(prefix): a for k, a in mine.items() if k.startswith(prefix)})
        self._forces, self.energy, self.virial = mine["forces"], energy, virial
        self._drift = mine["drift"]
        return True

    # -- the atoms ---------------------------------------------------------------------------------------------------

    def _fill(self, cell: np.ndarray, atoms: Atoms, n_atoms: int, bounds: np.ndarray | None = None) -> None:
        self._left = 0
        self.problem, self._resting, self._layer = None, False, None
        found = self.domains.fill(cell, atoms, bounds)
        if found != n_atoms and bounds is not None:  # rounding has taken one over a boundary
            found = self.domains.fill(cell, together(self._comm.allgather(atoms)), bounds)
        if found != n_atoms:
            raise RuntimeError(f"of {n_atoms:,} atoms LAMMPS has found a place for {found:,}")
        self.domains.build()

    def _atoms(self) -> Atoms:
        domains, n_own = self.domains, self.domains.n_own
        return Atoms(
            domains.names()[:n_own].copy(), domains.kinds()[:n_own].copy(), domains.positions()[:n_own].copy(),
            domains.velocities().copy(), domains.crossed().copy(),
        )  # fmt: skip

    def _know(self) -> None:
        """Atoms have changed hands."""
        domains, n_own = self.domains, self.domains.n_own
        names, kinds = domains.names(), domains.kinds() - 1
        own = names[:n_own].copy()
        masses, mobile = (array[kinds[:n_own]] for array in (self._kinds.masses, self._kinds.mobile))
        self._owned = Owned(own, masses, mobile, None if self._layer is None else self._layer[own - 1])
        self._returns = Returns(self._comm, own.astype(np.int64), names[n_own:].astype(np.int64))
        self._built = domains.positions()[:n_own].copy()
        self._evaluator = self._make(self._kinds.numbers[kinds], len(names) - n_own, self.skin)

    # -- a step ------------------------------------------------------------------------------------------------------

    def _called(self) -> None:
        """What LAMMPS calls when copies are up to date."""
        if self._resting:
            return
        try:
            self._compute()
            self._left -= 1
            self.step += 1
            if self._left > 0 and not self._resting:
                self._move()
        except KeyboardInterrupt:  # others wait for this process, and no exception gets through LAMMPS
            self._comm.Abort(INSISTED)
        except BaseException:
            sys.stderr.write(f"process {self._comm.rank} of {self._comm.size}:\n")
            traceback.print_exc()
            sys.stderr.flush()
            self._comm.Abort(BUG)

    def _compute(self) -> None:
        if self.domains.changed():
            self._know()
            if self.problem is None and (astray := self.domains.astray()) is not None:
                self.problem = Problem(*astray)
        found = self._asked(self.domains.positions())
        self._forces = self._returns.add(found.forces)
        wrong = problem_of_forces(self._forces, found.energy, self._limits.max_force, self._owned.names - 1)
        if self.problem is None and wrong is not None:
            self.problem = Problem(*wrong)
        self.energy, self.virial, self._resting = self._total(found)

    def _asked(self, positions: np.ndarray) -> Evaluation:
        """What the potential says; zeros where it fails, for others wait for an answer."""
        if self.problem is None:
            clock = time.perf_counter()
            try:
                found = self._evaluator.evaluate(positions, NOWHERE)
                self.seconds += time.perf_counter() - clock
                if self._factor == 1.0:
                    return found
                return Evaluation(self._factor * found.energy, self._factor * found.forces, self._factor * found.virial)
            except Exception as error:
                self.problem = Problem(str(error) or type(error).__name__)
        return Evaluation(0.0, np.zeros_like(positions), np.zeros((3, 3)))

    def _total(self, found: Evaluation) -> tuple[float, np.ndarray, bool]:
        """Energy and virial of all processes, and whether one of them has a problem; the drift, besides."""
        momentum = units.KINETIC * self._owned.masses @ self.domains.velocities()
        mass = float(units.KINETIC * (self._owned.masses @ self._owned.mobile))
        own = np.array([found.energy, *found.virial.ravel(), *momentum, mass, float(self.problem is not None)])
        total = np.empty_like(own)
        self._comm.Allreduce(own, total)
        self._drift = total[10:13] / total[13]
        return float(total[0]), total[1:10].reshape(3, 3), bool(total[14])

    def _move(self) -> None:
        """One step from the present forces; who may not move stays, and says so at the next sum."""
        velocities = self.domains.velocities()
        heights = None if self._motion.wall is None else self.domains.unwrapped()[:, 2]
        moves, after = self._motion.step(self._owned, velocities, self._forces, self._drift, self.step, heights)
        wrong = problem_of_moves(moves, self._limits.max_displacement, 1, self._owned.names - 1)
        if wrong is None:
            wrong = self._too_far(moves)
        if wrong is not None:
            self.problem = Problem(*wrong)
            return
        velocities[:] = after
        self.domains.positions()[: len(moves)] += moves

    def _too_far(self, moves: np.ndarray) -> tuple[str, int] | None:
        """LAMMPS loses atoms that pass a whole process by in a step."""
        if not len(moves) or np.abs(moves).max() < self.skin:
            return None
        lengths = np.linalg.norm(moves, axis=1)
        worst, most = int(lengths.argmax()), self.domains.narrowest()
        if lengths[worst] < most:
            return None
        atom = int(self._owned.names[worst]) - 1
        return f"atom {atom} (counted from 0) moved by {lengths[worst]:.3g} Å in one step, past a whole process.", atom

    def _later(self, later: float) -> np.ndarray:
        owned = self._owned
        kick = later * owned.mobile[:, None] * self._forces / (units.KINETIC * owned.masses[:, None])
        if owned.bathed is not None:
            kick[owned.bathed] = 0.0
        shifted: np.ndarray = self.domains.velocities() + kick
        return shifted

    def _slack(self, change: np.ndarray) -> float:
        """Å by which copies are known farther than a changed cell needs, at least; see `mlmd.neighbors.SkinList`."""
        strain = max(0.0, 1.0 - float(np.linalg.svd(change, compute_uv=False)[-1]))
        moved = self.domains.positions()[: len(self._built)] - self._built
        most = float(np.sqrt(np.einsum("ij,ij->i", moved, moved).max(initial=0.0)))
        return self.skin - strain * (self._reach + self.skin) - 2.0 * self._most(most)

    def _sum(self, number: float) -> float:
        return float(self._comm.allreduce(number))

    def _most(self, number: float) -> float:
        from mpi4py import MPI

        return float(self._comm.allreduce(number, op=MPI.MAX))
