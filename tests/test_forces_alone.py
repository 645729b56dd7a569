"""Runs of potentials that know forces and no energy (AGNI)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from command_line import mlmd
from made_data import strained, thermal
from runs import assert_same_run, read_log, run_in_parts

from mlmd import units
from mlmd.cli.simulate import describe
from mlmd.config import load_simulate
from mlmd.engine.job import prepare
from mlmd.engine.observe import Moment
from mlmd.engine.resume import _same_forces
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError
from mlmd.io.labelled import write_labelled
from mlmd.io.log import read_log as columns_of
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.rundir import MANIFEST
from mlmd.sample.sources import open_source
from mlmd.train.run import train

TRAIN = """data = "data.extxyz"
test_fraction = 0
descriptor = { kind = "agni", cutoff = "5 Å" }
fit = { kind = "agni", n_sparse = 60 }
"""
RUN = """structure = "cu.extxyz"
potential = "agni.mlmd"
timestep = "2 fs"
seed = 3
velocities = "300 K"
{options}
[output]
log_every = "10 fs"
trajectory_every = "20 fs"
trajectory_format = "extxyz"
"""
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "{} fs"\n'
NVE = '[[stage]]\nkind = "nve"\nduration = "{} fs"\n'


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A force field that was fitted to EMT copper."""
    folder = tmp_path_factory.mktemp("agni")
    write_labelled(folder / "data.extxyz", [*thermal(6), *strained(2)])
    (folder / "in.toml").write_text(TRAIN, encoding="utf-8")
    return train(folder / "in.toml", folder / "in.run", n_processes=1).model


@pytest.fixture
def folder(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the force field and 32 atoms of copper."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(learned, "agni.mlmd")
    thermal(1, seed=9)[0].atoms.write("cu.extxyz")
    return tmp_path


def write(stages: str, options: str = "", text: str = RUN) -> Path:
    path = Path("run.toml")
    path.write_text(text.format(options=options) + stages, encoding="utf-8")
    return path


def test_atoms_move_by_the_forces_of_the_potential_and_nothing_else(folder: Path) -> None:
    path = write(NVE.format(40), "remove_com_motion = false").read_text(encoding="utf-8")
    Path("run.toml").write_text(path.replace('"300 K"', '"0 K"'), encoding="utf-8")
    run = simulate("run.toml")
    last = ase.io.read(run.path / "final.extxyz")
    atoms = ase.io.read("cu.extxyz")
    assert isinstance(atoms, ase.Atoms) and isinstance(last, ase.Atoms)
    ask, velocities = predictor(modelfile.load(Path("agni.mlmd"))), np.zeros((len(atoms), 3))
    start = atoms.positions.copy()
    for _ in range(20):  # leapfrog, velocities half a step behind, as OpenMM's Verlet integrator has them
        velocities += 2.0 * ask(atoms).forces / (units.KINETIC * atoms.get_masses()[:, None])
        atoms.positions += 2.0 * velocities
    assert np.abs(atoms.positions - start).max() > 0.02
    # rounding of 20 steps, and eight decimals of the file
    np.testing.assert_allclose(last.positions, atoms.positions, atol=2e-8)


def test_the_log_has_what_is_known_without_an_energy(folder: Path) -> None:
    run = simulate(write(NVT.format(20) + NVE.format(20)))
    names = list(columns_of(run.log))
    assert names == [
        "step", "stage", "time [ps]", "kinetic energy [eV]", "temperature [K]", "volume [Å^3]", "density [g/cm^3]",
        "target temperature [K]", "bias energy [eV]", "max spread [eV/Å]",
    ]  # fmt: skip
    log = read_log(run)
    assert np.isfinite(log["temperature"]).all()
    np.testing.assert_allclose(log["kinetic energy"], 1.5 * 31 * units.KB * log["temperature"], rtol=1e-9)
    np.testing.assert_allclose(log["volume"], (2 * 3.6) ** 3, rtol=1e-9)
    np.testing.assert_array_equal(np.isnan(log["target temperature"]), log["stage"] == 2)
    frames = ase.io.read(run.trajectory, ":")
    ask = predictor(modelfile.load(Path("agni.mlmd")))
    assert isinstance(frames, list) and len(frames) == 3
    for frame in frames:
        assert frame.calc is not None and set(frame.calc.results) == {"forces"}
        np.testing.assert_allclose(frame.get_forces(), ask(frame).forces, atol=1e-6)  # eight decimals of positions


def test_a_thermostat_holds_the_temperature_of_a_force_field(folder: Path) -> None:
    stage = NVT.format(3000) + 'thermostat = { kind = "langevin", friction = "20 /ps" }\n'
    log = read_log(simulate(write(stage)))
    temperatures = log["temperature"][log["time"] > 0.5]
    # 93 degrees of freedom scatter by 300 K √(2/93) = 44 K; at least 20 of the 250 lines are independent: four errors
    assert abs(temperatures.mean() - 300.0) < 40.0


def test_a_run_in_parts_is_the_same_run(folder: Path) -> None:
    path = write(NVT.format(100) + NVE.format(100))
    whole = simulate(path, folder / "whole", threads=1)
    parts = run_in_parts(path, folder / "parts", [15, 40, 75], threads=1)
    assert_same_run(whole.path, parts.path)


def test_a_bias_acts_on_a_force_field_and_is_in_the_log(folder: Path) -> None:
    Path("plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.2 KAPPA=1000\nPRINT ARG=* FILE=COLVAR\n")
    path = write(NVT.format(60) + 'plumed = "plumed.dat"\n')
    whole = simulate(path, folder / "whole", threads=1)
    log = read_log(whole)
    distances = np.loadtxt(whole.path / "COLVAR")[::5, 1]
    expected = 500.0 * (distances - 0.2) ** 2 * units.EV_PER_KJMOL
    assert expected.max() > 1e-3
    np.testing.assert_allclose(log["bias energy"], expected, atol=1e-4)  # six digits of COLVAR
    parts = run_in_parts(path, folder / "parts", [15], threads=1)
    assert_same_run(whole.path, parts.path, ("COLVAR",))


def test_a_repulsion_can_stand_beside_a_force_field(folder: Path) -> None:
    zbl = '{ kind = "zbl", elements = ["Cu"], onset = "2 Å", cutoff = "2.6 Å" }'
    text = RUN.replace('"agni.mlmd"', f'["agni.mlmd", {zbl}]')
    job = prepare(load_simulate(write(NVE.format(20), text=text.replace("{ ", "{{ ").replace(" }", " }}"))))
    alone = predictor(modelfile.load(Path("agni.mlmd")))(job.atoms)
    repulsion = predictor(job.potential.parts[1])(job.atoms)  # type: ignore[attr-defined]
    assert np.abs(repulsion.forces).max() > 1e-3
    np.testing.assert_allclose(predictor(job.potential)(job.atoms).forces, alone.forces + repulsion.forces, atol=1e-12)
    simulate("run.toml")


def test_that_there_is_no_energy_is_said_once_in_words_and_in_the_manifest(folder: Path) -> None:
    path = write(NVT.format(100))
    answer = mlmd("simulate", path)
    assert answer.code == 0, answer.err
    assert answer.err.count("it has no energy, and the run conserves none") == 1
    assert "ΔE" not in answer.err
    run = Path("run.run")
    (warning,) = json.loads((run / MANIFEST).read_text())["warnings"]
    assert warning.startswith("agni.mlmd predicts forces alone (AGNI)")
    assert (run / "messages.log").read_text().count(warning) == 1
    assert run_in_parts(path, folder / "parts", [15]).manifest["warnings"] == [warning]
    assert (folder / "parts" / "messages.log").read_text().count(warning) == 1
    shown = mlmd("show", "run.run", "--json")
    assert json.loads(shown.out)["warnings"] == [warning]


def test_a_live_line_tells_no_change_of_an_energy_that_is_not_there(folder: Path) -> None:
    moments: list[Moment] = []
    simulate(write(NVE.format(40)), progress=moments.append)
    assert {moment.energy for moment in moments} == {None}
    assert describe(moments[0], None).endswith(" K")


def test_check_report_and_analyses_take_a_run_without_energies(folder: Path) -> None:
    path = write(NVT.format(200) + NVE.format(200), '[analysis]\nrun = ["rdf", "diffusion"]\n')
    seen = mlmd("check", path, "--json")
    (found,) = json.loads(seen.out)["inputs"]
    assert found["ok"] and found["energy_eV_per_atom"] is None and found["pressure_bar"] is None
    assert any("forces alone" in note for note in found["notes"])
    assert "no energy, largest force" in mlmd("check", path).out
    answer = mlmd("simulate", path)
    assert answer.code == 0, answer.err
    page = Path("run.run/report.html").read_text(encoding="utf-8")
    assert "temperature (K)" in page and "it has no energy" in page
    assert "potential energy (eV/atom)" not in page and "energy drift" not in page and "pressure (bar)" not in page
    assert mlmd("analyze", "rdf", "run.run").code == 0
    assert mlmd("report", "run.run").code == 0
    # frames for labels: without energies they are taken at equal times
    source = open_source(Path("run.run"), None, None, None, None)
    assert source.series is None and len(source.times) == 10


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ('[[stage]]\nkind = "minimize"\n' + NVE.format(20), r"stage 1 \(minimize\) goes down in energy; cool it down"),
        (
            NVE.format(20) + NVT.format(20).replace("nvt", "npt") + 'pressure = "1 bar"\n',
            r"stage 2 \(npt\) needs a stress; use nvt",
        ),
        (NVT.format(20) + 'plumed = "plumed.dat"\n', r"stage 1: ENERGY in plumed.dat is the potential energy"),
    ],
    ids=["minimize", "npt", "bias of the energy"],
)
def test_what_needs_an_energy_or_a_stress_is_refused_before_a_folder_is_made(
    folder: Path, stages: str, message: str
) -> None:
    Path("plumed.dat").write_text("e: ENERGY\nPRINT ARG=e FILE=COLVAR\n")
    path = write(stages)
    with pytest.raises(InputError, match=message):
        prepare(load_simulate(path))
    answer = mlmd("simulate", path)
    assert answer.code == 2 and "agni.mlmd predicts forces alone (AGNI), no energy and no stress" in answer.err
    assert mlmd("check", path).code == 2
    assert not Path("run.run").exists()


def test_a_force_field_is_no_baseline(folder: Path) -> None:
    write_labelled(folder / "data.extxyz", thermal(4))
    text = TRAIN.replace('descriptor = { kind = "agni", cutoff = "5 Å" }', 'descriptor = "acsf"')
    text = text.replace('fit = { kind = "agni", n_sparse = 60 }', 'baseline = { potential = "agni.mlmd" }')
    Path("in.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"baseline: agni.mlmd predicts forces alone \(AGNI\)"):
        train(folder / "in.toml", n_processes=1)


def test_forces_that_explode_stop_the_run(folder: Path) -> None:
    path = write(NVE.format(40), '[guard]\nmax_force = "0.01 eV/Å"')
    with pytest.raises(SimulationError, match=r"above \[guard\] max_force = 0.01"):
        simulate(path)
    assert (folder / "run.run" / "crash" / "last.extxyz").exists()


def test_a_run_does_not_continue_with_other_forces() -> None:
    forces = np.array([[0.0, 1.0, -3.0]])
    _same_forces(forces + 1e-6, forces)
    with pytest.raises(SimulationError, match=r"differ by up to 0\.001 eV/Å .* not the same potential"):
        _same_forces(forces + 1e-3, forces)
