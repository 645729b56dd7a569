"""What a training of a property would do: the data read, a few structures described and fitted, nothing written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlmd.config import KernelRidgeFit, LinearFit, RandomFeaturesFit, check_files, load_train, naming, structure_parts
from mlmd.descriptors.likeness import Likeness
from mlmd.fitting.kernels import kernel_named
from mlmd.fitting.leave_one_out import FACTORS, n_tried
from mlmd.potentials.property import composition_part, environments_of, rows_of
from mlmd.potentials.threads import undivided
from mlmd.train.memory import bytes_of_environments
from mlmd.train.preview import BUDGET, resident
from mlmd.train.property_job import PropertyJob, prepare_property
from mlmd.train.structure_fit import CHOSEN_FROM, fitted, settings_of

_FEW = 200
"""Structures, at most, whose fit is timed."""
_TAKEN_APART = 400
"""Rows of a matrix whose decomposition is timed."""
_EIGEN_OVER_CHOLESKY = 20
"""How many times longer eigenvalues with vectors take than a Cholesky decomposition, about."""
_LOOK = 20
"""Structures that are described between two looks at the clock."""


@dataclass(frozen=True)
class PropertyPreview:
    """What is known about a training before it begins."""

    input: str
    property: str
    """With its unit."""
    elements: tuple[str, ...]
    n_frames: int
    """Structures to train on."""
    n_test_frames: int
    n_atoms: int
    """In the structures to train on."""
    mean: float
    """Of the training set, in the unit of the property."""
    deviation: float
    """Mean absolute deviation from it: the error of a model that has learned nothing."""
    model: str
    n_features: int
    n_unknowns: int
    """Coefficients of the fit."""
    hours: float
    """Of the whole training, about."""
    memory: float
    """MB, about."""
    notes: tuple[str, ...] = ()
    command: Literal["train"] = "train"

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        return {key + ("_MB" if key == "memory" else ""): value for key, value in asdict(self).items()}


def preview_property(path: Path) -> PropertyPreview:
    """Check an input and its data as `train` does, and time the fit of a few structures.

    Raises:
        InputError: whatever `train` would refuse.
    """
    check_files(load_train(path), path)
    with naming(path):
        return _previewed(prepare_property(path))


def _previewed(job: PropertyJob) -> PropertyPreview:
    """What is known about a job."""
    with undivided():
        seconds, n_unknowns = _cost(job)
    values = np.array([frame.value for frame in job.train], dtype=float)
    descriptor = job.descriptor.local if isinstance(job.descriptor, Likeness) else job.descriptor
    return PropertyPreview(
        input=str(job.source),
        property=job.quantity.title,
        elements=job.descriptor.elements,
        n_frames=len(job.train),
        n_test_frames=len(job.test),
        n_atoms=sum(len(frame.atoms) for frame in job.train),
        mean=float(values.mean()),
        deviation=float(np.abs(values - values.mean()).mean()),
        model=_model(job),
        n_features=descriptor.n_features,
        n_unknowns=n_unknowns,
        hours=seconds / 3600,
        memory=resident() + _memory(job, n_unknowns),
        notes=tuple(finding.text for finding in job.findings),
    )


def _model(job: PropertyJob) -> str:
    """What is fitted to what, in a few words."""
    given, fit, descriptor = job.config.descriptor, job.config.fit.kind, job.descriptor
    kind = " + ".join(one.kind for one in structure_parts(given)) or given.kind
    if isinstance(descriptor, Likeness):
        return f"{descriptor.local.n_features:,} features of {kind} for each atom, {fit}, {descriptor.form}"
    return f"{descriptor.n_features:,} features of {kind}, {fit}"


def _cost(job: PropertyJob) -> tuple[float, int]:
    """Seconds of the whole, from those of a few structures, and coefficients of the fit to all of them."""
    if isinstance(job.descriptor, Likeness):
        return _seconds_of_matches(job, job.descriptor), len(job.train)
    found: list[torch.Tensor] = []
    begin = time.perf_counter()
    for start in range(0, min(_FEW, len(job.train)), _LOOK):
        some = job.train[start : min(start + _LOOK, _FEW)]
        names = [frame.source for frame in some]
        found.append(rows_of(job.descriptor, [frame.atoms for frame in some], job.n_draws, names))
        if time.perf_counter() - begin > BUDGET:
            break
    rows = torch.cat(found)
    described = (time.perf_counter() - begin) / len(rows) * (len(job.train) + len(job.test))
    if isinstance(job.fit, KernelRidgeFit):
        return described + _seconds_of_kernels(job, job.fit, rows), len(job.train) * job.n_draws
    few = job.train[: len(rows)]
    parts = composition_part([frame.atoms for frame in few], job.descriptor.elements, torch.from_numpy(job.baseline))
    targets = torch.tensor([frame.value for frame in few], dtype=torch.float64) - torch.from_numpy(parts)
    begin = time.perf_counter()
    settings = settings_of(job.fit, rows, targets, job.config.seed, lambda done, total: None, job.shares)
    chosen = time.perf_counter() - begin
    begin = time.perf_counter()
    regressor, _ = fitted(job.fit, settings, rows, targets, job.config.seed, shares=job.shares)
    solved = time.perf_counter() - begin
    # rows by columns by the fewer of them; the learning curve fits an eighth, a quarter and a half of the rows too
    n_columns = regressor.n_basis

    def size(n_rows: int) -> float:
        return n_rows * n_columns * min(n_rows, n_columns)

    n_fitted = (len(job.train), len(job.train) // 2, len(job.train) // 4, len(job.train) // 8)
    fits = sum(size(n * job.n_draws) for n in n_fitted) / size(len(few) * job.n_draws)
    return described + chosen * size(min(len(job.train), CHOSEN_FROM)) / size(len(few)) + solved * fits, n_columns


def _seconds_of_matches(job: PropertyJob, descriptor: Likeness) -> float:
    """Of describing atoms, of comparing each two structures, and of taking the kernel apart."""
    some = [job.train[index] for index in np.linspace(0, len(job.train) - 1, _LOOK, dtype=int)]
    begin = time.perf_counter()
    rows = [environments_of(descriptor.local, frame.atoms, frame.source) for frame in some]
    described = (time.perf_counter() - begin) / len(some)
    descriptor.remember(rows)
    begin = time.perf_counter()
    descriptor.among(_LOOK, lambda done: None)
    of_two = (time.perf_counter() - begin) / (_LOOK * (_LOOK + 1) / 2)
    n, n_test, n_chosen = len(job.train), len(job.test), min(len(job.train), CHOSEN_FROM)
    of_three = _seconds_to_take_apart() * (n_chosen**3 + 1.15 * n**3 / _EIGEN_OVER_CHOLESKY)
    return described * (n + n_test) + of_two * (n * n / 2 + n * n_test) + of_three


def _seconds_to_take_apart() -> float:
    """A matrix into eigenvalues and vectors, over the third power of its rows."""
    random = torch.randn((_TAKEN_APART, _TAKEN_APART), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    begin = time.perf_counter()
    torch.linalg.eigh(random + random.T)
    return (time.perf_counter() - begin) / _TAKEN_APART**3


def _seconds_of_kernels(job: PropertyJob, fit: KernelRidgeFit, rows: torch.Tensor) -> float:
    """Of kernels, which take a time for each two rows, and of taking them apart, for each three."""
    flat = rows.flatten(0, 1)
    kernel = kernel_named(fit.kernel, width=None if fit.kernel in ("linear", "polynomial") else 1.0, power=fit.power)
    begin = time.perf_counter()
    kernel.values(flat, flat)
    of_two = (time.perf_counter() - begin) / len(flat) ** 2
    of_three = _seconds_to_take_apart()
    n, n_test = len(job.train) * job.n_draws, len(job.test) * job.n_draws
    n_chosen = min(len(job.train), CHOSEN_FROM)
    searched = fit.kernel in ("gaussian", "laplacian") and isinstance(fit.width, str)
    n_widths = (n_tried(len(job.shares)) if job.shares else len(FACTORS)) if searched else 1
    chosen = of_two * n_chosen**2 + n_widths * of_three * n_chosen**3
    # the smaller fits of the learning curve add a third of the pairs and a seventh of the triples
    return chosen + of_two * (2.7 * n**2 + 1.9 * n * n_test) + 1.15 * of_three * n**3 / _EIGEN_OVER_CHOLESKY


def _memory(job: PropertyJob, n_unknowns: int) -> float:
    """MB of features, and of the matrices of the fit."""
    if isinstance(job.descriptor, Likeness):
        return 1e-6 * bytes_of_environments(job.train, job.descriptor.local.n_features)
    n_rows = len(job.train) * job.n_draws
    features = (n_rows + len(job.test) * job.n_draws) * job.descriptor.n_features
    match job.fit:
        case KernelRidgeFit():
            matrices = 2 * n_rows**2 + 4 * min(n_rows, CHOSEN_FROM) ** 2
        case LinearFit() | RandomFeaturesFit():
            matrices = 4 * n_rows * n_unknowns + 4 * min(n_rows, n_unknowns) ** 2
    return 8e-6 * (2 * features + matrices)
