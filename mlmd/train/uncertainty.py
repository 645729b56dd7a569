"""What a trained potential keeps to tell how sure it is: a covariance, active sets, and what its spread is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.compiled import kernels_of, pair_cutoff
from mlmd.descriptors.linearised import values
from mlmd.descriptors.species import species
from mlmd.fitting.least_squares import Triangle, whole_factor
from mlmd.fitting.network import Network
from mlmd.fitting.points import ActiveSet, no_active_set
from mlmd.neighbors import build_graph
from mlmd.potentials import has_energy
from mlmd.potentials.committee import Committee
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.uncertainty import (
    GRADE,
    SPREAD,
    Judge,
    environment_rows,
    knows,
    linear_in_parameters,
    n_environment_columns,
)
from mlmd.train.calibration import calibrated
from mlmd.train.environments import lone_rows
from mlmd.train.equations import batches, equations
from mlmd.train.regularise import FREE

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame
    from mlmd.train.evaluate import Labels
    from mlmd.train.job import Job

MOST_COLUMNS = 1000
"""Numbers of an atom up to which active sets are kept unasked: 8 MB for each element."""
_MOST_PASSES = 20
"""Over the training set; a few are usual."""
_BLOCK = 4
"""Rows that are looked at together, in units of the columns; at least so many as below."""
_LEAST_BLOCK = 512


def keep_active_sets(job: Job, told: Callable[[int, int], None]) -> dict[str, Any] | None:
    """Give the potential the inverse active sets of its elements; facts for the card, None without.

    Environments are read block by block, and passed over until no exchange of one raises a determinant: then all of
    them have grades up to 1 + 10⁻³.

    Args:
        job: its potential gets them.
        told: called with the number of structures done and of all, in every pass.
    """
    if not has_energy(job.potential):
        return None
    n_columns, wanted = n_environment_columns(job.potential.regressor), job.config.uncertainty.grade
    if wanted is False or (wanted == "auto" and n_columns > MOST_COLUMNS):
        return None
    sets: dict[int, ActiveSet] = {}
    n_passes, changed = 0, True
    while changed and n_passes < _MOST_PASSES:
        changed, seen = False, dict.fromkeys(range(len(job.potential.elements)), 0)
        for kind, rows in _blocks(job.potential, job.train, max(_LEAST_BLOCK, _BLOCK * n_columns), told):
            before = sets.get(kind)
            sets[kind] = (before or no_active_set(rows)).extended(rows, seen[kind])
            seen[kind] += len(rows)
            changed = changed or sets[kind] is not before
        n_passes += 1
    job.potential.inverses = torch.stack([sets[kind].inverse() for kind in range(len(job.potential.elements))])
    n_own = sum(int((one.numbers >= 0).sum()) for one in sets.values())
    return {"environments of the active sets": n_own, "of": sum(seen.values()), "passes": n_passes}


def keep_covariance_of_network(job: Job, told: Callable[[int, int], None]) -> str | None:
    """Give the network of a potential R of the last layer's linear problem, of data and prior, for a spread.

    Unasked only where the descriptor has a compiled kernel: else the derivatives take longer than the training.

    Returns:
        What a person should know of a network that is too wide for it.

    Args:
        job: its network is trained.
        told: called with the number of structures done and of all.
    """
    network, wanted = job.potential.regressor, job.config.uncertainty.spread
    if wanted is False or not isinstance(network, Network):
        return None
    n = network.n_basis + network.n_kinds
    if wanted == "auto" and kernels_of(job.potential.descriptor) is None:
        return None
    if wanted == "auto" and n > MOST_COLUMNS:
        return (
            f"no spread of forces is kept: the last layer has {network.n_basis:,} neurons, and more than "
            f"{MOST_COLUMNS - network.n_kinds:,} make it slow. [uncertainty] spread = true keeps it all the same."
        )
    linear = linear_in_parameters(job.potential)
    last = linear.expansion
    problem, lone = job.problem, None
    if not job.free_constants:
        kinds = torch.arange(network.n_kinds)
        lone = last.basis(lone_rows(job.potential.descriptor), kinds).detach().numpy()
    collected, done = Triangle(n + 1), 0
    for some in batches(problem.frames):
        collected.add(equations(linear, some, problem.sigma, problem.baseline, nonlinear=False, lone=lone))
        done += len(some)
        told(done, len(problem.frames))
    penalty = torch.zeros(n, dtype=torch.float64)
    penalty[network.n_basis :] = FREE  # data may leave constants open, e.g. where all compositions agree
    columns = slice(0, n if job.free_constants else network.n_basis)
    network.set_factor(whole_factor(collected.factor, columns=(columns,), penalty=penalty, prior=last.prior()))
    return None


def calibrate(
    job: Job, predictions: Sequence[Labels] | None, told: Callable[[int, int], None]
) -> dict[str, Any] | None:
    """Scale the spread of the potential by what is seen for the test set; facts for the card, None without a spread.

    Args:
        job: its potential gets the factor.
        predictions: for the test set; None without one.
        told: called with the number of structures done and of all.
    """
    if SPREAD not in knows(job.potential):
        return None
    facts = None if predictions is None else calibrate_by(job.potential, job.test, predictions, told, of="the test set")
    return facts or {"factor": 1.0, "calibrated with": "nothing: there is no test set with forces"}


def calibrate_by(
    potential: LearnedPotential | Committee,
    frames: Sequence[LabelledFrame],
    predictions: Sequence[Labels],
    told: Callable[[int, int], None],
    *,
    of: str,
) -> dict[str, Any] | None:
    """Scale the spread of a potential that has one; facts for the card, None where nothing can be compared.

    Args:
        potential: gets the factor, so that errors of these forces are as large as they are expected.
        frames, predictions: (n,) structures and what it says about them.
        told: called with the number of structures done and of all.
        of: what the structures are called on the card.
    """
    found = calibrated(Judge(potential), frames, predictions, told)
    if found is None or not found.factor > 0:
        return None
    potential.calibration *= found.factor
    return {"factor": potential.calibration, "calibrated with": f"forces on {found.n_atoms:,} atoms of {of}"}


def facts_of(of_spread: dict[str, Any] | None, of_grade: dict[str, Any] | None) -> dict[str, Any]:
    """What the card says, where there is something to say."""
    facts = {name: given for name, given in ((SPREAD, of_spread), (GRADE, of_grade)) if given is not None}
    return {"uncertainty": facts} if facts else {}


def _blocks(
    potential: LearnedPotential, frames: Sequence[LabelledFrame], n_rows: int, told: Callable[[int, int], None]
) -> Iterator[tuple[int, Tensor]]:
    """Rows of the environments of training structures, some at a time and of one element each."""
    waiting: dict[int, list[Tensor]] = {kind: [] for kind in range(len(potential.elements))}
    cutoff = pair_cutoff(potential.descriptor)
    for done, frame in enumerate(frames, 1):
        graph = build_graph(frame.atoms, cutoff)
        features, kinds = values(potential.descriptor, graph), species(graph.numbers, potential.species_table)
        for kind in np.unique(kinds.numpy()).tolist():
            own = (kinds == kind).nonzero().squeeze(1)
            waiting[kind].append(environment_rows(potential.regressor, features[own], kinds[own], kind))
            if sum(map(len, waiting[kind])) >= n_rows:
                yield kind, torch.cat(waiting[kind])
                waiting[kind] = []
        told(done, len(frames))
    yield from ((kind, torch.cat(rows)) for kind, rows in waiting.items() if rows)
