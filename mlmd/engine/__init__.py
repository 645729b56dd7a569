"""The engine: from an input file to a run folder that is continued exactly. OpenMM and LAMMPS are only here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlmd.engine.observe import Moment
    from mlmd.engine.outputs import Log, Trajectory
    from mlmd.engine.stage import Particles


class Engine(Protocol):
    """What carries a stage of dynamics out.

    `mlmd.engine.stage.DynamicsStage` does it with OpenMM, `mlmd.engine.lammps.stage.SharedStage` with the processes of
    mpirun, `mlmd.engine.native.stage.NativeStage` in the compiled library. Whatever engine it is, input, run folder,
    log and checkpoints are the same.
    """

    step: int
    """Steps done in this stage."""

    def run(
        self, log: Log, trajectory: Trajectory, *, pause: Callable[[], None], progress: Callable[[Moment], None]
    ) -> None:
        """Go on to the end of the stage; `pause` makes checkpoints and ends the run by raising."""
        ...

    def particles(self) -> Particles:
        """Where everything is now, for the stage that follows."""
        ...
