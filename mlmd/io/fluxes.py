"""fluxes.csv of a run, or a file with such columns, as series at equal intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.errors import InputError
from mlmd.io.frames import Provenance
from mlmd.io.log import read_log
from mlmd.io.trajectories import bias_of
from mlmd.rundir import FLUXES, Run, StageRecord, open_run

EVEN = 1e-3
"""Of the interval: how much times may differ from equal distances, which a file in ps with a few digits does."""


@dataclass(frozen=True)
class FluxSeries:
    """Fluxes of one system at equal intervals, in equilibrium."""

    columns: dict[str, np.ndarray]
    """(n_times,) each, by the names with units."""
    temperature: float
    """K, mean."""
    volume: float
    """Å³, mean."""
    provenance: Provenance

    def __getitem__(self, names: Sequence[str]) -> np.ndarray:
        """(n_names, n_times) of some columns.

        Raises:
            InputError: when one is not there.
        """
        absent = [name for name in names if name not in self.columns]
        if absent:
            raise InputError(
                f'{self.provenance.path} has no "{absent[0]}". Write it in a run: [output] fluxes with every = "5 fs".'
            )
        return np.stack([self.columns[name] for name in names])


def read_fluxes(
    path: Run | Path | str, stage: int | None = None, first_time: float | None = None, last_time: float | None = None
) -> FluxSeries:
    """The fluxes of one stage of a run, or of a file.

    Args:
        path: a run folder, or a CSV file with the columns of fluxes.csv: at least ``time [ps]``, ``temperature [K]``,
            ``volume [Å^3]`` and the fluxes.
        stage: number of the stage, counted from 1; by default the last one that has fluxes.
        first_time, last_time: fs since the beginning of the run; by default all.

    Raises:
        InputError: when there are no fluxes, the stage is not in equilibrium (its targets change, replicas exchange),
            or times are not at equal intervals.
        StorageError: when a file cannot be read.
    """
    if isinstance(path, str | Path) and Path(path).is_file():
        return _series(_of_file(read_log(Path(path)), path, stage), str(path), None, None, first_time, last_time)
    run = path if isinstance(path, Run) else open_run(path)
    if not (run.path / FLUXES).exists():
        raise InputError(
            f"{run.path} has no {FLUXES}: fluxes have to be written while a run goes on, since frames come too rarely. "
            'Run with [output] fluxes = ["stress"] (or "heat", "current") and every = "5 fs".'
        )
    table = read_log(run.path / FLUXES)
    written = np.unique(table["stage"]).astype(int)
    if not len(written):
        raise InputError(f"{run.path}: {FLUXES} has no line yet.")
    number = int(written[-1]) if stage is None else stage
    if number not in written:
        raise InputError(f"{run.path}: stage {number} has no fluxes. Stages that have: {', '.join(map(str, written))}.")
    record = run.stages[number - 1]
    if record.ramped:
        raise InputError(
            f"{run.path}: the targets of stage {number} ({record.kind}) change, and a Green-Kubo integral is of one "
            "state in equilibrium. Add a stage that stays there, and choose it with --stage."
        )
    if record.index in run.manifest.get("exchange", {}).get("stages", ()):
        raise InputError(
            f"{run.path}: replicas exchange in stage {number}, and a flux that jumps has no correlation in time. Add a "
            "stage without exchanges."
        )
    own = table["stage"] == number
    return _series(
        {name: values[own] for name, values in table.items()}, str(run.path), run, record, first_time, last_time
    )


def _of_file(table: dict[str, np.ndarray], path: Path | str, stage: int | None) -> dict[str, np.ndarray]:
    """The lines of one stage, where a file has several: the last unless another is asked for."""
    stages = table.get("stage")
    if stages is None or not len(stages):
        if stage is not None:
            raise InputError(f"{path} has no column of stages. Leave --stage out, or choose with --from and --to.")
        return table
    number = int(stages[-1]) if stage is None else stage
    own = stages == number
    if not own.any():
        there = ", ".join(f"{n:g}" for n in np.unique(stages))
        raise InputError(f"{path}: stage {number} has no lines. There are {there}.")
    return {name: values[own] for name, values in table.items()}


def _series(
    table: dict[str, np.ndarray], path: str, run: Run | None, record: StageRecord | None, first_time: float | None,
    last_time: float | None,
) -> FluxSeries:  # fmt: skip
    missing = [name for name in ("time [ps]", "temperature [K]", "volume [Å^3]") if name not in table]
    if missing:
        raise InputError(f'{path} has no column "{missing[0]}", which a file of fluxes needs.')
    times = 1e3 * table["time [ps]"]
    inside = (times >= (-np.inf if first_time is None else first_time)) & (
        times <= (np.inf if last_time is None else last_time)
    )
    times = times[inside]
    if len(times) < 3:
        raise InputError(f"{path}: {len(times)} lines of fluxes lie between --from and --to; more are needed.")
    intervals = np.diff(times)
    interval = float((times[-1] - times[0]) / (len(times) - 1))
    if not (intervals > 0.0).all() or np.abs(intervals - interval).max() > max(EVEN * interval, 1e-9 * times[-1]):
        raise InputError(f"{path}: times are not at equal intervals, which a spectrum needs.")
    origin = Provenance(
        path, None if record is None else record.index + 1, None if record is None else record.kind, float(times[0]),
        float(times[-1]), interval, len(times), None if run is None or record is None else bias_of(run, record),
        scale=None if run is None else run.manifest.get("input", {}).get("scale"),
    )  # fmt: skip
    columns = {name: values[inside] for name, values in table.items()}
    return FluxSeries(columns, float(columns["temperature [K]"].mean()), float(columns["volume [Å^3]"].mean()), origin)
