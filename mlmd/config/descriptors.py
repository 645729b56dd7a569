"""The descriptors of atoms that ``mlmd train`` fits with: a kind, with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from mlmd.config.quantities import InputPath, Quantity, choice, refuse, symbol
from mlmd.config.symmetry import Functions
from mlmd.config.table import NONEMPTY, KindTable, Table, of_kind
from mlmd.units import with_unit

_FARTHEST = 30.0
"""Å: there, an atom has 10⁴ neighbours."""
Cutoff = Annotated[float, Quantity("length", above=0.0, most=_FARTHEST)]


def _even(level: int) -> int:
    """A level of moment tensor potentials."""
    if level % 2 or not 2 <= level <= 28:
        raise refuse(f"{level}: an even number from 2 to 28 is needed.")
    return level


CutoffFunction = Literal[
    "cosine", "tanh", "tanh-normalised", "exponential", "cubic", "quintic", "septic", "nonic"
]  # fmt: skip
"""Names of `mlmd.descriptors.cutoffs.TAPERS`."""
CutoffSmooth = Annotated[float | None, Quantity("length", least=0.0)]


def _check_smooth(function: str, smooth: float | None, cutoff: float) -> None:
    """Refuse a weight of neighbours that has no room to fall."""
    if smooth is None:
        return
    if function.startswith("tanh"):
        raise refuse(f'cutoff_smooth: the cutoff function "{function}" falls from 0 Å on. Leave it out.')
    if smooth >= cutoff:
        shown = with_unit(smooth, "length"), with_unit(cutoff, "length")
        raise refuse(f"cutoff_smooth: {shown[0]} is not below the cutoff, {shown[1]}.")


class DescriptorKind(KindTable):
    """What describes atoms, or whole structures."""


class MTP(DescriptorKind):
    """Moments of the neighbours, contracted: moment tensor potentials."""

    kind: Literal["mtp"] = Field(default="mtp", description="kind of descriptor: moment tensors")
    level: Annotated[int, AfterValidator(_even)] = Field(
        default=12, description="size of the basis, an even number from 2 to 28: more is more accurate and slower"
    )
    cutoff: Cutoff = Field(default=5.0, description="distance up to which atoms see each other")
    min_distance: Annotated[float | str, Quantity("length", least=0.0, words=(("auto", "auto"),))] = Field(
        default="auto",
        description='distance at which the radial functions begin; "auto": from the closest atoms in the data',
    )
    n_chebyshev: int = Field(default=8, ge=2, le=64, description="Chebyshev polynomials in each radial function")

    @model_validator(mode="after")
    def _has_room(self) -> MTP:
        """The radial functions live between the two distances."""
        if isinstance(self.min_distance, float) and self.min_distance >= self.cutoff:
            shown = with_unit(self.min_distance, "length"), with_unit(self.cutoff, "length")
            raise refuse(f"min_distance: {shown[0]} is not below the cutoff, {shown[1]}.")
        return self


def _radii(value: object) -> str | dict[str, float]:
    """A word, or the radius of each element."""
    if not isinstance(value, Mapping):
        return choice(value, ("covalent", "van-der-waals"), 'a set of radii, nor a table, { Li = "1.67 Å" }')
    length = Quantity("length", above=0.0)
    radii: dict[str, float] = {}
    for key, radius in value.items():
        try:
            radii[symbol(key)] = length.read(radius)
        except PydanticCustomError as error:
            raise refuse(f"{key}: {error.message()}") from None
    return radii


def _write_radii(value: str | dict[str, float]) -> Any:
    """What `_radii` turns into the same again."""
    return value if isinstance(value, str) else {key: with_unit(radius, "length") for key, radius in value.items()}


Radii = Annotated[str | dict[str, float], PlainValidator(_radii), PlainSerializer(_write_radii)]


class ACSF(DescriptorKind):
    """Atom-centred symmetry functions of Behler and Parrinello."""

    kind: Literal["acsf"] = Field(default="acsf", description="kind of descriptor: symmetry functions")
    cutoff: Cutoff = Field(default=6.0, description="distance up to which atoms see each other")
    cutoff_function: CutoffFunction = Field(
        default="cosine",
        description="weight of a neighbour that falls to zero at the cutoff, with one continuous derivative (cosine, "
        "cubic), two (tanh, quintic), three (septic), four (nonic), or all (exponential)",
    )
    cutoff_smooth: CutoffSmooth = Field(
        default=None, description="distance from which it falls; 0 Å when left out; not for tanh"
    )
    functions: Functions = Field(
        default="even",
        description="even: evenly spaced; radii: with widths by the radii of the elements; selected: those of many "
        'that tell the training data apart; or a list of functions, [{ kind = "G2", eta = "0.5 1/Å^2" }, ...]',
    )
    n_radial: int = Field(default=8, ge=1, le=64, description="radial functions (G2) for every element")
    n_angular: int = Field(
        default=3, ge=0, le=32, description="widths of angular functions for every two elements; 0 for none"
    )
    zetas: Annotated[
        tuple[Annotated[float, Field(strict=False, ge=1.0, le=1024.0)], ...], Field(strict=False, min_length=1)
    ] = Field(default=(1.0, 4.0), description="exponents ζ of the angular functions: more see angles more sharply")
    angular: Literal["G4", "G5"] = Field(
        default="G4", description="angular functions with (G4) or without (G5) the distance between the two neighbours"
    )
    weighted: bool = Field(
        default=False,
        description="one function for neighbours of all elements, weighted by their atomic numbers, instead of one for "
        "each element or two; not with radii",
    )
    radii: Radii = Field(
        default="covalent", description='of radii: "covalent", "van-der-waals" or a table { Li = "1.67 Å" }'
    )
    scales: Annotated[
        tuple[Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)], ...],
        Field(strict=False, min_length=1),
    ] = Field(
        default=(10.0, 30.0, 100.0, 300.0),
        description="of radii: factors on widths, in Å²; more is narrower. Angular functions have the n_angular "
        "smallest",
    )
    n_functions: int = Field(default=32, ge=1, le=1000, description="of selected: functions of every element")
    selection: Literal["farthest", "cur"] = Field(
        default="cur", description="of selected: functions that are least alike, or by leverage (CUR)"
    )

    @model_validator(mode="after")
    def _says_what_counts(self) -> ACSF:
        """An option that changes nothing is a mistake."""
        _check_smooth(self.cutoff_function, self.cutoff_smooth, self.cutoff)
        if self.functions == "radii" and self.weighted:
            raise refuse("weighted: radii are those of elements, whose neighbours must be told apart.")
        listed = not isinstance(self.functions, str)
        for others, names in _OF_OTHER_SETS.items():
            for name in names if listed or self.functions not in others else ():
                given, default = getattr(self, name), ACSF.model_fields[name].default
                if given != default and (listed or not (name == "n_angular" and given == 0)):
                    kinds = " and ".join(f'"{one}"' for one in others)
                    own = "a list" if listed else f'"{self.functions}"'
                    raise refuse(f"{name}: functions are {own}; this belongs to {kinds}.")
        self._check_listed()
        return self

    def _check_listed(self) -> None:
        """Functions of a list see as far as the descriptor does, and say something of `weighted` when it is set."""
        if isinstance(self.functions, str):
            return
        own, reaches = with_unit(self.cutoff, "length"), [one.cutoff or self.cutoff for one in self.functions]
        for number, reach in enumerate(reaches, 1):
            if reach > self.cutoff:
                raise refuse(
                    f"functions {number} ({self.functions[number - 1].kind}): cutoff: {with_unit(reach, 'length')} is "
                    f"above the cutoff of the descriptor, {own}. Make that longer."
                )
        if max(reaches) < self.cutoff:
            raise refuse(f"cutoff: {own}, but no function of the list sees beyond {with_unit(max(reaches), 'length')}.")
        if self.weighted and all(one.neighbours for one in self.functions):
            raise refuse("weighted: every function of the list is of certain elements. Leave elements out, or this.")


_OF_OTHER_SETS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("even",): ("n_radial",),
    ("even", "radii"): ("n_angular",),
    ("even", "radii", "selected"): ("zetas", "angular"),
    ("radii",): ("radii", "scales"),
    ("selected",): ("n_functions", "selection"),
}
"""Values of `functions` -> options that go with them only."""


_MOST_WIDTHS = 50
"""Of the Gaussians of SOAP, within the cutoff: seconds to prepare in all bases; with twice as many, polynomials cannot
be tabulated any more."""


class SOAP(DescriptorKind):
    """Smooth overlap of atomic positions: the power spectrum of the density of neighbours."""

    kind: Literal["soap"] = Field(default="soap", description="kind of descriptor: power spectra of the density")
    cutoff: Cutoff = Field(default=5.0, description="distance up to which atoms see each other")
    cutoff_function: CutoffFunction = Field(
        default="quintic",
        description="weight of a neighbour that falls to zero at the cutoff, as of acsf; QUIP's is cosine, from "
        "cutoff_transition_width before it",
    )
    cutoff_smooth: CutoffSmooth = Field(
        default=None, description="distance from which it falls; half the cutoff when left out; not for tanh"
    )
    n_max: int = Field(default=8, ge=1, le=20, description="radial functions")
    l_max: int = Field(default=6, ge=0, le=20, description="highest degree of the spherical harmonics")
    sigma: Annotated[float, Quantity("length", above=0.0)] = Field(
        default=0.5, description="width of the Gaussians that atoms are"
    )
    basis: Literal["gto", "polynomial", "quip"] = Field(
        default="gto", description="radial functions: DScribe's, its polynomials, or QUIP's equidistant Gaussians"
    )
    products: Literal["all", "same-element", "with-sum"] = Field(
        default="all",
        description="which densities are multiplied: of all elements, of the same one, or each with their sum",
    )

    @model_validator(mode="after")
    def _is_smooth(self) -> SOAP:
        """Radial functions have as much structure as there are widths within the cutoff."""
        _check_smooth(self.cutoff_function, self.cutoff_smooth, self.cutoff)
        least = self.cutoff / _MOST_WIDTHS
        if self.sigma < least * (1 - 1e-9):
            shown = [with_unit(one, "length") for one in (self.sigma, least, self.cutoff)]
            raise refuse(
                f"sigma: {shown[0]}: at least {shown[1]}, a {_MOST_WIDTHS}th of the cutoff of {shown[2]}, is needed: "
                "narrower Gaussians hardly overlap, and take very long. Give a larger sigma; 0.3 to 0.7 Å are usual."
            )
        return self


RADIUS = 0.5
"""Of elements in SNAP whose radius is not given: two of them see each other up to the cutoff."""


class SNAP(DescriptorKind):
    """Bispectrum components of the density of neighbours, with the hyperparameters of LAMMPS."""

    kind: Literal["snap"] = Field(default="snap", description="kind of descriptor: bispectrum components")
    cutoff: Cutoff = Field(
        default=5.0, description="distance up to which two atoms of radius 0.5 see each other (rcutfac)"
    )
    twojmax: int = Field(default=8, ge=0, le=16, description="twice the highest angular momentum: more is finer")
    radii: dict[str, Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        examples=[{"Si": 0.5}],
        description="radius R of elements, 0.5 by default; atoms see each other up to cutoff · (R_i + R_j)",
    )
    weights: dict[str, Annotated[float, Field(strict=False, allow_inf_nan=False)]] = Field(
        default_factory=dict,
        examples=[{"Si": 1.0}],
        description="weight of elements in the density, 1 by default; elements of equal weight look alike",
    )
    rmin0: Annotated[float, Quantity("length", least=0.0)] = Field(
        default=0.0,
        description="distance that is the pole of the sphere: atoms should not come closer, where LAMMPS jumps",
    )
    rfac0: Annotated[float, Field(strict=False, gt=0.0, le=1.0)] = Field(
        default=0.99363, description="part of the sphere that is used"
    )

    @model_validator(mode="after")
    def _has_room(self) -> SNAP:
        """The density needs room, and not too much of it."""
        for radius in self.radii.values() or (RADIUS,):  # elements are known with the data
            far = 2 * radius * self.cutoff
            seen = f"two atoms of radius {radius:g} see each other up to {with_unit(far, 'length')}"
            if far > _FARTHEST:
                most = with_unit(_FARTHEST, "length")
                raise refuse(f"radii: {seen}; at most {most} is possible. Give smaller radii or a shorter cutoff.")
            if self.rmin0 >= far:
                raise refuse(f"rmin0: {with_unit(self.rmin0, 'length')} is not below the cutoff: {seen}.")
        return self


class AGNI(DescriptorKind):
    """Directional fingerprints of the neighbours, for forces without an energy."""

    kind: Literal["agni"] = Field(default="agni", description="kind of descriptor: directional fingerprints")
    cutoff: Cutoff = Field(default=8.0, description="distance up to which atoms see each other")
    n_radial: int = Field(
        default=8, ge=1, le=64, description="widths of Gaussians for every element, from 0.8 Å to twice the cutoff"
    )


class DeepPotSE(DescriptorKind):
    """Embeddings of the neighbours that are learned together with the network of the energies: DeepPot-SE."""

    kind: Literal["deeppot-se"] = Field(
        default="deeppot-se",
        description='kind of descriptor: learned embeddings, with fit kind = "network" only, whose defaults are then '
        'n_neurons = [240, 240, 240], residual = true, activation = "tanh", and for adamw batch = 2, '
        "learning_rate = 0.002",
    )
    cutoff: Cutoff = Field(default=6.0, description="distance up to which atoms see each other")
    cutoff_smooth: Annotated[float, Quantity("length", least=0.0)] = Field(
        default=0.5, description="distance from which the weight of a neighbour falls smoothly, to zero at the cutoff"
    )
    n_neurons: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, min_length=1, max_length=8)
    ] = Field(default=(25, 50, 100), description="neurons of the layers of the embedding networks")
    n_axes: int = Field(default=16, ge=1, description="channels that all channels are multiplied with (axis_neuron)")
    type_one_side: bool = Field(
        default=True,
        description="embeddings depend on the element of the neighbour only, not also on that of the centre",
    )

    @model_validator(mode="after")
    def _is_possible(self) -> DeepPotSE:
        """The weight needs room to fall, and axes are some of the channels."""
        _check_smooth("quintic", self.cutoff_smooth, self.cutoff)
        if self.n_axes > self.n_neurons[-1]:
            raise refuse(f"n_axes: {self.n_axes} is more than the last layer of n_neurons has, {self.n_neurons[-1]}.")
        return self


class NEP(DescriptorKind):
    """Chebyshev functions of distances, mixed by pair of elements, and harmonics; the mixtures are learned: NEP."""

    kind: Literal["nep"] = Field(
        default="nep",
        description="kind of descriptor: that of neuroevolution potentials, with learned radial functions, and "
        'fit kind = "network" only, whose defaults are then n_neurons = [30] and activation = "tanh"',
    )
    cutoff: Cutoff = Field(default=6.0, description="distance up to which the radial functions see")
    angular_cutoff: Annotated[float, Quantity("length", above=0.0, most=_FARTHEST)] | None = Field(
        default=None, examples=["4 Å"], description="the same of the angular ones; that of cutoff when left out"
    )
    n_radial: int = Field(default=5, ge=1, le=13, description="radial functions (n_max + 1 of GPUMD)")
    n_angular: int = Field(default=5, ge=1, le=13, description="functions of distance of the angular features")
    n_chebyshev: int = Field(
        default=9, ge=1, le=17, description="Chebyshev polynomials in each function (basis_size + 1 of GPUMD)"
    )
    l_max: int = Field(default=4, ge=2, le=8, description="highest degree of the harmonics")
    four_body: bool = Field(default=True, description="also products of three harmonics of degree 2")
    five_body: bool = Field(default=False, description="also products of four harmonics of degree 1")

    @model_validator(mode="after")
    def _is_possible(self) -> NEP:
        """Angles are between neighbours."""
        if self.angular_cutoff is not None and self.angular_cutoff > self.cutoff:
            shown = with_unit(self.angular_cutoff, "length"), with_unit(self.cutoff, "length")
            raise refuse(f"angular_cutoff: {shown[0]} is above the cutoff, {shown[1]}.")
        return self


FITS_BY_DEFAULT: Final[Mapping[str, Mapping[str, Any]]] = {
    "deeppot-se": {
        "n_neurons": (240, 240, 240), "residual": True, "activation": "tanh", "batch": 2, "learning_rate": 2e-3,
    },
    "nep": {"n_neurons": (30,), "activation": "tanh"},
}  # fmt: skip
"""Options of the network that a descriptor is learned with, where they are not given; of several learned ones, those of
the first."""


class Trained(DescriptorKind):
    """The descriptor of a potential that was trained before, with its numbers as they are."""

    kind: Literal["trained"] = Field(default="trained", description="kind of descriptor: that of a trained potential")
    model: InputPath = Field(
        description="the potential, a .mlmd file; of mtp the radial functions come with it, and stay as they are"
    )


def of_model(value: object) -> object:
    """A table that names a model and no kind is of a trained one."""
    return {"kind": "trained", **value} if isinstance(value, Mapping) and "model" in value else value


Part = Annotated[
    MTP | ACSF | SOAP | SNAP | DeepPotSE | NEP | Trained,
    Field(discriminator="kind"),
    of_kind("mtp"),
    BeforeValidator(of_model),
]
"""A descriptor that may be one of several."""


class Combination(DescriptorKind):
    """Several descriptors, whose features stand side by side."""

    kind: Literal["combined"] = Field(default="combined", description="kind of descriptor: several of them")
    parts: Annotated[tuple[Part, ...], Field(strict=False), NONEMPTY] = Field(
        description="tables of the kinds above; descriptor = [a, b] says the same"
    )


def of_list(value: object) -> object:
    """A list of descriptors is their combination."""
    return {"kind": "combined", "parts": value} if isinstance(value, list | tuple) else value


AtomDescriptor = MTP | ACSF | SOAP | SNAP | DeepPotSE | NEP | AGNI | Trained | Combination
DescriptorTable = Annotated[
    AtomDescriptor,
    Field(discriminator="kind"),
    of_kind("mtp"),
    BeforeValidator(of_model),
    BeforeValidator(of_list),
]


def parts_of(descriptor: Table) -> tuple[MTP | ACSF | SOAP | SNAP | DeepPotSE | NEP | AGNI | Trained, ...]:
    """The descriptors of atoms that one consists of: itself where it is no combination, none of one of structures."""
    if isinstance(descriptor, Combination):
        return descriptor.parts
    if isinstance(descriptor, MTP | ACSF | SOAP | SNAP | DeepPotSE | NEP | AGNI | Trained):
        return (descriptor,)
    return ()


def learned_parts(descriptor: Table) -> tuple[DeepPotSE | NEP, ...]:
    """Those of its `parts_of` whose numbers are found together with those of the network."""
    return tuple(one for one in parts_of(descriptor) if isinstance(one, DeepPotSE | NEP))
