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
_AT_ONCE = 2**18
"""Local similarities that are worked through together: 2 MB of each matrix that a match needs."""

Reduce = Callable[[Tensor, Sequence[int]], Tensor]
"""From C (n, Σ m_s) of one structure with several of m_s atoms, and the m_s, to the kernel with each of them."""


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

    def mean(similarities: Tensor, counts: Sequence[int]) -> Tensor:
        return torch.stack([one.mean() for one in similarities.split(list(counts), dim=1)])

    return _between(structures, others, zeta, mean, normalised)


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

    def matched(similarities: Tensor, counts: Sequence[int]) -> Tensor:
        padded, there = _padded(similarities, counts)
        return (_match(padded, there, gamma, tolerance) * padded).sum(dim=(1, 2))

    return _between(structures, others, zeta, matched, normalised)


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1, in float64."""
    rows = rows.double()
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if not len(rows) or not bool((lengths > 0).all()):
        raise InputError(
            "structures without atoms, and atoms whose features are all zero, have no similarity to others."
        )
    return rows / lengths


def _powers(cosines: Tensor, zeta: float) -> Tensor:
    if not zeta > 0:
        raise InputError(f"ζ = {zeta:g} must be positive.")
    if zeta != round(zeta) and bool((cosines < 0).any()):
        raise InputError(f"features of opposite directions have no power ζ = {zeta:g}; take a whole number.")
    return cosines**zeta


def _between(
    structures: Sequence[Tensor], others: Sequence[Tensor] | None, zeta: float, of: Reduce, normalised: bool
) -> Tensor:
    """The kernel of each pair, from their local similarities."""
    if not structures or (others is not None and not others):
        raise InputError("a kernel needs one structure or more.")
    rows = [_unit(one) for one in structures]
    columns = rows if others is None else [_unit(one) for one in others]
    # those of like sizes are worked through together, with little padding
    order = sorted(range(len(columns)), key=lambda index: len(columns[index]))
    values = rows[0].new_zeros((len(rows), len(columns)))
    for place, index in enumerate(order if others is None else range(len(rows))):
        ahead = order[place:] if others is None else order
        found = _with_each(rows[index], [columns[one] for one in ahead], zeta, of)
        values[index, ahead] = found
        if others is None:
            values[ahead, index] = found
    if not normalised:
        return values
    if others is None:
        own = both = values.diagonal()
    else:
        own, both = (torch.cat([_with_each(one, [one], zeta, of) for one in some]) for some in (rows, columns))
    return values / (own[:, None] * both).sqrt()


def _with_each(one: Tensor, others: Sequence[Tensor], zeta: float, of: Reduce) -> Tensor:
    """(n_others,), kernels of a structure with others, a few at a time."""
    counts, found, begin = [len(other) for other in others], [], 0
    while begin < len(others):
        end = begin + 1
        while end < len(others) and len(one) * max(counts[begin : end + 1]) * (end + 1 - begin) <= _AT_ONCE:
            end += 1
        similarities = _powers(one @ torch.cat(list(others[begin:end])).T, zeta)
        found.append(of(similarities, counts[begin:end]))
        begin = end
    return torch.cat(found)


def _padded(similarities: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """C of each structure, (n_structures, n, m) with the largest m, zero beyond its own; and (n_structures, m), 1 or 0
    where there is an atom or none."""
    n, m = len(similarities), max(counts)
    own = similarities.split(list(counts), dim=1)
    padded = torch.stack([torch.nn.functional.pad(one, (0, m - one.shape[1])) for one in own])
    there = (torch.arange(m) < torch.tensor(list(counts))[:, None]).to(similarities.dtype)
    return padded.view(len(counts), n, m), there


def _match(similarities: Tensor, there: Tensor, gamma: float, tolerance: float) -> Tensor:
    """P, (n_pairs, n, m), of several pairs: rows have sums 1/n and columns 1/m, zero where there is no atom.

    ln P = a_i + b_j + C_ij/γ, as exp(C/γ) overflows where γ is small. γ comes down from about 1 in halves, each time
    beginning with the a and b of the last, as Sinkhorn's scaling alone needs exp(1/γ) steps.

    Args:
        similarities: C, (n_pairs, n, m), padded to the largest m.
        there: (n_pairs, m), 1 or 0.
        gamma: γ.
        tolerance: of the sums, relatively.
    """
    n = similarities.shape[1]
    weights = there / there.sum(dim=1, keepdim=True)  # 1/m, and 0
    known, of_rows = similarities.detach(), similarities.new_zeros(similarities.shape[:2])
    for level in range(max(0, math.ceil(-math.log2(gamma))), -1, -1):
        exponents = known / (gamma * 2**level)
        of_rows = _scaled(exponents, weights, of_rows, tolerance if level == 0 else max(tolerance, 1e-3))
        of_rows = of_rows * (2 if level else 1)
    exponents = similarities / gamma
    if similarities.requires_grad:
        # one more of Newton's steps, which changes nothing but knows how the maximum depends on C
        match = _columns_matched(exponents, weights, of_rows)
        of_rows = of_rows + torch.linalg.solve(_curvature(match.detach(), weights), 1 / n - match.sum(dim=2))
    return _columns_matched(exponents, weights, of_rows)


def _scaled(exponents: Tensor, weights: Tensor, of_rows: Tensor, tolerance: float) -> Tensor:
    """a, from an a nearby, such that the sums of rows are 1/n up to a tolerance when those of columns are 1/m.

    It is the minimum of the convex G(a) = 1/m Σ_j ln Σ_i exp(a_i + C_ij/γ) - 1/n Σ_i a_i: a step of Sinkhorn's,
    then one of Newton's, by turns.

    Raises:
        InputError: when there is none in `MAX_STEPS`.
    """
    n, found, left = exponents.shape[1], of_rows.clone(), torch.arange(len(of_rows))

    def height(a: Tensor) -> Tensor:
        return (torch.logsumexp(exponents + a[:, :, None], dim=1) * weights).sum(dim=1) - a.mean(dim=1)

    for _ in range(MAX_STEPS):
        sums = _columns_matched(exponents, weights, of_rows).sum(dim=2)
        far = (n * sums - 1).abs().amax(dim=1) > tolerance
        found[left] = of_rows
        if not bool(far.any()):
            return found
        if not bool(far.all()):
            left, exponents, weights, of_rows, sums = (one[far] for one in (left, exponents, weights, of_rows, sums))
        of_rows = of_rows - torch.log(n * sums.clamp(min=1e-300))
        match = _columns_matched(exponents, weights, of_rows)
        step = -torch.linalg.solve(_curvature(match, weights), match.sum(dim=2) - 1 / n)
        of_rows = _downhill(of_rows, step, height)
    raise InputError(f"no match of {n} with other atoms was found in {MAX_STEPS} steps: γ is too small.")


def _downhill(start: Tensor, step: Tensor, height: Callable[[Tensor], Tensor]) -> Tensor:
    """Each start with the first of its step, half its step, ... that is not higher; the start itself without one."""
    here, size = height(start), torch.ones_like(start[:, :1])
    for _ in range(30):
        higher = ~(height(start + size * step) <= here)
        if not bool(higher.any()):
            return start + size * step
        size = torch.where(higher[:, None], size / 2, size)
    return start + torch.where(higher[:, None], 0.0, size) * step


def _columns_matched(exponents: Tensor, weights: Tensor, of_rows: Tensor) -> Tensor:
    """exp(a_i + b_j + C_ij/γ) with the b for which every column has the sum 1/m."""
    return torch.softmax(exponents + of_rows[:, :, None], dim=1) * weights[:, None]


def _curvature(match: Tensor, weights: Tensor) -> Tensor:
    """The second derivative of G, made regular: a constant in all a changes nothing, and rounding hides small ones."""
    n, m = match.shape[1], 1 / weights.amax(dim=1)
    sums = match.sum(dim=2)
    bare = torch.diag_embed(sums * (1 + 1e-12) + 1e-300) - m[:, None, None] * match @ match.mT
    return bare + (sums.mean(dim=1) / n)[:, None, None]
