"""All processes of a run: the first one leads and asks, the others do what is asked until they are dismissed."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlmd.config import Deposit, Simulate
from mlmd.engine.lammps.part import BUG, INSISTED, Kinds, Part, Problem
from mlmd.engine.lammps.processes import versions_of, world
from mlmd.engine.stop import SIGNALS
from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.potentials.centres import centres_of
from mlmd.potentials.load import load_potential

if TYPE_CHECKING:
    from mlmd.engine.job import Job

_PATIENCE = 2e-4
"""Seconds for which who waits for the leader sleeps at a time, so that waiting leaves the processor to others."""


class Failed(SimulationError):
    """Something went wrong on a process while atoms moved."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Team:
    """The processes as the leader sees them, and how the others follow."""

    def __init__(self, comm: Any, config: Simulate) -> None:
        """Take MPI's communicator and the input."""
        self.comm, self._config = comm, config
        self.part: Part | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return bool(self.comm.rank == 0)

    def ask(self, name: str, *arguments: Any, each: Sequence[Any] | None = None) -> Any:
        """Let all processes carry out a method of `Part`; what the leader's gives.

        Args:
            name: of the method.
            arguments: for all.
            each: one more for each process, its own.

        Raises:
            Failed: when the physics, or LAMMPS, has failed on one of them.
            InputError, ModelError: what a process says of the input.
        """
        self._call()
        self.comm.bcast((name, arguments, each is not None))
        return self._obey(name, arguments if each is None else (*arguments, self.comm.scatter(each)))

    def follow(self) -> None:
        """Do what the leader asks, until it dismisses; mpirun gives signals to all, and the leader answers for all."""
        with _deaf():
            self._follow()

    def _follow(self) -> None:
        try:
            while True:
                self._wait()
                name, arguments, of_each = self.comm.bcast(None)
                if name == "dismiss":
                    return
                if of_each:
                    arguments = (*arguments, self.comm.scatter(None))
                with suppress(MlmdError):  # the leader has heard of it
                    self._obey(name, arguments)
        except BaseException:
            traceback.print_exc()
            self.comm.Abort(BUG)

    def dismiss(self) -> None:
        """Let the others go."""
        self._call()
        self.comm.bcast(("dismiss", (), False))

    def _call(self) -> None:
        self.comm.Ibarrier().Wait()

    def _wait(self) -> None:
        request = self.comm.Ibarrier()
        while not request.Test():
            time.sleep(_PATIENCE)

    def _obey(self, name: str, arguments: tuple[Any, ...]) -> Any:
        found, problem, wrong = None, None, None
        try:
            if name in ("load", "begin"):
                getattr(self, f"_{name}")(*arguments)
            else:
                assert self.part is not None
                found = getattr(self.part, name)(*arguments)
                problem = self.part.problem
        except MlmdError as error:
            wrong = error
        except Exception as error:
            if not _of_all(error):  # others wait somewhere else for this process
                self._end(error)
            problem = Problem(f"LAMMPS stopped: {error}", kind="engine")
        for other, failure in self.comm.allgather((problem, wrong)):
            if failure is not None:
                raise failure
            if other is not None:
                raise Failed(other)
        return found

    def _end(self, error: Exception) -> None:
        """End all processes for what has happened on this one alone."""
        if type(error).__name__ == "MPIAbortException":  # of the Python module of LAMMPS, which may not be here
            sys.stderr.write(f"process {self.comm.rank} of {self.comm.size}: LAMMPS stopped: {error}\n")
            sys.stderr.flush()
            self.comm.Abort(SimulationError.exit_code)
        traceback.print_exc()
        self.comm.Abort(BUG)

    def _load(self, n_threads: int) -> None:
        """Read the potential on this process. Nobody else is asked here: it may fail on one process alone."""
        torch.set_num_threads(n_threads)
        self._make = centres_of(load_potential(self._config.potential))

    def _begin(self, kinds: Kinds, pbc: np.ndarray, reach: float, factor: float) -> None:
        """Make everything ready, all processes together."""
        engine = self._config.engine
        assert engine is not None
        # vacuum above a slab is nobody's work: below it each has as much as the others
        flat = (0, 0, 1) if any(isinstance(stage, Deposit) for stage in self._config.stage) else None
        self.part = Part(self.comm, self._make, kinds, pbc, reach, engine.skin, engine.grid or flat, factor)

    def hardware(self, job: Job, platform: str, device: str, threads: int | None) -> dict[str, Any]:
        """What run.json says of where a run goes on; `threads` are those of each process, where somebody wants so many.

        Raises:
            InputError: for fewer atoms than processes, and for what only the OpenMM engine has.
        """
        check_number(job.body.n_atoms, self.comm.size)
        if platform != "auto" or device not in ("auto", "cpu"):
            flag = f"--platform {platform}" if platform != "auto" else f"--device {device}"
            raise InputError(f'{flag}: with engine = "lammps" each process computes on its processor. Leave it out.')
        engine = self._config.engine
        assert engine is not None
        return {
            "openmm": "none", "device": "cpu", "properties": {},
            "threads": threads or (1 if self.comm.size > 1 else torch.get_num_threads()),
            "engine": "lammps", **versions_of(self.comm), "skin": engine.skin,
            **({"grid": list(engine.grid)} if engine.grid else {}),
        }  # fmt: skip

    @property
    def course(self) -> Any:
        """What runs the stages with these processes; it is made as a `mlmd.engine.course.Course` is."""
        from mlmd.engine.lammps.course import SharedCourse

        return partial(SharedCourse, self)


def check_number(n_atoms: int, n_processes: int) -> None:
    """Make sure that there are atoms for all.

    Raises:
        InputError: when there are not.
    """
    if n_atoms < n_processes:
        raise InputError(
            f"mpirun started {n_processes} processes for {n_atoms} atom{'s' * (n_atoms != 1)}, and none may be "
            "without. Start fewer; some thousand atoms for each are worth it."
        )


def _of_all(error: Exception) -> bool:
    """Whether LAMMPS has said the same on all processes, which are then together."""
    return type(error) is Exception or (isinstance(error, RuntimeError) and "LAMMPS" in str(error))


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore requests to stop for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def team_of(config: Simulate) -> Iterator[Team]:
    """All processes that were started for an input; whoever leads dismisses the others in the end.

    Raises:
        InputError: when MPI or LAMMPS is not here, or the grid is not one of so many processes.
    """
    team = Team(world(), config)
    _check_grid(config, team.comm.size)
    try:
        yield team
    except KeyboardInterrupt:  # the second signal waits for nobody, wherever the others are
        team.comm.Abort(INSISTED)
    finally:
        if team.leads:
            team.dismiss()


def _check_grid(config: Simulate, n_processes: int) -> None:
    grid = None if config.engine is None else config.engine.grid
    if grid is not None and int(np.prod(grid)) != n_processes:
        parts = " × ".join(map(str, grid))
        raise InputError(
            f"engine: grid: {parts} are {int(np.prod(grid))} parts of the cell, and there "
            f"{'is 1 process' if n_processes == 1 else f'are {n_processes} processes'}. Start as many with mpirun -n, "
            "or leave grid out."
        )
