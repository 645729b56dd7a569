"""Charge equilibration: closed forms, a dense solution with waves alone, derivatives, and what makes no sense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest
from ase import Atoms

from mlmd.config import PotentialTable
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import evaluator, predictor
from mlmd.potentials.load import load_potential
from mlmd.potentials.pair import COULOMB

pytest.importorskip("torchpme")

# electronegativities and hardnesses of Rappé and Goddard (1991), widths of about the covalent radii
SALT: dict[str, Any] = {
    "kind": "equilibrated",
    "electronegativity": {"Na": "2.843 eV", "Cl": 8.564},
    "hardness": {"Na": 4.592, "Cl": 9.892},
    "width": {"Na": "1.2 Å", "Cl": 0.9},
}
CUTOFF = "11 Å"


def load(cutoff: str = CUTOFF, **charges: Any) -> Any:
    table = {"kind": "coulomb", "charges": SALT | charges, "cutoff": cutoff}
    return load_potential([PotentialTable.model_validate(table)])


def salt(pbc: bool = True) -> Atoms:
    """Eight atoms in a triclinic cell, off their places; they are not all alike."""
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [0.6, 0, 0], [-0.3, 0.5, 0]]), scale_atoms=True)
    atoms.rattle(0.2, seed=1)
    atoms.pbc = pbc
    return atoms


def charges_of(potential: Any, atoms: Atoms) -> np.ndarray:
    found: np.ndarray = potential.predict(build_graph(atoms, potential.cutoff)).properties["charges"].numpy()
    return found


def parameters(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    of = {"Na": (2.843, 4.592, 1.2), "Cl": (8.564, 9.892, 0.9)}
    chi, hardness, width = np.array([of[symbol] for symbol in atoms.symbols]).T
    return chi, hardness, width


def by_waves(atoms: Atoms, farthest: float = 8.0) -> np.ndarray:
    """The interactions (n, n) eV/e² of Gaussians in a crystal, by waves alone: no sum over pairs is needed."""
    width, reciprocal = parameters(atoms)[2], 2 * np.pi * np.linalg.inv(atoms.cell.array).T
    ends = np.ceil(farthest * atoms.cell.lengths() / (2 * np.pi)).astype(int)
    axes = np.meshgrid(*(np.arange(-end, end + 1) for end in ends), indexing="ij")
    waves = np.stack(axes, axis=-1).reshape(-1, 3) @ reciprocal
    squares = (waves**2).sum(axis=1)
    waves, squares = waves[(squares > 0) & (squares < farthest**2)], squares[(squares > 0) & (squares < farthest**2)]
    of_atoms = np.exp(-0.5 * np.outer(width**2, squares) + 1j * atoms.positions @ waves.T) / np.sqrt(squares)
    interactions: np.ndarray = 4 * np.pi * COULOMB / atoms.get_volume() * (of_atoms @ of_atoms.conj().T).real
    return interactions


def dense(atoms: Atoms, interactions: np.ndarray, total: float = 0.0) -> tuple[np.ndarray, float]:
    """Charges and energy, by the equations with a Lagrange multiplier."""
    chi, hardness, _ = parameters(atoms)
    n = len(atoms)
    matrix = np.ones((n + 1, n + 1))
    matrix[:n, :n] = interactions + np.diag(hardness)
    matrix[n, n] = 0.0
    charges = np.linalg.solve(matrix, np.append(-chi, total))[:n]
    return charges, chi @ charges + 0.5 * charges @ matrix[:n, :n] @ charges


def test_two_atoms_have_the_charges_of_the_closed_form() -> None:
    atoms, distance = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]]), 2.4
    chi, hardness, width = parameters(atoms)
    own = hardness + COULOMB / (width * math.sqrt(math.pi))
    between = COULOMB * math.erf(distance / math.sqrt(2 * (width**2).sum())) / distance
    charge = (chi[1] - chi[0]) / (own.sum() - 2 * between)
    assert charge > 0.2  # sodium's
    assert charges_of(load(), atoms) == pytest.approx([charge, -charge], abs=1e-10)
    assert predictor(load())(atoms).energy == pytest.approx(-0.5 * charge * (chi[1] - chi[0]), abs=1e-10)


def test_charges_and_energy_of_a_crystal_are_those_of_a_dense_solution_by_waves_alone() -> None:
    atoms = salt()
    charges, energy = dense(atoms, by_waves(atoms))
    potential = load()
    # to the accuracy of Ewald's sum, 1e-8 of some eV
    assert charges_of(potential, atoms) == pytest.approx(charges, abs=1e-7)
    assert predictor(potential)(atoms).energy == pytest.approx(energy, abs=1e-6)
    assert np.ptp(charges[atoms.symbols == "Na"]) > 1e-3  # they depend on the surroundings


def test_charges_of_a_cluster_are_those_of_a_dense_solution_and_add_up_to_the_total() -> None:
    atoms = salt(pbc=False)
    width, distances = parameters(atoms)[2], atoms.get_all_distances()
    gamma = np.sqrt(2 * np.add.outer(width**2, width**2))
    np.fill_diagonal(distances, 1.0)
    interactions = COULOMB * np.vectorize(math.erf)(distances / gamma) / distances
    np.fill_diagonal(interactions, COULOMB / (width * math.sqrt(math.pi)))
    for total in (0.0, 1.0):
        charges, energy = dense(atoms, interactions, total)
        potential = load(total=total)
        found = charges_of(potential, atoms)
        assert found == pytest.approx(charges, abs=1e-10)
        assert found.sum() == pytest.approx(total, abs=1e-12)
        assert predictor(potential)(atoms).energy == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("pbc", [True, False], ids=["crystal", "open"])
def test_forces_and_stress_are_derivatives_of_the_energy(pbc: bool) -> None:
    """Charges follow the atoms, and nothing is missing: the energy is stationary in them."""
    answer, atoms, step = predictor(load()), salt(pbc), 1e-3
    found = answer(atoms)

    def slope(change: Any) -> float:
        energies = {sign: answer(change(sign * step)).energy for sign in (-2, -1, 1, 2)}
        return (8 * (energies[1] - energies[-1]) - (energies[2] - energies[-2])) / (12 * step)

    def moved(atom: int, axis: int) -> Any:
        def change(by: float) -> Atoms:
            other = atoms.copy()
            other.positions[atom, axis] += by
            return other

        return change

    def bent(i: int, j: int) -> Any:
        def change(by: float) -> Atoms:
            strain = np.eye(3)
            strain[i, j] += by / 2
            strain[j, i] += by / 2
            other = atoms.copy()
            other.set_cell(atoms.cell.array @ strain)
            other.positions = atoms.positions @ strain
            return other

        return change

    for atom, axis in ((0, 2), (5, 0)):
        assert -slope(moved(atom, axis)) == pytest.approx(found.forces[atom, axis], abs=1e-6)
    for i, j in ((0, 0), (1, 2)):
        assert slope(bent(i, j)) == pytest.approx(found.virial[i, j], abs=1e-5)
    assert np.abs(found.forces).max() > 0.01
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-9


def test_the_cutoff_is_a_matter_of_time_alone() -> None:
    atoms = salt().repeat((2, 1, 1))
    near, far = (predictor(load(cutoff=cutoff))(atoms) for cutoff in ("10.4 Å", "13 Å"))
    assert near.energy == pytest.approx(far.energy, abs=1e-6)
    assert near.forces == pytest.approx(far.forces, abs=1e-6)


def test_runs_and_files_give_the_same_numbers(tmp_path: Path) -> None:
    potential, atoms = load(), salt()
    modelfile.save(potential, tmp_path / "salt.mlmd")
    again = modelfile.load(tmp_path / "salt.mlmd")
    alone = predictor(potential)(atoms)
    assert again.spec() == potential.spec()
    assert predictor(again)(atoms).energy == alone.energy
    found = evaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    assert found.energy == pytest.approx(alone.energy, rel=1e-12)
    assert found.forces == pytest.approx(alone.forces, abs=1e-10)


@pytest.mark.parametrize(
    ("charges", "message"),
    [
        ({"kind": "predicted"}, "charges: kind: 'predicted' is not known; \"equilibrated\" is"),
        ({"electronegativities": {}}, "charges: 'electronegativities' is not an option. Did you mean"),
        ({"hardness": {"Na": 4.6}}, "charges: hardness: Cl has none"),
        ({"hardness": {"Na": 4.6, "Cl": 0}}, "charges: hardness: Cl: 0: a number above zero"),
        ({"width": {}}, 'charges: width: a table by element is needed, for example { Na = "1.7 Å"'),
        ({"width": {"Na": "1 eV", "Cl": 1}}, "charges: width: Na:"),
        ({"width": {"Na": 3, "Cl": 1}}, "overlap up to 25.8 Å, beyond the cutoff of 11 Å"),
        ({"total": "one"}, "charges: total: 'one' is not a number"),
    ],
)
def test_mistakes_are_told(charges: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(**charges)
    assert message in str(caught.value)


def test_what_has_no_charges_is_refused() -> None:
    with pytest.raises(InputError, match=r"total: \+1 e, and the charges of a crystal must cancel"):
        predictor(load(total=1))(salt())
    with pytest.raises(InputError, match="Are two atoms at the same place"):
        predictor(load())(Atoms("NaCl", np.zeros((2, 3))))
