"""How often the errors of sites, rotation and bonds hold the truth, over made trajectories of which it is known.

    python benchmarks/hopping.py [--sets 100]

Ions hop on a cubic lattice, and half of the hops take the last one back, so that f = (1 + c) / (1 - c) with the mean
cosine c of successive hops (Compaan and Haven, Trans. Faraday Soc. 1956, 52, 786). Tetrahedra turn by rotational
diffusion, C_l = exp(-l (l + 1) D_r t). Pairs bind and break at constant rates.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator

import ase
import numpy as np
from scipy.spatial.transform import Rotation

from mlmd import units
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.lifetimes import lifetimes
from mlmd.analysis.rotation import rotation
from mlmd.analysis.sites import sites
from mlmd.io.trajectories import from_arrays

EDGE, CELLS, HOP, BACK = 4.0, 3, 0.03, 0.5
"""Å, cells along each edge, hops of an ion and frame, hops that are taken back."""
STEP, GROUPS = 0.08, 8
"""Radians of a tetrahedron around each axis and frame; tetrahedra."""
MAKE, CUT, PAIRS = 0.02, 0.05, 40
"""Chances of a frame; pairs of atoms."""
INTERVAL, FRAMES = 10.0, 2000
"""fs between frames; frames of a set."""
WITHIN = 1.96
"""Standard errors, of an interval of 95 %."""

Found = Iterator[tuple[str, Estimate, float]]
"""What, its estimate, and the truth."""


def hopping(rng: np.random.Generator, n_ions: int = 20) -> Found:
    """Rates, residence times, jump diffusion and the correlation factor of ions on a lattice."""
    arms = EDGE * np.concatenate([np.eye(3), -np.eye(3)])
    last, place = rng.integers(6, size=n_ions), EDGE * rng.integers(0, CELLS, size=(n_ions, 3)).astype(float)
    path = np.empty((FRAMES, n_ions, 3))
    for frame in range(FRAMES):
        path[frame] = place
        opposite = (last + 3) % 6
        chosen = np.where(rng.random(n_ions) < BACK, opposite, (opposite + rng.integers(1, 6, size=n_ions)) % 6)
        hop = rng.random(n_ions) < HOP
        place = place + np.where(hop[:, None], arms[chosen], 0.0)
        last = np.where(hop, chosen, last)
    path += rng.normal(scale=0.25, size=path.shape)
    ions = ase.Atoms(f"Li{n_ions}", cell=[EDGE * CELLS] * 3, pbc=True)
    corner = ase.Atoms("Li", positions=[[0.0, 0.0, 0.0]], cell=[EDGE] * 3, pbc=True)
    trajectory = from_arrays(path, ions, interval=INTERVAL, unwrapped=True)
    result = sites(trajectory, element="Li", reference=corner, drift="none")
    cosine = -BACK + (1.0 - BACK) / 5.0
    yield "jump rate", result.rate, 1e3 * HOP / INTERVAL
    yield "residence time", result.classes[0].residence, 1e-3 * INTERVAL / HOP
    yield "jump diffusion", result.jump_diffusion, HOP / INTERVAL * EDGE**2 / 6.0 * units.CM2_PER_S
    yield "correlation factor", result.correlation, (1.0 + cosine) / (1.0 - cosine)


def turning(rng: np.random.Generator) -> Found:
    """Relaxation times of tetrahedra."""
    tetrahedron = 2.05 / np.sqrt(3.0) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    now = Rotation.random(GROUPS, rng=rng)
    positions = np.zeros((FRAMES, GROUPS, 5, 3))
    for frame in range(FRAMES):
        positions[frame, :, 1:] = np.stack([now.apply(arm) for arm in tetrahedron], axis=1)
        now = Rotation.from_rotvec(rng.normal(scale=STEP, size=(GROUPS, 3))) * now
    positions[..., 0] += 10.0 * np.arange(GROUPS)[:, None]
    atoms = ase.Atoms(["P", "S", "S", "S", "S"] * GROUPS)
    trajectory = from_arrays(positions.reshape(FRAMES, -1, 3), atoms, interval=INTERVAL, unwrapped=True)
    result = rotation(trajectory, center="P", ligand="S", cutoff=2.6)
    for one in result.relaxations:
        yield f"relaxation time of C_{one.order}", one.time, 2e-3 * INTERVAL / (one.order * (one.order + 1) * STEP**2)


def binding(rng: np.random.Generator) -> Found:
    """The lifetime of bonds."""
    bound = rng.random(PAIRS) < MAKE / (MAKE + CUT)
    positions = np.zeros((FRAMES, 2 * PAIRS, 3))
    positions[:, :, 1] = np.tile(20.0 * np.arange(PAIRS), 2)
    for frame in range(FRAMES):
        positions[frame, PAIRS:, 0] = np.where(bound, 2.0, 4.0)
        bound = np.where(bound, rng.random(PAIRS) >= CUT, rng.random(PAIRS) < MAKE)
    trajectory = from_arrays(positions, ase.Atoms(f"O{PAIRS}H{PAIRS}"), interval=INTERVAL, unwrapped=True)
    yield "lifetime of bonds", lifetimes(trajectory, cutoffs={("O", "H"): 3.0}).pairs[0].lifetime, 1e-3 * INTERVAL / CUT


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=100)
    n_sets = parser.parse_args().sets
    found: dict[str, list[tuple[float, float]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(n_sets):
            for make in (hopping, turning, binding):
                for name, one, truth in make(np.random.default_rng(seed)):
                    if one.determined:
                        found.setdefault(name, []).append(((one.value - truth) / one.error, one.error / truth))
    print("quantity                   sets  intervals that hold the truth  mean of z  spread of z  relative error")
    for name, pairs in found.items():
        z, error = np.array(pairs).T
        inside = 100.0 * float(np.mean(np.abs(z) < WITHIN))
        print(f"{name:25s} {len(z):5d} {inside:27.1f} % {z.mean():10.2f} {z.std():12.2f} {error.mean():15.3f}")


if __name__ == "__main__":
    main()
