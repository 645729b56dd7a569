"""Power spectra packed for their compiled form (`src/soap.hpp` and what it includes say what the parameters are)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.cutoffs import TAPERS
from mlmd.errors import MlmdError
from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.descriptors.soap import Soap

DEGREE = 9
"""Of the polynomials that radial functions are tabulated as."""
_TOLERANCE = 2e-14
"""What these miss between their points, relative to the largest value of a function; besides what its series misses."""
_PRODUCTS = ("all", "same-element", "with-sum")  # in the order of `src/power_spectrum.hpp`
_MOST = 4096  # pieces; for Gaussians of a width σ about three for each σ of the range


def soap_kernel(soap: Soap, linear: Tensor | None = None, constants: Tensor | None = None) -> Kernel:
    """The compiled form.

    Args:
        soap: the descriptor.
        linear: (n_species, n_features), eV, w of the potential c + w · p; by default zero.
        constants: (n_species,) eV, c; by default zero.
    """
    n_species = len(soap.elements)
    table = _array(soap.table)
    pieces = _pieces(table.tobytes(), table.shape)
    integers = [
        n_species, soap.n_max, soap.l_max, 0 if soap.taper == "none" else 1 + [*TAPERS].index(soap.taper), len(pieces),
        _PRODUCTS.index(soap.products), soap.normalised,
    ]  # fmt: skip
    onset = 0.0 if soap.taper == "none" else soap.onset * soap.cutoff
    linear = torch.zeros((n_species, soap.n_features)) if linear is None else linear
    constants = torch.zeros(n_species) if constants is None else constants
    numbers = [np.array([soap.cutoff, onset]), *map(_array, (soap.own,)), pieces, _array(linear), _array(constants)]
    return Kernel(
        family="soap",
        cutoff=soap.cutoff,
        integers=np.array(integers, dtype=np.int64),
        numbers=np.concatenate([one.ravel() for one in numbers]),
        precision=str(soap.table.dtype).removeprefix("torch."),
    )


@lru_cache(maxsize=16)
def _pieces(series: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """A series as polynomials between equidistant points, as few as are good to rounding.

    Args:
        series: numbers (l_max + 1, n_max, n_terms) of `mlmd.descriptors.soap_basis.chebyshev_series`.
        shape: of these.

    Returns:
        (n_pieces, (l_max + 1) n_max, DEGREE + 1), coefficients of t^k, t from -1 to 1.

    Raises:
        MlmdError: for functions with more structure than Gaussians of a reasonable width.
    """
    table = np.frombuffer(series).reshape(shape)
    orders = np.arange(DEGREE + 1)
    nodes, between = np.cos(np.pi * (orders + 0.5) / len(orders)), np.cos(np.pi * orders / DEGREE)
    transform = np.cos(np.pi * orders[:, None] * (orders + 0.5) / len(orders)) * 2 / len(orders)
    transform[0] *= 0.5
    powers = np.zeros((len(orders), len(orders)))  # of t in T_k
    for k in orders:
        powers[k, : k + 1] = np.polynomial.chebyshev.cheb2poly(np.eye(len(orders))[k])[: k + 1]
    rounding = 0.03 * np.abs(table[..., -4:]).max(axis=2).ravel()
    n_pieces = 8
    while n_pieces <= _MOST:
        chebyshev = np.einsum("kq,pfq->pfk", transform, _values(table, n_pieces, nodes))
        expected = _values(table, n_pieces, between)
        size = np.abs(expected).max(axis=(0, 2), keepdims=True)
        found = chebyshev @ np.polynomial.chebyshev.chebvander(between, DEGREE).T
        if (np.abs(found - expected) <= _TOLERANCE * size + rounding[:, None]).all():
            return chebyshev @ powers
        n_pieces = math.ceil(1.25 * n_pieces)
    raise MlmdError("the radial functions of these power spectra have more structure than can be tabulated.")


def _values(table: np.ndarray, n_pieces: int, places: np.ndarray) -> np.ndarray:
    """The functions at some places in each piece, (n_pieces, n_functions, n_places)."""
    x = (np.arange(n_pieces)[:, None] + 0.5 + 0.5 * places) / n_pieces
    angles = np.arccos(np.minimum(x, 1.0)).ravel()
    found = np.empty((*table.shape[:2], len(angles)))
    for parity in (0, 1):
        orders = 2 * np.arange(table.shape[2]) + parity  # T_k(cos a) = cos(k a)
        found[parity::2] = table[parity::2] @ np.cos(orders[:, None] * angles)
    return found.reshape(-1, *x.shape).transpose(1, 0, 2)


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().double().cpu().numpy())
