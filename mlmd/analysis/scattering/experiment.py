"""A measured structure factor beside the computed one, and how far they are apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.errors import InputError, StorageError

NORMALISATIONS = {
    "distinct": "F(q)",
    "faber-ziman": "S(q)",
    "self": "S_self(q)",
    "reduced": "q[S(q)-1]",
}
"""How measured values are normalised -> the curve that they belong to."""
_SCALE = 0.2
"""Difference of the best factor from 1 from which on a user is asked whether the normalisation is right."""


@dataclass(frozen=True)
class Experiment:
    """Measured values and what they are."""

    path: str
    normalisation: str
    """One of `NORMALISATIONS`."""
    q: np.ndarray
    """(n,) 1/Å."""
    values: np.ndarray
    """(n,)."""
    errors: np.ndarray | None
    """(n,) standard errors, where the file has them."""


@dataclass(frozen=True)
class Match:
    """How well a computed curve meets measured values where both are."""

    experiment: Experiment
    r_factor: float
    """√(Σ (x_calc - x_exp)² / Σ x_exp²), x the deviation from the limit at large q."""
    chi_squared: float | None
    """Mean of (x_calc - x_exp)² / (σ_calc² + σ_exp²); None without measured errors."""
    scale: float
    """The factor on x_calc that would make it meet the measured values best."""
    first_q: float
    """1/Å."""
    last_q: float
    n_points: int

    def __str__(self) -> str:
        """A sentence or two."""
        chi = "" if self.chi_squared is None else f", χ² = {self.chi_squared:.3g} a point"
        text = (
            f"{self.experiment.path} ({NORMALISATIONS[self.experiment.normalisation]}): R = {self.r_factor:.3f}{chi} "
            f"at {self.n_points} points from {self.first_q:.3g} to {self.last_q:.3g} 1/Å"
        )
        if abs(self.scale - 1.0) < _SCALE:
            return text
        return f"{text}; {self.scale:.3g} times the computed curve would meet it best: is it so normalised?"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "file": self.experiment.path,
            "normalisation": self.experiment.normalisation,
            "curve": NORMALISATIONS[self.experiment.normalisation],
            "R": self.r_factor,
            "chi_squared_per_point": self.chi_squared,
            "best_scale": self.scale,
            "q_range_1/A": [self.first_q, self.last_q],
            "n_points": self.n_points,
        }


def read_experiment(path: Path, normalisation: str | None) -> Experiment:
    """q, value and, in a third column, error; lines that do not begin with two numbers are skipped.

    Raises:
        InputError: without a normalisation, which is never guessed, or when there are no numbers.
        StorageError: when the file cannot be read.
    """
    if normalisation not in NORMALISATIONS:
        names = ", ".join(f"{name} ({curve})" for name, curve in NORMALISATIONS.items())
        got = "" if normalisation is None else f", not {normalisation!r}"
        raise InputError(f"{path}: say how the measured values are normalised{got} (--normalisation): {names}.")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    rows = [row for row in map(_numbers, lines) if len(row) >= 2]
    if len(rows) < 2:
        raise InputError(f"{path}: no rows of q (1/Å) and a value were found.")
    n = min(3, *(len(row) for row in rows))
    table = np.array([row[:n] for row in rows])
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Experiment(str(path), normalisation, table[:, 0], table[:, 1], table[:, 2] if n == 3 else None)


def match(experiment: Experiment, q: np.ndarray, values: np.ndarray, errors: np.ndarray) -> Match:
    """Compare at the measured q between the first and the last computed one; the computed curve is linear between.

    Args:
        experiment: what was measured.
        q: (n_q,) 1/Å.
        values: (n_q,) in the normalisation of the experiment.
        errors: (n_q,) nan where they are not known.

    Raises:
        InputError: when fewer than two measured points lie in the range of q.
    """
    inside = (experiment.q >= q[0]) & (experiment.q <= q[-1]) & np.isfinite(experiment.values)
    if inside.sum() < 2:
        raise InputError(
            f"{experiment.path} is of {experiment.q[0]:.3g} to {experiment.q[-1]:.3g} 1/Å, and {q[0]:.3g} to "
            f"{q[-1]:.3g} 1/Å were computed. Is q in 1/Å?"
        )
    where = experiment.q[inside]
    limit = 1.0 if experiment.normalisation in ("faber-ziman", "self") else 0.0
    measured, computed = experiment.values[inside] - limit, np.interp(where, q, values) - limit
    deviations = computed - measured
    chi = None
    if experiment.errors is not None:
        variance = experiment.errors[inside] ** 2 + np.nan_to_num(np.interp(where, q, errors)) ** 2
        known = variance > 0.0
        chi = float(np.mean(deviations[known] ** 2 / variance[known])) if known.any() else None
    return Match(
        experiment, math.sqrt((deviations**2).sum() / (measured**2).sum()), chi,
        float((computed * measured).sum() / (computed**2).sum()), float(where[0]), float(where[-1]), len(where),
    )  # fmt: skip


def _numbers(line: str) -> list[float]:
    """The numbers that a line begins with."""
    found = []
    for word in line.replace(",", " ").replace(";", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            break
    return found
