"""Programs compiled for a GPU by NVRTC, and their kernels started on torch's stream.

Torch brings NVRTC, and the driver the rest: no CUDA toolkit is needed, and nothing is compiled at installation.
"""

from __future__ import annotations

import ctypes
import site
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mlmd.errors import MlmdError
from mlmd.kernels.gpu.frame import Frame
from mlmd.kernels.gpu.source import program

BLOCK = 128
"""Threads of a block."""


class CudaProgram:
    """A program on a device; one object a program, device and set of macros."""

    def __init__(self, name: str, macros: Mapping[str, object], device: torch.device) -> None:
        """Compile and load.

        Raises:
            MlmdError: when NVRTC or the driver cannot be loaded, or refuses.
        """
        self.device = device
        torch.zeros(1, device=device)  # a context, which the driver loads modules into
        major, minor = torch.cuda.get_device_capability(device)
        text = program(name, {**macros, "BLOCK": BLOCK}, "device.cuh")
        single = str(macros.get("real")) == "float"
        self._driver = _driver()
        self._module = ctypes.c_void_p()
        with torch.cuda.device(device):
            self._check(
                self._driver.cuModuleLoadData(ctypes.byref(self._module), compiled(text, f"sm_{major}{minor}", single))
            )
        self._functions: dict[str, ctypes.c_void_p] = {}

    def launch(self, kernel: str, n_threads: int, frame: Frame) -> None:
        """Start a kernel with at least so many threads on torch's current stream.

        Raises:
            MlmdError: when the driver refuses.
        """
        if n_threads <= 0:
            return
        function = self._functions.get(kernel)
        if function is None:
            function = self._functions[kernel] = ctypes.c_void_p()
            self._check(self._driver.cuModuleGetFunction(ctypes.byref(function), self._module, kernel.encode()))
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(frame))
        stream = ctypes.c_void_p(torch.cuda.current_stream(self.device).cuda_stream)
        n_blocks = -(-n_threads // BLOCK)
        self._check(
            self._driver.cuLaunchKernel(function, n_blocks, 1, 1, BLOCK, 1, 1, 0, stream, arguments, None), kernel
        )

    def attributes(self, kernel: str) -> dict[str, int]:
        """Registers and local memory (bytes) of a thread of a kernel that was started."""
        found = {}
        for name, number in (("registers", 4), ("local", 3)):
            value = ctypes.c_int()
            self._check(self._driver.cuFuncGetAttribute(ctypes.byref(value), number, self._functions[kernel]))
            found[name] = value.value
        return found

    def _check(self, status: int, what: str = "program") -> None:
        if status:
            words = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(words))
            raise MlmdError(f"CUDA refuses the {what}: {(words.value or b'unknown').decode()} ({status}).")


def shortcoming() -> str | None:
    """Why nothing can be compiled for the GPU that torch sees, for a person."""
    if torch.version.cuda is None:
        return "kernels for a GPU need torch built for CUDA."
    try:
        _driver(), _nvrtc()
    except MlmdError as error:
        return str(error)
    return None


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise MlmdError(f"the CUDA driver cannot be loaded: {error}.") from None


@cache
def _nvrtc() -> Any:
    """NVRTC of torch's own version: among what the process has loaded already, on the system's path, in the wheels."""
    major = str(torch.version.cuda or "13").split(".")[0]
    name = f"libnvrtc.so.{major}"
    folders = {
        Path(path) for path in [*site.getsitepackages(), *sys.path, str(Path(torch.__file__).parents[1])] if path
    }
    parts = (f"nvidia/cu{major}/lib", "nvidia/cuda_nvrtc/lib", "torch/lib")
    candidates = [str(path) for folder in folders for part in parts if (path := folder / part / name).is_file()]
    errors = []
    for one in [*candidates, name, "libnvrtc.so"]:
        try:
            # what it opens by name when it compiles, which it does not look for beside itself
            for other in sorted(Path(one).parent.glob("libnvrtc-builtins.so*")) if "/" in one else []:
                ctypes.CDLL(str(other))
            return ctypes.CDLL(one)
        except OSError as error:
            errors.append(str(error))
    raise MlmdError(f"NVRTC cannot be loaded: {'; '.join(errors)}. It comes with torch's wheels for CUDA.")


@cache
def compiled(text: str, architecture: str, single: bool) -> bytes:
    """The program in the code of a device ("sm_90").

    Args:
        text: of the program, without includes.
        architecture: of the device.
        single: whether numbers are of single precision, where divisions and roots may be one unit off.

    Raises:
        MlmdError: when NVRTC refuses, with what it says.
    """
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--device-as-default-execution-space", "-w"]
    if single:
        options += ["--prec-div=false", "--prec-sqrt=false"]
    handle = ctypes.c_void_p()
    _check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(handle), text.encode(), b"mlmd.cu", 0, None, None), "")
    try:
        status = nvrtc.nvrtcCompileProgram(handle, len(options), _strings(options))
        if status:
            _check(
                nvrtc,
                status,
                _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, handle).decode(errors="replace"),
            )
        return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, handle)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(handle))


def _strings(texts: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * len(texts))(*[one.encode() for one in texts])


def _read(size_of: Any, read: Any, handle: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    size_of(handle, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(handle, buffer)
    return buffer.raw


def _check(nvrtc: Any, status: int, log: str) -> None:
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        words = nvrtc.nvrtcGetErrorString(status).decode()
        raise MlmdError(f"NVRTC does not compile mlmd's program: {words}.\n{log}")
