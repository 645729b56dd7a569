"""Hyperdynamics in a run: whose bonds are boosted, quenches by the run's own potential, and what is written of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ase
import numpy as np

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

if TYPE_CHECKING:
    from mlmd.engine.biases import AnyBias

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
) -> BondBoost:
    """The bias of a stage.

    Args:
        table: of the input.
        boosted: (n_atoms,) bool.
        record: of the stage.
        body: what moves.
        evaluator: of the run; its pair list is after a quench what it was before.
        cell: (3, 3) Å in the engine's frame, which stays.
        tell: called with what a person should know.
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

    return BondBoost(
        cutbond=table.cutbond, q=table.q, vmax=table.vmax, temperature=record.temperature[0],
        timestep=record.timestep, boosted=boosted, quench=quench,
        quench_every=max(1, round(table.quench_every / record.timestep)), event_distance=table.event_distance,
        first_step=record.first_step,
    )  # fmt: skip


class Events(AppendOnly):
    """hyper.csv: a row for every event; atoms are counted from 0, the farthest first, and a bond is two of them."""

    @classmethod
    def of(cls, boost: BondBoost, folder: Path, start: float, record: StageRecord) -> Events:
        """The file, into which a boost writes from now on; its stage begins at the time `start` (fs)."""
        events = cls(folder / HYPER)

        def write(event: Event) -> None:
            events.row(event, start + (event.step - record.first_step) * record.timestep)

        boost.record = write
        return events

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


def boosted_row(bias: AnyBias | None, step: int) -> list[float]:
    """What stands in `HYPER_COLUMNS` at a global step."""
    if not isinstance(bias, BondBoost):
        return [float("nan")] * len(HYPER_COLUMNS)
    return [bias.hypertime(step) / PS, bias.mean_boost(step)]


def summary_of(boost: BondBoost, step: int) -> str:
    """A stage that has ended at a global step, in words."""
    return (
        f"hyperdynamics: {boost.hypertime(step) / PS:.6g} ps until here, a boost of {boost.mean_boost(step):.4g}; "
        f"events in {HYPER}: {boost.n_events}"
    )
