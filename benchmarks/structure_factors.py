"""Structure factors beside dynasor's: the same frames, the same wavevectors, in turns, and the cost over N and n_q."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.wavevectors import reciprocal, wavevectors

EDGE = 50.0
"""Å, of the cube."""
AIM = 3.0
"""Times as fast as a warm dynasor on one thread."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Sizes."""
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--wavevectors", type=int, default=2_000, help="about so many, q and -q counted")
    parser.add_argument("--rounds", type=int, default=15)


def run(options: argparse.Namespace) -> None:
    """Print a table: ρ(q) of a frame by each program, and how mlmd's cost grows."""
    rng = np.random.default_rng(1)
    fractional, cell = rng.random((options.atoms, 3)), np.eye(3) * EDGE
    q_max = (options.wavevectors * 6.0 * np.pi**2) ** (1 / 3) / EDGE  # points of the lattice in a sphere
    points = wavevectors(cell, q_max, 0.1)
    half = points.indices
    both = np.concatenate([half, -half])
    density, of_both = Density(half), Density(both)
    programs: dict[str, Callable[[], np.ndarray]] = {
        "mlmd": lambda: density(fractional),  # ρ(-q) is the conjugate of ρ(q), and S the same
        "mlmd, q and -q computed": lambda: of_both(fractional),
    }
    programs |= _dynasor(fractional @ cell, half @ reciprocal(cell), both @ reciprocal(cell))
    exact = programs["mlmd"]()
    print(f"\nρ(q) of a frame, {options.atoms:,} atoms, {len(both):,} wavevectors, one thread\n")
    took = _in_turn(programs, options.rounds)
    print("| program | ms | times as fast as dynasor | largest deviation |")
    print("| --- | ---: | ---: | ---: |")
    for name, call in programs.items():
        off = np.abs(call()[: len(half)] - exact).max() / options.atoms
        ratio = f"{took['dynasor'] / took[name]:.2f}" if "dynasor" in took else "dynasor is not installed"
        print(f"| {name} | {1e3 * took[name]:.2f} | {ratio} | {off:.0e} |")
    print(
        f"\naimed: {AIM:g} times as fast\n\n"
        "| atoms | wavevectors | ns per atom and wavevector |\n| ---: | ---: | ---: |"
    )
    for n_atoms, reach in ((2_000, 1.0), (20_000, 1.0), (80_000, 1.0), (10_000, 2.0), (10_000, 4.0)):
        some = wavevectors(cell, reach * q_max, 0.1).indices
        call = Density(some)
        atoms = rng.random((n_atoms, 3))
        seconds = _in_turn({"mlmd": lambda call=call, atoms=atoms: call(atoms)}, 3)["mlmd"]  # type: ignore[misc]
        print(f"| {n_atoms:,} | {2 * len(some):,} | {1e9 * seconds / (2 * len(some) * n_atoms):.3f} |")


def _dynasor(positions: np.ndarray, half: np.ndarray, both: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    try:
        import numba
        from dynasor.core.reciprocal import calc_rho_q
    except ImportError:
        return {}

    numba.set_num_threads(1)
    return {
        "dynasor": lambda: calc_rho_q(positions, both),
        "dynasor, half of the wavevectors": lambda: calc_rho_q(positions, half),
    }


def _in_turn(programs: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, float]:
    """Seconds of the processor, the least of the rounds; two turns warm up."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 2):
        for name, call in programs.items():
            start = time.process_time()
            call()
            if number > 1:
                taken[name].append(time.process_time() - start)
    return {name: min(times) for name, times in taken.items()}
