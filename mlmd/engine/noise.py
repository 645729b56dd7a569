"""Random numbers that depend on seed, step and atom alone: the same however many processes there are.

Numbers of a counter, as those of Salmon et al. (Proc. SC'11, 16, 2011), by the mixing function of SplitMix64 (Steele,
Lea and Flood, Proc. OOPSLA 2014, 453), and made normal by Box and Muller (Ann. Math. Stat. 29, 610, 1958). No state is
kept: a continued run has them again.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mixed(z: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64, of 64-bit integers."""
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def normal_numbers(seed: int, step: int, atoms: np.ndarray) -> np.ndarray:
    """Normal numbers (n_atoms, 3) of mean 0 and variance 1.

    Args:
        seed: below 2⁶⁴.
        step: of the run.
        atoms: (n_atoms,) identities.
    """
    # two rounds for the pair of seed and step, so that neighbouring steps have nothing in common
    of_seed, of_step = np.array([[seed], [step]], dtype=np.uint64)
    key = _mixed(_mixed(of_seed + _GOLDEN) + of_step * _GOLDEN)
    counters = atoms.astype(np.uint64)[:, None] * np.uint64(4) + np.arange(4, dtype=np.uint64)
    bits = _mixed(_mixed(counters * _GOLDEN + key) + key)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
    length = np.sqrt(-2.0 * np.log(uniform[:, :2]))
    angle = 2.0 * np.pi * uniform[:, 2:]
    return np.column_stack([length[:, 0] * np.cos(angle[:, 0]), length[:, 0] * np.sin(angle[:, 0]),
                            length[:, 1] * np.cos(angle[:, 1])])  # fmt: skip
