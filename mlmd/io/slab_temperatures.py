"""temperatures.csv of a run in which heat is exchanged between slabs of atoms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.config.heat import HeatExchange
from mlmd.errors import InputError
from mlmd.io.frames import Provenance
from mlmd.io.log import read_log
from mlmd.io.trajectories import bias_of
from mlmd.rundir import TEMPERATURES, Run, open_run


@dataclass(frozen=True)
class SlabTemperatures:
    """Kinetic energies of slabs along an axis, in time; the first slab gets heat, the middle one loses it."""

    axis: str
    power: float
    """eV/fs, from the cold slab to the hot one."""
    length: float
    """Å, of the cell along the axis."""
    area: float
    """Å², of its face across."""
    kinetic: np.ndarray
    """(n_times, n_slabs) eV, of atoms that move."""
    counts: np.ndarray
    """(n_times, n_slabs) of them."""
    provenance: Provenance


def read_slabs(
    path: Run | Path | str, stage: int | None = None, first_time: float | None = None, last_time: float | None = None
) -> SlabTemperatures:
    """The temperatures of slabs in one stage of a run.

    Args:
        path: a run folder.
        stage: number of the stage, counted from 1; by default the last that exchanges heat.
        first_time, last_time: fs since the beginning of the run; by default all.

    Raises:
        InputError: when no heat was exchanged, or fewer than two lines lie between the times.
        StorageError: when a file cannot be read.
    """
    run = path if isinstance(path, Run) else open_run(path)
    tables = {
        number: table["heat_exchange"]
        for number, table in enumerate(run.manifest.get("input", {}).get("stage", ()), 1)
        if table.get("heat_exchange")
    }
    if not tables:
        raise InputError(
            f"{run.path}: no stage exchanges heat, and there is no flow to divide by a gradient. Run nve with "
            'heat_exchange = { power = "0.1 eV/ps" }, or see thermal-conductivity, which is of equilibrium.'
        )
    number = max(tables) if stage is None else stage
    if number not in tables:
        there = ", ".join(map(str, tables))
        raise InputError(f"{run.path}: stage {number} exchanges no heat. Stages that do: {there}.")
    file = run.path / TEMPERATURES
    log = read_log(file) if file.exists() else {"stage": np.zeros(0), "time [ps]": np.zeros(0)}
    times = 1e3 * log["time [ps]"]
    low, high = (-np.inf if first_time is None else first_time), (np.inf if last_time is None else last_time)
    inside = (log["stage"] == number) & (times >= low) & (times <= high)
    if inside.sum() < 2:
        raise InputError(
            f"{run.path}: {int(inside.sum())} lines of {TEMPERATURES} are of stage {number} and between --from and "
            "--to; more are needed. Wait for the run, or choose other times."
        )
    exchange, record = HeatExchange.model_validate(tables[number]), run.stages[number - 1]
    times, rows = times[inside], {name: values[inside] for name, values in log.items()}
    kinetic, counts = (
        np.stack([rows[name.format(k)] for k in range(exchange.slabs)], axis=1)
        for name in ("kinetic energy {} [eV]", "atoms {}")
    )
    origin = Provenance(
        str(run.path), number, record.kind, float(times[0]), float(times[-1]), float(times[1] - times[0]), len(times),
        bias_of(run, record), scale=run.manifest.get("input", {}).get("scale"),
    )  # fmt: skip
    length, area = float(rows["length [Å]"][0]), float(rows["area [Å^2]"][0])
    return SlabTemperatures(exchange.axis, exchange.power, length, area, kinetic, counts, origin)
