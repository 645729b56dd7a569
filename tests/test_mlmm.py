"""A region by a potential inside a force field of OpenMM; the oracle is a script of OpenMM-ML."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import ase.io
import mdtraj
import numpy as np
import openmm
import pytest
from averages import mean, variance
from openmm import app, unit
from runs import assert_same_run, read_log, run_in_parts

from mlmd.config import load_simulate
from mlmd.engine.barostat import Barostat, Molecules
from mlmd.engine.forcefield import SHIPPED, shipped
from mlmd.engine.forces import Forces
from mlmd.engine.job import Job, prepare
from mlmd.engine.mixed import MLMM_COLUMNS
from mlmd.engine.run import simulate
from mlmd.errors import InputError, ModelError
from mlmd.potentials import Evaluation
from mlmd.units import EV_PER_KJMOL, KB

openmmml = pytest.importorskip("openmmml")

INPUTS = Path(__file__).parents[1] / "inputs"
MORSE = {"kind": "morse", "depth": "2 eV", "width": "1.5 Å", "r0": "1.3 Å", "cutoff": "5 Å"}
"""It holds the region together; what it says of chemistry does not matter here."""
TABLE = "{ " + ", ".join(f'{key} = "{value}"' for key, value in MORSE.items()) + " }"
AMBER = ["amber14-all.xml", "amber14/tip3p.xml"]
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "20 fs"\n'


def molecule(folder: Path) -> Path:
    """Alanine dipeptide alone, without a cell."""
    lines = [line for line in (INPUTS / "alanine.pdb").read_text().splitlines() if line[17:20] in ("ACE", "ALA", "NME")]
    (folder / "molecule.pdb").write_text("\n".join([*lines, "END", ""]))
    return folder / "molecule.pdb"


def box(folder: Path) -> Path:
    """Alanine dipeptide in water."""
    shutil.copy(INPUTS / "alanine.pdb", folder / "box.pdb")
    return folder / "box.pdb"


def written(
    folder: Path, structure: Path, stages: str = NVT, *, more: str = "", top: str = "", potential: str = TABLE,
    region: str = '"resname ALA"', forcefield: list[str] = AMBER,
) -> Path:  # fmt: skip
    """An input; steps are 0.5 fs and the log has every second one."""
    path = folder / "input.toml"
    path.write_text(
        f'structure = "{structure.name}"\npotential = {potential}\ntimestep = "0.5 fs"\nseed = 1\n{top}\n{stages}\n'
        f"[mlmm]\nregion = {region}\nforcefield = {forcefield}\n{more}\n"
        '[output]\nlog_every = "1 fs"\ntrajectory_every = "2 fs"\n'
    )
    return path


def job_of(*arguments: Any, **options: Any) -> Job:
    return prepare(load_simulate(written(*arguments, **options)))


def asked(job: Job, positions: np.ndarray, platform: str = "Reference") -> Evaluation:
    given = {"force field": {"openmm": platform, "properties": {}}}
    return job.evaluator("cpu", given).evaluate(positions, job.atoms.cell.array)


def of_openmm_ml(
    path: Path, region: str, forcefield: list[str], **options: Any
) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy (eV), forces (n, 3) eV/Å and positions (n, 3) Å, with constraints fulfilled, by OpenMM and OpenMM-ML."""
    file = app.PDBFile(str(path))
    field = app.ForceField(*forcefield)
    modeller = app.Modeller(file.topology, file.positions)
    if "tip4pew" in forcefield[-1]:
        modeller.addExtraParticles(field)
        system = field.createSystem(modeller.topology, removeCMMotion=False, **options)
        for atom in modeller.topology.atoms():  # OpenMM-ML 1.8 asks for the element of everything
            atom.element = atom.element or app.element.helium
    else:
        system = field.createSystem(modeller.topology, removeCMMotion=False, **options)
    chosen = mdtraj.Topology.from_openmm(modeller.topology).select(region)
    potential = openmmml.MLPotential("mlmd", **MORSE)
    mixed = potential.createMixedSystem(modeller.topology, system, [int(n) for n in chosen], mlLongRange=False)
    context = openmm.Context(mixed, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    sites = mixed.getNumParticles() - modeller.topology.getNumAtoms()
    places = np.array(modeller.positions.value_in_unit(unit.nanometer))
    context.setPositions(np.concatenate([places, np.zeros((sites, 3))]))
    context.applyConstraints(1e-10)
    context.computeVirtualSites()
    state = context.getState(energy=True, forces=True, positions=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * EV_PER_KJMOL
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom) * EV_PER_KJMOL
    real = [n for n in range(mixed.getNumParticles()) if not mixed.isVirtualSite(n)]
    return energy, forces[real], state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)[real]


BOX = {"nonbondedMethod": app.PME, "nonbondedCutoff": 0.9 * unit.nanometer}
CASES: dict[str, tuple[Any, str, list[str], dict[str, Any], str]] = {
    "cut bonds, open space": (molecule, "resname ALA", AMBER, {}, ""),
    "bonds of hydrogen fixed": (
        molecule, "resname NME", AMBER, {"constraints": app.HBonds}, 'constraints = "hydrogens"',
    ),
    "in water": (box, "not water", AMBER, BOX, 'cutoff = "9 Å"'),
    "in water with cut bonds": (box, "resname ACE and name CH3 H1 H2 H3", AMBER, BOX, 'cutoff = "9 Å"'),
    "reaction field": (
        box, "not water", AMBER, {**BOX, "nonbondedMethod": app.CutoffPeriodic}, 'cutoff = "9 Å"\nnonbonded = "cutoff"',
    ),
    "in water of four sites": (
        box, "not water", ["amber14-all.xml", "amber14/tip4pew.xml"], BOX, 'cutoff = "9 Å"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_energy_and_forces_are_those_of_a_script_of_openmm_ml(name: str, tmp_path: Path) -> None:
    """In double precision: to rounding, and to the tolerance of the constraints, whose bonds have an energy here."""
    make, region, forcefield, options, more = CASES[name]
    path = make(tmp_path)
    energy, forces, positions = of_openmm_ml(path, region, forcefield, **options)
    job = job_of(tmp_path, path, region=f'"{region}"', forcefield=forcefield, more=more)
    found = asked(job, positions)
    assert len(job.atoms) == len(positions)
    assert found.energy == pytest.approx(energy, abs=1e-7)
    # a bond of fixed length that is off by 1e-10 of it pulls with 1e-6 eV/Å
    assert np.abs(found.forces - forces).max() < 1e-5
    assert found.parts is not None
    assert sum(found.parts.values()) == pytest.approx(found.energy, rel=1e-14)
    assert abs(found.parts["ML energy [eV]"]) > 1.0


def test_forces_are_the_gradient_of_the_energy_across_cut_bonds(tmp_path: Path) -> None:
    """Also where hydrogens that cap cut bonds hand on their forces; central differences, error ∝ step²."""
    job = job_of(tmp_path, molecule(tmp_path))
    assert job.mixed is not None and job.mixed.n_caps == 2
    positions, direction = job.atoms.positions, np.random.default_rng(1).normal(size=job.atoms.positions.shape)
    step = 1e-4 / np.linalg.norm(direction)
    ahead, behind = (asked(job, positions + sign * step * direction).energy for sign in (1, -1))
    along = float(np.vdot(asked(job, positions).forces, direction))
    assert along == pytest.approx((behind - ahead) / (2 * step), rel=1e-5)


def test_a_cell_in_another_orientation_gives_the_same_energy(tmp_path: Path) -> None:
    job = job_of(tmp_path, box(tmp_path), region='"not water"', more='cutoff = "9 Å"')
    given = {"force field": {"openmm": "Reference", "properties": {}}}
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    one = job.evaluator("cpu", given).evaluate(job.atoms.positions, job.atoms.cell.array)
    other = job.evaluator("cpu", given).evaluate(job.atoms.positions @ turn, job.atoms.cell.array @ turn)
    assert other.energy == pytest.approx(one.energy, abs=1e-9)
    np.testing.assert_allclose(other.forces, one.forces @ turn, atol=1e-8)


PLUMED = """phi: TORSION ATOMS=2,7,8,9
psi: TORSION ATOMS=7,8,9,17
METAD ARG=phi,psi SIGMA=0.35,0.35 HEIGHT=1.2 PACE=10 BIASFACTOR=6 TEMP=300 GRID_MIN=-pi,-pi GRID_MAX=pi,pi FILE=HILLS
PRINT ARG=phi,psi STRIDE=4 FILE=COLVAR
"""


def lines_of(path: Path) -> list[str]:
    """The lines of a file of PLUMED's without those that it writes again whenever it opens the file."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_a_run_in_parts_is_the_run_in_one(tmp_path: Path) -> None:
    """Minimization, NPT and metadynamics of a box of rigid water with a region, byte for byte."""
    (tmp_path / "metad.dat").write_text(PLUMED)
    stages = (
        '[[stage]]\nkind = "minimize"\nmax_steps = 5\n'
        '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "10 fs"\nbarostat.every = 4\n'
        '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "20 fs"\nplumed = "metad.dat"\n'
    )
    more = 'cutoff = "9 Å"\n[guard]\nenabled = false'  # the region has not come to rest
    path = written(tmp_path, box(tmp_path), stages, region='"not water"', more=more)
    whole = simulate(path, tmp_path / "whole")
    run_in_parts(path, tmp_path / "parts", [6, 14, 26, 48])
    assert_same_run(whole.path, tmp_path / "parts")
    for name, n_lines in (("HILLS", 4), ("COLVAR", 11)):
        assert lines_of(whole.path / name) == lines_of(tmp_path / "parts" / name)
        assert len(lines_of(whole.path / name)) == n_lines
    log = read_log(whole)
    assert len(set(log["volume"][log["stage"] == 2])) > 1
    np.testing.assert_allclose(log["ML energy"] + log["MM energy"], log["potential energy"], rtol=1e-9)
    assert "statistically" not in (tmp_path / "parts" / "messages.log").read_text()


def test_a_force_field_on_more_threads_is_told_to_continue_statistically(tmp_path: Path) -> None:
    """At the begin, when another choice costs nothing, and when the run goes on."""
    path = written(tmp_path, molecule(tmp_path), more="[guard]\nenabled = false")
    run_in_parts(path, tmp_path / "run", [20], threads=2)
    assert (tmp_path / "run" / "messages.log").read_text().count("by 2 threads, which add numbers in an order") == 2


def test_rigid_water_stays_rigid_and_has_the_temperature_of_what_can_move(tmp_path: Path) -> None:
    """At every frame, to single precision; and of 3N - 3 - 3 · 339 degrees of freedom, whose spread is 3 %."""
    stages = (
        '[[stage]]\nkind = "npt"\ntemperature = "300 K"\npressure = "1 bar"\nduration = "20 fs"\nbarostat.every = 4\n'
    )
    path = written(tmp_path, box(tmp_path), stages, region='"not water"', more='cutoff = "9 Å"')
    run = simulate(path, tmp_path / "run")
    frames = mdtraj.load(str(run.trajectory), top=str(run.path / "topology.pdb"))
    oxygen = frames.topology.select("water and name O")
    hydrogen = frames.topology.select("water and name H1"), frames.topology.select("water and name H2")
    for pairs, length in (((oxygen, hydrogen[0]), 0.09572), (hydrogen, 0.15139)):
        found = mdtraj.compute_distances(frames, np.transpose(pairs), periodic=False)
        np.testing.assert_allclose(found, length, atol=2e-6)
    assert abs(read_log(run)["temperature"][0] / 300.0 - 1.0) < 4 * np.sqrt(2.0 / (3 * 1039 - 3 - 3 * 339))


def test_volume_moves_carry_molecules_along_as_they_are() -> None:
    """p(V) ∝ V^N exp(-PV/kT) for N molecules without interactions: mean (N + 1) kT/P, variance (N + 1) (kT/P)²."""

    class Nothing:
        def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
            return Evaluation(0.0, np.zeros_like(positions), np.zeros((3, 3)))

    n, kt = 20, 300.0 * KB
    pressure = 21 * kt / 1000.0
    positions = np.random.default_rng(2).random((3 * n, 3))
    molecules = Molecules(np.arange(3 * n) % n, np.tile([16.0, 1.0, 1.0], n))
    forces, barostat = Forces(Nothing(), 10.0 * np.eye(3)), Barostat("isotropic", np.random.default_rng(1))  # type: ignore[arg-type]
    barostat.sizes[:] = 0.1
    volumes, bonds = np.empty(20_000), positions[:n] - positions[n : 2 * n]
    for step in range(len(volumes)):
        moved = barostat.move(forces, positions, 0, 300.0, pressure, molecules)
        positions = positions if moved is None else moved
        volumes[step] = np.linalg.det(forces.cell)
    np.testing.assert_allclose(positions[:n] - positions[n : 2 * n], bonds, atol=1e-8)
    settled = volumes[2000:]
    assert mean(settled).error < 0.015 * 21 * kt / pressure
    assert mean(settled).agrees_with(21 * kt / pressure)
    assert variance(settled).agrees_with(21 * (kt / pressure) ** 2)


def test_energy_is_conserved_with_fixed_bonds_and_cut_ones(tmp_path: Path) -> None:
    """0.5 fs of leapfrog in double precision: the total is still to a fiftieth of what is exchanged."""
    stages = '[[stage]]\nkind = "minimize"\nmax_steps = 200\n[[stage]]\nkind = "nve"\nduration = "200 fs"\n'
    path = written(tmp_path, molecule(tmp_path), stages, top='velocities = "300 K"', more='constraints = "hydrogens"')
    log = read_log(simulate(path, tmp_path / "run", platform="Reference"))
    total = log["potential energy"] + log["kinetic energy"]
    assert np.ptp(total) < 0.02 * np.ptp(log["potential energy"])


def test_molecules_that_the_cell_cuts_are_made_whole(tmp_path: Path) -> None:
    path = box(tmp_path)
    first = asked(job_of(tmp_path, path, region='"not water"', more='cutoff = "9 Å"'), job_positions := _places(path))
    wrapped = ase.io.read(path)
    file = app.PDBFile(str(path))
    side = np.diag(file.topology.getPeriodicBoxVectors().value_in_unit(unit.angstrom))
    with path.open("w") as stream:
        app.PDBFile.writeFile(file.topology, np.mod(job_positions, side) * unit.angstrom, stream)
    assert np.abs(wrapped.positions - np.mod(job_positions, side)).max() > 5.0
    job = job_of(tmp_path, path, region='"not water"', more='cutoff = "9 Å"')
    assert asked(job, job.atoms.positions).energy == pytest.approx(first.energy, abs=1e-6)


def _places(path: Path) -> np.ndarray:
    return np.array(app.PDBFile(str(path)).getPositions(asNumpy=True).value_in_unit(unit.angstrom))


def lacking_hydrogen(folder: Path) -> Path:
    """The molecule without the hydrogen of one nitrogen."""
    path = molecule(folder)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if line[12:20] != " H   ALA"))
    return path


def as_xyz(folder: Path) -> Path:
    ase.io.write(folder / "molecule.xyz", ase.io.read(molecule(folder)))
    return folder / "molecule.xyz"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "region of nothing": ({"region": '"resname LIG"'}, "selects no atom. The residues .* ACE, ALA, NME"),
    "region of everything": ({"region": '"all"'}, "whole structure.*Leave \\[mlmm\\] out"),
    "no selection": ({"region": '"resnam ALA"'}, "no selection that mdtraj understands"),
    "no such atom": ({"region": "[3, 99]"}, "there is no atom 99: the structure has 22"),
    "atom twice": ({"region": "[3, 3]"}, "names an atom twice"),
    "unknown force field": ({"forcefield": ["amber14-al.xml"]}, "Did you mean 'amber14-all.xml'"),
    "residue that is not known": ({"forcefield": ["tip3p.xml"]}, "no template of tip3p.xml fits residue ACE 1 of"),
    "two templates fit": (
        {"forcefield": ["charmm36.xml"]},
        "more than one template of charmm36.xml fits.*ALAD, AANM.*Nothing is missing.*charmm36_2024",
    ),
    "hydrogens are missing": ({"make": lacking_hydrogen}, "fits residue ALA 2 of chain A.*Hydrogens"),
    "no names": ({"make": as_xyz}, "molecule.xyz does not name residues and bonds.*PDB"),
    "two bonds end at one atom": (
        {"region": '"name C O and resname ACE or resname ALA and name CA HA"'}, "Multiple link bonds.*Move the border",
    ),
    "implicit solvent": ({"forcefield": ["amber14-all.xml", "implicit/obc2.xml"]}, "cannot take out what is within"),
    "pairs longer than half of the cell": (
        {"make": box, "region": '"not water"', "more": 'cutoff = "12 Å"'}, "12 Å is more than half of the cell, 21.9",
    ),
    "pme without a cell": ({"more": 'nonbonded = "pme"'}, "pme needs a cell"),
    "supercell": ({"top": "supercell = [2, 1, 1]"}, "supercell: a force field needs whole molecules"),
    "relaxed cell": ({"stages": '[[stage]]\nkind = "minimize"\ncell = true\n'}, "gives no stress"),
    "unknown embedding": ({"more": 'embedding = "mechanic"'}, "Did you mean 'mechanical'"),
    "spread": ({"more": '[guard]\nmax_grade = 10'}, "with mlmm the potential is not asked about its errors"),
    "half of a rigid molecule is frozen": (
        {"make": box, "region": '"not water"', "more": 'cutoff = "9 Å"\n[frozen]\nindices = [22]'},
        "of atoms 23 and 22, at a fixed distance .* only one is frozen",
    ),
    "element that the potential does not know": ({"potential": '"Cu"'}, "knows Cu; the region has"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(name: str, tmp_path: Path) -> None:
    given, message = WRONG[name]
    options = dict(given)
    path = options.pop("make", molecule)(tmp_path)
    with pytest.raises(InputError, match=message):
        job_of(tmp_path, path, **options)


def test_a_force_field_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    script = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    (tmp_path / "own.xml").write_text(f"<ForceField><Script>{script}</Script></ForceField>")
    with pytest.raises(ModelError, match=r"own\.xml has a <Script>, which OpenMM would execute"):
        job_of(tmp_path, molecule(tmp_path), forcefield=["amber14-all.xml", "own.xml"])
    assert not (tmp_path / "made").exists()


def test_a_force_field_that_is_exchanged_after_it_was_looked_at_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, loads = tmp_path / "water.xml", app.ForceField
    shutil.copy(SHIPPED / "amber14" / "tip3p.xml", own)
    script = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"

    def exchanged(*files: Any) -> app.ForceField:
        own.write_text(f"<ForceField><Script>{script}</Script></ForceField>")
        return loads(*files)

    monkeypatch.setattr(app, "ForceField", exchanged)
    job_of(tmp_path, molecule(tmp_path), forcefield=["amber14-all.xml", "water.xml"])
    assert "<Script>" in own.read_text() and not (tmp_path / "made").exists()


def test_a_force_field_of_ones_own_belongs_to_the_run(tmp_path: Path) -> None:
    """A file beside the input is taken, gives the energy of OpenMM's own, and may not change while the run goes on."""
    shutil.copy(Path(app.__file__).parent / "data" / "amber14" / "tip3p.xml", tmp_path / "water.xml")
    job = job_of(tmp_path, molecule(tmp_path), forcefield=["amber14-all.xml", "water.xml"])
    same = job_of(tmp_path, molecule(tmp_path))
    assert asked(job, job.atoms.positions).energy == asked(same, job.atoms.positions).energy
    path = written(tmp_path, molecule(tmp_path), forcefield=["amber14-all.xml", "water.xml"])
    run = simulate(path, tmp_path / "run")
    assert run.manifest["files"]["force field 1"]["path"] == str(tmp_path / "water.xml")


@pytest.mark.parametrize("place", ["amber14/tip3p.xml", "own.xml"])
def test_no_force_field_of_the_present_folder_is_executed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMM looks there first, also where one of its own is meant."""
    folder, elsewhere = tmp_path / "input", tmp_path / "elsewhere"
    folder.mkdir()
    (elsewhere / place).parent.mkdir(parents=True)
    script = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    (elsewhere / place).write_text(f"<ForceField><Script>{script}</Script></ForceField>")
    monkeypatch.chdir(elsewhere)
    path = molecule(folder)
    if place == "own.xml":
        with pytest.raises(InputError, match=r"'own\.xml' is neither a file beside the input nor one of OpenMM's"):
            job_of(folder, path, forcefield=["amber14-all.xml", place])
    else:
        job_of(folder, path, forcefield=["amber14-all.xml", place])
    assert not (tmp_path / "made").exists()


def test_a_force_field_includes_none_of_the_files_beside_it(tmp_path: Path) -> None:
    """Also not one that is called as one of OpenMM's own."""
    script = f"__import__('os').mkdir({str(tmp_path / 'made')!r})"
    (tmp_path / "tip3p.xml").write_text(f"<ForceField><Script>{script}</Script></ForceField>")
    (tmp_path / "own.xml").write_text('<ForceField><Include file="tip3p.xml"/></ForceField>')
    with pytest.raises(ModelError, match=r"own\.xml includes tip3p\.xml\. Name that in forcefield too"):
        job_of(tmp_path, molecule(tmp_path), forcefield=["amber14-all.xml", "own.xml"])
    assert not (tmp_path / "made").exists()


def test_what_a_force_field_of_openmm_includes_lies_beside_it() -> None:
    """Else OpenMM would look for it in the present folder."""
    for name in shipped():
        file = SHIPPED / name
        for include in ET.parse(file).getroot().findall("Include"):
            assert (file.parent / str(include.get("file"))).is_file(), name


def test_a_rerun_of_wrapped_frames_finds_the_energies_of_the_run(tmp_path: Path) -> None:
    structure = box(tmp_path)
    options: dict[str, Any] = {"region": '"not water"', "more": 'cutoff = "9 Å"', "top": 'velocities = "300 K"'}
    stages = NVT.replace("20 fs", "4 fs")
    path = written(tmp_path, structure, stages, **options)
    path.write_text(path.read_text().replace("[output]", '[output]\ntrajectory_format = "extxyz"'))
    run = simulate(path, tmp_path / "run", threads=1)
    frames = ase.io.read(run.trajectory, index=":")
    for frame in frames:
        frame.wrap()
    ase.io.write(tmp_path / "frames.extxyz", frames, format="extxyz")
    stages = '[[stage]]\nkind = "rerun"\ntrajectory = "frames.extxyz"\n'
    again = written(tmp_path, structure, stages, region='"not water"', more='cutoff = "9 Å"')
    again.write_text(again.read_text().partition("[output]")[0])
    seen, wanted = read_log(simulate(again, tmp_path / "again", threads=1)), read_log(run)
    parts = run_in_parts(again, tmp_path / "parts", [0, 4], threads=1)
    assert parts.log.read_bytes() == (tmp_path / "again" / "log.csv").read_bytes()
    assert seen["step"].tolist() == [0, 4, 8]
    for column in ("potential energy", *(name.split(" [")[0] for name in MLMM_COLUMNS)):
        np.testing.assert_allclose(seen[column], wanted[column][::2], rtol=0, atol=1e-5, err_msg=column)
