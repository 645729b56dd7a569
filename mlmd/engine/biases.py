"""The biases of the input: scripts that users give and that mlmd writes, one for each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np

from mlmd.bias.bins import Dimension
from mlmd.bias.script import Script, read_script
from mlmd.bias.write import Around, BiasFile, statements_of, write_biases
from mlmd.config import Rerun, Simulate
from mlmd.config.bias import ABF, files_of_biases, names_a_position
from mlmd.config.files import no_such_file, structure_file
from mlmd.config.stages import Dynamics, hyperdynamics_of
from mlmd.config.variables import sites_of
from mlmd.engine.frame import frame_of
from mlmd.errors import InputError
from mlmd.io.structures import read_structure
from mlmd.rundir import PLUMED, StageRecord

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
    both = (*plumed.statements, *statements)
    return Script(Path(written.name), both, plumed.path.parent, copies, made, tables, plumed.sources)


def kept_sources(scripts: Mapping[int, Script]) -> dict[int, dict[str, Path]]:
    """For each stage with a PLUMED file of the user: names in the run folder -> that file, and those that it includes.

    They are kept so that a run tells what its bias was when the user's files have gone.
    """
    found: dict[int, dict[str, Path]] = {}
    for index, script in scripts.items():
        folder = f"{PLUMED}/stage{index + 1}"
        if script.kept:
            found[index] = {f"{folder}/{name}": source for name, source in script.kept.items()}
    return found


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


def kernel_of(config: Simulate, index: int) -> Path | None:
    """The PLUMED kernel that a stage asks for."""
    stage = config.stage[index]
    return stage.plumed.kernel if isinstance(stage, Dynamics | Rerun) and stage.plumed is not None else None
