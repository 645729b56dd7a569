"""MatterSim: M3GNet for elements up to 94, at any temperature and pressure (H. Yang et al., arXiv:2405.04967).

Weights are `.pth` files. They are read first with torch's restricted reader, which refuses all that could execute.
It computes in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "mattersim"
NAMES = ("MatterSim-v1.0.0-1M", "MatterSim-v1.0.0-5M")
KEPT = Path("~/.local/mattersim/pretrained_models")
"""Where the framework keeps what it has downloaded."""


def calculator(path: str | None = None, name: str | None = None, device: str = "cpu") -> Any:
    """Its ASE calculator, of a file or by the name of a published model, which the framework downloads.

    Raises:
        ValueError: for an unknown name.
        RuntimeError: for files that are damaged or could execute code.
    """
    import warnings

    import torch
    from mattersim.forcefield.potential import MatterSimCalculator, Potential

    if path is None:
        if name not in NAMES:
            raise ValueError(f"there is no model {name!r}. Known: {', '.join(NAMES)}")
    else:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RuntimeError(f"{path} is damaged, or more than numbers: {str(error)[:200]}") from None
    potential = Potential.from_checkpoint(path if path is not None else name, device=device, load_training_state=False)
    made = MatterSimCalculator(potential, device=device)
    own = made.calculate

    def calculate(atoms: Any, *asked: Any) -> None:
        """It says of every molecule that it is one."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No PBC detected")
            own(atoms, *asked)

    made.calculate = calculate
    kept = KEPT.expanduser() / f"{str(name).replace('MatterSim', 'mattersim')}.pth"
    made.weights = [str(kept)] if path is None and kept.is_file() else []
    return made


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), numbers it computes in, and their number; and the file that a name stands for."""
    from ase.data import chemical_symbols

    model = made.potential.model
    parameters = list(model.parameters())
    return {
        "elements": chemical_symbols[1 : 1 + int(model.model_args.get("max_z", 94))],
        "cutoff": float(model.model_args["cutoff"]),
        "precision": str(parameters[0].dtype).removeprefix("torch."),
        "parameters": sum(one.numel() for one in parameters),
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """A model of MatterSim.

    Args:
        path: a `.pth` file.
        name: ``"MatterSim-v1.0.0-1M"`` or ``"MatterSim-v1.0.0-5M"``, instead of a file; it is downloaded once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: float32 whatever is said: the default asks for what the model has.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the model.
        ModelError: for a file that is damaged or could execute code.
    """
    from mlmd.pretrained.external import framework, one_of

    files = one_of(path, name)
    arguments = {"path": str(path) if path else None, "name": name}
    return framework(
        "mattersim", arguments, install=INSTALL, python=python, elements=elements, files=files, partly_periodic=False
    )
