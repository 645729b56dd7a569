"""What every training of a network has to obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlmd.potentials import modelfile
from mlmd.train.evaluate import predict
from mlmd.train.job import prepare
from mlmd.train.network_fit import Training


def assert_gradient_is_difference_quotient(training: Training, *, away: float = 0.05) -> None:
    """Of the loss along a random direction, at weights that are not those of the beginning."""
    generator = np.random.default_rng(3)
    weights = training.begin().weights
    weights = weights + away * generator.standard_normal(weights.shape)
    along = generator.standard_normal(weights.shape)
    _, gradient = training.gradient(weights, training.used)
    step = 1e-5  # of fourth order, which is large for single atoms: their features are far from those of the data
    at = {n: training.gradient(weights + n * step * along, training.used)[0] for n in (-2, -1, 1, 2)}
    quotient = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * step) / training.mean_rows
    assert gradient @ along == pytest.approx(quotient, rel=1e-7)


def loss_by_prediction(source: Path, model: Path) -> tuple[float, float]:
    """The loss of a potential for what it was trained on, by its file alone and by the sigmas of the input.

    And what is left of the squares of the forces.
    """
    potential, job = modelfile.load(model), prepare(source)
    sigma = job.problem.sigma
    rows, forces, labels = [], [], []
    for frame, said in zip(job.train, predict(potential, job.train), strict=True):
        assert frame.energy is not None and frame.stress is not None and said.stress is not None
        rows.append([(said.energy - frame.energy) / len(frame.atoms) / sigma.energy])
        forces.append(((said.forces - frame.forces) / sigma.forces).ravel())
        labels.append((frame.forces / sigma.forces).ravel())
        rows.append((said.stress - frame.stress)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / sigma.stress)
    left = np.mean(np.concatenate(forces) ** 2) / np.mean(np.concatenate(labels) ** 2)
    return float(np.sqrt(np.mean(np.concatenate([*rows, *forces]) ** 2))), float(left)
