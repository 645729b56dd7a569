"""The floating-point format a model computes in; energies are summed in float64 whatever it is."""

from __future__ import annotations

import torch

from mlmd.errors import InputError, did_you_mean

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
"""Names an input file may say."""


def dtype_of(precision: str) -> torch.dtype:
    """The torch dtype of a precision's name.

    Raises:
        InputError: for other names.
    """
    if precision not in PRECISIONS:
        raise InputError(f"{precision!r} is not a precision. {did_you_mean(str(precision), PRECISIONS)}")
    return PRECISIONS[precision]
