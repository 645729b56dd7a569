"""The potential of a run in words: its kind, its card, its digest, and whose papers it stands on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from mlmd import models
from mlmd.errors import MlmdError
from mlmd.report.references import PAPERS, Reference, from_words
from mlmd.rundir import Run

_KINDS = {
    "mtp": ("a moment tensor potential", "mtp mlip"),
    "moments": ("moment tensor descriptors", "mtp"),
    "nep": ("a neuroevolution potential", "nep"),
    "hdnnp": ("a high-dimensional neural network potential", "hdnnp"),
    "symmetry": ("atom-centred symmetry functions", "hdnnp"),
    "snap": ("a spectral neighbour analysis potential", "snap"),
    "bispectrum": ("bispectrum components", "snap"),
    "gap": ("a Gaussian approximation potential", "gap"),
    "soap": ("smooth overlaps of atomic positions", "soap"),
    "eam": ("an embedded-atom potential", "eam"),
    "stillinger-weber": ("a Stillinger–Weber potential", "stillinger-weber"),
    "tersoff": ("a Tersoff potential", "tersoff"),
    "lennard-jones": ("a Lennard-Jones potential", "lennard-jones"),
    "morse": ("a Morse potential", "morse"),
    "zbl": ("the Ziegler–Biersack–Littmark repulsion", ""),
    "coulomb": ("Coulomb interactions of fixed charges", ""),
    "d3": ("the D3 dispersion correction", "d3"),
    "chgnet": ("CHGNet", "chgnet"),
    "nequip": ("a NequIP model", "nequip"),
    "sevennet": ("a SevenNet model", "sevennet"),
    "deepmd": ("a Deep Potential model", "deepmd"),
    "mace": ("a MACE model", ""),
    "none": ("no potential", ""),
}
"""Kind of a potential or of a descriptor -> in words, the keys of its papers."""
_ENDINGS = {
    ".mtp": "mtp",
    ".almtp": "mtp",
    ".nep": "nep",
    ".snapcoeff": "snap",
    ".sw": "stillinger-weber",
    ".tersoff": "tersoff",
}
_OWN = {"kind", "path", "precision", "elements", "trust"}


def potential_sentences(run: Run) -> Iterator[tuple[str, tuple[Reference, ...]]]:
    """One sentence for each potential that was summed, and one for each model of others."""
    given = run.manifest.get("input") or {}
    tables = [one for one in given.get("potential") or () if isinstance(one, Mapping)]
    for number, table in enumerate(tables):
        yield _sentence(run, table, "Forces came from" if number == 0 else "To these were added those of")
    for model in run.manifest.get("models") or ():
        if isinstance(model, Mapping):
            made = ", ".join(f"{name} {version}" for name, version in (model.get("versions") or {}).items())
            told = [str(model.get("calculator", "a calculator")), *([f"versions {made}"] if made else [])]
            told += [f"licence {model['licence']}"] if model.get("licence") else []
            yield f"The model of others was {', '.join(told)}.", ()
    if isinstance(region := given.get("mlmm"), Mapping):
        fields = region.get("forcefield") or ()
        names = ", ".join(map(str, [fields] if isinstance(fields, str) else fields))
        yield f"It described the region {region.get('region', '?')}, the force field {names} the rest.", ()


def _sentence(run: Run, table: Mapping[str, Any], begin: str) -> tuple[str, tuple[Reference, ...]]:
    path = PurePath(str(table.get("path") or ""))
    known = (_ENDINGS[ending] for ending in path.suffixes if ending in _ENDINGS)
    kind = str(table.get("kind") or next(known, "nep" if path.name == "nep.txt" else ""))
    digest = _digest(run, table)
    spec, card = _read(Path(str(table["path"])), digest) if table.get("path") else ({}, {})
    words, papers = _of_kind(kind, spec)
    told = f"the potential {path.name}" if path.name else words
    details = [words] if path.name and words else []
    if card.get("cutoff"):
        details.append(f"cutoff {card['cutoff']}")
    details += _parameters(table)
    if table.get("precision") == "float32":
        details.append("single precision")
    if digest:
        details.append(f"SHA-256 {str(digest)[:12]}…")
    if card.get("source"):
        details.append(f"trained on {card['source']}")
    details += _errors(card)
    if card.get("citation"):
        papers = (*papers, from_words(str(card["citation"])))
    more = f" ({'; '.join(details)})" if details else ""
    return f"{begin} {told or 'a potential'}{more}.", papers


def _of_kind(kind: str, spec: Mapping[str, Any]) -> tuple[str, tuple[Reference, ...]]:
    """The kind in words with its papers; of a trained one its descriptor and regressor."""
    if spec.get("kind") == "learned" and isinstance(descriptor := spec.get("descriptor"), Mapping):
        name = str(descriptor.get("kind", ""))
        words, key = _KINDS.get(name, (name, ""))
        regressor = (spec.get("regressor") or {}).get("kind", "a")
        return f"{regressor} fit of {words}", tuple(PAPERS[one] for one in key.split())
    words, key = _KINDS.get(kind or str(spec.get("kind", "")), (kind, ""))
    return words, tuple(PAPERS[one] for one in key.split())


def _parameters(table: Mapping[str, Any]) -> list[str]:
    """Numbers that stand in the input itself, of which there are few."""
    plain = {key: value for key, value in table.items() if key not in _OWN and isinstance(value, str | int | float)}
    return [f"{key.replace('_', ' ')} {value}" for key, value in plain.items()][:6]


def _digest(run: Run, table: Mapping[str, Any]) -> str | None:
    """SHA-256 of the file of a potential as it was when the run began."""
    files = [one for one in (run.manifest.get("files") or {}).values() if isinstance(one, Mapping)]
    found = (one.get("sha256") for one in files if table.get("path") and one.get("path") == table["path"])
    return next((str(one) for one in found), None)


def _read(path: Path, digest: str | None) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Spec and card of a file of mlmd's; empty of others, and where it is no longer there or no longer the same."""
    from mlmd.potentials.modelfile import read_card, read_spec

    if path.suffix != ".mlmd":
        return {}, {}
    for place in filter(None, (path, models.find(path.stem))):  # one that comes with mlmd may have moved with it
        try:
            if digest in (None, hashlib.sha256(place.read_bytes()).hexdigest()):
                return read_spec(place), read_card(place)
        except (MlmdError, OSError, ValueError):
            continue
    return {}, {}


def _errors(card: Mapping[str, Any]) -> list[str]:
    """Root mean squared errors for structures that it was not trained on."""
    rows = ((card.get("errors") or {}).get("test") or {}).get("rows") or ()
    found = [
        f"{row['property']} {row['rmse']:.3g} {row['unit']}"
        for row in rows
        if isinstance(row, Mapping) and row.get("by") == "all" and isinstance(row.get("rmse"), int | float)
    ]
    return [f"errors (RMSE) for its test set: {', '.join(found)}"] if found else []
