"""Potentials as ASE calculators: the numbers of the graph by kernels and without, and what they depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from kernel_systems import needs_kernels
from made_potentials import random_mtp

from mlmd.ase import Calculator
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential
from mlmd.potentials.combine import Sum
from mlmd.potentials.coulomb import Coulomb
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.pair import ZBL, LennardJones

MAKES = {
    "kernel": lambda: random_mtp(("Cu", "Zr"), level=8),
    "graph": lambda: ZBL(cutoff="5 Å"),
    "kernels": lambda: Sum([random_mtp(("Cu", "Zr"), level=8), LennardJones(epsilon=0.1, sigma=2.3, cutoff=6.0)]),
    "both": lambda: Sum([random_mtp(("Cu", "Zr"), level=8), ZBL(cutoff="5 Å")]),
}


@pytest.fixture(params=list(MAKES))
def potential(request: pytest.FixtureRequest) -> Potential:
    """One with a kernel, one without, and sums of such."""
    return MAKES[request.param]()


def crystal(seed: int = 1) -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.symbols[::3] = "Zr"
    atoms.set_cell(atoms.cell.array @ [[1.01, 0.03, 0], [0, 0.98, 0.02], [0, 0, 1.0]], scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def test_ase_gets_what_the_graph_gives(potential: Potential) -> None:
    atoms = crystal()
    graph = potential.predict(build_graph(atoms, potential.cutoff))
    atoms.calc = Calculator(potential)
    size = float(graph.forces.abs().max())  # a kernel adds up in another order
    assert atoms.get_potential_energy() == pytest.approx(float(graph.energy), rel=1e-10)
    assert atoms.get_potential_energies() == pytest.approx(graph.energies.numpy(), rel=1e-10, abs=1e-10)
    assert atoms.get_forces() == pytest.approx(graph.forces.numpy(), abs=1e-10 * size)
    assert atoms.get_stress(voigt=False) == pytest.approx(graph.stress[0].numpy(), rel=1e-9, abs=1e-12)


@needs_kernels
@pytest.mark.parametrize("name", ["kernel", "kernels"])
def test_stresses_of_atoms_add_up_to_the_stress(name: str) -> None:
    atoms = crystal()
    atoms.calc = Calculator(MAKES[name]())
    stresses = atoms.get_stresses()
    assert stresses.shape == (len(atoms), 6)
    assert stresses.sum(axis=0) == pytest.approx(atoms.get_stress(), rel=1e-10)
    assert np.ptp(stresses, axis=0).min() > 1e-3  # and are not all the same


def test_a_potential_that_does_not_know_stresses_of_atoms_says_so() -> None:
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    atoms.calc = Calculator(Coulomb(charges={"Na": 1, "Cl": -1}))  # a sum over all images is of no atom's neighbours
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stresses()


@pytest.mark.parametrize("skin", [-1, float("nan"), float("inf"), "0.8 Å"])
def test_an_impossible_skin_is_refused(potential: Potential, skin: float) -> None:
    with pytest.raises(InputError, match=r"a skin of .* is not possible: give a length in Å of zero or more"):
        Calculator(potential, skin=skin)
    with pytest.raises(InputError, match="a skin of"):
        evaluator(potential, crystal().numbers, np.array([True] * 3), skin=skin)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:99", "torch sees .* CUDA device"),
        (torch.device("cuda", 99), "torch sees .* CUDA device"),
        ("abacus", "not a device. Write cpu, cuda"),
        ("mps", "only cpu and cuda"),
    ],
)
def test_a_device_that_is_not_there_is_refused(potential: Potential, device: str, said: str) -> None:
    with pytest.raises(InputError, match=f"device .*{said}"):
        Calculator(potential, device=device)


def test_atoms_in_one_place_are_refused_with_their_numbers(potential: Potential) -> None:
    atoms = crystal()
    atoms.positions[5] = atoms.positions[3]
    atoms.calc = Calculator(potential)
    for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_forces):  # also when asked again
        with pytest.raises(InputError, match=r"atoms 3 \(Zr\) and 5 \(Cu\) are 0 Å apart: .* Move or remove"):
            ask()
    atoms.positions[5] += 1.2
    assert np.isfinite(atoms.get_forces()).all()


def test_open_systems_have_no_stress_and_no_stresses_of_atoms(potential: Potential) -> None:
    atoms = crystal()
    atoms.pbc = [True, True, False]
    atoms.calc = Calculator(potential)
    for ask in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError, match="full periodicity"):
            ask()
    assert np.isfinite(atoms.get_forces()).all()


def walked(calculator: Calculator) -> Atoms:
    """Atoms at the end of a way on which pairs are searched and kept."""
    atoms = crystal()
    atoms.calc = calculator
    generator = np.random.default_rng(3)
    for _ in range(12):
        atoms.positions += generator.normal(0, 0.05, atoms.positions.shape)
        atoms.get_forces()
    return atoms


def test_results_do_not_depend_on_the_way_but_for_rounding(potential: Potential) -> None:
    atoms = walked(Calculator(potential))
    fresh = atoms.copy()
    fresh.calc = Calculator(potential)
    size = np.abs(fresh.get_forces()).max()
    assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), rel=1e-12)
    assert atoms.get_forces() == pytest.approx(fresh.get_forces(), abs=1e-12 * size)


def test_without_a_skin_results_do_not_depend_on_the_way_to_the_last_bit(potential: Potential) -> None:
    atoms = walked(Calculator(potential, skin=0.0))
    fresh = atoms.copy()
    fresh.calc = Calculator(potential, skin=0.0)
    assert atoms.get_potential_energy() == fresh.get_potential_energy()
    assert np.array_equal(atoms.get_forces(), fresh.get_forces())
    assert np.array_equal(atoms.get_stress(), fresh.get_stress())


def test_the_results_of_a_graph_do_not_depend_on_the_way_to_the_last_bit() -> None:
    atoms = walked(Calculator(MAKES["graph"]()))
    fresh = atoms.copy()
    fresh.calc = Calculator(MAKES["graph"]())
    assert atoms.get_potential_energy() == fresh.get_potential_energy()
    assert np.array_equal(atoms.get_forces(), fresh.get_forces())
