"""From what an input file says about potentials to one potential."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from mlmd import models
from mlmd.config.files import folder_of, no_such_potential, without_settings
from mlmd.config.gap import is_gap
from mlmd.errors import InputError, ModelError, did_you_mean
from mlmd.models.others import written_as
from mlmd.potentials import POTENTIALS, Potential, has_energy, modelfile
from mlmd.potentials.combine import Sum
from mlmd.potentials.committee import Committee
from mlmd.potentials.foreign import RECOGNISED, framework_of, unlike_weights
from mlmd.potentials.hdnnp import is_folder
from mlmd.potentials.modelfile import is_modelfile, read_card, read_spec
from mlmd.potentials.mtp import is_mtp
from mlmd.potentials.nep_file import is_nep
from mlmd.potentials.property import PropertyModel
from mlmd.potentials.setfl import is_eam
from mlmd.potentials.snapfile import is_snap
from mlmd.potentials.trust import check_unused, comparing, digest_of
from mlmd.registry import find

BY_BEGINNING = {
    "mtp": is_mtp,
    "nep": is_nep,
    "mlmd": is_modelfile,
    "gap": is_gap,
    "snap": is_snap,
    "eam": is_eam,
}
"""Kinds of files that say what they are, and what sees it in their first bytes."""
BY_SUFFIX = {".sw": "stillinger-weber", ".tersoff": "tersoff"}
"""Kinds of files that begin with nothing of their own: the same numbers in the same order are other potentials' too."""


class Table(Protocol):
    """One potential of an input file (`mlmd.config.PotentialTable`)."""

    @property
    def kind(self) -> str | None:
        """A key of `POTENTIALS`; None when the file tells."""
        ...

    @property
    def path(self) -> Path | None:
        """The file, where there is one."""
        ...

    @property
    def elements(self) -> tuple[str, ...] | None:
        """Symbols in the order of the file's species."""
        ...

    @property
    def precision(self) -> str:
        """ "float64" or "float32"."""
        ...

    @property
    def trust(self) -> tuple[str, ...]:
        """Digests of files that may execute code."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """What else the table says."""
        ...


def load_potential(tables: Sequence[Table]) -> Potential:
    """The potential of an input file; their sum when several tables are given.

    Raises:
        InputError: for a missing file, an unknown kind and unknown, missing or wrong options, and for a file that
            predicts a property instead of forces.
        ModelError: for a file that is damaged, unknown, or able to execute code.
    """
    parts = [_load(table) for table in tables]
    if len(parts) == 1:
        return parts[0]
    return Sum(parts)


def load_committee(members: Sequence[Table], precision: str = "float64", calibration: float = 1.0) -> Committee:
    """Several potentials as one: their mean, and a spread of forces where they disagree.

    Args:
        members: two or more potentials of an input file.
        precision: is that of each member.
        calibration: factor on the standard deviation of their forces; see `mlmd.potentials.committee.Committee`.

    Raises:
        InputError, ModelError: as `load_potential`, and when they are no committee.
    """
    if precision != "float64":
        raise InputError("precision: give it to the members.")
    if isinstance(calibration, bool) or not isinstance(calibration, int | float) or not 0 <= calibration < math.inf:
        raise InputError(f"calibration: {calibration!r}: a number from 0 is needed.")
    return Committee([_load(one) for one in members], float(calibration))


def check_energy(potential: Potential) -> None:
    """Make sure that a potential gives energies.

    Raises:
        InputError: for a force field.
    """
    if not has_energy(potential):
        raise InputError(
            f"{getattr(potential, 'source', 'the potential')} predicts forces alone (AGNI): it has no energy and no "
            "stress. `mlmd simulate` (nvt and nve), `mlmd evaluate` and mlmd.ase.Calculator take it; here a potential "
            "with an energy is needed."
        )


def load_property(path: Path) -> PropertyModel | None:
    """The model of a file that predicts a property; None for the file of a potential, and without a file.

    Raises:
        ModelError: for a file that is damaged.
    """
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        if not is_modelfile(stream.read(4096)):
            return None
    if read_spec(path).get("kind") != "property":
        return None
    model = modelfile.load(path)
    assert isinstance(model, PropertyModel)
    return model


def check_elements(potential: Potential, symbols: Sequence[str], structure: str = "the structure") -> None:
    """Make sure that a potential knows all elements of a structure.

    Raises:
        InputError: e.g. ``si.mlmd knows Si; the structure also has O (48 atoms). Use a potential that knows O.``
    """
    if not potential.elements:
        return
    unknown = Counter(symbol for symbol in symbols if symbol not in potential.elements)
    if unknown:
        counts = ", ".join(f"{symbol} ({n} atom{'s' * (n > 1)})" for symbol, n in unknown.items())
        name = getattr(potential, "source", "the potential")
        also = "also " if set(symbols) - unknown.keys() else ""
        raise InputError(
            f"{name} knows {', '.join(potential.elements)}; {structure} {also}has {counts}. "
            f"{_doubt(getattr(potential, 'given_elements', None))}{_lacking(potential, unknown)}"
            f"Use a potential that knows {', '.join(unknown)}."
        )


def _lacking(potential: Potential, unknown: Mapping[str, int]) -> str:
    """Which of several potentials do not know elements, where others do; nothing of a potential that is one."""
    parts: Sequence[Potential] = getattr(potential, "parts", ()) or getattr(potential, "members", ())
    told = []
    for number, part in enumerate(parts, 1):
        if lacks := [symbol for symbol in unknown if part.elements and symbol not in part.elements]:
            spec = part.spec()
            name = getattr(part, "source", spec.get("recipe", spec)["kind"])
            told.append(f"number {number} ({name}) does not know {', '.join(lacks)}")
    return f"Of its {len(parts)} potentials {' and '.join(told)}. " if told else ""


def _doubt(given: Sequence[str] | None) -> str:
    """A question about the elements that a user gave, where the file names none."""
    if not given:
        return ""
    listed = ", ".join(f'"{symbol}"' for symbol in given)
    return f"elements = [{listed}] was given: is {'the order' if len(given) > 1 else 'it'} right? "


def describe(potential: Potential, path: Path | None = None) -> dict[str, Any]:
    """Facts that a person wants to see: kind, elements, cutoff, precision, parameters, card.

    Args:
        potential: what was loaded.
        path: its file, for the card of a `.mlmd` file.
    """
    spec = potential.spec()
    facts: dict[str, Any] = {
        "kind": spec["kind"],
        "elements": list(potential.elements),
        "cutoff [Å]": float(potential.cutoff),
    }
    own = getattr(potential, "described", None)
    if own is not None:
        facts |= {"kind": spec["recipe"]["kind"], "cutoff [Å]": float(potential.cutoff) or None, **own()}
    elif isinstance(potential, torch.nn.Module):
        parameters = list(potential.parameters())
        facts["precision"] = str(getattr(potential, "dtype", None) or _dtype(parameters)).removeprefix("torch.")
        facts["parameters"] = sum(parameter.numel() for parameter in parameters)
    facts["spec"] = spec
    if path is not None and recognise(path) == "mlmd":
        facts["card"] = read_card(path)
    return facts


def recognise(path: Path) -> str:
    """The kind of potential in a file, by what is in it, or by its suffix; nothing in it is executed.

    Raises:
        InputError: when there is no such file.
        ModelError: when it is damaged, or nothing that mlmd knows, as a program of which only the user knows the kind.
    """
    if is_folder(path):
        return "hdnnp"
    if path.is_dir():
        if kind := framework_of(path):
            return kind
        raise InputError(f"potential {without_settings(path)}")
    if not path.is_file():
        raise InputError("potential " + (f"{path}: not a file." if path.exists() else no_such_potential(path)))
    if folder := folder_of(path):
        raise InputError(f"potential {path}: a part of the potential of n2p2 in {folder}. Give the folder.")
    with path.open("rb") as stream:
        start = stream.read(4096)
    for kind, is_one in BY_BEGINNING.items():
        if is_one(start):
            return kind
    if path.suffix in BY_SUFFIX:
        return BY_SUFFIX[path.suffix]
    if kind := framework_of(path):
        return kind
    known = ".mlmd, .mtp, NEP, .snapcoeff, GAP, EAM, .sw and .tersoff files and folders of n2p2"
    others = "files of MACE, NequIP, SevenNet, CHGNet, MatterSim, DeePMD-kit, metatomic, Nequix and ANI"
    raise ModelError(f"{path}: {_what_it_is(path, start)}. mlmd reads {known}, and recognises {others}.")


def _unasked(path: Path) -> str:
    """How to name a file that is a program, with its own digest."""
    return (
        "which can execute code when it is opened, so it is not opened unasked: say what it is, and trust it if you "
        f'know where it comes from, e.g. {{ kind = "torchscript", path = "{path}", trust = "{digest_of(path)}" }}'
    )


def _what_it_is(path: Path, start: bytes) -> str:
    """Words for a file that is not read."""
    if not start.strip():
        return "the file is empty"
    if start[:1] == b"\x80":
        return f"a Python pickle, {_unasked(path)}"
    if start[:2] == b"PK":
        return f"a zip archive (PyTorch, TorchScript), {_unasked(path)}"
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page, perhaps a failed download"
    return "not the file of a potential"


def _load(table: Table) -> Potential:
    kind = table.kind or (recognise(table.path) if table.path is not None else None)
    if kind is None:
        raise InputError(f"a potential needs a path or a kind. {did_you_mean('', POTENTIALS)}")
    given: dict[str, Any] = {**table.options, "precision": table.precision, "trust": table.trust}
    for name in ("path", "elements"):
        if getattr(table, name) is not None:
            given[name] = getattr(table, name)
    if table.path is not None:
        _check_file(kind, table.path)
    with comparing() as comparison:
        if table.path is not None and table.path.is_file():
            check_unused(table.path, table.trust)
        try:
            potential = build(kind, given)
        except InputError as error:
            raise InputError(f"potential ({kind}): {error}") from None
    if table.trust and not comparison.compared and not _compares_itself(potential):
        where = "Each of its members has a trust of its own." if kind == "committee" else "Leave it out."
        raise InputError(
            f"potential ({kind}): trust: {' and '.join(table.trust)}: compared with nothing, since no file that "
            f"executes code is named. {where}"
        )
    if isinstance(potential, PropertyModel):
        name = "this model" if table.path is None else table.path.name
        raise InputError(
            f"{name} predicts {potential.quantity.title} of whole structures and no forces: it is not a potential. "
            "`mlmd predict` and `mlmd evaluate` take it; for dynamics train on a descriptor of atoms, such as mtp."
        )
    if table.path is not None:
        potential.source = table.path.name
    if table.elements is not None:
        potential.given_elements = table.elements
    return potential


def _compares_itself(potential: Any) -> bool:
    """Whether a framework compares what it downloads with the digests."""
    recipe = getattr(potential, "recipe", None)
    return recipe is not None and "trust" in recipe.arguments


def _check_file(kind: str, path: Path) -> None:
    """A file must be there, and of the kind asked for where it says what it is."""
    if not path.exists():
        raise InputError(f"potential ({kind}): {no_such_potential(path)}")
    if kind in ("mlmd", "mtp", "nep", "gap") and (found := recognise(path)) != kind:
        raise ModelError(f"{path}: a potential of kind {found!r}, not {kind!r}.")
    # before anybody is asked to trust the file, since what one trusts should be what it is called
    if kind in RECOGNISED and path.exists() and (told := framework_of(path)) not in (None, kind):
        raise ModelError(
            f'{path}: by what is in it a model of kind "{told}", not "{kind}". Write kind = "{told}", or leave it out.'
        )
    if why := unlike_weights(kind, path):
        raise ModelError(f"{path}: {why}")


def build(kind: str, given: Mapping[str, Any]) -> Any:
    """Call what is registered for a kind with the options given.

    Raises:
        InputError: for an unknown kind, and unknown or missing options.
    """
    try:
        target = find("mlmd.potentials", kind, POTENTIALS)
    except InputError as error:
        if told := written_as(kind):
            raise InputError(f"{kind!r} is not a kind of potential. {told}") from None
        raise InputError(f"{error} {models.hint(kind)}".rstrip()) from None
    parameters = inspect.signature(target).parameters
    if "trust" in given and "trust" not in parameters:
        given = {name: value for name, value in given.items() if name != "trust"}
    known = [name for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(known) == len(parameters):
        for name in given:
            if name not in known:
                raise InputError(f"{name!r} is not an option. {did_you_mean(name, known)}")
    missing = [name for name in known if parameters[name].default is inspect.Parameter.empty and name not in given]
    for name in given if missing else ():
        hint = did_you_mean(name, missing)
        if name not in known and not hint.startswith("Known"):
            raise InputError(f"{name!r} is not an option. {hint}")
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given.")
    return target(**given)


def _dtype(parameters: Sequence[torch.Tensor]) -> torch.dtype:
    return parameters[0].dtype if parameters else torch.float64
