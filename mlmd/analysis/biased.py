"""What a biased run has left for a free energy: its files, their units, its temperature."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmd import units
from mlmd.bias.script import HISTORIES, read_script
from mlmd.bias.statement import Statement
from mlmd.errors import InputError, MlmdError
from mlmd.rundir import Run, StageRecord, describe_targets, is_running

_LENGTHS = {"DISTANCE", "POSITION", "RMSD", "DRMSD", "GYRATION"}
_ANGLES = {"TORSION", "ANGLE"}
_NOT_THEM = ("SQUARED", "SCALED_COMPONENTS", "TYPE=", "COMPONENTS=", "COSINE")
_NAMED = {
    "LENGTH": {"nm": 10.0, "a": 1.0, "um": 1e4, "bohr": units.units_of("length")["bohr"]},
    "ENERGY": {
        "kj/mol": units.EV_PER_KJMOL, "j/mol": 1e-3 * units.EV_PER_KJMOL, "kcal/mol": units.EV_PER_KCALMOL,
        "ev": 1.0, "ha": units.units_of("energy")["hartree"],
    },
    "TIME": {"ps": 1e3, "fs": 1.0, "ns": 1e6, "atomic": 2.4188843265864e-2},
}  # fmt: skip
"""Keyword of UNITS -> names and their size in Å, eV and fs."""
MANY_BYTES = 30e6
"""Of files of a bias, above which a free energy takes a while."""
_USUAL = {"LENGTH": 10.0, "ENERGY": units.EV_PER_KJMOL, "TIME": 1e3}


@dataclass(frozen=True)
class PlumedUnits:
    """Sizes of the units in PLUMED's files: Å, eV, fs."""

    length: float = _USUAL["LENGTH"]
    energy: float = _USUAL["ENERGY"]
    time: float = _USUAL["TIME"]


@dataclass(frozen=True)
class Biased:
    """What a free energy is computed from."""

    path: str
    """The run folder, or the first file."""
    temperature: float
    """K."""
    statements: tuple[Statement, ...] = ()
    """Of the PLUMED input; none where it is not known."""
    units: PlumedUnits = PlumedUnits()
    hills: tuple[Path, ...] = ()
    kernels: Path | None = None
    state: Path | None = None
    abf: Path | None = None
    colvars: tuple[Path, ...] = ()
    """Files with the course of variables."""
    stage: int | None = None
    kind: str | None = None
    notes: tuple[str, ...] = ()
    walkers: int = 1
    """How many runs share its adaptive force."""
    since: float = -math.inf
    until: float = math.inf
    """fs, between which lines in its files are of its ensemble; other stages may have written into them, too."""

    @property
    def kt(self) -> float:
        """eV."""
        return units.KB * self.temperature

    def shown(self, name: str) -> tuple[str, float]:
        """The unit in which a variable is shown, and how many of them its unit in PLUMED's files is.

        Lengths are shown in Å and angles in degrees; a variable whose action does not tell stays as it is.
        """
        kind = _quantity(name, self.statements)
        unit = {"length": "Å", "angle": "deg"}.get(kind or "", "")
        return unit, self.size(unit)

    def size(self, unit: str) -> float:
        """How many of a unit, as `shown` names it, the unit in PLUMED's files of this run is."""
        return {"Å": self.units.length, "deg": 180.0 / math.pi}.get(unit, 1.0)


def biased_run(
    run: Run, number: int | None = None, *, temperature: float | None = None, script: Path | None = None
) -> Biased:
    """The biased stage of a run.

    Args:
        run: an open run folder.
        number: of the stage, from 1; by default the last one with a bias.
        temperature: K, where the stage has no thermostat, or one that goes through temperatures.
        script: its PLUMED file, where it is no longer where the input says.

    Raises:
        InputError: when no bias acted, the stage is another, its temperature changes, is not known or another than the
            one given, or its PLUMED file is gone.
    """
    stages = run.manifest.get("input", {}).get("stage", [])
    with_bias = [n for n, stage in enumerate(stages, 1) if stage.get("plumed") or _of_variables(stage)]
    if not with_bias:
        raise InputError(
            f"{run.path}: no bias acted in this run, so it has no files of one. Free energies need a bias of "
            "variables, which hyperdynamics is not."
        )
    number = with_bias[-1] if number is None else number
    if number not in with_bias:
        raise InputError(f"{run.path}: no bias acted in a stage {number}. Stages with one: {str(with_bias)[1:-1]}.")
    record = run.stages[number - 1]
    kelvin = temperature if temperature is not None else _temperature(run, record, number)
    held = set(record.temperature or ())
    if len(held) == 1 and abs(kelvin - (bath := held.pop())) > 1e-6 * bath:
        raise InputError(
            f"{run.path}: the thermostat of stage {number} ({record.kind}) held {bath:g} K, and --temperature says "
            f"{kelvin:g} K. Leave it out."
        )
    path, notes = (script, []) if script is not None else _script_of(run, stages, number)
    statements = read_script(path, allow_unsafe=True).statements
    since, until, others = _in_one_ensemble(run, stages, number)
    notes += others
    if is_running(run) and run.manifest.get("state") != "done":
        notes.append("the run is still going on: this is the free energy up to now")
    hills, kernels, state = _histories(statements, run.path)
    number_of = path.name.removeprefix("bias").removesuffix(".dat") if path.parent == run.path else ""
    abf = run.path / f"abf{number_of}.dat"
    ours = [bias for bias in stages[number - 1].get("bias") or () if bias.get("kind") == "abf"]
    walkers = max([(bias.get("walkers") or {}).get("count", 1) for bias in ours], default=1)
    return Biased(
        str(run.path), kelvin, statements, units_in(statements), hills, kernels, state, abf if ours else None,
        tuple(run.path / s.values("FILE")[0] for s in statements if s.action == "PRINT" and s.values("FILE")),
        number, record.kind, tuple(notes), walkers, since, until,
    )  # fmt: skip


def _in_one_ensemble(run: Run, stages: Sequence[dict[str, Any]], number: int) -> tuple[float, float, list[str]]:
    """fs, since when and until when a stage and those with its bias had its ensemble, and a remark about the rest."""
    own, since, until, others, begin = run.stages[number - 1], -math.inf, math.inf, list[str](), 0.0
    written = run.manifest.get("biases", {})
    for record, stage in zip(run.stages, stages, strict=False):
        end = begin + record.n_steps * record.timestep
        same = [stage.get(key) == stages[number - 1].get(key) for key in ("bias", "plumed")]
        same.append(written.get(str(record.index + 1)) == written.get(str(number)))
        if all(same) and record.n_steps and _ensemble(record) != _ensemble(own):
            if record.index < own.index:
                since = end
            else:
                until = min(until, begin)
            what = (
                f"{record.kind}, {describe_targets(record.temperature, ' to ')} K"
                if record.temperature
                else record.kind
            )
            others.append(
                f"stage {record.index + 1} ({what}) has the same bias: its lines and kernels are left out, and its "
                "hills count for the bias alone"
            )
        begin = end
    return since, until, others


def _ensemble(record: StageRecord) -> tuple[object, ...]:
    """Stages in which it is the same sample one distribution."""
    return record.kind, set(record.temperature or ()), set(record.pressure or ())


def _temperature(run: Run, record: StageRecord, number: int) -> float:
    place = f"{run.path}: stage {number} ({record.kind})"
    if record.temperature is None:
        raise InputError(f"{place} has no thermostat, and a free energy needs its temperature. Give --temperature.")
    if len(set(record.temperature)) > 1:
        raise InputError(
            f"{place} goes from {describe_targets(record.temperature, ' to ')} K, and a free energy has one "
            "temperature. Choose another stage with --stage."
        )
    return float(record.temperature[0])


def _script_of(run: Run, stages: Sequence[dict[str, object]], number: int) -> tuple[Path, list[str]]:
    """The PLUMED file of a stage, and a remark when it was changed."""
    stage = stages[number - 1]
    if str(number) in (written := run.manifest.get("biases", {})):
        return run.path / written[str(number)], []
    if stage.get("bias"):  # of a run whose manifest does not say it: as many files as there are different tables
        known = list[str]()
        for one in stages[:number]:
            text = json.dumps([one.get("bias"), one.get("plumed")], sort_keys=True)
            if _of_variables(one) and text not in known:
                known.append(text)
        text = json.dumps([stage.get("bias"), stage.get("plumed")], sort_keys=True)
        place = known.index(text) + 1
        return run.path / ("bias.dat" if place == 1 else f"bias-{place}.dat"), []
    plumed = stage["plumed"]
    path = Path(str(plumed["file"] if isinstance(plumed, dict) else plumed))
    recorded = run.manifest.get("files", {}).get(f"plumed of stage {number}", {})
    kept = recorded.get("sha256")
    if "copy" in recorded and _digest(run.path / recorded["copy"]) == kept:
        return run.path / recorded["copy"], []
    if not path.is_file():
        raise InputError(
            f"{run.path}: its PLUMED file {path} is gone, and only it tells the units. Give it with --plumed FILE."
        )
    if kept is not None and _digest(path) != kept:
        return path, [f"{path.name} is not the file that it was when the run began; its units are those of now"]
    return path, []


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None where it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _histories(statements: Sequence[Statement], folder: Path) -> tuple[tuple[Path, ...], Path | None, Path | None]:
    """HILLS (of all walkers), KERNELS and STATE."""
    for one in statements:
        name = (one.values("FILE") or [*HISTORIES.get(one.action, ()), ""])[0]
        if one.action == "METAD":
            shared = one.values("WALKERS_DIR")
            if not shared:
                return (folder / name,), None, None
            found = sorted(p for p in (folder / shared[0]).glob(f"{name}.*") if p.suffix[1:].isdigit())
            return tuple(p for p in found if p.stat().st_size), None, None
        if one.action in ("OPES_METAD", "OPES_METAD_EXPLORE"):
            states = one.values("STATE_WFILE")
            return (), folder / name, folder / states[0] if states else None
    return (), None, None


def units_in(statements: Sequence[Statement]) -> PlumedUnits:
    """What UNITS says, else nm, kJ/mol and ps.

    Raises:
        InputError: for a unit that is not known, and for natural units, which have no size.
    """
    sizes = dict(_USUAL)
    for one in statements:
        if one.action != "UNITS":
            continue
        if "NATURAL" in map(str.upper, one.words):
            raise InputError(f"{one.place}: NATURAL units have no size in eV. Free energies cannot be told.")
        for key, value in one.keywords:
            if key not in sizes:
                continue
            known = _NAMED[key]
            try:
                sizes[key] = known[value.lower()] if value.lower() in known else float(value) * _USUAL[key]
            except ValueError:
                raise InputError(f"{one.place}: {key}={value}: the unit is not known: {', '.join(known)}.") from None
    return PlumedUnits(sizes["LENGTH"], sizes["ENERGY"], sizes["TIME"])


def _quantity(name: str, statements: Sequence[Statement]) -> str | None:
    """Length or angle, as far as the action that computes a value tells; a COMBINE that only renames is followed."""
    label = name.split(".", maxsplit=1)[0]
    for one in statements:
        if one.label != label:
            continue
        words = [word.upper() for word in one.words[1:]]
        if one.action == "COMBINE" and len(one.values("ARG")) == 1 and len(words) == 2 and one.values("PERIODIC"):
            return _quantity(one.values("ARG")[0], statements) if one.values("ARG")[0] != name else None
        plain = not any(word.startswith(_NOT_THEM) for word in words)
        kind = "length" if one.action in _LENGTHS else "angle" if one.action in _ANGLES else None
        return kind if plain else None
    return None


def has_free_energy(run: Run) -> bool:
    """Whether a bias has left hills, kernels or mean forces, few enough to be looked at without being asked."""
    try:
        case = biased_run(run)
    except MlmdError:
        return False
    lines = case.colvars if case.kernels is not None else ()
    files = [path for path in (*case.hills, case.kernels, case.abf, *lines) if path is not None and path.exists()]
    return 0 < sum(path.stat().st_size for path in files) < MANY_BYTES


def _of_variables(stage: Mapping[str, Any]) -> bool:
    """Whether a stage has biases of collective variables."""
    return any(bias.get("kind") != "hyperdynamics" for bias in stage.get("bias") or ())
