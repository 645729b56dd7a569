"""What a training of a property works on: the input, its data read, split and examined, and the descriptor."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlmd.config import (
    Average,
    CoulombMatrix,
    KernelRidgeFit,
    LinearFit,
    RandomFeaturesFit,
    Train,
    Trained,
    load_train,
    parts_of,
    structure_parts,
)
from mlmd.config.files import sha256
from mlmd.descriptors import Descriptor
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.likeness import Likeness
from mlmd.errors import InputError, some_of
from mlmd.io.labelled import LabelledFrame
from mlmd.io.labels import IGNORED
from mlmd.potentials.property import Quantity
from mlmd.train.dataset import baseline, digest, elements_of, load_frames, split, structure_hash
from mlmd.train.describer import structure_descriptor
from mlmd.train.examine import Finding
from mlmd.train.job import chosen_elements
from mlmd.train.memory import refuse_environments
from mlmd.train.structure_fit import StructureFit

FEWEST = 5
"""Structures to train on."""
ENERGY = Quantity("energy", "eV", True)
"""What is learned where no property is named: the energies of the data, whatever they are called there."""
_OTHERS = dict.fromkeys(("energy", "forces", "stress", "virial"), IGNORED)
"""Labels that say nothing where a property is learned."""


@dataclass(frozen=True)
class PropertyJob:
    """A training that is known to be possible."""

    source: Path
    """The input file."""
    config: Train
    fit: StructureFit
    quantity: Quantity
    train: tuple[LabelledFrame, ...]
    """With values."""
    test: tuple[LabelledFrame, ...]
    digest: str
    """Of training and test structures with their values, and of potentials whose descriptors are used."""
    findings: tuple[Finding, ...]
    """What is odd about them, though not fatal."""
    descriptor: Descriptor
    n_draws: int
    """Of each structure."""
    baseline: np.ndarray
    """(n_elements,) part of the value of an atom; zero unless the property is extensive."""

    @property
    def shares(self) -> tuple[slice, ...]:
        """Columns of each of several descriptors; none where there is one."""
        return self.descriptor.columns if isinstance(self.descriptor, Combined) else ()

    @property
    def name(self) -> str:
        """Of the model."""
        return self.config.card.name or self.source.stem


def prepare_property(source: Path) -> PropertyJob:
    """Read the input and its data.

    Raises:
        InputError: for whatever makes the training impossible.
    """
    config = load_train(source)
    fit, given = config.fit, config.property
    assert isinstance(fit, LinearFit | RandomFeaturesFit | KernelRidgeFit)
    quantity = ENERGY if given is None else Quantity(**given.model_dump())
    labels = labels_of(quantity)
    findings: list[Finding] = []
    frames = with_values(load_frames(config.data, labels), quantity, findings)
    if config.test is not None:
        training, test = frames, with_values(load_frames(config.test, labels), quantity, findings)
    else:
        training, test = split(frames, config.test_fraction, config.seed)
    elements = chosen_elements(config, training)
    _check(training, test, elements, quantity)
    findings += _copies(training, test, quantity)
    energies = [replace(frame, energy=frame.value) for frame in training]
    part = baseline(energies, elements, "fit") if quantity.extensive else np.zeros(len(elements))
    descriptor = structure_descriptor(config, [*training, *test], elements)
    if isinstance(descriptor, Likeness):
        refuse_environments(training, descriptor.local.n_features)
    parts = structure_parts(config.descriptor) or (config.descriptor,)
    local = [one.of if isinstance(one, Average) else one for one in parts]
    models = [sha256(one.model) for few in local for one in parts_of(few) if isinstance(one, Trained)]
    return PropertyJob(
        source=source,
        config=config,
        fit=fit,
        quantity=quantity,
        train=training,
        test=test,
        digest=hashlib.sha256(" ".join([digest(training), digest(test), *models]).encode()).hexdigest(),
        findings=tuple(findings),
        descriptor=descriptor,
        n_draws=max(one.n_draws if isinstance(one, CoulombMatrix) else 1 for one in parts),
        baseline=part,
    )


def labels_of(quantity: Quantity, name: str | None = None) -> dict[str, str]:
    """How the labels of files are called that are read for a property; those of energies are found by themselves.

    Args:
        quantity: the property.
        name: what the files call it, where that is not its own name.
    """
    return {} if quantity == ENERGY and name is None else _OTHERS | {"property": name or quantity.name}


def with_values(
    frames: Sequence[LabelledFrame], quantity: Quantity, findings: list[Finding]
) -> tuple[LabelledFrame, ...]:
    """The frames that have the property, and nothing but it; those without are told as a finding."""
    values = [frame.energy if frame.value is None else frame.value for frame in frames]
    missing = [frame.source for frame, value in zip(frames, values, strict=True) if value is None]
    if missing:
        which = f"{len(missing)} of {len(frames)} structures have no {quantity.name}: {some_of(missing)}"
        findings.append(Finding("warning", f"{which}. They are left out."))
    return tuple(
        replace(frame, energy=None, forces=None, stress=None, unused_stress=False, value=value)
        for frame, value in zip(frames, values, strict=True)
        if value is not None
    )


def _check(
    training: Sequence[LabelledFrame], test: Sequence[LabelledFrame], elements: Sequence[str], quantity: Quantity
) -> None:
    """Refuse what nothing can be learned from."""
    if len(training) < FEWEST:
        raise InputError(
            f"{len(training)} structures with {quantity.name} are there to train on; {FEWEST} are the fewest, and "
            "hundreds what is usual. Add structures."
        )
    values = {frame.value for frame in training}
    if len(values) == 1:
        raise InputError(
            f"{quantity.name} is {values.pop():.10g} for all {len(training)} training structures: there is nothing to "
            "learn. Is it the number that was meant?"
        )
    for element in elements_of(test):
        if element not in elements:
            where = next(frame.source for frame in test if element in frame.atoms.get_chemical_symbols())
            raise InputError(
                f"{element} occurs only in test structures ({where}), so nothing is learned about it. Add training "
                f"structures with {element}, or remove these."
            )


def _copies(
    training: Sequence[LabelledFrame], test: Sequence[LabelledFrame], quantity: Quantity
) -> list[Finding]:  # fmt: skip
    """The same structure more than once: a kernel may become singular, and a test says nothing."""
    first: dict[str, LabelledFrame] = {}
    same = []
    for frame in training:
        known = first.setdefault(structure_hash(frame.atoms), frame)
        if known is not frame:
            unlike = "" if known.value == frame.value else f" with another {quantity.name}"
            same.append(f"{frame.source} = {known.source}{unlike}")
    trained = [(frame, first.get(structure_hash(frame.atoms))) for frame in test]
    leaked = [f"{frame.source} = {copy.source}" for frame, copy in trained if copy is not None]
    found = []
    for pairs, what in ((same, "training structures are copies of others"), (leaked, "test structures are trained on")):
        if pairs:
            found.append(Finding("warning", f"{len(pairs)} {what}: {some_of(pairs)}. Remove them."))
    return found
