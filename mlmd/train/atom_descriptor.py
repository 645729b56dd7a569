"""The descriptor of atoms that an input asks for, with what it takes from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from mlmd.config import (
    ACSF,
    AGNI,
    MTP,
    NEP,
    SNAP,
    SOAP,
    Combination,
    DeepPotSE,
    LinearFit,
    Train,
    Trained,
    parts_of,
)
from mlmd.config.descriptors import RADIUS
from mlmd.descriptors import Descriptor, embedding
from mlmd.descriptors.bispectrum import Bispectrum, Expansion
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.directional import Directional
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.combine import descriptors_of, told_apart
from mlmd.train.environments import MOST
from mlmd.train.functions import descriptor_of, symmetry_functions

DescriptorOfAtoms = ACSF | AGNI | MTP | SNAP | SOAP | DeepPotSE | NEP | Trained
"""A descriptor of the input that may be one of several."""
_CLOSER = 0.95
"""Radial functions begin at this part of the shortest distance in the data: atoms will come a little closer."""
_NOISE = 0.1
"""Standard deviation of the random part of the first radial coefficients: elements must not stay alike."""
_MORE_PLACES = 1.1
"""Places for neighbours in DeepPot-SE, relative to the most neighbours that an atom has."""
_NARROWEST = 0.8
"""Å, width of the narrowest Gaussian of AGNI's fingerprints (Botu and Ramprasad)."""


def make_descriptor(
    config: Train, frames: Sequence[LabelledFrame], shortest: float, elements: Sequence[str]
) -> Descriptor:
    """The descriptor of an input; arguments and errors as those of `mlmd.train.start.start`."""
    parts = [_part(one, config, frames, shortest, elements) for one in parts_of(config.descriptor)]
    return Combined(parts) if isinstance(config.descriptor, Combination) else parts[0]


def reach(config: Train, elements: Sequence[str]) -> float:
    """Å, the distance up to which atoms of some elements see each other.

    Raises:
        InputError, ModelError: as `trained`, and for radii of other elements.
    """
    return max(_reach(one, elements) for one in parts_of(config.descriptor))


def _reach(given: DescriptorOfAtoms, elements: Sequence[str]) -> float:
    """Å, of one descriptor; that of SNAP follows from the radii."""
    match given:
        case Trained():
            return float(trained(given).cutoff)
        case SNAP():
            return _bispectrum(given, elements).cutoff
        case _:
            return given.cutoff


def trained(given: Trained) -> Descriptor:
    """The descriptor of a potential that was trained before, also above a baseline to which it is added.

    A baseline that is a model of others is left alone: nothing is asked of it.

    Raises:
        InputError: when it has none of atoms, or several, or is not there.
        ModelError: when it is damaged, or no .mlmd file.
    """
    potential = modelfile.load(given.model, only_own=True)
    found = descriptors_of(potential)
    if len(found) > 1:
        raise InputError(
            f"descriptor: model: {given.model.name} is a sum with {told_apart(found)}. Give a file with one of them."
        )
    descriptor = found[0] if found else None
    if descriptor is None or descriptor.kind != "atom":
        raise InputError(f"descriptor: model: {given.model.name} has no descriptor of atoms. Give a learned potential.")
    if any(isinstance(one, embedding.DeepPotSE) for one in getattr(descriptor, "parts", (descriptor,))):
        raise InputError(
            f"descriptor: model: the embeddings of {given.model.name} were learned together with its network, and go "
            "with no other fit. Give the potential of another descriptor."
        )
    assert isinstance(descriptor, torch.nn.Module)
    for parameter in descriptor.parameters():
        parameter.requires_grad_(False)
    return descriptor


def _part(  # noqa: PLR0911 - a return for each kind
    given: DescriptorOfAtoms, config: Train, frames: Sequence[LabelledFrame], shortest: float, elements: Sequence[str]
) -> Descriptor:
    """One of the descriptors that are combined, or the only one."""
    if shortest >= (own := _reach(given, elements)):
        raise InputError(_nothing_near(given, own, shortest))
    match given:
        case Trained():
            return _of_model(given, elements)
        case MTP():
            return _moments(config, given, shortest, elements)
        case ACSF():
            return descriptor_of(given, symmetry_functions(given, frames, elements, config.seed), elements)
        case SOAP():
            return _spectra(given, elements)
        case SNAP():
            return _bispectrum(given, elements)
        case DeepPotSE():
            return _embedding(config, given, frames, elements)
        case NEP():
            return _radial_angular(config, given, elements)
        case AGNI():
            widths = np.geomspace(_NARROWEST, 2 * given.cutoff, given.n_radial).tolist()
            return Directional(elements=elements, cutoff=given.cutoff, widths=widths)


def _nothing_near(given: DescriptorOfAtoms, own: float, shortest: float) -> str:
    """Why nothing can be learned from atoms that do not see each other, and what to try."""
    match given:
        case Trained():
            what, instead = f"model: {given.model.name} sees up to {own:g} Å", "another potential"
        case SNAP():
            what = f"cutoff: {given.cutoff:g} Å with these radii lets atoms see each other up to {own:g} Å"
            instead = "a longer cutoff or larger radii"
        case _:
            what, instead = f"cutoff: {own:g} Å", "a longer cutoff"
    near = f"closer than {shortest:g} Å" if math.isfinite(shortest) else "as close as that"
    return (
        f"descriptor: {what}, but no two atoms of the data are {near}: nothing can be learned. Give {instead}; is the "
        "unit of length right?"
    )


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


def _spectra(given: SOAP, elements: Sequence[str]) -> Soap:
    smooth = given.cutoff / 2 if given.cutoff_smooth is None else given.cutoff_smooth
    return Soap(
        elements=elements,
        cutoff=given.cutoff,
        n_max=given.n_max,
        l_max=given.l_max,
        sigma=given.sigma,
        basis=given.basis,
        taper=given.cutoff_function,
        onset=0.0 if given.cutoff_function.startswith("tanh") else smooth / given.cutoff,
        products=given.products,
    )


def _bispectrum(given: SNAP, elements: Sequence[str]) -> Bispectrum:
    for name, numbers in (("radii", given.radii), ("weights", given.weights)):
        for element in numbers:
            if element not in elements:
                raise InputError(f"descriptor: {name}: {element} is none of the elements, {', '.join(elements)}.")
    expansion = Expansion(rcutfac=given.cutoff, twojmax=given.twojmax, rmin0=given.rmin0, rfac0=given.rfac0)
    return Bispectrum(
        elements=elements,
        radii=[given.radii.get(element, RADIUS) for element in elements],
        weights=[given.weights.get(element, 1.0) for element in elements],
        expansion=expansion,
    )


def _radial_angular(config: Train, given: NEP, elements: Sequence[str]) -> RadialAngular:
    """Radial functions that are random mixtures of polynomials."""
    descriptor = RadialAngular(
        elements=elements,
        cutoff=given.cutoff,
        angular_cutoff=given.angular_cutoff,
        n_radial=given.n_radial,
        n_radial_basis=given.n_chebyshev,
        n_angular=given.n_angular,
        n_angular_basis=given.n_chebyshev,
        l_max=given.l_max,
        four_body=given.four_body,
        five_body=given.five_body,
    )
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        for functions in (descriptor.radial, descriptor.angular):
            drawn = torch.randn(functions.coefficients.shape, generator=generator, dtype=torch.float64)
            functions.coefficients.copy_(drawn / given.n_chebyshev**0.5)
    return descriptor


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
