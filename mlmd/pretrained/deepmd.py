"""DeePMD-kit: deep potentials and DPA (J. Zeng et al., J. Chem. Phys. 159, 054801, 2023; W. Jiang et al., 2025).

A model is a file of one of its backends: `.pb` of TensorFlow, `.pth` and `.pt` of PyTorch, `.savedmodel` of JAX, and
more. All of them are programs. Its wheels are built for one version of each backend, and tell which one they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL, WITH_TORCH = "deepmd-kit tensorflow-cpu", "deepmd-kit torch==2.11.0"
PROGRAM = "a model of DeePMD-kit is a program, which can do anything when it is opened and asked"


def calculator(path: str, head: str | None = None) -> Any:
    """Its ASE calculator.

    Args:
        path: the file of a model.
        head: the branch, of a model that has many.

    Raises:
        ValueError: for a model of the backend that computes no forces.
    """
    from deepmd.calculator import DP

    made = DP(path, head=head)
    if type(made.dp.deep_eval).__module__.startswith("deepmd.dpmodel"):
        file = Path(path).name
        raise ValueError(
            f"{file} is for the backend of NumPy, which computes no forces. Convert it, for TensorFlow for example: "
            f"dp convert-backend {file} {Path(file).stem}.pb"
        )
    return made


def facts(made: Any) -> dict[str, Any]:
    """Elements and cutoff (Å), and the numbers that it computes in, where the model tells."""
    told: dict[str, Any] = {"elements": list(made.type_dict), "cutoff": float(made.dp.get_rcut())}
    try:
        script = made.dp.get_model_def_script()
        precision = {script[part].get("precision", "default") for part in ("descriptor", "fitting_net")}
    except (NotImplementedError, KeyError, AttributeError):
        return told
    if len(precision) == 1:
        told["precision"] = precision.pop().replace("default", "float64")
    return told


def load(
    path: Path,
    head: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
) -> External:
    """A model of DeePMD-kit.

    Args:
        path: the file: `.pb`, `.pth`, ...
        head: the branch, of a model with many.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: that of the model, whatever is said.
        trust: digest of the file.

    Raises:
        InputError: when the framework cannot make the model.
        ModelError: for a file that is not trusted.
    """
    from mlmd.pretrained.external import framework

    arguments = {"path": str(path), "head": head}
    install = WITH_TORCH if Path(path).suffix in (".pt", ".pth", ".pt2") else INSTALL
    return framework(
        "deepmd", arguments, install=install, python=python, elements=elements, files=[Path(path)],
        executes=PROGRAM, trust=trust, moves=False,
        partly_periodic=False,  # it would be taken for periodic in all directions
    )  # fmt: skip
