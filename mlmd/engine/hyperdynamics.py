"""Hyperdynamics in a run: whose bonds are boosted, quenches by the run's own potential, and what is written of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mlmd.bias import Bias
from mlmd.bias.hyperdynamics import BondBoost, Event
from mlmd.config import Minimize, Simulate
from mlmd.config.hyperdynamics import Hyperdynamics
from mlmd.config.stages import hyperdynamics_of
from mlmd.engine.minimize import minimize
from mlmd.engine.outputs import AppendOnly
from mlmd.engine.system import PS, Body
from mlmd.errors import InputError, did_you_mean
from mlmd.potentials import Evaluator
from mlmd.rundir import HYPER, StageRecord

HYPER_COLUMNS = ("hypertime [ps]", "boost")
"""Columns of the log: the clock since hyperdynamics began, and what it is of the time of the dynamics."""
HEADER = "step,time [ps],hypertime [ps],boost,event,atoms,distance [Å],bond,strain\n"


def boosts_of(config: Simulate, atoms: ase.Atoms, mobile: np.ndarray) -> dict[int, np.ndarray]:
    """Whose bonds are boosted, (n_atoms,) bool for each stage of hyperdynamics; `mobile` likewise.

    Raises:
        InputError: for atoms that are not there or do not move, and with a force field.
    """
    found = {}
    for index, stage in enumerate(config.stage):
        if (table := hyperdynamics_of(stage)) is not None:
            place = f"stage {index + 1} ({stage.kind}): hyperdynamics"
            if config.mlmm is not None:
                raise InputError(f"{place}: a force field with fixed bonds ([mlmm]) cannot be quenched and boosted.")
            found[index] = _boosted(table, atoms, mobile, place)
    return found


def _boosted(table: Hyperdynamics, atoms: ase.Atoms, mobile: np.ndarray, place: str) -> np.ndarray:
    chosen = np.ones(len(atoms), bool)
    for symbol in table.elements:
        if symbol not in atoms.symbols:
            known = did_you_mean(symbol, set(atoms.symbols))
            raise InputError(f"{place}: elements: the structure has no {symbol}. {known}")
    if table.elements:
        chosen = np.isin(np.array(atoms.get_chemical_symbols()), table.elements)
    if table.atoms:
        if max(table.atoms) >= len(atoms):
            raise InputError(
                f"{place}: atoms: there is no atom {max(table.atoms)}: the structure has {len(atoms)}, counted from 0."
            )
        chosen = np.isin(np.arange(len(atoms)), table.atoms)
    if not (chosen & mobile).any():
        raise InputError(f"{place}: every atom it selects is frozen. Select some that move.")
    boosted: np.ndarray = chosen & mobile
    return boosted


def start_boost(
    table: Hyperdynamics,
    boosted: np.ndarray,
    record: StageRecord,
    body: Body,
    evaluator: Evaluator,
    cell: np.ndarray,
    tell: Callable[[str], None],
    start: float = 0.0,
) -> StageBoost:
    """The bias of a stage.

    Args:
        table: of the input.
        boosted: (n_atoms,) bool.
        record: of the stage.
        body: what moves.
        evaluator: of the run; its pair list is after a quench what it was before.
        cell: (3, 3) Å in the engine's frame, which stays.
        tell: called with what a person should know.
        start: fs, at which the stage begins.
    """
    assert record.temperature is not None
    options = Minimize(max_force=table.quench_force, max_steps=table.quench_steps)
    told = False

    def quench(positions: np.ndarray) -> np.ndarray:
        nonlocal told
        kept = evaluator.state()
        system = ase.Atoms(body.numbers, positions, cell=cell, pbc=body.pbc)
        minimum = minimize(options, evaluator, system, body.mobile)
        evaluator.restore(kept)
        if not minimum.converged and not told:
            told = True
            tell(
                f"hyperdynamics: a quench did not converge in {minimum.n_steps} steps: the largest force is "
                f"{minimum.max_force:.3g} eV/Å. Raise quench_steps or quench_force."
            )
        return minimum.positions

    return StageBoost(
        record, start,
        cutbond=table.cutbond, q=table.q, vmax=table.vmax, temperature=record.temperature[0],
        timestep=record.timestep, boosted=boosted, quench=quench,
        quench_every=max(1, round(table.quench_every / record.timestep)), event_distance=table.event_distance,
        first_step=record.first_step,
    )  # fmt: skip


class Events(AppendOnly):
    """hyper.csv: a row for every event; atoms are counted from 0, the farthest first, and a bond is two of them."""

    def header(self) -> bytes:
        """Names with units."""
        return HEADER.encode()

    def row(self, event: Event, time: float) -> None:
        """Add an event that was seen at a time (fs)."""
        i, j = event.bond
        words = [
            str(event.step), f"{time / PS:.15g}", f"{event.hypertime / PS:.15g}", f"{event.boost:.10g}",
            str(event.number), " ".join(map(str, event.atoms)), f"{event.distance:.6g}", f"{i}-{j}",
            f"{event.strain:.6g}",
        ]  # fmt: skip
        self.append((",".join(words) + "\n").encode())
        self._file.flush()


class StageBoost(BondBoost, Bias):
    """The boost as the bias of a stage, which writes its events into the run folder."""

    def __init__(self, stage: StageRecord, start: float, **options: Any) -> None:
        """The stage begins at the time `start` (fs); `options` are those of `BondBoost`."""
        super().__init__(**options)
        self.name, self.restarted = "hyperdynamics", False
        self._stage, self._start = stage, start
        self._events: Events | None = None

    def begins(self) -> str:
        """How much there is to watch."""
        return f"hyperdynamics: {self.n_bonds:,} bonds of the quenched state are watched"

    def measures(self, step: int) -> Mapping[str, float]:
        """What stands in `HYPER_COLUMNS`."""
        return dict(zip(HYPER_COLUMNS, (self.hypertime(step) / PS, self.mean_boost(step)), strict=True))

    def ends(self, step: int) -> str:
        """The clock, and how many events there were."""
        return (
            f"hyperdynamics: {self.hypertime(step) / PS:.6g} ps until here, a boost of {self.mean_boost(step):.4g}; "
            f"events in {HYPER}: {self.n_events}"
        )

    def open(self, folder: Path, step: int) -> None:
        """Write events into their file from now on."""
        self._events, self.record = Events(folder / HYPER), self._write

    def _write(self, event: Event) -> None:
        assert self._events is not None
        self._events.row(event, self._start + (event.step - self._stage.first_step) * self._stage.timestep)

    def commit(self) -> None:
        """Make the events durable."""
        if self._events is not None:
            self._events.commit()

    def finish(self, step: int) -> None:
        """An event is written when it is seen, and nothing is left to do."""

    def close(self) -> None:
        """Close the file of events."""
        if self._events is not None:
            self._events.close()
