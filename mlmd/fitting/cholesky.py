"""Cholesky's decomposition in place, block by block: one matrix in memory, and the same bits for any number of threads.

K = L L'; of K only the lower triangle is read, and L stands there afterwards (Golub and Van Loan, Matrix Computations,
4th ed., section 4.2.6). Nearly all work is products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError

BLOCK = 512
"""Columns that are decomposed together."""

Each = Callable[[Callable[[Any], None], Sequence[Any]], Any]
"""Calls a function with each of several items, which have nothing to do with each other."""


def _one_by_one(function: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        function(item)


def factorise(
    matrix: Tensor, *, each: Each = _one_by_one, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Turn the lower triangle of K (n, n) into L; what stands above the diagonal is lost.

    Args:
        matrix: K, rows one after the other in memory.
        each: works on pieces, for example in threads.
        progress: called with the columns done and all of them.

    Raises:
        InputError: when K is not positive definite to working precision.
    """
    n = len(matrix)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        corner, below = matrix[start:stop, start:stop], matrix[stop:, start:stop]
        lower, failed = torch.linalg.cholesky_ex(corner)
        if bool(failed):
            raise InputError(f"a matrix of {n} rows is not positive definite at row {start + int(failed)}.")
        corner.copy_(lower)
        pieces = [slice(first, min(first + BLOCK, n)) for first in range(stop, n, BLOCK)]

        def solve(rows: slice, lower: Tensor = lower, start: int = start, stop: int = stop) -> None:
            panel = matrix[rows, start:stop]
            panel.copy_(torch.linalg.solve_triangular(lower.T, panel, upper=True, left=False))

        def subtract(rows: slice, below: Tensor = below, stop: int = stop) -> None:
            own, earlier = below[rows.start - stop : rows.stop - stop], below[: rows.stop - stop]
            matrix[rows, stop : rows.stop].addmm_(own, earlier.T, alpha=-1)

        each(solve, pieces)
        each(subtract, pieces)
        progress(stop, n)


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """x (n, m) of L L' x = right, from the lower triangle of the factor (n, n) alone."""
    x = right.clone()
    bounds = [(start, min(start + BLOCK, len(x))) for start in range(0, len(x), BLOCK)]
    for start, stop in bounds:
        own = factor[start:stop, start:stop].tril()
        x[start:stop] = torch.linalg.solve_triangular(own, x[start:stop], upper=False)
        x[stop:] -= factor[stop : len(x), start:stop] @ x[start:stop]
    for start, stop in reversed(bounds):
        own = factor[start:stop, start:stop].tril()
        x[start:stop] = torch.linalg.solve_triangular(own.T, x[start:stop], upper=True)
        x[:start] -= factor[start:stop, :start].T @ x[start:stop]
    return x
