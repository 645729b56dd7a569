"""What a training works on: the input, its data read, split and examined, and the potential to begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlmd.config import Train, load_train
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError, did_you_mean
from mlmd.fitting.linear import Linear
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.dataset import baseline, digest, elements_of, load_frames, smallest_distance, split
from mlmd.train.equations import Sigma
from mlmd.train.examine import Finding, examine
from mlmd.train.shards import Problem
from mlmd.units import BAR

_CLOSER = 0.95
"""Radial functions begin at this part of the shortest distance in the data: atoms will come a little closer."""
_NOISE = 0.1
"""Standard deviation of the random part of the first radial coefficients: elements must not stay alike."""


@dataclass(frozen=True)
class Job:
    """A training that is known to be possible."""

    source: Path
    """The input file."""
    config: Train
    train: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]
    digest: str
    """Of training and test structures with their labels."""
    findings: tuple[Finding, ...]
    """What is odd about them, though not fatal."""
    potential: LearnedPotential
    """With the coefficients to begin with."""
    problem: Problem

    @property
    def name(self) -> str:
        """Of the potential."""
        return self.config.card.name or self.source.stem

    @property
    def free_constants(self) -> bool:
        """Whether the energies of single atoms are fitted; else they are those of the baseline."""
        return self.config.baseline == "fit"

    @property
    def radial(self) -> bool:
        """Whether the radial coefficients are optimised."""
        return self.config.fit.radial == "optimise"


def prepare(source: Path) -> Job:
    """Read the input and its data.

    Raises:
        InputError: for whatever makes the training impossible, all that is known of it in one message.
    """
    config = load_train(source)
    frames = load_frames(config.data)
    if config.test is not None:
        training, test = frames, load_frames(config.test)
    else:
        training, test = split(frames, config.test_fraction, config.seed)
    elements = _elements(config, training)
    findings = _examine(config, training, test)
    energies = baseline(training, elements, config.baseline)
    closest = smallest_distance(training)
    potential = start(config, closest, elements)
    if potential.moments_and_linear()[0].min_distance > closest:
        findings.append(
            Finding(
                "warning",
                f"model: min_distance: {config.model.min_distance:g} Å is longer than the shortest distance of the "
                f"data, {closest:.3f} Å: radial functions grow fast below it. Leave it out, or give a shorter one.",
            )
        )
    return Job(
        source=source,
        config=config,
        train=training,
        test=test,
        digest=hashlib.sha256(f"{digest(training)} {digest(test)}".encode()).hexdigest(),
        findings=tuple(findings),
        potential=potential,
        problem=Problem(training, sigma_of(config), energies, potential.spec(), config.seed),
    )


def start(config: Train, shortest: float, elements: Sequence[str]) -> LearnedPotential:
    """The potential that a training begins with.

    Its radial functions are plain polynomials; where they are to be optimised random numbers from the seed are added.

    Args:
        config: the input.
        shortest: Å, distance of the closest atoms of the data.
        elements: chemical symbols, in the order of the species.

    Raises:
        InputError: when no atoms of the data are within the cutoff of each other.
    """
    model = config.model
    closest = model.min_distance
    if not isinstance(closest, float):
        closest = round(_CLOSER * shortest, 3)
    if closest >= model.cutoff:
        raise InputError(
            f"model: cutoff: {model.cutoff:g} Å, but no two atoms of the data are closer than {closest:g} Å: nothing "
            "can be learned. Give a longer cutoff; is the unit of length right?"
        )
    moments = Moments(
        elements=elements,
        cutoff=model.cutoff,
        min_distance=closest,
        level=model.level,
        n_chebyshev=model.n_chebyshev,
        scaling=1 / (model.cutoff - closest) ** 2,  # radial functions of order one
    )
    if config.fit.radial == "optimise":
        coefficients = moments.radial.coefficients
        noise = np.random.default_rng(config.seed).standard_normal(coefficients.shape)
        with torch.no_grad():
            coefficients.add_(torch.from_numpy(noise), alpha=_NOISE)
    return LearnedPotential(moments, Linear(n_features=moments.n_features, n_kinds=len(elements)))


def sigma_of(config: Train) -> Sigma:
    """The accuracy aimed at, in eV, eV/Å and eV/Å³."""
    given = config.sigma
    return Sigma(energy=given.energy, forces=given.forces, stress=given.stress * BAR, groups=dict(given.groups))


def _elements(config: Train, training: Sequence[LabelledFrame]) -> tuple[str, ...]:
    """Those of the input, or of the data.

    Raises:
        InputError: when the data have others than the input.
    """
    found = elements_of(training)
    elements = config.elements or found
    missing = [element for element in found if element not in elements]
    if missing:
        raise InputError(
            f"elements: {', '.join(elements)} are given; the data also have {', '.join(missing)}. Add them, or leave "
            "elements out."
        )
    unseen = [element for element in elements if element not in found]
    if unseen:
        raise InputError(
            f"elements: {', '.join(unseen)} occurs in no training structure, so nothing would be learned about it. "
            "Remove it, or add structures."
        )
    return tuple(elements)


def _examine(config: Train, training: Sequence[LabelledFrame], test: Sequence[LabelledFrame]) -> list[Finding]:
    """What is odd about the data.

    Raises:
        InputError: for what makes training impossible, all of it in one message.
    """
    findings = examine(training, test, config.model.cutoff)
    fatal = [finding.text for finding in findings if finding.severity == "error"]
    if fatal:
        raise InputError("\n".join(fatal))
    groups = {frame.group for frame in training}
    for group in config.sigma.groups:
        if group not in groups:
            raise InputError(f"sigma: groups: no structure is of group {group!r}. {did_you_mean(group, groups - {''})}")
    return findings
