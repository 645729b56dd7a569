"""Replicas that take turns and change places, and their checkpoints, which hold together.

Each goes on to the next exchange, and waits there for the others. What a kill costs: every replica has its own
checkpoints, and exchange.json says which of them hold together. Whenever one of them makes a checkpoint, all make one
that have moved since their last, and then exchange.json is replaced.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmd.config.exchange import Exchange
from mlmd.engine import checkpoint as checkpoints
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.course import Course, ToNextExchange
from mlmd.engine.exchange_log import ENOUGH, EXCHANGES, FEW, ExchangeLog, Exchanges, ends_of, read_exchanges
from mlmd.engine.outputs import differences, last_step, measure, rewind
from mlmd.engine.stage import DynamicsStage
from mlmd.engine.stop import StopRequest
from mlmd.engine.swaps import Misplaced, attempt, neighbours, pairs_of
from mlmd.engine.turns import Turns
from mlmd.errors import SimulationError, Stopped, StorageError
from mlmd.rundir import CHECKPOINTS, LOG, Messages, StageRecord, write_atomically

COMMITS = "exchange.json"
"""Which checkpoints of the replicas hold together."""
KEPT = 2
"""Of them; every replica keeps one more checkpoint."""


@dataclass(frozen=True)
class Commit:
    """A moment that all replicas can go back to."""

    n_done: int
    """Exchanges so far."""
    walkers: tuple[int, ...]
    """In each replica."""
    saved: dict[str, str | None]
    """The checkpoint of each replica; None for one that had not begun."""
    files: dict[str, Any]
    """Size and fingerprint of exchange.csv."""


class Together:
    """The replicas of a run, and where they stand with each other."""

    def __init__(
        self, folder: Path, names: Sequence[str], exchange: Exchange, scales: Sequence[float], seed: int,
        messages: Messages, request: StopRequest, checkpoint_every: float,
    ) -> None:  # fmt: skip
        """`seed` is that which all seeds follow from; `checkpoint_every` is in seconds."""
        self.folder, self.names, self.exchange, self.scales, self.seed = folder, names, exchange, list(scales), seed
        self.messages, self.request, self._every = messages, request, checkpoint_every
        self.courses: list[Course] = []
        self.pairs = neighbours(exchange.shape)
        self.n_done = 0
        self.walkers = list(range(len(names)))
        self._commits = read_commits(folder)
        self._saved_at = time.monotonic()
        self._tries, self._accepted = [0] * len(self.pairs), [0] * len(self.pairs)
        self._told: set[int] = set()
        self._log: ExchangeLog | None = None
        self._turns = Turns()

    # -- going back --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Go back to the newest moment that all replicas can go back to.

        Raises:
            StorageError: when there is none.
        """
        problems: list[str] = []
        while self._commits and (why := obstacle(self.folder, self._commits[-1])):
            problems.append(why)
            self._commits.pop()
        if problems and not self._commits:
            raise StorageError(
                f"{self.folder}: the replicas cannot continue together: {' '.join(problems)} Restore the folder from a "
                "backup, or give another --out."
            )
        if not self._commits and (begun := self._begun()):
            raise StorageError(
                f"{self.folder / COMMITS} is not there, which says which checkpoints of the replicas hold together, "
                f"and {', '.join(begun)} went on before: they cannot continue together, and nothing was touched. "
                "Restore it from a backup, or give another --out."
            )
        for problem in problems:
            self.messages(f"{problem} The checkpoints before it are used, of all replicas.")
        files: dict[str, Any] = {}
        if self._commits:
            last = self._commits[-1]
            self.n_done, self.walkers, files = last.n_done, list(last.walkers), last.files
            for course in self.courses:  # known before its turn: others make checkpoints that hold together with it
                course.saved = last.saved[course.folder.name]
        for line in rewind(self.folder, files, {EXCHANGES: 0}):
            self.messages(line)
        self._log = ExchangeLog(self.folder / EXCHANGES, self.names, self.pairs)
        found = self.found()
        self._tries, self._accepted = found.tries.tolist(), found.accepted.tolist()
        if self.n_done:
            self.messages(f"the exchanges go on after number {self.n_done:,}")

    def _begun(self) -> list[str]:
        """Replicas with checkpoints and lines in their logs; the first of these come after the first exchange.json."""
        return [
            course.folder.name
            for course in self.courses
            if any((course.folder / CHECKPOINTS).glob("*.ckpt")) and last_step(course.folder / LOG) is not None
        ]

    def load(self, course: Course) -> Checkpoint | None:
        """Where a course goes on."""
        name = course.folder.name
        saved = self._commits[-1].saved[name] if self._commits else None
        return course.commit.load_named(saved)

    # -- taking turns ------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let all replicas run to their ends.

        Raises:
            SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
        """
        waiting: list[tuple[Course, ToNextExchange]] = [(course, course.turns()) for course in self.courses]
        everyone = waiting
        try:
            while waiting:
                waiting = [(course, turns) for course, turns in waiting if self._goes_on(course, turns)]
                if waiting:
                    self._exchange()
        except Stopped:
            self.commit()  # of those that others have waited for
            raise
        finally:
            for course, turns in everyone:
                with self._turns.of(course):
                    turns.close()
        self.commit()

    def _goes_on(self, course: Course, turns: ToNextExchange) -> bool:
        """Whether a replica has come to the next exchange, and not to its end."""
        with self._turns.of(course):
            try:
                next(turns)
            except StopIteration:
                return False
            except SimulationError as error:
                raise SimulationError(f"{course.folder.name}: {error}") from None
        return True

    def next_look(self, step: int) -> int:
        """The next step at which an exchange may be."""
        return step + self.exchange.every - step % self.exchange.every

    def look(self, stage: DynamicsStage) -> bool:
        """Whether an exchange is due before a replica goes on."""
        return self.waits(stage.record, stage.step)

    def waits(self, record: StageRecord, step: int) -> bool:
        """Whether an exchange is due at a step of a stage before a replica goes on."""
        return self.exchange.due(record.index, step) > self.n_done

    def _exchange(self) -> None:
        """All are at the step of the next exchange: let those that accept change places."""
        stages = [course.open_stage for course in self.courses if course.open_stage is not None]
        assert len(stages) == len(self.courses) and len({stage.global_step for stage in stages}) == 1
        assert self._log is not None
        pairs = pairs_of(self.exchange.shape, self.n_done)
        for n in sorted({n for pair in pairs for n in pair}):
            with self._turns.of(self.courses[n]):  # what PLUMED opens as a step ends belongs to its replica
                stages[n].answer()
                stages[n].forces.finish_step()
        try:
            tried = attempt(stages, self.scales, pairs, self.seed, self.n_done)
        except Misplaced as failed:
            course = self.courses[failed.replica]
            why = course.failure(failed.why)
            if not isinstance(why, SimulationError):
                raise why from None
            raise SimulationError(f"exchange {self.n_done + 1:,}: {course.folder.name}: {why}") from None
        except SimulationError as error:
            raise SimulationError(f"exchange {self.n_done + 1:,}: {error}") from None
        for one in tried:
            pair = self.pairs.index(one.pair)
            self._tries[pair] += 1
            if one.accepted:
                self._accepted[pair] += 1
                first, second = one.pair
                self.walkers[first], self.walkers[second] = self.walkers[second], self.walkers[first]
        self.n_done += 1
        first_stage = stages[0]
        self._log.row(
            self.n_done, first_stage.record.index + 1, first_stage.global_step, first_stage.time / 1e3, self.walkers,
            tried,
        )  # fmt: skip
        if self.n_done % ENOUGH == 0:
            self.tell_of_poor(ENOUGH)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def pause(self, *, ended: bool) -> None:
        """Make checkpoints of all where one is due, and stop where that is asked for."""
        reason = self.request.reason()
        if ended or reason or time.monotonic() - self._saved_at >= self._every:
            self.commit()
        if reason:
            raise Stopped(
                f"stopped by {reason} after {self.n_done:,} exchanges, and after checkpoints of all replicas. The same "
                "command continues."
            )

    def commit(self) -> None:
        """Make checkpoints of all that have moved, and say that they hold together."""
        for course in self.courses:
            with self._turns.of(course):
                course.save()
        assert self._log is not None
        self._log.commit()
        saved = {course.folder.name: course.saved for course in self.courses}
        new = Commit(self.n_done, tuple(self.walkers), saved, measure(self.folder, {EXCHANGES: 0}))
        self._saved_at = time.monotonic()
        if not self._commits or new != self._commits[-1]:
            self._commits = [*self._commits, new][-KEPT:]
            write_commits(self.folder, self._commits)

    def close(self) -> None:
        """Close exchange.csv."""
        if self._log is not None:
            self._log.close()

    # -- what is told ------------------------------------------------------------------------------------------------

    def tell_of_poor(self, least_tries: int) -> None:
        """Warn once of each pair that has tried so often and of which fewer than `FEW` were accepted."""
        for pair, (tries, n) in enumerate(zip(self._tries, self._accepted, strict=True)):
            if tries >= least_tries and n < FEW * tries and pair not in self._told:
                self._told.add(pair)
                one, other = self.pairs[pair]
                self.messages(_told_of(f"{self.names[one]} and {self.names[other]}", tries, n))

    def found(self) -> Exchanges:
        """What exchange.csv says by now."""
        return read_exchanges(self.folder, self.names, self.pairs)

    def describe(self) -> str:
        """How the exchanges went, in a line."""
        found = self.found()
        shares = ", ".join(
            f"{found.names[one]}/{found.names[other]} {share:.0%}"
            for (one, other), share in zip(found.pairs, found.acceptance, strict=True)
            if not math.isnan(share)
        )
        n, trips = len(found.walkers), found.round_trips(*ends_of(self.exchange.shape))
        return (
            f"{n:,} exchange{'s' * (n != 1)}, {trips:,} round trip{'s' * (trips != 1)}; accepted: "
            f"{shares or 'none was tried'}"
        )


def _told_of(names: str, tries: int, n: int) -> str:
    """A warning of a pair that seldom changes places: `n` times."""
    often = (
        f"only {n:,} of {tries:,} exchanges of {names} were accepted"
        if n
        else (f"none of {tries:,} exchanges of {names} was accepted")
    )
    return f"{often}: they are too far apart to help each other. Put others between them."


def obstacle(folder: Path, commit: Commit) -> str | None:
    """Why not all replicas of a folder can go back to a moment; None when they can."""
    for why in differences(folder, commit.files, {EXCHANGES: 0}).values():
        return f"{why}."
    for name, saved in commit.saved.items():
        if saved is None:
            continue
        try:
            content = checkpoints.read(folder / name / CHECKPOINTS / saved)
        except StorageError as error:
            return str(error)
        grown = {one: int(mutable) for one, mutable in content.header["appended"].items()}
        for why in differences(folder / name, content.header["files"], grown).values():
            return f"{why}."
    return None


def read_commits(folder: Path) -> list[Commit]:
    """What exchange.json says, the oldest first; nothing where there is none.

    Raises:
        StorageError: when it is damaged, or of a newer format.
    """
    path = folder / COMMITS
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != "mlmd-exchange":
            raise ValueError("it is of something else")
        if content["version"] != 1:
            raise StorageError(f"{path} has format {content['version']}; this mlmd reads 1. Install a newer mlmd.")
        return [
            Commit(int(one["exchanges"]), tuple(one["walkers"]), dict(one["checkpoints"]), dict(one["files"]))
            for one in content["commits"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is damaged ({type(error).__name__}: {error}): it says which checkpoints hold together. Restore it "
            "from a backup, or give another --out."
        ) from None


def write_commits(folder: Path, commits: Sequence[Commit]) -> None:
    """Replace exchange.json in one atomic step."""
    entries = [
        {"exchanges": one.n_done, "walkers": list(one.walkers), "checkpoints": one.saved, "files": one.files}
        for one in commits
    ]
    content = {"format": "mlmd-exchange", "version": 1, "commits": entries}
    write_atomically(folder / COMMITS, json.dumps(content, indent=1).encode())
