"""Many runs of one input: what each of them is, and that nothing that happens to one is lost or harms another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import mlmd
from runs import assert_same_run, fcc_argon, write_input

from mlmd import config
from mlmd.config.replicas import load_replicas, seed_of
from mlmd.engine import status as statuses
from mlmd.engine.replicas import shares, simulate_replicas
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError, StorageError
from mlmd.rundir import open_run

RAMP = '[[stage]]\nkind = "nvt"\ntemperature = ["30 K", "replica"]\nduration = "500 fs"\n'
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "replica"\nduration = "1000 fs"\n'
NPT = '[[stage]]\nkind = "npt"\ntemperature = "replica"\npressure = "replica"\nduration = "500 fs"\n'
LONG = NVT.replace("1000 fs", "400 ps")
THREE = 'temperatures = ["60 K", "90 K", "120 K"]'


def write(folder: Path, replicas: str, stages: str = NVT, **options: str) -> Path:
    """An input with ``[replicas]``."""
    return write_input(folder, f"[replicas]\n{replicas}\n\n{stages}", **options)


def states(folder: Path) -> dict[str, str]:
    """The state of each replica."""
    return {one.name: one.state for one in statuses.status(folder)}


def start(path: Path, out: Path, *flags: object) -> subprocess.Popen[bytes]:
    """``mlmd simulate`` in a process of its own."""
    command = [sys.executable, "-m", "mlmd", "simulate", path, "--out", out, *flags]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE)


def wait_for_steps(folders: list[Path], process: subprocess.Popen[bytes]) -> None:
    """Wait until each of these runs has written to its log."""
    deadline = time.monotonic() + 120
    while not all((folder / "log.csv").exists() and statuses.status_of(folder).step > 0 for folder in folders):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_idle(folder: Path) -> dict[str, str]:
    """The states when nothing runs any more."""
    deadline = time.monotonic() + 60
    while "running" in states(folder).values():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return states(folder)


def test_there_is_a_run_for_every_combination_and_each_has_its_own_values_and_seed(tmp_path: Path) -> None:
    lists = 'temperatures = ["60 K", "90 K"]\npressures = ["1 bar", "1 kbar"]\nseeds = 2'
    path = write(tmp_path, lists, RAMP + NPT, options='velocities = "replica"')
    replicas = load_replicas(path)
    assert [one.name for one in replicas] == [
        *("60K_1bar", "60K_1bar-2", "60K_1000bar", "60K_1000bar-2"),
        *("90K_1bar", "90K_1bar-2", "90K_1000bar", "90K_1000bar-2"),
    ]
    for one in replicas:
        ramp, npt = one.config.stage
        assert one.config.velocities == one.temperature
        assert ramp.temperature == (30.0, one.temperature)
        assert (npt.temperature, npt.pressure) == ((one.temperature,) * 2, (one.pressure,) * 2)
    assert len({one.config.seed for one in replicas}) == 8


def test_every_structure_is_a_run_with_its_own_composition(tmp_path: Path) -> None:
    """As of a series of compositions; structures of VASP are all called alike, in folders with names."""
    for name, n in (("x0.extxyz", 0), ("x1.extxyz", 5), ("pure/POSCAR", 0)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        atoms = fcc_argon(2)
        atoms.symbols[:n] = "Kr"
        atoms.write(tmp_path / name)
    path = write(tmp_path, 'structures = ["x0.extxyz", "x1.extxyz", "pure/POSCAR"]\ntemperatures = ["60 K", "90 K"]')
    text = re.sub(r"(?m)^structure = .*$", 'structure = "replica"', path.read_text())
    path.write_text(text)
    replicas = load_replicas(path)
    assert [one.name for one in replicas] == [
        *("x0_60K", "x0_90K", "x1_60K", "x1_90K", "pure-POSCAR_60K", "pure-POSCAR_90K"),
    ]
    assert [one.config.structure.name for one in replicas[::2]] == ["x0.extxyz", "x1.extxyz", "POSCAR"]
    (tmp_path / "one.toml").write_text(replicas[2].text())
    assert config.load_simulate(tmp_path / "one.toml") == replicas[2].config


def test_a_longer_list_leaves_the_runs_of_the_shorter_what_they_were(tmp_path: Path) -> None:
    few, many = (
        {one.name: one.text() for one in load_replicas(write(tmp_path, f"temperatures = {values}"))}
        for values in ([60, 90], [30, 60, 75, 90])
    )
    assert few.items() <= many.items()
    assert seed_of(1, "60K") != seed_of(2, "60K")


def test_the_input_of_a_replica_says_the_same_as_the_whole_with_its_value(tmp_path: Path) -> None:
    path = write(tmp_path, THREE, RAMP + NVT)
    for one in load_replicas(path):
        (tmp_path / "one.toml").write_text(one.text())
        assert config.load_simulate(tmp_path / "one.toml") == one.config


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An input and the folder of its replicas, which are done."""
    folder = tmp_path_factory.mktemp("three")
    path = write(folder, THREE)
    answer = mlmd("simulate", path, "--out", folder / "all", "--json")
    assert answer.code == 0
    assert [run["state"] for run in json.loads(answer.out)["runs"]] == ["done"] * 3
    return path, folder / "all"


def test_each_replica_is_the_run_that_its_input_alone_would_be(three: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = three
    simulate(out / "90K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "90K", tmp_path / "alone")


def test_what_is_done_is_not_started_again_and_what_has_grown_goes_on(three: tuple[Path, Path]) -> None:
    path, out = three
    before = [(out / name / "run.json").stat().st_mtime_ns for name in ("60K", "90K", "120K")]
    assert mlmd("simulate", path, "--out", out, "--quiet").code == 0
    assert before == [(out / name / "run.json").stat().st_mtime_ns for name in ("60K", "90K", "120K")]
    path.write_text(path.read_text().replace("1000 fs", "1200 fs"))
    simulate_replicas(path, out)
    assert {one.step for one in statuses.status(out)} == {240}


def test_status_tells_how_far_each_is(three: tuple[Path, Path]) -> None:
    _, out = three
    answer = mlmd("status", out)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["60K", "done"], ["90K", "done"], ["120K", "done"]]
    (found,) = statuses.status(out / "60K")
    table = (out / "60K" / "log.csv").read_text().splitlines()
    column = table[0].split(",").index("temperature [K]")
    mean = sum(float(line.split(",")[column]) for line in table[1:]) / (len(table) - 1)
    assert found.temperature == pytest.approx(mean)
    assert found.nanoseconds == pytest.approx(found.step * 5e-6)
    assert mlmd("status", out.parent).code == 4


def test_check_tells_the_cost_of_all(tmp_path: Path) -> None:
    path = write(tmp_path, THREE + "\nseeds = 4")
    entry = json.loads(mlmd("check", path, "--json").out)["inputs"][0]
    assert entry["replicas"] == [f"{name}{end}" for name in ("60K", "90K", "120K") for end in ("", "-2", "-3", "-4")]
    rounds = -(-12 // shares(12, None, None, "cpu")[0])
    assert entry["hours"] == pytest.approx(rounds * 200 * entry["seconds_per_step"] / 3600)
    assert list(tmp_path.glob("*.run")) == []


def test_cores_are_shared_out_unless_something_is_given() -> None:
    at_once, threads = shares(100, None, None, "cpu")
    cores = at_once * threads
    assert threads == 1
    assert shares(1, None, None, "cpu") == (1, cores)
    assert shares(100, 2, 3, "cpu") == (2, 3)
    assert shares(100, None, cores, "cpu") == (1, cores)


def test_a_signal_stops_all_with_checkpoints_and_the_same_command_ends_as_if_it_had_not(tmp_path: Path) -> None:
    path, out = write(tmp_path, 'temperatures = ["60 K", "90 K"]', NVT.replace("1000 fs", "20 ps")), tmp_path / "all"
    process = start(path, out, "--processes", 2, "--threads", 1)
    wait_for_steps([out / "60K", out / "90K"], process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "The same command continues." in said.decode()
    assert set(states(out).values()) <= {"stopped", "done"} and "stopped" in states(out).values()
    assert mlmd("simulate", path, "--out", out, "--threads", 1, "--quiet").code == 0
    simulate(out / "60K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "60K", tmp_path / "alone")


def test_when_the_process_that_started_them_is_killed_the_replicas_stop_with_checkpoints(tmp_path: Path) -> None:
    path, out = write(tmp_path, 'temperatures = ["60 K", "90 K"]', LONG), tmp_path / "all"
    process = start(path, out, "--processes", 1, "--threads", 1)
    wait_for_steps([out / "60K"], process)
    process.kill()
    process.communicate()
    assert wait_until_idle(out) == {"60K": "stopped", "90K": "waiting"}


def test_a_replica_that_is_killed_goes_on_from_its_checkpoint_by_itself(tmp_path: Path) -> None:
    output = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = "0.2 s"'
    path = write(tmp_path, 'temperatures = ["60 K"]\nseeds = 2', NVT.replace("1000 fs", "20 ps"), output=output)
    out = tmp_path / "all"
    process = start(path, out, "--processes", 1, "--threads", 1)
    wait_for_steps([out / "60K"], process)
    holder = (out / "60K" / "lock").read_text().split()[1]
    os.kill(int(holder), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "60K: failed and is tried once more from its checkpoint: the process was ended by SIGKILL" in said.decode()
    assert states(out) == {"60K": "done", "60K-2": "done"}
    simulate(out / "60K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "60K", tmp_path / "alone")


def test_one_that_fails_is_tried_twice_and_reported_and_the_others_are_done(tmp_path: Path) -> None:
    # the guard allows 300 K; 1200 K are above it from the first step
    guard = '\n[guard]\nmax_temperature = "300 K"\n'
    path = write(tmp_path, 'temperatures = ["1200 K", "60 K"]', NVT + guard)
    answer = mlmd("simulate", path, "--out", tmp_path / "all")
    assert answer.code == SimulationError.exit_code
    assert [line.split()[:2] for line in answer.out.splitlines()[1:]] == [["1200K", "failed"], ["60K", "done"]]
    assert answer.err.count("1200K: failed and is tried once more") == 1
    assert "1 replica failed; the others are done:\n  1200K: SimulationError: " in answer.err
    assert len(open_run(tmp_path / "all" / "1200K").manifest["continued"]) == 1


def test_a_mistake_that_is_in_all_of_them_is_not_tried_again(tmp_path: Path) -> None:
    path = write(tmp_path, THREE, potential='{ kind = "lennard-jones", epsilon = "0.0104 eV", cutoff = "6 Å" }')
    answer = mlmd("simulate", path, "--out", tmp_path / "all")
    assert answer.code == InputError.exit_code
    assert "tried once more" not in answer.err


def test_without_time_only_the_folders_are_written_and_each_can_be_run_alone(tmp_path: Path) -> None:
    path, out = write(tmp_path, THREE, options="seed = 7"), tmp_path / "all"
    assert mlmd("simulate", path, "--out", out, "--max-hours", 0, "--quiet").code == 75
    assert set(states(out).values()) == {"waiting"}
    assert mlmd("simulate", out / "90K" / "input.toml", "--threads", 1, "--quiet").code == 0
    assert states(out) == {"60K": "waiting", "90K": "done", "120K": "waiting"}
    answer = mlmd("show", out)
    assert answer.code == 4 and "holds many runs" in answer.err


def test_seeds_that_were_drawn_are_kept(tmp_path: Path) -> None:
    path, out = write(tmp_path, THREE), tmp_path / "all"
    path.write_text(path.read_text().replace("seed = 1\n", ""))
    texts = []
    for _ in range(2):
        assert mlmd("simulate", path, "--out", out, "--max-hours", 0, "--quiet").code == 75
        texts.append([(out / name / "input.toml").read_text() for name in states(out)])
    assert texts[0] == texts[1] and len(set(texts[0])) == 3


def test_every_run_is_analysed_as_its_input_says(tmp_path: Path) -> None:
    path = write(tmp_path, 'temperatures = ["60 K"]', NVT + '[analysis]\nrun = ["rdf"]\n')
    assert mlmd("simulate", path, "--out", tmp_path / "all", "--quiet").code == 0
    assert (tmp_path / "all" / "60K" / "report.html").exists()
    assert list((tmp_path / "all" / "60K" / "analysis").glob("rdf*.json"))


BIASED = NVT.replace('"replica"', '"60 K"').replace("1000 fs", "2 ps") + (
    'bias = [{ kind = "KIND", cv = { kind = "distance", atoms = [0, 1] }, width = "0.1 Å", minimum = "2 Å", '
    'maximum = "9 Å", walkers = { folder = "shared", number = "replica", read_every = "200 fs" } }]\n'
)


@pytest.mark.parametrize("kind", ["metadynamics", "abf"])
def test_walkers_of_one_input_fill_one_free_energy(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, "walkers = 2", BIASED.replace("KIND", kind))
    simulate_replicas(path, tmp_path / "out", n_processes=2, threads=1)
    runs = load_replicas(path)
    assert [one.name for one in runs] == ["walker-0", "walker-1"]
    assert len({one.config.seed for one in runs}) == 2
    told = [one.config.stage[0].bias[0].walkers for one in runs]
    assert [(one.number, one.count, one.folder) for one in told] == [(0, 2, told[0].folder), (1, 2, told[0].folder)]
    assert states(tmp_path / "out") == {"walker-0": "done", "walker-1": "done"}
    assert len(list((tmp_path / "shared").iterdir())) == 2
    ran = [tmp_path / "out" / one.name for one in runs]
    answer = mlmd("analyze", "fes", *(ran if kind == "abf" else ran[:1]), "--json")
    assert answer.code == 0, answer.err
    if kind == "metadynamics":  # hills of both: one for every ps of each
        assert json.loads(answer.out)["provenance"]["n_frames"] == 4


WRONG = {
    "walkers alone": ('walkers = 2\ntemperatures = ["60 K", "70 K"]', NVT, "walkers: all walkers fill one free"),
    "walkers of nothing": ("walkers = 2", NVT, 'write walkers = { folder = ..., number = "replica" } in a bias'),
    "walkers not listed": ("seeds = 2", BIASED.replace("KIND", "abf"), "[replicas] lists no walkers"),
    "other count": (
        "walkers = 2",
        BIASED.replace("KIND", "abf").replace('number = "replica"', 'number = "replica", count = 3'),
        "count = 3 in the bias, and [replicas] walkers = 2",
    ),
    "one walker": ("walkers = 1", BIASED.replace("KIND", "abf"), "replicas: walkers: 1: at least 2 is needed."),
    "empty": ("", NVT, "replicas: nothing is listed: give structures, temperatures, pressures"),
    "empty list": ("temperatures = []", NVT, "replicas: temperatures: "),
    "no list": ('temperatures = "60 K"', NVT, "replicas: temperatures: "),
    "negative": ('temperatures = ["-60 K"]', NVT, "a temperature above 0.0 K is needed"),
    "unit": ('temperatures = ["60 bar"]', NVT, "replicas: temperatures"),
    "twice": ('temperatures = ["60 K", "60 K"]', NVT, "60.0 K stands there twice; seeds = 2 makes two runs"),
    "unknown": ("temperature = [60]", NVT, "Did you mean 'temperatures'?"),
    "structures not used": ('structures = ["a.cif", "b.cif"]', NVT, 'nothing takes them: write structure = "replica"'),
    "structures that exchange": (
        'structures = ["a.cif", "b.cif"]\ntemperatures = [60, 90]\nexchange_every = "1 ps"',
        NVT,
        "structures: replicas that exchange are one system.",
    ),
    "structures alike": ('structures = ["a.cif", "a.cif"]', NVT, "a.cif stands there twice"),
    "seeds": ("seeds = 0", NVT, "replicas: seeds: 0: at least 1 is needed."),
    "seeds as list": ("seeds = [1, 2]", NVT, "replicas: seeds: "),
    "too many": ("temperatures = [60, 90]\nseeds = 501", NVT, "these are 1,002 runs; 1,000 are possible."),
    "not used": (THREE, NVT.replace("replica", "60 K"), 'no stage takes them: write temperature = "replica"'),
    "pressures not used": ("pressures = [1, 2]", NVT, "pressures: no stage takes them"),
    "not listed": (
        "seeds = 2",
        NVT,
        'stage 1: temperature: "replica" stands here, and [replicas] lists no temperatures',
    ),
    "elsewhere": (THREE, NVT + 'plumed = "replica"\n[guard]\nmax_temperature = "replica"', "guard: max_temperature: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    table, stages, told = WRONG[name]
    path = write(tmp_path, table, stages)
    before = sorted(tmp_path.iterdir())
    for command in (("simulate", path, "--out", tmp_path / "all"), ("check", path)):
        answer = mlmd(*command)
        assert (answer.code, answer.out) == (2, "")
        assert told in answer.err and "Traceback" not in answer.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_word_without_its_table_and_processes_without_replicas_are_refused(tmp_path: Path) -> None:
    assert mlmd("check", write_input(tmp_path, NVT)).code == 2
    answer = mlmd("check", write_input(tmp_path, NVT, options="replicas = 5"))
    assert answer.code == 2 and "replicas: " in answer.err
    answer = mlmd("simulate", write_input(tmp_path, NVT.replace("replica", "60 K")), "--processes", 2)
    assert answer.code == 2 and "[replicas]" in answer.err


def test_one_run_of_many_is_refused_by_the_function_for_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="These are several runs"):
        simulate(write(tmp_path, THREE))


def test_folders_of_others_are_left_alone(three: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = three
    colder = write(tmp_path / "other", THREE.replace("120", "30"), options="seed = 2")
    with pytest.raises(StorageError, match="seed: was"):
        simulate_replicas(colder, out)
    with pytest.raises(StorageError, match="is the folder of one run"):
        simulate_replicas(colder, out / "60K")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(StorageError, match=r"it holds thesis\.tex"):
        simulate_replicas(colder, tmp_path / "full")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "replicas.json").write_text("{")
    for command in ("status", "simulate"):
        arguments = [path, "--out"] if command == "simulate" else []
        assert mlmd(command, *arguments, tmp_path / "damaged").code == 4
