"""Which rows of features represent all: as points of a sparse Gaussian process, or as the active set of a potential."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlmd.errors import InputError

_AT_ONCE = 1024
"""Rows whose distances from all known ones are held at a time."""
_SMALL = 32
"""Rows up to which a matrix is decomposed as a whole."""
_DEPENDENT = 1e-13
"""Pivot, relative to the greatest, below which columns depend on each other to working precision."""


def farthest(features: Tensor, n_points: int, known: Tensor | None = None) -> Tensor:
    """Farthest point sampling: each next row is the one farthest from all chosen before (Gonzalez, Theor. Comput.
    Sci. 38, 293, 1985; at most twice as far from any row as the best choice of so many).

    It begins with the row nearest to the mean, or the one farthest from known ones; of equal rows the first counts.

    Args:
        features: (n, n_features), comparable columns.
        n_points: how many rows.
        known: (n_known, n_features) rows that count as chosen before; none by default.

    Returns:
        (n_points,) numbers of rows, in the order of choice.

    Raises:
        InputError: when there are fewer different rows.
    """
    rows = _checked(features, n_points)
    chosen: list[int] = []
    if known is None or not len(known):
        chosen = [int((rows - rows.mean(dim=0)).square().sum(dim=1).argmin())]
        known = rows[chosen]
    nearest = torch.cat([_squares_of_nearest(part, known.double()) for part in rows.split(_AT_ONCE)])
    while len(chosen) < n_points:
        farthest_row = int(nearest.argmax())
        if not float(nearest[farthest_row]) > 0:
            raise InputError(f"{n_points} points were asked for; only {len(chosen)} rows are different.")
        chosen.append(farthest_row)
        nearest = torch.minimum(nearest, (rows - rows[farthest_row]).square().sum(dim=1))
    return torch.tensor(chosen)


def _squares_of_nearest(rows: Tensor, known: Tensor) -> Tensor:
    """(n,) squares of the distances of rows from the nearest of the known ones; exactly zero for a known row."""
    # products of matrices find which one is nearest, but the distances that they give are those of rounding for equals
    return (rows - known[torch.cdist(rows, known).argmin(dim=1)]).square().sum(dim=1)


def leverage(features: Tensor, rank: int) -> Tensor:
    """Statistical leverage of rows: π_i = Σ_ξ (u_iξ)² / rank of the leading left singular vectors u, (n,), sum 1.

    (Mahoney and Drineas, PNAS 106, 697, 2009, eq. 3.)

    Raises:
        InputError: when the rank is not between 1 and that of the features.
    """
    rows = _checked(features, 1)
    vectors, values, _ = torch.linalg.svd(rows, full_matrices=False)
    known = int((values > max(rows.shape) * torch.finfo(rows.dtype).eps * values[0]).sum())
    if not 1 <= rank <= known:
        raise InputError(f"leverage of rank {rank} was asked for; the features have the rank {known}.")
    return vectors[:, :rank].square().sum(dim=1) / rank


def cur(features: Tensor, n_points: int, rank: int, generator: torch.Generator) -> Tensor:
    """Rows drawn without replacement with a probability that is their leverage, (n_points,), in the order drawn.

    These are R of the decomposition X ≈ C U R (Mahoney and Drineas, PNAS 106, 697, 2009).

    Args:
        features: X, (n, n_features).
        n_points: how many rows.
        rank: of the approximation that they are meant for, at most n_points.
        generator: of the draws.

    Raises:
        InputError: for another rank, and when fewer rows have a leverage.
    """
    _checked(features, n_points)
    if rank > n_points:
        raise InputError(f"{n_points} points cannot carry an approximation of rank {rank}.")
    chances = leverage(features, rank)
    if int((chances > 0).sum()) < n_points:
        raise InputError(f"{n_points} points were asked for; only {int((chances > 0).sum())} rows are not zero.")
    # the first of exponential waiting times with these rates (Efraimidis and Spirakis, Inf. Process. Lett. 97, 181)
    waiting = torch.empty_like(chances).exponential_(generator=generator) / chances
    return torch.argsort(waiting)[:n_points]


def leading(features: Tensor, n_points: int) -> Tensor:
    """Rows chosen one by one, each the one of the greatest leverage of rank one in what those before leave unexplained.

    The leading left singular vector of X is greatest at the chosen row; then its direction is taken out of all rows
    (the deterministic CUR of Imbalzano, Anelli, Giofré, Klees, Behler and Ceriotti, J. Chem. Phys. 148, 241730, 2018).

    Args:
        features: X, (n, n_features).
        n_points: how many rows.

    Returns:
        (n_points,) numbers of rows, in the order of choice.

    Raises:
        InputError: when fewer rows are independent of each other.
    """
    rows = _checked(features, n_points)
    products = rows @ rows.T  # of what is left of the rows
    least = _DEPENDENT * float(products.diagonal().max())
    chosen: list[int] = []
    while len(chosen) < n_points:
        left = products.diagonal().clone()
        if not float(left.max()) > least:
            raise InputError(
                f"{n_points} points were asked for; only {len(chosen)} rows are independent of each other."
            )
        scores = _leading_vector(products).abs()
        scores[left <= least] = -1.0
        row = int(scores.argmax())
        chosen.append(row)
        along = products[row].clone()
        products -= torch.outer(along, along / along[row])
    return torch.tensor(chosen)


def _leading_vector(products: Tensor) -> Tensor:
    """(n,) eigenvector of the greatest eigenvalue of a positive semidefinite matrix."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    n = len(products)
    if n > _SMALL:
        # torch's products: those of numpy are divided among threads that `mlmd.potentials.threads` does not hold
        work = LinearOperator((n, n), matvec=lambda x: (products @ torch.from_numpy(x)).numpy(), dtype=float)
        start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=products.dtype)  # the same every time
        try:  # Lanczos iterations to machine precision: some products by the matrix, not its decomposition
            return torch.from_numpy(eigsh(work, k=1, which="LA", v0=start.numpy())[1][:, 0])
        except ArpackError:  # two greatest ones are nearly equal
            pass
    return torch.linalg.eigh(products)[1][:, -1]


def maxvol(features: Tensor, tolerance: float = 1e-3, start: Tensor | None = None) -> Tensor:
    """n_features rows A whose determinant no exchange of one row can raise by more than the tolerance.

    Rows are exchanged as long as max |X A⁻¹| > 1 + tolerance (Goreinov, Oseledets, Savostyanov, Tyrtyshnikov and
    Zamarashkin, in Matrix Methods, World Scientific, 2010).

    Args:
        features: X, (n, n_features), n ≥ n_features; the result does not depend on the columns' units.
        tolerance: how much the determinant may still be smaller than after the best exchange.
        start: (n_features,) numbers of independent rows to begin with, which are kept where nothing is gained; those
            of a decomposition with pivots by default.

    Returns:
        (n_features,) numbers of rows.

    Raises:
        InputError: when the columns depend on each other, or there are fewer rows than columns.
    """
    n_features = features.shape[-1]
    rows = _checked(features, n_features)
    # an orthonormal basis of the columns: X A⁻¹ is the same, without the condition number of X
    rows, triangle = torch.linalg.qr(rows / _sizes(rows))
    if float(triangle.diagonal().abs().min()) <= _DEPENDENT * float(triangle.diagonal().abs().max()):
        raise InputError(f"the {n_features} features depend on each other in these {len(rows)} rows.")
    if start is None:
        order = torch.arange(len(rows))
        for step, pivot in enumerate((torch.linalg.lu_factor(rows).pivots - 1).tolist()):
            order[[step, pivot]] = order[[pivot, step]]
        start = order[:n_features]
    chosen = start.clone()
    while True:
        shares = torch.linalg.solve(rows[chosen], rows, left=False)
        if not float(shares.abs().max()) > 1 + tolerance:
            return chosen
        for _ in range(n_features):  # then afresh, because exchanges add up rounding
            row, place = divmod(int(shares.abs().argmax()), n_features)
            value = float(shares[row, place])
            if not abs(value) > 1 + tolerance:
                break
            change = shares[row].clone()
            change[place] -= 1
            shares -= torch.outer(shares[:, place].clone(), change / value)
            chosen[place] = row


@dataclass(frozen=True)
class ActiveSet:
    """Rows that span what a potential linear in its parameters has seen."""

    rows: Tensor
    """A, (n_features, n_features)."""
    numbers: Tensor
    """(n_features,) which rows they are, counted in the order given; -1 where the data had none to offer."""
    sizes: Tensor
    """(n_features,) the greatest number of each column so far."""
    floor: float
    """Size of the diagonal rows that stand where the data had none to offer, relative to the sizes."""

    def grades(self, features: Tensor) -> Tensor:
        """Extrapolation grades of rows, γ(x) = max |x A⁻¹|, (n,): at most about one within what was seen."""
        return grades(features, self.rows)

    def extended(self, block: Tensor, n_seen: int, tolerance: float = 1e-3) -> ActiveSet:
        """The set after some of its rows were exchanged for rows of a block; the same one if nothing is gained.

        At columns of the same sizes the determinant never falls, so that passes over the same rows come to an end: then
        no row has a grade above 1 + tolerance.

        Args:
            block: (n, n_features).
            n_seen: number of the first row of the block.
            tolerance: of `maxvol`.

        Raises:
            InputError: for rows of another width, and for numbers that are not finite.
        """
        rows = _checked(block, 1)
        n_features = len(self.rows)
        if rows.shape[1] != n_features:
            raise InputError(f"rows of {rows.shape[1]} features were given after rows of {n_features}.")
        current = self._grown(torch.maximum(self.sizes, rows.abs().amax(dim=0)))
        # the small rows too: one that the set had dropped may stand for what its other rows no longer tell apart
        offered = torch.cat([rows, current._small()])
        new = (current.grades(offered) > 1 + tolerance).nonzero().squeeze(1)
        if not len(new):
            return current
        candidates = torch.cat([current.rows, offered[new]])
        numbers = torch.cat([current.numbers, torch.where(new < len(rows), n_seen + new, -1)])
        empty = bool((current.numbers < 0).all())
        chosen = maxvol(candidates, tolerance, None if empty else torch.arange(n_features))
        return replace(current, rows=candidates[chosen], numbers=numbers[chosen])

    def _small(self) -> Tensor:
        """The diagonal rows, of which some may be in the set."""
        return torch.diag(self.floor * torch.where(self.sizes > 0, self.sizes, torch.ones_like(self.sizes)))

    def _grown(self, sizes: Tensor) -> ActiveSet:
        """With diagonal rows as small beside greater columns.

        Those of a first block, of crystals whose columns vanish by symmetry, would be nothing beside all that follow.
        """
        if torch.equal(sizes, self.sizes):
            return self
        grown = replace(self, sizes=sizes)
        own = self.numbers < 0
        rows = self.rows.clone()
        rows[own] = grown._small()[self.rows[own].abs().argmax(dim=1)]
        return replace(grown, rows=rows)

    def inverse(self) -> Tensor:
        """A⁻¹, (n_features, n_features): the grade of a row x is the greatest number of |x A⁻¹|."""
        scale = _sizes(self.rows)
        return torch.linalg.inv(self.rows / scale) / scale[:, None]


def no_active_set(block: Tensor, floor: float = 1e-6) -> ActiveSet:
    """The set to begin with, of small diagonal rows; arguments as those of `active_set`, block its first rows."""
    sizes = _checked(block, 1).abs().amax(dim=0)
    none = ActiveSet(torch.empty(0, len(sizes), dtype=torch.float64), torch.full((len(sizes),), -1), sizes, floor)
    return replace(none, rows=none._small())


def active_set(
    blocks: Iterable[Tensor],
    *,
    floor: float = 1e-6,
    tolerance: float = 1e-3,
) -> ActiveSet:
    """The active set of rows that come in blocks, of which at most n_features are remembered.

    It begins with small diagonal rows, which stand for directions that no data have, so that the columns may depend
    on each other; a row that has such a direction gets a great grade (Podryabinkin and Shapeev, Comput. Mater. Sci.
    140, 171, 2017; Podryabinkin, Garifullin, Shapeev and Novikov, J. Chem. Phys. 159, 084112, 2023).

    Args:
        blocks: (n, n_features) each.
        floor: size of the diagonal rows, relative to the greatest number of a column so far.
        tolerance: of `maxvol`.

    Raises:
        InputError: without rows, for rows of another width, and for numbers that are not finite.
    """
    current: ActiveSet | None = None
    n_seen = 0
    for block in blocks:
        current = (current or no_active_set(block, floor)).extended(block, n_seen, tolerance)
        n_seen += len(block)
    if current is None:
        raise InputError("no rows were given of which some could be chosen.")
    return current


def grades(features: Tensor, chosen: Tensor) -> Tensor:
    """γ(x) = max |x A⁻¹|, (n,), of rows x (n, n_features) and chosen rows A (n_features, n_features).

    x A⁻¹ are the weights with which the chosen rows make up x: γ ≤ 1 is interpolation.
    """
    scale = _sizes(chosen)
    return torch.linalg.solve(chosen / scale, features.double() / scale, left=False).abs().amax(dim=1)


def _checked(features: Tensor, n_points: int) -> Tensor:
    """The rows in float64, of which there must be as many as are to be chosen."""
    if features.ndim != 2 or not bool(torch.isfinite(features).all()):
        raise InputError(f"features of shape {tuple(features.shape)} were given; finite rows of features are needed.")
    if not 1 <= n_points <= len(features):
        raise InputError(f"{n_points} of {len(features)} rows cannot be chosen.")
    return features.detach().double()


def _sizes(rows: Tensor) -> Tensor:
    """The greatest number of each column, or one."""
    sizes = rows.abs().amax(dim=0)
    return torch.where(sizes > 0, sizes, torch.ones_like(sizes))
