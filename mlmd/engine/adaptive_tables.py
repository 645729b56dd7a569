"""What an adaptive biasing force has collected, in files: the newest table, and all at intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mlmd import units
from mlmd.analysis.abf import AdaptiveForces, Axis, write_table
from mlmd.bias.extended import ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.engine.biases import Adaptive
from mlmd.rundir import StageRecord


class AdaptiveTables:
    """The files of an ABF in one stage."""

    def __init__(self, folder: Path, adaptive: Adaptive, record: StageRecord, start: float) -> None:
        """`start` is the time (fs) at which the stage begins."""
        self._newest, self._history = folder / adaptive.newest, folder / adaptive.history
        self._record, self._start = record, start
        self._every = max(1, round(adaptive.table.write_every / record.timestep))

    def add(self, abf: ExtendedABF | PlainABF, step: int) -> None:
        """Add a table to the history where one is due."""
        if step > 0 and step % self._every == 0:
            with self._history.open("a") as file:
                file.write(self._table(abf, step, only_sampled=True))

    def renew(self, abf: ExtendedABF | PlainABF) -> None:
        """Write the newest table."""
        if abf.last_step < 0:
            return
        temporary = self._newest.with_name(self._newest.name + ".tmp")
        temporary.write_text(self._table(abf, abf.last_step, only_sampled=False))
        temporary.replace(self._newest)

    def _table(self, abf: ExtendedABF | PlainABF, step: int, *, only_sampled: bool) -> str:
        time = self._start + (step - self._record.first_step) * self._record.timestep
        return write_table(collected(abf, step, time), only_sampled=only_sampled)


def collected(abf: ExtendedABF | PlainABF, step: int, time: float) -> AdaptiveForces:
    """What an ABF has collected, in units for people; `time` in fs."""
    sizes = np.array([one.unit_size for one in abf.dimensions])
    axes = tuple(
        Axis(d.label, d.unit, _neat(d.minimum / d.unit_size), _neat(d.maximum / d.unit_size), d.n_bins, d.whole)
        for d in abf.dimensions
    )
    scale = (units.EV_PER_KJMOL * sizes).reshape(-1, *[1] * len(axes))
    true = abf.true_bins if isinstance(abf, ExtendedABF) else abf.bins
    found = AdaptiveForces(
        axes, abf.temperature, step, time, true.counts.reshape(true.shape).copy(), true.means() * scale
    )
    if not isinstance(abf, ExtendedABF):
        return found
    bins = abf.bins
    return replace(found, extended=bins.counts.reshape(bins.shape).copy(), extended_forces=bins.means() * scale)


def _neat(value: float) -> float:
    """A number without the last digits, which a change of units has left."""
    return float(f"{value:.12g}")
