"""Coulomb, sine and Ewald matrices against DScribe, ASE's distances and closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from dscribe_oracle import ELEMENTS, crystal, dscribe, molecule
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS
from mlmd.descriptors.coulomb import FORMS, Coulomb
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.registry import find

PERMUTATIONS = {"plain": "none", "sorted": "sorted_l2", "eigenspectrum": "eigenspectrum"}
"""Form -> DScribe's word for it."""
CRYSTALS = ("sine", "ewald")


def coulomb(**settings: Any) -> Coulomb:
    return Coulomb(**{"elements": ELEMENTS, "n_atoms_max": 10, **settings})


def of(descriptor: Coulomb, atoms: Atoms | Sequence[Atoms]) -> np.ndarray:
    return descriptor.features(build_graph(atoms, descriptor.cutoff)).numpy()


def noise(form: str) -> dict[str, float]:
    return {"noise": 5.0} if form == "random" else {}


@pytest.mark.parametrize("form", PERMUTATIONS)
def test_coulomb_matrices_of_molecules_are_dscribes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = dscribe(monkeypatch).CoulombMatrix(n_atoms_max=10, permutation=PERMUTATIONS[form])
    molecules = [molecule(5, 0), molecule(10, 1), molecule(1, 2)]
    assert of(coulomb(form=form), molecules) == pytest.approx(oracle.create(molecules), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("form", PERMUTATIONS)
def test_sine_matrices_of_crystals_are_dscribes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = dscribe(monkeypatch).SineMatrix(n_atoms_max=10, permutation=PERMUTATIONS[form])
    crystals = [crystal(4, 0), crystal(7, 1)]
    # entries are hundreds
    assert of(coulomb(form=form, interaction="sine"), crystals) == pytest.approx(oracle.create(crystals), abs=1e-9)


@pytest.mark.parametrize("form", PERMUTATIONS)
def test_ewald_matrices_of_crystals_are_dscribes(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = dscribe(monkeypatch).EwaldSumMatrix(n_atoms_max=10, permutation=PERMUTATIONS[form])
    crystals = [crystal(4, 0), crystal(7, 1)]
    # sums that end elsewhere, in other proportions of real and reciprocal space: what they leave out is 1e-13 of
    # entries of hundreds, some thousand times
    expected = oracle.create(crystals, accuracy=1e-13, w=1.7)
    assert of(coulomb(form=form, interaction="ewald", accuracy=1e-13), crystals) == pytest.approx(expected, abs=1e-8)


def test_the_default_accuracy_of_ewald_sums_leaves_out_less_than_a_millionth() -> None:
    crystals = [crystal(4, 0), crystal(9, 1)]
    rough, exact = (of(coulomb(interaction="ewald", **one), crystals) for one in ({}, {"accuracy": 1e-14}))
    assert 0 < np.abs(rough - exact).max() < 1e-6 * np.abs(exact).max()


def test_the_ewald_matrix_of_rock_salt_adds_up_to_madelungs_constant() -> None:
    salt = bulk("NaCl", "rocksalt", a=2.0)
    given = {"elements": ("Na", "Cl"), "n_atoms_max": 2, "form": "plain", "interaction": "ewald", "accuracy": 1e-14}
    (matrix,) = of(Coulomb(properties=[{"Na": 1.0, "Cl": 1.0}], **given), salt).reshape(1, 2, 2)
    energy = matrix[0, 0] + matrix[1, 1] - matrix[0, 1]  # charges of opposite sign, a distance of 1 Å
    assert energy == pytest.approx(-1.747564594633182, rel=1e-12)


def test_entries_are_products_of_charges_by_distances_in_the_unit_that_is_asked_for() -> None:
    water = Atoms("OH2", positions=[[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    bohr = 0.529177210544
    r, apart = math.hypot(0.76, 0.59), 1.52
    for unit, length in (("angstrom", 1.0), ("bohr", bohr)):
        descriptor = coulomb(n_atoms_max=3, form="plain", unit=unit)
        expected = [0.5 * 8**2.4, *[8 * length / r] * 2, 8 * length / r, 0.5, length / apart]
        expected += [8 * length / r, length / apart, 0.5]
        assert of(descriptor, water)[0] == pytest.approx(expected, rel=1e-12)
    triangle = of(coulomb(n_atoms_max=3, form="plain", layout="triangle"), water)[0]
    assert triangle == pytest.approx([0.5 * 8**2.4, 8 / r, 8 / r, 0.5, 1 / apart, 0.5], rel=1e-12)
    assert coulomb(n_atoms_max=3, layout="triangle").n_features == 6
    in_bohr = of(coulomb(n_atoms_max=3, form="plain", interaction="sine", unit="bohr"), boxed(water))
    in_angstrom = of(coulomb(n_atoms_max=3, form="plain", interaction="sine"), boxed(water))
    assert in_bohr[0, 1] == pytest.approx(bohr * in_angstrom[0, 1], rel=1e-12)


def boxed(atoms: Atoms) -> Atoms:
    return Atoms(atoms.symbols, atoms.positions, cell=[5, 6, 7], pbc=True)


def test_layers_of_properties_stand_one_after_the_other_with_a_row_for_the_same_atom() -> None:
    negativity = {"H": 2.2, "C": 2.55, "O": 3.44, "S": 2.58}
    atoms = molecule(6, 3)
    both = of(coulomb(properties=["number", negativity]), atoms).reshape(2, 10, 10)
    assert both[0] == pytest.approx(of(coulomb(), atoms).reshape(10, 10))
    rows = {round(0.5 * int(Atoms(symbol).numbers[0]) ** 2.4, 9): symbol for symbol in ELEMENTS}
    order = [rows[round(value, 9)] for value in np.diag(both[0])[:6]]
    assert np.diag(both[1])[:6] == pytest.approx([0.5 * negativity[symbol] ** 2.4 for symbol in order])
    charges = [[float(Atoms(one).numbers[0]) for one in order], [negativity[one] for one in order]]
    off = ~np.eye(6, dtype=bool)
    inverse = [layer[:6, :6][off] / np.outer(p, p)[off] for layer, p in zip(both, charges, strict=True)]
    assert inverse[0] == pytest.approx(inverse[1])  # the same distances at the same places


def test_what_is_padded_is_zero_and_does_not_depend_on_the_other_structures() -> None:
    small, large = molecule(3, 5), molecule(9, 6)
    for form in FORMS:
        descriptor = coulomb(form=form, **noise(form))
        alone, together = of(descriptor, small), of(descriptor, [small, large])
        if form != "random":
            assert together[0] == pytest.approx(alone[0], rel=1e-12)
        filled = np.zeros(10, dtype=bool)
        filled[:3] = True
        if form != "eigenspectrum":
            filled = np.outer(filled, filled).ravel()
        assert np.array_equal(together[0] != 0, filled)


def test_random_matrices_are_the_sorted_one_in_other_orders_drawn_by_the_generator() -> None:
    atoms = [molecule(8, 3), molecule(6, 4)]
    graph = build_graph(atoms, 0.0)
    descriptor = coulomb(form="random", noise=10.0)
    draws = descriptor.draws(graph, 20, torch.Generator().manual_seed(1))
    assert draws.shape == (2, 20, 100)
    exact = torch.from_numpy(of(coulomb(), atoms)).sort(dim=1).values
    assert torch.allclose(draws.sort(dim=2).values, exact[:, None].expand(-1, 20, -1), rtol=1e-12)
    for one in draws:
        assert len(torch.unique(one, dim=0)) > 5
        assert torch.equal(one.view(-1, 10, 10), one.view(-1, 10, 10).mT)
    assert torch.equal(draws, descriptor.draws(graph, 20, torch.Generator().manual_seed(1)))
    assert not torch.equal(draws, descriptor.draws(graph, 20, torch.Generator().manual_seed(2)))
    assert torch.equal(descriptor.features(graph), descriptor.features(graph))
    quiet = coulomb(form="random", noise=1e-9)
    assert torch.equal(quiet.features(graph), coulomb().features(graph))


def test_the_order_of_random_matrices_has_the_probability_of_gaussian_noise() -> None:
    # H and C far from each other: norms ½ and ½ 6^2.4; P(C first) = Φ(Δ / √2 σ)
    pair = Atoms("HC", positions=[[0, 0, 0], [1e9, 0, 0]])
    apart, sigma, n = 0.5 * 6**2.4 - 0.5, 30.0, 4_000
    descriptor = coulomb(n_atoms_max=2, form="random", noise=sigma)
    draws = descriptor.draws(build_graph(pair, 0.0), n, torch.Generator().manual_seed(3))[0]
    expected = 0.5 * (1 + math.erf(apart / (2 * sigma)))
    error = math.sqrt(expected * (1 - expected) / n)
    assert abs(float((draws[:, 0] > 1).double().mean()) - expected) < 4 * error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("interaction", ["coulomb", *CRYSTALS])
def test_derivatives_by_positions_and_cells_are_those_of_finite_differences(form: str, interaction: str) -> None:
    descriptor = coulomb(form=form, interaction=interaction, n_atoms_max=6, accuracy=1e-12, **noise(form))
    graph = build_graph(molecule(5, 8) if interaction == "coulomb" else crystal(5, 8), 0.0)

    def features(positions: Tensor, cells: Tensor) -> Tensor:
        return descriptor.features(replace(graph, positions=positions, cells=cells))

    leaves = (graph.positions.clone().requires_grad_(True), graph.cells.clone().requires_grad_(True))
    # entries are hundreds, steps 1e-6: differences have errors of 1e-6 from rounding
    assert torch.autograd.gradcheck(features, leaves, eps=1e-6, atol=1e-5, rtol=1e-5)
    if interaction != "coulomb":
        by_cells = torch.autograd.grad(features(*leaves).square().sum(), leaves[1])[0]
        assert float(by_cells.abs().max()) > 0.1


def test_forces_of_a_sum_of_entries_are_those_of_bare_nuclei() -> None:
    atoms = molecule(4, 9)
    graph = build_graph(atoms, 0.0)
    positions = graph.positions.clone().requires_grad_(True)
    moved: Graph = replace(graph, positions=positions)
    energy = coulomb(form="plain", layout="triangle").features(moved).sum()  # Σ Z Z / r and constants
    (gradient,) = torch.autograd.grad(energy, positions)
    z, apart = atoms.numbers, atoms.positions[:, None] - atoms.positions[None]
    cubes = np.linalg.norm(apart, axis=2) ** 3 + np.eye(4)
    expected = ((z[:, None] * z[None] / cubes)[:, :, None] * apart).sum(axis=1)
    assert -gradient.numpy() == pytest.approx(expected, rel=1e-12)


def test_the_input_of_a_matrix_gives_it_again() -> None:
    negativity = {"H": 2.2, "C": 2.55, "O": 3.44, "S": 2.58}
    made = coulomb(form="random", noise=2.0, seed=5, unit="bohr", layout="triangle", properties=["number", negativity])
    again = find("mlmd.descriptors", made.spec()["kind"], DESCRIPTORS).restore(made.spec(), made.state_dict())
    assert again.n_features == made.n_features == 2 * 55
    atoms = molecule(7, 1)
    assert np.array_equal(of(again, atoms), of(made, atoms))
    ewald = coulomb(interaction="ewald", accuracy=1e-5)
    assert np.array_equal(of(Coulomb.restore(ewald.spec(), {}), crystal(4, 1)), of(ewald, crystal(4, 1)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"form": "sort"}, "Did you mean 'sorted'"),
        ({"interaction": "ewalt"}, "Did you mean 'ewald'"),
        ({"unit": "nm"}, "'nm' is not a known unit of a Coulomb matrix"),
        ({"layout": "half"}, "not a known layout"),
        ({"elements": ("H", "Hx")}, "'Hx' is not a chemical element"),
        ({"elements": ()}, "needs elements"),
        ({"n_atoms_max": 0}, "number of atoms of the largest structure, not 0"),
        ({"n_atoms_max": 2.5}, "not 2.5"),
        ({"form": "random"}, "positive standard deviation as noise, not None"),
        ({"form": "random", "noise": 0.0}, "not 0.0"),
        ({"form": "random", "noise": math.nan}, "not nan"),
        ({"noise": 1.0}, "noise is of the random form, this one is sorted"),
        ({"form": "eigenspectrum", "layout": "triangle"}, "has no triangle"),
        ({"properties": ["mass"]}, "'mass' is not a property with a name"),
        ({"properties": [{"H": 1.0}]}, "no value for C"),
        ({"properties": [dict.fromkeys(ELEMENTS, -1.0)]}, "property of H is -1.0"),
        ({"properties": [dict.fromkeys(ELEMENTS, True)]}, "property of H is True"),
        ({"properties": ()}, "needs a property"),
        ({"accuracy": 0.0}, "between 0 and 1"),
    ],
    ids=str,
)
def test_impossible_matrices_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        coulomb(**settings)


def test_structures_that_a_matrix_is_not_for_are_refused() -> None:
    with pytest.raises(InputError, match="structure 1 has 11 atoms; n_atoms_max is 10"):
        of(coulomb(), [molecule(3, 0), molecule(11, 0, 7.0)])
    with pytest.raises(InputError, match="also has Si"):
        of(coulomb(), Atoms("SiH"))
    with pytest.raises(InputError, match=r'structure 1 is periodic.*Try "sine" or "ewald"'):
        of(coulomb(), [molecule(3, 0), crystal(3, 0)])
    slab = crystal(3, 0)
    slab.pbc = [True, True, False]
    for interaction in CRYSTALS:
        with pytest.raises(InputError, match=r'not periodic in all directions.*Try "coulomb"'):
            of(coulomb(interaction=interaction), slab)
    with pytest.raises(InputError, match="two atoms of structure 0 are at the same place"):
        of(coulomb(), Atoms("H2", positions=[[1, 1, 1]] * 2))
    with pytest.raises(InputError, match="whole structures"):
        coulomb().features(build_graph(molecule(3, 0), 0.0), slice(0, 2))
    with pytest.raises(InputError, match="only the random form has draws"):
        coulomb().draws(build_graph(molecule(3, 0), 0.0), 2, torch.Generator())
