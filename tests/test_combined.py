"""Several descriptors side by side, and a regression of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_systems import needs_kernels, system
from learned_pairs import DESCRIPTORS, ELEMENTS, random_pair

from mlmd.descriptors.combined import Combined, within
from mlmd.descriptors.compiled import kernels_of, pair_cutoff
from mlmd.descriptors.coulomb import Coulomb
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_sets import evenly_spaced
from mlmd.errors import InputError
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.sum import Sum
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import LearnedPotential


def short() -> Symmetry:
    return Symmetry(elements=ELEMENTS, functions=evenly_spaced(ELEMENTS, "3 Å", n_radial=3, n_angular=0))


def test_features_are_those_of_the_parts_each_with_its_own_cutoff() -> None:
    long = DESCRIPTORS["soap"]()
    combined = Combined([long, short()])
    assert combined.cutoff == long.cutoff > short().cutoff
    atoms = system("skewed", ELEMENTS, 2.4)
    found = combined.features(build_graph(atoms, combined.cutoff))
    expected = [part.features(build_graph(atoms, part.cutoff)) for part in (long, short())]
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=1e-12)
    assert [found[:, own].shape[1] for own in combined.columns] == [long.n_features, short().n_features]


def test_pairs_beyond_a_cutoff_are_left_out_in_their_order() -> None:
    graph = build_graph(system("liquid", ELEMENTS, 2.4), 5.0)
    near = within(graph, 3.0)
    kept = graph.distances < 3.0
    assert 0 < int(kept.sum()) < len(kept)
    assert torch.equal(near.pairs, graph.pairs[:, kept])
    assert torch.equal(near.vectors, graph.vectors[kept])
    assert within(near, 4.0) is near


def test_a_combination_is_built_again_with_the_numbers_of_its_parts() -> None:
    combined = Combined([DESCRIPTORS["moments"](), short()])
    state = combined.state_dict()
    again = Combined.restore(combined.spec(), state)
    again.load_state_dict(state)
    graph = build_graph(system("cluster", ELEMENTS, 2.4), combined.cutoff)
    assert torch.equal(again.features(graph), combined.features(graph))
    assert again.spec() == combined.spec()


@needs_kernels
def test_a_combination_needs_pairs_where_one_part_has_no_kernel() -> None:
    assert len(kernels_of(Combined([short(), DESCRIPTORS["bispectrum"]()])) or ()) == 2
    assert pair_cutoff(Combined([short(), DESCRIPTORS["bispectrum"]()])) == 0.0
    assert kernels_of(Combined([short(), DESCRIPTORS["chemical"]()])) is None
    assert pair_cutoff(Combined([short(), DESCRIPTORS["chemical"]()])) == 4.5


def test_descriptors_that_do_not_go_together_are_refused() -> None:
    other = Symmetry(elements=("O", "Si"), functions=evenly_spaced(("O", "Si"), "3 Å", n_radial=3, n_angular=0))
    with pytest.raises(InputError, match="of Si, O and of O, Si do not combine"):
        Combined([short(), other])
    with pytest.raises(InputError, match="only descriptors of atoms combine"):
        Combined([short(), Coulomb(elements=ELEMENTS, n_atoms_max=4)])
    with pytest.raises(InputError, match="no descriptors"):
        Combined([])


def gaussians(rows: torch.Tensor) -> tuple[SparseGaussian, SparseGaussian]:
    """Kernels of the first two columns and of the third, with points at all rows."""
    kinds = torch.zeros(len(rows), dtype=torch.int64)
    one = SparseGaussian(rows[:, :2], kinds, kernel="gaussian", width=1.5, amplitude=0.7)
    return one, SparseGaussian(rows[:, 2:], kinds, kernel="gaussian", width=0.8, amplitude=1.3)


def test_a_sum_of_sparse_processes_is_the_process_of_the_sum_of_their_kernels() -> None:
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((25, 3)))
    kinds, targets = torch.zeros(25, dtype=torch.int64), torch.sin(rows[:, 0]) + rows[:, 2] ** 2
    terms = gaussians(rows)
    total, noise = Sum(terms), 0.1
    design = torch.cat([total.basis(rows, kinds) / noise, total.prior()])
    solved = torch.linalg.lstsq(design, torch.cat([targets / noise, torch.zeros(len(total.prior()))]), driver="gelsd")
    with torch.no_grad():
        total.coefficients.copy_(solved.solution)
        total.constants.fill_(2.0)
    unseen = torch.from_numpy(np.random.default_rng(2).standard_normal((7, 3)))

    def kernel(x: torch.Tensor) -> torch.Tensor:
        first = 0.7**2 * torch.exp(-0.5 * torch.cdist(x[:, :2], rows[:, :2]) ** 2 / 1.5**2)
        return first + 1.3**2 * torch.exp(-0.5 * torch.cdist(x[:, 2:], rows[:, 2:]) ** 2 / 0.8**2)

    expected = kernel(unseen) @ torch.linalg.solve(kernel(rows) + noise**2 * torch.eye(25), targets)
    # the jitter of the prior, 1e-10 of the kernels, is amplified by their condition
    torch.testing.assert_close(total.energies(unseen, kinds[:7]) - 2.0, expected, rtol=0, atol=1e-5)


def test_regressions_that_do_not_add_up_are_refused() -> None:
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 3)))
    with pytest.raises(InputError, match="with a prior and others without"):
        Sum([*gaussians(rows), Polynomial(n_features=2)])
    with pytest.raises(InputError, match="different numbers of kinds"):
        Sum([Polynomial(n_features=2), Polynomial(n_features=2, n_kinds=2)])
    with pytest.raises(InputError, match="no regressions"):
        Sum([])


def test_radial_functions_of_a_part_have_the_derivatives_of_what_is_predicted() -> None:
    # by central differences of energies, forces and virials by some of the radial coefficients
    potential = random_pair("moments-and-symmetry", "terms")
    radial = potential.radial
    assert radial is not None
    graph = build_graph(system("cluster", ELEMENTS, 2.4), potential.cutoff)
    design = potential.design(graph, nonlinear=True)
    n = potential.expansion.n_basis + 2
    assert design.energy.shape[1] == n + radial.numel()
    places = [0, 7, radial.numel() - 1]
    for place in places:
        found = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                radial.view(-1)[place] += step
                found.append(potential.predict(graph))
                radial.view(-1)[place] -= step
        energy = (found[0].energy - found[1].energy) / 2e-5
        forces = (found[0].forces - found[1].forces) / 2e-5
        size = 1.0 + float(forces.abs().max())
        torch.testing.assert_close(design.energy[:, n + place], energy, rtol=0, atol=1e-7 * size)
        torch.testing.assert_close(design.forces[:, :, n + place], forces, rtol=0, atol=1e-7 * size)


def test_without_one_part_of_moments_no_radial_functions_are_optimised() -> None:
    potential = LearnedPotential(Combined([short(), short()]), Polynomial(n_features=2 * short().n_features, n_kinds=2))
    assert potential.radial is None
    with pytest.raises(InputError, match="Combined has no parameters that are optimised"):
        potential.design(build_graph(system("cluster", ELEMENTS, 2.4), potential.cutoff), nonlinear=True)
