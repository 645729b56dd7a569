"""What a look at a model of others finds: forces that are no slope, lengths in another unit; nothing in a sound one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ase
import ase.build
import numpy as np
import pytest
from ase import units
from scipy.spatial.transform import Rotation

from mlmd.engine.selfcheck import Answer, _stiffness, self_check
from mlmd.models import path
from mlmd.potentials import Evaluation, modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.pair import LennardJones

ARGON = ase.build.bulk("Ar", "fcc", a=5.26, cubic=True)
COPPER = ase.build.bulk("Cu", "fcc", a=3.6, cubic=True)


def lennard_jones() -> Answer:
    """Argon's."""
    return predictor(LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="8.5 Å"))


def in_another_unit(answer: Answer, size: float) -> Answer:
    """A model that takes the numbers of lengths, which are `size` times too small for it, as they are."""

    def asked(atoms: ase.Atoms) -> Evaluation:
        shrunk = atoms.copy()
        shrunk.set_cell(atoms.cell.array * size)
        shrunk.positions = atoms.positions * size
        found = answer(shrunk)
        return replace(found, forces=found.forces * size)

    return asked


def with_forces(answer: Answer, change: Callable[[np.ndarray], np.ndarray]) -> Answer:
    """A model that tells other forces than it has."""

    def asked(atoms: ase.Atoms) -> Evaluation:
        found = answer(atoms)
        return replace(found, forces=change(found.forces))

    return asked


def told(answer: Answer, atoms: ase.Atoms) -> str:
    return "\n".join(self_check(answer, atoms))


def of_the_first_half(forces: np.ndarray) -> np.ndarray:
    return forces * (np.arange(len(forces)) < len(forces) / 2)[:, None]


@pytest.mark.parametrize("change", [np.zeros_like, of_the_first_half, lambda forces: 1.1 * forces])
def test_forces_that_are_no_slope_of_the_energy_are_told(change: Callable[[np.ndarray], np.ndarray]) -> None:
    assert "not the slope of its energy" in told(with_forces(lennard_jones(), change), ARGON)


@pytest.mark.parametrize("size", [0.1, 0.529177])
def test_a_model_that_takes_lengths_in_nm_or_bohr_is_told(size: float) -> None:
    """The numbers that it gets are 10 or 1.89 times too small for it when it is given Å as nm, or as bohr."""
    assert "does the model take lengths in another unit" in told(in_another_unit(lennard_jones(), size), ARGON)


@pytest.mark.parametrize("expanded", [0.95, 1.0, 1.08])
def test_nothing_is_said_of_a_sound_potential(expanded: float) -> None:
    """Structures under pressure, at rest and in tension, with rattled atoms too; a crystal of a fitted potential."""
    for answer, crystal in ((lennard_jones(), ARGON), (predictor(modelfile.load(path("Cu"))), COPPER)):
        atoms = crystal * (2, 2, 2)
        atoms.set_cell(atoms.cell.array * expanded, scale_atoms=True)
        atoms.rattle(0.1, seed=1)
        assert told(answer, atoms) == ""


def with_energies(answer: Answer, unit: float) -> Answer:
    """A model that tells energies and forces in a unit that is `unit` of an eV."""

    def asked(atoms: ase.Atoms) -> Evaluation:
        found = answer(atoms)
        return replace(found, energy=found.energy / unit, forces=found.forces / unit)

    return asked


@pytest.mark.parametrize(
    ("name", "unit"),
    [("Cu", units.kJ / units.mol), ("Cu", units.kcal / units.mol), ("Li", units.Hartree), ("Li", units.kJ / units.mol)],
)
def test_a_model_that_tells_energies_in_another_unit_is_told(name: str, unit: float) -> None:
    crystal = COPPER if name == "Cu" else ase.build.bulk("Li", "bcc", a=3.44, cubic=True)
    answer = predictor(modelfile.load(path(name)))
    assert "energies in another unit" not in told(answer, crystal * 3)
    assert "energies in another unit" in told(with_energies(answer, unit), crystal * 3)


def test_stiffness_is_not_asked_of_atoms_without_bonds() -> None:
    """A vapour of copper, whose atoms are held by nothing, and argon."""
    vapour = COPPER.copy()
    vapour.set_cell(3.0 * COPPER.cell.array, scale_atoms=True)
    answer = predictor(modelfile.load(path("Cu")))
    assert "energies in another unit" not in told(answer, vapour)
    assert "energies in another unit" not in told(with_energies(lennard_jones(), units.Hartree), ARGON * 2)


@pytest.mark.parametrize(("name", "stiffness"), [("N2", 143.3), ("Cl2", 20.1), ("LiF", 15.6)])
def test_the_stiffness_of_a_molecule_does_not_depend_on_how_it_lies(name: str, stiffness: float) -> None:
    """Springs as stiff as spectra tell (eV/Å²): one bond among six coordinates, which one displacement may miss."""
    rest = ase.build.molecule(name)
    length = rest.get_distance(0, 1)

    def spring(atoms: ase.Atoms) -> Evaluation:
        bond = atoms.positions[1] - atoms.positions[0]
        off = np.linalg.norm(bond) - length
        pull = stiffness * off * bond / np.linalg.norm(bond)
        return Evaluation(0.5 * stiffness * off**2, np.array([pull, -pull]), np.zeros((3, 3)))

    for turn in Rotation.random(20, rng=np.random.default_rng(3)):
        turned = rest.copy()
        turned.positions = turn.apply(rest.positions)
        assert list(_stiffness(spring, turned)) == []
        assert len(list(_stiffness(with_energies(spring, units.kJ / units.mol), turned))) == 1
