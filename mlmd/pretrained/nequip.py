"""NequIP and Allegro (S. Batzner et al., Nat. Commun. 13, 2453 (2022); A. Musaelian et al., ibid. 14, 579 (2023)).

Files compiled for inference (`.nequip.pt2` for one kind of device, `.nequip.pth` for any), packages (`.nequip.zip`) and
checkpoints of trainings (`.ckpt`). All of them hold code that is executed. The framework's package holds no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL = "nequip"
EXECUTES = "a model of NequIP or Allegro holds compiled code or Python, which is executed when it is opened"
COMPILED = (".nequip.pt2", ".nequip.pth")


def calculator(
    path: str | None = None,
    name: str | None = None,
    device: str = "cpu",
    species: Mapping[str, str] | None = None,
) -> Any:
    """Its ASE calculator, of a file or by the name of a published model, which the framework downloads.

    Raises:
        ValueError: when the model's types are not chemical symbols and nothing says which they are.
    """
    with kept():
        import torch
        from nequip.integrations.ase import NequIPCalculator

        options = {"chemical_species_to_atom_type_map": dict(species) if species else True}
        try:
            if path is None:
                made = NequIPCalculator._from_saved_model(f"nequip.net:{name}", device=device, **options)
            elif path.endswith(COMPILED):
                made = _compiled(path, device, options)
            else:
                made = NequIPCalculator._from_saved_model(path, device=device, **options)
        except ValueError as error:
            if "Invalid chemical symbol" not in str(error):
                raise
            raise ValueError(f'{error}: write species = {{ Li = "its type in the model" }}, for all elements') from None

    own = made.calculate

    def calculate(*arguments: Any, **keywords: Any) -> None:
        with default_numbers(torch.float64):
            own(*arguments, **keywords)

    made.calculate = calculate
    return made


def _compiled(path: str, device: str, options: Mapping[str, Any]) -> Any:
    """The calculator of a compiled file, on the device asked for, else on that which it was compiled for."""
    import torch
    from nequip.integrations.ase import NequIPCalculator

    others = [device.partition(":")[0], "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    first, *rest = dict.fromkeys([device, *others])
    try:
        return NequIPCalculator.from_compiled_model(path, device=first, **options)
    except RuntimeError as error:
        if "was compiled for" not in str(error):
            raise
        for other in rest:
            if f"was compiled for `{other}`" in str(error):
                return NequIPCalculator.from_compiled_model(path, device=other, **options)
        raise


@contextmanager
def default_numbers(dtype: Any) -> Iterator[None]:
    """Other numbers that torch takes where nothing is said, for a while."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def kept() -> Iterator[None]:
    """What the framework sets for the whole process when it begins is put back: seeds, and torch's default numbers."""
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - whatever others keep there
    with torch.random.fork_rng(), default_numbers(torch.float64):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def facts(made: Any) -> dict[str, Any]:
    """Elements and cutoff (Å); precision and number of parameters where the file tells them."""
    import torch
    from ase.data import chemical_symbols

    species, neighbours = made.transforms
    known = torch.nonzero(species.lookup_table >= 0).flatten().tolist()
    told: dict[str, Any] = {
        "elements": [chemical_symbols[number] for number in known],
        "cutoff": float(neighbours.r_max),
        "computes on": str(made.device),
    }
    if (dtype := precision_of(made.model)) is not None:
        told["precision"] = dtype
    if parameters := sum(parameter.numel() for parameter in made.model.parameters()):
        told["parameters"] = parameters
    return told


def precision_of(network: Any) -> str | None:
    """In which numbers a network computes; None where its file does not tell."""
    dtype = getattr(network, "model_dtype", None)
    if dtype is None and hasattr(getattr(network, "model", None), "get_metadata"):
        dtype = network.model.get_metadata().get("model_dtype")
    return None if dtype is None else str(dtype).removeprefix("torch.")


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    species: Mapping[str, str] | None = None,
    trust: Sequence[str] = (),
) -> Potential:
    """A model of NequIP or Allegro: by its pairs where the framework is installed beside mlmd, else by its calculator.

    Args:
        path: a `.nequip.pt2`, `.nequip.pth`, `.nequip.zip` or `.ckpt` file.
        name: of a published model instead of a file, ``"group/model:version"`` of nequip.net. The framework downloads
            it once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: that of the file whatever is said: the default asks for what the model has.
        species: from chemical symbols to the types of the model, where these are called otherwise.
        trust: digest of the file.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the model.
        ModelError: for a file that is not trusted.
    """
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework, one_of
    from mlmd.pretrained.native import on_pairs

    files = one_of(path, name)
    if name is not None and trust:
        raise InputError("trust: it is for a file; what a name stands for is the framework's choice. Leave it out.")
    if species is not None and not isinstance(species, Mapping):
        raise InputError(f"species: {species!r} is not a table of chemical symbols and types of the model.")
    arguments = {
        "path": str(files[0].absolute()) if files else None,
        "name": name,
        "species": None if species is None else dict(species),
    }
    made = framework(
        "nequip", arguments, install=INSTALL, python=python, elements=elements, files=files, executes=EXECUTES,
        trust=trust,
    )  # fmt: skip
    return on_pairs(made)
