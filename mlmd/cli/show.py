"""What a file or folder is, in facts: for ``mlmd show``."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlmd import models
from mlmd.cli.show_run import facts_of_output
from mlmd.config.files import CLASSES, TRAINING, files_of_potential, folder_of, has_parts, sha256
from mlmd.errors import InputError, StorageError

if TYPE_CHECKING:
    from mlmd.potentials.property import PropertyModel
    from mlmd.rundir import Run, StageRecord

_ERRORS_TOLD = {"spread": "spread of forces", "grade": "grade of extrapolation"}


def facts_of(path: Path) -> dict[str, Any]:
    """Facts about the folder of a run or a training, a trajectory, a checkpoint, a structure or a potential.

    They are recognised by name and content.

    A potential that comes with mlmd is called by its name.

    Returns:
        JSON-able facts in the order in which a person wants them; the first is what it is.

    Raises:
        InputError: when the file is none of these.
        StorageError: for a folder that is none of these.
        ModelError: for a potential that is damaged or may execute code.
    """
    if not path.exists() and "@" not in path.name:
        if shipped := models.find(str(path)):
            return _potential(shipped)
        raise InputError(f"{path}: no such file or folder. {_hint(path)}".rstrip())
    if path.is_dir() and (path / TRAINING).exists():
        return _training(path)
    if path.is_dir() and (has_parts(path) or (path / CLASSES).is_file()) and not (path / "run.json").exists():
        return _potential(path)
    if path.is_dir():
        from mlmd.rundir import open_run

        return _run(open_run(path))
    if path.suffix == ".toml":
        raise InputError(f"{path} is an input file; `mlmd check {path}` describes it.")
    if path.suffix == ".npz":
        return _features(path)
    of_run = facts_of_output(path)
    return of_run or (_structure(path) if _is_structure(path) else _potential(path))


def _hint(path: Path) -> str:
    """What a word that is no file may mean: a misspelt name of a potential that comes with mlmd."""
    return models.hint(path.name) if path.name == path.stem else ""


def is_kind(name: str) -> bool:
    """Whether a word is a kind of potential, and no file or name of one that comes with mlmd."""
    from mlmd.config.potential import file_or_kind
    from mlmd.potentials import POTENTIALS

    return file_or_kind(name).get("kind") in POTENTIALS


def facts_of_kind(name: str, options: str, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Facts about the potential of a file or a kind with options, which is built.

    Args:
        name: a file, a kind of potential, or a table as an input has it.
        options: JSON, what an input's table would say besides.
        trust: digests of files that may execute code.

    Raises:
        InputError, ModelError: as `mlmd.potentials.load.load_potential`.
    """
    from mlmd.cli.evaluate import load_model
    from mlmd.potentials import load

    facts = {"what": "potential", **load.describe(load_model(name, None, options, "auto", trust))}
    facts.pop("spec")
    return facts


def facts_of_models() -> list[dict[str, Any]]:
    """What the cards of the potentials that come with mlmd say, for a table; None for what one does not say.

    Errors are root mean squares for structures that the potential was not trained on.
    """
    from mlmd.potentials.modelfile import read_card, read_spec
    from mlmd.train.error_table import UNITS
    from mlmd.units import parse

    facts = []
    for name in models.names():
        file = models.path(name)
        card, spec = read_card(file), read_spec(file)
        facts.append(
            {
                "name": name,
                "elements": card["elements"],
                "level": spec.get("descriptor", {}).get("level"),
                "cutoff [Å]": parse(card["cutoff"], "length"),
                **{f"{name} [{unit}]": _test_error(card, name) for name, unit in UNITS.items()},
                "licence": card.get("licence") or None,
            }
        )
    return facts


def _test_error(card: Mapping[str, Any], name: str) -> float | None:
    """Root mean squared error of a property for test structures; None when the card has none."""
    from mlmd.train.error_table import from_json

    try:
        error = from_json(card["errors"]["test"]).row(name).rmse
    except (KeyError, TypeError, ValueError):
        return None
    return error if math.isfinite(error) else None


def _is_structure(path: Path) -> bool:
    """Whether the name is that of a structure file."""
    from mlmd.io.structures import FORMATS

    if folder_of(path):  # scaling.data is no structure of LAMMPS
        return False
    suffix = path.suffix.partition("@")[0].lower()
    return suffix in FORMATS or path.name.upper().startswith(("POSCAR", "CONTCAR"))


def _structure(path: Path) -> dict[str, Any]:
    """Facts about a structure."""
    from mlmd.io.structures import read_structure
    from mlmd.io.validity import closest_neighbour
    from mlmd.units import DENSITY

    atoms = read_structure(path)
    facts: dict[str, Any] = {
        "what": "structure",
        "formula": atoms.get_chemical_formula("metal"),
        "atoms": len(atoms),
        "periodic": [bool(flag) for flag in atoms.pbc],
    }
    if atoms.pbc.any():
        facts["cell lengths [Å]"] = [round(length, 6) for length in atoms.cell.lengths().tolist()]
        facts["cell angles [°]"] = [round(angle, 6) for angle in atoms.cell.angles().tolist()]
    if atoms.pbc.all():
        facts["volume [Å^3]"] = float(atoms.get_volume())
        facts["density [g/cm^3]"] = float(atoms.get_masses().sum() / atoms.get_volume() * DENSITY)
    if pair := closest_neighbour(atoms, 6.0):
        i, j, distance = pair
        facts["closest atoms"] = f"{i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]})"
        facts["their distance [Å]"] = round(float(distance), 6)
    facts["velocities"] = atoms.has("momenta")
    if "constrained" in atoms.info:
        facts["fixed in the file"] = len(atoms.info["constrained"])
    return facts


def _run(run: Run) -> dict[str, Any]:
    """Facts about a run folder."""
    from mlmd.rundir import is_running

    manifest = run.manifest
    facts: dict[str, Any] = {
        "what": "run",
        "state": _state(manifest["state"], is_running(run)),
        "created": manifest["created"],
        "mlmd": manifest["mlmd"],
        "atoms": len(run.atoms),
        "formula": run.atoms.get_chemical_formula("metal"),
        "seed": manifest["seed"],
        "stages": [_stage(stage) for stage in run.stages],
        "platform": ", ".join(f"{key} {value}" for key, value in manifest["platform"].items() if value),
    }
    if warnings := manifest.get("warnings"):
        facts["warnings"] = list(warnings)
    if row := _last_row(run):
        facts["last line of the log"] = row
    facts["files"] = sorted(path.name for path in run.path.iterdir())
    return facts


def _state(written: str, is_running: bool) -> str:
    """What a manifest says, unless its process is gone."""
    return "interrupted" if written == "running" and not is_running else written


def _training(path: Path) -> dict[str, Any]:
    """Facts about the folder of a training; the card of its potential says the rest."""
    from mlmd.rundir import Run, is_running

    try:
        manifest = json.loads((path / TRAINING).read_text(encoding="utf-8"))
        given = manifest["input"]
        facts = {
            "what": "training",
            "state": _state(manifest["state"], is_running(Run(path, manifest))),
            "mlmd": manifest["mlmd"],
            "data": [source["path"] for source in given["data"]],
            "descriptor": given["descriptor"],
            "fit": given["fit"],
        }
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path / TRAINING} is damaged: {type(error).__name__}: {error}.") from None
    if "model" in manifest:
        from mlmd.config.fits import OF_ENVIRONMENTS
        from mlmd.config.pairs import WHOLE
        from mlmd.potentials.modelfile import read_card

        of_structures = given["descriptor"].get("kind") in WHOLE
        of_structures |= given["fit"].get("kernel") in OF_ENVIRONMENTS and given["fit"].get("kind") == "kernel-ridge"
        facts |= {
            "model" if of_structures else "potential": str(path / manifest["model"]),
            "card": read_card(path / manifest["model"]),
        }
    return facts | {"files": sorted(entry.name for entry in path.iterdir())}


def _features(path: Path) -> dict[str, Any]:
    """Facts about a file of ``mlmd describe``.

    Raises:
        InputError: when the arrays are others.
    """
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            shape, kind, spec = arrays["features"].shape, str(arrays["kind"]), json.loads(str(arrays["spec"]))
            n_structures = len(arrays["source"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is no file of `mlmd describe` ({type(error).__name__}): numpy.load tells what is in it."
        ) from None
    rows = {"atom": "atoms", "structure": "structures", "direction": "directions of atoms"}.get(kind, kind)
    return {
        "what": "features",
        "rows": f"{shape[0]:,} {rows}",
        "structures": n_structures,
        "features": shape[1],
        "descriptor": spec,
        "executes": "nothing that is in the file",
    }


def _stage(stage: StageRecord) -> dict[str, Any]:
    """A stage, counted from 1."""
    facts: dict[str, Any] = {"stage": stage.index + 1, "kind": stage.kind}
    if stage.frames:
        facts["frames"] = sum(number for _, _, number in stage.frames)
    if stage.n_steps:
        facts |= {"steps": stage.n_steps, "timestep [fs]": stage.timestep}
    if stage.end is not None:
        facts["ended"] = f"at step {stage.end.step:,} of {stage.end.planned:,}: {stage.end.why}"
    for name, ends in (("temperature [K]", stage.temperature), ("pressure [bar]", stage.pressure)):
        if ends is not None:
            facts[name] = ends[0] if len(set(ends)) == 1 else list(ends)
    return facts


def _last_row(run: Run) -> dict[str, float | None]:
    """The last complete line of log.csv by column."""
    if not run.log.exists():
        return {}
    lines = [line for line in run.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    if len(lines) < 2:
        return {}
    pairs = zip(lines[0].strip().split(","), lines[-1].strip().split(","), strict=False)
    return {column: _number(text) for column, text in pairs}


def _number(text: str) -> float | None:
    """A cell of the log; None for what is not known there, which is written as nan."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return int(value) if text.lstrip("-").isdigit() else value


def _potential(path: Path) -> dict[str, Any]:
    """Facts about a potential, with its card where it has one."""
    from mlmd.cli.parts import parts_of_potential
    from mlmd.config import PotentialTable
    from mlmd.potentials import load
    from mlmd.potentials.uncertainty import SPREAD, knows

    if model := load.load_property(path):
        return _property_model(path, model)
    table: dict[str, Any] = {"path": str(path)}
    kind = load.recognise(path)
    if kind == "mlmd" and (foreign := _foreign_parts(path)):
        return foreign
    if unopened := _program(path, kind):
        return unopened
    if kind == "mtp":  # such a file counts its species and does not name them: any names will do to look at it
        table["elements"] = _stand_ins(path)
    if kind == "hdnnp":  # the numbers of these files are in units that they do not name: they are shown as they are
        table |= {"length": "Å", "energy": "eV"}
    potential = load.load_potential((PotentialTable.model_validate(table),))
    facts = {"what": "potential", **load.describe(potential, path)}
    if kind == "mlmd":
        facts |= parts_of_potential(potential)
    facts |= {"symmetry functions": functions} if (functions := _functions(facts.pop("spec"))) else {}
    if known := knows(potential):
        told = [_ERRORS_TOLD[name] for name in known]
        if SPREAD in known and not _is_calibrated(facts.get("card", {}), potential):
            told[0] += ", not calibrated"
        facts["tells of its errors"] = told
    if kind != "mlmd":  # files of other programs are called by their own name
        facts = facts | {"kind": kind} | ({} if "licence" in facts else {"licence": "the file names none"})
    facts.setdefault("executes", "nothing that is in the file")
    if others := files_of_potential(path)[1:]:
        facts["files"] = [path.name, *(file.name for file in others)]
    facts["card"] = {key: value for key, value in facts.get("card", {}).items() if key not in facts and key != "cutoff"}
    if kind == "hdnnp":
        facts = _networks(facts, potential)
    if kind == "mtp":
        facts["elements"] = f"{len(potential.elements)}, which the file does not name"
    return facts


def _program(path: Path, kind: str) -> dict[str, Any] | None:
    """Facts about the file of a framework that executes code, which is not opened to look at it; None for others."""
    from mlmd.potentials.foreign import EXECUTED
    from mlmd.potentials.trust import PREFIX

    if kind not in EXECUTED:
        return None
    digest = PREFIX + sha256(path)
    return {
        "what": "potential of another program, which was not opened",
        "kind": kind,
        "size [MB]": round(path.stat().st_size / 1e6, 3),
        "executes": EXECUTED[kind],
        "to use it": f'{{ path = "{path}", trust = "{digest}" }}',
        "to know more": f"mlmd show {path} --trust {digest}",
        "elsewhere": 'python = "env/bin/python" beside them, of an environment that has the framework',
    }


def _foreign_parts(path: Path) -> dict[str, Any] | None:
    """Facts about a file whose potential has models of others as parts, which are not run to look at it."""
    from mlmd.potentials.modelfile import describe_external, externals, read_card, read_spec
    from mlmd.potentials.trust import PREFIX

    spec = read_spec(path)
    if not (foreign := externals(spec)):
        return None
    card = read_card(path)
    return {
        "what": "potential",
        "kind": spec["kind"],
        "elements": card["elements"],
        "cutoff": card["cutoff"],
        "parts": [part["kind"] for part in spec.get("parts", spec.get("members", ()))],
        "executes": [describe_external(one) for one in foreign],
        "to use it": f'{{ path = "{path}", trust = "{PREFIX}{sha256(path)}" }}',
        "card": {key: value for key, value in card.items() if key not in ("elements", "cutoff")},
    }


def _is_calibrated(card: Mapping[str, Any], potential: Any) -> bool:
    """Whether the size of a spread was compared with errors, as the card says, or a factor where it says nothing."""
    from mlmd.potentials.uncertainty import SPREAD

    entry: Any = card
    for key in ("uncertainty", SPREAD, "calibrated with"):
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(entry, str):
        return not entry.startswith("nothing")
    return getattr(potential, "calibration", 1.0) != 1.0


def _property_model(path: Path, model: PropertyModel) -> dict[str, Any]:
    """Facts about a model that predicts a property of structures."""
    from mlmd.potentials.modelfile import FACTS, read_card

    card = {key: value for key, value in read_card(path).items() if key not in FACTS | {"property"}}
    return {
        "what": "model of a property of structures, not a potential",
        "property": model.quantity.title + (", of the whole structure" if model.quantity.extensive else ""),
        "elements": list(model.elements),
        **_property_parts(model),
        "parameters": sum(one.numel() for one in model.parameters()),
        "card": card,
    }


def _property_parts(model: PropertyModel) -> dict[str, str]:
    """Descriptor and fit of a model of structures; with a kernel of atoms the fit is linear in what is compared."""
    from mlmd.descriptors.likeness import Likeness
    from mlmd.potentials.names import name_of_descriptor, name_of_fit

    descriptor = model.descriptor
    if isinstance(descriptor, Likeness):
        of = f"{name_of_descriptor(descriptor.local)}, {descriptor.local.n_features:,} features of each atom"
        kept = f"{descriptor.n_features:,} structures, {len(descriptor.environments):,} atoms"
        return {"descriptor": of, "fit": f"kernel-ridge, {descriptor.form} kernel with {kept}"}
    return {
        "descriptor": f"{name_of_descriptor(descriptor)}, {descriptor.n_features:,} features",
        "fit": name_of_fit(model.regressor),
    }


def _functions(spec: Mapping[str, Any]) -> list[str]:
    """The symmetry functions of a learned potential, also of those that are one of several descriptors."""
    from mlmd.descriptors.symmetry_functions import SymmetryFunction

    descriptor = spec.get("descriptor", {}) if spec["kind"] == "learned" else {}
    parts = descriptor.get("parts", [descriptor])
    return [str(SymmetryFunction.read(one)) for part in parts for one in part.get("functions", [])]


def _networks(facts: Mapping[str, Any], potential: Any) -> dict[str, Any]:
    """Facts about a potential of n2p2 with the sizes of its networks, and what the files do not say."""
    centres = [function.centre for function in potential.descriptor.functions]
    sizes = {symbol: [centres.count(symbol), *potential.regressor.layers, 1] for symbol in potential.elements}
    own = {
        "kind": facts["kind"],
        "elements": list(potential.elements),
        "cutoff": f"{facts['cutoff [Å]']:.6g} in the unit of length, which the files do not name",
        "symmetry functions": {symbol: size[0] for symbol, size in sizes.items()},
        "networks": {symbol: " × ".join(map(str, size)) for symbol, size in sizes.items()},
        "units": 'not in the files: give those of the training data, as length = "bohr", energy = "hartree"',
    }
    rest = {key: value for key, value in facts.items() if key not in ("what", "cutoff [Å]", *own)}
    return {"what": facts["what"], **own, **rest}


def _stand_ins(path: Path) -> list[str]:
    """As many symbols as an .mtp file has species."""
    from ase.data import chemical_symbols

    with path.open("rb") as file:
        head = file.read(4096).decode(errors="replace")
    count = re.search(r"species_count\s*=\s*(\d{1,3})\b", head)
    return chemical_symbols[1 : 1 + int(count[1])] if count else ["H"]
