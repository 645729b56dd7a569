"""A diffusion coefficient with its error, of a run or of a random walk whose diffusion coefficient is known.

python examples/04_diffusion.py                     # random walks
python examples/04_diffusion.py quickstart.run      # a run folder, as `mlmd analyze diffusion` does
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms

from mlmd import units
from mlmd.analysis.diffusion import DiffusionResult, diffusion
from mlmd.io.trajectories import from_arrays, open_run

STEP = 0.1
"""Å per frame along each axis, standard deviation."""
INTERVAL = 100.0
"""fs between frames."""


def of_run(folder: Path) -> None:
    """The last stage of a run, and its two halves, which must agree within their errors."""
    whole = open_run(folder)
    middle = 0.5 * (whole.times[0] + whole.times[-1])
    for name, trajectory in (
        ("last stage", whole),
        ("first half", open_run(folder, last_time=middle)),
        ("second half", open_run(folder, first_time=middle)),
    ):
        print(f"{name}:\n{diffusion(trajectory)}")


def walk(n_atoms: int, n_frames: int, rng: np.random.Generator) -> DiffusionResult:
    """Atoms that jump independently of each other."""
    jumps = rng.normal(scale=STEP, size=(n_frames - 1, n_atoms, 3))
    positions = np.concatenate([np.zeros((1, n_atoms, 3)), np.cumsum(jumps, axis=0)])
    atoms = Atoms(f"Ar{n_atoms}", cell=[30.0] * 3, pbc=True)
    # drift="none": nothing holds the walkers together, so their centre of mass diffuses too
    return diffusion(from_arrays(positions, atoms, interval=INTERVAL, unwrapped=True), drift="none")


def of_walks(n_walks: int, n_frames: int) -> None:
    """Does the error that is given cover the error that is made?"""
    rng = np.random.default_rng(1)
    exact = STEP**2 / (2 * INTERVAL) * units.CM2_PER_S
    found = [walk(20, n_frames, rng).species[0].coefficient for _ in range(n_walks)]
    print(f"exact {exact:.3e} cm²/s; the first of {n_walks} random walks gives {found[0]}")
    known = [one for one in found if np.isfinite(one.value)]  # now and then a walk does not look diffusive
    deviations = np.array([(one.value - exact) / one.error for one in known])
    print(f"mean of {len(known)} walks {np.mean([one.value for one in known]):.3e} cm²/s")
    print(f"deviations from the exact value: {deviations.std():.2f} of the errors given (1 is right)")


def main() -> None:
    """A run when one is given, else random walks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="a run folder")
    parser.add_argument("--short", action="store_true", help="fewer and shorter walks")
    options = parser.parse_args()
    if options.run is not None:
        of_run(options.run)
    else:
        of_walks(*((10, 200) if options.short else (100, 1000)))


if __name__ == "__main__":
    main()
