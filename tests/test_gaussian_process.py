"""The full Gaussian process: covariances of labels, the coefficients that they give, and its training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import strained, thermal

from mlmd.errors import InputError, SimulationError, Stopped
from mlmd.fitting import cholesky
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import Environments, GaussianProcess
from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.train import kernel_fit
from mlmd.train.evaluate import predict
from mlmd.train.job import prepare
from mlmd.train.preview import preview
from mlmd.train.run import train

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "polynomial": {"power": 3},
    "gaussian": {"width": 1.7},
}
CLOSED_FORMS = {
    "linear": lambda x, y: x @ y,
    "polynomial": lambda x, y: (x @ y / ((x @ x) * (y @ y)).sqrt()) ** 3,
    "gaussian": lambda x, y: torch.exp(-(x - y) @ (x - y) / (2 * 1.7**2)),
}
ACSF = 'kind = "acsf"\ncutoff = "4.5 Å"\nn_radial = 4\nn_angular = 1'


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def process(kernel: str, n_points: int, **settings: Any) -> GaussianProcess:
    shift, scale = normal(4, seed=8), 0.5 + normal(4, seed=9).abs()
    given = {"n_kinds": 2, "amplitude": 1.3, **SETTINGS[kernel], **settings}
    return GaussianProcess(n_features=4, n_points=n_points, kernel=kernel, shift=shift, scale=scale, **given)


KINDS = (torch.tensor([0, 1, 0, 0]), torch.tensor([1, 1, 0]))
FEATURES = (normal(4, 4, seed=1), normal(3, 4, seed=2))
JACOBIANS = (normal(4, 4, 5, seed=3), normal(3, 4, 2, seed=4))
ENERGIES = (0.7, 1.9)


def two(model: GaussianProcess) -> list[Environments]:
    """Two structures of two kinds of atoms, with an energy and some derivatives each."""
    return [model.environments(*each) for each in zip(FEATURES, KINDS, JACOBIANS, ENERGIES, strict=True)]


@pytest.mark.parametrize("kernel", SETTINGS)
def test_covariances_are_the_second_derivatives_of_the_sum_of_kernels(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = process(kernel, 7)

    def of_sums(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Covariance of the sums over two structures whose features move along their derivatives."""
        left = (FEATURES[0] + JACOBIANS[0] @ p - model.shift) / model.scale
        right = (FEATURES[1] + JACOBIANS[1] @ q - model.shift) / model.scale
        same = [(i, j) for i in range(4) for j in range(3) if KINDS[0][i] == KINDS[1][j]]
        return 1.3**2 * torch.stack([CLOSED_FORMS[kernel](left[i], right[j]) for i, j in same]).sum()

    p, q = torch.zeros(5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    by_p, by_q = torch.autograd.functional.jacobian(of_sums, (p, q))
    mixed = torch.autograd.functional.hessian(of_sums, (p, q))[0][1]
    a, b = ENERGIES
    expected = torch.cat(
        [torch.cat([a * b * of_sums(p, q)[None], a * by_q])[None], torch.cat([b * by_p[:, None], mixed], dim=1)]
    )
    for numbers in (2**22, 1):  # in one piece, and in pieces of one environment
        monkeypatch.setattr("mlmd.fitting.gaussian_process._NUMBERS_AT_ONCE", numbers)
        found = model.covariances(*two(model))
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kernel", SETTINGS)
def test_what_is_predicted_is_the_sum_of_covariances_times_coefficients(kernel: str) -> None:
    model = process(kernel, 7)
    environments, alpha = two(model), normal(9, seed=5)
    model.put(environments, alpha, torch.tensor([0.4, -2.0], dtype=torch.float64))
    rows, kinds, along = normal(5, 4, seed=6), torch.tensor([1, 0, 1, 0, 0]), normal(5, 4, 2, seed=7)
    new = [model.environments(rows[[n]], kinds[[n]], along[[n]], 1.0) for n in range(5)]
    covariances = torch.stack([torch.cat([model.covariances(one, known) for known in environments], dim=1) @ alpha
                               for one in new])  # fmt: skip
    features = rows.clone().requires_grad_(True)
    energies = model.energies(features, kinds)
    (gradient,) = torch.autograd.grad(energies.sum(), features)
    constants = torch.tensor([0.4, -2.0], dtype=torch.float64)[kinds]
    np.testing.assert_allclose(energies.detach() - constants, covariances[:, 0], rtol=1e-10)
    slopes = torch.einsum("nf,nfd->nd", gradient, along)
    np.testing.assert_allclose(slopes, covariances[:, 1:], rtol=1e-9, atol=1e-12)


def test_many_points_are_worked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = process("gaussian", 7)
    model.put(two(model), normal(9, seed=5), torch.zeros(2))
    rows, kinds = normal(9, 4, seed=6), torch.arange(9) % 2
    whole = model.energies(rows, kinds)
    monkeypatch.setattr("mlmd.fitting.gaussian_process._NUMBERS_AT_ONCE", 3)
    np.testing.assert_allclose(model.energies(rows, kinds), whole, rtol=1e-13)


def test_of_energies_of_single_rows_it_is_the_sparse_process_with_all_rows_as_points() -> None:
    rows, y, sigma = normal(30, 3), normal(30, seed=1), 0.3
    kinds = torch.zeros(30, dtype=torch.int64)
    model = GaussianProcess(n_features=3, n_points=30, width=1.5, amplitude=0.8)
    each = [model.environments(rows[[n]], kinds[[n]], rows.new_zeros((1, 3, 0)), 1 / sigma) for n in range(30)]
    matrix = torch.cat([torch.cat([model.covariances(a, b) for b in each], dim=1) for a in each])
    matrix.diagonal().add_(1.0)
    cholesky.factorise(matrix)
    model.put(each, cholesky.solve(matrix, y[:, None] / sigma)[:, 0], torch.zeros(1))
    sparse = SparseGaussian(rows, kinds, kernel="gaussian", width=1.5, amplitude=0.8, jitter=1e-12)
    basis, prior = sparse.basis(rows, kinds), sparse.prior()
    stacked, right = torch.cat([basis / sigma, prior]), torch.cat([y / sigma, torch.zeros(30)])
    with torch.no_grad():
        sparse.coefficients.copy_(torch.linalg.lstsq(stacked, right[:, None]).solution[:, 0])
    new = normal(12, 3, seed=2)
    # the jitter of 1e-12 is amplified by the weights of the points, which are large where points are alike
    np.testing.assert_allclose(model.energies(new, kinds[:12]), sparse.energies(new, kinds[:12]), atol=1e-7)


@pytest.mark.parametrize("block", [512, 7])
def test_the_decomposition_in_place_is_that_of_lapack(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cholesky, "BLOCK", block)
    rows = normal(45, 50)
    matrix = rows @ rows.T
    expected, right = torch.linalg.cholesky(matrix), normal(45, 2, seed=1)
    solution = torch.linalg.solve(matrix, right)
    first = torch.linalg.solve(matrix[:20, :20], right[:20])
    below = matrix.tril()
    below += torch.full_like(below, math.nan).triu(1)  # is not looked at
    cholesky.factorise(below)
    np.testing.assert_allclose(below.tril(), expected, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(cholesky.solve(below, right), solution, rtol=1e-8)
    np.testing.assert_allclose(cholesky.solve(below[:20, :20], right[:20]), first, rtol=1e-8)


def test_a_matrix_that_is_not_positive_definite_is_refused() -> None:
    with pytest.raises(InputError, match="2 rows is not positive definite at row 2"):
        cholesky.factorise(torch.tensor([[1.0, 0.0], [2.0, 1.0]], dtype=torch.float64))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one; every other atom is called silver."""
    monkeypatch.chdir(tmp_path)
    frames = [*thermal(6, repeat=1), *strained(4)]
    for frame in frames[1:]:
        frame.atoms.numbers[::2] = 47
    write_labelled(tmp_path / "data.extxyz", frames)
    return tmp_path


def write_input(folder: Path, fit: str = "", top: str = "", descriptor: str = ACSF, end: str = "") -> Path:
    path = folder / "in.toml"
    path.write_text(
        f'data = {{ path = "data.extxyz" }}\ntest_fraction = 0\n{top}\n[descriptor]\n{descriptor}\n[fit]\n'
        f'kind = "kernel"\n{fit}\n{end}\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("fit", "baseline"), [("", ""), ('kernel = "gaussian"\nwidth = 12', 'baseline = { Cu = -3.5, Ag = "-3 eV" }')]
)
def test_labels_are_reproduced_as_closely_as_sigma_asks_for(place: Path, fit: str, baseline: str) -> None:
    errors = []
    for factor in (1.0, 1e-3):
        # more features than coordinates, so that every force is possible
        descriptor = ACSF.replace("n_radial = 4", "n_radial = 12")
        sigma = f"[loss]\nenergy = {1e-3 * factor}\nforces = {0.05 * factor}\nstress = {1000 * factor}"
        result = train(write_input(place, fit, baseline, descriptor, sigma), place / f"{factor}", n_processes=1)
        frames = read_labelled(place / "data.extxyz")
        labels = predict(modelfile.load(result.model), frames)
        found = np.concatenate([one.forces for one in labels])
        expected = np.concatenate([frame.forces for frame in frames])
        errors.append(math.sqrt(np.mean((found - expected) ** 2)))
        energies = [one.energy - frame.energy for one, frame in zip(labels, frames, strict=True)]
        assert np.abs(energies).max() < 4 * 5e-3 * factor
    scatter = math.sqrt(np.mean(expected**2))
    assert errors[0] < 0.1 * scatter
    assert errors[1] < 0.02 * errors[0]


def test_the_solution_is_that_of_the_equations_of_the_process(place: Path) -> None:
    # all covariances at once, without Cholesky, and constants by the formula of generalised least squares
    job = prepare(write_input(place, end='[loss]\nenergy = "2 meV"'))
    result = kernel_fit.fit(job, place, 2, lambda step: None)
    model = job.potential.regressor
    assert isinstance(model, GaussianProcess)
    frames = [frame for shard in job.problem.shards() for frame in shard]
    each = [kernel_fit.environments_of(job.potential, frame, job.problem.sigma) for frame in frames]
    k = np.block([[model.covariances(a, b).numpy() for b in each] for a in each])
    np.testing.assert_allclose(k, k.T, rtol=1e-9, atol=1e-9 * np.abs(k).max())
    rows, h = [], []
    for frame in frames:
        n = len(frame.atoms)
        symbols = frame.atoms.get_chemical_symbols()
        count = np.array([symbols.count("Cu"), symbols.count("Ag")])
        above = frame.energy - count @ job.problem.baseline
        stress = frame.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / job.problem.sigma.stress
        rows.append(np.concatenate([[above / (n * 2e-3)], frame.forces.ravel() / 0.05, stress]))
        h.append(np.concatenate([count[None] / (n * 2e-3), np.zeros((3 * n + 6, 2))]))
    y, h = np.concatenate(rows), np.concatenate(h)
    inverse = np.linalg.inv(k + np.eye(len(k)))
    c = np.linalg.solve(h.T @ inverse @ h, h.T @ inverse @ y)
    alpha = inverse @ (y - h @ c)
    # the condition of the matrix, of 1e7, times rounding
    np.testing.assert_allclose(model.constants, job.problem.baseline + c, rtol=1e-6)
    assert result.facts["loss"] == pytest.approx(math.sqrt(np.mean(alpha**2)), rel=1e-6)
    assert result.facts["rows"] == len(y) == job.problem.n_equations
    bare = GaussianProcess.restore(model.spec(), {})
    bare.put(each, torch.from_numpy(alpha), torch.zeros(2))
    np.testing.assert_allclose(model.slopes, bare.slopes, rtol=0, atol=1e-6 * float(bare.slopes.abs().max()))


def test_any_number_of_threads_gives_the_same_file(place: Path) -> None:
    one = train(write_input(place), place / "one", n_processes=1)
    other = train(place / "in.toml", place / "other", n_processes=3)
    assert one.model.read_bytes() == other.model.read_bytes()


def test_the_laplacian_kernel_learns_energies_and_refuses_forces(place: Path) -> None:
    with pytest.raises(InputError, match='fit: kernel: "laplacian" has a kink'):
        train(write_input(place, 'kernel = "laplacian"'), n_processes=1)
    source = write_input(place, 'kernel = "laplacian"')
    source.write_text(source.read_text().replace('extxyz" }', 'extxyz", forces = "none", stress = "none" }'))
    result = train(source, n_processes=1)
    table = result.errors["train"]
    assert table is not None
    assert table.row("energy").rmse < 1.0  # meV/atom, of σ = 1
    with pytest.raises(InputError, match="Laplacian kernel has a kink"):
        GaussianProcess(n_features=4, n_points=3, kernel="laplacian", width=1.0).environments(
            FEATURES[1], KINDS[1], JACOBIANS[1], None
        )


def test_more_rows_than_memory_has_room_for_are_refused_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmd.train.memory.available", lambda: 1e4)
    with pytest.raises(InputError, match=r"the 190 energies, forces and stresses need 0\.0 GB") as caught:
        train(write_input(place), n_processes=1)
    assert "random-features" in str(caught.value)
    assert not (place / "in.run").exists()


def test_a_stopped_fit_says_that_it_begins_anew(place: Path) -> None:
    source = write_input(place)

    def stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped, match=r"keeps no parts\. The same command begins anew"):
        train(source, n_processes=1, progress=lambda step: stop(step) if step.what == "covariances" else None)
    assert train(source, n_processes=1).model.exists()


def test_labels_without_a_finite_solution_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GaussianProcess, "covariances", lambda self, a, b: torch.full((a.n_rows, b.n_rows), -1.0))
    with pytest.raises(SimulationError, match="not positive definite"):
        train(write_input(place), n_processes=1)


def test_a_preview_knows_what_the_matrix_needs(place: Path) -> None:
    found = preview(write_input(place))
    assert found.n_linear == found.n_equations == 190
    assert found.memory > 8e-6 * 190**2
    assert 0 < found.hours < 0.1
