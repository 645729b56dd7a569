"""How far `mlmd simulate` comes in a day: ns/day of whole runs, and where their time goes.

    python benchmarks/speed.py [--teacher fitted.mtp:Li,Y,Cl] [--duration "4 ps"] [--threads 2] [--repeats 3]

480 atoms of Li3YCl6 at 800 K with 2 fs and Langevin dynamics, log, trajectory and checkpoints as often as by default:
with the potential that comes with mlmd, in double and in single precision, and with the file of a published one where
it is given (Qi et al., Mater. Today Phys. 21, 100463, 2021). The runs take turns; the fastest of each counts.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from machine import machine

from mlmd.engine.run import simulate

CRYSTAL = Path(__file__).parents[1] / "inputs" / "li3ycl6.cif"
INPUT = """
structure = "{crystal}"
supercell = [2, 2, 4]
potential = {{ path = "{path}", precision = "{precision}"{elements} }}
timestep = "2 fs"
velocities = "1600 K"
seed = 1
[[stage]]
kind = "nvt"
temperature = "800 K"
duration = "{duration}"
"""


def run(says: str, precision: str, duration: str, threads: int) -> tuple[float, str]:
    """ns/day of a new run and the shares of its time, from its messages."""
    path, _, symbols = says.partition(":")
    elements = f", elements = {symbols.split(',')}" if symbols else ""
    place = Path(path).absolute() if Path(path).is_file() else path
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "input.toml")
        text = INPUT.format(crystal=CRYSTAL, path=place, precision=precision, elements=elements, duration=duration)
        source.write_text(text)
        simulate(source, Path(name, "run"), threads=threads)
        messages = Path(name, "run", "messages.log").read_text()
    speed, shares = re.search(r"([\d.e+]+) ns/day", messages), re.search(r"time of stage 1[^:]*: (.*)", messages)
    assert speed is not None and shares is not None
    return float(speed[1]), shares[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", help="file.mtp:Li,Y,Cl")
    parser.add_argument("--duration", default="4 ps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    potentials = {"comes with mlmd": "Li3YCl6"} | ({"published": options.teacher} if options.teacher else {})
    cases = [(name, precision) for name in potentials for precision in ("float64", "float32")]
    best = dict.fromkeys(cases, (0.0, ""))
    for _ in range(options.repeats):
        for name, precision in cases:
            found = run(potentials[name], precision, options.duration, options.threads)
            best[name, precision] = max(best[name, precision], found)
    print(f"{machine()}, {options.threads} threads\n\n| Li3YCl6, 480 atoms, 2 fs | precision | ns/day | time |")
    print("| --- | --- | ---: | --- |")
    for (name, precision), (speed, shares) in best.items():
        print(f"| {name} | {precision} | {speed:.0f} | {shares} |")


if __name__ == "__main__":
    main()
