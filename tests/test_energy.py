"""``mlmd energy`` and ``mlmd relax``: structures and any potential, without an input file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import bar
from command_line import mlmd

EMT_OPTIONS = json.dumps({"calculator": "ase.calculators.emt:EMT"})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with two crystals off their places and a cluster."""
    monkeypatch.chdir(tmp_path)
    frames = []
    for seed, lattice_constant in enumerate((3.55, 3.7)):
        atoms = ase.build.bulk("Cu", "fcc", lattice_constant, cubic=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    ase.io.write("cu.extxyz", frames, format="extxyz")
    ase.io.write("cluster.xyz", ase.Atoms("Cu4", [[0, 0, 0], [2.4, 0, 0], [0, 2.4, 0], [0, 0, 2.4]]))
    return tmp_path


def test_energies_are_those_of_the_potential(here: Path) -> None:
    answer = mlmd(
        "energy",
        "cu.extxyz",
        "cluster.xyz",
        "--potential",
        "ase",
        "--options",
        EMT_OPTIONS,
        "--json",
        "--out",
        "e.extxyz",
    )
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert [row["structure"] for row in rows] == ["cu.extxyz@0", "cu.extxyz@1", "cluster.xyz@0"]
    for row, atoms in zip(rows, [*ase.io.read("cu.extxyz", ":"), ase.io.read("cluster.xyz")], strict=True):
        atoms.calc = EMT()
        assert row["energy_eV"] == atoms.get_potential_energy()
        assert row["energy_eV_per_atom"] == atoms.get_potential_energy() / 4
        assert row["max_force_eV_per_A"] == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max(), rel=1e-12)
        if atoms.pbc.all():
            assert row["pressure_bar"] == pytest.approx(-np.trace(atoms.get_stress(voigt=False)) / 3 / bar, rel=1e-7)
        else:
            assert row["pressure_bar"] is None
    assert ase.io.read("e.extxyz", 1).get_potential_energy() == pytest.approx(rows[1]["energy_eV"], abs=1e-8)


def test_a_potential_may_be_written_as_in_an_input(here: Path) -> None:
    table = '{ kind = "ase", calculator = "ase.calculators.emt:EMT" }'
    same = (["--potential", table], ["--potential", "ase", "--options", EMT_OPTIONS])
    answers = [mlmd("energy", "cu.extxyz", *given, "--json") for given in same]
    assert answers[0].code == 0, answers[0].err
    assert json.loads(answers[0].out) == json.loads(answers[1].out)
    for n, given in enumerate(same):
        assert mlmd("label", "cu.extxyz", *given, "--out", f"{n}.extxyz").code == 0
    first, second = (ase.io.read(f"{n}.extxyz", 1) for n in range(2))
    assert first.get_potential_energy() == second.get_potential_energy()
    assert mlmd("evaluate", table, "1.extxyz").code == 0


def test_what_a_committee_says_of_its_errors_is_told(here: Path) -> None:
    members = json.dumps({"members": [{"kind": "ase", "calculator": "ase.calculators.emt:EMT"}, "Cu"]})
    (row, _) = json.loads(mlmd("energy", "cu.extxyz", "--potential", "committee", "--options", members, "--json").out)
    atoms = ase.io.read("cu.extxyz", 0)
    atoms.calc = EMT()
    emt = atoms.get_forces()
    (copper, _) = json.loads(mlmd("energy", "cu.extxyz", "--potential", "Cu", "--json", "--out", "c.extxyz").out)
    forces = ase.io.read("c.extxyz", 0).get_forces()
    spread = np.sqrt(np.mean((emt - forces) ** 2 / 2, axis=1)).max()
    assert row["spread_eV_per_A"] == pytest.approx(spread, rel=1e-5)
    assert row["energy_eV"] == pytest.approx((atoms.get_potential_energy() + copper["energy_eV"]) / 2, abs=1e-9)
    text = mlmd("energy", "cu.extxyz", "--potential", "committee", "--options", members).out
    assert "spread [eV/Å]" in text


@pytest.mark.parametrize("n_processes", [1, 2])
def test_relaxed_structures_have_the_energies_that_ases_own_optimiser_finds(here: Path, n_processes: int) -> None:
    answer = mlmd(
        "relax", "cu.extxyz", "--potential", "ase", "--options", EMT_OPTIONS, "--out", "r.extxyz", "--cell",
        "--pressure", "10 kbar", "--max-force", "0.001 eV/Å", "--processes", n_processes, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    for row, start, end in zip(rows, ase.io.read("cu.extxyz", ":"), ase.io.read("r.extxyz", ":"), strict=True):
        start.calc = EMT()
        assert row["energy_before_eV"] == start.get_potential_energy()
        before = start.get_volume()
        BFGS(FrechetCellFilter(start, scalar_pressure=1e4 * bar), logfile=None).run(fmax=1e-4)
        # at rest the enthalpy is least: it hardly changes with what is left of the forces
        enthalpy = row["energy_eV"] + 1e4 * bar * end.get_volume()
        assert enthalpy == pytest.approx(start.get_potential_energy() + 1e4 * bar * start.get_volume(), abs=1e-5)
        assert end.get_potential_energy() == pytest.approx(row["energy_eV"], abs=1e-7)
        assert row["strain"] == pytest.approx(start.get_volume() / before - 1, abs=1e-4)
        assert row["converged"] and row["max_force_eV_per_A"] <= 0.001
        assert 0.05 < row["displacement_A"] < 0.4


def test_fixed_atoms_stay_and_the_cell_too(here: Path) -> None:
    atoms = ase.io.read("cu.extxyz", 0)
    atoms.set_constraint(FixAtoms([0, 2]))
    ase.io.write("fixed.extxyz", atoms, format="extxyz", columns=["symbols", "positions", "move_mask"])
    assert mlmd("relax", "fixed.extxyz", "--potential", "Cu", "--out", "r.extxyz").code == 0
    moved = ase.io.read("r.extxyz")
    change = np.abs(moved.positions - atoms.positions).max(axis=1)
    assert np.all(change[[0, 2]] < 1e-7) and np.all(change[[1, 3]] > 0.01)
    assert np.allclose(moved.cell.array, atoms.cell.array, atol=1e-8)
    (constraint,) = moved.constraints  # and are fixed in what is written, for the next command too
    assert constraint.get_indices().tolist() == [0, 2]
    again = mlmd("relax", "r.extxyz", "--potential", "Cu", "--out", "s.extxyz", "--max-force", "0.001 eV/Å")
    assert again.code == 0 and "Note" not in again.out
    assert np.array_equal(ase.io.read("s.extxyz").positions[[0, 2]], moved.positions[[0, 2]])


@pytest.mark.parametrize("name", ["part.extxyz", "part.traj", "POSCAR"])
def test_atoms_that_are_fixed_in_some_directions_are_held_in_all(here: Path, name: str) -> None:
    atoms = ase.io.read("cu.extxyz", 0)
    constraint = FixScaled([1], [True, False, False]) if name == "POSCAR" else FixCartesian([1], [True, False, False])
    atoms.set_constraint([constraint, FixAtoms([3])])
    options = {"format": "extxyz", "columns": ["symbols", "positions", "move_mask"]} if name == "part.extxyz" else {}
    ase.io.write(name, atoms, **options)
    answer = mlmd("relax", name, "--potential", "Cu", "--out", "r.extxyz", "--json")
    assert answer.code == 0, answer.err
    assert answer.err.count("fixed in some directions only: here they are held in all.") == 1
    assert answer.err.startswith("Note: 1 atoms of ")
    moved = ase.io.read("r.extxyz")
    change = np.abs(moved.positions - atoms.positions).max(axis=1)
    assert np.all(change[[1, 3]] < 1e-7) and np.all(change[[0, 2]] > 0.01)
    assert moved.constraints[0].get_indices().tolist() == [1, 3]


def test_what_does_not_come_to_rest_is_written_and_named(here: Path) -> None:
    answer = mlmd("relax", "cu.extxyz", "--potential", "Cu", "--out", "r.extxyz", "--max-steps", 2)
    assert answer.code == 3
    assert "after 2 steps a force above 0.01 eV/Å is left in cu.extxyz@0, cu.extxyz@1" in answer.err
    assert len(ase.io.read("r.extxyz", ":")) == 2


CALCULATORS = """
import os, pathlib, time
import numpy as np
from ase.calculators.emt import EMT

class Fails(EMT):
    "Has an answer for crystals of four atoms alone; of two it gives no number, of three it ends."
    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        if len(atoms) == 1:
            raise RuntimeError("one is too few")
        if len(atoms) == 3:
            os._exit(9)
        if len(atoms) == 5:
            pathlib.Path("waits").touch()
            time.sleep(600)
        super().calculate(atoms, properties, system_changes)
        if len(atoms) == 2:
            self.results["forces"] = np.full((2, 3), np.nan)

class WithoutStress(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        self.results["stress"] = np.full(6, np.nan)

class WithoutWall(EMT):
    "Its energy is the volume's: nothing keeps a cell from shrinking to nothing, with ever more pairs."
    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        self.results["energy"] = self.results["free_energy"] = 0.1 * atoms.get_volume()
        self.results["forces"], self.results["stress"] = np.zeros((len(atoms), 3)), 0.1 * np.array([1, 1, 1, 0, 0, 0])
"""


def own(here: Path, name: str) -> list[str]:
    """The options of a calculator of a file of one's own."""
    (here / "own.py").write_text(CALCULATORS)
    options = {"calculator": "./own.py:" + name, "trust": "sha256:" + sha256(CALCULATORS.encode()).hexdigest()}
    return ["--potential", "ase", "--options", json.dumps(options)]


def mixed(here: Path, *sizes: int) -> None:
    """A file of structures with so many atoms each."""
    frames = []
    for n in sizes:
        atoms = ase.build.bulk("Cu", "fcc", 3.6, cubic=True)
        atoms.rattle(0.05, seed=n)
        frames.append(atoms[:n] if n < 5 else ase.build.bulk("Cu", "fcc", 3.6).repeat((5, 1, 1)))
    ase.io.write("mixed.extxyz", frames, format="extxyz")


def test_one_energy_that_fails_does_not_lose_the_others(here: Path) -> None:
    mixed(here, 4, 1, 2, 4)
    answer = mlmd("energy", "mixed.extxyz", *own(here, "Fails"), "--out", "e.extxyz", "--json")
    assert answer.code == 3
    assert "2 of 4 structures failed; the others are in e.extxyz:\n  mixed.extxyz@1: " in answer.err
    assert "one is too few" in answer.err and "mixed.extxyz@2: the energy or a force is not finite" in answer.err
    rows = json.loads(answer.out)
    assert [row["error"] is None for row in rows] == [True, False, False, True]
    assert rows[1]["energy_eV"] is None and "one is too few" in rows[1]["error"]
    kept = ase.io.read("e.extxyz", ":")
    assert [one.get_potential_energy() for one in kept] == pytest.approx([rows[0]["energy_eV"], rows[3]["energy_eV"]])
    text = mlmd("energy", "mixed.extxyz", *own(here, "Fails"))
    assert text.out.count("failed, see below") == 2 and "one is too few" in text.err and text.code == 3


@pytest.mark.parametrize("n_processes", [1, 2])
def test_one_relaxation_that_fails_does_not_lose_the_others(here: Path, n_processes: int) -> None:
    sizes = (4, 1, 2, 4) if n_processes == 1 else (4, 1, 3, 2, 4)  # a process that ends is one of several
    mixed(here, *sizes)
    answer = mlmd(
        "relax", "mixed.extxyz", *own(here, "Fails"), "--out", "r.extxyz", "--json", "--processes", n_processes
    )
    assert answer.code == 3
    assert f"{len(sizes) - 2} of {len(sizes)} structures failed; the others are in r.extxyz" in answer.err
    rows = json.loads(answer.out)
    assert [row["atoms"] for row in rows] == list(sizes)
    assert [row["error"] is None for row in rows] == [n == 4 for n in sizes]
    assert n_processes == 1 or "ended without an answer" in rows[2]["error"]
    kept = ase.io.read("r.extxyz", ":")
    assert [one.get_potential_energy() for one in kept] == pytest.approx([rows[0]["energy_eV"], rows[-1]["energy_eV"]])


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (["energy"], signal.SIGINT),
        (["relax"], signal.SIGTERM),
        (["relax", "--processes", "2"], signal.SIGINT),
    ],
)
def test_what_was_done_is_written_when_it_is_stopped(here: Path, command: list[str], number: int) -> None:
    mixed(here, *((4, 5, 4) if command == ["relax", "--processes", "2"] else (4, 5)))
    arguments = [*command, "mixed.extxyz", *own(here, "Fails"), "--out", "o.extxyz", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlmd", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    while not Path("waits").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(3.0 if len(command) > 1 else 0.0)  # the other process ends what it does
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    rows = json.loads(out)
    done = len(rows)
    assert f"Stopped: on request after {done} of {done + 1} structures; they are in o.extxyz" in err
    assert [row["structure"] for row in rows] == ["mixed.extxyz@0", "mixed.extxyz@2"][:done]
    assert [len(one) for one in ase.io.read("o.extxyz", ":")] == [4] * done


def test_a_cell_is_not_relaxed_without_a_stress(here: Path) -> None:
    answer = mlmd("relax", "cu.extxyz", *own(here, "WithoutStress"), "--out", "r.extxyz", "--cell")
    assert answer.code == 3
    assert "cu.extxyz@0: the potential gives no stress, or one that is not finite" in answer.err
    assert not Path("r.extxyz").exists()
    answer = mlmd("energy", "cu.extxyz", *own(here, "WithoutStress"), "--out", "e.extxyz", "--json")
    assert answer.code == 0, answer.err
    assert [row["pressure_bar"] for row in json.loads(answer.out)] == [None, None]
    assert "stress" not in Path("e.extxyz").read_text()


def test_a_cell_that_collapses_is_given_up(here: Path) -> None:
    """Otherwise it shrinks until its pairs do not fit the memory."""
    answer = mlmd("relax", "cu.extxyz", *own(here, "WithoutWall"), "--out", "r.extxyz", "--cell", "--json")
    assert answer.code == 3
    assert "cu.extxyz@0: the cell collapses: " in answer.err and "Add it, or { kind" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["energy", "cu.extxyz", "--potential", "Cuu"], 2, "Cuu"),
        (["energy", "no.extxyz", "--potential", "Cu"], 2, "no such file"),
        (["energy", "cu.extxyz", "--potential", "{ kind = zbl }"], 2, "is no table of TOML"),
        (["energy", "cu.extxyz", "--potential", '{ kind = "torchscript", path = "cu.pt" }'], 2, "cu.pt: no such file"),
        (["energy", "cu.extxyz", "--potential", "{ cutoff = 2 }"], 2, 'needs path = "FILE" or kind = "KIND"'),
        (["energy", "cu.extxyz", "--potential", "Si"], 2, "knows Si; cu.extxyz@0 has Cu"),
        (["energy", "cu.extxyz", "--potential", "Cu", "--out", "e.cif"], 2, "ending .extxyz"),
        (["energy", "cu.extxyz", "--potential", "Cu", "--out", "cu.extxyz"], 4, "exists already"),
        (["relax", "cluster.xyz", "--potential", "Cu", "--out", "r.extxyz", "--cell"], 2, "periodic in all three"),
        (["relax", "cu.extxyz", "--potential", "Cu", "--out", "r.extxyz", "--pressure", "1 bar"], 2, "Give --cell too"),
        (["relax", "cu.extxyz", "--potential", "Cu", "--out", "r.extxyz", "--max-force", "1 eV"], 2, "--max-force"),
        (["energy", "cu.extxyz", "--potential", "committee", "--options", '{"members": ["Cu"]}'], 2, "two potentials"),
    ],
)
def test_mistakes_are_told(here: Path, arguments: list[str], code: int, message: str) -> None:
    answer = mlmd(*arguments)
    assert answer.code == code
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_a_committee_may_stand_in_an_input(here: Path) -> None:
    (here / "in.toml").write_text(
        'structure = "cu.extxyz@0"\nsupercell = [2, 2, 2]\ntimestep = "2 fs"\nseed = 1\n'
        f'potential = {{ kind = "committee", members = ["Cu", {{ kind = "ase", calculator = "ase.calculators.emt:EMT", '
        f'python = "{sys.executable}" }}] }}\n[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "10 fs"\n'
    )
    assert mlmd("simulate", "in.toml").code == 0
    manifest = json.loads((here / "in.run" / "run.json").read_text())
    assert manifest["files"]["potential: member 1"]["path"].endswith("Cu.mlmd")
    assert len(manifest["models"]) == 1
    (here / "in.toml").write_text((here / "in.toml").read_text().replace('"Cu"', '"Cux.mlmd"'))
    answer = mlmd("check", "in.toml")
    assert answer.code == 2
    assert "members" in answer.err and "Cux.mlmd: no such file" in answer.err
