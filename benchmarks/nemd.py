"""Thermal conductivity of the Lennard-Jones fluid out of equilibrium, by heat that flows between two slabs.

    python benchmarks/nemd.py [--time 400] [--cells 10] [--gradient 0.05]

The state of `benchmarks/transport.py`, ρ* = 0.6 and T* = 1.35 with r_c = 2.5 σ, where κ* is about 3.4 (LAMMPS'
examples/KAPPA). A run is 20 ps of NVT and then NVE of the given time in argon's units, with the power that makes the
gradient (ε/k_B σ) where κ* is 3.4. Printed are κ* with its error, the drift of the total energy beside the heat that
was exchanged, and the profile.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from transport import EPSILON, SIGMA, STATES, equilibrated, reduced

from mlmd import units
from mlmd.analysis.nemd import nemd
from mlmd.engine.run import simulate
from mlmd.io.log import read_log
from mlmd.rundir import LOG, Run


def run_flow(cells: int, gradient: float, duration: float, folder: Path) -> Run:
    """Let heat flow through 4 × 4 × `cells` cubes of four atoms for some ps."""
    side = (4 / STATES["heat"][0]) ** (1 / 3) * SIGMA
    power = 2.0 * (4.0 * side) ** 2 * 3.4 * reduced("heat") / units.W_PER_MK * gradient * EPSILON / units.KB / SIGMA
    path = folder / "input.toml"
    path.write_text(f"""{equilibrated("heat", (4, 4, cells), folder)}
[[stage]]
kind = "nve"
duration = "{duration} ps"
heat_exchange = {{ axis = "z", power = "{1e3 * power} eV/ps", slabs = {2 * cells} }}

[output]
trajectory_every = "100 ps"
log_every = "1 ps"

[guard]
max_temperature = "off"
""")
    return simulate(path, folder / "run", threads=1)


def measure(cells: int, gradient: float, duration: float, folder: Path) -> tuple[float, float, float]:
    """κ* and its error, and T*."""
    result = nemd(run_flow(cells, gradient, duration, folder))
    unit, found = reduced("heat"), result.conductivity
    return found.value / unit, found.error / unit, result.flows[0].temperature.value * units.KB / EPSILON


def main() -> None:
    """Print what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=400.0, help="ps of NVE")
    parser.add_argument("--cells", type=int, default=10, help="cubes along the flow")
    parser.add_argument("--gradient", type=float, default=0.05, help="ε/k_B σ")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        value, error, temperature = measure(options.cells, options.gradient, options.time, Path(temporary))
        print(f"κ* = {value:.3f} ± {error:.3f} at T* = {temperature:.3f}")
        log = read_log(Path(temporary) / "run" / LOG)
        flows = log["stage"] == 2
        per_atom, n_atoms = log["energy per atom [eV]"][flows], 64 * options.cells
        drift = np.polyfit(log["time [ps]"][flows], n_atoms * per_atom, 1)[0]
        heat = log["exchanged heat [eV]"][flows][-1] / options.time
        print(f"drift of the total energy {drift:.2g} eV/ps, where {heat:.4g} eV/ps were exchanged")
        print(nemd(Path(temporary) / "run").to_csv())


if __name__ == "__main__":
    main()
