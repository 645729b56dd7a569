"""Slurm's commands for one machine: jobs are processes, the queue is a folder of files.

``install(folder)`` writes sbatch, srun, squeue, scontrol and scancel. As Slurm does, a signal goes to all processes of
a job but the shell of its script, and a job that was put back runs its script again under the same name.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = "STAND_IN_SLURM"
"""Variable with the folder of the queue."""
HELD = "held"
"""File in it that keeps jobs waiting."""
CLOSED = "closed"
"""File in it after which none begins any more."""


def install(folder: Path) -> dict[str, str]:
    """Make the commands in a folder; what the environment has to say."""
    queue, programs = folder / "queue", folder / "bin"
    for made in (queue, programs):
        made.mkdir(parents=True)
    for name in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).absolute()} {name} "$@"\n')
        (programs / name).chmod(0o755)
    return {STATE: str(queue), "PATH": f"{programs}:{os.environ['PATH']}"}


def sbatch(queue: Path, arguments: list[str]) -> int:
    """Begin the jobs of a script."""
    script = Path(arguments[-1]).read_text()
    (queue / "last.sh").write_text(script)
    if "--partition=nowhere" in script:
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        return 1
    number = 101 + len(list(queue.glob("script*")))
    (queue / f"script{number}").write_text(script)
    array = re.search(r"^#SBATCH --array=0-(\d+)", script, re.M)
    for task in range(int(array[1]) + 1) if array else [None]:
        name = str(number) if task is None else f"{number}_{task}"
        (queue / f"{name}.state").write_text("PENDING")
        subprocess.Popen(
            [sys.executable, __file__, "job", name], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    print(f"Submitted batch job {number}")
    return 0


def job(queue: Path, arguments: list[str]) -> int:
    """What carries a job out, again as often as it is put back."""
    (name,) = arguments
    number, _, task = name.partition("_")
    own = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_PROCID": "0"}
    own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task} if task else {}
    again = queue / f"{name}.again"
    while True:
        while (queue / HELD).exists() and not (queue / CLOSED).exists():
            time.sleep(0.05)
        if (queue / CLOSED).exists():
            return 1
        script = subprocess.Popen(
            ["bash", queue / f"script{number}"], env={**os.environ, **own}, start_new_session=True
        )
        (queue / f"{name}.shell").write_text(str(script.pid))
        (queue / f"{name}.state").write_text("RUNNING")
        script.wait()
        if not again.exists():
            break
        again.unlink()
        (queue / f"{name}.state").write_text("PENDING")
    (queue / f"{name}.state").unlink()
    return 0


def srun(queue: Path, arguments: list[str]) -> int:
    """Become the command of a step."""
    own, files = os.environ, {}
    while arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option in ("--output", "--error"):
            files[option] = arguments.pop(0)
    words = {"%j": own["SLURM_JOB_ID"], "%t": "0"}
    words |= {"%A": own.get("SLURM_ARRAY_JOB_ID", ""), "%a": own.get("SLURM_ARRAY_TASK_ID", "")}
    for descriptor, option in ((1, "--output"), (2, "--error")):
        path = re.sub("%[jtAa]", lambda found: words[found[0]], files[option])
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.execvp(arguments[0], arguments)


def squeue(queue: Path, arguments: list[str]) -> int:
    """Print the jobs that are asked for, by number or by name, as %i|%T|%r."""
    option, _, words = arguments[-1].partition("=")
    scripts = {path.name.removeprefix("script"): path.read_text() for path in queue.glob("script*")}
    named = [number for number, script in scripts.items() if f"#SBATCH --job-name={words}\n" in script]
    wanted = named if option == "--name" else words.split(",")
    found = sorted(path for path in queue.glob("*.state") if path.stem.partition("_")[0] in wanted)
    if not found and option == "--jobs":
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    for path in found:
        state = path.read_text()
        print(f"{path.stem}|{state}|{'Resources' if state == 'PENDING' else 'None'}")
    return 0


def scontrol(queue: Path, arguments: list[str]) -> int:
    """Put a job back."""
    assert arguments[0] == "requeue"
    (queue / f"{arguments[1]}.again").touch()
    return 0


def scancel(queue: Path, arguments: list[str]) -> int:
    """Send a signal to the processes of a job."""
    name, option, word = arguments
    assert option == "--signal"
    shell = int((queue / f"{name}.shell").read_text())
    for pid in [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]:
        try:
            if pid != shell and os.getsid(pid) == shell:
                os.kill(pid, signal.Signals[word])
        except ProcessLookupError:
            continue
    return 0


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](Path(os.environ[STATE]), sys.argv[2:]))
