"""SevenNet: equivariant networks of the kind of NequIP (Y. Park et al., J. Chem. Theory Comput. 20, 4857, 2024).

The package brings some of its networks; they are asked for by name. It computes in float32. In this environment the
network is asked about the pairs of mlmd (`sevennet_graph.py`), in another by the framework's ASE calculator.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL = "sevenn"
SHIPPED = {
    "7net-0": "SEVENNET_0_11Jul2024",
    "7net-0_11july2024": "SEVENNET_0_11Jul2024",
    "7net-0_22may2024": "SEVENNET_0_22May2024",
    "7net-l3i5": "SEVENNET_l3i5",
    "7net-mf-0": "SEVENNET_MF_0",
}
"""Networks within the package, and the words that its list of files (`sevenn._const`) has for them."""
PICKLE = "a .pth file of SevenNet is a Python pickle, which executes code when it is opened"


def calculator(path: str | None = None, name: str | None = None, modal: str | None = None, device: str = "cpu") -> Any:
    """Its ASE calculator, of a checkpoint or by the name of a network within the package.

    Args:
        path: a checkpoint, `.pth`.
        name: a key of `SHIPPED`.
        modal: which of several kinds of data a network of several is to speak for.
        device: of torch.

    Raises:
        ValueError: for a name that is not within the package: what it would download is a pickle that nobody has seen.
    """
    import random

    import torch

    state = random.getstate()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # layers begin with random numbers
        warnings.simplefilter("ignore")  # of accelerators that are not there, and of deprecated parts of torch
        from sevenn.calculator import SevenNetCalculator

        try:
            file = _file(name) if path is None else path
            made = SevenNetCalculator(file, modal=modal, device=device)
        finally:
            random.setstate(state)
    made.weights = [file] if path is None else []
    return made


def _file(name: str | None) -> str:
    """The file of a network within the package."""
    from sevenn import _const

    found = getattr(_const, SHIPPED.get(str(name).lower().replace("sevennet-", "7net-"), ""), None)
    if found is None or not Path(found).is_file():
        there = [one for one, constant in SHIPPED.items() if Path(getattr(_const, constant, "")).is_file()]
        raise ValueError(
            f"{name} is not within the package, which has {', '.join(there)}. Download the checkpoint yourself, and "
            "give path = and trust ="
        )
    return str(found)


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), number of parameters, and the file that a name stands for."""
    from ase.data import chemical_symbols

    return {
        "elements": [chemical_symbols[number] for number in sorted(made.type_map)],
        "cutoff": float(made.cutoff),
        "precision": "float32",
        "parameters": sum(one.numel() for one in made.model.parameters()),
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    modal: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
) -> Potential:
    """A network of SevenNet: on the pairs of mlmd where the framework is installed beside it, else by its calculator.

    Args:
        path: a checkpoint, `.pth`.
        name: of a network that the package brings, e.g. ``"7net-0"`` or ``"7net-l3i5"``, instead of a file.
        modal: for networks of several kinds of data, e.g. ``"PBE"``: which of them.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: float32 whatever is said: the default asks for what the network has.
        trust: digest of the checkpoint.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the network.
        ModelError: for a file that is not trusted.
    """
    from mlmd.pretrained.external import framework, one_of
    from mlmd.pretrained.native import on_pairs

    files = one_of(path, name)
    arguments = {"path": str(Path(path).absolute()) if path else None, "name": name, "modal": modal}
    made = framework(
        "sevennet", arguments, install=INSTALL, python=python, elements=elements, files=files,
        executes=PICKLE, trust=trust,
    )  # fmt: skip
    return on_pairs(made)
