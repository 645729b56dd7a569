"""What kernels of a GPU are given, as Python fills it in."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

from mlmd.kernels.gpu.source import FOLDER

if TYPE_CHECKING:
    from torch import Tensor

_TYPES = {"int": ctypes.c_int, "double": ctypes.c_double}


def _members() -> list[tuple[str, Any]]:
    """Members of the structure in `src/frame.cuh`, by its text; pointers are addresses."""
    text = (FOLDER / "frame.cuh").read_text(encoding="utf-8")
    found = re.findall(r"^  (?:const )?(int|unsigned|double|real)(\*?) (\w+);", text, flags=re.MULTILINE)
    return [(name, ctypes.c_void_p if pointer else _TYPES[kind]) for kind, pointer, name in found]


class Frame(ctypes.Structure):
    """The structure of `src/frame.cuh`."""

    _fields_ = _members()

    def __init__(self) -> None:
        """Everything zero."""
        super().__init__()
        self.tensors: dict[str, Tensor] = {}

    def point(self, **tensors: Tensor) -> None:
        """Let members be the addresses of contiguous tensors, which are kept."""
        for name, tensor in tensors.items():
            assert tensor.is_contiguous(), name
            self.tensors[name] = tensor
            setattr(self, name, tensor.data_ptr())
