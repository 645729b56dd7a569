"""How alike structures are, from the features of their atoms: average and best-match kernels.

Atoms are compared by C_ij = (p̂_i · p̂_j)^ζ, with rows of features brought to length 1; structures A and B of N and M
atoms by a sum Σ_ij P_ij C_ij with Σ_j P_ij = 1/N and Σ_i P_ij = 1/M, divided by √(K(A, A) K(B, B)) where normalised
(De, Bartók, Csányi and Ceriotti, Phys. Chem. Chem. Phys. 18, 13754, 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mlmd.errors import InputError

MAX_STEPS = 300
"""Towards a match, for each γ on the way to the one that is wanted."""


def average_kernel(
    structures: Sequence[Tensor], others: Sequence[Tensor] | None = None, *, zeta: float = 1.0, normalised: bool = True
) -> Tensor:
    """K(A, B) = 1/(NM) Σ_ij C_ij: every atom of A is compared with every atom of B.

    With ζ = 1 that is the product of the mean rows: structures with the same mean cannot be told apart.

    Args:
        structures: (n_atoms, n_features) of each.
        others: the same for the columns; the structures themselves by default.
        zeta: the power ζ > 0 of local similarities.
        normalised: whether K(A, A) = 1.

    Returns:
        (n_structures, n_others).

    Raises:
        InputError: for impossible values, structures without atoms, rows that are zero.
    """
    return _between(structures, others, zeta, torch.mean, normalised)


def rematch_kernel(
    structures: Sequence[Tensor],
    others: Sequence[Tensor] | None = None,
    *,
    gamma: float,
    zeta: float = 1.0,
    normalised: bool = True,
    tolerance: float = 1e-10,
) -> Tensor:
    """The regularised-entropy match K(A, B) = Σ_ij P_ij C_ij, P the maximum of Σ_ij P_ij (C_ij - γ ln P_ij).

    Small γ approach the best match of atoms of A with atoms of B, large γ the average kernel. P is
    u_i v_j exp(C_ij/γ) with u and v such that the sums are right; the entropy is no part of the kernel.

    Args:
        structures: (n_atoms, n_features) of each.
        others: the same for the columns; the structures themselves by default.
        gamma: γ > 0, in units of C, which is 1 for equal atoms.
        zeta: the power ζ > 0 of local similarities.
        normalised: whether K(A, A) = 1.
        tolerance: what the sums of P over rows or columns may be wrong by, relatively.

    Returns:
        (n_structures, n_others).

    Raises:
        InputError: for impossible values, structures without atoms, rows that are zero, a γ so small that the
            match is lost in rounding.
    """
    if not gamma > 0:
        raise InputError(f"γ = {gamma:g} must be positive; small ones approach the best match.")

    def matched(similarities: Tensor) -> Tensor:
        return (_match(similarities, gamma, tolerance) * similarities).sum()

    return _between(structures, others, zeta, matched, normalised)


def local_similarities(rows: Tensor, others: Tensor, zeta: float) -> Tensor:
    """C_ij = (p̂_i · p̂_j)^ζ, (n, m) in float64, of rows (n, n_features) and others (m, n_features).

    Raises:
        InputError: for a ζ that is not positive, no rows, rows that are zero, and negative C of a fractional ζ.
    """
    if not zeta > 0:
        raise InputError(f"ζ = {zeta:g} must be positive.")
    rows, others = rows.double(), others.double()
    lengths = [torch.linalg.vector_norm(one, dim=1, keepdim=True) for one in (rows, others)]
    if not all(len(one) and bool((one > 0).all()) for one in lengths):
        raise InputError(
            "structures without atoms, and atoms whose features are all zero, have no similarity to others."
        )
    cosines = (rows / lengths[0]) @ (others / lengths[1]).T
    if zeta != round(zeta) and bool((cosines < 0).any()):
        raise InputError(f"features of opposite directions have no power ζ = {zeta:g}; take a whole number.")
    return cosines**zeta


def _between(
    structures: Sequence[Tensor],
    others: Sequence[Tensor] | None,
    zeta: float,
    of: Callable[[Tensor], Tensor],
    normalised: bool,
) -> Tensor:
    """The kernel of each pair, `of` their local similarities."""

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return of(local_similarities(one, other, zeta))

    columns = structures if others is None else others
    if not structures or not columns:
        raise InputError("a kernel needs one structure or more.")
    found: list[list[Tensor]] = []
    for i, one in enumerate(structures):
        known = [] if others is not None else [found[j][i] for j in range(i)]
        found.append(known + [kernel(one, other) for other in columns[len(known) :]])
    values = torch.stack([torch.stack(row) for row in found])
    if not normalised:
        return values
    if others is None:
        own = both = values.diagonal()
    else:
        own, both = (torch.stack([kernel(one, one) for one in some]) for some in (structures, columns))
    return values / (own[:, None] * both).sqrt()


def _match(similarities: Tensor, gamma: float, tolerance: float) -> Tensor:
    """P, (n, m), whose rows have sums 1/n and whose columns 1/m.

    ln P = a_i + b_j + C_ij/γ, as exp(C/γ) overflows where γ is small. γ comes down from about 1 in halves, each time
    beginning with the a and b of the last, as Sinkhorn's scaling alone needs exp(1/γ) steps.
    """
    n = len(similarities)
    known, of_rows = similarities.detach(), similarities.new_zeros(n)
    for level in range(max(0, math.ceil(-math.log2(gamma))), -1, -1):
        exponents = known / (gamma * 2**level)
        of_rows = _scaled(exponents, of_rows, tolerance if level == 0 else max(tolerance, 1e-3)) * (2 if level else 1)
    exponents = similarities / gamma
    if similarities.requires_grad:
        # one more of Newton's steps, which changes nothing but knows how the maximum depends on C
        match = _columns_matched(exponents, of_rows)
        of_rows = of_rows + torch.linalg.solve(_curvature(match.detach()), 1 / n - match.sum(dim=1))
    return _columns_matched(exponents, of_rows)


def _scaled(exponents: Tensor, of_rows: Tensor, tolerance: float) -> Tensor:
    """a, from an a nearby, such that the sums of rows are 1/n up to a tolerance when those of columns are 1/m.

    It is the minimum of the convex G(a) = 1/m Σ_j ln Σ_i exp(a_i + C_ij/γ) - 1/n Σ_i a_i: a step of Sinkhorn's,
    then one of Newton's, by turns.

    Raises:
        InputError: when there is none in `MAX_STEPS`.
    """
    n = len(exponents)

    def height(a: Tensor) -> Tensor:
        return torch.logsumexp(exponents + a[:, None], dim=0).mean() - a.mean()

    for _ in range(MAX_STEPS):
        match = _columns_matched(exponents, of_rows)
        sums = match.sum(dim=1)
        if float((n * sums - 1).abs().max()) <= tolerance:
            return of_rows
        of_rows = of_rows - torch.log(n * sums.clamp(min=1e-300))
        match = _columns_matched(exponents, of_rows)
        slope = match.sum(dim=1) - 1 / n
        step, here = -torch.linalg.solve(_curvature(match), slope), height(of_rows)
        tried = (of_rows + 0.5**k * step for k in range(30))
        of_rows = next((one for one in tried if bool(height(one) <= here)), of_rows)
    raise InputError(f"no match of {n} with {exponents.shape[1]} atoms was found in {MAX_STEPS} steps: γ is too small.")


def _columns_matched(exponents: Tensor, of_rows: Tensor) -> Tensor:
    """exp(a_i + b_j + C_ij/γ) with the b for which every column has the sum 1/m."""
    return torch.softmax(exponents + of_rows[:, None], dim=0) / exponents.shape[1]


def _curvature(match: Tensor) -> Tensor:
    """The second derivative of G, made regular: a constant in all a changes nothing, and rounding hides small ones."""
    n, m = match.shape
    sums = match.sum(dim=1)
    bare = torch.diag(sums * (1 + 1e-12) + 1e-300) - m * match @ match.T
    return bare + sums.mean() / n
