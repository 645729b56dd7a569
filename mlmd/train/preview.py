"""What a training would do: the data read and examined, a few equations set up and timed, nothing written."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlmd.config import MTP, Trained, check_files, learned_parts, load_train, naming, parts_of
from mlmd.cores import n_cores
from mlmd.descriptors.linearised import jacobian_size
from mlmd.fitting import cholesky
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials.fused import why_slow
from mlmd.potentials.threads import undivided
from mlmd.train.embedded_fit import EmbeddedTraining
from mlmd.train.equations import batches, triangle
from mlmd.train.job import Job, prepare
from mlmd.train.kernel_fit import environments_of
from mlmd.train.learned_parts import fixed_size
from mlmd.train.memory import bytes_of_slopes
from mlmd.train.network_fit import Training
from mlmd.train.network_loss import JACOBIANS
from mlmd.train.optimise import n_linear, put

BUDGET = 2.0
"""Seconds of equations that are timed, unless those of the first structures take longer."""
UNITS = {"memory": "_MB", "cutoff": "_A", "min_distance": "_A"}
"""What follows a key in JSON."""
_FEW = 8
"""Structures whose gradient is timed."""
LABELS = ("energy", "forces", "stress")
_TRIANGLES = 30
"""Matrices of n x n, n the unknowns, that a process holds when its equations are reduced, about (rows collected and
their decomposition); in the end one process holds as many, those of all shards."""


@dataclass(frozen=True)
class Preview:
    """What is known about a training before it begins."""

    input: str
    elements: tuple[str, ...]
    n_frames: int
    """Structures to train on."""
    n_test_frames: int
    n_atoms: int
    """In the structures to train on."""
    groups: dict[str, int]
    """Structures to train on by group."""
    labels: dict[str, int]
    """Structures to train on that have an energy, forces, a stress."""
    model: str
    cutoff: float
    """Å."""
    min_distance: float
    """Å, at which the radial functions begin."""
    n_linear: int
    """Coefficients that the energy is linear in; of a network, all its weights; of a kernel, one for each label."""
    n_radial: int
    """Radial coefficients that are optimised with them."""
    n_equations: int
    n_processes: int
    seconds_per_iteration: float
    """Of all equations, with this number of processes."""
    max_iterations: int
    """1 where there is one linear fit."""
    step: str
    """What an iteration is called."""
    n_members: int
    """Networks of a committee; 1 for everything else."""
    hours: float
    """Of all iterations, at most."""
    memory: float
    """MB in each process, about."""
    notes: tuple[str, ...] = ()
    command: Literal["train"] = "train"

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        return {key + UNITS.get(key, ""): value for key, value in asdict(self).items()}


def preview(path: Path) -> Preview:
    """Check an input and its data as `train` does, and time a few equations.

    Raises:
        InputError: whatever `train` would refuse.
    """
    check_files(load_train(path), path)
    with naming(path):
        return _previewed(prepare(path, counted=True))


def _previewed(job: Job) -> Preview:
    """What is known about a job."""
    potential, problem = job.potential, job.problem
    n_atoms = sum(len(frame.atoms) for frame in job.train)
    with undivided():  # as the processes of a training do
        cost = {"network": _of_network, "kernel": _of_kernel}.get(job.config.fit.kind, _of_least_squares)(job)
    seconds = n_atoms * cost.seconds_per_atom / cost.n_processes
    slow = why_slow(potential)
    return Preview(
        input=str(job.source),
        elements=potential.elements,
        n_frames=len(job.train),
        n_test_frames=len(job.test),
        n_atoms=n_atoms,
        groups=dict(Counter(frame.group for frame in job.train)),
        labels={name: n for name in LABELS if (n := _n_with(job.train, name))},
        model=_model(job),
        cutoff=float(potential.cutoff),
        min_distance=float(getattr(potential.descriptor, "min_distance", 0.0)),
        n_linear=cost.n_linear,
        n_radial=cost.n_radial,
        n_equations=problem.n_equations,
        n_processes=cost.n_processes,
        seconds_per_iteration=seconds,
        max_iterations=cost.n_iterations,
        step=cost.step,
        n_members=cost.n_members,
        hours=cost.n_passes * seconds / 3600,
        memory=resident() + cost.memory,
        notes=(*(finding.text for finding in job.findings), *cost.notes, *([slow] if slow else [])),
    )


def _model(job: Job) -> str:
    """The descriptor and the fit in a few words."""
    descriptor, fit = job.config.descriptor, job.config.fit
    parts = parts_of(descriptor)
    names = " and ".join(f"mtp of level {one.level}" if isinstance(one, MTP) else _name(one) for one in parts)
    if isinstance(descriptor, MTP):
        return names + ("" if fit.kind == "linear" else f", {fit.kind}")
    terms = getattr(job.potential.regressor, "terms", ())
    told = [_term(one) for one in terms if isinstance(one, SparseGaussian)]
    each = f": {'; '.join(told)}" if told else ""
    return f"{job.potential.descriptor.n_features} features of {names}, {fit.kind}{each}"


def _term(term: SparseGaussian) -> str:
    """The part of one of several descriptors in a sparse Gaussian process."""
    setting = f"power {term.power}" if term.kernel == "polynomial" else f"width {term.width:.3g}"
    return f"{term.kernel}, {setting}, {term.n_basis:,} atoms, {term.amplitude:g} eV"


def _name(part: Any) -> str:
    """A descriptor in a word."""
    return str(part.model.name if isinstance(part, Trained) else part.kind)


@dataclass(frozen=True)
class _Cost:
    """What a fit needs, and how many numbers it finds; see `Preview`."""

    n_linear: int
    n_radial: int
    n_processes: int
    seconds_per_atom: float
    """Of one process, in one pass over the data."""
    n_iterations: int
    n_passes: int
    """Over the data, in all."""
    memory: float
    """MB, besides what is there before it begins."""
    step: str = "iteration"
    n_members: int = 1
    notes: tuple[str, ...] = ()


def _of_least_squares(job: Job) -> _Cost:
    """Of fits that are linear in their coefficients."""
    potential = job.potential
    n_radial = potential.radial.numel() if job.radial and potential.radial is not None else 0
    n_unknowns = n_linear(potential) + n_radial
    n_iterations = job.max_iterations if job.radial else 1
    return _Cost(
        n_linear=n_linear(potential),
        n_radial=n_radial,
        n_processes=min(n_cores(), len(job.problem.shards())),
        seconds_per_atom=_seconds_per_atom(job),
        n_iterations=n_iterations,
        n_passes=n_iterations + (2 if job.radial else 1),  # the first solution, and the learning curve
        memory=_TRIANGLES * 8e-6 * n_unknowns**2,
    )


def _of_network(job: Job) -> _Cost:
    """Of a network, by the gradient of a few structures in which all elements occur."""
    seen: set[str] = set()
    few: list[LabelledFrame] = []
    for frame in job.problem.frames:
        if len(few) < _FEW or not seen.issuperset(frame.atoms.symbols):
            few.append(frame)
            seen.update(frame.atoms.symbols)
    few_job = replace(job, problem=replace(job.problem, frames=tuple(few)))
    kind = EmbeddedTraining if learned_parts(job.config.descriptor) else Training
    before = resident()
    training = kind(few_job, n_threads=1)
    measured = resident() - before
    growth = len(job.train) / len(few)
    numbers = 16e-6 * sum(one.features.numel() for one in training.all)  # features, and what enters the network
    potential = job.potential
    graphs = [build_graph(frame.atoms, potential.design_cutoff) for frame in few]
    if isinstance(training, EmbeddedTraining):
        sizes = [fixed_size(training.parts, one) for one in graphs]
    else:
        sizes = [jacobian_size(potential.descriptor, one) for one in graphs]
    jacobians = growth * sum(sizes)
    anew = max(0.0, 1 - JACOBIANS / jacobians) if jacobians else 0.0
    seconds = (1 - anew) * _seconds_of(training) + (
        anew * _seconds_of(kind(few_job, n_threads=1, jacobians=0.0)) if anew else 0.0
    )
    settings = training.settings
    note = (
        f"Jacobians of the descriptor take {jacobians / 1e9:.2g} GB: {anew:.0%} of them are not kept but taken anew "
        "for every step, which is slow"
    )
    kept = 1e-6 * min(jacobians, JACOBIANS)
    return _Cost(
        n_linear=len(training.decay) * len(training.members),
        n_radial=0,
        n_processes=min(n_cores(), len(job.train) if settings.optimiser == "l-bfgs" else settings.batch),
        seconds_per_atom=seconds,
        n_iterations=settings.n_epochs,
        n_passes=settings.n_epochs * len(training.members),
        memory=max(measured if not jacobians else 0.0, numbers) * growth + kept + 1e-6 * training.memory,
        step=settings.step,
        n_members=len(training.members),
        notes=(note,) if anew else (),
    )


def _seconds_of(training: Training) -> float:
    """Seconds for an atom, of a pass over the structures by one thread."""
    state = training.begin()
    times: list[float] = []
    n_atoms = sum(len(sample.kinds) for sample in training.used) / training.n_batches
    while len(times) < 2 or (sum(times) < BUDGET and len(times) < 10):
        start = time.perf_counter()
        if training.settings.optimiser == "l-bfgs":  # hardly more than one gradient for each step
            training.gradient(state.weights, training.used)
        else:
            training.after(state)
        times.append(time.perf_counter() - start)
    return min(times) / n_atoms


def _of_kernel(job: Job) -> _Cost:
    """Of a Gaussian process of all labels, by the covariances of a few structures and a product of matrices."""
    process, n_rows = job.potential.regressor, job.problem.n_equations
    assert isinstance(process, GaussianProcess)
    start = time.perf_counter()
    few = [environments_of(job.potential, frame, job.problem.sigma) for frame in job.problem.frames[:_FEW]]
    of_slopes = (time.perf_counter() - start) / len(few) * len(job.train)
    seconds, n_covariances = 0.0, 0
    for number, one in enumerate(few):
        for other in few[: number + 1]:
            start = time.perf_counter()
            n_covariances += process.covariances(one, other).numel()
            seconds += time.perf_counter() - start
        if seconds > BUDGET:
            break
    square = torch.ones((cholesky.BLOCK, cholesky.BLOCK), dtype=torch.float64)
    start = time.perf_counter()
    square.addmm_(square, square)
    of_product = (time.perf_counter() - start) / cholesky.BLOCK**3
    whole = of_slopes + seconds / n_covariances * n_rows**2 / 2 + of_product * n_rows**3 / 3
    n_atoms = sum(len(frame.atoms) for frame in job.train)
    return _Cost(
        n_linear=n_rows,
        n_radial=0,
        n_processes=n_cores(),
        seconds_per_atom=whole / n_atoms,
        n_iterations=1,
        n_passes=1,
        memory=1e-6 * (8.0 * n_rows**2 + bytes_of_slopes(job.train, process.n_features)),
    )


def _seconds_per_atom(job: Job) -> float:
    """Time of the equations of a few structures, by one process."""
    potential, problem = job.potential, job.problem
    if job.radial and potential.radial is not None:  # as after the first solution, of which no coefficient is zero
        put(potential, potential.radial.detach().numpy().copy(), np.ones(n_linear(potential)))
    times: list[tuple[float, int]] = []
    for some in batches([frame for shard in problem.shards() for frame in shard]):
        start = time.perf_counter()
        triangle(potential, some, problem.sigma, problem.baseline, nonlinear=job.radial)
        times.append((time.perf_counter() - start, sum(len(frame.atoms) for frame in some)))
        if sum(seconds for seconds, _ in times) > BUDGET:
            break
    seconds, n_atoms = zip(*(times[1:] or times), strict=True)  # the first one also sets things up
    return float(sum(seconds) / sum(n_atoms))


def _n_with(frames: Sequence[LabelledFrame], label: str) -> int:
    """Structures that have a label."""
    return sum(getattr(frame, label) is not None for frame in frames)


def resident() -> float:
    """MB, the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts bytes, Linux kB
