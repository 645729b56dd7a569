"""What a training of a property would do: the data read, a few structures described and fitted, nothing written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlmd.config import KernelRidgeFit, LinearFit, RandomFeaturesFit, check_files, load_train
from mlmd.potentials.property import composition_part, rows_of
from mlmd.potentials.threads import undivided
from mlmd.train.preview import BUDGET, resident
from mlmd.train.property_job import PropertyJob, prepare_property
from mlmd.train.structure_fit import CHOSEN_FROM, fitted, settings_of

_FEW = 200
"""Structures, at most, whose fit is timed."""
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
    job = prepare_property(path)
    with undivided():
        seconds, n_unknowns = _cost(job)
    values = np.array([frame.value for frame in job.train], dtype=float)
    config, n_features = job.config, job.descriptor.n_features
    return PropertyPreview(
        input=str(path),
        property=job.quantity.title,
        elements=job.descriptor.elements,
        n_frames=len(job.train),
        n_test_frames=len(job.test),
        n_atoms=sum(len(frame.atoms) for frame in job.train),
        mean=float(values.mean()),
        deviation=float(np.abs(values - values.mean()).mean()),
        model=f"{n_features:,} features of {config.descriptor.kind}, {config.fit.kind}",
        n_features=n_features,
        n_unknowns=n_unknowns,
        hours=seconds / 3600,
        memory=resident() + _memory(job, n_unknowns),
        notes=tuple(finding.text for finding in job.findings),
    )


def _cost(job: PropertyJob) -> tuple[float, int]:
    """Seconds of the whole, from those of a few structures, and coefficients of the fit to all of them.

    Features take a time for each structure; fits one that grows with the square of the structures and the smaller of
    rows and columns, and a kernel that is taken apart with the cube.
    """
    few = job.train[: max(_FEW, 2)]
    rows, begin = [], time.perf_counter()
    for start in range(0, len(few), _LOOK):
        some = few[start : start + _LOOK]
        names = [frame.source for frame in some]
        rows.append(rows_of(job.descriptor, [frame.atoms for frame in some], job.n_draws, names))
        if time.perf_counter() - begin > BUDGET:
            break
    described = time.perf_counter() - begin
    found = torch.cat(rows)
    few = few[: len(found)]
    parts = composition_part([frame.atoms for frame in few], job.descriptor.elements, torch.from_numpy(job.baseline))
    targets = torch.tensor([frame.value for frame in few], dtype=torch.float64) - torch.from_numpy(parts)
    n, n_all = len(few), len(job.train)
    begin = time.perf_counter()
    settings = settings_of(job.fit, found, targets, job.config.seed, lambda done, total: None)
    chosen = time.perf_counter() - begin
    begin = time.perf_counter()
    regressor, _ = fitted(job.fit, settings, found, targets, job.config.seed)
    solved = time.perf_counter() - begin
    n_columns = regressor.n_basis
    n_unknowns = n_all * job.n_draws if isinstance(job.fit, KernelRidgeFit) else n_columns
    power = 3 if n < n_columns or isinstance(job.fit, KernelRidgeFit) else 1
    of_settings = chosen * (min(n_all, CHOSEN_FROM) / n) ** power
    # the learning curve fits an eighth, a quarter and a half of the structures too
    of_fits = 1.15 * solved * (n_all / n) ** power if power == 3 else 1.9 * solved * n_all / n
    return described / n * (n_all + len(job.test)) + of_settings + of_fits, n_unknowns


def _memory(job: PropertyJob, n_unknowns: int) -> float:
    """MB of features, and of the matrices of the fit."""
    n_rows = len(job.train) * job.n_draws
    features = (n_rows + len(job.test) * job.n_draws) * job.descriptor.n_features
    match job.fit:
        case KernelRidgeFit():
            matrices = 2 * n_rows**2 + 4 * min(n_rows, CHOSEN_FROM) ** 2
        case LinearFit() | RandomFeaturesFit():
            matrices = 4 * n_rows * n_unknowns + 4 * min(n_rows, n_unknowns) ** 2
    return 8e-6 * (2 * features + matrices)
