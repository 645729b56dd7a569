"""Viscosity and thermal conductivity of the Lennard-Jones fluid, by Green-Kubo integrals of what runs write.

    python benchmarks/transport.py [--time 2] [--atoms 500] [--state heat] [--folder DIR]

Two states of the literature, in reduced units, with r_c = 2.5 σ:

- ρ* = 0.6, T* = 1.35, where κ* is about 3.4 (the state of LAMMPS' examples/KAPPA);
- ρ* = 0.8442, T* = 0.722, near the triple point, where η* is 3.24(4) (Ferrario, Ciccotti, Holian, Ryckaert, Phys. Rev.
  A 44, 6936, 1991).

A run is 20 ps of NVT and then NVE of the given time (ns) in argon's units; a longer one goes on where a shorter one
with the same folder ended. Printed are the coefficient with its error and the running integral, in reduced units.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import ase.build
import ase.io

from mlmd import units
from mlmd.analysis.green_kubo import GreenKubo, thermal_conductivity, viscosity
from mlmd.engine.run import simulate

EPSILON, SIGMA, MASS = 0.0103234, 3.405, 39.948
"""Argon: eV, Å, amu."""
STATES = {"heat": (0.6, 1.35, thermal_conductivity), "stress": (0.8442, 0.722, viscosity)}
"""Flux -> density, temperature, analysis."""
PERIOD = SIGMA * math.sqrt(MASS * units.KINETIC / EPSILON)
"""fs, the unit of time."""


def reduced(flux: str) -> float:
    """The unit of the coefficient: k_B / (τ σ) in W/(m K), or ε τ / σ³ in mPa s."""
    if flux == "heat":
        return units.W_PER_MK * units.KB / (PERIOD * SIGMA)
    return units.MPA_S * EPSILON * PERIOD / SIGMA**3


def equilibrated(flux: str, repeats: tuple[int, int, int], folder: Path) -> str:
    """Write cubes of four atoms at the density of a state; how an input begins that brings them to its temperature."""
    density, temperature, _ = STATES[flux]
    atoms = ase.build.bulk("Ar", "fcc", (4 / density) ** (1 / 3) * SIGMA, cubic=True).repeat(repeats)
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "argon.extxyz", atoms)
    cutoff = f'cutoff = "{2.5 * SIGMA} Å", onset = "{2.45 * SIGMA} Å"'
    return f"""structure = "argon.extxyz"
potential = {{ kind = "lennard-jones", epsilon = "{EPSILON} eV", sigma = "{SIGMA} Å", {cutoff} }}
timestep = "4 fs"
seed = 1

[[stage]]
kind = "nvt"
temperature = "{temperature * EPSILON / units.KB} K"
duration = "20 ps"
"""


def measure(flux: str, n_atoms: int, duration: float, folder: Path) -> GreenKubo:
    """Run a state for some ns and analyse it."""
    analyse, repeat = STATES[flux][2], round((n_atoms / 4) ** (1 / 3))
    path = folder / "input.toml"
    path.write_text(f"""{equilibrated(flux, (repeat, repeat, repeat), folder)}
[[stage]]
kind = "nve"
duration = "{duration} ns"

[output]
trajectory_every = "100 ps"
log_every = "1 ps"
fluxes = ["{flux}"]
every = "20 fs"

[guard]
max_temperature = "off"
""")
    clock = time.perf_counter()
    run = simulate(path, folder / "run", threads=1)
    print(f"{flux}: {4 * repeat**3} atoms, {time.perf_counter() - clock:.0f} s")
    return analyse(run)


def main() -> None:
    """Print what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=float, default=2.0, help="ns of NVE")
    parser.add_argument("--atoms", type=int, default=500)
    parser.add_argument("--state", choices=list(STATES), help="only this one")
    parser.add_argument("--folder", type=Path, help="of the runs, to go on from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for flux in [options.state] if options.state else STATES:
            folder = (options.folder or Path(temporary)) / flux
            found, unit = measure(flux, options.atoms, options.time, folder), reduced(flux)
            value, error, running = found.coefficient.value / unit, found.coefficient.error / unit, found.running
            temperature = found.temperature * units.KB / EPSILON
            print(f"{found.symbol}* = {value:.3f} ± {error:.3f} at T* = {temperature:.3f}")
            print(f"  running integral up to {found.cutoff_time / PERIOD:.2f} τ: {running.value / unit:.3f}"
                  f" ± {running.error / unit:.3f}")  # fmt: skip
            print(f"  {found}")


if __name__ == "__main__":
    main()
