"""What a run asks of those with which it exchanges configurations; `mlmd.engine.together` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.stage import Look
from mlmd.rundir import StageRecord

if TYPE_CHECKING:
    from mlmd.engine.course import Course


class Ring(Look, Protocol):
    """What several courses have in common that exchange with each other."""

    def load(self, course: Course) -> Checkpoint | None:
        """Where a course goes on."""
        ...

    def waits(self, record: StageRecord, step: int) -> bool:
        """Whether an exchange is due at a step of a stage before a course goes on."""
        ...

    def pause(self, *, ended: bool) -> None:
        """Make checkpoints of all courses where they are due, and stop where that is asked for."""
        ...

    def commit(self) -> None:
        """Make checkpoints of all courses that have moved, which hold together."""
        ...

    @property
    def n_done(self) -> int:
        """Exchanges so far."""
        ...
