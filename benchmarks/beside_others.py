"""Mean squared displacements and g(r) of one file, by mlmd, freud and MDAnalysis, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from msd import write_walk

HERE = Path(__file__).parent
OWN = {
    "msd": "import sys, json, time, resource\nimport ase\n"
    "from mlmd.io.trajectories import open_trajectory\nfrom mlmd.analysis.msd import mean_squared_displacements\n"
    "begun, used = time.perf_counter(), time.process_time()\n"
    "t = open_trajectory(sys.argv[1], ase.Atoms('Ar' + sys.argv[2], cell=[50.0] * 3, pbc=True), unwrapped=True,"
    " interval=100.0)\n"
    "value = mean_squared_displacements(t, ['Ar'], 'none')['Ar'].total[100]\n",
    "rdf": "import sys, json, time, resource\nimport ase\n"
    "from mlmd.io.trajectories import open_trajectory\nfrom mlmd.analysis.rdf import rdf\n"
    "begun, used = time.perf_counter(), time.process_time()\n"
    "t = open_trajectory(sys.argv[1], ase.Atoms('Ar' + sys.argv[2], cell=[50.0] * 3, pbc=True), unwrapped=True,"
    " interval=100.0)\n"
    "value = rdf(t, r_max=10.0, bin_width=0.05, max_frames=t.n_frames).pairs[0].g[100]\n",
}
END = (
    "print(json.dumps({'seconds': time.perf_counter() - begun, 'processor': time.process_time() - used,"
    " 'value': float(value),"
    " 'megabytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))\n"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes, and where the others are."""
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="that has freud-analysis, MDAnalysis and tidynamics")


def run(options: argparse.Namespace) -> None:
    """All in turns, the least time of each."""
    task = options.part
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.dcd"
        write_walk(path, options.atoms, options.frames)
        commands = {
            "mlmd": [sys.executable, "-c", OWN[task] + END, path, str(options.atoms)],
            "freud": [options.python, HERE / "analysis_peers.py", f"freud-{task}", path],
            "MDAnalysis": [options.python, HERE / "analysis_peers.py", f"mdanalysis-{task}", path],
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                found[name].append(_asked(list(map(str, command)), options.python == command[0]))
    print(f"{task}: {options.atoms:,} atoms × {options.frames:,} frames of {path.suffix[1:]}, one thread each")
    print(f"{'':12}{'seconds':>9}{'of processor':>14}{'MB':>8}{'times mlmd':>12}{'value':>14}")
    least = min(one["processor"] for one in found["mlmd"])
    for name, results in found.items():
        best = min(results, key=lambda one: one["processor"])  # a busy machine makes all else longer
        numbers = f"{best['seconds']:9.2f}{best['processor']:14.2f}{best['megabytes']:8.0f}"
        numbers += f"{best['processor'] / least:12.1f}"
        print(f"{name:12}{numbers}{best['value']:14.6g}")


def _asked(command: list[str], foreign: bool) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TBB_NUM_THREADS"), "1")
    surroundings = {**os.environ, **threads}
    if foreign:
        surroundings.pop("PYTHONPATH", None)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    if answer.returncode:
        raise SystemExit(f"{' '.join(command[:2])}\n{answer.stderr}")
    return dict(json.loads(answer.stdout.splitlines()[-1]))
