"""Feeds compiled kernels with impossible systems and parameters; a child process of test_kernels_build runs it.

    python fuzz_kernels.py KERNELS.npz

KERNELS.npz holds family, cutoff, number of species, integers and numbers of some kernels. Whatever is wrong must be
refused with an error of Python; a crash or a finding of the sanitizers ends the process with another exit code.
"""

from __future__ import annotations

import sys

import numpy as np

from mlmd.errors import MlmdError, SimulationError
from mlmd.kernels import Fused, Kernel
from mlmd.kernels.design import Features
from mlmd.kernels.pair_counts import PairCounts

WITH_FEATURES = ("moments", "radial-angular", "snap", "soap", "symmetry")
"""Families that give features and their Jacobian products too."""


def systems(generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions (n, 3) Å, cell (3, 3) Å and pbc (3,) of systems that loops over atoms may stumble over."""
    box, all_ways, no_way = 9.0 * np.eye(3), np.ones(3), np.zeros(3)
    dense = generator.uniform(0, 2.0, (150, 3))
    bad = generator.uniform(0, 9, (8, 3))
    bad[3, 1] = np.nan
    return [
        (np.zeros((0, 3)), box, all_ways),
        (np.zeros((0, 3)), np.zeros((3, 3)), no_way),
        (np.array([[1.0, 2.0, 3.0]]), box, no_way),
        (np.array([[1.0, 2.0, 3.0]]), 2.1 * np.eye(3), all_ways),
        (np.zeros((5, 3)), box, all_ways),  # all in one place
        (dense, box, all_ways),
        (generator.uniform(-50, 50, (33, 3)), box, np.array([1, 0, 1])),
        (generator.uniform(0, 1e5, (20, 3)), 1e5 * np.eye(3), all_ways),
        (bad, box, all_ways),
        (np.full((4, 3), np.inf), box, all_ways),
        (np.full((4, 3), 1e300), box, all_ways),
        (generator.uniform(0, 9, (8, 3)), np.zeros((3, 3)), all_ways),
        (generator.uniform(0, 9, (8, 3)), np.full((3, 3), np.nan), all_ways),
        (generator.uniform(0, 9, (8, 3)), np.array([[9.0, 0, 0], [180.0, 9, 0], [-70, 95, 9]]), all_ways),
    ]


def run(kernel: Kernel, n_species: int, generator: np.random.Generator) -> int:
    """Compute every system, move it, and restore it; gives how many were refused."""
    refused = 0
    for positions, cell, pbc in systems(generator):
        species = generator.integers(0, n_species, len(positions))
        made = Fused(kernel, species, n_species, pbc, 0.5)
        try:
            with np.errstate(all="ignore"):
                made.compute(positions, cell, 1, details=True)
                made.compute(positions + 0.4, cell, 2)
                made.compute(positions * 1.1, cell * 1.1, 1, details=True)
            made.restore(made.state(), 1)
        except (SimulationError, MemoryError):
            refused += 1
    return refused


def run_features(kernel: Kernel, n_species: int, generator: np.random.Generator) -> int:
    """Features of every system and their derivatives in both directions; gives how many were refused."""
    refused = 0
    for positions, cell, pbc in systems(generator):
        species = generator.integers(0, n_species, len(positions))
        made = Features(kernel, species, n_species, pbc, n_threads=2)
        try:
            values = made.values(positions, cell)
            made.push(positions, cell, generator.standard_normal(positions.shape), generator.standard_normal((3, 3)))
            made.push(positions, cell, np.zeros(positions.shape))
            made.pull(positions, cell, generator.standard_normal(values.shape))
            for n_sums in (0, 1, 7):
                made.pull_many(positions, cell, generator.standard_normal((*values.shape, n_sums)))
        except (MlmdError, MemoryError):
            refused += 1
    return refused


def run_counts(generator: np.random.Generator) -> int:
    """Pairs of every system by distance; gives how many were refused."""
    refused = 0
    for positions, cell, pbc in systems(generator):
        count = PairCounts(generator.integers(0, 2, len(positions)), 3, pbc, 4.0, 7)
        try:
            with np.errstate(all="ignore"):
                for n_threads in (0, 2):
                    count(positions, cell, n_threads)
                count(positions * 1.1, cell * 1.1)
        except (SimulationError, MemoryError):
            refused += 1
    return refused


def spoiled(kernel: Kernel, generator: np.random.Generator) -> Kernel:
    """Parameters that are too short, too long, or wrong in a place."""
    integers, numbers = kernel.integers.copy(), kernel.numbers.copy()
    match generator.integers(0, 5):
        case 0:
            integers = integers[: generator.integers(0, len(integers) + 1)]
        case 1:
            numbers = numbers[: generator.integers(0, len(numbers) + 1)]
        case 2:
            integers[generator.integers(0, len(integers))] = generator.choice([-1, 0, 1, 7, 1000, 2**31, -(2**62)])
        case 3:
            numbers[generator.integers(0, len(numbers))] = generator.choice([np.nan, np.inf, -1.0, 0.0])
        case 4:
            integers = np.append(integers, 1)
    return Kernel(kernel.family, kernel.cutoff, integers, numbers, kernel.precision)


def main() -> None:
    """Run everything."""
    generator, stored = np.random.default_rng(0), np.load(sys.argv[1])
    print(f"{run_counts(generator)} systems refused whose pairs cannot be counted")
    names = sorted({key.split("/")[0] for key in stored.files})
    for name in names:
        family, precision = str(stored[f"{name}/family"]), str(stored[f"{name}/precision"])
        integers, numbers = stored[f"{name}/integers"], stored[f"{name}/numbers"]
        kernel = Kernel(family, float(stored[f"{name}/cutoff"]), integers, numbers, precision)
        n_species = int(stored[f"{name}/n_species"])
        refused = run(kernel, n_species, generator)
        makers: list[type[Fused | Features]] = [Fused]
        if family in WITH_FEATURES:
            refused += run_features(kernel, n_species, generator)
            makers.append(Features)
        spoilt = 0
        for made in makers * 60:
            try:
                made(spoiled(kernel, generator), np.zeros(1, dtype=int), n_species, np.zeros(3), skin=0.5)
            except (MlmdError, MemoryError):
                spoilt += 1
        print(f"{name}: {refused} systems and {spoilt} sets of parameters refused")


if __name__ == "__main__":
    main()
