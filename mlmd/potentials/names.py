"""What descriptors and fits of potentials are called in an input, for what is told of them."""

from __future__ import annotations

from mlmd.config.pairs import DESCRIPTORS_IN_FILES, FITS_IN_FILES
from mlmd.descriptors import Descriptor
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.fitting.polynomial import Polynomial
from mlmd.potentials import Potential
from mlmd.potentials.learned import LearnedPotential

WRITTEN_AS = {
    ("moments", "linear"): ".mtp",
    ("bispectrum", "polynomial"): ".snapcoeff",
    ("radial-angular", "network"): ".txt",
}
"""Kinds of descriptor and fit, as files call them, and the suffix of the format of another program that holds them."""


def name_of_descriptor(descriptor: Descriptor) -> str:
    """Its kind, in the word of an input, where inputs have one."""
    kind = str(descriptor.spec()["kind"])
    return DESCRIPTORS_IN_FILES.get(kind, kind)


def name_of_fit(regressor: Regressor) -> str:
    """Its kind, in the word of an input, where inputs have one."""
    kind = str(regressor.spec()["kind"])
    quadratic = ", quadratic" if isinstance(regressor, Polynomial) and regressor.order == 2 else ""
    return FITS_IN_FILES.get(kind, kind) + quadratic


def written_as(potential: Potential) -> str | None:
    """The suffix of the format of another program that holds a potential; None where there is none."""
    if not isinstance(potential, LearnedPotential):
        return None
    return WRITTEN_AS.get((potential.descriptor.spec()["kind"], potential.regressor.spec()["kind"]))


def cannot_be_written(potential: LearnedPotential, suffix: str) -> InputError:
    """That a format of another program holds other potentials, and what this one can be written as."""
    descriptor, regressor = potential.descriptor, potential.regressor
    holds, fit = next((DESCRIPTORS_IN_FILES[kind], fit) for (kind, fit), other in WRITTEN_AS.items() if other == suffix)
    own = written_as(potential)
    only = f"a {FITS_IN_FILES.get(fit, fit)} fit" if fit != "network" else "a network"
    return InputError(
        f"only {only} of {holds} can be written as {suffix}; this is {name_of_descriptor(descriptor)} with "
        f"{name_of_fit(regressor)}. " + (f"It can be written as {own}." if own else "It remains a .mlmd file.")
    )
