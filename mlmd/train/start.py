"""The potential that a training begins with: the descriptor of the input, and a regressor for its features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlmd.config import (
    ACSF,
    AGNI,
    MTP,
    SNAP,
    SOAP,
    AGNIFit,
    GAPFit,
    KernelFit,
    LinearFit,
    NetworkFit,
    RandomFeaturesFit,
    Train,
)
from mlmd.descriptors import Descriptor
from mlmd.descriptors.bispectrum import Bispectrum, Expansion
from mlmd.descriptors.directional import Directional
from mlmd.descriptors.linearised import needs_pairs, values
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.species import species, species_table
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import evenly_spaced
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.fitting.gaussian_process import GaussianProcess
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.fitting.odd_gaussian import OddGaussian
from mlmd.fitting.points import cur, farthest
from mlmd.fitting.polynomial import Polynomial
from mlmd.fitting.random_features import RandomFeatures
from mlmd.fitting.scaling import mean_and_deviation
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials.force_field import ForceField
from mlmd.potentials.learned import LearnedPotential

_CLOSER = 0.95
"""Radial functions begin at this part of the shortest distance in the data: atoms will come a little closer."""
_NOISE = 0.1
"""Standard deviation of the random part of the first radial coefficients: elements must not stay alike."""
_FIRST_OUTPUT = 0.1
"""eV, energies of atoms before a network is trained: less than what it learns, so that no noise has to be unlearned."""
_ENOUGH_TO_HOLD_OUT = 10
"""Structures, of which one can be kept apart."""
_NARROWEST = 0.8
"""Å, width of the narrowest Gaussian of AGNI's fingerprints (Botu and Ramprasad)."""
_ROUNDING = 1e-9
"""Root mean square of a fingerprint, which is a sum of numbers of order one, below which it is rounding."""
_NOTHING = 1e-3
"""Standard deviations of a fingerprint, below which it is that of a centre of inversion."""
_ENVIRONMENTS = 20_000
"""Atoms, at most, whose features tell how much features vary."""


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
    descriptor = make_descriptor(config, shortest, elements)
    made = ForceField if isinstance(config.fit, AGNIFit) else LearnedPotential
    return made(descriptor, _regressor(config, descriptor, frames))


def make_descriptor(config: Train, shortest: float, elements: Sequence[str]) -> Descriptor:
    """The descriptor of an input; arguments and errors as those of `start`."""
    given = config.descriptor
    if shortest >= given.cutoff and not isinstance(given, SNAP):
        raise InputError(
            f"descriptor: cutoff: {given.cutoff:g} Å, but no two atoms of the data are closer than {shortest:g} Å: "
            "nothing can be learned. Give a longer cutoff; is the unit of length right?"
        )
    match given:
        case MTP():
            return _moments(config, given, shortest, elements)
        case ACSF():
            functions = evenly_spaced(
                elements,
                f"{given.cutoff!r} Å",
                n_radial=given.n_radial,
                n_angular=given.n_angular,
                zetas=given.zetas,
                kind=given.angular,
            )
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
        case AGNI():
            widths = np.geomspace(_NARROWEST, 2 * given.cutoff, given.n_radial).tolist()
            return Directional(elements=elements, cutoff=given.cutoff, widths=widths)


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


def _regressor(config: Train, descriptor: Descriptor, frames: Sequence[LabelledFrame]) -> Regressor:
    """What the features go into."""
    n_features, n_kinds = descriptor.n_features, len(descriptor.elements)
    fit = config.fit
    match fit:
        case LinearFit():
            if isinstance(descriptor, Moments):
                return Linear(n_features=n_features, n_kinds=n_kinds)
            return Polynomial(n_features=n_features, n_kinds=n_kinds, order=2 if fit.quadratic else 1)
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
            return _sparse(fit, descriptor, *features_of(descriptor, frames, config.seed), config.seed)
        case AGNIFit() | KernelFit():
            return _of_all_rows(fit, descriptor, frames, config.seed)
        case NetworkFit():
            if fit.patience is not None and len(frames) < _ENOUGH_TO_HOLD_OUT:
                raise InputError(
                    f"fit: patience: a tenth of the {len(frames)} training structures would be kept apart, which is "
                    "too few. Leave patience out, or add structures."
                )
            network = Network(
                n_features=n_features, n_neurons=fit.n_neurons, n_kinds=n_kinds, activation=fit.activation
            )
            network.randomise(torch.Generator().manual_seed(config.seed))
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


def _force_field(fit: AGNIFit, descriptor: Descriptor, features: Tensor, kinds: Tensor) -> OddGaussian:
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
        chosen = farthest(scaled[different], min(fit.n_sparse, len(different)))
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
    fit: AGNIFit | KernelFit, descriptor: Descriptor, frames: Sequence[LabelledFrame], seed: int
) -> Regressor:
    """What is made of fingerprints of components, or of every label."""
    features, kinds = features_of(descriptor, frames, seed)
    if isinstance(fit, AGNIFit):
        return _force_field(fit, descriptor, features, kinds)
    return _process(fit, descriptor, frames, features)


def _process(
    fit: KernelFit, descriptor: Descriptor, frames: Sequence[LabelledFrame], features: Tensor
) -> GaussianProcess:
    """The Gaussian process that every label takes part in."""
    kernel = fit.kernel or ("polynomial" if isinstance(descriptor, Soap) else "gaussian")
    if kernel == "laplacian" and any(frame.forces is not None or frame.stress is not None for frame in frames):
        raise InputError(
            'fit: kernel: "laplacian" has a kink where two rows agree, so that forces and stresses cannot be learned '
            'with it. Give forces = "none" and stress = "none" for the data, or another kernel.'
        )
    shift, scale = mean_and_deviation(features)
    if kernel == "polynomial":  # the angle between rows is that from the origin
        shift, scale = torch.zeros_like(shift), torch.ones_like(scale)
    n_features = descriptor.n_features
    width = {"gaussian": _width(n_features), "laplacian": 3.0 * n_features}.get(kernel)
    return GaussianProcess(
        n_features=n_features,
        n_points=sum(len(frame.atoms) for frame in frames),
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


def features_of(descriptor: Descriptor, frames: Sequence[LabelledFrame], seed: int) -> tuple[Tensor, Tensor]:
    """Features (n, n_features) and kinds (n,) of atoms of training structures, all of them or random structures."""
    order = np.random.default_rng(seed).permutation(len(frames))
    table = species_table(descriptor.elements)
    rows, kinds, n_atoms = [], [], 0
    cutoff = descriptor.cutoff if needs_pairs(descriptor) else 0.0
    for index in order:
        graph = build_graph(frames[index].atoms, cutoff)
        rows.append(values(descriptor, graph))
        kinds.append(species(graph.numbers, table))
        n_atoms += graph.n_atoms
        if n_atoms >= _ENVIRONMENTS:
            break
    return torch.cat(rows), torch.cat(kinds)
