"""The forces of all processes as the leader sees them: a potential for structures, and what a stage asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd.engine.forces import Answer
from mlmd.engine.frame import frame_of
from mlmd.engine.lammps.domains import FARTHEST
from mlmd.engine.lammps.part import NO_LIMITS, Kinds
from mlmd.engine.lammps.team import Team
from mlmd.engine.system import Body
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation

_NEAR = 0.25
"""Part of the skin by which atoms may have moved to be followed; beyond that they are dealt out anew."""


class SharedEvaluator:
    """A potential for structures of the atoms of a run, evaluated by all processes."""

    def __init__(self, team: Team, body: Body, reach: float, scale: float, n_threads: int) -> None:
        """Take who computes, the atoms, the cutoff (Å), a factor, and threads of each process.

        Raises:
            InputError: for a potential that cannot be divided.
        """
        self.team, self.scale, self._pbc = team, scale, body.pbc
        self._kinds, kinds = _kinds_of(body)
        team.ask("load", n_threads)  # by itself: one that cannot is heard of before others wait for it in LAMMPS
        team.ask("begin", kinds, body.pbc, reach, scale)
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def follow(self, body: Body) -> None:
        """Know who is there from now on; `place` or `evaluate` says where."""
        self._last = None
        self._kinds, kinds = _kinds_of(body)
        self.team.ask("know", kinds)

    def place(self, positions: np.ndarray, velocities: np.ndarray, cell: np.ndarray) -> None:
        """Deal out all atoms anew: (n_atoms, 3) Å and Å/fs in the engine's frame, and a cell (3, 3) Å."""
        self._last = None
        _check_distance(positions, cell, self._pbc)
        self.team.ask("place", cell, self._kinds, positions, velocities)

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å, cell (3, 3) Å, in any orientation."""
        reduced, frame = frame_of(cell, self._pbc)
        turned = frame.to_engine(positions)
        if self._follows(turned, reduced):
            self.team.ask("follow", turned)
        else:
            self.team.ask("limit", NO_LIMITS)  # of a structure, not of a run
            self.place(turned, np.zeros_like(turned), reduced)
            self._last = turned.copy(), reduced
        assert self.team.part is not None
        energy, virial = self.team.part.results()
        return Evaluation(energy, frame.to_user(self.gather()["forces"]), frame.tensor_to_user(virial))

    def _follows(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        """Whether atoms are near to where they were dealt out."""
        if self._last is None or not np.array_equal(cell, self._last[1]) or self.team.part is None:
            return False
        moved = np.linalg.norm(positions - self._last[0], axis=1).max(initial=0.0)
        return bool(moved < _NEAR * self.team.part.skin)

    def gather(self) -> dict[str, np.ndarray]:
        """Positions (Å, unwrapped), velocities and forces (n_atoms, 3) of all atoms, in the engine's frame."""
        parts = self.team.ask("gather")
        names = np.concatenate([one["names"] for one in parts]) - 1
        found = {}
        for key in ("positions", "velocities", "forces"):
            found[key] = np.empty((len(self._kinds), 3))
            found[key][names] = np.concatenate([one[key] for one in parts])
        return found

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: what processes need to go on belongs to the stage."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Begin anew."""
        self._last = None


def _kinds_of(body: Body) -> tuple[np.ndarray, Kinds]:
    """The kind of every atom (n_atoms,), from 1, and what kinds there are."""
    table = np.column_stack([body.numbers, body.masses, body.mobile])
    rows, kinds = np.unique(table, axis=0, return_inverse=True)
    return kinds.reshape(-1).astype(np.int32) + 1, Kinds(rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2])


def _check_distance(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> None:
    """LAMMPS counts in ten bits the cell vectors that an atom has crossed."""
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise SimulationError(f"the position of atom {atom} (counted from 0) is not finite.")
    if not pbc.any():
        return
    crossed = np.abs(positions @ np.linalg.inv(np.where(pbc[:, None], cell, np.eye(3))))[:, pbc]
    if crossed.max() > FARTHEST:
        raise SimulationError(
            f"an atom is {crossed.max():,.0f} cell vectors away from the origin, and LAMMPS follows them for "
            f"{FARTHEST:,}. Wrap the structure into its cell."
        )


class SharedForces:
    """What a stage knows of its forces; the answer it has is that of the leader's last gathering."""

    bias = None
    failure: BaseException | None = None

    def __init__(
        self, evaluator: SharedEvaluator, cell: np.ndarray, *, max_force: float | None, max_displacement: float | None,
        has_energy: bool, **others: Any,
    ) -> None:  # fmt: skip
        """As `mlmd.engine.forces.Forces`, without a bias."""
        self.evaluator, self.cell, self.has_energy = evaluator, np.ascontiguousarray(cell), has_energy
        self.max_force, self.max_displacement = max_force, max_displacement
        self.answer: Answer | None = None
        self.step: int | None = None
        self._before = self._spent
        self._seconds = {"potential": 0.0, "bias": 0.0}

    @property
    def _spent(self) -> float:
        """Seconds of the leader on forces, in all stages."""
        part = self.evaluator.team.part
        return 0.0 if part is None else part.seconds

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock time spent by the leader; what those before it have spent can be added."""
        now = self._spent
        self._seconds["potential"] += now - self._before
        self._before = now
        return self._seconds

    def at(self, positions: np.ndarray, step: int) -> Answer:
        """The answer at the present positions, which each process knows of its atoms."""
        return self.sums(step)

    def sums(self, step: int) -> Answer:
        """Energy and virial; positions and forces only where they were gathered before."""
        if self.answer is not None:
            return self.answer
        part = self.evaluator.team.part
        assert part is not None
        energy, virial = part.results()
        found = Evaluation(energy, np.zeros((0, 3)), virial)
        return Answer(np.zeros((0, 3)), self.cell, found, found, step)

    def trial(self, positions: np.ndarray, cell: np.ndarray, step: int) -> Answer:
        """Energy and virial with the atoms scaled as a cell (3, 3) Å is; followed by `accept` or `reject`."""
        energy, virial = self.evaluator.team.ask("trial", cell)
        found = Evaluation(energy, np.zeros((0, 3)), virial)
        return Answer(positions, np.ascontiguousarray(cell), found, found, step)

    def accept(self, answer: Answer) -> None:
        """Go on from a trial."""
        self.evaluator.team.ask("accept", answer.cell)
        self.cell, self.answer = answer.cell, None

    def reject(self, step: int) -> None:
        """Nothing has moved."""

    def finish_step(self) -> None:
        """There is no bias to finish."""

    def resume(self, answer: Answer, step: int) -> None:
        """Begin with the answer of a checkpoint."""
        self.cell, self.answer, self.step = answer.cell, answer, step
