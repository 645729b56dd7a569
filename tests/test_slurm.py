"""Replicas as jobs of Slurm: what they ask for, what becomes of them, and that a job that is put back loses nothing.

Slurm's commands are those of ``stand_in_slurm.py``; submitit is the real one, and tests that need it skip without.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import stand_in_slurm
from command_line import mlmd
from runs import assert_same_run, write_input

from mlmd.config.replicas import slurm_of
from mlmd.config.slurm import Slurm
from mlmd.engine import jobs, slurm
from mlmd.engine import status as statuses
from mlmd.engine.run import simulate
from mlmd.engine.slurm import ReplicaJob
from mlmd.errors import SimulationError
from mlmd.rundir import STOP

STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "replica"\nduration = "{}"\n'
SLURM = 'slurm = { time = "1 h" }'
SLURM_TABLE = Slurm(time="1 h")  # type: ignore[arg-type]


def write(folder: Path, duration: str = "1 ps", table: str = SLURM, temperatures: str = '["60 K", "90 K"]') -> Path:
    """An input whose replicas are jobs."""
    stages = f"[replicas]\ntemperatures = {temperatures}\n{table}\n\n{STAGE.format(duration)}"
    return write_input(folder, stages)


def states(folder: Path) -> dict[str, str]:
    return {one.name: one.state for one in statuses.status(folder)}


def wait_until(folder: Path, *wanted: str, seconds: float = 300.0) -> None:
    """Wait until every replica is in one of these states."""
    deadline = time.monotonic() + seconds
    while not set(states(folder).values()) <= set(wanted):
        assert time.monotonic() < deadline, (states(folder), *(p.read_text() for p in folder.glob("jobs/*.err")))
        time.sleep(0.2)


def wait_for_steps(folder: Path) -> None:
    """Wait until a run has written to its log."""
    deadline = time.monotonic() + 60
    while not (folder / "log.csv").exists() or statuses.status_of(folder).step == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm's commands, and the folder of their queue."""
    for name, value in stand_in_slurm.install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "slurm" / "queue"
    yield folder
    (folder / stand_in_slurm.CLOSED).touch()


@pytest.fixture
def submitit() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip install 'mlmd[slurm]')")


def written(folder: Path, **options: str) -> tuple[Path, Path]:
    """An input and its folder with all replicas, of which none has begun."""
    path, out = write(folder, **options), folder / "all"
    assert mlmd("simulate", path, "--out", out, "--here", "--max-hours", 0, "--quiet").code == 75
    return path, out


def test_each_replica_is_a_job_that_runs_it(tmp_path: Path, queue: Path, submitit: None) -> None:
    path, out = write(tmp_path), tmp_path / "all"
    (queue / stand_in_slurm.HELD).touch()
    answer = mlmd("simulate", path, "--out", out)
    assert answer.code == 0 and "2 jobs submitted to Slurm, 101_0 … 101_1" in answer.err
    assert states(out) == {"60K": "queued", "90K": "queued"}
    again = mlmd("simulate", path, "--out", out)
    assert again.code == 0 and "submitted" not in again.err  # those that wait are not submitted twice
    (queue / stand_in_slurm.HELD).unlink()
    wait_until(out, "done")
    simulate(out / "90K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "90K", tmp_path / "alone")
    assert "All replicas are complete" in mlmd("simulate", path, "--out", out).out


def test_a_job_asks_for_what_its_table_says(tmp_path: Path, queue: Path, submitit: None) -> None:
    table = (
        'slurm = { time = "90 min", partition = "gpu", cpus = 4, gpus = 1, memory = "16G", account = "li ion", '
        'extra = { qos = "long", exclusive = true }, setup = ["module load cuda"] }'
    )
    path = write(tmp_path, table=table)
    (queue / stand_in_slurm.HELD).touch()
    assert mlmd("simulate", path, "--out", tmp_path / "all", "--processes", 1, "--quiet").code == 0
    script = (queue / "last.sh").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    assert asked >= {
        "time=90", "partition=gpu", "cpus-per-task=4", "gpus-per-node=1", "mem=16G", "account='li ion'", "qos=long",
        "exclusive", "requeue", "signal=USR2@90", "array=0-1%1",
    }  # fmt: skip
    assert [one for one in asked if re.fullmatch("job-name=mlmd-[0-9a-f]{8}", one)]
    assert "module load cuda" in script


@pytest.mark.parametrize("preempted", [False, True], ids=["limit of time", "preemption"])
def test_a_job_that_has_to_go_is_put_back_and_ends_as_if_it_had_not(
    preempted: bool, tmp_path: Path, queue: Path, submitit: None
) -> None:
    path, out = write(tmp_path, "20 ps", temperatures='["60 K"]'), tmp_path / "all"
    assert mlmd("simulate", path, "--out", out, "--quiet").code == 0
    wait_for_steps(out / "60K")
    if preempted:  # Slurm says so beforehand, to the run itself too
        subprocess.run(["scancel", "101", "--signal", "SIGTERM"], check=True)
        while jobs.outcome_of(out, "60K") is None:
            time.sleep(0.1)
        time.sleep(1.0)
    subprocess.run(["scancel", "101", "--signal", "SIGUSR2"], check=True)
    wait_until(out, "done")
    assert (out / "60K" / "messages.log").read_text().count("stopped by signal SIGTERM") == 1
    assert len(statuses.open_run(out / "60K").manifest["continued"]) == 1
    assert (
        "Requeued job 101"
        in (out / "jobs" / "101_0_log.err").read_text() + (out / "jobs" / "101_0_log.out").read_text()
    )
    simulate(out / "60K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "60K", tmp_path / "alone")


def test_one_that_fails_is_tried_twice_and_told_and_submitted_again_by_the_same_command(
    tmp_path: Path, queue: Path, submitit: None
) -> None:
    # the guard allows 300 K; 1200 K are above it from the first step
    path, out = write(tmp_path, temperatures='["1200 K", "60 K"]'), tmp_path / "all"
    path.write_text(path.read_text() + '\n[guard]\nmax_temperature = "300 K"\n')
    assert mlmd("simulate", path, "--out", out, "--quiet").code == 0
    wait_until(out, "done", "failed")
    assert states(out) == {"1200K": "failed", "60K": "done"}
    outcome = jobs.outcome_of(out, "1200K")
    assert outcome is not None and (outcome.tries, outcome.code) == (2, SimulationError.exit_code)
    (queue / stand_in_slurm.HELD).touch()
    answer = mlmd("simulate", path, "--out", out)
    assert "1200K: job 101_0 failed and is submitted anew: SimulationError: " in answer.err
    assert states(out) == {"1200K": "queued", "60K": "done"}
    (queue / stand_in_slurm.HELD).unlink()
    wait_until(out, "done", "failed")


def test_jobs_of_a_submission_that_was_killed_are_found_and_not_submitted_twice(
    tmp_path: Path, queue: Path, submitit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write(tmp_path), tmp_path / "all"
    (queue / stand_in_slurm.HELD).touch()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(slurm, "keep_jobs", killed)
        slurm.submit_replicas(path, SLURM_TABLE, out)
    assert jobs.jobs_of(out) == {}
    slurm.submit_replicas(path, SLURM_TABLE, out)
    assert jobs.jobs_of(out) == {"60K": "101_0", "90K": "101_1"}
    assert states(out) == {"60K": "queued", "90K": "queued"} and len(list(queue.glob("script*"))) == 1


def test_a_replica_that_failed_is_submitted_again_also_when_the_list_of_jobs_was_removed(
    tmp_path: Path, queue: Path, submitit: None
) -> None:
    path, out = written(tmp_path, temperatures='["60 K"]')
    (queue / stand_in_slurm.HELD).touch()
    (out / "jobs").mkdir()
    jobs.keep_outcome(out, "60K", jobs.Outcome(2, 3, "SimulationError: too hot"))
    answer = mlmd("simulate", path, "--out", out)
    assert "60K: its job failed and is submitted anew: SimulationError: too hot" in answer.err
    assert jobs.jobs_of(out) == {"60K": "101"}


def test_what_slurm_says_against_a_job_is_told(tmp_path: Path, queue: Path, submitit: None) -> None:
    answer = mlmd(
        "simulate", write(tmp_path, table='slurm = { time = "1 h", partition = "nowhere" }'), "--out", tmp_path / "all"
    )
    assert answer.code == 2
    assert "Slurm refuses the jobs: sbatch: error: invalid partition specified: nowhere" in answer.err


def test_without_submitit_or_slurm_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write(tmp_path), tmp_path / "all"
    monkeypatch.setitem(sys.modules, "submitit", None)
    answer = mlmd("simulate", path, "--out", out)
    assert answer.code == 2 and "pip install 'mlmd[slurm]'" in answer.err
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(SlurmExecutor=None))
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = mlmd("simulate", path, "--out", out)
    assert answer.code == 2 and "sbatch was not found, so there is no Slurm here" in answer.err
    assert not out.exists()


def test_a_job_runs_its_replica_and_tells_when_it_is_done(tmp_path: Path) -> None:
    _, out = written(tmp_path)
    (out / "jobs").mkdir()
    assert ReplicaJob(out, "60K", ["--threads", "1"])() == "done"
    assert jobs.outcome_of(out, "60K") == jobs.Outcome(1, 0, jobs.outcome_of(out, "60K").words)  # type: ignore[union-attr]
    simulate(out / "60K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "60K", tmp_path / "alone")


def test_a_job_that_is_asked_for_its_checkpoint_hands_the_rest_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = written(tmp_path, duration="20 ps")
    (out / "jobs").mkdir()
    handed = SimpleNamespace(DelayedSubmission=lambda job: job)
    monkeypatch.setitem(sys.modules, "submitit", handed)
    monkeypatch.setitem(sys.modules, "submitit.helpers", handed)
    monkeypatch.setattr(slurm, "_UNTIL_KILLED", 0.0)
    job = ReplicaJob(out, "60K", ["--threads", "1"])
    node = threading.Thread(target=job)
    node.start()
    wait_for_steps(out / "60K")
    rest = job.checkpoint()
    node.join(60)
    assert states(out)["60K"] == "stopped"
    assert rest() == "done"
    simulate(out / "60K" / "input.toml", tmp_path / "alone", threads=1)
    assert_same_run(out / "60K", tmp_path / "alone")


def test_a_file_stops_the_run_of_a_job(tmp_path: Path) -> None:
    _, out = written(tmp_path, duration="4 ns")
    (out / "jobs").mkdir()
    job = ReplicaJob(out, "60K", ["--threads", "1"])
    node = threading.Thread(target=job)
    node.start()
    wait_for_steps(out / "60K")
    (out / STOP).touch()
    node.join(60)
    assert not node.is_alive() and states(out)["60K"] == "stopped"
    assert ReplicaJob(out, "90K", [])() == "stopped by the file STOP before it began"
    assert states(out) == {"60K": "stopped", "90K": "waiting"}


def test_a_run_that_a_file_and_slurm_want_to_stop_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a second signal ends a run at once, and the steps since its last checkpoint are lost
    said = tmp_path / "said"
    program = (
        f"import pathlib, signal, time\nsaid = pathlib.Path({str(said)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: said.write_text(said.read_text() + 'asked '))\n"
        "said.write_text('begun ')\nwhile 'asked' not in said.read_text(): time.sleep(0.05)\ntime.sleep(1.5)\n"
    )
    handed = SimpleNamespace(DelayedSubmission=lambda job: job)
    monkeypatch.setitem(sys.modules, "submitit", handed)
    monkeypatch.setitem(sys.modules, "submitit.helpers", handed)
    monkeypatch.setattr(slurm, "simulation", lambda folder, flags: [sys.executable, "-c", program])
    (tmp_path / "jobs").mkdir()
    job = ReplicaJob(tmp_path, "60K", [])
    node = threading.Thread(target=job)
    node.start()
    while not (said.exists() and said.read_text()):
        time.sleep(0.05)
    (tmp_path / STOP).touch()
    while "asked" not in said.read_text():
        time.sleep(0.05)
    job.checkpoint()
    node.join(30)
    assert said.read_text() == "begun asked "


def test_status_tells_what_waits_runs_and_has_failed(tmp_path: Path, queue: Path) -> None:
    _, out = written(tmp_path, temperatures='["60 K", "70 K", "80 K", "90 K"]')
    (out / "jobs").mkdir()
    jobs.keep_jobs(out, {"60K": "7_0", "70K": "7_1", "80K": "7_2"})
    (queue / "7_0.state").write_text("PENDING")
    (queue / "7_1.state").write_text("RUNNING")
    jobs.keep_outcome(out, "80K", jobs.Outcome(2, 3, "SimulationError: too hot"))
    lines = [line.split() for line in mlmd("status", out).out.splitlines()[1:]]
    assert [line[:2] for line in lines] == [
        ["60K", "queued"],
        ["70K", "running"],
        ["80K", "failed"],
        ["90K", "waiting"],
    ]
    assert lines[0][-3:] == ["job", "7_0:", "Resources"] and lines[2][-3:] == ["SimulationError:", "too", "hot"]
    for path in queue.glob("7_*"):
        path.unlink()
    assert list(states(out).values()) == ["waiting", "waiting", "failed", "waiting"]
    (out / "jobs.json").write_text("{")
    assert mlmd("status", out).code == 4


def test_check_tells_the_time_of_jobs_side_by_side(tmp_path: Path) -> None:
    entry = json.loads(mlmd("check", write(tmp_path), "--json").out)["inputs"][0]
    assert entry["hours"] == pytest.approx(200 * entry["seconds_per_step"] / 3600)


WRONG = {
    "empty": ("{}", "slurm: 'time' is missing"),
    "short": ('{ time = "1 min" }', "slurm: time: "),
    "unit": ('{ time = "1 K" }', "'K' is not a unit of wall time"),
    "unknown": ('{ time = "1 h", partitoin = "gpu" }', "Did you mean 'partition'?"),
    "cores": ('{ time = "1 h", cpus = 0 }', "slurm: cpus: 0: at least 1 is needed"),
    "two lines": ('{ time = "1 h", partition = "a\\nrm" }', "slurm: partition: "),
    "setup": ('{ time = "1 h", setup = "module load cuda" }', "slurm: setup: "),
    "own key": ('{ time = "1 h", extra = { cpus-per-task = 3 } }', "'cpus-per-task' has a key of its own: cpus"),
    "ours": ('{ time = "1 h", extra = { array = "0-3" } }', "'array' is set by mlmd"),
    "dashes": ('{ time = "1 h", extra = { "--qos x" = "y" } }', "is not an option of sbatch"),
    "list": ('{ time = "1 h", extra = ["qos"] }', "slurm: extra: "),
    "text": ('"gpu"', "slurm: "),
    "exchange": ('{ time = "1 h" }\nexchange_every = "10 fs"', "replicas that exchange take turns in one process"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_refused(name: str, tmp_path: Path) -> None:
    table, told = WRONG[name]
    path = write(tmp_path, table=f"slurm = {table}")
    answer = mlmd("simulate", path, "--out", tmp_path / "all")
    assert (answer.code, answer.out) == (2, "") and not (tmp_path / "all").exists()
    assert told in answer.err and "Traceback" not in answer.err


def test_flags_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert slurm_of(path) is not None
    answer = mlmd("simulate", path, "--out", tmp_path / "all", "--max-hours", 1)
    assert answer.code == 2 and "replicas: slurm: time" in answer.err
    answer = mlmd(
        "simulate",
        write_input(tmp_path, STAGE.format("1 ps").replace("replica", "60 K")),
        "--out",
        tmp_path / "all",
        "--here",
    )
    assert answer.code == 2 and "[replicas]" in answer.err
