"""SNAP packed for its compiled form (`snap.hpp`, which says what the parameters are)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlmd.descriptors.bispectrum import clebsch_gordan, components, coupled
from mlmd.descriptors.hyperspherical import wigner_weights
from mlmd.kernels import Kernel

if TYPE_CHECKING:
    from mlmd.potentials.snap import SNAP


def snap_kernel(potential: SNAP) -> Kernel | None:
    """The compiled form; None for several densities, for which there is none."""
    descriptor, regressor = potential.descriptor, potential.regressor
    settings = descriptor.expansion
    if settings.chemflag:
        return None
    sizes = [len(descriptor.elements), settings.twojmax]
    flags = [regressor.is_quadratic, settings.switchflag, bool(settings.sinner)]
    radii = np.array(descriptor.radii)
    numbers = [
        np.array([settings.rfac0, settings.rmin0, *descriptor.weights]),
        (settings.rcutfac * (radii[:, None] + radii)).ravel(),
    ]
    for values in (settings.sinner, settings.dinner):
        if values:
            numbers.append((0.5 * (np.array(values)[:, None] + np.array(values))).ravel())
    numbers += [*_coefficients(potential), *_tables(settings.twojmax)]
    return Kernel(
        family="snap",
        cutoff=descriptor.cutoff,
        integers=np.array([*sizes, *flags], dtype=np.int64),
        numbers=np.concatenate(numbers),
        precision=str(descriptor.weight.dtype).removeprefix("torch."),
    )


def _coefficients(potential: SNAP) -> list[np.ndarray]:
    """Constant, linear and quadratic coefficients, by element, of Σ conj(U_j) Z^j as it is.

    The components of the descriptor are that less its value for an atom on its own, divided by a norm.
    """
    settings, regressor = potential.descriptor.expansion, potential.regressor
    last = np.array([j + 1.0 for _, _, j in components(settings.twojmax)])
    norm = last if settings.bnormflag else np.ones_like(last)
    alone = last / norm * settings.bzeroflag
    packed = []
    for kind in range(regressor.n_kinds):
        constant, linear = (_array(one[kind]) for one in (regressor.constants, regressor.linear))
        product = _array(regressor.quadratic[kind]) if regressor.is_quadratic else np.zeros((len(last), len(last)))
        packed.append(np.array([constant - alone @ linear + 0.5 * alone @ product @ alone]))
        packed.append((linear - product @ alone) / norm)
        if regressor.is_quadratic:
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


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
