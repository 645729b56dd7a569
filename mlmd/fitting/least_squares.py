"""Weighted linear least squares whose rows arrive in blocks, by QR decompositions of [R; A_k].

Normal equations would square the condition number; here only the triangle R of the rows seen so far is kept, so that
memory does not grow with their number (Golub and Van Loan, Matrix Computations, 4th ed., sections 5.3 and 6.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlmd.errors import InputError

_ROWS_FOR_EACH_COLUMN = 8
"""Rows that are collected before they are decomposed."""


class Triangle:
    """R of the QR decomposition of rows [A | y] that are added block by block."""

    def __init__(self, n_columns: int) -> None:
        """Begin without rows; n_columns counts the targets y as one."""
        self.n_columns, self.n_rows = n_columns, 0
        self._factor = torch.zeros((0, n_columns), dtype=torch.float64)
        self._waiting: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Take rows (m, n_columns), weighted.

        Raises:
            InputError: for rows of another width or with numbers that are not finite.
        """
        if rows.ndim != 2 or rows.shape[1] != self.n_columns:
            raise InputError(f"rows of shape {tuple(rows.shape)} were given, {self.n_columns} columns are needed.")
        if not bool(torch.isfinite(rows).all()):
            raise InputError("the rows of the least-squares problem have numbers that are not finite.")
        self.n_rows += len(rows)
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _ROWS_FOR_EACH_COLUMN * self.n_columns:
            self._decompose()

    @property
    def factor(self) -> Tensor:
        """R, (n_columns or fewer, n_columns), float64; R'R = [A | y]'[A | y]."""
        self._decompose()
        return self._factor

    def _decompose(self) -> None:
        if self._waiting:
            self._factor = torch.linalg.qr(torch.cat([self._factor, *self._waiting]), mode="r").R
            self._waiting = []


def combine(factors: Iterable[Tensor]) -> Tensor:
    """R of all rows from the R of parts of them, which all have the same columns."""
    return torch.linalg.qr(torch.cat(list(factors)), mode="r").R


@dataclass(frozen=True)
class Solution:
    """A least-squares solution."""

    x: Tensor
    """(n,) for each column of A, zero for columns left out."""
    residual: float
    """‖A x - y‖, without what regularisation adds."""
    rank: int
    """Columns that are independent to working precision."""


def solve(
    factor: Tensor,
    *,
    columns: Sequence[slice] = (slice(None),),
    penalty: Tensor | None = None,
    prior: Tensor | None = None,
) -> Solution:
    """Minimise ‖A x - y‖² + ‖penalty · s · x‖² + ‖P x‖² from R of [A | y], s the norms of the columns.

    Columns are scaled to norm one, and the solution of smallest norm is taken where they depend on each other (Golub
    and Van Loan, sections 5.5 and 6.1).

    Args:
        factor: R, the last column of which belongs to y.
        columns: which columns of A take part.
        penalty: (n,) dimensionless, for each column of A; nothing by default.
        prior: P (m, up to n), for the first columns of A; nothing by default.
    """
    n = factor.shape[1] - 1
    chosen = torch.cat([torch.arange(n)[part] for part in columns])
    target = factor[:, n]
    matrix = factor[:, chosen]
    scaled, scale = _whole(factor, chosen, penalty, prior)
    right = torch.cat([target, target.new_zeros(len(scaled) - len(target))])
    found = torch.linalg.lstsq(scaled, right[:, None], driver="gelsd")
    x = factor.new_zeros(n)
    x[chosen] = found.solution[:, 0] / scale
    residual = float(torch.linalg.vector_norm(matrix @ x[chosen] - target))
    return Solution(x=x, residual=residual, rank=int(found.rank))


def whole_factor(
    factor: Tensor,
    *,
    columns: Sequence[slice] = (slice(None),),
    penalty: Tensor | None = None,
    prior: Tensor | None = None,
) -> Tensor:
    """R of all that `solve` minimises, upper triangular in the chosen columns: R'R is the inverse covariance of x.

    Where the rows are divided by the standard deviations of their errors, that is (Bishop, Pattern Recognition and
    Machine Learning, 2006, eq. 3.54). Arguments as those of `solve`.
    """
    chosen = torch.cat([torch.arange(factor.shape[1] - 1)[part] for part in columns])
    scaled, scale = _whole(factor, chosen, penalty, prior)
    return torch.linalg.qr(scaled, mode="r").R * scale


def _whole(factor: Tensor, chosen: Tensor, penalty: Tensor | None, prior: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows of data, penalty and prior in the chosen columns, each over its scale, and the scales."""
    matrix = factor[:, chosen]
    scale = torch.linalg.vector_norm(matrix, dim=0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if penalty is not None:  # a column of a penalty above one is as long as that, or its length would hide all others
        length = penalty[chosen].clamp(min=1.0)
        scale, penalties = scale * length, penalty[chosen] / length
    parts = [matrix / scale]
    if penalty is not None:
        parts.append(torch.diag(penalties))
    if prior is not None:
        rows = factor.new_zeros((len(prior), factor.shape[1] - 1))
        rows[:, : prior.shape[1]] = prior
        parts.append(rows[:, chosen] / scale)
    return torch.cat(parts), scale
