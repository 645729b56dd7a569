"""The biases of a run: scripts that users give and that mlmd writes, set in motion for a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from mlmd import units
from mlmd.analysis.abf import AdaptiveForces, Axis, write_table
from mlmd.bias.adaptive import ExtendedBias, PlainBias
from mlmd.bias.bins import Dimension
from mlmd.bias.extended import ExtendedABF
from mlmd.bias.hyperdynamics import BondBoost
from mlmd.bias.plain import PlainABF
from mlmd.bias.plumed import PlumedBias
from mlmd.bias.script import Script, read_script
from mlmd.bias.write import Around, BiasFile, statements_of, write_biases
from mlmd.config import Langevin, Rerun, Simulate
from mlmd.config.bias import ABF, files_of_biases, names_a_position
from mlmd.config.files import no_such_file, structure_file
from mlmd.config.stages import Dynamics, hyperdynamics_of
from mlmd.config.variables import sites_of
from mlmd.engine.frame import frame_of
from mlmd.errors import InputError
from mlmd.io.structures import read_structure
from mlmd.rundir import StageRecord

if TYPE_CHECKING:
    from mlmd.engine.system import Body

NEWEST = "abf{}.dat"
HISTORY = "abf{}_history.dat"
_PAPERS = {
    True: (
        "Fiorin, Klein, and Hénin, Mol. Phys. 111, 3345 (2013)",
        "Lesage, Lelièvre, Stoltz, and Hénin, J. Phys. Chem. B 121, 3676 (2017)",
    ),
    False: ("Darve, Rodríguez-Gómez, and Pohorille, J. Chem. Phys. 128, 144120 (2008)",),
}
"""Whether a variable is extended -> what to cite for it."""
FRICTION = 1e-3
"""1/fs, of an extended variable in a stage whose thermostat has no friction."""
PERIOD, STEPS_OF_PERIOD = 200.0, 20
"""fs and timesteps: the shortest usual period of an extended variable."""


@dataclass(frozen=True)
class Adaptive:
    """An ABF of a stage: its table in the input, and what it stands for."""

    table: ABF
    dimensions: tuple[Dimension, ...]
    variables: str
    """The lines of bias.dat that define them."""
    newest: str
    history: str
    """Names of its files."""


def papers_of(adaptive: Adaptive | None) -> tuple[str, ...]:
    """What to cite for an ABF."""
    return () if adaptive is None else _PAPERS[adaptive.table.extended]


AnyBias = PlumedBias | ExtendedBias | PlainBias | BondBoost


def scripts_of(
    config: Simulate, records: Sequence[StageRecord], atoms: ase.Atoms
) -> tuple[dict[int, Script], dict[int, Adaptive]]:
    """PLUMED scripts of the stages that have one, and ABFs of those that have one.

    Two stages with the same biases have the same script, which goes on from one to the other.

    Raises:
        InputError: for scripts that cannot be read, and biases that the structure or the script does not allow.
    """
    own = {
        index: read_script(stage.plumed.file, allow_unsafe=stage.plumed.allow_unsafe)
        for index, stage in enumerate(config.stage)
        if isinstance(stage, Dynamics | Rerun) and stage.plumed is not None
    }
    taken = frozenset(name for script in own.values() for name in script.touches)
    scripts: dict[int, Script] = dict(own)
    adaptive: dict[int, Adaptive] = {}
    known: list[tuple[str, Path | None]] = []
    for index, stage in enumerate(config.stage):
        if not isinstance(stage, Dynamics | Rerun) or not stage.bias or hyperdynamics_of(stage) is not None:
            continue
        record = records[index]
        for what, path in files_of_biases(stage.bias):
            if not structure_file(path).is_file():
                raise InputError(f"stage {index + 1} ({record.kind}): {what}: {no_such_file(path)}")
        turned = isinstance(stage, Dynamics) and frame_of(atoms.cell.array, atoms.pbc)[1].turned
        _check_atoms(stage.bias, atoms, f"stage {index + 1} ({record.kind})", turned=turned)
        around = Around(
            "this run", record.timestep, record.temperature[0] if record.temperature else None, record.first_step,
            record.log_every, taken=taken, positions=lambda path: _positions(path, len(atoms)),
        )  # fmt: skip
        plumed = own.get(index)
        content = (write_biases(stage.bias, around).text, plumed.path if plumed else None)
        if content not in known:
            known.append(content)
        number = known.index(content) + 1
        suffix = "" if number == 1 else f"-{number}"
        written = write_biases(stage.bias, replace(around, suffix=suffix))
        tables = [one for one in stage.bias if isinstance(one, ABF)]
        if tables:
            adaptive[index] = Adaptive(
                tables[0], written.adaptive, written.variables, NEWEST.format(suffix), HISTORY.format(suffix)
            )
        scripts[index] = _together(written, plumed, adaptive.get(index))
    return scripts, adaptive


def _together(written: BiasFile, plumed: Script | None, adaptive: Adaptive | None) -> Script:
    """One script of what mlmd writes and what the user gives, which comes first."""
    statements = statements_of(written.name, written.text)
    made, copies = {**written.made, written.name: written.text}, dict(written.copies)
    tables = () if adaptive is None else (adaptive.history,)
    if plumed is None:
        return Script(Path(written.name), statements, copies=copies, made=made, tables=tables)
    for statement in plumed.statements:
        if statement.action == "UNITS":
            raise InputError(
                f"{statement.place}: UNITS would change those of the biases that mlmd writes beside it. Leave it out, "
                "or write all biases in this file."
            )
    for name in {*made, *copies, *tables, *([adaptive.newest] if adaptive else [])} & set(plumed.touches):
        raise InputError(f"{plumed.path}: {name} is also a file of the biases in the input. Give it another name.")
    return Script(Path(written.name), (*plumed.statements, *statements), plumed.path.parent, copies, made, tables)


def _check_atoms(biases: Sequence[Any], atoms: ase.Atoms, place: str, *, turned: bool) -> None:
    for number, bias in enumerate(biases, 1):
        for variable in getattr(bias, "cv", ()):
            named = sites_of(variable)
            if named and max(named) >= len(atoms):
                raise InputError(
                    f"{place}: bias {number} ({bias.kind}): there is no atom {max(named)}: the structure has "
                    f"{len(atoms)}, counted from 0."
                )
    if turned and names_a_position(tuple(biases)):
        raise InputError(
            f"{place}: bias: a position needs a cell whose first vector is along x and whose second is in the xy "
            "plane, as the run turns others so. Turn the structure."
        )


def _positions(path: Path, n_atoms: int) -> np.ndarray:
    reference = read_structure(path, (1, 1, 1))
    if len(reference) != n_atoms:
        raise InputError(
            f"bias: rmsd: {path} has {len(reference)} atoms, and the run {n_atoms}: give all, in its order."
        )
    positions: np.ndarray = reference.get_positions()
    return positions


def start_bias(
    script: Script,
    adaptive: Adaptive | None,
    stage: Dynamics | Rerun,
    record: StageRecord,
    body: Body,
    *,
    seed: int,
    **options: Any,
) -> AnyBias:
    """PLUMED for a stage, and what acts on its variables besides.

    Args:
        script: of the stage.
        adaptive: its ABF, or None.
        stage: of the input.
        record: of the stage.
        body: masses, and what moves.
        seed: of the run, for the random forces on extended variables.
        options: of `PlumedBias`.
    """
    options |= {
        "masses": body.masses, "timestep": record.timestep,
        "temperature": record.temperature[0] if record.temperature else None,
    }  # fmt: skip
    if adaptive is None:
        return PlumedBias(script, **options)
    table, thermostat = adaptive.table, getattr(stage, "thermostat", None)
    langevin = thermostat.friction if isinstance(thermostat, Langevin) else None
    assert record.temperature is not None
    given: dict[str, Any] = {
        "timestep": record.timestep, "temperature": record.temperature[0], "full_samples": table.full_samples,
    }  # fmt: skip
    if table.extended:
        rng = np.random.default_rng(np.random.SeedSequence([seed, record.index], spawn_key=(2,)))
        friction = table.friction if table.friction is not None else FRICTION if langevin is None else langevin
        extended = ExtendedABF(
            adaptive.dimensions, friction=friction, period=period_of(table, record.timestep),
            reflect=table.boundary == "reflect", rng=rng, **given,
        )  # fmt: skip
        return ExtendedBias(script, extended, **options)
    plain = PlainABF(
        adaptive.dimensions, friction=langevin or 0.0, inverse_masses=np.where(body.mobile, 1.0 / body.masses, 0.0),
        remove_com=body.remove_com, **given,
    )  # fmt: skip
    return PlainBias(script, plain, adaptive.variables, **options)


def period_of(table: ABF, timestep: float) -> float:
    """fs, of the extended variable on its spring."""
    return table.extended_period or max(PERIOD, STEPS_OF_PERIOD * timestep)


def collected(bias: ExtendedBias | PlainBias, step: int, time: float) -> AdaptiveForces:
    """What an ABF has collected, in units for people; `time` in fs."""
    abf = bias.abf
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


class AdaptiveTables:
    """The files that tell what an ABF has collected: the newest table, and all at intervals."""

    def __init__(
        self, folder: Path, adaptive: Adaptive, bias: ExtendedBias | PlainBias, record: StageRecord, start: float
    ):
        """`start` is the time (fs) at which the stage begins."""
        self._newest, self._history = folder / adaptive.newest, folder / adaptive.history
        self._bias, self._record, self._start = bias, record, start
        self._every = max(1, round(adaptive.table.write_every / record.timestep))
        bias.record = self._add

    def _table(self, step: int, *, only_sampled: bool) -> str:
        time = self._start + (step - self._record.first_step) * self._record.timestep
        return write_table(collected(self._bias, step, time), only_sampled=only_sampled)

    def _add(self, step: int) -> None:
        """Add a table to the history where one is due."""
        if step > 0 and step % self._every == 0:
            with self._history.open("a") as file:
                file.write(self._table(step, only_sampled=True))

    def renew(self) -> None:
        """Write the newest table."""
        step = self._bias.abf.last_step
        if step < 0:
            return
        temporary = self._newest.with_name(self._newest.name + ".tmp")
        temporary.write_text(self._table(step, only_sampled=False))
        temporary.replace(self._newest)


def memory_of(bias: AnyBias | None) -> dict[str, np.ndarray]:
    """What a bias remembers that no file of PLUMED does, under its name."""
    if bias is None or isinstance(bias, PlumedBias):
        return {}
    return {f"bias/{_name_of(bias)}/{key}": array for key, array in bias.state().items()}


def _name_of(bias: AnyBias) -> str:
    return "hyperdynamics" if isinstance(bias, BondBoost) else bias.script.path.name


def recall(bias: AnyBias, memory: Mapping[str, np.ndarray], *, same_stage: bool) -> bool:
    """Give a bias back what it remembered, of this stage or one before; whether there was anything."""
    start = f"bias/{_name_of(bias)}/"
    state = {name.removeprefix(start): array for name, array in memory.items() if name.startswith(start)}
    if not state or isinstance(bias, PlumedBias):
        return False
    if isinstance(bias, BondBoost):
        bias.restore(state, same_stage=same_stage)
    else:
        bias.restore(state)
    return True


def lost_memory(script: Script, *, resumed: bool) -> Iterator[str]:
    """What a bias that goes on does not know any more, in sentences; `resumed` is within a stage."""
    for action in script.forgetful:
        yield (
            f"{script.path.name}: PLUMED does not keep the memory of {action}, which starts anew here: "
            "the run continues statistically, without what it had accumulated or adapted"
        )
    if resumed and script.shared:
        yield (
            f"the hills that walkers share in {', '.join(script.shared)} are not cut back to the checkpoint, "
            "as others may have read them: the run continues statistically"
        )


def kernel_of(config: Simulate, index: int) -> Path | None:
    """The PLUMED kernel that a stage asks for."""
    stage = config.stage[index]
    return stage.plumed.kernel if isinstance(stage, Dynamics | Rerun) and stage.plumed is not None else None
