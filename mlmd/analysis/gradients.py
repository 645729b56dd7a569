"""A function from estimates of its gradient on a grid, in one to three dimensions, by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg, splu

_MANY = 8_000
"""Points above which the equations are solved by conjugate gradients."""


def integrate_gradient(
    gradient: np.ndarray, widths: Sequence[float], *, known: np.ndarray, periodic: Sequence[bool]
) -> np.ndarray:
    """The function A whose differences between neighbouring points fit the gradient best.

    Between two neighbours along one axis the gradient is taken for their mean, A_j - A_i = w (g_i + g_j) / 2. All
    these equations are solved by least squares, whose normal equations are Poisson's on the grid, with natural
    boundaries where points are not known. In one dimension that is the trapezoidal rule; around a period what does not
    close is spread evenly.

    Args:
        gradient: (n_dim, *shape), energy per unit of each axis.
        widths: distances between points along each axis.
        known: (*shape) bool, where the gradient is known.
        periodic: whether the last point of an axis neighbours the first.

    Returns:
        (*shape), zero at its lowest point; nan where the gradient is not known, and outside of the largest region of
        neighbours, as nothing fixes the constant between two regions.
    """
    shape = known.shape
    number = np.arange(known.size).reshape(shape)
    starts, ends, steps = [], [], []
    for axis, (width, closed) in enumerate(zip(widths, periodic, strict=True)):
        following = np.roll(number, -1, axis)
        joined = known & np.roll(known, -1, axis)
        if not closed or shape[axis] < 3:
            joined[(slice(None),) * axis + (-1,)] = False
        means = 0.5 * width * (gradient[axis] + np.roll(gradient[axis], -1, axis))
        starts.append(number[joined])
        ends.append(following[joined])
        steps.append(means[joined])
    i, j, step = (np.concatenate(part) for part in (starts, ends, steps))
    result = np.full(known.size, np.nan)
    region = _largest_region(i, j, known.ravel())
    inside = region[i]
    place = np.cumsum(region) - 1
    result[region] = _solve(place[i[inside]], place[j[inside]], step[inside], int(region.sum()))
    result -= np.nanmin(result) if region.any() else 0.0
    return result.reshape(shape)


def _largest_region(i: np.ndarray, j: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) bool: the points of the largest set that is held together by pairs of neighbours i, j."""
    if not known.any():
        return known
    pairs = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(known.size,) * 2)
    _, labels = connected_components(pairs, directed=False)
    return np.asarray(known & (labels == np.bincount(labels[known]).argmax()))


def _solve(i: np.ndarray, j: np.ndarray, step: np.ndarray, n: int) -> np.ndarray:
    """(n,) x with x_j - x_i = step in the sense of least squares, up to a constant."""
    if n < 2:
        return np.zeros(n)
    rows = np.arange(len(i))
    ones = np.ones(len(i))
    differences = sparse.csr_array(
        (np.concatenate([ones, -ones]), (np.concatenate([rows, rows]), np.concatenate([j, i]))), shape=(len(i), n)
    )
    poisson, source = differences.T @ differences, differences.T @ step
    if n > _MANY:  # a factorisation of so many fills memory; the sum of the source is zero, so that this converges
        solution, failed = cg(poisson, source, rtol=1e-9, maxiter=20 * int(n**0.5) + 1000)
        if not failed:
            return np.asarray(solution)
    solution = splu(sparse.csc_matrix(poisson[1:, 1:])).solve(source[1:])
    return np.concatenate([[0.0], solution])
