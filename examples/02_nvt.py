"""A simulation from Python: write an input, run it, read the log, and compare the temperature with theory.

python examples/02_nvt.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from mlmd.engine.run import simulate
from mlmd.io.log import read_log

INPUTS = Path(__file__).parents[1] / "inputs"
INPUT = """
structure = "{structure}"
supercell = [{repeats}, {repeats}, {repeats}]
potential = {{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "8.5 Å" }}
timestep = "5 fs"
seed = 1

[[stage]]
kind = "nvt"
temperature = "94.4 K"
thermostat = {{ kind = "langevin", friction = "2 / ps" }}
duration = "{equilibration}"

[[stage]]
kind = "nvt"
temperature = "94.4 K"
thermostat = {{ kind = "langevin", friction = "2 / ps" }}
duration = "{production}"

[output]
trajectory_every = "50 fs"
log_every = "50 fs"
"""


def main() -> None:
    """Equilibrate liquid argon and look at the temperature of the second stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="run folder; a second run with it continues or finds all done")
    parser.add_argument("--short", action="store_true", help="a small cell, for a moment only")
    options = parser.parse_args()
    size = (2, "1 ps", "1 ps") if options.short else (3, "10 ps", "50 ps")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "nvt.toml"
        keys = dict(zip(("repeats", "equilibration", "production"), size, strict=True))
        source.write_text(INPUT.format(structure=INPUTS / "argon.extxyz", **keys), encoding="utf-8")
        run = simulate(source, options.out or Path(scratch) / "nvt.run")
        log = read_log(run.log)
        n_dof = 3 * (len(run.atoms) - 1)  # the centre of mass is at rest
    temperature = log["temperature [K]"][log["stage"] == len(run.stages)]
    mean, spread = temperature.mean(), temperature.std()
    print(f"{len(run.atoms)} atoms, {len(temperature)} samples in the last stage")
    print(f"temperature {mean:.2f} K, asked for 94.4 K")
    # a canonical kinetic energy has the variance N_f (kT)² / 2
    print(f"its fluctuation {spread:.2f} K, expected {94.4 * np.sqrt(2 / n_dof):.2f} K")


if __name__ == "__main__":
    main()
