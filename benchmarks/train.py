"""Time and memory of training, and whether memory grows with the data.

    python benchmarks/train.py [--level 16] --data Cu_train.xyz.xz

A linear fit (plain radial functions) and one iteration of the optimisation of radial functions, each in a process of
its own for the data and for the data twice over. Needed for copper at level 16: the linear fit in 60 s and 3 GB with
two processes, and the same memory for twice the data.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CUTOFF = "4.2 Å"


def main() -> None:
    """Run every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=16)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} does not exist; give labelled structures with --data.")
    print(f"{options.data.name}, level {options.level}, cutoff {CUTOFF}, {options.processes} processes")
    print("| fit | data | s | s a pass over the data | GB, all processes together |\n|---|---|---:|---:|---:|")
    for radial, iterations in (("plain", 1), ("optimise", 1)):
        for copies in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                seconds, gigabytes = measure(Path(folder), options, radial, iterations, copies)
            # the first solution, for the derivatives one pass more at each iteration, and the learning curve
            passes = 2 if radial == "plain" else iterations + 3
            print(f"| {radial} | {copies} x | {seconds:.1f} | {seconds / passes:.1f} | {gigabytes:.2f} |", flush=True)


def measure(
    folder: Path, options: argparse.Namespace, radial: str, iterations: int, copies: int
) -> tuple[float, float]:
    """Wall time in s and peak memory in GB of one training, reading, errors and figures included."""
    data = ", ".join([f'"{options.data.resolve()}"'] * copies)
    (folder / "train.toml").write_text(
        f'data = [{data}]\ntest_fraction = 0.0\n[descriptor]\nlevel = {options.level}\ncutoff = "{CUTOFF}"\n'
        + (f"[fit]\nmax_iterations = {iterations}\n" if radial == "optimise" else '[fit]\nradial = "plain"\n')
    )
    command = [sys.executable, "-m", "mlmd", "train", "train.toml", "--quiet", "--processes", str(options.processes)]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"mlmd train ended with code {process.returncode}")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return time.perf_counter() - start, max(peak, largest)


def memory_of(pid: int) -> float:
    """Resident memory of a process and its children, GB (Linux)."""
    total = 0.0
    for one in (pid, *children(pid)):
        try:
            text = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1e6
    return total


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [grandchild for child in found for grandchild in children(child)]


if __name__ == "__main__":
    main()
