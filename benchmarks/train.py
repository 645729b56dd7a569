"""Time and memory of training, and whether memory grows with the data.

    python benchmarks/train.py [--level 16] --data Cu_train.xyz.xz
    python benchmarks/train.py --data Cu_train.xyz.xz --only plain gap --copies 1

A linear fit to moment tensors with plain radial functions, one iteration of the optimisation of radial functions, and
a Gaussian approximation potential of SOAP power spectra with 500 representative atoms, each in a process of its own for
the data and for the data twice over. Needed for copper at level 16: the linear fit in 15 s, the Gaussian approximation
potential in 5 minutes, with two processes, and the same memory for twice the data. Seconds of the processor are those
of all processes together.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CUTOFF = "4.2 Å"
FITS = {
    "plain": '[descriptor]\nkind = "mtp"\nlevel = {level}\ncutoff = "{cutoff}"\n[fit]\nradial = "plain"\n',
    "optimise": '[descriptor]\nkind = "mtp"\nlevel = {level}\ncutoff = "{cutoff}"\n[fit]\nmax_iterations = 1\n',
    "gap": '[descriptor]\nkind = "soap"\nn_max = 6\nl_max = 6\ncutoff = "{cutoff}"\n'
    '[fit]\nkind = "gap"\nn_sparse = 500\n',
}
PASSES = {"plain": 2, "optimise": 4}
"""Over the data: the first solution, for the derivatives one more at each iteration, and the learning curve."""


def main() -> None:
    """Run every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=int, default=16)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2], help="of the data")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} does not exist; give labelled structures with --data.")
    print(f"{options.data.name}, level {options.level}, cutoff {CUTOFF}, {options.processes} processes")
    print("| fit | data | s | s of the processor | s a pass over the data | GB, all processes together |")
    print("| --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for fit in options.only:
        for copies in options.copies:
            with tempfile.TemporaryDirectory() as folder:
                seconds, used, gigabytes = measure(Path(folder), options, fit, copies)
            of_pass = f"{seconds / PASSES[fit]:.1f}" if fit in PASSES else ""
            print(f"| {fit} | {copies} x | {seconds:.1f} | {used:.1f} | {of_pass} | {gigabytes:.2f} |", flush=True)


def measure(folder: Path, options: argparse.Namespace, fit: str, copies: int) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak memory in GB, of one training with errors and figures."""
    data = ", ".join([f'"{options.data.resolve()}"'] * copies)
    (folder / "train.toml").write_text(
        f"data = [{data}]\ntest_fraction = 0.0\n{FITS[fit].format(level=options.level, cutoff=CUTOFF)}"
    )
    command = [sys.executable, "-m", "mlmd", "train", "train.toml", "--quiet", "--processes", str(options.processes)]
    start, before = time.perf_counter(), sum(os.times()[2:4])
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"mlmd train ended with code {process.returncode}")
    return time.perf_counter() - start, sum(os.times()[2:4]) - before, peak


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
