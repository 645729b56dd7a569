"""Nequix: a small equivariant network of solids (T. Koker et al., arXiv:2508.16067), weights in `.nqx` files.

Such a file is a line of JSON and raw arrays: opening it executes nothing. It computes by JAX, in float32, with energies
that JAX compiles for each number of atoms, which takes some seconds at the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "nequix"
KEPT = Path("~/.cache/nequix/models")
"""Where the framework keeps what it has downloaded."""
_LINE = 1 << 20
"""Bytes within which the line of JSON ends."""
_ARRAY = b"\x93NUMPY"
"""How an array begins."""


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


def _check_whole(path: Path) -> None:
    """Make sure that no array of a file is cut off.

    Raises:
        ModelError: when one is.
    """
    from mlmd.errors import ModelError

    if not path.is_file():
        return
    with path.open("rb") as file:
        file.readline(_LINE)
        n_arrays = 0
        while file.read(len(_ARRAY)) == _ARRAY:
            file.seek(-len(_ARRAY), 1)
            try:
                np.lib.format.read_array(file, allow_pickle=False)
            except ValueError:
                raise ModelError(
                    f"path: {path}: the file ends, or is damaged, within its array {n_arrays + 1}. Was a download or a "
                    "copy cut off? Get it again."
                ) from None
            n_arrays += 1


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
    for file in files:
        _check_whole(file)
    arguments = {"path": str(path) if path else None, "name": name}
    return framework(
        "nequix", arguments, install=INSTALL, python=python, elements=elements, files=files, moves=False,
        keeps=True,  # of another number of atoms it would compile anew
    )  # fmt: skip
