"""Pairs of atoms pushed together in frames of the dynamics, for the student: what keeps atoms apart at all.

    python close.py FRAMES.extxyz OUT.extxyz

Moment tensors fall as well as rise at distances that no structure has. For each kind of pair, ten of the frames in
which two such atoms are closest; both are moved towards each other, down to distances at which the teacher still
repels. It has holes of its own below some of them.
"""

import sys

import ase.io
import numpy as np

CLOSEST = {
    ("Li", "Li"): (1.8, 2.3),
    ("Li", "Y"): (2.2, 2.8),
    ("Li", "Cl"): (1.6, 1.85),
    ("Cl", "Cl"): (2.2, 2.75),
    ("Y", "Y"): (3.2, 4.6),
}
"""Distances (Å) from the shortest to that of the dynamics, about."""
N_EACH = 10


def closest(atoms: ase.Atoms, kinds: tuple[str, str]) -> tuple[float, int, int]:
    """Distance (Å) and indices of the two atoms of these kinds that are closest."""
    first, second = (np.flatnonzero(atoms.symbols == kind) for kind in kinds)
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    block = distances[np.ix_(first, second)]
    row, column = np.unravel_index(block.argmin(), block.shape)
    return float(block.min()), int(first[row]), int(second[column])


def pushed(atoms: ase.Atoms, pair: tuple[int, int], distance: float) -> ase.Atoms:
    """The same with the two atoms moved towards each other, each as far, until they are at a distance (Å)."""
    apart = atoms.get_distance(*pair, mic=True, vector=True)
    change = apart * (1 - distance / np.linalg.norm(apart)) / 2
    moved = ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    moved.positions[pair[0]] += change
    moved.positions[pair[1]] -= change
    moved.info["config_type"] = "close"
    return moved


def main() -> None:
    """Write the structures."""
    frames, made = ase.io.read(sys.argv[1], index=":"), []
    for kinds, (shortest, longest) in CLOSEST.items():
        found = sorted((*closest(atoms, kinds), number) for number, atoms in enumerate(frames))[:N_EACH]
        for (_, first, second, number), distance in zip(found, np.linspace(shortest, longest, N_EACH), strict=True):
            made.append(pushed(frames[number], (first, second), distance))
    ase.io.write(sys.argv[2], made, format="extxyz")


if __name__ == "__main__":
    main()
