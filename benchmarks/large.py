"""A million atoms of copper and more through `mlmd simulate`: energy, time, memory, and a run that is killed.

    python benchmarks/large.py [--cells 63] [--steps 100] [--precision float32] [--threads 2] [--npt-steps 50]

First NVE of 4 cells³ atoms with the potential that comes with mlmd: how well the energy is conserved, where the time
goes, and the largest memory of the whole process. Then, unless --npt-steps is 0, NPT with trajectory and checkpoints
every ten seconds: killed (SIGKILL) after a checkpoint in its midst, continued by the same command, and compared with
the same run left alone. Runs are in a temporary folder, or in --folder, which is kept; a million atoms take 2 GB.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import machine

STRUCTURE = Path(__file__).parents[1] / "inputs" / "copper.extxyz"
INPUT = """
structure = "{structure}"
supercell = [{cells}, {cells}, {cells}]
potential = {{ path = "Cu", precision = "{precision}" }}
timestep = "2 fs"
velocities = "600 K"
seed = 1
[[stage]]
{stage}
duration = "{duration} fs"
[output]
trajectory_every = "{frames} fs"
log_every = "{log} fs"
checkpoint_every = "10 s"
"""
NVE, NPT = 'kind = "nve"', 'kind = "npt"\ntemperature = "300 K"\npressure = "1 bar"'


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code, or minus the signal."""
    gigabytes: float
    """Largest resident memory, 10⁹ bytes."""
    seconds: float


def simulate(source: Path, threads: int, kill_after: int | None = None) -> Ended:
    """Run `mlmd simulate` in a process of its own; kill it some seconds after so many checkpoints of later steps."""
    run = source.with_suffix(".run")
    command = [sys.executable, "-m", "mlmd", "simulate", str(source), "--out", str(run), "--threads", str(threads)]
    clock = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while kill_after is not None and process.poll() is None:
        made = {file.stem for file in (run / "checkpoint").glob("*.ckpt") if int(file.stem.split("-")[1]) > 0}
        if len(made) >= kill_after:
            time.sleep(3)  # into steps that the checkpoint does not have
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.2)
    _, status, usage = os.wait4(process.pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return Ended(os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit / 1e9, time.perf_counter() - clock)


def log(source: Path) -> list[dict[str, str]]:
    """Rows of log.csv."""
    with (source.with_suffix(".run") / "log.csv").open() as file:
        return list(csv.DictReader(file))


def messages(source: Path, word: str) -> list[str]:
    """Lines of messages.log that hold a word, without their times."""
    text = (source.with_suffix(".run") / "messages.log").read_text()
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if word in line]


def nve(source: Path, n_atoms: int, threads: int) -> None:
    """Run and print."""
    ended = simulate(source, threads)
    if ended.code:
        raise SystemExit(f"the run ended with {ended.code}")
    rows = log(source)
    energies = np.array([float(row["energy per atom [eV]"]) for row in rows])
    print(f"NVE, {n_atoms:,} atoms: {rows[-1]['step']} steps, {rows[-1]['temperature [K]']} K at the end")
    change = 1e3 * np.ptp(energies[len(energies) // 2 :])
    print(f"total energy: {energies[0]:.6f} eV/atom at the start, {energies[-1]:.6f} at the end;")
    print(f"within the second half it changes by {change:.4f} meV/atom")
    print(*messages(source, "steps in"), *messages(source, "time of"), sep="\n")
    print(f"largest memory {ended.gigabytes:.2f} GB, {1e6 * ended.gigabytes / n_atoms:.2f} kB per atom; ", end="")
    print(f"{ended.seconds:.0f} s with start and end", flush=True)


def npt(source: Path, alone: Path, n_atoms: int, threads: int) -> None:
    """Run, kill, continue, compare, print."""
    killed = simulate(source, threads, kill_after=1)
    reached = messages(source, "begins")
    if killed.code != -signal.SIGKILL:
        raise SystemExit("the run was over before it could be killed: take more steps")
    ended = simulate(source, threads)
    if ended.code or not messages(source, "continues"):
        raise SystemExit(f"the run ended with {ended.code}, or began anew")
    undisturbed = simulate(alone, threads)
    print(f"\nNPT, {n_atoms:,} atoms: {reached[0]}, killed ({killed.code}) after {killed.seconds:.0f} s;")
    print(*messages(source, "continues"), *messages(source, "time of"), sep="\n")
    same = log(source) == log(alone)
    final = [(one.with_suffix(".run") / "final.extxyz").read_bytes() for one in (source, alone)]
    steps = [int(row["step"]) for row in log(source)]
    whole = steps == sorted(set(steps))
    print(f"log {'equals' if same else 'DIFFERS from'} that of the same run left alone; ", end="")
    print(f"final atoms {'too' if final[0] == final[1] else 'DIFFER'}; ", end="")
    print("no row is missing or double" if whole else "rows are double")
    if not (same and whole and final[0] == final[1]):
        raise SystemExit("the continued run is another one")
    print(f"largest memory {max(killed.gigabytes, ended.gigabytes, undisturbed.gigabytes):.2f} GB")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=63, help="along each edge; 63 are 1,000,188 atoms")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--npt-steps", type=int, default=50)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(f"{machine()}, {options.threads} threads, {options.precision}\n")
    n_atoms = 4 * options.cells**3
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sources = {}
        for name, stage, n_steps in (("nve", NVE, options.steps), ("npt", NPT, options.npt_steps)):
            for copy in (name, f"{name}_alone"):
                sources[copy] = folder / f"{copy}.toml"
                text = INPUT.format(
                    structure=STRUCTURE, cells=options.cells, precision=options.precision, stage=stage,
                    duration=2 * n_steps, frames=max(2, 2 * (n_steps // 2)), log=2 * max(1, min(10, n_steps // 5)),
                )  # fmt: skip
                sources[copy].write_text(text)
        nve(sources["nve"], n_atoms, options.threads)
        if options.npt_steps:
            npt(sources["npt"], sources["npt_alone"], n_atoms, options.threads)


if __name__ == "__main__":
    main()
