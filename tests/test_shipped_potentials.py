"""The potentials that come with mlmd: where they are from, how far they reach, and how their crystals fare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE
from command_line import mlmd
from runs import read_log, write_input

from mlmd import models
from mlmd.ase import Calculator
from mlmd.engine.run import simulate
from mlmd.io.labelled import read_labelled
from mlmd.io.structures import read_structure
from mlmd.io.trajectories import open_run
from mlmd.potentials import modelfile
from mlmd.potentials.uncertainty import BREAKS, EXTRAPOLATES, GRADE, Judge, knows

LI3YCL6 = Path(__file__).parents[1] / "inputs" / "li3ycl6.cif"
CRYSTALS = {
    "Li": bulk("Li", "bcc", 3.4, cubic=True),
    "Si": bulk("Si", "diamond", 5.4, cubic=True),
    "Cu": bulk("Cu", "fcc", 3.6, cubic=True),
    "Ni": bulk("Ni", "fcc", 3.5, cubic=True),
    "Li3YCl6": read_structure(LI3YCL6),
}
CRYSTALS["Li3YCl6"].rattle(0.1, seed=1)  # the symmetry of the file keeps it on a saddle
REPEATS = {"Li": (3, 3, 3), "Si": (2, 2, 1), "Cu": (2, 2, 2), "Ni": (2, 2, 2), "Li3YCl6": (1, 1, 2)}
"""32 to 60 atoms."""
HOT = {"Li": 363.0, "Si": 1350.0, "Cu": 1086.0, "Ni": 1382.0, "Li3YCl6": 800.0}
"""0.8 of the melting temperature, K; Li3YCl6 near its own, where its conductivity is computed."""
FRAMEWORK = {"Li3YCl6": ("Y", "Cl")}
"""Elements that stay on their sites; all where none are named."""

every = pytest.mark.parametrize("name", models.names())


def test_every_potential_that_comes_with_mlmd_is_tested_here() -> None:
    assert set(models.names()) <= CRYSTALS.keys()


# -- the card ---------------------------------------------------------------------------------------------------------


@every
def test_a_card_says_what_a_user_must_know(name: str) -> None:
    card = modelfile.read_card(models.path(name))
    for key in ("name", "source", "licence", "citation", "data", "errors", "command", "properties"):
        assert card.get(key), f"{name}: the card says nothing about {key}"
    assert set(card["elements"]) == set(CRYSTALS[name].symbols)
    assert card["errors"]["test"]  # of structures that it was not trained on


@every
def test_a_card_has_the_numbers_of_the_crystal_beside_what_they_should_be(name: str) -> None:
    properties = modelfile.read_card(models.path(name))["properties"]
    for key in ("a", "C11", "C12", "bulk modulus"):
        assert {"value", "reference", "unit", "source"} <= properties[key].keys()
    assert properties["duration of the dynamics"]["value"] >= 100.0  # ps
    assert properties["displacement from sites"]["value"] < 0.25


# -- what it knows of its errors --------------------------------------------------------------------------------------


def greatest_grade(name: str, atoms: Atoms) -> float:
    """Of all atoms."""
    grade = Judge(modelfile.load(models.path(name)))(atoms, (GRADE,)).grade
    assert grade is not None, f"{name} knows no grades"
    return float(grade.max())


@every
def test_the_crystal_is_within_what_was_learned_and_a_compressed_one_far_outside(name: str) -> None:
    atoms = CRYSTALS[name].copy()
    assert greatest_grade(name, atoms) < EXTRAPOLATES
    lengths = atoms.cell.array.copy()
    atoms.set_cell(0.8 * lengths, scale_atoms=True)  # half the volume
    assert greatest_grade(name, atoms) > BREAKS
    atoms.set_cell(0.7 * lengths, scale_atoms=True)
    assert greatest_grade(name, atoms) > 10 * BREAKS


@every
def test_show_says_that_a_potential_has_grades(name: str) -> None:
    assert knows(modelfile.load(models.path(name))) == (GRADE,)
    assert "grade of extrapolation" in mlmd("show", name).out
    told = modelfile.read_card(models.path(name))["uncertainty"][GRADE]
    assert 0 < told["environments of the active sets"] < told["of"]


@pytest.mark.parametrize("name", ["Li", "Si", "Cu", "Ni"])
def test_training_structures_have_grades_up_to_one_and_test_structures_do_not_extrapolate(
    name: str, shared: Path
) -> None:
    judge = Judge(modelfile.load(models.path(name)))
    greatest = {}
    for part in ("train", "test"):
        grades = [judge(one.atoms, (GRADE,)).grade for one in read_labelled(shared / f"mlearn/{name}_{part}.xyz.xz")]
        greatest[part] = max(float(grade.max()) for grade in grades if grade is not None)
    assert 0.99 < greatest["train"] < 1.001  # active sets are such that one is reached, and nothing is above 1 + 10⁻³
    assert greatest["test"] < EXTRAPOLATES


# -- the crystal ------------------------------------------------------------------------------------------------------


def crystal(name: str, pressure: float = 0.0, max_force: float = 1e-3) -> Atoms:
    """Relaxed, with its cell, under a pressure (GPa), until no force is larger (eV/Å)."""
    atoms = CRYSTALS[name].copy()
    atoms.calc = Calculator(modelfile.load(models.path(name)))
    relaxation = FIRE(FrechetCellFilter(atoms, scalar_pressure=pressure * units.GPa), logfile=None)
    assert relaxation.run(fmax=max_force, steps=5000)
    return atoms


@every
def test_the_crystal_has_the_lattice_constant_of_the_card_and_nearly_of_the_reference(name: str) -> None:
    listed = modelfile.read_card(models.path(name))["properties"]["a"]
    found = crystal(name).cell.lengths()[0]
    assert found == pytest.approx(listed["value"], rel=1e-3)  # forces of 1 meV/Å are left
    assert found == pytest.approx(listed["reference"], rel=0.01)  # 0.3 % between the best potentials of such data


@every
def test_the_bulk_modulus_under_pressure_is_that_of_the_card_and_nearly_of_the_reference(name: str) -> None:
    listed = modelfile.read_card(models.path(name))["properties"]["bulk modulus"]
    # GPa: the volume changes by a quarter of a per cent to either side; at one per cent Li3YCl6 softens by a tenth
    pressure = listed["value"] / 400
    small, large = (crystal(name, sign * pressure, 1e-4).get_volume() for sign in (1, -1))
    found = 2 * pressure / np.log(large / small)
    assert found == pytest.approx(listed["value"], rel=0.03)
    # the references scatter by 3 % with the strains they are fitted to; published potentials are off by 1 to 6 %
    # Li3YCl6 is soft along c: a strain of one per cent is 0.1 meV/atom, less than it knows its teacher's energies
    assert found == pytest.approx(listed["reference"], rel=0.3 if name == "Li3YCl6" else 0.15)


# -- dynamics ---------------------------------------------------------------------------------------------------------


def run_hot(name: str, folder: Path, stages: str) -> Path:
    """Run the relaxed crystal at 0.8 of its melting temperature; the run folder."""
    atoms = crystal(name).repeat(REPEATS[name])
    atoms.calc = None
    path = write_input(
        folder, stages, atoms=atoms, potential=f'"{models.path(name)}"',
        options=f'timestep = "2 fs"\nvelocities = "{2 * HOT[name]} K"',
        output='log_every = "20 fs"\ntrajectory_every = "50 fs"',
    )  # fmt: skip
    return simulate(path, folder / "run", threads=1).path


def nvt(name: str, duration: str) -> str:
    """A stage at the temperature of a crystal."""
    return f'[[stage]]\nkind = "nvt"\ntemperature = {HOT[name]}\nduration = "{duration}"\n'


@every
def test_a_crystal_stays_whole_and_known_below_its_melting_temperature(name: str, tmp_path: Path) -> None:
    folder = run_hot(name, tmp_path, nvt(name, "2 ps"))
    trajectory = open_run(folder, first_time=1000.0)
    chosen = trajectory.atoms_of(FRAMEWORK.get(name, tuple(set(trajectory.symbols))))
    positions = np.concatenate([chunk.positions for chunk in trajectory.chunks(atoms=chosen)])
    positions -= positions.mean(axis=1, keepdims=True)
    start = CRYSTALS[name].repeat(REPEATS[name])
    away = np.sqrt(((positions - positions.mean(axis=0)) ** 2).sum(axis=2).mean())
    # crystals melt when atoms are away from their sites by 0.1 to 0.2 of the distance of neighbours (Lindemann)
    assert away < 0.25 * neighbor_list("d", start, 4.0).min()
    log = read_log(folder)
    # 32 atoms have a temperature that fluctuates by 14 %, and forget it within a picosecond
    assert log["temperature"][log["time"] > 1.0].mean() == pytest.approx(HOT[name], rel=0.25)
    assert log["max grade"].max() < EXTRAPOLATES


@pytest.mark.slow
@every
@pytest.mark.row("R18")
def test_the_energy_does_not_drift(name: str, tmp_path: Path) -> None:
    stages = nvt(name, "2 ps") + '[[stage]]\nkind = "nve"\nduration = "48 ps"\n'
    log = read_log(run_hot(name, tmp_path, stages))
    settled = (log["stage"] == 2) & (log["time"] > 4.0)
    time, energy = log["time"][settled][:2300] / 1e3, 1e3 * log["energy per atom"][settled][:2300]
    slopes = [np.polyfit(t, e, 1)[0] for t, e in zip(np.split(time, 5), np.split(energy, 5), strict=True)]
    drift, error = np.polyfit(time, energy, 1)[0], np.std(slopes, ddof=1) / 5**1.5  # as of argon, test_engine_physics
    print(f"{name}: drift {drift:.3f} ± {error:.3f} meV/atom/ns")
    assert error < 0.5
    assert abs(drift) < 5.0  # meV/atom/ns, which heats a crystal by 20 K in a nanosecond
