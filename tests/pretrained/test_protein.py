"""Inputs of proteins by ANI: a whole one, and a region of it in a force field with metadynamics."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import ase.io
import mdtraj
import numpy as np
import openmm
import pytest
from elsewhere import own_answers, python_of
from openmm import app, unit
from runs import read_log
from test_ani import OWN

from mlmd.config import load_simulate
from mlmd.engine.job import prepare
from mlmd.engine.run import simulate
from mlmd.units import EV_PER_KJMOL

openmmml = pytest.importorskip("openmmml")

INPUTS = Path(__file__).parents[2] / "inputs"


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """The inputs as a user has them, with data and environment in place."""
    python = Path(python_of("ani"))
    for name in ("protein.toml", "alanine.toml", "alanine.pdb", "alanine.dat"):
        shutil.copy(INPUTS / name, tmp_path)
    (tmp_path / "data").symlink_to(shared)
    (tmp_path / "envs").symlink_to(python.parents[2])
    with tarfile.open(shared / "models_ani" / "ani-1x_8x.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    return tmp_path


def shortened(path: Path, *changes: tuple[str, str]) -> Path:
    """The input with other values."""
    text = path.read_text()
    for old, new in changes:
        assert len(re.findall(re.escape(old), text)) == 1
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_chignolin_has_the_energies_of_torchani_and_the_structure_that_mdtraj_sees(folder: Path) -> None:
    path = shortened(
        folder / "protein.toml", ("max_steps = 100", "max_steps = 3"), ('"20 ps"', '"2 fs"'),
        ('trajectory_every = "100 fs"', 'trajectory_every = "1 fs"'), ('log_every = "50 fs"', 'log_every = "1 fs"'),
    )  # fmt: skip
    run = simulate(path, folder / "run")
    last = ase.io.read(run.path / "final.extxyz")
    (expected,) = own_answers(python_of("ani"), OWN.format(folder=str(folder / "resources/ani-1x_8x")), [last], folder)
    job = prepare(load_simulate(path))
    found = job.evaluator("cpu", {}).evaluate(last.positions, last.cell.array)
    assert found.energy == pytest.approx(expected.energy, abs=1e-6)
    assert np.abs(found.forces - expected.forces).max() < 1e-6
    assert read_log(run)["potential energy"][-1] == pytest.approx(
        expected.energy, abs=1e-4
    )  # ten digits of -127,000 eV

    frames = mdtraj.load(str(run.trajectory), top=str(run.path / "topology.pdb"))
    file = mdtraj.load(str(folder / "data/protein_pdbs/chig.pdb"))
    assert [str(residue) for residue in frames.topology.residues] == [str(one) for one in file.topology.residues]
    assert mdtraj.compute_dssp(frames)[-1].tolist() == mdtraj.compute_dssp(file)[0].tolist()
    moved = last.positions - file.xyz[0] * 10.0  # in so few steps the protein has not turned
    alpha = frames.topology.select("name CA")
    apart = float(np.sqrt((moved[alpha] ** 2).sum(axis=1).mean())) / 10.0
    assert 0.0 < mdtraj.rmsd(frames, file, atom_indices=alpha)[-1] <= apart * 1.001


def test_alanine_by_ani_in_water_has_the_energy_of_a_script_of_openmm_ml_and_deposits_hills(folder: Path) -> None:
    path = shortened(
        folder / "alanine.toml", ("max_steps = 200", "max_steps = 3"), ('"20 ps"', '"26 fs"'), ('"1 ns"', '"8 fs"'),
        ('trajectory_every = "1 ps"', 'trajectory_every = "4 fs"'), ('log_every = "100 fs"', 'log_every = "1 fs"'),
    )  # fmt: skip
    shortened(folder / "alanine.dat", ("PACE=250", "PACE=4"), ("STRIDE=100", "STRIDE=2"))
    run = simulate(path, folder / "run")
    hills, colvar = (np.loadtxt(run.path / name, ndmin=2) for name in ("HILLS", "COLVAR"))
    assert len(hills) == 2 and len(colvar) == 5
    frames = mdtraj.load(str(run.trajectory), top=str(run.path / "topology.pdb"))
    for column, angles in ((1, mdtraj.compute_phi(frames)[1]), (2, mdtraj.compute_psi(frames)[1])):
        assert colvar[-1, column] == pytest.approx(float(angles[-1, 0]), abs=1e-4)
    last = ase.io.read(run.path / "final.extxyz")

    file = app.PDBFile(str(folder / "alanine.pdb"))
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    system = field.createSystem(file.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer)
    potential = openmmml.MLPotential(
        "mlmd", kind="ani", path=str(folder / "resources/ani-1x_8x.info"), python=python_of("ani"), device="cpu"
    )
    mixed = potential.createMixedSystem(file.topology, system, range(22), mlLongRange=False)
    context = openmm.Context(mixed, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPeriodicBoxVectors(*(last.cell.array / 10.0))
    context.setPositions(last.positions / 10.0)
    expected = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * EV_PER_KJMOL
    given = {"force field": {"openmm": "Reference", "properties": {}}}
    found = prepare(load_simulate(path)).evaluator("cpu", given).evaluate(last.positions, last.cell.array)
    assert found.energy == pytest.approx(expected, abs=1e-6)
    # in the run the force field is in single precision
    assert read_log(run)["potential energy"][-1] == pytest.approx(expected, abs=2e-3)
