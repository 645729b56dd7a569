"""Moment tensor descriptors: the basis, its tables, and derivatives written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from mlmd.descriptors.contraction import Contraction
from mlmd.descriptors.moment_basis import MomentBasis, moment_basis, scalar_graphs
from mlmd.descriptors.moment_sums import MomentSums, monomial_values, monomials
from mlmd.descriptors.moments import Moments
from mlmd.errors import InputError
from mlmd.fitting.linear import Linear
from mlmd.neighbors import build_graph
from mlmd.potentials import learned
from mlmd.potentials.learned import LearnedPotential

# numbers of basis functions in the files that MLIP ships
MLIP_COUNTS = {2: 1, 4: 2, 6: 5, 8: 9, 10: 16, 12: 29, 14: 52, 16: 92, 18: 163, 20: 288, 22: 500, 24: 864}


@pytest.mark.parametrize(("level", "count"), MLIP_COUNTS.items())
def test_a_level_has_as_many_basis_functions_as_in_mlip(level: int, count: int) -> None:
    assert len(scalar_graphs(level)) == count


@pytest.mark.parametrize("level", [2, 4, 8, 12, 16, 20])
def test_the_tables_of_a_level_are_sound(level: int) -> None:
    basis = moment_basis(level)
    basis.check()
    assert basis.level == level
    assert len(set(basis.basic)) == len(basis.basic)
    assert all(first <= second < target for first, second, _, target in basis.products)


@pytest.mark.parametrize("level", [0, 3, 30, -2])
def test_an_impossible_level_is_refused(level: int) -> None:
    with pytest.raises(InputError, match="level"):
        moment_basis(level)


def dense_features(basis: MomentBasis, unit: np.ndarray, radial: np.ndarray) -> dict[tuple, float]:
    """Every basis function of one atom from full tensors and one einsum, without any table.

    Args:
        basis: only its level is used.
        unit: (n_neighbours, 3).
        radial: (n_radial_functions, n_neighbours).
    """
    features = {}
    for tensors, edges in scalar_graphs(basis.level):
        operands = []
        for mu, rank in tensors:
            tensor = radial[mu]
            for _ in range(rank):
                tensor = tensor[..., None] * unit.reshape(len(unit), *(1,) * (tensor.ndim - 1), 3)
            operands.append(tensor.sum(axis=0))
        indices: list[list[int]] = [[] for _ in tensors]
        pairs = [(i, j) for i in range(len(tensors)) for j in range(i + 1, len(tensors))]
        new = 0
        for (i, j), n in zip(pairs, edges, strict=True):
            for _ in range(n):
                indices[i].append(new)
                indices[j].append(new)
                new += 1
        arguments = [part for pair in zip(operands, indices, strict=True) for part in pair]
        features[tensors, edges] = float(np.einsum(*arguments, [], optimize=True))
    return features


@pytest.mark.parametrize("level", [6, 10, 14])
def test_features_are_the_contractions_of_full_tensors(level: int) -> None:
    generator, basis = np.random.default_rng(level), moment_basis(level)
    unit = generator.normal(size=(5, 3))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    radial = generator.uniform(0.5, 1.0, (basis.n_radial_functions, 5))
    expected = list(dense_features(basis, unit, radial).values())
    basic = MomentSums(basis)(torch.from_numpy(unit.T[:, None].copy()), torch.from_numpy(radial[None]))
    got = Contraction(basis)(basic)[:, 0].numpy()
    assert np.allclose(got, expected, rtol=1e-10)


def test_contractions_take_a_few_layers_not_thousands_of_operations() -> None:
    assert len(Contraction(moment_basis(20)).layers()) == 3


def test_monomials_are_products_of_powers() -> None:
    unit = torch.rand(3, 2, 4, dtype=torch.float64)
    values = monomial_values(unit, 5)
    for value, (a, b, c) in zip(values, monomials(5), strict=True):
        assert torch.allclose(value, unit[0] ** a * unit[1] ** b * unit[2] ** c)


def test_derivatives_of_sums_and_contractions_are_right_to_second_order() -> None:
    basis = moment_basis(10)
    sums, contraction = MomentSums(basis), Contraction(basis)
    unit = torch.rand(3, 2, 3, dtype=torch.float64, requires_grad=True)
    radial = torch.rand(2, basis.n_radial_functions, 3, dtype=torch.float64, requires_grad=True)
    basic = torch.rand(len(basis.basic), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sums, (unit, radial))
    assert torch.autograd.gradcheck(contraction, (basic,))
    assert torch.autograd.gradgradcheck(lambda u, f: contraction(sums(u, f)), (unit, radial))


def make(level: int = 10, elements: tuple[str, ...] = ("Si", "O")) -> LearnedPotential:
    moments = Moments(elements=elements, cutoff="4.5 Å", min_distance=1.5, level=level, scaling=0.1)
    linear = Linear(n_features=moments.n_features, n_kinds=len(elements))
    generator = torch.Generator().manual_seed(1)
    for tensor in (moments.radial.coefficients.data, linear.coefficients.data, linear.constants.data):
        tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5)
    return LearnedPotential(moments, linear)


def test_forces_can_be_differentiated_by_the_radial_coefficients() -> None:
    potential = make(8, ("Si",))
    atoms = bulk("Si")
    atoms.rattle(0.1, seed=2)
    graph = build_graph(atoms, potential.cutoff)
    radial = potential.descriptor.radial.coefficients.requires_grad_(True)

    def gradient() -> torch.Tensor:
        vectors = graph.vectors.clone().requires_grad_(True)
        energy = potential.atomic_energies(graph.with_vectors(vectors)).sum()
        return torch.autograd.grad(energy, vectors, create_graph=True)[0]

    loss = (gradient() ** 2).sum()
    (slope,) = torch.autograd.grad(loss, radial)
    for index in ((0, 0, 0, 0), (0, 0, 1, 3)):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                radial[index] += step
            values.append(float((gradient().detach() ** 2).sum()))
            with torch.no_grad():
                radial[index] -= step
        assert float(slope[index]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_the_number_of_atoms_worked_through_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    potential, atoms = make(), bulk("Si", cubic=True) * (2, 1, 1)
    atoms.symbols[3:9] = "O"
    atoms.rattle(0.2, seed=3)
    graph = build_graph([atoms, atoms[:5]], potential.cutoff)
    whole = potential.predict(graph)
    monkeypatch.setattr(learned, "ATOMS_AT_ONCE", 3)
    pieces = potential.predict(graph)
    for name in ("energy", "forces", "virial", "energies"):
        assert torch.allclose(getattr(pieces, name), getattr(whole, name), rtol=0, atol=1e-12)


def test_the_number_of_threads_changes_no_bit() -> None:
    potential, atoms = make(8), bulk("Si", cubic=True) * (3, 3, 2)
    atoms.symbols[::3] = "O"
    atoms.rattle(0.1, seed=4)
    graph, n_threads = build_graph(atoms, potential.cutoff), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(potential.predict(graph))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(n_threads)
    for one in results[1:]:
        assert torch.equal(one.energies, results[0].energies)
        assert torch.equal(one.forces, results[0].forces)


def test_the_order_of_centre_and_neighbour_elements_matters() -> None:
    potential = make()
    pair = build_graph([bulk("Si"), bulk("Si")], potential.cutoff)
    mixed = pair.numbers.clone()
    mixed[1] = 8
    graph = type(pair)(**{**vars(pair), "numbers": mixed})
    energies = potential.atomic_energies(graph) - potential.regressor.constants[[0, 1, 0, 0]]
    assert not torch.isclose(energies[0], energies[1])


def test_a_descriptor_with_wrong_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="min_distance"):
        Moments(elements=["Si"], cutoff=3.0, min_distance=4.0, level=8)
    with pytest.raises(InputError, match="level"):
        Moments(elements=["Si"], cutoff=3.0, min_distance=1.0)
    with pytest.raises(InputError, match="Sx"):
        Moments(elements=["Sx"], cutoff=3.0, min_distance=1.0, level=8)


def test_descriptor_and_regressor_must_fit() -> None:
    moments = Moments(elements=["Si"], cutoff=3.0, min_distance=1.0, level=8)
    with pytest.raises(InputError, match=r"9 features, Linear takes 7"):
        LearnedPotential(moments, Linear(n_features=7))
    moments.kind = "structure"
    with pytest.raises(InputError, match="takes features of atom"):
        LearnedPotential(moments, Linear(n_features=9))
