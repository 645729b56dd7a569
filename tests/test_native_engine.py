"""Steps in the compiled library, against the OpenMM engine and against the same equations in NumPy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from averages import mean, variance
from command_line import mlmd
from runs import ARGON, assert_same_run, fcc_argon, open_slab, read_log, run_in_parts, turned_salt, write_input

from mlmd import units
from mlmd.engine.motion import Motion, Owned
from mlmd.engine.noise import normal_numbers
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError, Stopped
from mlmd.kernels.motion import MOVES, Moving, Scheme, Steps
from mlmd.kernels.native import required
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.fused import FusedEvaluator, fused_of
from mlmd.potentials.load import build
from mlmd.rundir import MESSAGES

NATIVE = 'engine = "native"\n'
EVERY_STEP = 'log_every = "5 fs"\ntrajectory_every = "50 fs"\ntrajectory_format = "extxyz"'
NVE = '[[stage]]\nkind = "nve"\nduration = "500 fs"\n'
BATHS = {
    "langevin": '{ kind = "langevin", friction = "5 / ps" }',
    "nose-hoover": '{ kind = "nose-hoover", frequency = "5 / ps" }',
}


def bath(kind: str, stage: str = "nvt", more: str = "", temperature: str = '["60 K", "90 K"]') -> str:
    return (
        f'[[stage]]\nkind = "{stage}"\ntemperature = {temperature}\nthermostat = {BATHS[kind]}\nduration = "300 fs"\n'
        f"{more}"
    )


def cluster() -> ase.Atoms:
    atoms = fcc_argon(2)
    atoms.pbc, atoms.cell = False, None
    return atoms


def both(folder: Path, stages: str, options: str = "", **given: Any) -> tuple[Path, Path]:
    """The folders of a run with the library's steps, and with OpenMM's."""
    given = {"output": EVERY_STEP, **given}
    ours, theirs = (
        simulate(write_input(folder / name, stages, options=engine + options, **given), folder / name / "run").path
        for name, engine in (("native", NATIVE), ("openmm", ""))
    )
    return ours, theirs


def assert_alike(one: Path, other: Path, tolerance: float) -> None:
    """Logs agree relative to their largest numbers, and the first and the last frame to the digits that are written."""
    ours, theirs = read_log(one), read_log(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        scale = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-12)
        assert np.nanmax(np.abs(theirs[name] - values), initial=0.0) <= tolerance * scale, name
    mine, its = (ase.io.read(folder / "trajectory.extxyz", ":") for folder in (one, other))
    for n in (0, -1):
        assert np.abs(mine[n].positions - its[n].positions).max() < 1e-6
        assert np.abs(mine[n].get_forces() - its[n].get_forces()).max() < 1e-6


# -- the same physics -------------------------------------------------------------------------------------------------

SUM = f'[{ARGON}, {{ kind = "lennard-jones", epsilon = "0.002 eV", sigma = "3.1 Å", cutoff = "5 Å" }}]'


@pytest.mark.parametrize(
    ("atoms", "potential", "options"),
    [
        (turned_salt(), '"Li3YCl6"', 'velocities = "300 K"\n'),
        (open_slab(), '"Cu"', 'velocities = "500 K"\nfrozen = { below = "5 Å" }\n'),
        (cluster(), SUM, 'velocities = "30 K"\nscale = 0.8\n'),
    ],
    ids=["salt", "frozen-slab", "scaled-sum-in-the-open"],
)
def test_a_hundred_steps_of_nve_are_those_of_openmm(
    atoms: ase.Atoms, potential: str, options: str, tmp_path: Path
) -> None:
    # constants of OpenMM have ten digits
    assert_alike(*both(tmp_path, NVE, options, atoms=atoms, potential=potential), 1e-7)


def test_the_cell_breathes_as_with_openmm(tmp_path: Path) -> None:
    # the same random numbers change the same cell; chains of thermostats divide a step differently
    more = 'pressure = ["1 bar", "500 bar"]\nbarostat = { kind = "flexible", every = 5 }\n'
    ours, theirs = both(tmp_path, bath("nose-hoover", "npt", more), atoms=fcc_argon(3))
    volumes = read_log(theirs)["volume"]
    assert len(set(volumes)) > 3
    np.testing.assert_allclose(read_log(ours)["volume"], volumes, rtol=1e-6)


def test_a_change_of_the_cell_that_is_accepted_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    asked, evaluate = [], FusedEvaluator.evaluate

    def counted(self: FusedEvaluator, *given: Any) -> Any:
        asked.append(1)
        return evaluate(self, *given)

    monkeypatch.setattr(FusedEvaluator, "evaluate", counted)
    more = 'pressure = "1 bar"\nbarostat = { every = 5 }\n'
    run = simulate(write_input(tmp_path, bath("langevin", "npt", more), options=NATIVE), tmp_path / "run")
    tried = re.search(r"(\d+) changes of the cell tried, (\d+)% accepted", (run.path / MESSAGES).read_text())
    assert tried is not None and int(tried[1]) == 12 and int(tried[2]) > 0
    assert len(asked) == 1 + 12  # at the beginning, and each trial; steps ask within the library


def test_heat_is_exchanged_as_with_openmm(tmp_path: Path) -> None:
    atoms = fcc_argon(2).repeat((6, 1, 1))
    stage = NVE + 'heat_exchange = { power = "0.002 eV / ps", axis = "x", slabs = 8, every = 5 }\n'
    ours, theirs = both(tmp_path, stage, 'velocities = "60 K"\n', atoms=atoms)
    assert read_log(ours)["exchanged heat"][-1] > 0.0
    assert_alike(ours, theirs, 1e-7)


@pytest.mark.parametrize("kind", BATHS)
def test_steps_in_a_bath_are_those_of_the_same_equations_in_numpy(kind: str) -> None:
    atoms, n_steps, rate, kelvin = fcc_argon(2), 40, 0.005, 90.0
    potential = build("lennard-jones", {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 6.0})
    masses, mobile = atoms.get_masses(), np.ones(len(atoms), dtype=bool)
    masses[::3] = 131.3
    rng = np.random.default_rng(3)
    velocities = rng.standard_normal((len(atoms), 3)) * 1e-3
    n_chain = 3 if kind == "nose-hoover" else 0
    theirs = evaluator(potential, atoms.numbers, atoms.pbc)
    ours = evaluator(potential, atoms.numbers, atoms.pbc)
    n_dof, cell = 3 * len(atoms) - 3, atoms.cell.array
    scheme = Scheme(5.0, n_dof, kind, rate, n_chain, seed=11, remove_com=True)
    motion = Motion(scheme, add_up=lambda number: number)
    motion.temperature = kelvin
    owned = Owned(np.arange(1, len(atoms) + 1), masses, mobile.astype(float))
    where, now = atoms.positions.copy(), velocities.copy()
    for step in range(n_steps):
        drift = masses @ now / masses.sum()
        moves, now = motion.step(owned, now, theirs.evaluate(where, cell).forces, drift, 1000 + step)
        where = where + moves
    start = ours.evaluate(atoms.positions, cell)
    moving = Moving(atoms.positions.copy(), velocities.copy(), start.forces.copy(), np.zeros(n_chain))
    done, problem = Steps(fused_of(ours), masses, mobile, scheme).advance(
        moving, cell, n_steps, first_step=1000, temperature=kelvin, max_force=np.inf, max_move=np.inf, n_threads=1
    )
    assert (done, problem) == (n_steps, None)
    np.testing.assert_allclose(moving.positions, where, rtol=0, atol=1e-10)
    np.testing.assert_allclose(moving.velocities, now, rtol=0, atol=1e-13)
    np.testing.assert_allclose(moving.rates, motion.chain.rates, rtol=1e-10)
    last = theirs.evaluate(where, cell)
    assert moving.energy == pytest.approx(last.energy, abs=1e-12) and moving.virial is not None
    np.testing.assert_allclose(moving.virial, last.virial, atol=1e-10)


def test_random_forces_are_the_numbers_of_seed_step_and_atom() -> None:
    numbers = np.empty((1000, 3))
    required().mlmd_noise(2**63 + 5, 10**12, len(numbers), numbers.ctypes.data)
    np.testing.assert_allclose(numbers, normal_numbers(2**63 + 5, 10**12, np.arange(1, 1001)), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", BATHS)
def test_a_bath_holds_the_mean_and_the_width_of_the_kinetic_energy(kind: str, tmp_path: Path) -> None:
    stage = f'[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nthermostat = {BATHS[kind]}\nduration = "100 ps"\n'
    path = write_input(tmp_path, stage, options=NATIVE, output='log_every = "50 fs"\ntrajectory_every = "50 ps"')
    run = simulate(path, tmp_path / "run")
    kinetic, n_dof = read_log(run)["kinetic energy"][200:], 3 * len(run.atoms) - 3
    kt = units.KB * 60.0
    assert mean(kinetic).agrees_with(0.5 * n_dof * kt, sigmas=3.0)
    assert variance(kinetic).agrees_with(0.5 * n_dof * kt**2, sigmas=3.0)


def test_the_time_of_a_run_is_told_with_that_of_lists_of_neighbours(tmp_path: Path) -> None:
    path = write_input(
        tmp_path, NVE.replace("500 fs", "25 ps"), atoms=fcc_argon(3), options=NATIVE + 'velocities = "200 K"\n',
        output='log_every = "25 ps"\ntrajectory_every = "25 ps"',
    )  # fmt: skip
    run = simulate(path, tmp_path / "run")
    assert re.search(r"potential \d+%, neighbour list \d+%", (run.path / MESSAGES).read_text())


# -- stopped and continued --------------------------------------------------------------------------------------------

BREATHING = 'pressure = ["1 bar", "500 bar"]\nbarostat = { kind = "flexible", every = 5 }\n'


@pytest.mark.parametrize(
    ("stages", "given"),
    [
        (bath("langevin"), {"atoms": fcc_argon(3)}),
        (bath("nose-hoover"), {"atoms": cluster()}),
        (bath("langevin", "npt", BREATHING), {"atoms": fcc_argon(3)}),
        (NVE, {"atoms": fcc_argon(2), "options": 'velocities = "60 K"\n'}),
        (bath("langevin"), {"atoms": open_slab(), "potential": '"Cu"', "options": 'frozen = { below = "5 Å" }\n'}),
    ],
    ids=["langevin", "nose-hoover", "breathing", "nve", "frozen"],
)
def test_a_run_in_parts_is_the_same_to_the_last_bit(stages: str, given: dict[str, Any], tmp_path: Path) -> None:
    options = NATIVE + given.pop("options", "")
    path = write_input(tmp_path, stages, options=options, output=EVERY_STEP, **given)
    whole = simulate(path, tmp_path / "whole")
    parts = run_in_parts(path, tmp_path / "parts", [17, 20, 38])
    assert_same_run(whole.path, parts.path)


def test_a_run_goes_on_as_it_began(tmp_path: Path) -> None:
    path, out = write_input(tmp_path, bath("langevin"), options=NATIVE, output=EVERY_STEP), tmp_path / "run"

    def stop(moment: Any) -> None:
        (out / "STOP").touch()

    with pytest.raises(Stopped):
        simulate(path, out, progress=stop)
    path.write_text(path.read_text().replace(NATIVE, ""))
    answer = mlmd("simulate", path, "--out", out)
    assert answer.code != 0 and "engine" in answer.err


def test_replicas_are_run_by_it(tmp_path: Path) -> None:
    stage = '[[stage]]\nkind = "nvt"\ntemperature = "replica"\nduration = "100 fs"\n'
    path = write_input(tmp_path, '[replicas]\ntemperatures = ["60 K", "90 K"]\n' + stage, options=NATIVE)
    answer = mlmd("simulate", path, "--out", tmp_path / "runs", "--quiet")
    assert answer.code == 0, answer.err
    done = list((tmp_path / "runs").glob("*/final.extxyz"))
    assert len(done) == 2
    assert '"engine": "native"' in (done[0].parent / "run.json").read_text()


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", ['max_force = "0.3 eV/Å"', 'max_displacement = "0.15 Å"'], ids=["force", "displacement"]
)
def test_a_limit_ends_the_run_at_the_step_and_with_the_words_of_openmm(limit: str, tmp_path: Path) -> None:
    said = {}
    for name, engine in (("native", NATIVE), ("openmm", "")):
        options = f'{engine}velocities = "3000 K"\nguard = {{ max_temperature = "off", {limit} }}\n'
        path = write_input(tmp_path / name, NVE, atoms=fcc_argon(3), options=options, output=EVERY_STEP)
        with pytest.raises(SimulationError, match=r"^at step [1-9]") as failed:
            simulate(path, tmp_path / name / "run")
        said[name] = re.sub("is in .*|are in .*", "", str(failed.value))
        frames = ase.io.read(tmp_path / name / "run/crash/last.extxyz", ":")
        said[name + " frames"] = [frame.info["step"] for frame in frames]
    assert said["native"] == said["openmm"]
    assert said["native frames"] == said["openmm frames"]


def test_a_step_to_nowhere_leaves_the_last_good_one() -> None:
    atoms = fcc_argon(2)
    ready = evaluator(
        build("lennard-jones", {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 6.0}), atoms.numbers, atoms.pbc
    )
    start = ready.evaluate(atoms.positions, atoms.cell.array)
    velocities = np.zeros((len(atoms), 3))
    velocities[7, 1] = np.inf
    moving = Moving(atoms.positions.copy(), velocities, start.forces.copy(), np.zeros(0), start.energy)
    steps = Steps(fused_of(ready), atoms.get_masses(), np.ones(len(atoms), dtype=bool), Scheme(5.0, 3 * len(atoms)))
    done, problem = steps.advance(
        moving, atoms.cell.array, 10, first_step=0, temperature=0.0, max_force=np.inf, max_move=np.inf, n_threads=1
    )
    assert done == 0 and problem is not None and problem.kind == MOVES
    assert np.isinf(problem.positions[7, 1])
    np.testing.assert_array_equal(moving.positions, atoms.positions)
    np.testing.assert_array_equal(moving.forces, start.forces)
    assert moving.energy == start.energy


@pytest.mark.parametrize(
    ("stages", "given", "words"),
    [
        (
            NVE + 'bias = [{ kind = "umbrella", cv = { kind = "distance", atoms = [0, 1] }, at = "3 Å", '
            'spring = "1 eV/Å^2" }]\n',
            {},
            "stage 1 (nve): bias: a bias is asked in every step",
        ),
        (
            NVE,
            {"potential": '{ kind = "coulomb", charges = { Ar = 0.0 } }'},
            "coulomb is not a sum of compiled kernels",
        ),
        ('[[stage]]\nkind = "rerun"\ntrajectory = "atoms.extxyz"\n', {}, "a rerun makes no steps"),
    ],
    ids=["bias", "potential", "rerun"],
)
def test_what_it_does_not_do_is_refused_before_a_folder_is_made(
    stages: str, given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = write_input(tmp_path, stages, options=NATIVE + 'velocities = "10 K"\n', **given)
    answer = mlmd("simulate", path, "--out", tmp_path / "run")
    assert answer.code == InputError.exit_code, answer.err
    assert words in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["native", "openmm"])
def test_what_is_of_many_processes_is_refused_in_one(kind: str, tmp_path: Path) -> None:
    options = f'engine = {{ kind = "{kind}", grid = [1, 1, 2], skin = "2 Å" }}\n'
    with pytest.raises(InputError) as refused:
        simulate(write_input(tmp_path, bath("langevin"), options=options), tmp_path / "run")
    assert "engine: grid: one process does not divide the cell" in str(refused.value)
    assert "engine: skin: one process knows all atoms" in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_another_platform_is_refused(tmp_path: Path) -> None:
    path = write_input(tmp_path, bath("langevin"), options=NATIVE)
    with pytest.raises(InputError, match=r'--platform CPU: with engine = "native" the processor computes'):
        simulate(path, tmp_path / "run", platform="CPU")


def test_without_compiled_kernels_it_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlmd.engine.native.potential.library", lambda: None)
    path = write_input(tmp_path, bath("langevin"), options=NATIVE)
    with pytest.raises(InputError, match=r'engine = "native" needs compiled kernels, and they are '):
        simulate(path, tmp_path / "run")
