"""Features made comparable: by their mean and standard deviation over the rows that are trained on.

A column that varies by 10⁻³⁰, as a symmetry function of two neighbours does where one of them has just come within the
cutoff, says nothing that could be learned. Brought to variance one it would be 10²⁷ in the next structure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mlmd.errors import InputError

_CONSTANT = 1e-10
"""Standard deviation, relative to the greatest number of a column, below which it is rounding."""
_FAINT = 1e-5
"""ε, of the greatest size of columns that can be compared: those of smaller size count less and less."""


def mean_and_deviation(features: Tensor, alike: Sequence[slice] = ()) -> tuple[Tensor, Tensor]:
    """Shift and scale (n_features,) after which (x - shift) / scale has mean zero and variance one in every column.

    Columns that do not vary get the scale 1, so that they become zeros and not noise. Of columns that are `alike`, the
    scale of faint ones is `emphasis` times their deviation, and their variance less than one.

    Args:
        features: (n, n_features).
        alike: columns whose sizes can be compared, such as those of a descriptor.

    Raises:
        InputError: without rows, and for numbers that are not finite.
    """
    if features.ndim != 2 or not len(features):
        raise InputError(f"features of shape {tuple(features.shape)} were given; rows of features are needed.")
    if not bool(torch.isfinite(features).all()):
        raise InputError("features with numbers that are not finite cannot be brought to a common scale.")
    rows = features.detach().double()
    scale, shift = torch.std_mean(rows, dim=0, correction=0)
    constant = scale <= _CONSTANT * rows.abs().amax(dim=0)
    scale = scale * emphasis(torch.where(constant, torch.zeros_like(scale), scale), alike)
    return shift, torch.where(constant, torch.ones_like(scale), scale)


def emphasis(sizes: Tensor, alike: Sequence[slice]) -> Tensor:
    """By how much columns of sizes (n,) are to be held back: max(1, (ε s_max / s)²), 1 where s is zero.

    Args:
        sizes: s, norms or deviations.
        alike: columns whose sizes can be compared, each with their own s_max; those of none are not faint.
    """
    found = torch.ones_like(sizes)
    for own in alike:
        relative = sizes[own] / sizes[own].amax().clamp(min=torch.finfo(sizes.dtype).tiny)
        found[own] = torch.where(relative > 0, (_FAINT / relative).square().clamp(min=1.0), found[own])
    return found
