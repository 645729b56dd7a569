"""OpenMM-ML in its own environment, with potentials that a package adds to those it knows."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from elsewhere import assert_extensive, assert_forces_are_derivatives, assert_runs, evaluate, python_of

from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.external import External
from mlmd.pretrained.openmmml import load, reduced

DEPTH, WIDTH = 0.4, 1.3
"""eV and Å of pairs that repel by ``DEPTH * exp(-r² / WIDTH²)``."""
ADDED = """
import functools
import numpy as np
import openmm
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

class Pairs(MLPotentialImpl):
    def __init__(self, depth):
        self.depth = depth

    def addForces(self, topology, system, atoms, forceGroup):
        force = openmm.CustomNonbondedForce("depth * exp(-(r / 0.13)^2)")
        force.addGlobalParameter("depth", self.depth * 96.48533212331)
        periodic = topology.getPeriodicBoxVectors() is not None
        force.setNonbondedMethod(force.CutoffPeriodic if periodic else force.NoCutoff)
        force.setCutoffDistance(0.59)
        for _ in topology.atoms():
            force.addParticle([])
        system.addForce(force)

class PairsFactory(MLPotentialImplFactory):
    def createImpl(self, name, depth=0.4):
        return Pairs(depth)

def springs(state, per_nm):
    from openmm import unit
    x = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    return 500.0 * (x ** 2).sum(), -1000.0 * x * per_nm

class Springs(MLPotentialImpl):
    def __init__(self, name):
        self.per_nm = {"springs": 1, "wrong": 0.1}[name]  # of Å, where nm are meant

    def addForces(self, topology, system, atoms, forceGroup, **args):
        system.addForce(openmm.PythonForce(functools.partial(springs, per_nm=self.per_nm)))

class SpringsFactory(MLPotentialImplFactory):
    def createImpl(self, name, **args):
        return Springs(name)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment upon that of OpenMM-ML, with a package that adds two potentials."""
    below, folder = python_of("openmmml"), tmp_path_factory.mktemp("openmmml")
    subprocess.run([below, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    (found,) = subprocess.run([below, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    python = str(folder / "env" / "bin" / "python")
    (own,) = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    (Path(own) / "below.pth").write_text(f"{found}\n")
    (Path(own) / "added.py").write_text(ADDED)
    (Path(own) / "added-1.dist-info").mkdir()
    (Path(own) / "added-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1\n")
    (Path(own) / "added-1.dist-info" / "entry_points.txt").write_text(
        "[openmmml.potentials]\n"
        "pairs = added:PairsFactory\nsprings = added:SpringsFactory\nwrong = added:SpringsFactory\n"
    )
    return python


@pytest.fixture(scope="module")
def pairs(python: str) -> External:
    return load(name="pairs", python=python)


def fluid(pbc: bool = True) -> Atoms:
    """In a cell that is neither in OpenMM's orientation nor in its reduced form."""
    generator = np.random.default_rng(3)
    cell = np.array([[13.0, 0.2, -0.4], [9.5, 13.2, 0.3], [-11.0, 8.0, 12.9]])
    grid = np.array(list(itertools.product(range(4), repeat=3))) / 4
    atoms = Atoms(["Ar"] * 64, scaled_positions=grid, cell=cell, pbc=True)
    atoms.positions += generator.uniform(-0.8, 0.8, (64, 3))
    atoms.rotate(50, (1, -2, 0.5), rotate_cell=True)
    atoms.pbc = pbc
    return atoms


def by_hand(atoms: Atoms, depth: float = DEPTH) -> tuple[float, np.ndarray]:
    """Energy and forces by a sum over images."""
    energy, forces = 0.0, np.zeros((len(atoms), 3))
    for image in itertools.product(range(-3, 4), repeat=3) if atoms.pbc.all() else [(0, 0, 0)]:
        away = atoms.positions[None] + image @ atoms.cell.array - atoms.positions[:, None]
        squared = (away**2).sum(-1)
        one = np.where((squared > 1e-9) & ((squared < 5.9**2) | (not atoms.pbc.all())), 1.0, 0.0)
        one *= depth * np.exp(-squared / WIDTH**2)
        energy += 0.5 * one.sum()
        forces -= (2 * one[..., None] * away / WIDTH**2).sum(1)
    return energy, forces


@pytest.mark.parametrize("pbc", [True, False])
def test_energy_and_forces_in_any_cell_and_in_the_open(pairs: External, pbc: bool) -> None:
    energy, forces = by_hand(fluid(pbc))
    found = evaluate(pairs, fluid(pbc))
    assert np.abs(forces).max() > 0.05
    assert found.energy == pytest.approx(energy, rel=3e-6)  # OpenMM has these pairs in single precision
    assert found.forces == pytest.approx(forces, abs=3e-6)
    assert np.isnan(found.virial).all() if pbc else np.isfinite(found.virial).all()
    assert not pairs.has_stress


def test_numbers_pass_in_double_precision(python: str) -> None:
    """Springs to the origin: 500 kJ/mol for each nm²."""
    springs = load(name="springs", python=python)
    atoms = fluid(False)
    found = evaluate(springs, atoms)
    stiffness = 10.0 / 96.48533212331
    assert found.energy == pytest.approx(0.5 * stiffness * (atoms.positions**2).sum(), rel=1e-12)
    assert found.forces == pytest.approx(-stiffness * atoms.positions, rel=1e-12)


def test_forces_are_derivatives_and_energies_add_up(pairs: External) -> None:
    assert_forces_are_derivatives(pairs, fluid(), step=1e-2, close=1e-4)
    for repeat in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        assert_extensive(pairs, fluid(), repeat)


def test_arguments_reach_the_potential(python: str) -> None:
    stronger = load(name="pairs", arguments={"depth": 0.6}, python=python)
    assert evaluate(stronger, fluid()).energy == pytest.approx(by_hand(fluid(), 0.6)[0], rel=3e-6)
    assert stronger.facts["versions"].keys() >= {"openmmml", "openmm"}


def test_it_runs(tmp_path: Path, python: str) -> None:
    assert_runs(tmp_path, fluid(), f'{{ kind = "openmmml", name = "pairs", python = "{python}" }}', npt=False)


@pytest.mark.parametrize("seed", range(6))
def test_cells_of_openmm(seed: int) -> None:
    """The same lattice turned, with vectors of the form that OpenMM asks for; left-handed cells too."""
    cell = np.random.default_rng(seed).normal(size=(3, 3)) * 10
    vectors, rotation = reduced(cell)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12) and np.linalg.det(rotation) > 0
    whole = vectors @ np.linalg.inv(cell @ rotation)
    assert whole == pytest.approx(np.round(whole), abs=1e-9)
    assert abs(np.linalg.det(whole)) == pytest.approx(1)
    assert np.triu(vectors, 1) == pytest.approx(np.zeros((3, 3)))
    (ax, _, _), (bx, by, _), (cx, cy, cz) = vectors
    assert min(ax, by, cz) > 0
    assert max(abs(bx) / ax, abs(cx) / ax, abs(cy) / by) <= 0.5 + 1e-9


def test_forces_that_are_not_of_the_energy_are_refused(python: str) -> None:
    """As those of ANI are in OpenMM-ML 1.8."""
    wrong = load(name="wrong", python=python)
    with pytest.raises(SimulationError, match=r"the energy of 'wrong' falls 10 times as much along its forces"):
        evaluate(wrong, fluid(False))


def test_what_is_periodic_in_some_directions_is_refused(pairs: External) -> None:
    slab = fluid()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="periodic in all directions, or in none"):
        evaluate(pairs, slab)


def test_names_and_arguments_that_are_wrong(python: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"OpenMM-ML has no potential 'pears'. Is it one of pairs"):
        load(name="pears", python=python)
    model = tmp_path / "a.model"
    model.write_bytes(b"numbers")
    with pytest.raises(ModelError, match="a model for OpenMM-ML may execute code"):
        load(name="mace", arguments={"modelPath": str(model)}, python=python)
    with pytest.raises(InputError, match="arguments: 'a' is not a table"):
        load(name="pairs", arguments="a", python=python)  # type: ignore[arg-type]
