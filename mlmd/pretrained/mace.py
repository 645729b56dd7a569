"""MACE: equivariant message passing of higher order (I. Batatia et al., NeurIPS 2022, arXiv:2206.07697).

A `.model` file is a pickle of the whole network: opening it executes what stands in it. The framework's package holds
no weights; those of the published models are downloaded by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL = "mace-torch"
EXECUTES = "a model of MACE is a Python pickle, which executes code when it is opened"
SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""The variable by which the framework lets torch open pickles; `serve.build` puts it back."""
ACADEMIC = "Academic Software License (https://github.com/gabor1/ASL): no commercial use"
_ACADEMIC = ("off-", "small-omat-", "medium-omat-", "mace-matpes-", "mh-")
"""How the names of published models begin that are under it."""
_MIT = (
    "small", "medium", "large", "small-0b", "medium-0b", "small-0b2", "medium-0b2", "large-0b2", "medium-0b3",
    "medium-mpa-0",
)  # fmt: skip
"""Names of published models that are under MIT: those of MACE-MP and MACE-MPA."""


def calculator(
    path: str | None = None,
    name: str | None = None,
    device: str = "cpu",
    precision: str = "float64",
    head: str | None = None,
    trust: Sequence[str] = (),
) -> Any:
    """Its ASE calculator, of a file or by the name of a published model, which the framework downloads.

    Raises:
        ValueError: for a model without energies, a name or a head that there is not, and a download that has not the
            digest that is given.
    """
    import os

    os.environ[SWITCH] = "1"
    from mace.calculators import MACECalculator

    named = path is None
    if path is None:
        path = _downloaded(str(name), trust)
    options = {} if head is None else {"head": head}
    made = MACECalculator(model_paths=[path], device=device, default_dtype=precision, **options)
    model = type(made.models[0]).__name__
    if model in ("AtomicDipolesMACE", "AtomicDielectricMACE"):
        raise ValueError(f"this is a {model}, which has no energies that forces are the derivatives of")
    if head is not None and head not in made.available_heads:
        raise ValueError(f"head: {head!r} is none of the model, which has {', '.join(made.available_heads)}")
    made.published, made.weights = name, [path] if named else []
    return made


def _downloaded(name: str, trust: Sequence[str]) -> str:
    """The file of a published model, where the framework keeps it."""
    import hashlib
    from pathlib import Path

    from mace.calculators import foundations_models as published

    addresses = {one: one for one in published.mace_mp_urls}
    addresses |= {f"off-{one}": address for one, address in published.mace_off_urls.items()}
    if name not in addresses:
        raise ValueError(f"name: {name!r} is not a published model. Known: {', '.join(addresses)}")
    path: str = published.download_mace_mp_checkpoint(addresses[name])
    if trust and (digest := "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()) not in trust:
        raise ValueError(f"{path}, which was downloaded, is not the file that is trusted: its digest is {digest}")
    return path


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), precision, number of parameters, head, and of a name its file and the licence of this."""
    from ase.data import chemical_symbols

    model = made.models[0]
    told = {
        "elements": [chemical_symbols[number] for number in made.z_table.zs],
        "cutoff": float(made.r_max),
        "precision": made.default_dtype,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "model": type(model).__name__,
        "head": made.head,
        "weights": made.weights,
    }
    name = made.published
    if name is not None and name.startswith(_ACADEMIC):
        told["licence"] = ACADEMIC
    elif name in _MIT:
        told["licence"] = "MIT"
    return told


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    head: str | None = None,
    trust: Sequence[str] = (),
) -> Potential:
    """A model of MACE: by its pairs where the framework is installed beside mlmd, else by its calculator.

    Args:
        path: a `.model` file.
        name: of a published model instead of a file, e.g. ``"medium-mpa-0"``; ``"off-small"`` is the small one of
            MACE-OFF23. The framework downloads it once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: "float64", or "float32", which is quicker.
        head: of a model that was trained on several kinds of data; needed where none is called "default".
        trust: digest of the file; with a name, the download must have it.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the model.
        ModelError: for a file that is not trusted.
    """
    from mlmd.pretrained.external import framework, one_of
    from mlmd.pretrained.native import on_pairs

    files = one_of(path, name)
    arguments: dict[str, Any] = {
        "path": str(Path(path).absolute()) if path else None,
        "name": name,
        "precision": precision,
        "head": head,
    }
    if name is not None and trust:
        arguments["trust"] = list(trust)
    made = framework(
        "mace", arguments, install=INSTALL, python=python, elements=elements, files=files, executes=EXECUTES,
        trust=trust,
    )  # fmt: skip
    return on_pairs(made)
