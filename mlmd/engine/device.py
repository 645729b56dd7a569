"""Failures of a graphics card: no matter of physics, and nothing that this process could go on from.

After such an error every later call in the same process fails too (openmm#4917), so that only a new process can
continue from the checkpoint.
"""

from __future__ import annotations

import re

from mlmd.errors import DeviceError

_LOST = re.compile(
    r"CUDA error|CUDA_ERROR|CUDA driver error|CUDNN_STATUS|CUBLAS_STATUS|cuFFT error|device-side assert|HIP error"
    r"|hipError|OpenCL error|clEnqueue|no kernel image is available"
)
_MEMORY = re.compile(r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|HIP out of memory|MEM_OBJECT_ALLOCATION_FAILURE")


def device_error(error: BaseException, n_atoms: int, device: str) -> DeviceError | None:
    """What to tell a person, where an error is that of a graphics card; None for any other.

    Args:
        error: what was raised, by torch, OpenMM or a model of others.
        n_atoms: of the run.
        device: where the potential computes.
    """
    text = f"{type(error).__name__}: {error}"
    if type(error).__name__ == "OutOfMemoryError" or _MEMORY.search(text):
        return DeviceError(
            f"the memory of {device} is not enough for {n_atoms:,} atoms: {_first_line(error)}{_memory(device)} Use "
            'fewer atoms, a smaller cutoff or precision = "float32" in the potential\'s table, a larger card, '
            "or --device cpu. The last checkpoint is good: the same command continues."
        )
    if _LOST.search(text):
        return DeviceError(
            f"{device} failed: {_first_line(error)} The last checkpoint is good: the same command continues in a new "
            "process, and --retries 3 does that by itself."
        )
    return None


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0][:300]
    return line if line.endswith(".") else line + "."


def _memory(device: str) -> str:
    """Free and whole memory of a card that still answers."""
    import torch

    try:
        free, whole = torch.cuda.mem_get_info(device)
    except (RuntimeError, ValueError, AssertionError):  # lost, or none
        return ""
    return f" {free / 1e9:.1f} of {whole / 1e9:.1f} GB are free now."
