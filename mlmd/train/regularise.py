"""How strongly coefficients of a linear fit are regularised, where the data choose: by evidence or cross-validation.

The problem is ‖A x - y‖² + γ² ‖R x‖². R holds the norms of the columns of A, or the prior of a Gaussian process; the
constants of the elements are free. Where radial functions are optimised the choice is made once, for the ones that were
found last: losses of different strengths could not be compared on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.least_squares import combine, solve
from mlmd.fitting.ridge import cross_validation, evidence, n_determined
from mlmd.train.faint import stronger
from mlmd.train.job import LEAST_RIDGE, Job
from mlmd.train.optimise import n_linear, prior_of
from mlmd.train.shards import Outcome

FREE = 1e-8
"""Of constants relative to their columns: a factor needs a diagonal that is not rounding, and spreads none of it."""
N_FOLDS = 8
"""Parts of the training set that are predicted from the others; a structure is in one of them as a whole."""
_DECADES = 18
"""Of γ², below the greatest squared singular value, where cross-validation looks, in halves of them."""


@dataclass(frozen=True)
class Choice:
    """A strength of regularisation and what it leaves of the parameters."""

    how: str
    strength: float
    """γ, relative to R."""
    n_determined: float
    """Coefficients that the data determine rather than the regularisation, Σ s² / (s² + γ²)."""
    n_coefficients: int
    of_prior: bool
    """Whether R is the prior of the regressor."""
    extreme: bool = False
    """Whether no other strength that was tried is weaker, or stronger."""
    loss: float = math.nan
    """Root mean square of the weighted residuals."""

    def facts(self) -> dict[str, Any]:
        """For the card."""
        return {
            "loss": self.loss,
            "regularisation": {
                "chosen by": self.how,
                "of the prior" if self.of_prior else "relative to columns": self.strength,
                "coefficients": self.n_coefficients,
                "determined by the data": round(self.n_determined, 1),
            },
        }

    def text(self, amplitude: float | tuple[float, ...] | None, unit: str = "eV") -> str:
        """For a person; the amplitude is that of the input, in this unit, or those of several descriptors."""
        what = f"{self.strength:.3g} by {self.how}"
        if isinstance(amplitude, tuple):
            each = ", ".join(f"{one / self.strength:.3g}" for one in amplitude)
            what += f", as amplitudes of {each} {unit} would be"
        elif amplitude is not None:  # γ R is the prior of another amplitude
            what += f", as an amplitude of {amplitude / self.strength:.3g} {unit} would be"
        end = " This is the end of what was tried: are there too few structures?" if self.extreme else ""
        return (
            f"regularisation: {what}; the data determine {self.n_determined:.1f} of {self.n_coefficients} "
            f"coefficients.{end}"
        )


def choose(job: Job, outcomes: Sequence[Outcome]) -> tuple[Choice, np.ndarray]:
    """The strength that the input asks for, and the coefficients and constants for it.

    Args:
        job: whose input names the way.
        outcomes: triangles of all shards, in their order, at the radial functions that are kept.

    Raises:
        InputError: for fewer structures than cross-validation needs, and when nothing varies.
    """
    how = job.chosen_by
    assert how is not None
    factors = [torch.from_numpy(outcome.factor) for outcome in outcomes]
    n_rows = sum(outcome.n_rows for outcome in outcomes)
    whole = combine(factors)
    n_basis = job.potential.expansion.n_basis
    n_free = n_linear(job.potential) - n_basis if job.free_constants else 0
    columns = [*range(n_basis + n_free), whole.shape[1] - 1]
    prior = prior_of(job.potential)
    rows = _norms(whole[:, :n_basis]) * stronger(job.potential, whole) if prior is None else prior
    if how == "evidence":
        found = evidence(whole[:, columns], n_rows, prior=rows, n_free=n_free)
        strength, extreme = found.strength, False
    else:
        n_folds = min(N_FOLDS, len(factors))
        if n_folds < 2:
            raise InputError('fit: regularisation: "cross-validation" needs several structures; there is one.')
        folds = [combine(factors[fold::n_folds])[:, columns] for fold in range(n_folds)]
        largest = float(torch.linalg.matrix_norm(_whitened(whole[:, :n_basis], rows), 2)) ** 2
        strengths = largest * torch.logspace(-_DECADES, 0, 2 * _DECADES + 1, dtype=torch.float64)
        strength = cross_validation(folds, strengths, prior=rows, n_free=n_free).best
        extreme = strength in (float(strengths[0]), float(strengths[-1]))
    choice = Choice(
        how=how,
        strength=math.sqrt(strength),
        n_determined=n_determined(whole[:, columns], strength, prior=rows, n_free=n_free),
        n_coefficients=n_basis,
        of_prior=prior is not None,
        extreme=extreme,
    )
    x, residual = solution(job, whole, choice)
    return replace(choice, loss=residual / math.sqrt(n_rows)), x


def solution(job: Job, factor: Tensor, choice: Choice | None) -> tuple[np.ndarray, float]:
    """Coefficients and constants from a triangle, as the input or a choice says, and the norm of the residuals."""
    penalty, prior = penalties(job, factor, choice)
    found = solve(factor, columns=(free_columns(job),), penalty=penalty, prior=prior)
    return found.x.numpy(), found.residual


def free_columns(job: Job) -> slice:
    """Of the triangles, those of coefficients, and of constants where they are not given."""
    return slice(0, n_linear(job.potential) if job.free_constants else job.potential.expansion.n_basis)


def penalties(job: Job, factor: Tensor, choice: Choice | None) -> tuple[Tensor, Tensor | None]:
    """Penalties relative to columns and rows of the prior, as the input or a choice says, for `least_squares.solve`.

    Args:
        job: with the input.
        factor: the triangle of the data, which tells columns that are nearly zero in them.
        choice: what the data have chosen.
    """
    n_basis, n = job.potential.expansion.n_basis, n_linear(job.potential)
    penalty, prior = torch.full((n,), job.regularisation, dtype=torch.float64), prior_of(job.potential)
    if choice is not None:
        penalty[:n_basis], penalty[n_basis:] = choice.strength, 0.0
        if prior is not None:
            prior, penalty[:n_basis] = choice.strength * prior, LEAST_RIDGE
    penalty[:n_basis] *= stronger(job.potential, factor)
    return penalty, prior


def _norms(matrix: Tensor) -> Tensor:
    """R of a penalty relative to the norms of the columns; columns of zeros count as of norm one."""
    norms = torch.linalg.vector_norm(matrix, dim=0)
    return torch.diag(torch.where(norms > 0, norms, torch.ones_like(norms)))


def _whitened(matrix: Tensor, rows: Tensor) -> Tensor:
    """The columns in units of the prior, A R⁻¹."""
    triangle = torch.linalg.qr(rows, mode="r").R
    return torch.linalg.solve_triangular(triangle, matrix, upper=True, left=False)
