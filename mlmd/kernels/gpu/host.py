"""The same programs compiled for the processor, with threads that take turns: how they are tested without a GPU."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mlmd.errors import MlmdError
from mlmd.kernels.gpu.frame import Frame
from mlmd.kernels.gpu.source import program


class HostProgram:
    """A program as a shared library; it is slow."""

    def __init__(self, name: str, macros: Mapping[str, object], folder: Path, compiler: str = "g++") -> None:
        """Compile in a folder and load.

        Raises:
            MlmdError: when the compiler refuses, with what it says.
        """
        source, library = folder / f"{name}.cpp", folder / f"{name}.so"
        source.write_text(program(name, macros, "host.cuh"), encoding="utf-8")
        command = [compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", str(library), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MlmdError(f"{' '.join(command)}\n{done.stderr}")
        self._library = ctypes.CDLL(str(library))

    def launch(self, kernel: str, n_threads: int, frame: Frame) -> None:
        """Run a kernel with so many threads."""
        getattr(self._library, kernel)(ctypes.byref(frame), ctypes.c_longlong(n_threads))
