"""The one file of a trained potential, `.mlmd`: read without executing anything.

A safetensors file (a length, a JSON header, raw numbers). Its metadata hold ``format``, ``version``, and
as JSON the ``spec`` (what an input file would say) and the ``card`` (what a person should know), and a
``digest`` over all of it and the tensors, so that damage does not go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

import mlmd
from mlmd.config.files import model_within
from mlmd.errors import InputError, ModelError
from mlmd.potentials import POTENTIALS, Potential
from mlmd.potentials.trust import check as check_trust
from mlmd.precision import dtype_of
from mlmd.registry import find

if TYPE_CHECKING:
    from mlmd.potentials.property import PropertyModel

FORMAT = "mlmd-potential"
VERSION = 1
"""Of the files that are written; older ones are brought up to it when read."""
_SAVED = {
    "learned": "mlmd.potentials.learned:LearnedPotential",
    "force-field": "mlmd.potentials.force_field:ForceField",
    "nep": "mlmd.potentials.nep:NEP",
    "sum": "mlmd.potentials.combine:Sum",
    "committee": "mlmd.potentials.committee:Committee",
    "gap-pairs": "mlmd.potentials.gap_pairs:GaussianPairs",
    "eam": "mlmd.potentials.eam:EAM",
    "stillinger-weber": "mlmd.potentials.stillinger_weber:StillingerWeber",
    "tersoff": "mlmd.potentials.tersoff:Tersoff",
    "property": "mlmd.potentials.property:PropertyModel",
    "external": "mlmd.pretrained.native:Native",
    "absent": "mlmd.potentials.absent:Absent",
}
_DTYPES = (torch.float64, torch.float32, torch.int64, torch.int32)
FACTS = frozenset(("elements", "cutoff", "units", "mlmd"))
"""Entries of a card that are filled in when a file is written."""
UNITS = {"energy": "eV", "length": "Å", "force": "eV/Å", "stress": "eV/Å³"}


def save(potential: Potential | PropertyModel, path: Path | str, card: Mapping[str, Any] | None = None) -> None:
    """Write a potential to one file, whole or not at all.

    Args:
        potential: one that is built of parts mlmd can build again, not somebody else's model.
        path: where; an existing file is replaced.
        card: training set, errors, licence, ...; elements, cutoff, units and mlmd's version are filled in.

    Raises:
        InputError: when the potential cannot be stored.
    """
    if not isinstance(potential, torch.nn.Module) or not hasattr(type(potential), "restore"):
        raise InputError(f"a {type(potential).__name__} cannot be stored as .mlmd; keep its own file.")
    path = Path(path)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in potential.state_dict().items()}
    facts = {
        "elements": list(potential.elements),
        "cutoff": f"{potential.cutoff!r} Å",
        "units": getattr(potential, "units", UNITS),
        "mlmd": mlmd.__version__,
    }
    _write(path, json.dumps(potential.spec()), {**(card or {}), **facts}, state)


def update_card(path: Path | str, extra: Mapping[str, Any]) -> None:
    """Add to the card of a file, or replace parts of it; the potential stays as it is.

    The file is replaced whole or not at all.

    Args:
        path: an existing file.
        extra: new entries of the card (JSON-able), e.g. ``{"properties": {...}}``.

    Raises:
        InputError: when the file does not exist, or an entry is one that mlmd fills in.
        ModelError: as `load`.
    """
    path = Path(path)
    if own := sorted(FACTS & extra.keys()):
        raise InputError(f"{path}: {' and '.join(own)} of the card belong to the potential and cannot be changed.")
    metadata, state = _read(path)
    _write(path, metadata["spec"], {**json.loads(metadata["card"]), **extra}, state)


def _write(path: Path, spec: str, card: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a file whole or not at all."""
    texts = {"spec": spec, "card": json.dumps(card)}
    metadata = {"format": FORMAT, "version": str(VERSION), **texts, "digest": _digest(texts, state)}
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            stream.write(_ordered(to_bytes(dict(state), metadata=metadata)))
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(
    path: Path | str, precision: str = "float64", trust: Sequence[str] = (), *, only_own: bool = False
) -> Potential:
    """Read a potential.

    Args:
        path: the file.
        precision: of the numbers it computes with.
        trust: digests of files that may execute code; needed where a part of the potential is somebody else's model.
        only_own: leave such parts out, which then need no trust: of the potential its other parts can be looked at,
            and it predicts nothing.

    Raises:
        InputError: when the file does not exist.
        ModelError: when it is damaged, of another kind or of a later version, or has a part that executes code and is
            not trusted.
    """
    path = Path(path)
    metadata, state = _read(path)
    try:
        spec = json.loads(metadata["spec"])
        foreign = [describe_external(one) for one in externals(spec)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: its parts do not fit together: {_one_line(error)}.") from None
    if foreign and only_own:
        spec = _own(spec)
    elif foreign:
        check_trust(path, trust, f"a part of it is computed by {' and '.join(foreign)}, which is code that it names")
    try:
        potential = restore(spec, state)
    except InputError as error:
        if foreign:  # what it needs is not here: the file is sound
            raise InputError(f"{path}: {error}") from None
        raise ModelError(f"{path}: its parts do not fit together: {_one_line(error)}.") from None
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, RecursionError) as error:
        raise ModelError(f"{path}: its parts do not fit together: {_one_line(error)}.") from None
    try:
        _load_state(potential, state)
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, RecursionError, InputError) as error:
        raise ModelError(f"{path}: its parts do not fit together: {_one_line(error)}.") from None
    return potential.to(dtype_of(precision))


def externals(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models of others that a potential is built of: to build it is to run the code that they name."""
    if spec.get("kind") == "external":
        return [spec["recipe"]]
    return [one for name in ("parts", "members") for part in spec.get(name, ()) for one in externals(part)]


def _own(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with stand-ins for models of others."""
    if spec.get("kind") == "external":
        return {"kind": "absent", "elements": spec.get("elements")}
    return {**spec, **{name: [_own(one) for one in spec[name]] for name in ("parts", "members") if name in spec}}


def describe_external(recipe: Mapping[str, Any]) -> str:
    """A model of others in words."""
    python = recipe["python"]
    name = json.dumps(recipe["calculator"] or recipe["kind"], ensure_ascii=False)
    return f"{name}, {json.dumps(recipe['arguments'])}" + (f" in {json.dumps(python)}" if python else "")


def read_card(path: Path | str) -> dict[str, Any]:
    """The card of a file, without its tensors.

    Raises:
        InputError, ModelError: as `load`.
    """
    return _read_text(path, "card")


def read_spec(path: Path | str) -> dict[str, Any]:
    """What an input file would say to build the potential of a file, which is not built.

    Raises:
        InputError, ModelError: as `load`.
    """
    return _read_text(path, "spec")


def fingerprint(potential: Potential) -> str:
    """SHA-256 over what a file would hold of a potential: its spec and its tensors, not what it predicts."""
    assert isinstance(potential, torch.nn.Module) and hasattr(potential, "spec")
    state = {name: tensor.detach().cpu() for name, tensor in potential.state_dict().items()}
    return _digest({"spec": json.dumps(potential.spec())}, state)


def restore(spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Any:
    """The potential of a spec, with its parts shaped to fit the state, which is not loaded yet."""
    kind = find("mlmd.potentials", spec["kind"], POTENTIALS | _SAVED)
    if not hasattr(kind, "restore"):
        raise ValueError(f"potentials of kind {spec['kind']!r} are not stored in such files")
    return kind.restore(spec, state)


def is_modelfile(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a safetensors file: a length and a JSON object."""
    return len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors, checked."""
    if path.is_dir():
        raise InputError(model_within(path) or f"{path} is a folder, not a .mlmd file.")
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_version(path, metadata)
            state = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, ValueError, OverflowError, MemoryError, OSError) as error:
        raise ModelError(f"{path}: not an mlmd potential, or damaged: {_one_line(error)}.") from None
    texts = {name: metadata.get(name, "") for name in ("spec", "card")}
    if tensors and _digest(texts, state) != metadata.get("digest"):
        raise ModelError(f"{path}: damaged: its contents do not have the digest that was written with them.")
    return metadata, state


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its header in alphabetical order; as it comes, the order changes from call to call."""
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:begin]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the numbers begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header + content[begin:]


def _read_text(path: Path | str, name: str) -> dict[str, Any]:
    """One of the JSON texts of a file, without its tensors."""
    metadata, _ = _read(Path(path), tensors=False)
    content: dict[str, Any] = json.loads(metadata[name])
    return content


def _check_version(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path}: a safetensors file, but not an mlmd potential.")
    version = metadata.get("version", "")
    if not version.isdecimal() or int(version) < 1:
        raise ModelError(f"{path}: {version[:20]!r} is not a version.")
    if int(version) > VERSION:
        raise ModelError(
            f"{path}: written in version {version} of the format; mlmd {mlmd.__version__} reads up to "
            f"{VERSION}. Update mlmd."
        )


def _load_state(potential: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the tensors in, insisting on names, shapes, types of number and finite values."""
    own = potential.state_dict()
    if own.keys() != state.keys():
        raise ValueError(f"tensors {sorted(own.keys() ^ state.keys())} are missing or not expected")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape or tensor.dtype not in _DTYPES:
            raise ValueError(f"tensor {name!r} is {tuple(tensor.shape)} of {tensor.dtype}")
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise ValueError(f"tensor {name!r} has numbers of another type, {tensor.dtype}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name!r} has numbers that are not finite")
    potential.load_state_dict(dict(state))


def _digest(texts: Mapping[str, str], state: Mapping[str, Tensor]) -> str:
    """SHA-256 over texts and tensors, with names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(texts):
        digest.update(f"{name}\0{texts[name]}\0".encode())
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
