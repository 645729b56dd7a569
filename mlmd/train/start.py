"""The potential that a training begins with: the descriptor of the input, and a regressor for its features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlmd.config import (
    ACSF,
    MTP,
    SNAP,
    SOAP,
    Combination,
    DeepPotSE,
    GAPFit,
    KernelRidgeFit,
    LinearFit,
    NetworkFit,
    RandomFeaturesFit,
    Train,
    Trained,
    parts_of,
)
from mlmd.descriptors import Descriptor, embedding
from mlmd.descriptors.bispectrum import Bispectrum, Expansion
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.species import species, species_table
from mlmd.descriptors.symmetry import Symmetry
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.fitting.committee import Committee
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.fitting.points import cur, farthest
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.fitting.sum import Sum
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.environments import MOST, features_of
from mlmd.train.functions import symmetry_functions

PartTable = ACSF | MTP | SNAP | SOAP | DeepPotSE | Trained
"""A descriptor of the input that may be one of several."""
_CLOSER = 0.95
"""Radial functions begin at this part of the shortest distance in the data: atoms will come a little closer."""
_NOISE = 0.1
"""Standard deviation of the random part of the first radial coefficients: elements must not stay alike."""
_FIRST_OUTPUT = 0.1
"""eV, energies of atoms before a network is trained: less than what it learns, so that no noise has to be unlearned."""
_MORE_PLACES = 1.1
"""Places for neighbours in DeepPot-SE, relative to the most neighbours that an atom has."""
_ENOUGH_TO_HOLD_OUT = 10
"""Structures, of which one can be kept apart."""


def start(config: Train, frames: Sequence[LabelledFrame], shortest: float, elements: Sequence[str]) -> LearnedPotential:
    """The potential that a training begins with; its coefficients are to be found.

    Args:
        config: the input.
        frames: to train on.
        shortest: Å, distance of the closest atoms of the data.
        elements: chemical symbols, in the order of the species.

    Raises:
        InputError: when no atoms of the data are within the cutoff of each other, for impossible settings.
    """
    descriptor = make_descriptor(config, frames, shortest, elements)
    return LearnedPotential(descriptor, _regressor(config, descriptor, frames))


def make_descriptor(
    config: Train, frames: Sequence[LabelledFrame], shortest: float, elements: Sequence[str]
) -> Descriptor:
    """The descriptor of an input; arguments and errors as those of `start`."""
    parts = [_part(one, config, frames, shortest, elements) for one in parts_of(config.descriptor)]
    return Combined(parts) if isinstance(config.descriptor, Combination) else parts[0]


def reach(config: Train) -> float:
    """Å, the distance up to which atoms see each other.

    Raises:
        InputError, ModelError: as `trained`.
    """
    return max(trained(one).cutoff if isinstance(one, Trained) else one.cutoff for one in parts_of(config.descriptor))


def trained(given: Trained) -> Descriptor:
    """The descriptor of a potential that was trained before.

    Raises:
        InputError: when it has none of atoms, or is not there.
        ModelError: when it is damaged, or no .mlmd file.
    """
    potential = modelfile.load(given.model)
    descriptor = getattr(potential, "descriptor", None)
    if descriptor is None or descriptor.kind != "atom":
        raise InputError(f"descriptor: model: {given.model.name} has no descriptor of atoms. Give a learned potential.")
    for parameter in descriptor.parameters():
        parameter.requires_grad_(False)
    found: Descriptor = descriptor
    return found


def _part(
    given: PartTable, config: Train, frames: Sequence[LabelledFrame], shortest: float, elements: Sequence[str]
) -> Descriptor:
    """One of the descriptors that are combined, or the only one."""
    if isinstance(given, Trained):
        return _of_model(given, elements)
    if shortest >= given.cutoff and not isinstance(given, SNAP):
        raise InputError(
            f"descriptor: cutoff: {given.cutoff:g} Å, but no two atoms of the data are closer than {shortest:g} Å: "
            "nothing can be learned. Give a longer cutoff; is the unit of length right?"
        )
    match given:
        case MTP():
            return _moments(config, given, shortest, elements)
        case ACSF():
            functions = symmetry_functions(given, frames, elements, config.seed)
            return Symmetry(elements=elements, functions=functions)
        case SOAP():
            return Soap(
                elements=elements,
                cutoff=given.cutoff,
                n_max=given.n_max,
                l_max=given.l_max,
                sigma=given.sigma,
                basis=given.basis,
                products=given.products,
            )
        case SNAP():
            return _bispectrum(given, elements)
        case DeepPotSE():
            return _embedding(config, given, frames, elements)


def _of_model(given: Trained, elements: Sequence[str]) -> Descriptor:
    descriptor = trained(given)
    if descriptor.elements != tuple(elements):
        raise InputError(
            f"descriptor: model: {given.model.name} knows {', '.join(descriptor.elements)}, in this order; the "
            f"elements of the training are {', '.join(elements)}. They must be the same: elements = [...] orders them."
        )
    return descriptor


def _moments(config: Train, given: MTP, shortest: float, elements: Sequence[str]) -> Moments:
    """Radial functions are plain polynomials; to be optimised, random numbers from the seed are added."""
    closest = given.min_distance
    if not isinstance(closest, float):
        closest = round(_CLOSER * shortest, 3)
    if closest >= given.cutoff:
        raise InputError(
            f"descriptor: cutoff: {given.cutoff:g} Å, but radial functions begin at {closest:g} Å, below the closest "
            "atoms of the data: nothing can be learned. Give a longer cutoff; is the unit of length right?"
        )
    moments = Moments(
        elements=elements,
        cutoff=given.cutoff,
        min_distance=closest,
        level=given.level,
        n_chebyshev=given.n_chebyshev,
        scaling=1 / (given.cutoff - closest) ** 2,  # radial functions of order one
    )
    if isinstance(config.fit, LinearFit) and config.fit.radial == "optimise":
        coefficients = moments.radial.coefficients
        noise = np.random.default_rng(config.seed).standard_normal(coefficients.shape)
        with torch.no_grad():
            coefficients.add_(torch.from_numpy(noise), alpha=_NOISE)
    return moments


def _bispectrum(given: SNAP, elements: Sequence[str]) -> Bispectrum:
    for name, numbers in (("radii", given.radii), ("weights", given.weights)):
        for element in numbers:
            if element not in elements:
                raise InputError(f"descriptor: {name}: {element} is none of the elements, {', '.join(elements)}.")
    expansion = Expansion(rcutfac=given.cutoff, twojmax=given.twojmax, rmin0=given.rmin0, rfac0=given.rfac0)
    return Bispectrum(
        elements=elements,
        radii=[given.radii.get(element, 0.5) for element in elements],
        weights=[given.weights.get(element, 1.0) for element in elements],
        expansion=expansion,
    )


def _embedding(
    config: Train, given: DeepPotSE, frames: Sequence[LabelledFrame], elements: Sequence[str]
) -> embedding.DeepPotSE:
    """Random networks; places for as many neighbours as atoms of some structures have, and a few more."""
    order = np.random.default_rng(config.seed).permutation(len(frames))
    graphs, most, n_atoms = [], np.zeros(len(elements)), 0
    for index in order:
        graph = build_graph(frames[index].atoms, given.cutoff)
        kinds = species(graph.numbers, species_table(elements))
        counts = torch.zeros((graph.n_atoms, len(elements)), dtype=torch.float64)
        counts.index_put_((graph.pairs[0], kinds[graph.pairs[1]]), torch.ones(1).double(), accumulate=True)
        most = np.maximum(most, counts.amax(dim=0).numpy())
        graphs.append(graph)
        n_atoms += graph.n_atoms
        if n_atoms >= MOST:
            break
    descriptor = embedding.DeepPotSE(
        elements=elements,
        cutoff=given.cutoff,
        onset=given.cutoff_smooth,
        n_places=[math.ceil(_MORE_PLACES * one) for one in most],
        n_neurons=given.n_neurons,
        n_axes=given.n_axes,
        type_one_side=given.type_one_side,
    )
    descriptor.standardise(graphs)
    descriptor.randomise(torch.Generator().manual_seed(config.seed))
    return descriptor


def _regressor(config: Train, descriptor: Descriptor, frames: Sequence[LabelledFrame]) -> Regressor:
    """What the features go into."""
    n_features, n_kinds = descriptor.n_features, len(descriptor.elements)
    fit = config.fit
    match fit:
        case LinearFit():
            tables = parts_of(config.descriptor)
            terms = [_linear(fit, *one) for one in zip(tables, _parts(descriptor), strict=True)]
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
            random.standardise(features_of(descriptor, frames, config.seed)[0])
            random.randomise(torch.Generator().manual_seed(config.seed))
            return random
        case GAPFit():
            features, kinds = features_of(descriptor, frames, config.seed)
            if isinstance(descriptor, Combined):
                parts = zip(descriptor.parts, descriptor.columns, strict=True)
                return Sum([_sparse(fit, part, features[:, own], kinds, config.seed) for part, own in parts])
            return _sparse(fit, descriptor, features, kinds, config.seed)
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


def _linear(fit: LinearFit, given: PartTable, descriptor: Descriptor) -> Linear | Polynomial:
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


def _sparse(fit: GAPFit, descriptor: Descriptor, features: Tensor, kinds: Tensor, seed: int) -> SparseGaussian:
    """Representative atoms of each element, chosen by their features."""
    shift, scale = mean_and_deviation(features)
    kernel = fit.kernel or ("polynomial" if isinstance(descriptor, Soap) else "gaussian")
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
            chosen = farthest(scaled[different], n_points)
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


def _width(n_features: int) -> float:
    """Length scale of a kernel: rows of standardised features are about √(2 n_features) apart, and energies smooth."""
    return 3 * math.sqrt(n_features)


def distinct(rows: Tensor) -> Tensor:
    """Numbers of the first rows of each kind of rows (n, n_features) that agree to six digits of their size."""
    size = float(rows.abs().amax()) or 1.0
    _, places = np.unique((rows / size * 1e6).round().numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(places))
