"""What every descriptor must obey: what may be done to a structure without a change, and its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from descriptor_cases import (
    ATOMS,
    FINGERPRINTS,
    MATRICES,
    STRUCTURES,
    Case,
    Move,
    assert_same_features,
    kinds_of,
    moved_structures,
)
from hypothesis import assume, given, settings
from kernel_systems import needs_kernels, system

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.compiled import compiled_features, kernels_of
from mlmd.descriptors.coulomb import Coulomb
from mlmd.descriptors.linearised import linearised, values
from mlmd.graph import Graph
from mlmd.neighbors import build_graph

hundred = settings(max_examples=100, deadline=None, derandomize=True)
COMPILED = [
    case for case in ATOMS if case.name not in {"deeppot-se", "deeppot-se-of-pairs"} and "dens" not in case.name
]
WITHOUT_ORDER = [case for case in STRUCTURES if not case.name.endswith("-plain")]


def features(descriptor: Descriptor, *structures: Atoms) -> torch.Tensor:
    with torch.no_grad():
        return descriptor.features(build_graph(list(structures), descriptor.cutoff))


def by_kernels(descriptor: Descriptor, atoms: Atoms) -> torch.Tensor:
    compiled = compiled_features(descriptor, atoms.numbers, atoms.pbc)
    return torch.from_numpy(compiled.values(atoms.positions, atoms.cell.array))


def test_every_descriptor_is_tried() -> None:
    assert kinds_of([*ATOMS, FINGERPRINTS, *STRUCTURES]) == {*DESCRIPTORS}


@needs_kernels
def test_what_is_called_compiled_here_has_kernels() -> None:
    assert [case for case in ATOMS if kernels_of(case.make()) is not None] == COMPILED


@pytest.mark.parametrize("case", ATOMS, ids=lambda case: case.name)
def test_features_do_not_change_by_rotations_mirrors_shifts_and_wrapping_and_go_with_their_atoms(case: Case) -> None:
    descriptor = case.make()

    @hundred
    @given(moved_structures())
    def check(given: tuple[Atoms, Move]) -> None:
        atoms, move = given
        before, after = features(descriptor, atoms, move(atoms)).split(len(atoms))
        assert_same_features(after, before[move.order], case.like)

    check()


@needs_kernels
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: case.name)
def test_the_same_of_features_by_compiled_kernels(case: Case) -> None:
    descriptor = case.make()

    @hundred
    @given(moved_structures())
    def check(given: tuple[Atoms, Move]) -> None:
        atoms, move = given
        before, after = by_kernels(descriptor, atoms), by_kernels(descriptor, move(atoms))
        assert_same_features(after, before[move.order], case.like)

    check()


@hundred
@given(moved_structures())
def test_fingerprints_turn_as_vectors_do(given: tuple[Atoms, Move]) -> None:
    atoms, move = given
    descriptor = FINGERPRINTS.make()
    both = features(descriptor, atoms, move(atoms)).view(2, len(atoms), 3, -1)
    turned = torch.einsum("iaf,ba->ibf", both[0][move.order], torch.from_numpy(move.matrix))
    # the directions of neighbours cancel, where they are those of a lattice to nothing
    assert float((both[1] - turned).abs().max()) <= 1e-8


@pytest.mark.parametrize("case", WITHOUT_ORDER, ids=lambda case: case.name)
def test_features_of_structures_do_not_change_by_rotations_mirrors_shifts_wrapping_and_the_order(case: Case) -> None:
    descriptor = case.make()

    @hundred
    @given(moved_structures(case.of))
    def check(given: tuple[Atoms, Move]) -> None:
        atoms, move = given
        if isinstance(descriptor, Coulomb):
            assume(_has_one_order(descriptor, atoms))
        before, after = features(descriptor, atoms, move(atoms))
        largest = float(before.abs().max())
        assert float((after - before).abs().max()) <= case.like * max(largest, 1e-12)

    check()


def _has_one_order(descriptor: Coulomb, atoms: Atoms) -> bool:
    """Rows of equal norm stay in the order of the atoms, and so may eigenvalues ± the same, as documented."""
    matrices, _ = descriptor._matrices(build_graph(atoms, 0.0))
    matrix = matrices[0, 0, : len(atoms), : len(atoms)].numpy()
    if descriptor.form == "eigenspectrum":
        eigenvalues = np.linalg.eigvalsh(matrix)
        opposite = np.abs(eigenvalues[:, None] + eigenvalues[None])
        return bool((opposite > 1e-6).all())
    norms = np.sort(np.linalg.norm(matrix, axis=1))
    return bool((np.diff(norms) > 1e-6).all())


@pytest.mark.parametrize("case", [case for case in MATRICES if case not in WITHOUT_ORDER], ids=lambda case: case.name)
def test_rows_and_columns_of_plain_matrices_go_with_their_atoms(case: Case) -> None:
    descriptor = case.make()

    @hundred
    @given(moved_structures(case.of))
    def check(given: tuple[Atoms, Move]) -> None:
        atoms, move = given
        before, after = features(descriptor, atoms, move(atoms)).view(2, 6, 6)
        order = [*move.order, *range(len(atoms), 6)]
        assert float((after - before[order][:, order]).abs().max()) <= case.like * float(before.abs().max())

    check()


@pytest.mark.parametrize("case", [*ATOMS, FINGERPRINTS], ids=lambda case: case.name)
def test_features_of_some_atoms_are_rows_of_those_of_all(case: Case) -> None:
    descriptor = case.make()
    graph = build_graph(system("skewed", descriptor.elements, 2.4), descriptor.cutoff)
    rows = 3 if descriptor.kind == "direction" else 1
    whole = descriptor.features(graph)
    assert_same_features(descriptor.features(graph, slice(2, 7)), whole[2 * rows : 7 * rows], 1e-13)


LINEARISED = [case for case in ATOMS if case.name not in {"moments", "radial-angular", "symmetry", "soap-gto", "snap"}]
"""Others are in test_learned_pairs.py."""


@pytest.mark.parametrize(
    ("case", "route"),
    [
        (case, route)
        for case in LINEARISED
        for route in ("kernels", "autograd")
        if route == "autograd" or case in COMPILED
    ],
    ids=lambda one: getattr(one, "name", one),
    indirect=["route"],
)
@pytest.mark.parametrize("surroundings", ["skewed", "cluster"])
def test_the_jacobian_is_the_difference_quotient_and_its_transpose_its_transpose(
    case: Case, surroundings: str, route: str
) -> None:
    descriptor, generator = case.make(), np.random.default_rng(1)
    # 2.3 Å: no vector of the lattice is as long as a cutoff, where second derivatives jump
    atoms = system(surroundings, descriptor.elements, 2.3)
    moved, strain = generator.standard_normal((len(atoms), 3)), generator.standard_normal((3, 3))

    def graph(step: float) -> Graph:
        other, stretch = atoms.copy(), np.eye(3) + step * strain
        other.set_cell(atoms.cell.array @ stretch)
        other.positions = (atoms.positions + step * moved) @ stretch
        return build_graph(other, descriptor.cutoff)

    for keep in (True, False):
        work = linearised(descriptor, graph(0.0), keep=keep)
        change = work.push(torch.from_numpy(moved), torch.from_numpy(strain))
        quotient = (values(descriptor, graph(1e-5)) - values(descriptor, graph(-1e-5))) / 2e-5
        # the step squared times third derivatives, and rounding over the step
        assert_same_features(change, quotient, 3e-6)
        weights = torch.from_numpy(generator.standard_normal(work.values.shape))
        gradient, virial = work.pull(weights)
        terms = weights * change
        backwards = float((gradient * torch.from_numpy(moved)).sum() + (virial * torch.from_numpy(strain)).sum())
        assert backwards == pytest.approx(float(terms.sum()), abs=1e-10 * float(terms.abs().sum()))
