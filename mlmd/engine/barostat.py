"""Monte Carlo barostat: volume moves of our own between integrator blocks, so that a checkpoint holds all of it.

A move multiplies the cell rows h by a random matrix, h' = h·L, and all positions with it, x' = x·L. With
log-uniform steps the moves are symmetric in the invariant measure of their group, and the isothermal–isobaric
weight exp(-β(U + PV)) with V^N from the scaled positions gives the acceptance min(1, exp(-βw)):

* isotropic, anisotropic: L = diag(e^s), one common s or one per direction. The ensemble ∫dV V^N (or
  ∫dL_x dL_y dL_z V^N) in logarithms of the lengths is V^(N+1):
  w = ΔU + PΔV - (N + 1) kT ln(V'/V).
* flexible: L lower triangular, so that h stays in standard orientation. The ensemble of all cell matrices,
  ∫d⁹h V^(N-2) (Martyna, Tobias, Klein, J. Chem. Phys. 101, 4177 (1994)), is V^(N-2) h₁₁² h₂₂ on lower-triangular
  matrices; in the measure invariant under h → h·L, ∏ h_ii^-(4-i) dh, it is V^(N-1) h₁₁⁴ h₂₂²:
  w = ΔU + PΔV - kT [(N - 1) ln(V'/V) + 4 ln(h'₁₁/h₁₁) + 2 ln(h'₂₂/h₂₂)].

Where atoms are held together by bonds of fixed length the centres of mass of molecules are scaled and molecules are
carried along unchanged; N is then the number of molecules.

Isotropic moves: Chow and Ferguson, Comput. Phys. Commun. 91, 283 (1995).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlmd import units
from mlmd.engine.forces import Forces

_DIRECTIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "isotropic": ((-1, -1),),
    "anisotropic": ((0, 0), (1, 1), (2, 2)),
    "flexible": ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1)),
}
_FIRST_STEP = 0.003
"""Largest first change of the logarithm of a length: 1 % in volume."""
_LARGEST_STEP = 0.1


class Molecules:
    """Which atoms are carried along with which centre of mass."""

    def __init__(self, labels: np.ndarray, masses: np.ndarray) -> None:
        """Take the number of each atom's molecule (n_atoms,), counted from 0, and masses (n_atoms,) amu."""
        self._labels = labels
        self._shares = masses / np.bincount(labels, masses)[labels]
        self.count = int(labels.max()) + 1

    def scaled(self, positions: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Positions (n_atoms, 3) with centres x replaced by x·L, for L (3, 3); molecules are whole in them."""
        weighted = positions * self._shares[:, None]
        centres = np.stack([np.bincount(self._labels, weighted[:, axis]) for axis in range(3)], axis=1)
        moved: np.ndarray = positions + (centres @ change - centres)[self._labels]
        return moved


class Barostat:
    """Proposes, accepts and counts changes of the cell, and keeps the steps at a useful size."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        """`kind` is isotropic, anisotropic or flexible."""
        self.kind = kind
        self.rng = rng
        n = len(_DIRECTIONS[kind])
        self.sizes = np.full(n, _FIRST_STEP)
        self.attempts = np.zeros(n, dtype=np.int64)
        self.accepts = np.zeros(n, dtype=np.int64)
        self.totals = np.zeros(2, dtype=np.int64)
        """Attempts and acceptances since the stage began."""

    def move(
        self,
        forces: Forces,
        positions: np.ndarray,
        step: int,
        temperature: float,
        pressure: float,
        molecules: Molecules | None = None,
    ) -> np.ndarray | None:
        """One attempt.

        Args:
            forces: energy before and after; holds the cell.
            positions: (n_atoms, 3) nm.
            step: global step.
            temperature: K.
            pressure: eV/Å³.
            molecules: whose centres are scaled; None scales atoms.

        Returns:
            The new positions (n_atoms, 3) nm when accepted (`forces` then has the new cell), else None.
        """
        which = int(self.rng.integers(len(self.sizes)))
        size = self.sizes[which] * (2.0 * self.rng.random() - 1.0)
        threshold = np.log1p(-self.rng.random())  # log of a uniform number in (0, 1]
        change = _matrix(_DIRECTIONS[self.kind][which], size)
        before = forces.at(positions, step)
        cell = forces.cell @ change
        scaled = positions @ change if molecules is None else molecules.scaled(positions, change)
        answer = forces.trial(scaled, cell, step)
        kt = units.KB * temperature
        work = answer.evaluation.energy - before.evaluation.energy
        work += pressure * (_volume(cell) - _volume(forces.cell))
        n_moved = len(positions) if molecules is None else molecules.count
        accepted = bool(threshold < self._entropy(forces.cell, cell, n_moved) - work / kt)
        if accepted:
            forces.accept(answer)
        else:
            forces.reject(step)
        self._count(which, accepted)
        return answer.positions if accepted else None

    def _entropy(self, old: np.ndarray, new: np.ndarray, n_moved: int) -> float:
        ratios = np.log(np.diag(new) / np.diag(old))
        if self.kind == "flexible":
            return float((n_moved - 1) * ratios.sum() + 4 * ratios[0] + 2 * ratios[1])
        return float((n_moved + 1) * ratios.sum())

    def _count(self, which: int, accepted: bool) -> None:
        """Adapt the size of a move to between a quarter and three quarters of acceptance."""
        self.attempts[which] += 1
        self.accepts[which] += accepted
        self.totals += (1, accepted)
        if self.attempts[which] < 10:
            return
        rate = self.accepts[which] / self.attempts[which]
        if 0.25 <= rate <= 0.75:
            return
        self.sizes[which] = min(self.sizes[which] * (1.1 if rate > 0.75 else 1 / 1.1), _LARGEST_STEP)
        self.attempts[which] = self.accepts[which] = 0

    def describe(self) -> str:
        """How the moves went, in words."""
        attempts, accepts = (int(n) for n in self.totals)
        return f"{attempts:,} changes of the cell tried, {accepts / max(1, attempts):.0%} accepted"

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, JSON-able and exact."""
        return {
            "rng": self.rng.bit_generator.state,
            "sizes": [float(size).hex() for size in self.sizes],
            "attempts": self.attempts.tolist(),
            "accepts": self.accepts.tolist(),
            "totals": self.totals.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self.rng.bit_generator.state = state["rng"]
        self.sizes = np.array([float.fromhex(size) for size in state["sizes"]])
        self.attempts, self.accepts = np.array(state["attempts"]), np.array(state["accepts"])
        self.totals = np.array(state["totals"])


def _matrix(direction: tuple[int, int], size: float) -> np.ndarray:
    change = np.eye(3)
    row, column = direction
    if row < 0:
        change *= np.exp(size)
    elif row == column:
        change[row, row] = np.exp(size)
    else:
        change[row, column] = size
    return change


def _volume(cell: np.ndarray) -> float:
    return float(np.prod(np.diag(cell)))  # lower triangular
