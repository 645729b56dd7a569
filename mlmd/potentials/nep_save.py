"""Neuroevolution potentials written as `nep.txt`, for GPUMD and others; see `mlmd.potentials.nep_file`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import torch
from torch import Tensor

from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.errors import InputError
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import cannot_be_written
from mlmd.potentials.nep import NEP, Repulsion
from mlmd.potentials.nep_file import screening_of, universal

MOST = {"neurons": 120, "features": 103, "functions of a kind": 17}
"""What GPUMD and NEP_CPU have room for."""
_DENSEST = 0.18
"""1/Å³, of diamond: no solid has more neighbours."""
_MOST_NEIGHBOURS = 819
"""Of an atom, for GPUMD."""
_ONE = 30.0
"""tanh of this is one to the last bit."""


def save(potential: LearnedPotential, path: Path) -> None:
    """Write a potential of radial-angular functions and networks of one hidden layer.

    Files have one constant for all elements. Where those of a potential differ, every network gets one more neuron,
    which sees no feature and gives the rest.

    Args:
        potential: a NEP, or one that was trained with the descriptor ``nep``.
        path: what it is called does not matter; GPUMD looks for `nep.txt`.

    Raises:
        InputError: when the format, or the programs that read it, have no place for it.
    """
    descriptor, network = potential.descriptor, potential.regressor
    if not isinstance(descriptor, RadialAngular) or not isinstance(network, Network):
        raise cannot_be_written(potential, ".txt")
    if network.activations != ("tanh",) or network.residual:
        raise InputError(
            f"nep.txt holds networks of one hidden layer with tanh; this has {len(network.layers)} with "
            f'{", ".join(network.activations)}. Train again with n_neurons = [30] and activation = "tanh".'
        )
    shape = descriptor.shape
    weights, biases, output, constant = _one_constant(network)
    sizes = {
        "neurons": weights.shape[1],
        "features": shape.n_features,
        "functions of a kind": max(shape.n_radial, shape.n_radial_basis, shape.n_angular, shape.n_angular_basis),
    }
    for what, size in sizes.items():
        if size > MOST[what]:
            raise InputError(
                f"GPUMD and NEP_CPU read potentials of at most {MOST[what]} {what}; this has {size}. Train again with "
                "smaller n_neurons, n_radial, n_angular, n_chebyshev or l_max."
            )
    repulsion = potential.repulsion if isinstance(potential, NEP) else None
    zbl, fitted = ("", ()) if repulsion is None else _zbl(potential.elements, repulsion)
    header = _header(potential, len(weights) == 1 < len(potential.elements), zbl)
    networks = (part for w, b, v in zip(weights, -biases, output, strict=True) for part in (w, b, v))
    radial = (functions.coefficients.permute(2, 3, 0, 1) for functions in (descriptor.radial, descriptor.angular))
    numbers = (*networks, -constant, *radial, descriptor.scaling, *fitted)
    values = torch.cat([one.detach().double().cpu().reshape(-1) for one in numbers]).tolist()
    path.write_text("\n".join([*header, *(f"{value:.16e}" for value in values)]) + "\n", encoding="utf-8")


def _header(potential: LearnedPotential, common: bool, zbl: str) -> Iterator[str]:
    """The lines before the numbers."""
    descriptor, network = potential.descriptor, potential.regressor
    assert isinstance(descriptor, RadialAngular) and isinstance(network, Network)
    shape, elements = descriptor.shape, potential.elements
    cutoffs = list(zip(descriptor.radial_cutoffs.tolist(), descriptor.angular_cutoffs.tolist(), strict=True))
    counts = (
        min(_MOST_NEIGHBOURS, math.ceil(_DENSEST * 4 / 3 * math.pi * reach**3))
        for reach in (descriptor.cutoff, descriptor.angular_cutoff)
    )
    lengths = [value for pair in (cutoffs[:1] if len({*cutoffs}) == 1 else cutoffs) for value in pair]
    n_neurons = _one_constant(network)[0].shape[1]
    yield f"nep{3 if common else 4}{'_zbl' if zbl else ''} {len(elements)} {' '.join(elements)}"
    if zbl:
        yield zbl
    yield f"cutoff {' '.join(f'{value!r}' for value in lengths)} {' '.join(map(str, counts))}"
    yield f"n_max {shape.n_radial - 1} {shape.n_angular - 1}"
    yield f"basis_size {shape.n_radial_basis - 1} {shape.n_angular_basis - 1}"
    yield f"l_max {shape.l_max} {2 * shape.four_body} {int(shape.five_body)}"
    yield f"ANN {n_neurons} 0"


def _one_constant(network: Network) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """w, b, v and the constant (1,) of a network, the same for all elements."""
    weights, biases, output, constants = (one.detach().double() for one in network.tensors())
    if bool((constants == constants[0]).all()):
        return weights, biases, output, constants[:1]
    mean, n = constants.mean()[None], network.n_kinds
    weights, biases, output = weights.expand(n, -1, -1), biases.expand(n, -1), output.expand(n, -1)
    return (
        torch.cat([weights, weights.new_zeros((n, 1, weights.shape[2]))], dim=1),
        torch.cat([biases, biases.new_full((n, 1), _ONE)], dim=1),
        torch.cat([output, (constants - mean)[:, None]], dim=1),
        mean,
    )


def _zbl(elements: tuple[str, ...], repulsion: Repulsion) -> tuple[str, tuple[Tensor, ...]]:
    """The line of the header, and numbers of each pair of elements where the function is not the universal one."""
    table = repulsion.table.detach().double().cpu()
    inner, outer = table[0, 0, :2].tolist()
    if torch.allclose(table, universal(elements, [inner, outer]), rtol=1e-12, atol=0.0):
        return f"zbl {inner!r} {outer!r}", ()
    pairs = combinations_with_replacement(range(len(elements)), 2)
    return "zbl 0 0", tuple(screening_of(elements[i], elements[j], table[i, j]) for i, j in pairs)
