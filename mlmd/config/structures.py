"""Descriptors of whole structures, with what is learned from them: one number of each, of any unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator

from mlmd.config.descriptors import (
    AGNI,
    NEP,
    AtomDescriptor,
    DeepPotSE,
    DescriptorKind,
    DescriptorTable,
    of_list,
    of_model,
    parts_of,
)
from mlmd.config.quantities import Quantity, refuse, shorten
from mlmd.config.table import NONEMPTY, Table, of_kind

Positive = Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)]
Number = Annotated[float, Field(strict=False, allow_inf_nan=False)]
_LONGEST = 60


def _one_line(value: str) -> str:
    """A name or a unit that can stand in a table."""
    if len(value) > _LONGEST or not value.isprintable():
        raise refuse(f"{shorten(value)}: one line of at most {_LONGEST} characters is needed.")
    return value


class Property(Table):
    """A number that every structure has in the data, learned as it is: it may have any unit."""

    name: Annotated[str, Field(min_length=1), AfterValidator(_one_line)] = Field(
        examples=["gap"], description="what the files call it"
    )
    unit: Annotated[str, AfterValidator(_one_line)] = Field(
        default="", examples=["eV"], description="its unit, for tables and plots only: numbers are not converted"
    )
    extensive: bool = Field(
        default=False,
        description="whether it grows with the number of atoms: what the composition explains is subtracted first",
    )


def _layers(value: object) -> tuple[str | dict[str, float], ...]:
    """Words, or numbers by element."""
    layers = tuple(_layer(one) for one in (value if isinstance(value, list | tuple) else [value]))
    if not layers:
        raise refuse('the list is empty; "number" is the atomic number.')
    return layers


def _layer(value: object) -> str | dict[str, float]:
    """A word, or numbers by element."""
    if isinstance(value, str):
        return value
    numbers: Mapping[str, Any] = value if isinstance(value, Mapping) else {"": None}
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers.values()):
        raise refuse(f'{shorten(value)}: "number", or a table of numbers by element, is needed.')
    return {key: float(one) for key, one in numbers.items()}


class CoulombMatrix(DescriptorKind):
    """The interactions of the nuclei of a structure with each other, padded to the largest structure."""

    kind: Literal["coulomb"] = Field(default="coulomb", description="kind of descriptor: Coulomb matrices")
    form: Literal["plain", "sorted", "eigenspectrum", "random"] = Field(
        default="sorted",
        description="order of atoms: that of the file, by the norms of rows, none (eigenvalues), by norms with noise",
    )
    interaction: Literal["coulomb", "sine", "ewald"] = Field(
        default="coulomb", description="coulomb for molecules, sine or ewald for crystals"
    )
    unit: Literal["angstrom", "bohr"] = Field(default="angstrom", description="unit of lengths in the matrix")
    layout: Literal["full", "triangle"] = Field(
        default="full", description="all entries, or the upper triangle, where what is off the diagonal counts once"
    )
    properties: Annotated[tuple[Any, ...], PlainValidator(_layers), PlainSerializer(list)] = Field(
        default=("number",),
        examples=[["number", {"H": 2.2, "O": 3.44}]],
        description="charges of the elements: atomic numbers, or numbers of your own; several are layers of features",
    )
    n_atoms_max: int | None = Field(
        default=None, ge=1, examples=[30], description="atoms of the largest structure; of those in the data by default"
    )
    noise: Positive | None = Field(
        default=None, examples=[1.0], description="standard deviation of the noise of the random form"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(default=0, description="of that noise")
    n_draws: int = Field(
        default=1, ge=1, le=1000, description="random orders of each structure that a training learns and averages"
    )
    accuracy: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(default=1e-8, description="of Ewald sums, relative")

    @model_validator(mode="after")
    def _of_the_form(self) -> CoulombMatrix:
        """Noise makes the random form, and nothing else."""
        if self.form == "random" and self.noise is None:
            raise refuse("noise: the random form needs a standard deviation, such as noise = 1.0.")
        if self.form != "random" and (self.noise is not None or self.n_draws != 1):
            raise refuse(f'noise and n_draws are of form = "random", this one is {self.form}. Leave them out.')
        if self.form == "eigenspectrum" and self.layout == "triangle":
            raise refuse('layout: an eigenspectrum has no triangle: leave out layout = "triangle".')
        return self


class MBTRTerm(Table):
    """One function of one, two, three or four atoms of a many-body tensor representation."""

    geometry: Literal["number", "distance", "inverse_distance", "angle", "cosine", "dihedral", "dihedral_cosine"] = (
        Field(description="what is measured")
    )
    minimum: Number = Field(description="first point of the grid, in Å, 1/Å, degrees or a number")
    maximum: Number = Field(description="last point of the grid")
    n_points: int = Field(ge=2, le=100_000, description="points of the grid")
    width: Positive = Field(description="of the Gaussians, in the unit of the grid")
    weighting: Literal["unity", "exponential", "inverse_square", "smooth_cutoff"] = Field(
        default="unity", description="how much a set of atoms counts"
    )
    cutoff: Annotated[float, Quantity("length", above=0.0)] | None = Field(
        default=None, examples=["5 Å"], description="of the distances from atom to atom, unless weights are exponential"
    )
    scale: Positive | None = Field(default=None, examples=[0.5], description="of exponential weights, 1/Å")
    threshold: Positive | None = Field(
        default=None, examples=[1e-3], description="smaller exponential weights are left out"
    )
    sharpness: Positive | None = Field(default=None, examples=[2.0], description="of the smooth cutoff")
    normalisation: Literal["none", "l2", "n_atoms", "valle_oganov"] = Field(
        default="none", description="what the spectrum is divided by"
    )


class ManyBodyTensor(DescriptorKind):
    """Spectra of distances, angles and dihedrals of a structure."""

    kind: Literal["mbtr"] = Field(default="mbtr", description="kind of descriptor: many-body tensor representation")
    terms: Annotated[tuple[MBTRTerm, ...], NONEMPTY, Field(strict=False)] = Field(
        examples=[[]], description="spectra, a table [[descriptor.terms]] for each"
    )


class Average(DescriptorKind):
    """A descriptor of atoms, averaged over each structure."""

    kind: Literal["average"] = Field(default="average", description="kind of descriptor: the average of one of atoms")
    of: DescriptorTable = Field(examples=["soap"], description="a descriptor of atoms: its kind, or a table")
    pooling: Literal["mean", "sum"] = Field(
        default="mean", description="mean of the atoms; or their sum, for what grows with their number"
    )

    @model_validator(mode="after")
    def _can_be_averaged(self) -> Average:
        """Embeddings that nothing trains are random numbers, and directions belong to force components."""
        why: dict[type[DescriptorKind], str] = {
            DeepPotSE: "its embeddings are learned with a network of energies",
            NEP: "its radial functions are learned with a network of energies",
            AGNI: "it describes directions",
        }
        for kind, reason in why.items():
            if any(isinstance(one, kind) for one in parts_of(self.of)):
                raise refuse(
                    f'of: "{kind.model_fields["kind"].default}" cannot be averaged: {reason}. Give another descriptor.'
                )
        return self


StructureDescriptor = CoulombMatrix | ManyBodyTensor | Average


class StructureCombination(DescriptorKind):
    """Several descriptors of whole structures, whose features stand side by side."""

    kind: Literal["combined-structures"] = Field(
        default="combined-structures", description="kind of descriptor: several of whole structures"
    )
    parts: Annotated[
        tuple[Annotated[StructureDescriptor, Field(discriminator="kind"), of_kind("mtp")], ...],
        Field(strict=False),
        NONEMPTY,
    ] = Field(description="tables of coulomb, mbtr and average; descriptor = [a, b] says the same")

    @model_validator(mode="after")
    def _draws_alike(self) -> StructureCombination:
        """Every draw of a structure is one row."""
        draws = sorted({one.n_draws for one in self.parts if isinstance(one, CoulombMatrix) and one.form == "random"})
        if len(draws) > 1:
            raise refuse(
                f"n_draws: random matrices of {' and of '.join(map(str, draws))} draws stand side by side, and each "
                "draw makes a row of all descriptors. Give the same number for all."
            )
        return self


def structure_parts(descriptor: Table) -> tuple[CoulombMatrix | ManyBodyTensor | Average, ...]:
    """The descriptors of structures that one consists of: itself where it is no combination, none of one of atoms."""
    if isinstance(descriptor, StructureCombination):
        return descriptor.parts
    return (descriptor,) if isinstance(descriptor, StructureDescriptor) else ()


def only_structures(value: object) -> bool:
    """Whether a list, as an input has it, is of descriptors of whole structures: of some, and of none of atoms."""
    if not isinstance(value, list | tuple):
        return False
    kinds = {one if isinstance(one, str) else one.get("kind", "mtp") for one in value if isinstance(one, str | Mapping)}
    return bool(kinds & _WHOLE) and not kinds & _OF_ATOMS


def _of_structures(value: object) -> object:
    """A list of descriptors of structures is their combination, also where it is written as a table."""
    parts = value.get("parts") if isinstance(value, Mapping) and value.get("kind") == "combined" else value
    return {"kind": "combined-structures", "parts": parts} if only_structures(parts) else value


_WHOLE, _OF_ATOMS = (
    frozenset(table.model_fields["kind"].default for table in get_args(tables))
    for tables in (StructureDescriptor, AtomDescriptor)
)
AnyDescriptorTable = Annotated[
    AtomDescriptor | StructureDescriptor | StructureCombination,
    Field(discriminator="kind"),
    of_kind("mtp"),
    BeforeValidator(of_model),
    BeforeValidator(of_list),
    BeforeValidator(_of_structures),
]
