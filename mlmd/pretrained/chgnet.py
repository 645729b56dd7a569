"""CHGNet: a graph network of solids with bonds and angles (B. Deng et al., Nat. Mach. Intell. 5, 1031, 2023).

The package brings its networks; they are asked for by name. It computes in float32. In this environment the network is
asked about the pairs of mlmd (`chgnet_graph.py`), in another by the framework's ASE calculator.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL = "chgnet"
DEFAULT = "0.3.0"
NEVER_SEEN = ("Po", "At", "Rn", "Fr", "Ra")
"""Elements that no structure of the Materials Project trajectories has, on which the networks of the package were
trained: they compute with them all the same, from numbers that were never fitted."""
PICKLE = "a file of CHGNet is a Python pickle, which executes code when it is opened"


def calculator(path: str | None = None, name: str | None = None, device: str = "cpu") -> Any:
    """Its ASE calculator, of a file or by the name of a network within the package.

    Atoms without neighbours are no reason for words at every step: they have an energy, and no force acts on them.

    Args:
        path: a `.pth.tar` file.
        name: "0.3.0", "0.2.0" or "r2scan".
        device: of torch.

    Raises:
        ValueError: for a name that the package does not have.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it says which device it is on
        warnings.simplefilter("ignore")
        import torch
        from chgnet.model.dynamics import CHGNetCalculator
        from chgnet.model.model import CHGNet

        with torch.random.fork_rng(devices=[]):  # layers begin with random numbers, before they get those of the file
            if path is None:
                _check_name(str(name))
                model = CHGNet.load(model_name=name, use_device=device, verbose=False)
            else:
                model = CHGNet.from_file(path)
        made = CHGNetCalculator(model, use_device=device, on_isolated_atoms="ignore")
    made.calculate = _with_a_cell(made.calculate)
    made.shipped = path is None
    made.weights = [] if path is not None else _files(str(name))
    return made


def _with_a_cell(calculate: Callable[..., None]) -> Callable[..., None]:
    """What also takes atoms in the open: the framework wants a lattice, though neighbours are searched as pbc says."""
    from ase.geometry import complete_cell

    def calculated(atoms: Any = None, *rest: Any, **more: Any) -> None:
        if atoms is not None and atoms.cell.rank < 3:
            atoms = atoms.copy()
            atoms.set_cell(complete_cell(atoms.cell.array))
        calculate(atoms, *rest, **more)

    return calculated


def _check_name(name: str) -> None:
    """Make sure that the package has a network.

    Raises:
        ValueError: with those that it has.
    """
    import chgnet

    known = sorted(one.name for one in Path(chgnet.__file__).with_name("pretrained").iterdir() if one.is_dir())
    if known and name not in known:
        raise ValueError(f"name: {name} is none of its networks, which are {', '.join(known)}")


def _files(name: str) -> list[str]:
    """Where the package has the network of a name."""
    import chgnet

    return [str(one) for one in Path(chgnet.__file__).with_name("pretrained").glob(f"{name}/*.tar")]


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), number of parameters, and the file that a name stands for."""
    from ase.data import chemical_symbols

    known = chemical_symbols[1 : 1 + made.model.atom_embedding.embedding.num_embeddings]
    return {
        "elements": [symbol for symbol in known if not made.shipped or symbol not in NEVER_SEEN],
        "cutoff": float(made.model.graph_converter.atom_graph_cutoff),
        "precision": "float32",
        "parameters": made.n_params,
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
) -> Potential:
    """A network of CHGNet: on the pairs of mlmd where the framework is installed beside it, else by its calculator.

    Args:
        path: a `.pth.tar` file.
        name: of a network that the package brings: ``"0.3.0"``, which is taken when neither is given, ``"0.2.0"`` or
            ``"r2scan"``.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: float32 whatever is said: the default asks for what the network has.
        trust: digest of the file.

    Raises:
        InputError: for both of path and name, and when the framework cannot make the network.
        ModelError: for a file that is not trusted.
    """
    from mlmd.pretrained.external import framework, one_of
    from mlmd.pretrained.native import on_pairs

    if path is None and name is None:
        name = DEFAULT
    files = one_of(path, name)
    arguments = {"path": str(Path(path).absolute()) if path else None, "name": name}
    made = framework(
        "chgnet", arguments, install=INSTALL, python=python, elements=elements, files=files,
        executes=PICKLE, trust=trust,
    )  # fmt: skip
    return on_pairs(made)
