"""Whether a published model computes here what it computed where it was looked at.

`references.json` holds, for weights by their SHA-256 and each release of the library that computes them, energy and
forces of a small structure. It is written by `benchmarks/model_references.py`, which anybody can run. A release can
read the files of another and compute something else without a word; no test of a model by itself finds that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from mlmd.errors import ModelError
from mlmd.potentials import Potential
from mlmd.potentials.evaluate import predictor

FILE = Path(__file__).with_name("references.json")
STRUCTURES = ("NaCl", "CH3CH2OH")
"""Names of what models are asked about: rock salt and ethanol, off their places."""
ENERGY, DIGITS, FORCES = 1e-4, 5e-7, 2e-3
"""eV per atom, part of the energy, and eV/Å: far above what single precision differs by on other processors."""


@dataclass(frozen=True)
class Reference:
    """What a model said about a structure."""

    kind: str
    """Of the potential."""
    weights: str
    """SHA-256 of its file; of several, of their sorted digests, one a line."""
    options: dict[str, Any]
    """Of the model, without those that name its weights."""
    library: str
    version: str
    structure: str
    """A name of `STRUCTURES`."""
    energy: float
    """eV."""
    forces: tuple[tuple[float, float, float], ...]
    """(n_atoms, 3) eV/Å."""

    def agrees(self, other: Reference) -> bool:
        """Whether another one has the same numbers."""
        forces = np.array(self.forces) - np.array(other.forces)
        close = ENERGY * len(forces) + DIGITS * abs(self.energy)
        return abs(self.energy - other.energy) <= close and bool(np.abs(forces).max() <= FORCES)


def stored(file: Path | None = None) -> tuple[Reference, ...]:
    """The references of a file; those of mlmd by default."""
    return tuple(Reference(**one) for one in json.loads((file or FILE).read_text(encoding="utf-8")))


def store(references: Sequence[Reference], file: Path) -> None:
    """Write them, in an order that does not depend on when they were made."""
    rows = sorted(references, key=lambda one: (one.kind, one.weights, str(one.options), one.version, one.structure))
    file.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n", encoding="utf-8")


def structure(name: str) -> Atoms:
    """One of `STRUCTURES`; every atom is displaced by up to 0.1 Å, so that no force is zero by symmetry."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) if name == "NaCl" else molecule(name)
    atoms.positions += 0.1 * np.sin(1.0 + np.arange(3 * len(atoms))).reshape(-1, 3)
    return atoms


@dataclass(frozen=True)
class Identity:
    """Which weights, and what computes them; see `Reference`."""

    kind: str
    weights: str
    options: dict[str, Any]
    library: str
    version: str

    def is_of(self, reference: Reference) -> bool:
        """Whether numbers are of the same model, by whatever release."""
        mine, theirs = asdict(self), asdict(reference)
        return all(mine[name] == theirs[name] for name in ("kind", "weights", "options", "library"))


def identity(potential: Potential) -> Identity | None:
    """Of a model of others; None where its weights or its library are not known."""
    external = getattr(potential, "external", potential)
    recipe, facts = getattr(external, "recipe", None), getattr(external, "facts", {})
    digests = sorted((getattr(external, "files", {}) or facts.get("weights", {})).values())
    library = getattr(recipe, "library", "")
    if recipe is None or not digests or library not in facts.get("versions", {}):
        return None
    return Identity(
        kind=recipe.kind,
        weights=digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        options={key: value for key, value in recipe.arguments.items() if key not in ("path", "name")},
        library=library,
        version=str(facts["versions"][library]),
    )


def measure(potential: Potential, own: Identity, name: str, device: str = "cpu") -> Reference:
    """What a model says about a structure here.

    Raises:
        InputError, SimulationError: when it does not take the structure.
    """
    found = predictor(potential, device)(structure(name))
    forces = tuple((float(x), float(y), float(z)) for x, y, z in found.forces)
    return Reference(**asdict(own), structure=name, energy=found.energy, forces=forces)


def compare(potential: Potential, device: str = "cpu", known: Sequence[Reference] | None = None) -> Iterator[str]:
    """What is to be told of the models of others that a potential is, or is built of; nothing of unknown weights.

    Args:
        potential: any.
        device: where it computes.
        known: references; those of mlmd by default.

    Raises:
        ModelError: when a model computes something else than the same release of its library computed before.
    """
    for part in (part for name in ("parts", "members") for part in getattr(potential, name, ())):
        yield from compare(part, device, known)
    own = identity(potential)
    if own is None:
        return
    matching = [one for one in (stored() if known is None else known) if own.is_of(one)]
    for name in dict.fromkeys(one.structure for one in matching):
        found = measure(potential, own, name, device)
        yield from _verdict(found, [one for one in matching if one.structure == name])


def _verdict(own: Reference, others: Sequence[Reference]) -> Iterator[str]:
    """Of one model and one structure."""
    same = [one for one in others if (one.library, one.version) == (own.library, own.version)]
    for one in same:
        if not one.agrees(own):
            raise ModelError(
                f"the {own.kind} model computes something else here than {_difference(own, one)}. Nothing of it can be "
                f"trusted: install {own.library}, and what it needs, anew, or give the weights as they were published."
            )
        yield f"the {own.kind} model gives {own.structure} the energy and forces that are known of {_by(one)}"
    for one in others if not same else ():
        if one.agrees(own):
            yield f"the {own.kind} model, by {_by(own)}, gives {own.structure} energy and forces of {_by(one)}"
        else:
            yield (
                f"warning: the {own.kind} model computes something else than {_difference(own, one)}. Another release "
                f"may read its weights wrong: take {one.library}=={one.version}, or find out why"
            )


def _by(one: Reference) -> str:
    return f"{one.library} {one.version}"


def _difference(own: Reference, other: Reference) -> str:
    """In which numbers two differ."""
    largest = float(np.abs(np.array(own.forces) - np.array(other.forces)).max())
    return (
        f"{_by(other)} did: {own.structure} has an energy of {own.energy:.5f} eV by {_by(own)}, and had "
        f"{other.energy:.5f} eV; forces differ by up to {largest:.3g} eV/Å"
    )
