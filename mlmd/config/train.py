"""The input of ``mlmd train``: these models are the list of its options.

Numbers are kept as floats in mlmd's units (Å, eV, eV/Å; stress in bar). Each field's description is what
``mlmd new`` and the option table print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_serializer, model_validator

from mlmd.config.baseline import Baseline, BaselineTable
from mlmd.config.descriptors import AGNI, FITS_BY_DEFAULT, MTP, NEP, Trained, learned_parts, parts_of
from mlmd.config.fits import AGNIFit, FitTable, GAPFit, LinearFit, NetworkFit, not_used
from mlmd.config.loss import Loss
from mlmd.config.pairs import ANY_USE, NO_PRODUCTS, check_pair, check_use, of_structures, useless, without_unused
from mlmd.config.quantities import InputPath, Symbols, refuse, shorten
from mlmd.config.structures import AnyDescriptorTable, Property
from mlmd.config.table import NONEMPTY, Table, named

KEYS = {"energy": "energy", "forces": "forces", "stress": "stress", "virial": "virial", "group_key": "group"}
"""Options of a source of data that name what a file calls a label -> name of that label."""


def _split(value: object) -> object:
    """``"O,H"`` as a list."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


class DataTable(Table):
    """A file or folder of labelled structures, and what the labels are called in it."""

    refused: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("file", "name", "folder"), "Did you mean 'path'?"),
        "property": 'It stands at the top of the file: property = "gap", or a table [property].',
    }
    path: InputPath = Field(
        description="extended XYZ (also .xz, .gz, .bz2), a file of a calculation (vasprun.xml, OUTCAR, .traj, .db), "
        "or a DeePMD folder; relative to this file"
    )
    energy: str | None = Field(
        default=None,
        min_length=1,
        examples=["REF_energy"],
        description='name of the energy in the file, eV; found by itself when left out, "none" to leave it out',
    )
    forces: str | None = Field(
        default=None, min_length=1, examples=["REF_forces"], description="name of the forces in the file, eV/Å"
    )
    stress: str | None = Field(
        default=None,
        min_length=1,
        examples=["REF_stress"],
        description="name of the stress in the file, eV/Å³, positive in tension",
    )
    virial: str | None = Field(
        default=None,
        min_length=1,
        examples=["REF_virial"],
        description="name of the virial in the file, eV, which is -volume × stress",
    )
    group_key: str | None = Field(
        default=None,
        min_length=1,
        examples=["config_type"],
        description="name of what says which group a structure belongs to",
    )
    group: str | None = Field(
        default=None, examples=["Elastic"], description="one group for all structures of the file"
    )
    groups: Annotated[tuple[str, ...] | None, Field(strict=False)] = Field(
        default=None,
        min_length=1,
        examples=[["Elastic"]],
        description="only the structures of these groups; a file may be named again for others",
    )
    type_map: Annotated[Symbols | None, BeforeValidator(_split)] = Field(
        default=None,
        min_length=1,
        examples=[["Li", "Cl"]],
        description="elements in the order of the type numbers, for DeePMD folders without type_map.raw",
    )

    @model_validator(mode="after")
    def _says_each_once(self) -> DataTable:
        """Two names for one thing are a mistake."""
        if not {None, "none"} & {self.stress, self.virial}:
            raise refuse("stress and virial are the same label with another sign and unit; give one of them.")
        if self.group is not None and self.group_key is not None:
            raise refuse("group puts all structures into one group, group_key reads the group of each; give one.")
        return self

    @property
    def keys(self) -> Mapping[str, str]:
        """What the file calls its labels, of those that are given: energy, forces, stress, virial, group.

        Where it is given, ``type_map`` is there too, its elements joined by commas.
        """
        given = {label: getattr(self, option) for option, label in KEYS.items() if getattr(self, option) is not None}
        return given if self.type_map is None else given | {"type_map": ",".join(self.type_map)}


def _as_list(value: object) -> object:
    """One source is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


Data = Annotated[
    tuple[Annotated[DataTable, named("path")], ...],
    NONEMPTY,
    BeforeValidator(_as_list),
    Field(strict=False),
]


def _automatic(value: object) -> object:
    """One message for a wrong value, not one for each of what it may be."""
    if value != "auto" and not isinstance(value, bool):
        raise refuse(f'{shorten(value)}: true, false or "auto" is needed.')
    return value


Automatic = Annotated[Literal["auto"] | bool, BeforeValidator(_automatic)]


class Uncertainty(Table):
    """What the potential keeps to tell how sure it is of forces, and how far it extrapolates."""

    spread: Automatic = Field(
        default="auto",
        description='expected error of forces: "auto" for gap and random-features of up to 2000 parameters, for '
        "committees, and for networks of compiled descriptors with up to 1000 neurons in the last layer; true for "
        "linear fits and more parameters too",
    )
    grade: Automatic = Field(
        default="auto",
        description='extrapolation grade of atoms: "auto" where up to 1000 numbers describe one',
    )


_LONGEST_NAME = 100


def _file_name(value: str) -> str:
    """A name that can be that of a file."""
    if "/" in value or "\0" in value or value.startswith("."):
        raise refuse(f"{shorten(value)} cannot be the name of a file. Leave out slashes and a dot at the start.")
    if len(value.encode()) > _LONGEST_NAME:  # file systems count bytes, 255 at most with all endings
        raise refuse(f"{shorten(value)} is too long for the name of a file: at most {_LONGEST_NAME} bytes.")
    return value


class Card(Table):
    """What a person should know about the potential; kept in its file and shown by ``mlmd show``."""

    name: Annotated[str, AfterValidator(_file_name)] = Field(
        default="", examples=["Cu"], description="name of the potential and of its file; else that of the input"
    )
    source: str = Field(default="", examples=["PBE, VASP 6.4"], description="where the data come from")
    licence: str = Field(default="", examples=["CC-BY-4.0"], description="licence of the data and of the potential")
    citation: str = Field(default="", examples=["doi:10.1021/acs.jpca.9b08723"], description="what to cite")
    notes: str = Field(default="", examples=["for the solid up to 1500 K"], description="anything else")


class Train(Table):
    """A whole input file of ``mlmd train``."""

    refused: ClassVar[dict[str, str]] = {
        "model": "Its table is called [descriptor], and how to fit stands in [fit].",
        "sweep": "Inputs with this table are for `mlmd sweep`.",
        "sigma": "Its table is called [loss].",
    }

    data: Data = Field(description="labelled structures: a file, a table { path, energy, ... }, or a list of them")
    test: Data | None = Field(
        default=None,
        examples=["test.extxyz"],
        description="structures to test on, written as data is; else test_fraction of the data",
    )
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="part of the data that is kept for the test; 0 for none"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=1, description="of the choice of test structures and of the start of the fit"
    )
    elements: Symbols | None = Field(
        default=None,
        min_length=1,
        examples=[["Li", "Cl"]],
        description="elements of the potential; by default those of the data, by atomic number",
    )
    baseline: BaselineTable = Field(
        default=Baseline(),
        description="energies of single atoms and a potential that are subtracted first; a word is its energies",
    )
    property: Annotated[Property, named("name")] | None = Field(
        default=None,
        examples=[{"name": "gap", "unit": "eV"}],
        description="what is learned of whole structures, a name or a table; the energy when left out",
    )
    descriptor: AnyDescriptorTable = Field(
        default=MTP(), description="what describes the surroundings of an atom, or a whole structure"
    )
    fit: FitTable = Field(default=LinearFit(), description="how energies are made of what describes")
    loss: Loss = Field(default=Loss(), description="expected errors, which weigh energies, forces and stress")
    uncertainty: Uncertainty = Field(default=Uncertainty(), description="what it keeps to tell how sure it is")
    card: Card = Field(default=Card(), description="what the file of the potential says about itself")

    @model_validator(mode="before")
    @classmethod
    def _has_suitable_defaults(cls, data: Any) -> Any:
        """A network that is trained with its descriptor is another one than a network of many frozen features."""
        if not isinstance(data, Mapping):
            return data
        fit = next(iter(_tables(data.get("fit"))), {})
        if fit.get("kind") != "network":
            return data
        kinds = [one.get("kind") for one in _tables(data.get("descriptor"))]
        learned = [kind for kind in kinds if isinstance(kind, str) and kind in FITS_BY_DEFAULT]
        if not learned:
            return data
        defaults = FITS_BY_DEFAULT[learned[0]]
        unused = not_used(fit.get("optimiser"))
        return {**data, "fit": {**{key: value for key, value in defaults.items() if key not in unused}, **fit}}

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Train:
        """What no single key can know."""
        n_moments = sum(isinstance(one, MTP) for one in parts_of(self.descriptor))
        if n_moments > 1 and isinstance(self.fit, LinearFit) and self.fit.radial == "optimise":
            raise refuse(
                "fit: radial: the radial functions of one mtp can be optimised, not of several together. Write "
                'radial = "plain", or train one first and give { model = "..." } for it.'
            )
        _check_lists(self.descriptor, self.fit)
        check_pair(
            self.descriptor, self.fit, with_property=self.property is not None, given=frozenset(self.model_fields_set)
        )
        parts = parts_of(self.descriptor)
        if parts and len(parts) == n_moments and isinstance(self.fit, LinearFit) and self.fit.quadratic:
            raise refuse(NO_PRODUCTS)
        for one in learned_parts(self.descriptor):
            if not isinstance(self.fit, NetworkFit):
                raise refuse(
                    f"fit: kind: the {_LEARNED[one.kind]} of {one.kind} are learned by gradient descent together with "
                    f'a network, not with {self.fit.kind}. Give kind = "network", or another descriptor.'
                )
            _check_learned(one.kind, self.fit, alone=isinstance(self.descriptor, NEP))
        if isinstance(self.descriptor, AGNI) != isinstance(self.fit, AGNIFit):
            raise refuse('fit: the kinds "agni" of descriptor and fit go together: give both, or neither.')
        if not of_structures(self.descriptor, self.fit) and not (info.context or {}).get(ANY_USE):
            check_use(self.descriptor, self.fit)
        if isinstance(self.fit, AGNIFit):
            _check_forces_alone(self.baseline, self.loss, self.uncertainty)
        if self.test is not None and "test_fraction" in self.model_fields_set:
            raise refuse("test and test_fraction: the test structures are given, so none are taken from the data. "
                         "Remove one of the two.")  # fmt: skip
        energies = self.baseline.energies
        if isinstance(energies, dict) and self.elements is not None:
            missing = [element for element in self.elements if element not in energies]
            if missing:
                raise refuse(f"baseline: {', '.join(missing)} has no energy. Give one for every element.")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, Any]:
        """No fraction where the test structures are given, nor what a fit has no use for: they do not load together."""
        table: dict[str, Any] = handler(self)
        if of_structures(self.descriptor, self.fit):
            table = without_unused(table, self.fit)
        else:
            unused = useless(self.descriptor, self.fit)
            table["fit"] = {key: item for key, item in table["fit"].items() if key not in unused}
        return {key: item for key, item in table.items() if key != "test_fraction" or self.test is None}


def _tables(given: Any) -> list[Mapping[str, Any]]:
    """The tables of an input that a word, a table, a list of these or a combination of them stands for."""
    if isinstance(given, str):
        return [{"kind": given}]
    if isinstance(given, Mapping):
        return _tables(given["parts"]) if given.get("kind") == "combined" and "parts" in given else [given]
    return [table for one in given for table in _tables(one)] if isinstance(given, list | tuple) else []


def _check_lists(descriptor: Table, fit: Table) -> None:
    """A list of a gap has a value for each descriptor."""
    # a trained descriptor may be of several, which is known when its file is read
    if not isinstance(fit, GAPFit) or isinstance(descriptor, Trained):
        return
    if problem := fit.wrong_length(max(1, len(parts_of(descriptor)))):
        raise refuse(problem)


def _check_forces_alone(baseline: Baseline, loss: Loss, uncertainty: Uncertainty) -> None:
    """What has no meaning where forces are learned and nothing else would be ignored."""
    alone = "agni learns forces alone, and no"
    if baseline.energies != "fit":
        raise refuse(f"baseline: energies: {alone} energies. Leave them out, or give another kind of fit.")
    for label in ("energy", "stress"):
        learned = "energies" if label == "energy" else "stresses"
        if getattr(loss, label) != Loss.model_fields[label].default:
            raise refuse(f"loss: {label}: {alone} {learned}. Leave it out, or give another kind of fit.")
        for group, of_group in loss.groups.items():
            # one number for all three is that of the forces too
            if getattr(of_group, label) not in (1.0, of_group.forces):
                raise refuse(f"loss: groups: {group}: {label}: {alone} {learned}. Leave it out: {group} = {{ forces = "
                             f"{of_group.forces:g} }}.")  # fmt: skip
    if uncertainty.grade is True:
        raise refuse(
            "uncertainty: grade: agni has no grades of extrapolation, which are those of energies of atoms. Leave it "
            "out; spread = true tells how sure it is of forces."
        )


_LEARNED = {"deeppot-se": "embeddings", "nep": "radial functions"}
"""What is found together with the network."""


def _check_learned(kind: str, fit: NetworkFit, *, alone: bool) -> None:
    """What cannot train embeddings together with a network; `alone`, one that files of GPUMD hold."""
    if fit.optimiser == "kalman":
        raise refuse(
            f"fit: optimiser: a Kalman filter holds the covariance of all weights, and the {_LEARNED[kind]} of {kind} "
            'have too many for it. Give optimiser = "adamw" or "l-bfgs".'
        )
    if fit.members > 1:
        raise refuse(
            f"fit: members: the {_LEARNED[kind]} of {kind} are learned with one network only. Leave members out; for a "
            "committee, train others with other seeds, and join them by mlmd committee."
        )
    if alone and (len(fit.n_neurons) > 1 or fit.activation != "tanh"):
        raise refuse(
            "fit: n_neurons, activation: a neuroevolution potential has one hidden layer of tanh, as its files hold "
            'nothing else. Give n_neurons = [30] and activation = "tanh", or another descriptor.'
        )
