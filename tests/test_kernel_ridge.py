"""Kernel ridge regression against its closed form and published errors."""

from __future__ import annotations

import io
import lzma
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch

from mlmd.errors import InputError
from mlmd.fitting.kernel_ridge import KernelRidge

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "polynomial": {"power": 2},
    "gaussian": {"width": 1.7},
    "laplacian": {"width": 2.5},
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def zeros(rows: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(rows), dtype=torch.int64)


def fitted(kernel: str = "gaussian", *, regularisation: float = 0.05, n: int = 25) -> KernelRidge:
    model = KernelRidge(n_features=3, kernel=kernel, regularisation=regularisation, **SETTINGS[kernel])
    model.fit(normal(n, 3), normal(n, seed=1) + 7)
    return model


def test_energies_are_those_of_the_closed_form() -> None:
    model, new = fitted(), normal(9, 3, seed=2)
    x, y = normal(25, 3).numpy(), normal(25, seed=1).numpy() + 7

    def k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=2) / (2 * 1.7**2))

    expected = k(new.numpy(), x) @ np.linalg.inv(k(x, x) + 0.05 * np.eye(25)) @ (y - y.mean()) + y.mean()
    assert model.energies(new, zeros(new)).numpy() == pytest.approx(expected, rel=1e-9)


def test_the_linear_kernel_is_ridge_regression() -> None:
    # (X X' + λ)⁻¹ of rows or (X'X + λ)⁻¹ of columns: the same weights
    model, x, y = fitted("linear"), normal(25, 3).numpy(), normal(25, seed=1).numpy() + 7
    weights = np.linalg.solve(x.T @ x + 0.05 * np.eye(3), x.T @ (y - y.mean()))
    new = normal(9, 3, seed=2)
    assert model.energies(new, zeros(new)).numpy() == pytest.approx(new.numpy() @ weights + y.mean(), rel=1e-9)


def test_with_little_regularisation_it_goes_through_the_targets_and_with_much_it_is_their_mean() -> None:
    rows, y = normal(25, 3), normal(25, seed=1) + 7
    through = fitted("laplacian", regularisation=1e-12).energies(rows, zeros(rows))
    assert through.numpy() == pytest.approx(y.numpy(), abs=1e-9)
    flat = fitted("laplacian", regularisation=1e9).energies(rows, zeros(rows))
    assert flat.numpy() == pytest.approx(np.full(25, float(y.mean())), abs=1e-7)


@pytest.mark.parametrize("kernel", SETTINGS)
def test_it_minimises_what_its_prior_regularises(kernel: str) -> None:
    # ‖K α - y‖² + λ ‖prior α‖² has no slope there: K (K α - y + λ α) = 0
    model = fitted(kernel)
    rows, y = normal(25, 3), normal(25, seed=1) + 7
    basis, prior, alpha = model.basis(rows, zeros(rows)), model.prior(), model.coefficients
    slope = basis.T @ (basis @ alpha - y + model.constants[0]) + 0.05 * prior.T @ (prior @ alpha)
    assert float(slope.abs().max()) < 1e-10 * float((basis.T @ y).abs().max())


def test_a_fit_keeps_its_rows_whatever_becomes_of_the_callers() -> None:
    rows, y = normal(25, 3), normal(25, seed=1)
    model = KernelRidge(n_features=3, width=1.0)
    model.fit(rows, y)
    before = model.energies(normal(4, 3, seed=5), torch.zeros(4, dtype=torch.int64))
    rows.zero_()
    assert torch.equal(model.energies(normal(4, 3, seed=5), torch.zeros(4, dtype=torch.int64)), before)


def test_equal_rows_without_regularisation_are_told() -> None:
    model = KernelRidge(n_features=3, kernel="linear", regularisation=0.0)
    with pytest.raises(InputError, match="the linear kernel of the 30 rows is not positive definite"):
        model.fit(normal(30, 3), normal(30))


def test_numbers_are_the_same_whatever_the_number_of_threads() -> None:
    # each in a fresh interpreter, since a process keeps its number of threads; a matrix large enough to be divided
    script = """
import numpy as np, torch
from mlmd.fitting.kernel_ridge import KernelRidge
from mlmd.potentials.threads import undivided
draw = np.random.default_rng(0).standard_normal
with undivided():
    model = KernelRidge(n_features=3, width=1.0, regularisation=1e-6)
    model.fit(torch.from_numpy(draw((700, 3))), torch.from_numpy(draw(700)))
print(model.coefficients.detach().numpy().tobytes().hex())
"""
    found = set()
    for n_threads in ("1", "2"):
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), n_threads)
        environment = {**os.environ, **threads}
        found.add(
            subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
        )
    assert len(found) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the largest size of a process is read as Linux tells it")
def test_a_fit_takes_the_memory_of_two_matrices_which_is_what_check_says() -> None:
    script = """
import torch
from mlmd.fitting.kernel_ridge import KernelRidge
sizes = []
for n in (200, 3000):  # what is loaded with the first one does not count
    rows = torch.randn((n, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    KernelRidge(n_features=8, width=1.0, regularisation=1e-6).fit(rows, rows[:, 0])
    lines = open("/proc/self/status").read().splitlines()
    sizes.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))))
print((sizes[1] - sizes[0]) / (8 * 3000**2))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    # what the decomposition needs beside them is a block of 512 columns, a sixth of one
    assert 1.5 < float(done.stdout) < 2.4


def test_what_does_not_fit_is_refused() -> None:
    model = KernelRidge(n_features=3, width=1.0)
    with pytest.raises(InputError, match=r"\(n, 3\) is needed"):
        model.fit(normal(5, 2), normal(5))
    with pytest.raises(InputError, match="4 targets were given for 5 rows"):
        model.fit(normal(5, 3), normal(4))
    with pytest.raises(InputError, match="not finite"):
        model.fit(normal(5, 3), normal(5) * math.nan)
    with pytest.raises(InputError, match="regularisation of -1"):
        KernelRidge(n_features=3, width=1.0, regularisation=-1.0)
    with pytest.raises(InputError, match="needs a width"):
        KernelRidge(n_features=3)


def coulomb_matrix(numbers: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
    """Rows sorted by norm, the upper triangle: Rupp et al., PRL 108, 058301 (2012)."""
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distances, 1.0)
    matrix = np.outer(numbers, numbers) / distances
    np.fill_diagonal(matrix, 0.5 * numbers**2.4)
    order = np.argsort(-np.linalg.norm(matrix, axis=1), kind="stable")
    padded = np.zeros((size, size))
    padded[: len(numbers), : len(numbers)] = matrix[order][:, order]
    return padded[np.triu_indices(size)]


def test_heats_of_formation_of_qm7_are_as_good_as_published(shared: Path) -> None:
    # ASE jumps back and forth in a file, which is slow where it is compressed
    text = lzma.decompress((shared / "qm7" / "qm7.xyz.xz").read_bytes()).decode()
    molecules = ase.io.read(io.StringIO(text), index=":", format="extxyz")
    some = np.random.default_rng(0).permutation(len(molecules))[:2000]
    rows = [coulomb_matrix(molecules[one].numbers, molecules[one].positions, 23) for one in some]
    features = torch.from_numpy(np.array(rows))
    heats = torch.tensor([molecules[one].info["heat_of_formation_kcal_mol"] for one in some], dtype=torch.float64)
    model = KernelRidge(n_features=276, kernel="laplacian", width=10**4.2, regularisation=1e-10)
    model.fit(features[:1000], heats[:1000])
    errors = model.energies(features[1000:], zeros(features[1000:])) - heats[1000:]
    # 7.76 kcal/mol with qmllib for other 1000 random molecules: choices of the molecules differ by some 5 %
    assert float(errors.abs().mean()) == pytest.approx(7.76, rel=0.1)
