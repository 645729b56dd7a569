"""Potentials with kernels for a GPU, evaluated there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mlmd.kernels import CHOICE, Kernel
from mlmd.kernels.gpu.evaluate import FAMILIES, DeviceKernel
from mlmd.kernels.gpu.nvrtc import shortcoming
from mlmd.kernels.kernel import Sums
from mlmd.kernels.native import GPU_CHOICE, switched_off, wanted_on_gpu
from mlmd.neighbors import check_skin
from mlmd.potentials import Evaluation, Potential
from mlmd.potentials.fused import kinds_of, symmetric
from mlmd.potentials.fused import why_slow as why_slow_on_processors


class GpuEvaluator:
    """A potential with kernels for a GPU, ready for one system there: list of neighbours, buffers and program."""

    def __init__(self, kernel: DeviceKernel) -> None:
        """Take kernels that are made ready."""
        self.kernel = kernel

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å.

        Sums are in the order of the last search: where that was the same, they agree to the last bit.

        Raises:
            SimulationError: when a position is not finite.
        """
        return symmetric(self.sums(positions, cell))

    def detailed(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """The same with energies and virials of atoms (`Sums` says how they are divided)."""
        return symmetric(self.sums(positions, cell, details=True))

    def sums(self, positions: np.ndarray, cell: np.ndarray, *, details: bool = False) -> Sums:
        """What the kernels give, with energies and virials of atoms where asked for."""
        return self.kernel.compute(positions, cell, details=details)

    def state(self) -> dict[str, np.ndarray]:
        """Positions and cell of the last pair search."""
        return self.kernel.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        self.kernel.restore(state)


def gpu_evaluator(
    kernel: Kernel, elements: Sequence[str], numbers: np.ndarray, pbc: np.ndarray, skin: float,
    device: torch.device | str,
) -> GpuEvaluator:  # fmt: skip
    """What `FusedEvaluator` is for a processor, for a GPU, whose program is compiled now.

    Raises:
        InputError: when an atom is of another element, or the skin is negative or not finite.
        MlmdError: when the program cannot be compiled.
    """
    where = torch.device(device)
    if where.index is None:
        where = torch.device("cuda", torch.cuda.current_device())
    return GpuEvaluator(DeviceKernel(kernel, kinds_of(elements, numbers), pbc, check_skin(skin), where))


def gpu_kernel_of(potential: Potential, device: torch.device | str) -> Kernel | None:
    """The kernel of a potential, where the device has a program for it that is asked for; else None: torch computes."""
    own = getattr(potential, "kernel", None)
    if torch.device(device).type != "cuda" or own is None or not wanted_on_gpu() or switched_off():
        return None
    kernel: Kernel | None = own()
    if kernel is None or kernel.family not in FAMILIES or shortcoming() is not None:
        return None
    return kernel


def why_slow(potential: Potential, device: torch.device | str) -> str | None:
    """A sentence for a person, where kernels could be used on the device, or are asked for, and are not."""
    if torch.device(device).type == "cpu":
        return why_slow_on_processors(potential)
    return why_torch(potential) if wanted_on_gpu() else None


def why_torch(potential: Potential) -> str | None:
    """A sentence for a person, where kernels are asked for on a GPU and torch computes, though processors have one."""
    own = getattr(potential, "kernel", None)
    kernel = None if own is None else own()
    if kernel is None:
        found = [why_torch(part) for name in ("parts", "members") for part in getattr(potential, name, ())]
        return next((one for one in found if one is not None), None)
    if switched_off():
        return f"{GPU_CHOICE} is on, but kernels are switched off by {CHOICE}: torch computes on the GPU."
    if kernel.family not in FAMILIES:
        return (
            f"there are no kernels for a GPU of the kind {kernel.family}, only of {' and '.join(FAMILIES)}: torch "
            "computes on the GPU."
        )
    why = shortcoming()
    return None if why is None else f"{why} Torch computes on the GPU."
