"""Matrices of the interactions of all pairs of atoms: in molecules by distances, in crystals by sines or Ewald sums.

p_i is the atomic number of an atom, or another property of its element; lengths are in Å here.

- Coulomb: C_ii = ½ p_i^2.4, C_ij = p_i p_j / |r_i - r_j| (Rupp et al., Phys. Rev. Lett. 108, 058301, 2012)
- sine: the same with |Σ_k a_k sin²(π s_k)| in place of the distance, s the fractional coordinates of r_i - r_j and a_k
  the cell vectors (Faber et al., Int. J. Quantum Chem. 115, 1094, 2015)
- Ewald: see `ewald_matrix`
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def differences(positions: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """r_i - r_j (..., n, n, 3) of padded positions (..., n, 3), and which pairs (..., n, n) are of two atoms.

    Args:
        positions: Å.
        real: (..., n) whether there is an atom.
    """
    apart = positions[..., :, None, :] - positions[..., None, :, :]
    one = torch.eye(positions.shape[-2], dtype=torch.bool, device=positions.device)
    return apart, real[..., :, None] & real[..., None, :] & ~one


def inverse_distances(apart: Tensor, between: Tensor) -> Tensor:
    """1 / |r_i - r_j| in 1/Å, zero where there is no pair; shapes as of `differences`."""
    return _inverse_lengths(apart, between)


def inverse_sines(apart: Tensor, between: Tensor, cells: Tensor) -> Tensor:
    """1 / |Σ_k a_k sin²(π s_k)| in 1/Å, zero where there is no pair.

    Args:
        apart, between: of `differences`, (n_structures, n, n, 3) and (n_structures, n, n).
        cells: (n_structures, 3, 3) Å, rows are vectors.
    """
    fractions = apart @ torch.linalg.inv(cells)[:, None]
    return _inverse_lengths(torch.sin(math.pi * fractions) ** 2 @ cells[:, None], between)


def _inverse_lengths(vectors: Tensor, between: Tensor) -> Tensor:
    # no square root of zero, whose derivative is not finite, where there is no pair
    squares = torch.where(between, (vectors * vectors).sum(dim=-1), 1.0)
    return torch.where(between, squares.rsqrt(), 0.0)


def ewald_matrix(positions: Tensor, cell: Tensor, accuracy: float) -> Tensor:
    """(n_atoms, n_atoms) 1/Å: interactions of unit charges with all images of each other, for one crystal.

    M_ij = Σ_L erfc(α |r_ij + L|) / |r_ij + L| + (4π/V) Σ_{G≠0} exp(-G²/4α²) cos(G·r_ij) / G² - π / (V α²) for i ≠ j,
    and M_ii is half of that at r = 0 without L = 0, minus α/√π. The upper triangle with the diagonal, multiplied by
    the products of charges, adds up to the electrostatic energy with a uniform background that makes the cell neutral
    (Faber et al., 2015). α = √π (n/V²)^(1/6), and sums end where a term is smaller than the accuracy
    (Jackson and Catlow, Mol. Simul. 1, 207, 1988).

    Args:
        positions: (n_atoms, 3) Å, anywhere.
        cell: (3, 3) Å, rows are vectors.
        accuracy: between 0 and 1, of terms relative to the interaction of two charges; the number of terms is that at
            the present cell and does not change in derivatives.
    """
    n_atoms = len(positions)
    volume = torch.linalg.det(cell).abs()
    alpha = math.sqrt(math.pi) * (n_atoms / float(volume.detach()) ** 2) ** (1 / 6)
    reach = math.sqrt(-math.log(accuracy))
    near = _real_space(positions, cell, alpha, reach / alpha)
    far = _reciprocal_space(positions, cell, alpha, 2 * alpha * reach) * (4 * math.pi / volume)
    whole = near + far - math.pi / (volume * alpha**2)
    one = torch.eye(n_atoms, dtype=whole.dtype, device=whole.device)
    return whole * (1 - 0.5 * one) - one * (alpha / math.sqrt(math.pi))


def _real_space(positions: Tensor, cell: Tensor, alpha: float, cutoff: float) -> Tensor:
    """Σ_L erfc(α |r_ij + L|) / |r_ij + L| up to the cutoff, without an atom with itself."""
    n_atoms = len(positions)
    apart = positions[:, None, :] - positions[None, :, :]
    # to the nearest image in fractional coordinates, so that the same cells reach everything
    whole = torch.round(apart.detach() @ torch.linalg.inv(cell.detach()))
    heights = 1 / torch.linalg.vector_norm(torch.linalg.inv(cell.detach()), dim=0)
    crossed = _integers([math.ceil(cutoff / height + 0.5) for height in heights.tolist()], cell)
    total = apart.new_zeros(n_atoms, n_atoms)
    for some in crossed.split(max(1, _ENTRIES // n_atoms**2)):
        vectors = apart[None] + (some[:, None, None, :] - whole[None]) @ cell
        squares = (vectors * vectors).sum(dim=-1)
        inside = (squares.detach() < cutoff**2) & (squares.detach() > _SAME)
        lengths = torch.where(inside, squares, 1.0).sqrt()
        total = total + torch.where(inside, torch.erfc(alpha * lengths) / lengths, 0.0).sum(dim=0)
    return total


def _reciprocal_space(positions: Tensor, cell: Tensor, alpha: float, cutoff: float) -> Tensor:
    """Σ_{G≠0} exp(-G²/4α²) cos(G·r_ij) / G² in Å², up to the cutoff in 1/Å."""
    lengths = torch.linalg.vector_norm(cell.detach(), dim=1).tolist()
    whole = _integers([math.ceil(cutoff * length / (2 * math.pi)) for length in lengths], cell)
    waves = 2 * math.pi * whole @ torch.linalg.inv(cell).T
    squares = (waves * waves).sum(dim=1)
    inside = (squares.detach() <= cutoff**2) & (whole != 0).any(dim=1)
    waves, squares = waves[inside], squares[inside]
    weights = torch.exp(-squares / (4 * alpha**2)) / squares
    phases = positions @ waves.T
    cosines, sines = torch.cos(phases), torch.sin(phases)
    return (cosines * weights) @ cosines.T + (sines * weights) @ sines.T


def _integers(largest: Sequence[int], like: Tensor) -> Tensor:
    """(n, 3) all triples of integers between ± three numbers."""
    triples = list(itertools.product(*(range(-one, one + 1) for one in largest)))
    return torch.tensor(triples, dtype=like.dtype, device=like.device)


_ENTRIES = 1 << 20
"""Pairs of images worked through together: memory stays bounded."""
_SAME = 1e-16
"""Å², below which two images are one atom."""
