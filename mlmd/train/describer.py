"""The descriptor of whole structures that an input asks for, with what it takes from the data."""

from __future__ import annotations

from collections.abc import Sequence

from mlmd.config import (
    Average,
    CoulombMatrix,
    KernelRidgeFit,
    LinearFit,
    ManyBodyTensor,
    StructureCombination,
    Train,
)
from mlmd.config.table import KindTable, Table
from mlmd.descriptors import Descriptor, average, combined, coulomb, likeness, mbtr
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.train.atom_descriptor import make_descriptor
from mlmd.train.dataset import smallest_distance

GAMMA = 0.1
"""γ of a rematch that names none."""
POWER = 2
"""ζ of kernels of atoms that name none."""


def structure_descriptor(config: Train, frames: Sequence[LabelledFrame], elements: Sequence[str]) -> Descriptor:
    """The descriptor of an input.

    Args:
        config: the input.
        frames: all structures that it will describe: the largest of them says how large a Coulomb matrix is.
        elements: symbols, in the order of the species.

    Raises:
        InputError: for what makes no sense, with the place in the input.
    """
    given, fit = config.descriptor, config.fit
    try:
        if isinstance(fit, KernelRidgeFit) and fit.of_environments:
            gamma = (fit.gamma or GAMMA) if fit.kernel == "rematch" else None
            local = _of_atoms(config, given, frames, elements)
            return likeness.Likeness(local, fit.kernel, power=fit.power or POWER, gamma=gamma)
        if isinstance(given, StructureCombination):
            return combined.Combined([_single(config, one, frames, elements) for one in given.parts])
        return _single(config, given, frames, elements)
    except InputError as error:
        raise InputError(f"descriptor: {str(error).removeprefix('descriptor: ')}") from None


def _single(config: Train, given: KindTable, frames: Sequence[LabelledFrame], elements: Sequence[str]) -> Descriptor:
    """One of several, or the only one."""
    match given:
        case CoulombMatrix():
            return _coulomb(given, max(len(frame.atoms) for frame in frames), elements)
        case ManyBodyTensor():
            terms = [term.model_dump(exclude_none=True) for term in given.terms]
            return mbtr.MBTR(elements=elements, terms=terms)
        case Average():
            return average.Average(_of_atoms(config, given.of, frames, elements), given.pooling)
    raise InputError(f'"{given.kind}" describes atoms, not whole structures.')


def _of_atoms(config: Train, given: Table, frames: Sequence[LabelledFrame], elements: Sequence[str]) -> Descriptor:
    """A descriptor of atoms; radial functions of moments stay plain polynomials: nothing but the fit is learned."""
    local = config.model_copy(update={"descriptor": given, "fit": LinearFit(radial="plain")})
    return make_descriptor(local, frames, smallest_distance(frames), elements)


def _coulomb(given: CoulombMatrix, largest: int, elements: Sequence[str]) -> coulomb.Coulomb:
    """Padded to the largest structure, unless the input says for how many atoms."""
    return coulomb.Coulomb(
        elements=elements,
        n_atoms_max=given.n_atoms_max or largest,
        form=given.form,
        interaction=given.interaction,
        unit=given.unit,
        layout=given.layout,
        properties=given.properties,
        noise=given.noise,
        seed=given.seed,
        accuracy=given.accuracy,
    )
