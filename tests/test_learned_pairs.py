"""Any descriptor of atoms meets any regression: the rows of its fit, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from ase import Atoms
from kernel_systems import needs_kernels, system
from learned_pairs import DESCRIPTORS, ELEMENTS, PAIRS, random_pair, random_process

from mlmd.descriptors.linearised import linearised, values
from mlmd.errors import InputError
from mlmd.fitting.network import Network
from mlmd.graph import VOIGT, Graph
from mlmd.neighbors import batch, build_graph
from mlmd.potentials.by_features import FeatureEvaluator, has_kernel_features
from mlmd.potentials.evaluate import evaluator, predictor
from mlmd.potentials.fused import FusedEvaluator
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.threads import in_threads

COMPILED = [name for name in DESCRIPTORS if "chemical" not in name]
TERMS = [*PAIRS, ("moments-and-symmetry", "terms")]


def graph_of(cutoff: float, *names: str) -> Graph:
    return batch([build_graph(system(name, ELEMENTS, 2.4, seed=n), cutoff) for n, name in enumerate(names)])


@pytest.mark.parametrize(("descriptor", "regressor"), TERMS)
def test_rows_times_coefficients_are_what_is_predicted(descriptor: str, regressor: str, route: str) -> None:
    potential = random_pair(descriptor, regressor)
    graph = graph_of(potential.cutoff, "skewed", "tiny", "slab")
    expected = potential.predict(graph)
    if (descriptor, regressor) in PAIRS:
        assert (potential.design_cutoff > 0) == (route == "autograd" or descriptor not in COMPILED)
    design = potential.design(graph)
    parameters = torch.cat([potential.expansion.coefficients, potential.expansion.constants])
    size = float(expected.forces.abs().max()) + 1.0
    torch.testing.assert_close(design.energy @ parameters, expected.energy, rtol=0, atol=1e-9 * size)
    torch.testing.assert_close(design.forces @ parameters, expected.forces, rtol=0, atol=1e-9 * size)
    virial = design.virial @ parameters
    of_graph = expected.virial[:, VOIGT[0], VOIGT[1]]
    torch.testing.assert_close(virial, of_graph, rtol=0, atol=1e-8 * size)


def _with_network(descriptor: str) -> LearnedPotential:
    described = DESCRIPTORS[descriptor]()
    network = Network(n_features=described.n_features, n_neurons=5, n_kinds=2)
    network.randomise(torch.Generator().manual_seed(7))
    return LearnedPotential(described, network)


ALL: dict[tuple[str, str], Callable[[], LearnedPotential]] = {pair: partial(random_pair, *pair) for pair in TERMS}
for name in DESCRIPTORS:
    ALL[name, "network"] = partial(_with_network, name)
    ALL[name, "process"] = lambda name=name: random_process(DESCRIPTORS[name](), width=8.0)
    if name.startswith("soap"):
        ALL[name, "process-polynomial"] = lambda name=name: random_process(
            DESCRIPTORS[name](), kernel="polynomial", power=3
        )


@cache
def _last_step(descriptor: str, symbols: str) -> tuple[float, float]:
    """Å, two distances of a dimer of nearly the same number: beyond them its rows are those of single atoms."""
    described = random_pair(descriptor, "terms").descriptor if "moments-" in descriptor else DESCRIPTORS[descriptor]()
    dimer = Atoms(symbols, [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    rows = torch.cat([values(described, build_graph(Atoms(one), described.cutoff)) for one in dimer.symbols])
    near, far = 2.0, described.cutoff + 0.1
    while far - near > 1e-14 * far:
        dimer.positions[1, 0] = middle = (near + far) / 2
        if torch.equal(values(described, build_graph(dimer, described.cutoff)), rows):
            far = middle
        else:
            near = middle
    return near, far


@pytest.mark.parametrize("pair", ALL, ids="-".join)
def test_the_energy_does_not_jump_where_an_atom_loses_its_last_neighbour(pair: tuple[str, str]) -> None:
    potential = ALL[pair]()

    def energy(atoms: Atoms) -> float:
        return float(potential.predict(build_graph(atoms, potential.cutoff)).energy)

    for symbols in ("SiO", "Si2"):
        near, far = _last_step(pair[0], symbols)
        assert far > 2.5
        for distance in (near, far):
            dimer = Atoms(symbols, [[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
            assert energy(dimer) == pytest.approx(sum(energy(Atoms(one)) for one in dimer.symbols), abs=1e-9)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_pull_is_the_transpose_of_push_and_push_the_difference_quotient(descriptor: str, route: str) -> None:
    described = DESCRIPTORS[descriptor]()
    generator = np.random.default_rng(1)
    atoms = system("cluster", ELEMENTS, 2.4)
    moved = torch.from_numpy(generator.standard_normal((len(atoms), 3)))
    strain = torch.from_numpy(generator.standard_normal((3, 3)))

    def features(step: float) -> torch.Tensor:
        other = atoms.copy()
        deformation = np.eye(3) + step * strain.numpy()
        other.positions = (atoms.positions @ deformation) + step * moved.numpy()
        return values(described, build_graph(other, described.cutoff))

    work = linearised(described, build_graph(atoms, described.cutoff))
    change = work.push(moved, strain)
    quotient = (features(1e-5) - features(-1e-5)) / 2e-5
    torch.testing.assert_close(change, quotient, rtol=0, atol=1e-6 * float(change.abs().max()))
    weights = torch.from_numpy(generator.standard_normal(work.values.shape))
    gradient, virial = work.pull(weights)
    # ⟨w, J (v, ε)⟩ = ⟨Jᵀ w, (v, ε)⟩
    one, other = float((weights * change).sum()), float((gradient * moved).sum() + (virial * strain).sum())
    assert one == pytest.approx(other, rel=1e-10)


@pytest.mark.parametrize("descriptor", ["moments", "symmetry", "bispectrum-and-symmetry"])
def test_one_structure_may_be_at_work_in_several_threads(descriptor: str, route: str) -> None:
    described = DESCRIPTORS[descriptor]()
    generator = np.random.default_rng(1)
    atoms = system("liquid", ELEMENTS, 2.4)
    work = linearised(described, build_graph(atoms, described.cutoff))
    weights = [torch.from_numpy(generator.standard_normal(work.values.shape)) for _ in range(60)]
    moved = [torch.from_numpy(generator.standard_normal((len(atoms), 3))) for _ in weights]
    unstrained = torch.zeros((3, 3), dtype=torch.float64)

    def products(n: int) -> tuple[torch.Tensor, ...]:
        return *work.pull(weights[n]), work.push(moved[n], unstrained)

    expected = [products(n) for n in range(len(weights))]
    for found, one in zip(in_threads(products, range(len(weights)), 3), expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(found, one, strict=True))


@needs_kernels
@pytest.mark.parametrize(("descriptor", "regressor"), [pair for pair in PAIRS if pair[0] in COMPILED])
def test_kernels_give_what_the_graph_gives(descriptor: str, regressor: str) -> None:
    potential = random_pair(descriptor, regressor)
    for name in ("liquid", "slab", "tiny"):
        atoms = system(name, ELEMENTS, 2.4)
        expected = potential.predict(build_graph(atoms, potential.cutoff))
        size = float(expected.forces.abs().max()) + 1.0
        ready = evaluator(potential, atoms.numbers, atoms.pbc)
        assert isinstance(ready, FeatureEvaluator | FusedEvaluator)
        for found in (ready.evaluate(atoms.positions, atoms.cell.array), predictor(potential)(atoms)):
            assert found.energy == pytest.approx(float(expected.energy[0]), abs=1e-9 * size)
            np.testing.assert_allclose(found.forces, expected.forces.numpy(), rtol=0, atol=1e-9 * size)
            np.testing.assert_allclose(found.virial, expected.virial[0].numpy(), rtol=0, atol=1e-8 * size)


@needs_kernels
@pytest.mark.parametrize("descriptor", ["symmetry", "bispectrum-and-symmetry"])
def test_an_evaluator_continues_with_the_list_that_it_had(descriptor: str) -> None:
    # sums are in the order of the list, so a run continues to the last bit only with the same one
    potential = random_pair(descriptor, "gap-gaussian")
    assert has_kernel_features(potential)
    atoms = system("liquid", ELEMENTS, 2.4)
    one, other = (FeatureEvaluator(potential, atoms.numbers, atoms.pbc, 0.8) for _ in range(2))
    one.evaluate(atoms.positions, atoms.cell.array)
    atoms.positions += 0.05
    before = one.evaluate(atoms.positions, atoms.cell.array)
    other.restore(one.state())
    after = other.evaluate(atoms.positions, atoms.cell.array)
    assert (before.forces == after.forces).all()
    assert before.energy == after.energy


def test_a_network_is_refused_where_parameters_must_be_linear() -> None:
    descriptor = DESCRIPTORS["symmetry"]()
    network = Network(n_features=descriptor.n_features, n_neurons=3, n_kinds=2)
    potential = LearnedPotential(descriptor, network)
    with pytest.raises(InputError, match="Network is not linear in its parameters"):
        potential.design(graph_of(potential.cutoff, "tiny"))
