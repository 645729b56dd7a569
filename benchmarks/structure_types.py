"""How hot a crystal may be for its atoms to be told to be of its lattice: common neighbours and templates.

    python benchmarks/structure_types.py [--cells 12]

Atoms of fcc and bcc that are displaced by Gaussian noise along each axis, in units of the bond (crystals melt where it
is about 0.06, Lindemann's tenth of a bond in all), and of fcc displaced so far that nothing of it is left. Templates
are those that are asked for by default, with three cutoffs of the RMSD. `pip install "mlmd[ptm]"`.
"""

from __future__ import annotations

import argparse
import time

import ase.build
import numpy as np

from mlmd.analysis.common_neighbours import BCC, FCC, OTHER, structure_types
from mlmd.analysis.template_matching import template_matches

CUTOFFS = (0.1, 0.12, 0.15)
BOND = {"fcc": 1.0 / np.sqrt(2.0), "bcc": np.sqrt(3.0) / 2.0}
"""In units of the lattice constant."""
KIND = {"fcc": FCC, "bcc": BCC}
MELT = 0.25


def found(lattice: str, displacement: float, n_cells: int, seed: int = 0) -> tuple[list[float], int, list[float]]:
    """Parts that are told to be of the lattice (of a melt, of any), how many atoms, and seconds of the two methods."""
    atoms = ase.build.bulk("Cu", lattice, 3.6, cubic=True).repeat(n_cells)
    size = displacement * BOND[lattice] * 3.6
    positions = atoms.positions + size * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    begin = time.process_time()
    types = structure_types(positions, atoms.cell.array, atoms.pbc)
    between = time.process_time()
    matches = template_matches(positions, atoms.cell.array, atoms.pbc, cutoff=10.0)
    seconds = [between - begin, time.process_time() - between]
    if displacement >= MELT:
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
        ("fcc", MELT),
    ):
        parts, n_atoms, seconds = found(lattice, displacement, n_cells)
        cells = " | ".join(f"{100 * part:.1f} %" for part in parts)
        print(f"| {lattice}, {n_atoms:,} atoms | {displacement:g} | {cells} |", flush=True)
    print(f"\nSeconds of the processor for the last: {seconds[0]:.2f} and {seconds[1]:.2f}")


if __name__ == "__main__":
    main()
