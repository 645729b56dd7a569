"""The strength of a regularisation that the data choose: by evidence and by cross-validation, in a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import strained, thermal
from scipy.stats import multivariate_normal

from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.potentials import modelfile
from mlmd.train.equations import equations
from mlmd.train.job import Job, prepare
from mlmd.train.optimise import n_linear, prior_of
from mlmd.train.regularise import N_FOLDS, Choice, choose
from mlmd.train.run import train
from mlmd.train.shards import Outcome, Task, solver, state_of

LINEAR = 'kind = "linear"'
RANDOM = 'kind = "random-features"\nn_random = 40'
GAP = 'kind = "gap"\nn_sparse = 20'


def noisy(frames: list[LabelledFrame], size: float) -> list[LabelledFrame]:
    """The same structures with noise (eV/Å) on the forces."""
    generator = np.random.default_rng(8)
    return [replace(one, forces=one.forces + size * generator.standard_normal(one.forces.shape)) for one in frames]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; forces have an error of 0.2 eV/Å."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", noisy([*thermal(9, repeat=1), *strained(6)], 0.2))
    return tmp_path


def write_input(folder: Path, fit: str, how: str, descriptor: str = 'kind = "acsf"\ncutoff = "4.5 Å"') -> Path:
    path = folder / "in.toml"
    path.write_text(
        f'data = "data.extxyz"\ntest_fraction = 0\n[descriptor]\n{descriptor}\n[fit]\n{fit}\n'
        f'regularisation = "{how}"\n',
        encoding="utf-8",
    )
    return path


def chosen(source: Path) -> tuple[Job, list[Outcome], Choice, np.ndarray]:
    job = prepare(source)
    with solver(job.problem, 1) as compute:
        numbers = state_of(job.potential)
        outcomes = list(compute([Task(shard, numbers, False) for shard in range(len(job.problem.shards()))]))
    return job, outcomes, *choose(job, outcomes)


def rows_of(job: Job, frames: tuple[LabelledFrame, ...]) -> np.ndarray:
    return equations(job.potential, frames, job.problem.sigma, job.problem.baseline, nonlinear=False).numpy()


def root(job: Job, rows: np.ndarray) -> np.ndarray:
    """R of the penalty ‖γ R x‖² of the coefficients."""
    prior = prior_of(job.potential)
    if prior is not None:
        return prior.numpy()
    norms = np.linalg.norm(rows[:, : job.potential.expansion.n_basis], axis=0)
    return np.diag(np.where(norms > 0, norms, 1.0))


@pytest.mark.parametrize("fit", [LINEAR, RANDOM, GAP])
def test_no_other_strength_makes_the_labels_more_probable(place: Path, fit: str) -> None:
    job, _, choice, _ = chosen(write_input(place, fit, "evidence"))
    rows = rows_of(job, job.train)
    n = job.potential.expansion.n_basis
    a, free, y = rows[:, :n], rows[:, n:-1], rows[:, -1]
    drawn = a @ np.linalg.inv(root(job, rows))  # of coefficients of variance one
    along = np.eye(len(y)) - free @ np.linalg.pinv(free)  # what constants cannot explain
    basis = np.linalg.svd(along)[0][:, : len(y) - np.linalg.matrix_rank(free)]

    def probability(strength: float) -> float:
        """ln p(y | γ) of the normal distribution of labels, for the most probable size of the residuals."""
        covariance = basis.T @ (np.eye(len(y)) + drawn @ drawn.T / strength**2) @ basis
        left = basis.T @ y
        size = left @ np.linalg.solve(covariance, left) / len(left)
        return float(multivariate_normal.logpdf(left, cov=size * covariance))

    best = probability(choice.strength)
    assert best > probability(choice.strength * 1.3)
    assert best > probability(choice.strength / 1.3)
    assert best > max(probability(choice.strength * 10.0**power) for power in (-1, 1, 2, 3))
    values = np.linalg.svd(basis.T @ drawn, compute_uv=False)
    assert choice.n_determined == pytest.approx(np.sum(values**2 / (values**2 + choice.strength**2)), rel=1e-6)
    assert 0 < choice.n_determined < choice.n_coefficients == n


@pytest.mark.parametrize("fit", [LINEAR, RANDOM])
def test_cross_validation_predicts_whole_structures_from_the_others(place: Path, fit: str) -> None:
    job, _, choice, _ = chosen(write_input(place, fit, "cross-validation"))
    shards = job.problem.shards()
    folds = [tuple(one for shard in shards[fold::N_FOLDS] for one in shard) for fold in range(N_FOLDS)]
    assert sorted(id(one) for fold in folds for one in fold) == sorted(map(id, job.train))
    parts = [rows_of(job, fold) for fold in folds]
    scale = root(job, np.concatenate(parts))
    n = job.potential.expansion.n_basis

    def error(strength: float) -> float:
        """Of every fold, by the least-squares problem of the others written out."""
        squares = 0.0
        for number, held_out in enumerate(parts):
            rows = np.concatenate([part for other, part in enumerate(parts) if other != number])
            penalty = np.zeros((len(scale), rows.shape[1]))
            penalty[:, :n] = strength * scale
            stacked = np.concatenate([rows, penalty])
            x = np.linalg.lstsq(stacked[:, :-1], stacked[:, -1], rcond=None)[0]
            squares += float(np.sum((held_out[:, :-1] @ x - held_out[:, -1]) ** 2))
        return squares

    # strengths are half a decade of γ² apart, and where the error hardly depends on them rounding may choose
    best = error(choice.strength)
    assert best <= 1.0001 * min(error(choice.strength * 10**power) for power in (-3, -2, -1, -0.5, 0.5, 1, 2))


@pytest.mark.parametrize("how", ["evidence", "cross-validation"])
def test_noise_is_regularised_and_clean_labels_are_not(place: Path, how: str) -> None:
    _, _, of_noise, _ = chosen(write_input(place, LINEAR, how))
    write_labelled(place / "data.extxyz", [*thermal(9, repeat=1), *strained(6)])
    _, _, of_clean, _ = chosen(place / "in.toml")
    assert of_noise.strength > 3 * of_clean.strength
    assert of_noise.n_determined < of_clean.n_determined


@pytest.mark.parametrize("how", ["evidence", "cross-validation"])
@pytest.mark.parametrize("fit", [LINEAR, RANDOM])
def test_the_coefficients_are_those_of_the_strength_that_is_told(place: Path, fit: str, how: str) -> None:
    said: list[str] = []
    source = write_input(place, fit, how)
    result = train(source, n_processes=1, tell=said.append)
    job, _, choice, _ = chosen(source)
    rows = rows_of(job, job.train)
    n, scale = job.potential.expansion.n_basis, root(job, rows)
    penalty = np.zeros((len(scale), rows.shape[1]))
    penalty[:, :n] = choice.strength * scale
    stacked = np.concatenate([rows, penalty])
    x = np.linalg.lstsq(stacked[:, :-1], stacked[:, -1], rcond=None)[0]
    potential: Any = modelfile.load(result.model)
    found = potential.expansion.coefficients.numpy()
    np.testing.assert_allclose(scale @ found, scale @ x[:n], rtol=0, atol=1e-5 * np.abs(scale @ x[:n]).max())
    card = modelfile.read_card(result.model)
    told = card["regularisation"]
    assert told["chosen by"] == how
    assert told["of the prior" if fit == RANDOM else "relative to columns"] == pytest.approx(choice.strength)
    assert told["determined by the data"] == pytest.approx(choice.n_determined, abs=0.06)
    residuals = rows[:, :-1] @ x - rows[:, -1]
    assert card["loss"] == pytest.approx(np.sqrt(np.mean(residuals**2)), rel=1e-5)
    (line,) = [text for text in said if text.startswith("regularisation: ")]
    assert f"by {how}" in line
    assert ("as an amplitude of" in line) == (fit == RANDOM)
    assert f"{choice.n_determined:.1f} of {n} coefficients" in line


def test_radial_functions_are_optimised_first_and_the_strength_is_chosen_for_them(place: Path) -> None:
    mtp = 'kind = "mtp"\nlevel = 4\ncutoff = "4.5 Å"\nn_chebyshev = 3'
    fit = 'kind = "linear"\nmax_iterations = 3'
    result = train(write_input(place, fit, "evidence", mtp), place / "chosen", n_processes=1)
    source = place / "in.toml"
    source.write_text(source.read_text().replace('regularisation = "evidence"', ""))
    plain = train(source, place / "plain", n_processes=1)
    one, other = (modelfile.load(each.model).state_dict() for each in (result, plain))
    assert torch.equal(one["descriptor.radial.coefficients"], other["descriptor.radial.coefficients"])
    assert not torch.equal(one["regressor.coefficients"], other["regressor.coefficients"])
    assert "regularisation" not in modelfile.read_card(plain.model)


def test_energies_that_are_given_stay_those_of_single_atoms(place: Path) -> None:
    source = write_input(place, LINEAR, "evidence")
    source.write_text(source.read_text().replace("test_fraction", "baseline = { Cu = -3.4 }\ntest_fraction"))
    job, _, _, x = chosen(source)
    assert len(x) == n_linear(job.potential)
    assert x[-1] == 0


def test_one_structure_cannot_be_cross_validated(place: Path) -> None:
    write_labelled(place / "data.extxyz", thermal(1, repeat=1))
    with pytest.raises(InputError, match="needs several structures"):
        train(write_input(place, LINEAR, "cross-validation"), n_processes=1)
