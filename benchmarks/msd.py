"""Time and memory of the mean squared displacement of a large trajectory that streams from its file.

    python benchmarks/msd.py [--atoms 10000] [--frames 1000] [--format dcd|xtc]

Needed: 10,000 atoms × 1,000 frames in less than 30 s and 1 GB, the interpreter and its libraries included.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import ase
import numpy as np

from mlmd.analysis.diffusion import diffusion
from mlmd.io.trajectories import open_trajectory

CELL = 50.0
"""Å."""
STEP = 0.2
"""Å per frame along each axis, standard deviation."""
INTERVAL = 100.0
"""fs between frames."""


def write_walk(path: Path, n_atoms: int, n_frames: int) -> None:
    """Random walks, one frame in memory at a time."""
    from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile

    rng = np.random.default_rng(1)
    positions = CELL * rng.random((n_atoms, 3))
    if path.suffix == ".dcd":
        with DCDTrajectoryFile(str(path), "w") as file:
            for _ in range(n_frames):
                file.write(positions.astype("f4"), cell_lengths=[[CELL] * 3], cell_angles=[[90.0] * 3])
                positions += rng.normal(scale=STEP, size=positions.shape)
    else:
        with XTCTrajectoryFile(str(path), "w") as file:
            for _ in range(n_frames):
                file.write((positions[None] / 10).astype("f4"), box=np.eye(3)[None] * CELL / 10)
                positions += rng.normal(scale=STEP, size=positions.shape)


def peak_memory() -> float:
    """Largest memory of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=1_000)
    parser.add_argument("--format", choices=("dcd", "xtc"), default="dcd")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"walk.{options.format}"
        write_walk(path, options.atoms, options.frames)
        atoms = ase.Atoms(f"Ar{options.atoms}", cell=[CELL] * 3, pbc=True)
        before, start = peak_memory(), time.perf_counter()
        result = diffusion(open_trajectory(path, atoms, unwrapped=True, interval=INTERVAL))
        seconds = time.perf_counter() - start
    print(f"{options.atoms:,} atoms × {options.frames:,} frames, {options.format}: {seconds:.1f} s")
    print(f"peak memory {peak_memory():.2f} GB, {before:.2f} GB of it before the trajectory was opened")
    print(f"D = {result.species[0].coefficient}, exact {STEP**2 / (2 * INTERVAL) * 0.1:.4e} cm²/s")


if __name__ == "__main__":
    main()
