"""Where the potential computes."""

from __future__ import annotations

import torch

from mlmd.errors import InputError
from mlmd.potentials import Potential
from mlmd.potentials.evaluate import is_compiled


def choose_device(wanted: str, potential: Potential | None = None) -> str:
    """A torch device that exists here.

    ``auto`` is the first GPU that torch sees, else the CPU; and the CPU for a potential with compiled kernels, which is
    faster there than by PyTorch's operations on a GPU.

    Raises:
        InputError: for a device that torch does not know or does not see.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        compiled = potential is not None and is_compiled(potential)
        return "cuda" if n_gpus and not compiled else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise InputError(f"device {wanted}: not a device. Write cpu, cuda, cuda:0, or auto.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {wanted}: only cpu and cuda are supported.")
    if device.type == "cuda" and not n_gpus:
        raise InputError(f"device {wanted}: torch sees no CUDA device here. Use cpu.")
    if device.type == "cuda" and device.index is not None and device.index >= n_gpus:
        raise InputError(f"device {wanted}: torch sees {n_gpus} CUDA device(s), counted from 0.")
    return wanted
