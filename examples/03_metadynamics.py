"""Well-tempered metadynamics of a double well, and the free energy that its hills add up to.

python examples/03_metadynamics.py [--out FOLDER]

PLUMED makes the double well itself (inputs/metadynamics.dat), so the free energy along x is known.
Method: Barducci, Bussi, Parrinello, Phys. Rev. Lett. 100, 020603 (2008).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from mlmd.engine.run import simulate

INPUTS = Path(__file__).parents[1] / "inputs"


def exact(x: np.ndarray) -> np.ndarray:
    """The free energy of inputs/metadynamics.dat in kJ/mol, x in nm."""
    return 16.0 * ((x / 0.2) ** 2 - 1.0) ** 2


def sum_of_hills(path: Path, x: np.ndarray) -> np.ndarray:
    """The free energy in kJ/mol at x (nm): minus the sum of all hills.

    PLUMED writes the heights of a well-tempered run already scaled by γ/(γ - 1).
    """
    _, centres, widths, heights, _ = np.loadtxt(path, unpack=True)
    return -(heights * np.exp(-0.5 * ((x[:, None] - centres) / widths) ** 2)).sum(axis=1)


def main() -> None:
    """Run the input and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="run folder; a second run with it continues or finds all done")
    parser.add_argument("--short", action="store_true", help="too short to be right, to see that it works")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("metadynamics.toml", "metadynamics.dat", "particle.extxyz"):
            shutil.copy(INPUTS / name, folder)
        source = folder / "metadynamics.toml"
        if options.short:
            source.write_text(source.read_text(encoding="utf-8").replace('"1 ns"', '"20 ps"'), encoding="utf-8")
        run = simulate(source, options.out or folder / "metadynamics.run")
        x = np.linspace(-0.28, 0.28, 141)
        found = sum_of_hills(run.path / "HILLS", x)
    found += np.average(exact(x) - found, weights=np.exp(-exact(x) / 16.0))  # free energies have no zero
    for one in (-0.2, -0.1, 0.0, 0.1, 0.2):
        index = int(np.argmin(abs(x - one)))
        print(f"x = {one:+.1f} nm: {found[index]:6.2f} kJ/mol, exact {exact(x)[index]:6.2f} kJ/mol")
    print(f"root mean square deviation {np.sqrt(np.mean((found - exact(x)) ** 2)):.2f} kJ/mol")


if __name__ == "__main__":
    main()
