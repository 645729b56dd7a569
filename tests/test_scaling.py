"""Features that hardly vary in the data: what they might do elsewhere is not learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from made_data import label

from mlmd.fitting.scaling import emphasis, mean_and_deviation
from mlmd.io.labelled import write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.train.run import train

CUTOFF = 4.5
FITS = {
    "linear": 'kind = "linear"',
    "quadratic": 'kind = "linear"\nquadratic = true\nregularisation = "evidence"',
    "network": 'kind = "network"\nepochs = 20\nn_neurons = [8]',
    "gap": 'kind = "gap"\nn_sparse = 20',
    "random-features": 'kind = "random-features"\nn_random = 60',
    "kernel": 'kind = "kernel"',
}


def test_a_column_that_is_faint_beside_those_of_its_descriptor_is_not_made_as_large_as_they_are() -> None:
    rows = torch.randn((500, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = rows * torch.tensor([1.0, 1e-3, 1e-20, 1e-20]).double()
    shift, scale = mean_and_deviation(rows, (slice(0, 3), slice(3, 4)))
    sizes = ((rows - shift) / scale).std(dim=0, correction=0)
    # ε = 10⁻⁵: its size and its slope are both (10⁻²⁰ / ε)² or less; the last is all there is of another descriptor
    assert sizes.numpy() == pytest.approx([1, 1, 0, 1], abs=1e-9)
    assert float(1 / scale[2]) < 1e-9
    # there is no step from one kind to the other, and no column of a greater slope than those of size ε
    least = emphasis(torch.tensor([1.0, 1.001e-5, 0.999e-5, 0.0]).double(), (slice(None),))
    assert least.numpy() == pytest.approx([1, 1, 1.002, 1], abs=1e-4)


def silver(distance: float | None = None) -> Atoms:
    """Copper away from its sites, with two silver atoms, farther from each other than the cutoff or at a distance."""
    atoms = bulk("Cu", cubic=True, a=3.6).repeat(2)
    other = int(np.argmin(np.linalg.norm(atoms.positions - [3.6, 3.6, 0], axis=1)))
    atoms.numbers[[0, other]] = 47
    if distance is not None:
        atoms.positions[other] *= distance / np.linalg.norm(atoms.positions[other])
    return atoms


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In one structure silver sees silver, by 10⁻⁷ Å; in all others it does not."""
    path = tmp_path_factory.mktemp("silver") / "data.extxyz"
    frames = []
    for number in range(8):
        atoms = silver()
        moved = np.random.default_rng(number).normal(0, 0.08, atoms.positions.shape)
        moved[atoms.numbers == 47] = 0
        atoms.positions += moved
        frames.append(label(atoms, f"silver.xyz@{number}"))
    write_labelled(path, [*frames, label(silver(CUTOFF - 1e-7), "silver.xyz@8")])
    return path


@pytest.mark.parametrize("fit", FITS)
def test_what_came_within_the_cutoff_by_a_hair_is_not_a_wall_when_it_comes_nearer(
    fit: str, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.toml"
    path.write_text(
        f'data = "{data}"\ntest_fraction = 0\n[descriptor]\nkind = "acsf"\ncutoff = "{CUTOFF} Å"\nn_radial = 3\n'
        f"n_angular = 1\nzetas = [1]\n[fit]\n{FITS[fit]}\n[uncertainty]\ngrade = false\nspread = false\n"
    )
    training = train(path, tmp_path / "run", n_processes=1)
    errors = training.errors["train"]
    assert errors is not None and errors.row("forces").rmse < 600  # meV/Å; forces of zero would be wrong by 953
    evaluate = predictor(modelfile.load(training.model))
    far, near = (evaluate(silver(CUTOFF + step)) for step in (1e-3, -1e-3))
    # features change by 10⁻⁶ and less
    assert abs(near.energy - far.energy) < 0.1
    assert np.abs(near.forces - far.forces).max() < 0.3
    # of forces of some eV/Å, which are those of silver that is pushed towards copper
    assert np.abs(evaluate(silver(CUTOFF - 0.2)).forces).max() < 50
