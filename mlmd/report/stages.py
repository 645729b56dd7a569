"""The table of stages: what each was to hold, how long, and the means of the log with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmd.analysis.estimate import average
from mlmd.report.course import Log, n_atoms
from mlmd.rundir import Run, StageRecord, describe_targets

_OF_STAGES = {
    "temperature (K)": "temperature [K]",
    "potential energy (eV/atom)": "potential energy [eV]",
    "pressure (bar)": "pressure [bar]",
    "volume (Å³)": "volume [Å^3]",
}
"""Columns of the table of stages, and those of the log whose means they are."""
_DRIFT = "energy drift (meV/atom/ns)"


@dataclass(frozen=True)
class Table:
    """Words and numbers as they are shown."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def stage_table(run: Run, log: Log) -> Table:
    """One line for each stage; means of those whose target is constant."""
    shown = {
        name: column for name, column in _OF_STAGES.items() if not log or np.isfinite(log.get(column, np.nan)).any()
    }
    conserves = any(stage.kind == "nve" for stage in run.stages)
    drift = (_DRIFT,) if conserves and (not log or "energy per atom [eV]" in log) else ()
    rows = (_stage_row(number, stage, log, run, shown, drift) for number, stage in enumerate(run.stages, 1))
    return Table(("stage", "target", "time (ps)", *shown, *drift), tuple(rows))


def _stage_row(
    number: int, stage: StageRecord, log: Log, run: Run, shown: Mapping[str, str], drift: Sequence[str]
) -> tuple[str, ...]:
    """A stage with the means of what is shown of its log."""
    duration = f"{stage.n_steps * stage.timestep / 1e3:,.6g}" if stage.n_steps else "–"
    if stage.end is not None and stage.end.early:
        duration += f" of {stage.planned * stage.timestep / 1e3:,.6g}"
    first = (f"{number} {stage.kind}", target_of(stage), duration)
    rows = log["stage"] == stage.index + 1 if log else np.zeros(0, bool)
    if rows.sum() < 2 or stage.ramped:
        return (*first, *["–"] * (len(shown) + len(drift)))
    sizes = {name: n_atoms(run, log)[rows] if name.endswith("(eV/atom)") else 1 for name in shown}
    means = (_mean(log[column][rows] / sizes[name]) for name, column in shown.items())
    return (*first, *means, *(_energy_drift(stage, log, rows) for _ in drift))


def _mean(column: np.ndarray) -> str:
    mean = average(column, "")
    return str(mean) if mean.determined else "–"


def target_of(stage: StageRecord) -> str:
    """What a stage was to hold, in words."""
    told = ((stage.temperature, "K"), (stage.pressure, "bar"))
    texts = [f"{describe_targets(targets, ' → ')} {unit}" for targets, unit in told if targets is not None]
    return ", ".join(texts) or "–"


def _energy_drift(stage: StageRecord, log: Log, rows: np.ndarray) -> str:
    """Slope of the total energy where it is to be conserved."""
    if stage.kind != "nve":
        return "–"
    slope = np.polyfit(log["time [ps]"][rows] / 1e3, 1e3 * log["energy per atom [eV]"][rows], 1)[0]
    return f"{slope:+.2g}"
