"""Memory and time of analyses of a trajectory that is larger than memory may be, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from msd import CELL, INTERVAL, write_walk

PARTS = (4, 2, 1)
"""The first quarter, half and all of the frames."""
LIMIT = 500.0
"""MB, the interpreter and its libraries included."""
PREPARE = (
    "import sys, json, time, resource, ase\n"
    "from mlmd.io.trajectories import open_trajectory\n"
    "{imports}\n"
    "wall, processor = time.perf_counter(), time.process_time()\n"
    "t = open_trajectory(sys.argv[1], ase.Atoms('Ar' + sys.argv[2], cell=[{cell}] * 3, pbc=True), unwrapped=True,"
    " interval={interval}, last_time=float(sys.argv[3]))\n"
    "{call}\n"
    "print(json.dumps({{'wall': time.perf_counter() - wall, 'processor': time.process_time() - processor,"
    " 'megabytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}}))\n"
)
TASKS = {
    "MSD, all frames": (
        "from mlmd.analysis.msd import mean_squared_displacements",
        "mean_squared_displacements(t, ['Ar'])",
    ),
    "g(r) to 10 Å, every 10th frame": (
        "from mlmd.analysis.rdf import rdf",
        "rdf(t, r_max=10.0, max_frames=t.n_frames // 10)",
    ),
    "S(q) to 6 1/Å, every 100th frame": (
        "from mlmd.analysis.scattering.structure_factor import structure_factor",
        "structure_factor(t, q_max=6.0, max_frames=t.n_frames // 100)",
    ),
}
"""Name -> imports, and the call that is timed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the file")


def run(options: argparse.Namespace) -> None:
    """Print peak memory, time, and the power of the number of frames that time grows with."""
    n_frames = max(400, round(1e9 * options.gigabytes / (12 * options.atoms)))
    print(f"{options.atoms:,} atoms × {n_frames:,} frames of dcd, one thread\n")
    print("| analysis | frames of file | s | s of the processor | MB | time grows as frames to the |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.dcd"
        write_walk(path, options.atoms, n_frames)
        for name, (imports, call) in TASKS.items():
            before: dict[str, float] = {}
            for part in PARTS:
                program = PREPARE.format(imports=imports, call=call, cell=CELL, interval=INTERVAL)
                frames = n_frames // part
                found = _asked(program, path, options.atoms, (frames - 1) * INTERVAL)
                power = f"{math.log2(found['processor'] / before['processor']):.2f}" if before else ""
                numbers = f"{found['wall']:.1f} | {found['processor']:.1f} | {found['megabytes']:.0f} | {power}"
                print(f"| {name} | {frames:,} | {numbers} |", flush=True)
                before, largest = found, max(largest, found["megabytes"])
        size = path.stat().st_size / 1e9
    print(f"\n{size:.2f} GB in {largest:.0f} MB at most; aimed: below {LIMIT:g} MB")


def _asked(program: str, path: Path, n_atoms: int, last_time: float) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-c", program, str(path), str(n_atoms), repr(last_time)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **threads})
    if answer.returncode:
        raise SystemExit(answer.stderr)
    return dict(json.loads(answer.stdout.splitlines()[-1]))
