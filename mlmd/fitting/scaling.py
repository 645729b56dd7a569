"""Features made comparable: by their mean and standard deviation over the rows that are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from mlmd.errors import InputError

_CONSTANT = 1e-10
"""Standard deviation, relative to the greatest number of a column, below which it is rounding."""


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale (n_features,) after which (x - shift) / scale has mean zero and variance one in every column.

    Columns that do not vary get the scale 1, so that they become zeros and not noise.

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
    return shift, torch.where(constant, torch.ones_like(scale), scale)
