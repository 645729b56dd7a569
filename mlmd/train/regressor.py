"""The regressor that an input asks for, with the points and widths that it takes from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlmd.config import (
    MTP,
    AGNIFit,
    GAPFit,
    KernelFit,
    KernelRidgeFit,
    LinearFit,
    NetworkFit,
    RandomFeaturesFit,
    Train,
    Trained,
    parts_of,
)
from mlmd.config.pairs import NO_PRODUCTS
from mlmd.config.table import Table
from mlmd.descriptors import Descriptor
from mlmd.descriptors.combined import Combined, columns_of
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.soap import Soap
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.fitting.committee import Committee
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.fitting.odd_gaussian import OddGaussian
from mlmd.fitting.points import cur, farthest
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.fitting.sum import Sum
from mlmd.io.labelled import LabelledFrame
from mlmd.train.atom_descriptor import DescriptorOfAtoms
from mlmd.train.environments import features_of, lone_rows, pins

_FIRST_OUTPUT = 0.1
"""eV, energies of atoms before a network is trained: less than what it learns, so that no noise has to be unlearned."""
_ENOUGH_TO_HOLD_OUT = 10
"""Structures, of which one can be kept apart."""
_ROUNDING = 1e-9
"""Root mean square of a fingerprint, which is a sum of numbers of order one, below which it is rounding."""
_NOTHING = 1e-3
"""Standard deviations of a fingerprint, below which it is that of a centre of inversion."""


def make_regressor(  # noqa: PLR0911 - a return for each kind
    config: Train, descriptor: Descriptor, frames: Sequence[LabelledFrame], *, counted: bool = False
) -> Regressor:
    """What the features go into; errors as those of `mlmd.train.start.start`.

    Args:
        config: the input.
        descriptor: whose features they are.
        frames: to train on.
        counted: whether farthest points are not looked for: as many others stand in their places.
    """
    n_features, n_kinds = descriptor.n_features, len(descriptor.elements)
    fit, whole = config.fit, config.descriptor
    match fit:
        case LinearFit():
            if fit.quadratic and all(isinstance(one, Moments) for one in _parts(descriptor)):  # of a trained potential
                raise InputError(NO_PRODUCTS)
            terms = [_linear(fit, _given(whole, number), part) for number, part in enumerate(_parts(descriptor))]
            if isinstance(descriptor, Combined) and not any(isinstance(term, Linear) for term in terms):
                return Polynomial(n_features=n_features, n_kinds=n_kinds, order=2 if fit.quadratic else 1)
            return Sum(terms) if isinstance(descriptor, Combined) else terms[0]
        case RandomFeaturesFit():
            random = RandomFeatures(
                n_features=n_features,
                n_random=fit.n_random,
                n_kinds=n_kinds,
                function=fit.function,
                width=fit.width or _width(n_features),
                amplitude=fit.amplitude,
            )
            random.standardise(features_of(descriptor, frames, config.seed)[0], columns_of(descriptor))
            random.randomise(torch.Generator().manual_seed(config.seed))
            return random
        case GAPFit():
            if problem := fit.wrong_length(len(_parts(descriptor))):
                raise InputError(problem)
            features, kinds = features_of(descriptor, frames, config.seed)
            if isinstance(descriptor, Combined):
                parts = enumerate(zip(descriptor.parts, descriptor.columns, strict=True))
                return Sum(
                    [
                        _sparse(
                            fit.of(n), _given(whole, n), part, features[:, own], kinds, config.seed, counted=counted
                        )
                        for n, (part, own) in parts
                    ]
                )
            return _sparse(fit.of(0), whole, descriptor, features, kinds, config.seed, counted=counted)
        case AGNIFit() | KernelFit():
            return _of_all_rows(fit, config, descriptor, frames, counted=counted)
        case NetworkFit():
            if fit.patience is not None and len(frames) < _ENOUGH_TO_HOLD_OUT:
                raise InputError(
                    f"fit: patience: a tenth of the {len(frames)} training structures would be kept apart, which is "
                    "too few. Leave patience out, or add structures."
                )
            generator = torch.Generator().manual_seed(config.seed)
            members = [_network(fit, n_features, n_kinds, generator) for _ in range(fit.members)]
            return members[0] if fit.members == 1 else Committee(members)
        case KernelRidgeFit():
            raise InputError("fit: kernel-ridge compares whole structures, not atoms.")


def _parts(descriptor: Descriptor) -> list[Descriptor]:
    """Those that are combined, or the only one."""
    return [*descriptor.parts] if isinstance(descriptor, Combined) else [descriptor]


def _given(whole: Table, number: int) -> DescriptorOfAtoms:
    """The table of one of several descriptors, or that of the trained one which they all are of."""
    return whole if isinstance(whole, Trained) else parts_of(whole)[number]


def _linear(fit: LinearFit, given: DescriptorOfAtoms, descriptor: Descriptor) -> Linear | Polynomial:
    """Of moment tensors coefficients for all elements alike, as their radial functions tell them apart."""
    n_features, n_kinds = descriptor.n_features, len(descriptor.elements)
    if isinstance(given, MTP):
        return Linear(n_features=n_features, n_kinds=n_kinds)
    return Polynomial(n_features=n_features, n_kinds=n_kinds, order=2 if fit.quadratic else 1)


def _network(fit: NetworkFit, n_features: int, n_kinds: int, generator: torch.Generator) -> Network:
    """A network with random weights."""
    network = Network(
        n_features=n_features,
        n_neurons=fit.n_neurons,
        n_kinds=n_kinds,
        activation=fit.activation,
        residual=fit.residual,
        timestep=fit.residual,
    )
    network.randomise(generator)
    with torch.no_grad():
        network.output.mul_(_FIRST_OUTPUT)
    return network


def _kernel_of(fit: GAPFit | KernelFit, given: Table, descriptor: Descriptor, features: Tensor) -> str:
    """The kernel of the input, or the one that suits the descriptor.

    Raises:
        InputError: for cosines between rows where that of an atom without neighbours is zero: the energy would jump
            where an atom loses the last one, as a row that tends to zero keeps its direction until it is none.
    """
    kernel = str(fit.kernel or ("polynomial" if isinstance(descriptor, Soap) else "gaussian"))
    sizes = torch.linalg.vector_norm(lone_rows(descriptor), dim=1)
    least = _ROUNDING * float(torch.linalg.vector_norm(features, dim=1).max())
    zero = [element for element, size in zip(descriptor.elements, sizes.tolist(), strict=True) if size <= least]
    if kernel == "polynomial" and zero:
        raise InputError(
            f'fit: kernel: "polynomial" compares the directions of rows, and the row of {_named(given)} is zero for '
            f"an atom without neighbours ({', '.join(zero)}): the energy would jump where an atom loses its last one. "
            'Give kernel = "gaussian".'
        )
    return kernel


def _named(given: Table) -> str:
    """A descriptor as the input has it."""
    return " and ".join(one.model.name if isinstance(one, Trained) else one.kind for one in parts_of(given))


def _sparse(
    fit: GAPFit, given: Table, descriptor: Descriptor, features: Tensor, kinds: Tensor, seed: int, *, counted: bool
) -> SparseGaussian:
    """Representative atoms of each element, chosen by their features."""
    shift, scale = mean_and_deviation(features, columns_of(descriptor))
    kernel = _kernel_of(fit, given, descriptor, features)
    if kernel == "polynomial":  # the angle between rows is that from the origin
        shift, scale = torch.zeros_like(shift), torch.ones_like(scale)
    scaled = (features - shift) / scale
    points, point_kinds = [], []
    for kind in kinds.unique().tolist():
        own = (kinds == kind).nonzero().squeeze(1)
        # rows that are nearly the same would make the kernels of the points singular
        different = own[distinct(scaled[own])]
        n_points = min(fit.n_sparse, len(different))
        if fit.selection == "cur":
            generator = torch.Generator().manual_seed(seed)
            rank = min(n_points, int(torch.linalg.matrix_rank(scaled[different])))
            chosen = cur(scaled[different], n_points, rank, generator)
        else:
            chosen = _farthest(scaled[different], n_points, counted=counted)
        points.append(features[different[chosen]])
        point_kinds.append(torch.full((n_points,), kind))
    return SparseGaussian(
        torch.cat(points),
        torch.cat(point_kinds),
        n_kinds=len(descriptor.elements),
        kernel=kernel,
        power=fit.power if kernel == "polynomial" else None,
        width=fit.width or _width(features.shape[1]) if kernel == "gaussian" else None,
        amplitude=fit.amplitude,
        shift=shift,
        scale=scale,
    )


def _farthest(rows: Tensor, n_points: int, *, counted: bool) -> Tensor:
    """(n_points,) numbers of rows that are all different, of which only the count matters where they are counted."""
    return torch.arange(n_points) if counted else farthest(rows, n_points)


def _force_field(
    fit: AGNIFit, descriptor: Descriptor, features: Tensor, kinds: Tensor, *, counted: bool
) -> OddGaussian:
    """Reference fingerprints of each element; a fingerprint and its mirror image count as one."""
    kinds = kinds.repeat_interleave(3)
    scale = features.square().mean(dim=0).sqrt()
    scale = torch.where(scale > _ROUNDING, scale, torch.ones_like(scale))
    scaled = features / scale
    largest = scaled.gather(1, scaled.abs().argmax(dim=1, keepdim=True))
    scaled = scaled * torch.sign(largest)
    points, point_kinds = [], []
    for kind in kinds.unique().tolist():
        own = ((kinds == kind) & (largest[:, 0].abs() > _NOTHING)).nonzero().squeeze(1)
        if not len(own):
            raise InputError("all atoms of the data are at centres of inversion: there are no forces to learn from.")
        different = own[distinct(scaled[own])]
        chosen = _farthest(scaled[different], min(fit.n_sparse, len(different)), counted=counted)
        points.append(scaled[different[chosen]] * scale)
        point_kinds.append(torch.full((len(chosen),), kind))
    return OddGaussian(
        torch.cat(points),
        torch.cat(point_kinds),
        n_kinds=len(descriptor.elements),
        width=fit.width or math.sqrt(descriptor.n_features),
        amplitude=fit.amplitude,
        scale=scale,
    )


def _of_all_rows(
    fit: AGNIFit | KernelFit, config: Train, descriptor: Descriptor, frames: Sequence[LabelledFrame], *, counted: bool
) -> Regressor:
    """What is made of fingerprints of components, or of every label."""
    features, kinds = features_of(descriptor, frames, config.seed)
    if isinstance(fit, AGNIFit):
        return _force_field(fit, descriptor, features, kinds, counted=counted)
    return _process(fit, config, descriptor, frames, features)


def _process(
    fit: KernelFit, config: Train, descriptor: Descriptor, frames: Sequence[LabelledFrame], features: Tensor
) -> GaussianProcess:
    """The Gaussian process that every label takes part in, and single atoms where their energies are given."""
    kernel = _kernel_of(fit, config.descriptor, descriptor, features)
    if kernel == "laplacian" and any(frame.forces is not None or frame.stress is not None for frame in frames):
        raise InputError(
            'fit: kernel: "laplacian" has a kink where two rows agree, so that forces and stresses cannot be learned '
            'with it. Give forces = "none" and stress = "none" for the data, or another kernel.'
        )
    shift, scale = mean_and_deviation(features, columns_of(descriptor))
    if kernel == "polynomial":  # the angle between rows is that from the origin
        shift, scale = torch.zeros_like(shift), torch.ones_like(scale)
    n_features = descriptor.n_features
    width = {"gaussian": _width(n_features), "laplacian": 3.0 * n_features}.get(kernel)
    return GaussianProcess(
        n_features=n_features,
        n_points=sum(len(frame.atoms) for frame in frames) + pins(config) * len(descriptor.elements),
        n_kinds=len(descriptor.elements),
        kernel=kernel,
        width=(fit.width or width) if width is not None else None,
        power=fit.power if kernel == "polynomial" else None,
        amplitude=fit.amplitude,
        shift=shift,
        scale=scale,
    )


def _width(n_features: int) -> float:
    """Length scale of a kernel: rows of standardised features are about √(2 n_features) apart, and energies smooth."""
    return 3 * math.sqrt(n_features)


def distinct(rows: Tensor) -> Tensor:
    """Numbers of the first rows of each kind of rows (n, n_features) that agree to six digits of their size."""
    size = float(rows.abs().amax()) or 1.0
    _, places = np.unique((rows / size * 1e6).round().numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(places))
