"""TorchScript modules of OpenMM-Torch: ``forward(positions)`` or ``forward(positions, box)``, in nm and kJ/mol.

A module is made for one system: it gets no atomic numbers. It returns the energy, or the energy and the forces; what it
does not return is its derivative. With a box, the stress is the derivative of the energy by a strain of box and
positions together (P. Eastman et al., J. Phys. Chem. B 128, 109 (2024), for the force; the contract is that of
OpenMM-Torch's `TorchForce`).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

NM = 10.0
"""One nm in Å."""


def calculator(path: str, dtype: str = "float64", device: str = "cpu") -> Any:
    """An ASE calculator of a module.

    Args:
        path: a file of ``torch.jit.save``.
        dtype: of the positions that the module gets.
        device: where it computes.
    """
    import torch

    with warnings.catch_warnings():  # torch would rather have other formats, and reads this one
        warnings.simplefilter("ignore", DeprecationWarning)
        if device == "cpu":
            # kernels that are fused after some calls round otherwise: no run in parts would be the run in one
            torch.jit.set_fusion_strategy([])
        module = torch.jit.load(path, map_location=device).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return TorchScript(module, getattr(torch, dtype), device)


class TorchScript(Calculator):
    """Energy, forces and, of a module that takes a box, stress."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 - as ASE has it

    def __init__(self, module: Any, dtype: Any, device: str) -> None:
        """Take the module, the type of the positions it gets, and where it computes."""
        super().__init__()
        self.module, self._dtype, self._device = module, dtype, device
        arguments = module.forward.schema.arguments[1:]  # the first is the module itself
        needed = [one.name for one in arguments if not one.has_default_value()]
        self.takes_box = len(arguments) > 1 and any(word in arguments[1].name.lower() for word in ("box", "cell"))
        self.needs_box = self.takes_box and len(needed) > 1
        if not 1 <= len(needed) <= 1 + self.needs_box:
            raise ValueError(f"forward takes {', '.join(one.name for one in arguments)}, not positions and a box")
        self.returns_forces = module.forward.schema.returns[0].type.kind() == "TupleType"
        if self.takes_box:
            self.implemented_properties = [*self.implemented_properties, "stress"]

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill `results`, as ASE asks.

        Raises:
            ValueError: for a structure whose periodicity is not that of the module, or that the module refuses.
        """
        import torch
        from scipy.constants import N_A, e

        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        self._check(structure.pbc)
        boxed = bool(structure.pbc.all())
        of = {"dtype": self._dtype, "device": self._device}
        positions = torch.tensor(structure.positions / NM, **of).requires_grad_(True)
        strain = torch.zeros((3, 3), **of).requires_grad_(boxed)
        moved = positions + positions @ strain if boxed else positions
        box = torch.tensor(structure.cell.array / NM, **of)
        try:
            found = self.module(moved, box + box @ strain) if boxed else self.module(moved)
        except torch.jit.Error as error:  # with pages of the module's code; what it says itself stands last
            said = str(error).strip().rpartition("\n")[2]
            raise ValueError(said.partition(": ")[2] or said) from None
        energy, forces = found if isinstance(found, tuple) else (found, None)
        unit = 1e3 / (N_A * e)  # eV in a kJ/mol
        wanted = ([positions] if forces is None else []) + ([strain] if boxed else [])
        gradients = list(torch.autograd.grad(energy.sum(), wanted)) if wanted else []
        if forces is None:
            forces = -gradients.pop(0)
        if boxed:
            tensor = gradients[0].cpu().numpy().astype(float)
            self.results["stress"] = 0.5 * (tensor + tensor.T) * unit / structure.get_volume()
        self.results["energy"] = self.results["free_energy"] = float(energy.detach().sum()) * unit
        self.results["forces"] = np.asarray(forces.detach().cpu().numpy(), dtype=float) * unit / NM

    def _check(self, pbc: np.ndarray) -> None:
        """Whether the module can be asked about such a structure.

        Raises:
            ValueError: when it can not.
        """
        if pbc.any() and not self.takes_box:
            raise ValueError("forward(positions) takes no box: the module is for structures without periodicity")
        if pbc.any() and not pbc.all():
            raise ValueError("the module takes a box, which is periodic in three directions; the structure is not")
        if self.needs_box and not pbc.any():
            raise ValueError("forward(positions, box) needs a box, and the structure has none")


def facts(made: TorchScript) -> dict[str, Any]:
    """Precision and number of parameters."""
    return {
        "precision": str(made._dtype).removeprefix("torch."),
        "parameters": sum(one.numel() for one in made.module.parameters()),
    }


def load(
    path: Path,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
    route: str = "auto",
) -> External:
    """A module that an input names, loaded in a process of its own first: a damaged one may crash it.

    Args:
        path: a file of ``torch.jit.save``.
        python: the interpreter of another environment with PyTorch, in which it runs.
        elements: that it may be asked about, e.g. those of the system it was made for.
        precision: of the positions that it gets.
        trust: the digest of the file: a module is a program.
        route: how `mlmd simulate` lets OpenMM ask it: "torchforce" by the plugin OpenMM-Torch, "python" by PythonForce,
            "auto" by the plugin where that works here.

    Raises:
        InputError: when PyTorch is not there, or for an unknown route.
        ModelError: when it is not trusted, or cannot be loaded.
    """
    from mlmd.errors import InputError, did_you_mean
    from mlmd.potentials.trust import check
    from mlmd.pretrained.external import framework
    from mlmd.pretrained.recipe import Recipe
    from mlmd.pretrained.workers import worker

    if route not in ROUTES:
        raise InputError(f"route: {route!r} is not a route. {did_you_mean(str(route), ROUTES)}")
    check(path, trust, EXECUTES)
    arguments = {"path": str(path), "dtype": precision}
    if python is None:
        worker(replace(Recipe("torchscript"), arguments=arguments, python=sys.executable, install="torch"), "cpu")
    made: External = framework(
        "torchscript", arguments, install="torch", python=python, elements=elements, files=[path], executes=EXECUTES,
        trust=trust,
    )  # fmt: skip
    return made


ROUTES = ("auto", "torchforce", "python")
"""How OpenMM may ask a module."""
EXECUTES = "a TorchScript module is a program, which may do anything when it runs"
