"""AGNI: directional fingerprints, odd kernels, and force fields that know no energy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from command_line import mlmd
from made_data import label, strained, thermal

from mlmd.ase import Calculator
from mlmd.config import Train, load_train, resolved
from mlmd.descriptors.directional import Directional
from mlmd.errors import InputError
from mlmd.fitting.odd_gaussian import OddGaussian
from mlmd.io.labelled import write_labelled
from mlmd.neighbors import build_graph
from mlmd.potentials import has_energy, modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.force_field import ForceField
from mlmd.train.run import train

ELEMENTS = ("Cu", "Ag")
WIDTHS = (0.8, 2.0, 5.0)
TRAIN = """data = "data.extxyz"
test_fraction = 0
[descriptor]
kind = "agni"
cutoff = "5 Å"
[fit]
kind = "agni"
n_sparse = 150
"""


def alloy(seed: int = 0) -> Atoms:
    """Sixteen atoms of two elements in a cubic cell, off their places."""
    atoms = bulk("Cu", cubic=True, a=3.7).repeat((2, 2, 1))
    atoms.positions += np.random.default_rng(seed).normal(0, 0.2, (len(atoms), 3))
    atoms.numbers[::3] = 47
    return atoms


def random_field() -> ForceField:
    descriptor = Directional(elements=ELEMENTS, cutoff=5.0, widths=WIDTHS)
    generator = torch.Generator().manual_seed(1)
    points = torch.randn((9, 6), generator=generator, dtype=torch.float64)
    regressor = OddGaussian(points, torch.arange(9) % 2, n_kinds=2, width=1.5, amplitude=2.0)
    with torch.no_grad():
        regressor.coefficients.copy_(torch.randn(9, generator=generator, dtype=torch.float64))
    return ForceField(descriptor, regressor)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data of EMT copper and a force field that was fitted to them."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(8), *strained(3)])
    (tmp_path / "in.toml").write_text(TRAIN, encoding="utf-8")
    train(tmp_path / "in.toml", n_processes=1)
    return tmp_path


def test_fingerprints_are_their_closed_form_by_element() -> None:
    atoms = alloy()
    found = Directional(elements=ELEMENTS, cutoff=5.0, widths=WIDTHS).features(build_graph(atoms, 6.5))
    images = [np.array(shift) @ atoms.cell.array for shift in np.ndindex(5, 5, 5)]
    expected = np.zeros((len(atoms), 3, 2, 3))
    for i in range(len(atoms)):
        for j in range(len(atoms)):
            for image in images:
                vector = atoms.positions[j] + image - 2 * atoms.cell.array.sum(axis=0) - atoms.positions[i]
                r = np.linalg.norm(vector)
                if 1e-6 < r < 5.0:
                    for k, width in enumerate(WIDTHS):
                        size = math.exp(-((r / width) ** 2)) * 0.5 * (1 + math.cos(math.pi * r / 5.0))
                        expected[i, :, ELEMENTS.index(atoms.symbols[j]), k] += vector / r * size
    np.testing.assert_allclose(found, expected.reshape(3 * len(atoms), 6), atol=1e-12)


@pytest.mark.parametrize(
    "matrix",
    [[[0, 1, 0], [-1, 0, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, -1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]],
    ids=["a quarter turn", "a mirror", "a turn about the diagonal"],
)
def test_forces_follow_turns_and_mirrors_that_exchange_the_axes(matrix: list[list[int]]) -> None:
    potential, atoms, turned = random_field(), alloy(), alloy()
    turned.set_cell(atoms.cell.array @ matrix)
    turned.positions = atoms.positions @ matrix
    one, other = (potential.predict(build_graph(each, 5.0)).forces.numpy() for each in (atoms, turned))
    assert np.abs(one).max() > 0.1
    np.testing.assert_allclose(other, one @ np.array(matrix), atol=1e-12)


def test_forces_do_not_follow_other_turns_exactly() -> None:
    # components are learned one by one: what the documentation says of AGNI
    potential, atoms, turned = random_field(), alloy(), alloy()
    turned.rotate(37, (1, 2, -1), rotate_cell=True)
    matrix = np.linalg.solve(atoms.cell.array, turned.cell.array)
    one, other = (potential.predict(build_graph(each, 5.0)).forces.numpy() for each in (atoms, turned))
    assert np.abs(other - one @ matrix).max() > 1e-3


def test_there_is_no_force_at_a_centre_of_inversion() -> None:
    crystal = bulk("Cu", cubic=True, a=3.6)
    forces = random_field().predict(build_graph(crystal, 5.0)).forces
    assert float(forces.abs().max()) < 1e-12


def test_odd_kernels_are_differences_and_their_prior_their_root() -> None:
    regressor = random_field().regressor
    assert isinstance(regressor, OddGaussian)
    rows, kinds = torch.randn((5, 6), dtype=torch.float64), torch.tensor([0, 1, 1, 0, 0])
    basis = regressor.basis(rows, kinds).numpy()

    def even(x: np.ndarray, y: np.ndarray) -> float:
        return 4.0 * math.exp(-np.sum((x - y) ** 2) / (2 * 1.5**2))

    points, of_points = regressor.points.numpy(), regressor.point_kinds.tolist()
    expected = [
        [(even(x, y) - even(-x, y)) * (own == other) for y, other in zip(points, of_points, strict=True)]
        for x, own in zip(rows.numpy(), kinds.tolist(), strict=True)
    ]
    np.testing.assert_allclose(basis, expected, atol=1e-13)
    np.testing.assert_allclose(regressor.basis(-rows, kinds), -basis, atol=1e-13)
    root = regressor.prior()
    matrix = regressor.basis(regressor.points, regressor.point_kinds)
    np.testing.assert_allclose(root.T @ root, matrix, atol=1e-8)
    diagonal = 4.0 * regressor._kernel.diagonal(regressor.points)
    np.testing.assert_allclose(diagonal, matrix.diagonal(), atol=1e-12)


def test_forces_are_learned_and_energies_are_not_known(trained: Path) -> None:
    potential = modelfile.load(trained / "in.run" / "in.mlmd")
    assert isinstance(potential, ForceField)
    (unseen,) = thermal(1, seed=9)
    found = predictor(potential)(unseen.atoms)
    # thermal copper is nearly harmonic: a third of the scatter is left with few structures
    assert np.sqrt(np.mean((found.forces - unseen.forces) ** 2)) < np.sqrt(np.mean(unseen.forces**2)) / 3
    assert math.isnan(found.energy)
    assert np.isnan(found.virial).all()
    atoms = unseen.atoms.copy()
    atoms.calc = Calculator(potential)
    np.testing.assert_array_equal(atoms.get_forces(), found.forces)
    with pytest.raises(PropertyNotImplementedError, match="energy"):
        atoms.get_potential_energy()


def test_forces_beside_a_given_potential_and_with_a_chosen_strength_have_no_energy_either(trained: Path) -> None:
    morse = 'potential = { kind = "morse", depth = "0.1 eV", width = "0.7 Å", r0 = "2.6 Å", cutoff = "4 Å" }'
    text = TRAIN.replace("= 150", f'= 20\nregularisation = "evidence"\n[baseline]\n{morse}')
    (trained / "sum.toml").write_text(text, encoding="utf-8")
    result = train(trained / "sum.toml", n_processes=1)
    assert not has_energy(modelfile.load(result.model))
    assert "eV/Å would be" in (result.path / "messages.log").read_text(encoding="utf-8")
    answer = mlmd("evaluate", str(result.model), "data.extxyz", "--json")
    assert answer.code == 0, answer.err


def test_evaluate_compares_forces_alone(trained: Path) -> None:
    answer = mlmd("evaluate", "in.run/in.mlmd", "data.extxyz", "--json")
    assert answer.code == 0, answer.err
    assert '"n_frames": 11' in answer.out + answer.err
    assert "NaN" not in answer.out + answer.err
    assert "Infinity" not in answer.out + answer.err


def test_labels_are_refused_in_one_message(trained: Path) -> None:
    atoms = thermal(1)[0].atoms
    atoms.write(trained / "cu.extxyz")
    answer = mlmd("label", "cu.extxyz", "--potential", "in.run/in.mlmd", "--out", "labelled.extxyz")
    assert answer.code == 2
    assert "predicts forces alone (AGNI): it has no energy" in answer.out + answer.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRAIN.replace('[fit]\nkind = "agni"\nn_sparse = 150', '[fit]\nkind = "gap"'), "go together"),
        (TRAIN.replace('kind = "agni"\ncutoff', 'kind = "acsf"\ncutoff'), "go together"),
        (
            TRAIN + '[baseline]\nenergies = "isolated"\n',
            "^in.toml: baseline: energies: agni learns forces alone, and no",
        ),
        (TRAIN + '[baseline]\nenergies = { Cu = "-3 eV" }\n', "baseline: energies: agni learns forces alone"),
        (TRAIN + '[loss]\nenergy = "2 meV"\n', "^in.toml: loss: energy: agni learns forces alone, and no energies"),
        (TRAIN + '[loss]\nstress = "1 GPa"\n', "^in.toml: loss: stress: agni learns forces alone, and no stresses"),
        (TRAIN + "[loss.groups]\nhot = { forces = 2, energy = 3 }\n", "groups: hot: energy: .*hot = { forces = 2 }"),
        (TRAIN + "[uncertainty]\ngrade = true\n", "^in.toml: uncertainty: grade: agni has no grades of extrapolation"),
        (TRAIN.replace('"data.extxyz"', '{ path = "data.extxyz", forces = "none" }'), "the data have none"),
    ],
)
def test_what_agni_cannot_learn_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", thermal(4, repeat=1))
    (tmp_path / "in.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        train(tmp_path / "in.toml", n_processes=1)


@pytest.mark.parametrize(
    "text",
    [
        '[loss]\nforces = "0.1 eV/Å"\n[loss.groups]\nhot = 2\ncold = { forces = 0.5 }\n',
        '[baseline]\npotential = { kind = "zbl", cutoff = "2 Å" }\n',
        "[uncertainty]\nspread = true\ngrade = false\n",
    ],
)
def test_what_agni_can_do_is_not_refused_nor_is_the_resolved_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "in.toml").write_text(TRAIN + text, encoding="utf-8")
    given = load_train(tmp_path / "in.toml")
    assert Train.model_validate(resolved(given)) == given


def test_perfect_crystals_have_no_forces_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [bulk("Cu", cubic=True, a=3.5 + 0.02 * n) for n in range(4)]
    write_labelled(tmp_path / "data.extxyz", [label(atoms, f"cu.xyz@{n}") for n, atoms in enumerate(cells)])
    (tmp_path / "in.toml").write_text(TRAIN, encoding="utf-8")
    with pytest.raises(InputError, match="centres of inversion"):
        train(tmp_path / "in.toml", n_processes=1)
