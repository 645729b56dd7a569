"""What gives the labels: a potential of mlmd, or an ASE calculator named by its module and class."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import Atoms

from mlmd import models
from mlmd.config.files import sha256, texts_in
from mlmd.config.quantities import is_there
from mlmd.errors import InputError
from mlmd.pretrained import serve

if TYPE_CHECKING:
    from mlmd.config.potential import PotentialTable
    from mlmd.potentials import Potential


@dataclass(frozen=True)
class Label:
    """What a method says about a structure; every number is finite."""

    energy: float
    """eV, of the whole structure."""
    forces: np.ndarray | None
    """(n_atoms, 3) eV/Å."""
    stress: np.ndarray | None
    """(3, 3) eV/Å³, positive in tension; None without full periodicity, or where the method has none."""


Compute = Callable[[Atoms], Label]


class Method(Protocol):
    """Something that labels structures. It is sent to processes of its own, and opened there."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def in_folders(self) -> bool:
        """Whether it may write files, so that every structure gets a folder of its own."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the labels depend on (JSON-able): labels of two methods that differ here are never mixed."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What a reader of the labels wants to know besides (JSON-able): a card, versions."""
        ...

    def rooted(self) -> Method:
        """The same, with paths that hold in any folder."""
        ...

    def open(self, compositions: Iterable[tuple[str, list[str]]]) -> Compute:
        """Make it ready.

        Args:
            compositions: name and symbols of one structure of each set of elements.

        Raises:
            InputError, ModelError: when there is no such method, or it cannot treat one of the structures.
        """
        ...


@dataclass(frozen=True)
class PotentialMethod:
    """A potential that `mlmd simulate` would take.

    Args:
        potential: a file, the name of a potential that comes with mlmd, or a kind such as ``"lennard-jones"``.
        elements: symbols in the order of the file's species, for formats that have none (.mtp).
        options: parameters of the kind, e.g. ``{"epsilon": "0.0104 eV"}``.
        device: cpu, cuda, cuda:0 or auto.
    """

    potential: str
    elements: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"

    @property
    def name(self) -> str:
        """The file or the kind."""
        return self.potential

    @property
    def in_folders(self) -> bool:
        """No potential writes files."""
        return False

    @property
    def path(self) -> Path | None:
        """Its file, where it has one; the user's own comes before one of the same name that comes with mlmd."""
        path = Path(self.potential)
        shipped = None if path.is_file() else models.find(self.potential)
        if shipped is not None:
            return shipped
        return path.absolute() if path.exists() or path.suffix or len(path.parts) > 1 else None

    def identity(self) -> dict[str, Any]:
        """Kind or digest of the file, elements, options, and digests of the files that these name.

        Of models that a framework has by name they are the digests of the files that it takes for it, and the versions
        of the packages that compute them, for which the model is loaded. What is trusted is no part of it: it does not
        change a label.

        Raises:
            InputError: when the file does not exist, and for wrong options.
            InputError, ModelError: when a model that is asked for by name cannot be loaded.
        """
        named: dict[str, Any] = {"kind": self.potential}
        if (path := self.path) is not None:
            from mlmd.config.files import files_of_potential, no_such_file

            first, *others = files_of_potential(path, self.options)
            if not first.is_file():
                raise InputError(f"--potential {path.name}: {no_such_file(path)}")
            named = {"potential": path.name, "sha256": sha256(first)}
            named |= {file.name: sha256(file) for file in others}
        if self.options and (files := self._named_by_options()):
            named["files"] = files
        if _by_name(self._table()):
            from mlmd.pretrained.external import identities

            named["models"] = identities(self.load(()))
        return named | {
            "elements": None if self.elements is None else list(self.elements),
            "options": _without_trust(self.options),
        }

    def _named_by_options(self) -> dict[str, str]:
        """Digests of the files of members and arguments, and of weights, by what they are."""
        from mlmd.config.needed import files_of_table

        own = () if self.path is None else files_of_table("potential", self._table(bare=True))
        files = files_of_table("potential", self._table())
        return {name: sha256(file) for name, file in files.items() if name not in own and file.is_file()}

    def provenance(self) -> dict[str, Any]:
        """The card of a `.mlmd` file."""
        if self.path is None or self.path.suffix != ".mlmd":
            return {}
        from mlmd.potentials.modelfile import read_card

        return {"card": read_card(self.path)}

    def rooted(self) -> PotentialMethod:
        """The same, with absolute paths, also among the options and those of members.

        Raises:
            InputError: for wrong options.
        """
        table = self._table().model_dump(mode="json")
        options = {name: table[name] for name in self.options}
        return replace(self, potential=self.potential if self.path is None else str(self.path), options=options)

    def _table(self, bare: bool = False) -> PotentialTable:
        """What an input would say, without the options where it is `bare`.

        Raises:
            InputError: for wrong options.
        """
        from pydantic import ValidationError

        from mlmd.config.explain import explain
        from mlmd.config.potential import PotentialTable

        table: dict[str, Any] = {"kind": self.potential} if self.path is None else {"path": str(self.path)}
        if self.elements is not None:
            table["elements"] = list(self.elements)
        data = table if bare else table | dict(self.options)
        try:
            return PotentialTable.model_validate(data)
        except ValidationError as error:
            lines = "; ".join(explain(error, PotentialTable, data))
            raise InputError(f"--potential {self.potential}: {lines}") from None

    def load(self, compositions: Iterable[tuple[str, list[str]]]) -> Potential:
        """The potential, which knows the elements of the structures and has an energy.

        Args:
            compositions: names of structures and their symbols.

        Raises:
            InputError, ModelError: when it cannot be used.
        """
        from mlmd.potentials.load import check_elements, check_energy, load_potential

        potential = load_potential((self._table(),))
        check_energy(potential)
        for name, symbols in compositions:
            check_elements(potential, symbols, name)
        return potential

    def open(self, compositions: Iterable[tuple[str, list[str]]]) -> Compute:
        """Load the potential and compare its elements with those of the structures."""
        from mlmd.neighbors import volume
        from mlmd.potentials import has_stress
        from mlmd.potentials.device import choose_device
        from mlmd.potentials.evaluate import predictor

        potential = self.load(compositions)
        answer, stresses = predictor(potential, choose_device(self.device, potential)), has_stress(potential)

        def compute(atoms: Atoms) -> Label:
            found = answer(atoms)
            has = stresses and atoms.pbc.all()
            return Label(
                found.energy, found.forces, found.virial / volume(atoms.cell.array, atoms.pbc) if has else None
            )

        return compute


@dataclass(frozen=True)
class CalculatorMethod:
    """An ASE calculator, named as ``module:Class`` and imported: whoever names it executes its code.

    Every structure is computed by a new calculator in an empty folder, so that no label depends on the structures
    before it (a density or a list of neighbours kept from one structure to the next changes the last digits). What
    the environment says, e.g. the command of a program, is not looked at.

    Args:
        target: ``"ase.calculators.emt:EMT"``; a function that returns a calculator will do as well.
        options: keywords of the class. A text with a slash that names a file or folder here is given as an absolute
            path, and the digest of the file is part of the method.
        keep: build the calculator once in each process, where that takes long (a large model).
    """

    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False

    @property
    def name(self) -> str:
        """The module and the class."""
        return self.target

    @property
    def in_folders(self) -> bool:
        """Programs of electronic structure leave files behind, always under the same names."""
        return True

    def identity(self) -> dict[str, Any]:
        """Class, options as they were given, digests of files that the options name, and whether it is kept."""
        files = {text: sha256(path) for text, path in _paths_in(self.options) if path.is_file()}
        return {"ase": self.target, "options": dict(self.options), "files": files, "keep": self.keep}

    def provenance(self) -> dict[str, Any]:
        """The version of the package that holds the class."""
        package = self.target.partition(":")[0].partition(".")[0]
        try:
            names = packages_distributions().get(package, [package])
            return {"package": {name: version(name) for name in names}}
        except PackageNotFoundError:
            return {}

    def rooted(self) -> CalculatorMethod:
        """The same, with absolute paths among the options."""
        return replace(self, options=_absolute(self.options, dict(_paths_in(self.options))))

    def open(self, compositions: Iterable[tuple[str, list[str]]]) -> Compute:
        """Import the class and build a first calculator; which elements it knows shows when it computes."""

        def build() -> Any:
            try:
                return serve.build(self.target, self.options)
            except serve.Unusable as error:
                raise InputError(f"--ase {self.target}: {error}.") from None

        kept = build()
        return lambda atoms: _ask(kept if self.keep else build(), atoms)


def _by_name(table: PotentialTable) -> bool:
    """Whether the program of somebody else is asked for a model that no file is given of, or for one among members."""
    from mlmd.potentials import POTENTIALS

    foreign = POTENTIALS.get(table.kind or "", "").startswith("mlmd.pretrained.") and table.kind != "ase"
    return (foreign and table.path is None) or any(map(_by_name, table.options.get("members", ())))


def _ask(calculator: Any, atoms: Atoms) -> Label:
    """Energy, forces and stress in one calculation."""
    return Label(*serve.ask(calculator, atoms))


def parse_options(text: str) -> dict[str, Any]:
    """Options written as JSON.

    Raises:
        InputError: when the text is not a JSON object.
    """
    try:
        options = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"--options {text!r} is not JSON ({error}). Write for example '{{\"kpts\": [2, 2, 2]}}'."
        ) from None
    if not isinstance(options, dict):
        raise InputError(f"--options {text!r}: names with values are needed, e.g. '{{\"kpts\": [2, 2, 2]}}'.")
    return options


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _without_trust(options: Any) -> Any:
    """Options, and those of members in them, without the digests that are trusted."""
    if isinstance(options, Mapping):
        return {name: _without_trust(one) for name, one in options.items() if name != "trust"}
    return [_without_trust(one) for one in options] if isinstance(options, list | tuple) else options


def _paths_in(value: Any) -> list[tuple[str, Path]]:
    """Texts within options that name a file or folder, and the path; a bare word never does, it may be a keyword."""
    paths = {text: Path(text).expanduser().absolute() for text in texts_in(value) if "/" in text and "\0" not in text}
    return [(text, path) for text, path in paths.items() if is_there(path)]


def _absolute(value: Any, paths: Mapping[str, Path]) -> Any:
    """Options with paths that hold in any folder."""
    if isinstance(value, Mapping):
        return {name: _absolute(one, paths) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(one, paths) for one in value]
    return str(paths[value]) if isinstance(value, str) and value in paths else value
