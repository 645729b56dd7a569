"""What may end a stage before its last step: a quantity that is known well enough, or an action of PLUMED.

Both look at steps that nothing but the input decides, at what the run has done until then, so that a run that was
killed ends where one would that was not. The checkpoint of the last step says that the stage has ended; run.json is
told of it afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlmd.analysis.precision import Known, precision_of
from mlmd.bias import Bias
from mlmd.bias.adaptive import plumed_of
from mlmd.bias.plumed import PlumedBias
from mlmd.bias.script import Script
from mlmd.bias.statement import Statement
from mlmd.bias.written import flush
from mlmd.config import Simulate
from mlmd.config.ending import stop_of
from mlmd.config.stop import Stop, look_before, next_look
from mlmd.engine.checkpoint import Checkpoint
from mlmd.engine.folder import holds
from mlmd.engine.stage import DynamicsStage, Look
from mlmd.engine.stage_files import StageFiles
from mlmd.engine.system import PS
from mlmd.rundir import End, Run, StageRecord, with_ends, with_stages

Ends = dict[int, End]
"""Index of a stage -> how it has ended, of those in which something looked for a reason."""
ENDS = "ends"
"""Key of the header of a checkpoint."""
_COMMITTED = re.compile(r"SET COMMITTED TO BASIN\s+(\d+)")


def ends_in(saved: Checkpoint | None, planned: Sequence[StageRecord], config: Simulate) -> Ends:
    """How stages had ended at a checkpoint, as far as that still holds.

    Args:
        saved: the checkpoint.
        planned: all stages as the input has them.
        config: the input, whose last stage may be longer now, or be to know more.
    """
    told: Mapping[str, Mapping[str, Any]] = {} if saved is None else saved.header.get(ENDS, {})
    found = {int(index): End(**end) for index, end in told.items()}
    return {n: end for n, end in found.items() if holds(end, planned[n].n_steps, stop_of(config, n))}


def with_told(run: Run, planned: Sequence[StageRecord], ends: Ends) -> Run:
    """The run whose manifest tells how stages have ended, as a checkpoint has; `planned` is what the input asks for."""
    stages = with_ends(planned, ends)
    return run if stages == run.stages else with_stages(run, stages)


def as_header(ends: Ends) -> dict[str, Any]:
    """What `ends_in` reads; nothing where no stage has ended."""
    return {ENDS: {str(index): asdict(end) for index, end in ends.items()}} if ends else {}


def early_end(
    run: Run, config: Simulate, record: StageRecord, bias: Bias | None, files: StageFiles, tell: Callable[[str], None]
) -> EarlyEnd | None:
    """What may end a stage; None where nothing does.

    Args:
        run: its folder.
        config: the input.
        record: of the stage, as planned.
        bias: of the stage.
        files: of the stage, open.
        tell: called with what was found.
    """
    plumed, stop = plumed_of(bias), stop_of(config, record.index)
    looks: list[_Flag | _Precision] = []
    if plumed is not None:
        looks.append(_Flag(plumed, record, run.path))
    if stop is not None:
        looks.append(_Precision(run, config, record, stop, files, tell))
    return EarlyEnd(looks) if looks else None


class EarlyEnd(Look):
    """Looks whether a stage has a reason to end."""

    def __init__(self, looks: Sequence[_Flag | _Precision]) -> None:
        self._looks = looks
        self.end: End | None = None
        """How it has ended."""

    def next_look(self, step: int) -> int:
        """The next step at which there is something to look at."""
        return min(one.next_look(step) for one in self._looks)

    def look(self, stage: DynamicsStage) -> bool:
        """Whether the stage ends at this step."""
        for one in self._looks:
            self.end = self.end or one.look(stage)
        return self.end is not None


@dataclass(frozen=True)
class _Flag:
    """The flag by which actions of PLUMED, COMMITTOR above all, ask a program to end."""

    plumed: PlumedBias
    record: StageRecord
    folder: Path

    def next_look(self, step: int) -> int:
        """The next multiple of a STRIDE of COMMITTOR, which PLUMED counts from the beginning of the run."""
        at = self.record.first_step + step
        due = (at + stride - at % stride for stride in strides_of(self.plumed.script))
        return min((one - self.record.first_step for one in due), default=self.record.n_steps)

    def look(self, stage: DynamicsStage) -> End | None:
        """How the stage ends here; PLUMED raises its flag as a step ends."""
        if any(stage.global_step % stride == 0 for stride in strides_of(self.plumed.script)):
            stage.answer()
            stage.forces.finish_step()
            flush()
        if not self.plumed.stopped:
            return None
        why = f"{_who(self.plumed.script)} of {self.plumed.name} asks to end here{self._basin()}"
        return End(stage.step, self.record.n_steps, why)

    def _basin(self) -> str:
        """Which basin it is, where COMMITTOR has told a file."""
        names = [name for one in _committors(self.plumed.script) for name in one.values("FILE")]
        texts = (path.read_text(errors="replace") for name in names if (path := self.folder / name).is_file())
        found = [match for text in texts for match in _COMMITTED.findall(text)]
        return f", in basin {found[-1]}" if found else ""


def strides_of(script: Script) -> tuple[int, ...]:
    """Steps between looks of each COMMITTOR that ends a run."""
    return tuple(max(1, int((one.values("STRIDE") or ["1"])[0])) for one in _committors(script))


def _committors(script: Script) -> list[Statement]:
    """Every COMMITTOR that ends a run."""
    committors = (one for one in script.statements if one.action == "COMMITTOR")
    return [one for one in committors if "NOSTOP" not in map(str.upper, one.words)]


def _who(script: Script) -> str:
    found = _committors(script)
    return f"COMMITTOR (line {found[0].line})" if len(found) == 1 else "COMMITTOR" if found else "an action"


@dataclass(frozen=True)
class _Precision:
    """Looks at the error of a quantity, at times that grow geometrically."""

    run: Run
    config: Simulate
    record: StageRecord
    stop: Stop
    files: StageFiles
    tell: Callable[[str], None]

    @property
    def _every(self) -> int:
        return self.record.log_every if self.stop.in_log else self.record.trajectory_every

    def next_look(self, step: int) -> int:
        """The next step at which the error is looked at."""
        return min(next_look(step // self._every) * self._every, self.record.n_steps)

    def look(self, stage: DynamicsStage) -> End | None:
        """How the stage ends here, if it is a step at which the error is looked at."""
        ended, n = stage.step == self.record.n_steps, stage.step // self._every
        due = stage.step % self._every == 0 and next_look(n - 1) == n
        if not (due or ended):
            return None
        for file in (self.files.log, self.files.trajectory):
            if file is not None:
                file.commit()  # what is read again
        known, time = self._known(stage.time), stage.step * self.record.timestep
        good, before = due and known.good(self.stop.relative_error), look_before(n)
        reached = None
        if good and before is not None:
            # by chance an error is small at one look: the one before has to agree, as it would have been seen there
            earlier = self._known(stage.time - (n - before) * self._every * self.record.timestep)
            if earlier.good(self.stop.relative_error):
                reached = max(known.relative_error, earlier.relative_error)
        words = f"stage {self.record.index + 1} ({self.record.kind}): after {time / PS:g} ps {known}"
        if reached is not None:
            why = f"{known}, of {self.stop.relative_error:.2g} that were asked for; {_length(time)} were needed"
        elif ended:
            why = (
                f"its duration is over, {_length(time)}; {known}, where {self.stop.relative_error:.2g} was asked for"
                f"{_left(known, self.stop.relative_error, time)}"
            )
        else:
            more = "; the next look has to find the same" if good else _left(known, self.stop.relative_error, time)
            self.tell(words + more)
            return None
        return End(stage.step, self.record.n_steps, why, self.stop.quantity, reached)

    def _known(self, time: float) -> Known:
        """What is known at a time, in fs since the beginning of the run."""
        table = self.config.analysis
        return precision_of(
            self.run, self.record.index + 1, time, self.stop,
            charges={} if table is None else table.charges, drift="cell" if table is None else table.drift,
        )  # fmt: skip


def _left(known: Known, asked: float, time: float) -> str:
    """How much longer it takes, as errors fall with the square root of time."""
    if not math.isfinite(known.relative_error):
        return ""
    more = time * ((known.relative_error / asked) ** 2 - 1.0)
    return f"; about {_length(more)} more until {asked:.2g}" if more > 0.0 else ""


def _length(time: float) -> str:
    """fs as ns, or as ps where that is short."""
    return f"{time * 1e-6:.3g} ns" if time >= 1e5 else f"{time / PS:.3g} ps"
