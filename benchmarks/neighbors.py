"""How long a search for neighbours takes: mlmd's, vesin's, and matscipy's where it is installed.

    python benchmarks/neighbors.py [--sizes 11000 98000 1000000] [--threads 2] [--repeats 5]

Full lists of a rattled fcc crystal within 5 Å (54 neighbours; 58 in the triclinic cell). The programs take turns in
one process with the same number of threads (matscipy has one), every one with objects and memory that it has used
before, and the median of the repeats counts. mlmd's time is that of everything that a search in a run does: wrapping
atoms, making their images, sorting them in space, rows of neighbours. ``mlmd pairs`` is the list of pairs (i, j, S)
in canonical order made of it, which is what the others give in an order of their own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import vesin
from machine import machine

from mlmd.kernels.pairs import Neighbours

CUTOFF = 5.0
LATTICE = 3.27  # Å: 54 neighbours
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
TRICLINIC = np.array([[1, 0, 0], [0.3, 1, 0], [0.1, -0.25, 1]])
SHOW_PAIRS_UP_TO = 200_000  # atoms; canonical lists of more pairs take long and nobody needs them


def crystal(n_atoms: int, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cell, Å."""
    n = round((n_atoms / 4) ** (1 / 3))
    cells = np.indices((n, n, n)).reshape(3, -1).T[:, None]
    positions = (cells + FCC).reshape(-1, 3) * LATTICE
    positions += np.random.default_rng(0).normal(0, 0.05, positions.shape)
    return positions @ shape, n * LATTICE * shape


def programs(positions: np.ndarray, cell: np.ndarray, threads: int) -> dict[str, Callable[[], int]]:
    """Name -> a function that searches once and returns the number of pairs."""
    near = Neighbours(np.zeros(len(positions)), np.ones(3), CUTOFF)

    def mlmd() -> int:
        near.search(positions, cell, threads)
        return 0

    def mlmd_pairs() -> int:
        near.search(positions, cell, threads)
        return near.pairs(n_threads=threads)[0].shape[1]

    calculator = vesin.NeighborList(cutoff=CUTOFF, full_list=True, n_threads=threads)

    def by_vesin() -> int:
        return len(calculator.compute(positions, cell, True, quantities="ijS", copy=False)[0])

    table = {"mlmd": mlmd, "vesin": by_vesin}
    if len(positions) <= SHOW_PAIRS_UP_TO:
        table["mlmd pairs"] = mlmd_pairs
        try:
            from matscipy.neighbours import neighbour_list
        except ImportError:
            return table
        table["matscipy"] = lambda: len(
            neighbour_list("ijS", positions=positions, cell=cell, pbc=np.ones(3, bool), cutoff=CUTOFF)[0]
        )
    return table


def measure(table: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """Milliseconds of every program, the median of repeats in turn.

    Raises:
        RuntimeError: when programs find different numbers of pairs.
    """
    counts = {name: program() for name, program in table.items() if name != "mlmd"}
    if len(set(counts.values())) != 1:
        raise RuntimeError(f"the programs find different numbers of pairs: {counts}")
    table["mlmd"]()
    taken: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(repeats):
        for name, program in table.items():
            start = time.perf_counter()
            program()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def step(positions: np.ndarray, cell: np.ndarray, threads: int, repeats: int) -> tuple[float, float]:
    """Milliseconds to follow the atoms in a step without a search, and bytes per atom, with a skin of 0.5 Å."""
    near = Neighbours(np.zeros(len(positions)), np.ones(3), CUTOFF, 0.5)
    near.update(positions, cell, threads)
    moved = positions + np.random.default_rng(1).normal(0, 0.01, positions.shape)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        near.update(moved, cell, threads)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken), near.n_bytes / len(positions)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[11_000, 98_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}, {arguments.threads} threads, vesin {vesin.__version__}; ms, and how many times longer\n")
    print("| atoms | cell | mlmd | vesin | ratio | mlmd pairs | matscipy | ratio | step without search | bytes/atom |")
    print("| ---: | --- " + "| ---: " * 8 + "|")
    for n_atoms in arguments.sizes:
        for name, shape in (("orthorhombic", np.eye(3)), ("triclinic", TRICLINIC)):
            positions, cell = crystal(n_atoms, shape)
            took = measure(programs(positions, cell, arguments.threads), arguments.repeats)
            follow, size = step(positions, cell, arguments.threads, arguments.repeats)
            times = [f"{took[key]:.1f}" if key in took else "" for key in ("mlmd", "vesin", "mlmd pairs", "matscipy")]
            ratios = [f"{took[key] / took['mlmd']:.1f}" if key in took else "" for key in ("vesin", "matscipy")]
            columns = [*times[:2], ratios[0], *times[2:], ratios[1], f"{follow:.2f}", f"{size:.0f}"]
            print(f"| {len(positions)} | {name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
