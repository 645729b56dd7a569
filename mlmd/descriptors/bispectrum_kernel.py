"""Bispectrum components packed for their compiled form (`src/snap.hpp`, which says what the parameters are)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlmd.descriptors.coupling import clebsch_gordan, components, coupled
from mlmd.descriptors.hyperspherical import wigner_weights
from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.descriptors.bispectrum import Bispectrum


def bispectrum_kernel(
    bispectrum: Bispectrum,
    constants: Tensor | None = None,
    linear: Tensor | None = None,
    quadratic: Tensor | None = None,
) -> Kernel | None:
    """The compiled form; None for several densities, for which there is none.

    Args:
        bispectrum: the descriptor.
        constants: (n_species,) eV, c of the potential c + b · B + ½ B · A B; by default zero.
        linear: (n_species, n_features), b; by default zero.
        quadratic: (n_species, n_features, n_features), A; by default none.
    """
    settings = bispectrum.expansion
    if settings.chemflag:
        return None
    n_species = len(bispectrum.elements)
    integers = [
        n_species, settings.switchflag, bool(settings.sinner), settings.twojmax,
        settings.bzeroflag, settings.bnormflag, quadratic is not None,
    ]  # fmt: skip
    radii = np.array(bispectrum.radii)
    numbers = [
        np.array([settings.rfac0, settings.rmin0, *bispectrum.weights]),
        (settings.rcutfac * (radii[:, None] + radii)).ravel(),
    ]
    for values in (settings.sinner, settings.dinner):
        if values:
            numbers.append((0.5 * (np.array(values)[:, None] + np.array(values))).ravel())
    constants = torch.zeros(n_species) if constants is None else constants
    linear = torch.zeros((n_species, bispectrum.n_features)) if linear is None else linear
    numbers += [*_tables(settings.twojmax), *_coefficients(bispectrum, constants, linear, quadratic)]
    return Kernel(
        family="snap",
        cutoff=bispectrum.cutoff,
        integers=np.array(integers, dtype=np.int64),
        numbers=np.concatenate(numbers),
        precision=str(bispectrum.weight.dtype).removeprefix("torch."),
    )


def _coefficients(
    bispectrum: Bispectrum, constants: Tensor, linear: Tensor, quadratic: Tensor | None
) -> list[np.ndarray]:
    """Constant, linear and quadratic coefficients, by element, of Σ conj(U_j) Z^j as it is.

    The components of the descriptor are that less its value for an atom on its own, divided by a norm.
    """
    settings = bispectrum.expansion
    last = np.array([j + 1.0 for _, _, j in components(settings.twojmax)])
    norm = last if settings.bnormflag else np.ones_like(last)
    alone = last / norm * settings.bzeroflag
    packed = []
    for kind in range(len(bispectrum.elements)):
        constant, slopes = _array(constants[kind]), _array(linear[kind])
        product = np.zeros((len(last), len(last))) if quadratic is None else _array(quadratic[kind])
        packed.append(np.array([constant - alone @ slopes + 0.5 * alone @ product @ alone]))
        packed.append((slopes - product @ alone) / norm)
        if quadratic is not None:
            packed.append((product / norm / norm[:, None]).ravel())
    return packed


@cache
def _tables(twojmax: int) -> tuple[np.ndarray, ...]:
    """Weights of hyperspherical harmonics in Wigner's matrices, then Clebsch-Gordan coefficients."""
    weights = [
        np.array(wigner_weights(j, row, column))
        for j in range(twojmax + 1)
        for row in range(j // 2 + 1)
        for column in range(row + 1 if 2 * row == j else j + 1)
    ]
    couplings = [
        clebsch_gordan(j1, j2, j).sum(dim=2).numpy().ravel()  # of each m1 and m2 one m
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in coupled(j1, j2, twojmax)
    ]
    return (*weights, *couplings)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
