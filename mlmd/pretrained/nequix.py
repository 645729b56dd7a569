"""Nequix: a small equivariant network of solids (T. Koker et al., arXiv:2508.16067), weights in `.nqx` files.

Such a file is a line of JSON and raw arrays: opening it executes nothing. It computes by JAX, in float32, with energies
that JAX compiles for each number of atoms, which takes some seconds at the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "nequix"
KEPT = Path("~/.cache/nequix/models")
"""Where the framework keeps what it has downloaded."""


def calculator(path: str | None = None, name: str | None = None) -> Any:
    """Its ASE calculator, of a file or by the name of a published model, which the framework downloads."""
    from nequix.calculator import NequixCalculator

    model = {"model_name": name} if path is None else {"model_path": path}
    made = NequixCalculator(**model, backend="jax", use_kernel=False)
    kept = KEPT.expanduser() / f"{name}.nqx"
    made.weights = [str(kept)] if path is None and kept.is_file() else []
    return made


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), number of parameters, and the file that a name stands for."""
    import equinox
    import jax
    from ase.data import chemical_symbols

    arrays = jax.tree_util.tree_leaves(equinox.filter(made.model, equinox.is_inexact_array))
    return {
        "elements": [chemical_symbols[number] for number in made.config["atomic_numbers"]],
        "cutoff": float(made.config["cutoff"]),
        "precision": "float32",
        "parameters": int(sum(array.size for array in arrays)),
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """A model of Nequix.

    Args:
        path: a `.nqx` file.
        name: of a published model, e.g. ``"nequix-mp-1"``, instead of a file; it is downloaded once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: float32 whatever is said: the default asks for what the model has.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the model.
        ModelError: for a file that is not whole.
    """
    from mlmd.pretrained.external import framework, one_of

    files = one_of(path, name)
    arguments = {"path": str(path) if path else None, "name": name}
    return framework(
        "nequix", arguments, install=INSTALL, python=python, elements=elements, files=files, moves=False,
        keeps=True,  # of another number of atoms it would compile anew
    )  # fmt: skip
