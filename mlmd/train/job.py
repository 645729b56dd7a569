"""What a training works on: the input, its data read, split and examined, and the potential to begin with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlmd.config import MTP, AGNIFit, KernelFit, LinearFit, Train, Trained, Uncertainty, load_train, parts_of
from mlmd.config.files import sha256
from mlmd.errors import InputError, did_you_mean, some_of
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.io.labelled import LabelledFrame, forces_alone
from mlmd.potentials import Potential
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.modelfile import fingerprint, read_spec
from mlmd.pretrained.external import identities
from mlmd.train.atom_descriptor import reach
from mlmd.train.dataset import baseline, digest, elements_of, load_frames, smallest_distance, split
from mlmd.train.delta import above, cost, in_the_way, joined, load_given, remember, slow_parts
from mlmd.train.environments import lone_rows, pins
from mlmd.train.equations import Sigma
from mlmd.train.examine import Finding, examine
from mlmd.train.memory import bytes_of_slopes, refuse_large
from mlmd.train.shards import Problem
from mlmd.train.start import start
from mlmd.units import BAR

LEAST_RIDGE = 1e-10
"""Relative ridge beside a prior: only against columns of zeros."""
WEAK_RIDGE = 1e-6
"""Relative ridge until the data have chosen another."""


@dataclass(frozen=True)
class Job:
    """A training that is known to be possible."""

    source: Path
    """The input file."""
    config: Train
    train: tuple[LabelledFrame, ...]
    test: tuple[LabelledFrame, ...]
    digest: str
    """Of training and test structures with their labels, the given potential, and those whose descriptors are used."""
    findings: tuple[Finding, ...]
    """What is odd about them, though not fatal."""
    potential: LearnedPotential
    """With the coefficients to begin with."""
    problem: Problem
    """Its frames are those to train on, with what the given potential leaves of their labels."""
    given: Potential | None
    """Potential of the baseline, to which the fitted one is added."""
    test_above: tuple[LabelledFrame, ...]
    """The test structures with what it leaves of their labels."""

    @property
    def name(self) -> str:
        """Of the potential."""
        return self.config.card.name or self.source.stem

    @property
    def free_constants(self) -> bool:
        """Whether the energies of the elements are fitted; else they are those of the baseline."""
        return self.config.baseline.energies == "fit"

    @property
    def pinned(self) -> bool:
        """Whether single atoms have the energies of the baseline, exactly."""
        return pins(self.config)

    @property
    def result(self) -> Potential:
        """The potential with the one of the baseline: what is compared with the labels and written."""
        return joined(self.potential, self.given)

    @property
    def radial(self) -> bool:
        """Whether the radial coefficients are optimised."""
        fit = self.config.fit
        return self.potential.radial is not None and isinstance(fit, LinearFit) and fit.radial == "optimise"

    @property
    def max_iterations(self) -> int:
        """Steps of the optimisation, at most."""
        return self.config.fit.max_iterations if isinstance(self.config.fit, LinearFit) else 1

    @property
    def tolerance(self) -> float:
        """Relative change of the loss at which the optimisation is done."""
        return self.config.fit.tolerance if isinstance(self.config.fit, LinearFit) else 0.0

    @property
    def regularisation(self) -> float:
        """Penalty of coefficients relative to the norms of their columns."""
        if not isinstance(self.config.fit, LinearFit):
            return LEAST_RIDGE
        given = self.config.fit.regularisation
        return given if isinstance(given, float) else WEAK_RIDGE

    @property
    def chosen_by(self) -> str | None:
        """How the data choose the strength of the regularisation in the end; None where the input says it."""
        given = getattr(self.config.fit, "regularisation", None)
        return given if isinstance(given, str) else None


def prepare(
    source: Path,
    *,
    counted: bool = False,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Job:
    """Read the input and its data.

    Args:
        source: the input file.
        counted: whether the points of kernels that lie farthest from each other are not looked for, which takes
            minutes where they are thousands: as many others stand in their places. Slow models in the baseline are
            asked about one structure alone. For what a training costs, not to be trained.
        folder: where what slow models in the baseline say is kept; None keeps nothing.
        progress: called with the structures that such models were asked about, and their number.

    Raises:
        InputError: for whatever makes the training impossible, all that is known of it in one message.
        ModelError: for a potential whose descriptor is taken, and that is damaged or none.
    """
    config = load_train(source)
    for one in parts_of(config.descriptor):
        if isinstance(one, Trained):
            read_spec(one.model)  # a wrong file is told before data are read, which may take a while
    of_forces = isinstance(config.fit, AGNIFit)
    findings: list[Finding] = []
    frames = _with_labels(load_frames(config.data), findings, of_forces=of_forces)
    if config.test is not None:
        training, test = frames, _with_labels(load_frames(config.test), findings, of_forces=of_forces)
    else:
        training, test = split(frames, config.test_fraction, config.seed)
    elements = chosen_elements(config, training)
    findings += _examine(config, training, test, elements)
    if of_forces:
        training, test = tuple(forces_alone(training)), tuple(forces_alone(test))
        if all(frame.forces is None for frame in training):
            raise InputError("fit: agni learns forces, and the data have none.")
    given = load_given(config.baseline.potential, elements) if config.baseline.potential else None
    left, test_left = _left(given, training, test, findings, counted, folder, progress)
    if isinstance(config.fit, AGNIFit):
        energies = np.zeros(len(elements))
    else:
        energies = baseline(left, elements, config.baseline.energies)
    closest = smallest_distance(training)
    potential = start(config, training, closest, elements, counted=counted)
    _check_wishes(config.uncertainty, potential)
    for one in parts_of(config.descriptor):
        if isinstance(one, MTP) and isinstance(one.min_distance, float) and one.min_distance > closest:
            findings.append(
                Finding(
                    "warning",
                    f"descriptor: min_distance: {one.min_distance:g} Å is longer than the shortest distance of the "
                    f"data, {closest:.3f} Å: radial functions grow fast below it. Leave it out, or give a shorter one.",
                )
            )
    problem = Problem(left, sigma_of(config), energies, potential.spec(), config.seed, _lone(config, potential))
    if isinstance(config.fit, KernelFit):
        refuse_large(problem.n_equations, bytes_of_slopes(training, potential.descriptor.n_features))
    return Job(
        source=source,
        config=config,
        train=training,
        test=test,
        digest=hashlib.sha256(" ".join(_digests(config, training, test, given)).encode()).hexdigest(),
        findings=tuple(findings),
        potential=potential,
        problem=problem,
        given=given,
        test_above=test_left,
    )


def _left(
    given: Potential | None,
    training: tuple[LabelledFrame, ...],
    test: tuple[LabelledFrame, ...],
    findings: list[Finding],
    counted: bool,
    folder: Path | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[tuple[LabelledFrame, ...], tuple[LabelledFrame, ...]]:
    """What the potential of the baseline leaves of the labels to train and to test on; see `prepare`."""
    if given is None:
        return training, test
    if counted and slow_parts(given):
        findings.append(Finding("warning", cost(given, (*training, *test))))
        return training, test
    if folder is not None:
        remember(given, folder)
    both = above((*training, *test), given, progress if slow_parts(given) else None)
    left, test_left = both[: len(training)], both[len(training) :]
    if (odd := in_the_way(training, left)) is not None:
        findings.append(Finding("warning", odd))
    return left, test_left


def _check_wishes(given: Uncertainty, potential: LearnedPotential) -> None:
    """Refuse what cannot be kept, before anything is fitted.

    Raises:
        InputError: when a spread is asked for and no covariance will be there.
    """
    regressor = potential.regressor
    if given.spread is True and isinstance(regressor, GaussianProcess):
        raise InputError(
            'uncertainty: spread: fit kind = "kernel" does not keep the covariance of all labels that it takes. Leave '
            'it out, or fit by "gap"; grade = "auto" gives grades of extrapolation.'
        )


def _with_labels(
    frames: Sequence[LabelledFrame], findings: list[Finding], *, of_forces: bool
) -> tuple[LabelledFrame, ...]:
    """The frames that have a label to learn; those without are told as a finding. All where no frame has one.

    Args:
        frames: of the data, or to test on.
        findings: get what is left out.
        of_forces: whether forces alone are learned.
    """
    labels = ("forces",) if of_forces else ("energy", "forces", "stress")
    has = [any(getattr(frame, label) is not None for label in labels) for frame in frames]
    if all(has) or not any(has):  # what has no labels at all is refused with all else that is wrong
        return tuple(frames)
    missing = [frame.source for frame, known in zip(frames, has, strict=True) if not known]
    what = "forces" if of_forces else "label"
    none = (
        f"1 structure has no {what} and is"
        if len(missing) == 1
        else f"{len(missing)} structures have no {what} and are"
    )
    findings.append(Finding("warning", f"{none} not used: {some_of(missing)}. Is that meant?"))
    return tuple(frame for frame, known in zip(frames, has, strict=True) if known)


def _lone(config: Train, potential: LearnedPotential) -> np.ndarray | None:
    """Basis functions of single atoms, where they have given energies and some function is not zero."""
    if not (pins(config) and isinstance(potential.regressor, Expansion)):
        return None
    rows = lone_rows(potential.descriptor)
    functions = potential.regressor.basis(rows, torch.arange(len(rows))).detach()
    return functions.numpy() if bool(functions.any()) else None


def _digests(
    config: Train, training: Sequence[LabelledFrame], test: Sequence[LabelledFrame], given: Potential | None
) -> list[str]:
    """Of the data, the given potential with the versions of what computes it, and those whose descriptors are used."""
    # what the given potential leaves of the labels would depend on the kernels and threads of the machine, by rounding
    of_given = (
        [] if given is None else [fingerprint(given), *(json.dumps(one, sort_keys=True) for one in identities(given))]
    )
    of_descriptors = [sha256(one.model) for one in parts_of(config.descriptor) if isinstance(one, Trained)]
    return [digest(training), digest(test), *of_given, *of_descriptors]


def sigma_of(config: Train) -> Sigma:
    """The accuracy aimed at, in eV, eV/Å and eV/Å³."""
    loss = config.loss
    groups = {name: (of.energy, of.forces, of.stress) for name, of in loss.groups.items()}
    return Sigma(energy=loss.energy, forces=loss.forces, stress=loss.stress * BAR, groups=groups)


def chosen_elements(config: Train, training: Sequence[LabelledFrame]) -> tuple[str, ...]:
    """Those of the input, or of the data.

    Raises:
        InputError: when the data have others than the input.
    """
    found = elements_of(training)
    elements = config.elements or found
    missing = [element for element in found if element not in elements]
    if missing:
        given = f"elements: {', '.join(elements)} {'is' if len(elements) == 1 else 'are'} given"
        if len(missing) == len(found):
            raise InputError(
                f"{given}; the data have {', '.join(found)} and none of them. Give those of the data, or leave "
                "elements out."
            )
        raise InputError(f"{given}; the data also have {', '.join(missing)}. Add them, or leave elements out.")
    unseen = [element for element in elements if element not in found]
    if unseen:
        raise InputError(
            f"elements: {', '.join(unseen)} occurs in no training structure, so nothing would be learned about it. "
            "Remove it, or add structures."
        )
    return tuple(elements)


def _examine(
    config: Train, training: Sequence[LabelledFrame], test: Sequence[LabelledFrame], elements: Sequence[str]
) -> list[Finding]:
    """What is odd about the data.

    Raises:
        InputError: for what makes training impossible, all of it in one message.
    """
    findings = examine(training, test, reach(config, elements))
    fatal = [finding.text for finding in findings if finding.severity == "error"]
    if fatal:
        raise InputError("\n".join(fatal))
    groups = {frame.group for frame in training}
    for group in config.loss.groups:
        if group not in groups:
            raise InputError(f"loss: groups: no structure is of group {group!r}. {did_you_mean(group, groups - {''})}")
    return findings
