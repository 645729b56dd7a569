"""DeePMD-kit: deep potentials and DPA (J. Zeng et al., J. Chem. Phys. 159, 054801, 2023; W. Jiang et al., 2025).

A model is a file of one of its backends: `.pb` of TensorFlow, `.pth` and `.pt` of PyTorch, `.savedmodel` of JAX, and
more. All of them are programs. Its wheels are built for one version of each backend, and tell which one they need.

A frozen model of PyTorch (`.pth`, TorchScript) is complete in itself, unless messages pass between its atoms: for those
it calls operations that DeePMD-kit brings. So PyTorch alone asks it, in any version, and what PyTorch cannot open
is left to DeePMD-kit.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL, WITH_TORCH = "deepmd-kit tensorflow-cpu", "deepmd-kit torch==2.11.0"
PROGRAM = "a model of DeePMD-kit is a program, which can do anything when it is opened and asked"


def calculator(path: str, head: str | None = None) -> Any:
    """Its ASE calculator: a `Frozen` one where PyTorch can open the file alone, else that of DeePMD-kit.

    Args:
        path: the file of a model.
        head: the branch, of a model that has many.

    Raises:
        ModuleNotFoundError: where DeePMD-kit is needed, and not there.
        ValueError: for a model of the backend that computes no forces.
    """
    if head is None and Path(path).suffix == ".pth":
        module = opened(path)
        if module is not None:
            return Frozen(path, module)
    from deepmd.calculator import DP

    made = DP(path, head=head)
    if type(made.dp.deep_eval).__module__.startswith("deepmd.dpmodel"):
        file = Path(path).name
        raise ValueError(
            f"{file} is for the backend of NumPy, which computes no forces. Convert it, for TensorFlow for example: "
            f"dp convert-backend {file} {Path(file).stem}.pb"
        )
    return made


def opened(path: str, device: str = "cpu") -> Any:
    """A frozen model, opened by PyTorch alone; None where there is no PyTorch, or where that is not enough.

    Args:
        path: a file of TorchScript.
        device: where it computes; devices that stand in its program are replaced by it.
    """
    try:
        import torch
    except ModuleNotFoundError:
        return None
    with warnings.catch_warnings():  # torch would rather have other formats, and reads this one
        warnings.simplefilter("ignore", DeprecationWarning)
        if device == "cpu":
            # kernels that are fused after some calls round otherwise: no run in parts would be the run in one
            torch.jit.set_fusion_strategy([])
        try:
            module = torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            if "deepmd::" in str(error):  # an operation of the framework
                return None
            raise
    arguments = [one.name for one in module.forward.schema.arguments[1:4]]
    if arguments != ["coord", "atype", "box"] or module.get_dim_fparam() or module.get_dim_aparam():
        return None  # moments of spins, or parameters of frames and atoms
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


class Frozen(Calculator):
    """A frozen model behind PyTorch alone: energy, forces and stress of structures that are periodic or not at all."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as ASE has it

    def __init__(self, path: str, module: Any) -> None:
        """Take the file and the module that it holds."""
        super().__init__()
        self.path, self.module = path, module
        self.elements: list[str] = list(module.get_type_map())

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill `results`, as ASE asks: eV, eV/Å, eV/Å³.

        Raises:
            ValueError: for an element that the model does not know.
        """
        import torch

        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        unknown = sorted(set(structure.symbols) - set(self.elements))
        if unknown:
            raise ValueError(f"the model knows {', '.join(self.elements)}, not {', '.join(unknown)}")
        types = torch.tensor([[self.elements.index(one) for one in structure.symbols]])
        positions = torch.tensor(structure.positions).reshape(1, -1, 3)
        box = torch.tensor(structure.cell.array).reshape(1, 9) if structure.pbc.any() else None
        found = {name: one.detach().numpy() for name, one in self.module(positions, types, box).items()}
        energies = found["atom_energy"].reshape(-1).astype(float)
        self.results["energy"] = self.results["free_energy"] = float(found["energy"].sum())
        self.results["energies"] = energies
        self.results["forces"] = found["force"].reshape(-1, 3).astype(float)
        if box is not None:
            virial = found["virial"].reshape(3, 3).astype(float)
            self.results["stress"] = -0.5 * (virial + virial.T) / structure.get_volume()


def facts(made: Any) -> dict[str, Any]:
    """Elements and cutoff (Å), and the numbers that it computes in, where the model tells."""
    if isinstance(made, Frozen):
        told: dict[str, Any] = {"elements": made.elements, "cutoff": float(made.module.get_rcut())}
        told["parameters"] = sum(one.numel() for one in made.module.parameters())
        said = made.module.get_model_def_script
    else:
        told = {"elements": list(made.type_dict), "cutoff": float(made.dp.get_rcut())}
        said = made.dp.get_model_def_script
    try:
        script = said()
        script = json.loads(script) if isinstance(script, str) else script
        precision = {script[part].get("precision", "default") for part in ("descriptor", "fitting_net")}
    except (NotImplementedError, KeyError, AttributeError, TypeError, ValueError):
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
) -> Potential:
    """A model of DeePMD-kit: on the pairs of mlmd where PyTorch alone can ask it, else by its calculator.

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
    from mlmd.pretrained.native import on_pairs

    arguments = {"path": str(path), "head": head}
    install = WITH_TORCH if Path(path).suffix in (".pt", ".pth", ".pt2") else INSTALL
    made = framework(
        "deepmd", arguments, install=install, python=python, elements=elements, files=[Path(path)],
        executes=PROGRAM, trust=trust, moves=False,
        partly_periodic=False,  # it would be taken for periodic in all directions
    )  # fmt: skip
    return on_pairs(made)
