"""What every potential must obey, whatever it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from potential_cases import CASES, Case, published

from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import Potential, Prediction, modelfile
from mlmd.potentials.evaluate import evaluator

EXACT = tuple(case for case in CASES if case.precision == "float64")


@pytest.fixture(params=[*CASES, "published"], ids=lambda case: getattr(case, "name", case))
def case(request: pytest.FixtureRequest) -> Case:
    """Every potential; the published one where the reference data are."""
    if request.param == "published":
        return published(request.getfixturevalue("shared"))
    return request.param


@pytest.fixture(params=[*EXACT, "published"], ids=lambda case: getattr(case, "name", case))
def exact(request: pytest.FixtureRequest) -> Case:
    """Those in float64, whose energies can be differentiated numerically."""
    if request.param == "published":
        return published(request.getfixturevalue("shared"))
    return request.param


def predict(potential: Potential, *atoms: Atoms) -> Prediction:
    return potential.predict(build_graph(list(atoms), potential.cutoff))


def assert_same(case: Case, got: torch.Tensor, expected: torch.Tensor, scale: float | None = None) -> None:
    """Equal up to rounding, relative to the largest number (or the scale of the parts it is a sum of)."""
    size = max(float(expected.abs().max()), scale or 1e-3)
    assert float((got - expected).abs().max()) <= case.rounding * size


def central_difference(energy: Callable[[float], float], step: float = 3e-4) -> float:
    """The derivative at zero from four points, with an error of step⁴.

    Moment tensor potentials have a jump of the second derivative at the cutoff: steps are small enough that no
    pair of the structures here crosses it.
    """
    return (8 * (energy(step) - energy(-step)) - (energy(2 * step) - energy(-2 * step))) / (12 * step)


@pytest.mark.row("R21")
def test_nothing_changes_when_the_structure_is_moved(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    moved = atoms.copy()
    moved.positions += [11.3, -7.1, 0.37]
    before, after = predict(potential, atoms), predict(potential, moved)
    assert_same(case, after.energy, before.energy)
    assert_same(case, after.forces, before.forces)


@pytest.mark.row("R21")
def test_forces_and_stress_rotate_with_the_structure(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turned = Atoms(atoms.symbols, positions=atoms.positions @ q, cell=atoms.cell.array @ q, pbc=True)
    before, after, q = predict(potential, atoms), predict(potential, turned), torch.from_numpy(q)
    assert_same(case, after.energy, before.energy)
    assert_same(case, after.forces, before.forces @ q)
    assert_same(case, after.stress[0], q.T @ before.stress[0] @ q)


@pytest.mark.row("R21")
def test_renumbering_atoms_renumbers_the_forces(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    order = np.random.default_rng(6).permutation(len(atoms))
    before, after = predict(potential, atoms), predict(potential, atoms[order])
    assert_same(case, after.energy, before.energy)
    assert_same(case, after.forces, before.forces[order])


@pytest.mark.row("R21")
def test_a_supercell_has_the_energy_of_its_cells(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    one, many = predict(potential, atoms), predict(potential, atoms * (2, 1, 2))
    assert_same(case, many.energy, 4 * one.energy)
    assert_same(case, many.forces, one.forces.repeat(4, 1))
    assert_same(case, many.stress, one.stress)


@pytest.mark.parametrize("surroundings", ["crystal", "cluster", "slab"])
@pytest.mark.row("R21")
def test_forces_are_the_gradient_of_the_energy(exact: Case, surroundings: str) -> None:
    potential, atoms = exact.make(), getattr(exact, surroundings)()
    forces = predict(potential, atoms).forces
    for atom, axis in ((0, 0), (3, 1), (6, 2)):

        def energy(step: float, atom: int = atom, axis: int = axis) -> float:
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            return float(predict(potential, moved).energy)

        expected = -central_difference(energy)
        assert float(forces[atom, axis]) == pytest.approx(expected, abs=1e-6 * float(forces.abs().max()))


@pytest.mark.row("R20")
def test_stress_is_the_derivative_by_strain(exact: Case) -> None:
    potential, atoms = exact.make(), exact.crystal()
    stress = predict(potential, atoms).stress[0]
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)):

        def energy(strain: float, a: int = a, b: int = b) -> float:
            deformation = np.eye(3)
            deformation[a, b] += strain
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
            return float(predict(potential, strained).energy)

        expected = central_difference(energy, 5e-5) / atoms.get_volume()
        assert float(stress[a, b]) == pytest.approx(expected, abs=1e-6 * float(stress.abs().max()))


def test_nothing_jumps_when_an_atom_crosses_the_cutoff(case: Case) -> None:
    potential = case.make()
    symbol = case.elements[0]
    near = case.spacing * np.array([[0.0, 0, 0], [0.5, 0.8, 0], [0.1, -0.9, 0.3]])
    direction, results = np.array([0.6, 0, 0.8]), []
    for offset in (-1e-6, 1e-6):
        far = near[0] + (potential.cutoff + offset) * direction
        results.append(predict(potential, Atoms([symbol] * 4, positions=np.vstack([near, far]))))
    inside, outside = results
    scale = float(inside.forces.abs().max())
    # the other atoms are within the cutoff of the far one, so that the energy changes, by force times way
    work = -0.5 * (inside.forces + outside.forces)[3].numpy() @ direction * 2e-6
    change = float(outside.energy) - float(inside.energy)
    assert change == pytest.approx(work, abs=max(1e-9, case.rounding * abs(float(inside.energy))))
    assert torch.allclose(inside.forces, outside.forces, rtol=0, atol=max(1e-4, case.rounding) * scale)


def test_an_atom_on_its_own_feels_nothing(case: Case) -> None:
    potential = case.make()
    atoms = Atoms(case.elements[:1], positions=[[1.0, 2.0, 3.0]])
    alone = predict(potential, atoms)
    apart = predict(potential, Atoms(case.elements[:1] * 2, positions=[[0, 0, 0], [0, 0, 50.0]]))
    assert torch.equal(alone.forces, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(alone.virial, torch.zeros(1, 3, 3, dtype=torch.float64))
    assert bool(alone.stress.isnan().all())
    assert float(apart.energy) == pytest.approx(2 * float(alone.energy), rel=case.rounding)


def test_structures_in_a_batch_do_not_see_each_other(case: Case) -> None:
    potential = case.make()
    structures = [case.crystal(1), case.cluster(2), case.slab(3), Atoms(case.elements[:1], [[0, 0, 0]])]
    together = predict(potential, *structures)
    first = 0
    for index, atoms in enumerate(structures):
        alone = predict(potential, atoms)
        assert_same(case, together.energy[index], alone.energy[0])
        assert_same(case, together.forces[first : first + len(atoms)], alone.forces)
        assert_same(case, together.virial[index], alone.virial[0])
        first += len(atoms)


def test_a_stored_potential_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    potential, atoms = case.make(), case.crystal()
    modelfile.save(potential, tmp_path / "x.mlmd", {"data": "none"})
    again = modelfile.load(tmp_path / "x.mlmd", precision=case.precision)
    before, after = predict(potential, atoms), predict(again, atoms)
    assert torch.equal(before.energy, after.energy)
    assert torch.equal(before.forces, after.forces)
    assert again.elements == potential.elements
    assert again.cutoff == potential.cutoff


def test_the_spec_is_plain_data(case: Case) -> None:
    spec = case.make().spec()
    assert json.loads(json.dumps(spec)) == spec


def test_the_evaluator_says_what_the_potential_predicts(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    result = evaluator(potential, atoms.numbers, atoms.pbc).evaluate(atoms.positions, atoms.cell.array)
    expected = predict(potential, atoms)
    energy = torch.tensor([result.energy], dtype=torch.float64)
    assert_same(case, energy, expected.energy)  # a compiled kernel rounds differently
    assert_same(case, torch.from_numpy(result.forces), expected.forces)
    assert_same(case, torch.from_numpy(result.virial), expected.virial[0])
    assert result.forces.flags.c_contiguous


def test_a_restored_evaluator_repeats_the_run_to_the_last_bit(case: Case) -> None:
    potential, atoms = case.make(), case.crystal()
    cell, steps = atoms.cell.array, np.random.default_rng(7).normal(0, 0.05, (12, len(atoms), 3))
    path = atoms.positions + np.cumsum(steps, axis=0)
    one = evaluator(potential, atoms.numbers, atoms.pbc, skin=0.5)
    uninterrupted = [one.evaluate(positions, cell) for positions in path]
    two = evaluator(potential, atoms.numbers, atoms.pbc, skin=0.5)
    for positions in path[:5]:
        two.evaluate(positions, cell)
    three = evaluator(case.make(), atoms.numbers, atoms.pbc, skin=0.5)
    three.restore(two.state())
    for positions, expected in zip(path[5:], uninterrupted[5:], strict=True):
        result = three.evaluate(positions, cell)
        assert result.energy == expected.energy
        assert np.array_equal(result.forces, expected.forces)
        assert np.array_equal(result.virial, expected.virial)


def test_a_molecule_does_not_care_about_a_large_box(case: Case) -> None:
    potential, free = case.make(), case.cluster()
    boxed = free.copy()
    boxed.set_cell([60.0, 55.0, 50.0])
    boxed.pbc = True
    assert_same(case, predict(potential, boxed).energy, predict(potential, free).energy)
    assert_same(case, predict(potential, boxed).forces, predict(potential, free).forces)


def test_forces_sum_to_zero(case: Case) -> None:
    forces = predict(case.make(), case.crystal()).forces
    assert_same(case, forces.sum(dim=0), torch.zeros(3, dtype=torch.float64), float(forces.abs().max()))


def test_an_unknown_element_is_refused(case: Case) -> None:
    potential = case.make()
    if not potential.elements:
        assert predict(potential, Atoms("Xe2", [[0, 0, 0], [0, 0, 2.0]])).energy.isfinite()
        return
    with pytest.raises(InputError, match="Xe"):
        predict(potential, Atoms("Xe2", [[0, 0, 0], [0, 0, 2.0]]))
