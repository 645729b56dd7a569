"""Several contexts that take turns in one process, each with its own random numbers.

OpenMM's Reference platform has one generator for the whole process: it is seeded by the context that was made last, and
every context that goes on takes numbers from it. What one replica feels would then depend on when others go on, and a
checkpoint would hold the numbers of another. So the state of the generator is put away with each context that rests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from mlmd.bias.plumed import working_in

if TYPE_CHECKING:
    import openmm

    from mlmd.engine.course import Course

ONE_GENERATOR = ("Reference", "CPU")
"""Platforms whose contexts share it."""


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._now: Course | None = None
        self._resting: dict[str, bytes] = {}
        """OpenMM's checkpoint of each context that rests, by the folder of its run."""

    @contextmanager
    def of(self, course: Course) -> Iterator[None]:
        """Let a replica do something, in its folder, where PLUMED opens its files, and with its random numbers."""
        before = self._now
        self._change(course)
        try:
            with working_in(course.folder) if course.job.scripts else nullcontext():
                yield
        finally:
            if before is not None:
                self._change(before)

    def _change(self, course: Course) -> None:
        """Put away the random numbers of one, and take out those of another."""
        if course is self._now:
            return
        if self._now is not None and (context := _context_of(self._now)) is not None:
            self._resting[self._now.folder.name] = context.createCheckpoint()
        self._now = course
        resting, context = self._resting.pop(course.folder.name, None), _context_of(course)
        if resting is not None and context is not None:
            _take_random_state(context, resting)


def _context_of(course: Course) -> openmm.Context | None:
    """The context of the stage that goes on, where it shares its generator with others."""
    stage = course.open_stage
    if stage is None or stage.context.getPlatform().getName() not in ONE_GENERATOR:
        return None
    return stage.context


def _take_random_state(context: openmm.Context, checkpoint: bytes) -> None:
    """Take the random numbers out of a checkpoint of OpenMM's; positions, velocities and cell stay what they are."""
    state = context.getState(positions=True, velocities=True)
    context.loadCheckpoint(checkpoint)
    context.setPeriodicBoxVectors(*state.getPeriodicBoxVectors())
    context.setPositions(state.getPositions(asNumpy=True))
    context.setVelocities(state.getVelocities(asNumpy=True))
