"""Which descriptors go with which fits, and which options have a meaning there."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, get_args

from mlmd.config.descriptors import MTP, SOAP, AtomDescriptor, Combination, Trained, learned_parts, parts_of
from mlmd.config.fits import FitTable, GAPFit, KernelFit, KernelRidgeFit, LinearFit, RandomFeaturesFit
from mlmd.config.quantities import refuse
from mlmd.config.structures import StructureDescriptor, structure_parts
from mlmd.config.table import KindTable, Table


def _kinds(tables: Any) -> tuple[str, ...]:
    """The words for some tables."""
    return tuple(table.model_fields["kind"].default for table in get_args(tables))


OF_ATOMS = _kinds(AtomDescriptor)
"""Descriptors of the surroundings of atoms: potentials, with forces."""
OF_STRUCTURES = _kinds(StructureDescriptor)
"""Descriptors of whole structures: one number of each."""
WHOLE = (*OF_STRUCTURES, "combined-structures")
"""These, and several of them side by side."""
STRUCTURE_FITS = ("linear", "random-features", "kernel-ridge")
"""Fits that descriptors of structures go with; the last one has no forces and goes with no others."""
ATOM_FITS = tuple(kind for kind in _kinds(get_args(FitTable)[0]) if kind != "kernel-ridge")
"""Fits that descriptors of atoms go with."""
FITS_OF = {"deeppot-se": ("network",), "nep": ("network",), "agni": ("agni",)}
"""Descriptors of atoms that go with some of these only; the others go with all but the last one's."""
WHY_ALONE = {"agni": "it describes directions, for forces without an energy"}
"""Descriptors of atoms that cannot be one of several, and why."""
_WITHOUT_ROWS = {
    "deeppot-se": "its embeddings are learned with a network of energies",
    "nep": "its radial functions are learned with a network of energies",
    "agni": "it describes directions",
}
"""Descriptors of atoms that have no rows which structures could be compared by, or which could be averaged, and why."""
DESCRIPTORS_IN_FILES = {
    "moments": "mtp",
    "symmetry": "acsf",
    "bispectrum": "snap",
    "directional": "agni",
    "radial-angular": "nep",
}
"""Kinds of descriptors that files of potentials call by another word, and the word of an input."""
FITS_IN_FILES = {
    "polynomial": "linear",
    "sparse-gaussian": "gap",
    "gaussian-process": "kernel",
    "odd-gaussian": "agni",
}
"""The same of fits."""
POTENTIALS_ONLY = ("loss", "baseline", "uncertainty")
"""Keys at the top of an input that say how energies, forces and stresses are learned, and what is told of them."""
UNUSED: dict[type[Table], dict[str, str]] = {
    LinearFit: {
        "radial": "only moment tensors have radial functions",
        "max_iterations": "the fit is solved in one step",
        "tolerance": "the fit is solved in one step",
    },
    RandomFeaturesFit: {"amplitude": "it is an energy of atoms; for structures the strength is the most probable one"},
}
"""Options of a fit that have no meaning for structures, and why."""
USED_BY: dict[type[Table], dict[str, tuple[str, ...]]] = {
    LinearFit: {"radial": ("mtp",), "max_iterations": ("optimise",), "tolerance": ("optimise",)},
    GAPFit: {"width": ("gaussian",), "power": ("polynomial",)},
    KernelFit: {"width": ("gaussian", "laplacian"), "power": ("polynomial",)},
}
"""Options of a fit of atoms that change nothing without a certain descriptor, radial functions that are optimised, or a
certain kernel."""
NO_PRODUCTS = (
    "fit: quadratic: moment tensors hold the products of their moments already; give a higher level, or another "
    "descriptor."
)
ANY_USE = "options without a use are left out"
"""Key of the context in which an option that changes nothing is no mistake: one fit stands for several descriptors."""


def of_structures(descriptor: KindTable, fit: KindTable | None = None) -> bool:
    """Whether one number of each structure is learned, and not a potential."""
    return descriptor.kind in WHOLE or compares_atoms(fit)


def compares_atoms(fit: KindTable | None) -> bool:
    """Whether a fit of structures compares their atoms, which a descriptor of atoms describes."""
    return isinstance(fit, KernelRidgeFit) and fit.of_environments


def check_pair(descriptor: KindTable, fit: KindTable, *, with_property: bool, given: Set[str]) -> None:
    """Refuse what has no meaning.

    Args:
        descriptor, fit: of the input.
        with_property: whether it names a property.
        given: keys at its top.

    Raises:
        PydanticCustomError: saying what goes together.
    """
    of_atoms = (learned_parts(descriptor) or (descriptor,))[0].kind  # what is learned says what a list goes with
    kind, way = " + ".join(one.kind for one in structure_parts(descriptor)) or of_atoms, fit.kind
    if isinstance(fit, KernelRidgeFit) and fit.of_environments:
        _check_atoms(kind, fit.kernel, whole=descriptor.kind in WHOLE)
    elif not of_structures(descriptor):
        if way not in ATOM_FITS:
            matched = "" if kind in _WITHOUT_ROWS else '; or compare atoms by kernel = "rematch"'
            raise refuse(
                f'fit: "{way}" compares whole structures, and "{kind}" describes atoms. Fit by {_list(fits_of(kind))}; '
                f"or describe structures by {_list(OF_STRUCTURES)}{_averaged(kind)}{matched}."
            )
        if with_property:
            raise refuse(
                f'property: "{kind}" describes atoms, for potentials, which learn energies, forces and stresses. A '
                f"property is learned from {_list(OF_STRUCTURES)}{_averaged(kind)}."
            )
        return
    elif way not in STRUCTURE_FITS:
        raise refuse(
            f'fit: "{way}" is for atoms, and "{kind}" describes whole structures. Fit by {_list(STRUCTURE_FITS)}; or '
            f"describe atoms by {_list(tuple(one for one in OF_ATOMS if way in fits_of(one)))}."
        )
    if isinstance(fit, KernelRidgeFit) and (problem := fit.wrong_length(max(1, len(structure_parts(descriptor))))):
        raise refuse(problem)
    for option, why in UNUSED.get(type(fit), {}).items():
        if option in fit.model_fields_set:
            raise refuse(f'fit: {option}: has no meaning with "{kind}": {why}. Leave it out.')
    if way != "kernel-ridge" and getattr(fit, "regularisation", None) == "cross-validation":
        raise refuse(
            f'fit: regularisation: "cross-validation" is for potentials; with "{kind}" the most probable strength is '
            "taken. Leave it out."
        )
    for option in POTENTIALS_ONLY:
        if option in given:
            instead = "; extensive = true in [property] subtracts the part of the composition"
            raise refuse(
                f'{option}: is for potentials, and "{kind}" describes whole structures: one number of each is learned. '
                f"Leave it out{'' if option == 'uncertainty' else instead}."
            )


def fits_of(kind: str) -> tuple[str, ...]:
    """The fits that a descriptor of atoms goes with."""
    return FITS_OF.get(kind, tuple(way for way in ATOM_FITS if way != "agni"))


def _averaged(kind: str) -> str:
    """An example of a descriptor of structures that is the average of one of atoms, where it can be averaged."""
    of = {"trained": '{ model = "trained.mlmd" }', "combined": '["acsf", "soap"]'}.get(kind, f'"{kind}"')
    return "" if kind in _WITHOUT_ROWS else f', for example {{ kind = "average", of = {of} }}'


def _check_atoms(kind: str, kernel: str, *, whole: bool) -> None:
    """A kernel of atoms needs the rows of atoms."""
    if whole:
        raise refuse(
            f'fit: kernel: "{kernel}" compares the atoms of two structures, and "{kind}" gives one row of a whole '
            'structure. Give a descriptor of atoms, such as descriptor = "soap"; or another kernel.'
        )
    if kind in _WITHOUT_ROWS:
        raise refuse(
            f'fit: kernel: "{kernel}" cannot compare what "{kind}" gives: {_WITHOUT_ROWS[kind]}. Give "soap", for '
            "example."
        )


def useless(descriptor: KindTable, fit: KindTable) -> tuple[str, ...]:
    """Options of a fit of atoms that change nothing beside a descriptor and the other options."""
    users = _users(descriptor, fit)
    return tuple(option for option, by in USED_BY.get(type(fit), {}).items() if not users & {*by})


def check_use(descriptor: KindTable, fit: KindTable) -> None:
    """Refuse options of a fit of atoms that would be ignored.

    Raises:
        PydanticCustomError: naming the option, what has no use for it, and what has.
    """
    for option in useless(descriptor, fit):
        if option in fit.model_fields_set:
            by = USED_BY[type(fit)][option]
            raise refuse(
                f"fit: {option}: {_without_use(descriptor, fit)} no use for it. Remove it, or give {_remedy(by)}."
            )


def _users(descriptor: KindTable, fit: KindTable) -> set[str]:
    """What of `USED_BY` there is."""
    if isinstance(fit, LinearFit):
        moments = any(isinstance(one, MTP) for one in parts_of(descriptor))
        return {"mtp", fit.radial} if moments else set()
    return set(_kernels(descriptor, fit)) if isinstance(fit, GAPFit | KernelFit) else set()


def _kernels(descriptor: KindTable, fit: GAPFit | KernelFit) -> list[str]:
    """The kernels of a fit; both that it may come to have where a descriptor is that of a file."""
    if fit.kernel is not None:
        return sorted({*fit.kernel} if isinstance(fit.kernel, tuple) else {fit.kernel})
    if isinstance(fit, KernelFit) and isinstance(descriptor, Combination):
        return ["gaussian"]  # of all features together
    by_default = {Trained: {"gaussian", "polynomial"}, SOAP: {"polynomial"}}
    return sorted(set().union(*(by_default.get(type(one), {"gaussian"}) for one in parts_of(descriptor))))


def _without_use(descriptor: KindTable, fit: KindTable) -> str:
    """What has no use for an option, with its verb."""
    if isinstance(fit, GAPFit | KernelFit):
        return f"the {' and '.join(_kernels(descriptor, fit))} kernel has"
    if "mtp" in _users(descriptor, fit):
        return 'radial = "plain" has'
    kinds = " and ".join(dict.fromkeys(one.kind for one in parts_of(descriptor)))
    return f"a linear fit of {kinds}{' descriptors' if kinds == 'trained' else ''} has"


def _remedy(by: tuple[str, ...]) -> str:
    """What has a use for an option."""
    if by == ("mtp",):
        return 'descriptor = "mtp"'
    if by == ("optimise",):
        return 'descriptor = "mtp" with radial = "optimise"'
    return "kernel = " + " or ".join(f'"{one}"' for one in by)


def without_unused(table: dict[str, Any], fit: Table) -> dict[str, Any]:
    """An input of structures as it is written, without what has no meaning and what was left to the data."""
    unused = {*UNUSED.get(type(fit), {}), *({"regularisation"} - fit.model_fields_set if _is_linear(fit) else ())}
    written = {key: item for key, item in table.items() if key not in POTENTIALS_ONLY}
    return written | {"fit": {key: item for key, item in table["fit"].items() if key not in unused}}


def _is_linear(fit: Table) -> bool:
    """Whether the strength of the ridge is found where it is left out."""
    return isinstance(fit, LinearFit)


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
