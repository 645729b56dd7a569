"""The inputs that come with mlmd: each is complete, valid, and describes what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from command_line import mlmd

from mlmd import config
from mlmd.analysis.abf import read_tables
from mlmd.config.replicas import load_replicas
from mlmd.io.labelled import read_labelled
from mlmd.io.structures import read_structure
from mlmd.units import DENSITY

INPUTS = Path(__file__).parents[1] / "inputs"
STUDENT = INPUTS / "li3ycl6_student"
TRAININGS = sorted(INPUTS.glob("train_*.toml"))
OWN = ["quickstart.toml", "argon.toml", "heat_flow.toml", "metadynamics.toml", "eabf.toml", "deposit_copper.toml"]
PUBLISHED = ["li3ycl6.toml", "npt_copper.toml"]
PROTEINS = ["protein.toml", "alanine.toml"]
"""Run by `tests/pretrained/test_protein.py`, with the environment that they need."""


def density(path: Path) -> float:
    """g/cm³ of a structure file."""
    atoms = read_structure(path)
    return float(atoms.get_masses().sum() / atoms.get_volume() * DENSITY)


def test_the_list_of_inputs_is_complete() -> None:
    simulations = {path for path in INPUTS.glob("*.toml") if path not in TRAININGS}
    assert sorted(path.name for path in simulations) == sorted([*OWN, *PUBLISHED, *PROTEINS, "replicas.toml"])


def test_the_input_of_replicas_is_understood_and_has_a_run_for_each_temperature() -> None:
    temperatures = [one.config.stage[-1].temperature for one in load_replicas(INPUTS / "replicas.toml")]
    assert temperatures == [(600.0, 600.0)] * 2 + [(700.0, 700.0)] * 2 + [(800.0, 800.0)] * 2


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.stem)
def test_every_training_says_what_its_potential_is_made_of(path: Path) -> None:
    card = config.load_train(path).card
    assert card.name.lower() == path.stem.removeprefix("train_")
    assert card.source and card.licence and card.citation


@pytest.mark.parametrize("name", OWN + PUBLISHED)
def test_every_input_is_understood_and_its_structure_is_sound(name: str) -> None:
    run = config.load_simulate(INPUTS / name)
    assert len(read_structure(run.structure, run.supercell)) > 0
    assert run.seed is not None


def test_the_inputs_of_proteins_are_understood_and_alanine_is_dense_water() -> None:
    for name in PROTEINS:
        run = config.load_simulate(INPUTS / name)
        assert run.potential[0].kind == "ani" and run.seed is not None
    assert density(INPUTS / "alanine.pdb") == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("path", sorted(STUDENT.glob("*.toml")), ids=lambda path: path.stem)
def test_every_run_of_the_student_does_what_its_name_says(path: Path) -> None:
    run = config.load_simulate(path)
    assert len(read_structure(run.structure, run.supercell)) in (60, 120)
    assert run.stage[-1].temperature[1] == float(path.stem.split("_")[1])


def test_unseen_runs_begin_differently_from_those_of_the_training() -> None:
    seen, unseen = (
        [config.load_simulate(path) for path in STUDENT.glob("*.toml") if path.stem.startswith("unseen") == held]
        for held in (False, True)
    )
    assert unseen
    assert not {run.seed for run in seen} & {run.seed for run in unseen}


def test_close_pairs_are_frames_in_which_two_atoms_alone_have_moved_towards_each_other(tmp_path: Path) -> None:
    frames = [read_structure(INPUTS / "li3ycl6.cif", (1, 1, 2)) for _ in range(12)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
    ase.io.write(tmp_path / "frames.extxyz", frames)
    script = [sys.executable, STUDENT / "close.py", tmp_path / "frames.extxyz", tmp_path / "close.extxyz"]
    subprocess.run(script, check=True)
    made, originals = (ase.io.read(tmp_path / f"{name}.extxyz", index=":") for name in ("close", "frames"))
    assert len(made) == 50
    kinds = [("Li", "Li"), ("Li", "Y"), ("Li", "Cl"), ("Cl", "Cl"), ("Y", "Y")]
    for number, one in enumerate(made):
        changes = [np.abs(other.positions - one.positions).max(axis=1) > 1e-6 for other in originals]
        before, changed = min(zip(originals, changes, strict=True), key=lambda other: other[1].sum())
        moved = np.flatnonzero(changed)
        assert len(moved) == 2 and sorted(one.symbols[moved]) == sorted(kinds[number // 10])
        assert 1.5 < one.get_distance(*moved, mic=True) < before.get_distance(*moved, mic=True)
        middle = one.positions[moved].mean(axis=0)
        assert middle == pytest.approx(before.positions[moved].mean(axis=0), abs=1e-6)


@pytest.mark.parametrize("name", OWN)
def test_check_accepts_the_inputs_that_need_no_other_files(name: str) -> None:
    answer = mlmd("check", INPUTS / name)
    assert (answer.code, answer.err) == (0, "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_check_accepts_the_inputs_of_published_potentials(name: str, shared: Path, tmp_path: Path) -> None:
    for file in INPUTS.glob("*.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "data").symlink_to(shared)
    answer = mlmd("check", tmp_path / name, "--json")
    assert answer.code == 0
    (entry,) = json.loads(answer.out)["inputs"]
    assert entry["max_force_eV_per_A"] < 0.05  # eV/Å: the structures are relaxed, or perfect crystals


def test_a_published_potential_that_is_absent_is_an_input_error(tmp_path: Path) -> None:
    for file in INPUTS.glob("*.*"):
        shutil.copy(file, tmp_path)
    answer = mlmd("check", tmp_path / "npt_copper.toml")
    assert answer.code == 2
    assert "fitted.mtp" in answer.err


def test_structures_of_mlearn_are_written_with_their_labels(tmp_path: Path) -> None:
    site = {"species": [{"element": "Cu", "occu": 1}], "abc": [0.0, 0.0, 0.25], "xyz": [0.0, 0.0, 0.9]}
    structure = {"lattice": {"matrix": [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]]}, "sites": [site]}
    outputs = {"energy": -3.7, "forces": [[0.1, 0.2, 0.3]], "virial_stress": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}  # kB
    for element in ("Cu", "Li", "Ni", "Si"):
        folder = tmp_path / "mlearn" / "data" / element
        folder.mkdir(parents=True)
        for name in ("training", "test"):
            entry = {"structure": structure, "outputs": outputs, "group": f"{element} {name}"}
            (folder / f"{name}.json").write_text(json.dumps([entry]))
    command = [sys.executable, INPUTS / "mlearn.py", tmp_path / "mlearn", "--out", tmp_path / "out"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert len(list((tmp_path / "out").iterdir())) == 8
    (frame,) = read_labelled(tmp_path / "out" / "Ni_test.xyz.xz")
    assert (frame.energy, frame.group) == (-3.7, "Ni test")
    assert frame.forces is not None and frame.stress is not None
    np.testing.assert_allclose(frame.forces, [[0.1, 0.2, 0.3]])
    np.testing.assert_allclose(frame.atoms.positions, [[0.0, 0.0, 0.9]])
    kilobar = 6.241509e-4  # eV/Å³; VASP says pressures, and xy, yz, zx
    np.testing.assert_allclose(frame.stress, -kilobar * np.array([[1, 4, 6], [4, 2, 5], [6, 5, 3]]), rtol=1e-6)


def test_argon_has_the_density_of_rahmans_liquid() -> None:
    assert density(INPUTS / "argon.extxyz") == pytest.approx(1.374, abs=5e-4)


def test_copper_has_its_density_at_room_temperature() -> None:
    assert density(INPUTS / "copper.extxyz") == pytest.approx(8.94, abs=0.02)


def test_lithium_and_yttrium_stand_in_octahedra_of_chlorine() -> None:
    atoms = read_structure(INPUTS / "li3ycl6.cif", (1, 1, 2))
    assert atoms.get_chemical_formula("metal") == "Li18Y6Cl36"
    distances = np.sort(atoms.get_all_distances(mic=True)[:, atoms.numbers == 17], axis=1)
    lithium, yttrium = distances[atoms.numbers == 3], distances[atoms.numbers == 39]
    # the sums of ionic radii (Shannon) are 2.57 and 2.71 Å; the seventh neighbour is far beyond the sixth
    assert ((yttrium[:, :6] > 2.55) & (yttrium[:, :6] < 2.75)).all()
    assert ((lithium[:, :6] > 2.4) & (lithium[:, :6] < 2.8)).all()
    assert (distances[atoms.numbers != 17][:, 6] > 4.0).all()


def shortened(name: str, folder: Path, *durations: tuple[str, str]) -> list[dict[str, Any]]:
    """Results of an input of ours with other durations, which has written its report into `folder`/short.run."""
    for file in INPUTS.glob("*.*"):
        shutil.copy(file, folder)
    text = (INPUTS / name).read_text()
    for long, short in durations:
        assert f'"{long}"' in text
        text = text.replace(f'"{long}"', f'"{short}"')
    (folder / "short.toml").write_text(text)
    answer = mlmd("simulate", folder / "short.toml", "--out", folder / "short.run", "--json")
    assert answer.code == 0, answer.err
    assert "</html>" in (folder / "short.run" / "report.html").read_text()
    results: list[dict[str, Any]] = json.loads(answer.out)["results"]
    return results


def test_the_quickstart_runs_to_its_report(tmp_path: Path) -> None:
    found = shortened("quickstart.toml", tmp_path, ("3 ps", "0.3 ps"), ("48 ps", "1.2 ps"))
    assert [one["analysis"] for one in found] == ["diffusion", "rdf"]


@pytest.mark.slow
def test_the_quickstart_finds_lithium_that_moves_in_a_lattice_that_stays(tmp_path: Path) -> None:
    diffusion, rdf = shortened("quickstart.toml", tmp_path)
    lithium = diffusion["elements"]["Li"]["D"]
    # 36 ions in 48 ps give a tenth; other runs of 120 and 240 atoms have 3.3e-5 to 4.0e-5 cm²/s
    assert lithium["error"] < 0.25 * lithium["value"]
    assert 2e-5 < lithium["value"] < 7e-5
    assert 0.4 < diffusion["conductivity"]["value"] < 2.0
    assert rdf["pairs"]["Y-Cl"]["first_shell"]["value"] == pytest.approx(6, abs=0.1)  # octahedra, as in the crystal
    ((digits, error),) = re.findall(r"D\(Li\) = ([\d.]+)\((\d+)\)e-05 cm²/s", (INPUTS.parent / "README.md").read_text())
    unit = 10.0 ** -len(digits.partition(".")[2])
    # on another machine it is another trajectory; four standard errors of the difference
    allowed = 4 * np.hypot(1e5 * lithium["error"], unit * float(error))
    assert 1e5 * lithium["value"] == pytest.approx(float(digits), abs=allowed)


def test_argon_runs_to_its_report(tmp_path: Path) -> None:
    assert len(shortened("argon.toml", tmp_path, ("10 ps", "0.2 ps"), ("60 ps", "4 ps"))) == 2


def test_the_metadynamics_input_deposits_hills(tmp_path: Path) -> None:
    for file in INPUTS.glob("*.*"):
        shutil.copy(file, tmp_path)
    text = (INPUTS / "metadynamics.toml").read_text().replace('"1 ns"', '"10 ps"')
    (tmp_path / "metadynamics.toml").write_text(text)
    answer = mlmd("simulate", tmp_path / "metadynamics.toml", "--out", tmp_path / "m.run", "--quiet")
    assert answer.code == 0, answer.err
    hills = [line for line in (tmp_path / "m.run" / "HILLS").read_text().splitlines() if not line.startswith("#")]
    assert len(hills) == 4  # 1,000 steps, one hill every 250, none at step 0


def test_the_input_of_an_adaptive_force_finds_the_well_of_a_dimer(tmp_path: Path) -> None:
    for file in INPUTS.glob("*.*"):
        shutil.copy(file, tmp_path)
    text = (INPUTS / "eabf.toml").read_text().replace('"2 ns"', '"30 ps"')
    (tmp_path / "eabf.toml").write_text(text)
    answer = mlmd("simulate", tmp_path / "eabf.toml", "--out", tmp_path / "e.run", "--quiet")
    assert answer.code == 0, answer.err
    (found,) = read_tables(tmp_path / "e.run" / "abf.dat")
    assert found.samples.sum() > 1000
    assert np.nanargmin(found.free_energy) == pytest.approx(6, abs=3)  # near 2^(1/6) σ = 3.82 Å
    assert (tmp_path / "e.run" / "COLVAR").exists()
