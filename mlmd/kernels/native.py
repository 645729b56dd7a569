"""The compiled library: which one fits this machine, and the types of its functions."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlmd.errors import InputError, MlmdError, did_you_mean

CHOICE = "MLMD_KERNELS"
"""Environment variable: "off" for torch alone, or "generic", "v3", "v4", or the path of a library."""
GPU_CHOICE = "MLMD_GPU_KERNELS"
"""Environment variable: "on" for kernels on a GPU, which PyTorch computes on without."""
LEVELS = {"v4": 4, "v3": 3, "generic": 1}
"""Instruction sets, the widest vectors first: AVX-512, AVX2, and what every processor of the kind has."""

_HANDLE, _ARRAY, _COUNT, _INT = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_MESSAGE = (ctypes.c_char_p, _COUNT)
_FUNCTIONS = {
    "mlmd_best_level": (_INT, ()),
    "mlmd_vector_bytes": (_INT, ()),
    "mlmd_has_threads": (_INT, ()),
    "mlmd_kernel_new": (
        _INT,
        (ctypes.c_char_p, _INT, _ARRAY, _COUNT, _ARRAY, _COUNT, ctypes.POINTER(_HANDLE), *_MESSAGE),
    ),
    "mlmd_kernel_free": (None, (_HANDLE,)),
    "mlmd_kernel_cutoff": (ctypes.c_double, (_HANDLE,)),
    "mlmd_system_new": (_HANDLE, (_INT, _ARRAY, _INT, _ARRAY, ctypes.c_double, ctypes.c_double)),
    "mlmd_system_with_ghosts": (_HANDLE, (_INT, _INT, _ARRAY, _INT, _ARRAY, ctypes.c_double, ctypes.c_double)),
    "mlmd_system_free": (None, (_HANDLE,)),
    "mlmd_system_update": (_INT, (_HANDLE, _ARRAY, _ARRAY, _INT)),
    "mlmd_system_search": (_INT, (_HANDLE, _ARRAY, _ARRAY, _INT)),
    "mlmd_system_searched": (_INT, (_HANDLE, _ARRAY, _ARRAY)),
    "mlmd_system_counts": (None, (_HANDLE, _ARRAY)),
    "mlmd_system_rows": (None, (_HANDLE, *[_ARRAY] * 4)),
    "mlmd_system_list": (_COUNT, (_HANDLE, ctypes.c_double, _INT, _COUNT, *[_ARRAY] * 3)),
    "mlmd_pair_counts": (_INT, (_HANDLE, _ARRAY, _ARRAY, _INT, _INT, _ARRAY, _ARRAY)),
    "mlmd_compute": (_INT, (_HANDLE, _HANDLE, _INT, *[_ARRAY] * 8, *_MESSAGE)),
    "mlmd_advance": (_INT, (_ARRAY, *_MESSAGE)),
    "mlmd_noise": (None, (ctypes.c_uint64, ctypes.c_uint64, _COUNT, _ARRAY)),
    "mlmd_descriptor_new": (
        _INT,
        (ctypes.c_char_p, _ARRAY, _COUNT, _ARRAY, _COUNT, ctypes.POINTER(_HANDLE), *_MESSAGE),
    ),
    "mlmd_descriptor_free": (None, (_HANDLE,)),
    "mlmd_descriptor_size": (_COUNT, (_HANDLE,)),
    "mlmd_features": (_INT, (_HANDLE, _HANDLE, _INT, *[_ARRAY] * 3, *_MESSAGE)),
    "mlmd_push": (_INT, (_HANDLE, _HANDLE, _INT, *[_ARRAY] * 5, *_MESSAGE)),
    "mlmd_pull": (_INT, (_HANDLE, _HANDLE, _INT, *[_ARRAY] * 5, *_MESSAGE)),
    "mlmd_pull_many": (_INT, (_HANDLE, _HANDLE, *[_ARRAY] * 3, _COUNT, _ARRAY, _ARRAY, *_MESSAGE)),
    "mlmd_design_new": (_INT, (_ARRAY, _COUNT, _ARRAY, _COUNT, ctypes.POINTER(_HANDLE), *_MESSAGE)),
    "mlmd_design_free": (None, (_HANDLE,)),
    "mlmd_design": (_INT, (_HANDLE, _HANDLE, *[_ARRAY] * 7, *_MESSAGE)),
}


@cache
def library() -> ctypes.CDLL | None:
    """The library for this machine, or None where none was compiled or `MLMD_KERNELS` is "off".

    Raises:
        InputError: when `MLMD_KERNELS` asks for something that is not there.
        MlmdError: when the library cannot be loaded, or is of another version of mlmd.
    """
    choice = os.environ.get(CHOICE, "")
    if choice == "off":
        return None
    if choice and choice not in LEVELS:
        if not Path(choice).is_file():
            raise InputError(f"{CHOICE} = {choice!r} is not a library. {did_you_mean(choice, [*LEVELS, 'off'])}")
        return _open(Path(choice))
    built = _built()
    if choice:
        if choice not in built:
            raise InputError(f"{CHOICE} = {choice!r}, but the kernels compiled here are {', '.join(built) or 'none'}.")
        if "generic" in built and LEVELS[choice] > _best(built):  # the first instruction of it would end the process
            raise InputError(f"{CHOICE} = {choice!r}, but this processor has not its instructions. Leave {CHOICE} out.")
        return _open(built[choice])
    if not built:
        return None
    best = _best(built)
    return next((_open(path) for name, path in built.items() if LEVELS[name] <= best), None)


def switched_off() -> bool:
    """Whether `MLMD_KERNELS` is "off", for kernels of all kinds."""
    return os.environ.get(CHOICE) == "off"


def wanted_on_gpu() -> bool:
    """Whether `MLMD_GPU_KERNELS` is "on".

    Raises:
        InputError: when it is neither that nor "off".
    """
    choice = os.environ.get(GPU_CHOICE) or "off"
    if choice not in ("on", "off"):
        raise InputError(f"{GPU_CHOICE} = {choice!r}. {did_you_mean(choice, ['on', 'off'])}")
    return choice == "on"


def _best(built: Mapping[str, Path]) -> int:
    """The highest level that this processor has, as the generic library says; 1 where there is none to ask."""
    return int(_open(built["generic"]).mlmd_best_level()) if "generic" in built else 1


def required() -> Any:
    """The library.

    Raises:
        MlmdError: when nothing is compiled.
    """
    found = library()
    if found is None:
        raise MlmdError("mlmd's kernels are not compiled here.")
    return found


def describe() -> str:
    """One line about the kernels for a person."""
    found = library()
    if found is None:
        if switched_off():
            return f"switched off by {CHOICE}: potentials run on torch, which is many times slower"
        if _built():
            return (
                f"not chosen: {', '.join(_built())} is compiled, but not the generic library, which knows what the "
                f"processor has. Potentials run on torch, which is many times slower; {CHOICE} chooses one"
            )
        return (
            "not compiled: potentials run on torch, which is many times slower. Install a C++ compiler (g++ or "
            "clang++), then mlmd again, with pip install --force-reinstall --no-deps --no-cache-dir"
        )
    name = next((name for name, path in _built().items() if str(path) == found._name), Path(found._name).name)
    words = [f"{name}, vectors of {8 * found.mlmd_vector_bytes()} bits"]
    return "; ".join(words + [what for what in [shortcoming()] if what])


def shortcoming() -> str | None:
    """What makes the kernels slower than they could be on this machine: how they were compiled, not what was chosen."""
    found = library()
    if found is None:
        return None
    words = []
    if not os.environ.get(CHOICE):
        best = next(name for name, level in LEVELS.items() if level <= found.mlmd_best_level())
        if best not in _built():
            words.append(f"{best}, which this processor has, is not there: the compiler did not know it")
    if not found.mlmd_has_threads():
        words.append("one thread only: the compiler had no OpenMP")
    return "; ".join(words) or None


def _built() -> dict[str, Path]:
    """The libraries that were compiled, the widest vectors first."""
    here = Path(__file__).parent
    return {name: path for name in LEVELS if (path := here / f"_{name}.so").is_file()}


@cache
def _open(path: Path) -> ctypes.CDLL:
    try:
        opened = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(opened, name)
            function.restype, function.argtypes = result, arguments
    except OSError as error:
        raise MlmdError(f"the kernels cannot be loaded: {error}. {CHOICE}=off does without.") from None
    except AttributeError:
        raise MlmdError(f"{path} is of another version of mlmd. Install mlmd again.") from None
    return opened
