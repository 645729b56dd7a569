"""How hot a crystal may be for its atoms to be told to be of its lattice: common neighbours and templates.

    python benchmarks/structure_types.py [--cells 12]

Atoms of fcc and bcc that are displaced by Gaussian noise along each axis, in units of the bond (crystals melt where it
is about 0.06, Lindemann's tenth of a bond in all), of fcc displaced so far that nothing of it is left, and of copper's
melt near its freezing point, by the potential that comes with mlmd: 500 atoms from 3,000 K, whose neighbours are no
noise but have icosahedra and pieces of hcp among them. Templates are those that are asked for by default, with three
cutoffs of the RMSD. `pip install "mlmd[ptm]"`.
"""

from __future__ import annotations

import argparse
import time

import ase.build
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from mlmd.analysis.common_neighbours import BCC, FCC, OTHER, structure_types
from mlmd.analysis.template_matching import template_matches
from mlmd.ase import Calculator
from mlmd.models import path
from mlmd.potentials import modelfile

CUTOFFS = (0.1, 0.12, 0.15)
BOND = {"fcc": 1.0 / np.sqrt(2.0), "bcc": np.sqrt(3.0) / 2.0}
"""In units of the lattice constant."""
KIND = {"fcc": FCC, "bcc": BCC}
NOTHING_LEFT = 0.25
FREEZING = 1400.0
"""K; copper melts at 1358."""


def melted(n_frames: int = 25, seed: int = 1) -> list[Atoms]:
    """Frames 0.2 ps apart of copper's melt, after 4 ps at 3,000 K and 4 ps at `FREEZING`."""
    rng = np.random.default_rng(seed)
    atoms = ase.build.bulk("Cu", "fcc", 3.78, cubic=True).repeat(5)
    atoms.calc = Calculator(modelfile.load(path("Cu")))
    frames = []
    for kelvin, n_parts in ((3000.0, 20), (FREEZING, 20 + n_frames)):
        dynamics = Langevin(atoms, 2 * units.fs, temperature_K=kelvin, friction=0.002 / units.fs, rng=rng, fixcm=False)
        for _ in range(n_parts):
            dynamics.run(100)
            frames.append(atoms.copy())
    return frames[-n_frames:]


def found_in_melt() -> tuple[list[float], int]:
    """Parts of a melt that are told to be of any lattice, and how many atoms were looked at."""
    types, rmsd = [], []
    for one in melted():
        types.append(structure_types(one.positions, one.cell.array, one.pbc))
        rmsd.append(template_matches(one.positions, one.cell.array, one.pbc, cutoff=10.0).rmsd)
    parts = [np.mean(np.array(types) != OTHER), *(np.mean(np.array(rmsd) < cutoff) for cutoff in CUTOFFS)]
    return [float(part) for part in parts], np.size(types)


def found(lattice: str, displacement: float, n_cells: int, seed: int = 0) -> tuple[list[float], int, list[float]]:
    """Parts that are told to be of the lattice (or of any), how many atoms, and seconds of the two methods."""
    atoms = ase.build.bulk("Cu", lattice, 3.6, cubic=True).repeat(n_cells)
    size = displacement * BOND[lattice] * 3.6
    positions = atoms.positions + size * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    begin = time.process_time()
    types = structure_types(positions, atoms.cell.array, atoms.pbc)
    between = time.process_time()
    matches = template_matches(positions, atoms.cell.array, atoms.pbc, cutoff=10.0)
    seconds = [between - begin, time.process_time() - between]
    if displacement >= NOTHING_LEFT:
        parts = [np.mean(types != OTHER), *(np.mean(matches.rmsd < cutoff) for cutoff in CUTOFFS)]
    else:
        own = matches.types == KIND[lattice]
        parts = [np.mean(types == KIND[lattice]), *(np.mean(own & (matches.rmsd < cutoff)) for cutoff in CUTOFFS)]
    return [float(part) for part in parts], len(atoms), seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=12, help="cubic cells along each side")
    n_cells = parser.parse_args().cells
    print("| crystal | displacement | common neighbours |", " | ".join(f"RMSD < {one:g}" for one in CUTOFFS), "|")
    print("| --- | ---: | ---: |" + " ---: |" * len(CUTOFFS))
    for lattice, displacement in (
        *(("fcc", one) for one in (0.04, 0.055, 0.07, 0.08)),
        *(("bcc", one) for one in (0.04, 0.055, 0.07, 0.08)),
        ("fcc", NOTHING_LEFT),
    ):
        parts, n_atoms, seconds = found(lattice, displacement, n_cells)
        cells = " | ".join(f"{100 * part:.1f} %" for part in parts)
        print(f"| {lattice}, {n_atoms:,} atoms | {displacement:g} | {cells} |", flush=True)
    of_melt, n_looked_at = found_in_melt()
    cells = " | ".join(f"{100 * part:.2g} %" for part in of_melt)
    print(f"| molten Cu at {FREEZING:g} K, {n_looked_at:,} atoms | | {cells} |")
    print(f"\nSeconds of the processor for the last crystal: {seconds[0]:.2f} and {seconds[1]:.2f}")


if __name__ == "__main__":
    main()
