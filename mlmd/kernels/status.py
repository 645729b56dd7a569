"""What the compiled library answers with: a status, and words about it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from mlmd.errors import MlmdError, SimulationError

OK, BAD_CONFIGURATION, BAD_PARAMETERS, NO_MEMORY, FAILURE, TOO_MANY = range(6)
"""As in `src/guarded.hpp`."""
MESSAGE_SIZE = 256
"""Of the words, in bytes."""


def new_message() -> Any:
    """Room for the words of the library."""
    return ctypes.create_string_buffer(MESSAGE_SIZE)


def check(status: int, message: Any, refused: Callable[[], MlmdError] | None = None) -> None:
    """Raise what a status stands for, if it is not OK.

    Args:
        status: of a call.
        message: what the library has written about it.
        refused: makes the error about a configuration that is not possible, where there is one.

    Raises:
        SimulationError: for more periodic images than can be numbered.
        MlmdError: that of `refused`; or that the library refused its parameters or failed, which is a bug.
        MemoryError: when there was not enough memory.
    """
    if status == OK:
        return
    if status == BAD_CONFIGURATION and refused is not None:
        raise refused()
    if status == TOO_MANY:
        raise SimulationError(
            "the cell is so much smaller than the cutoff that there are more periodic images of its atoms within it "
            "than can be numbered. Is a cell vector, or a position, in another unit than Å?"
        )
    if status == NO_MEMORY:
        raise MemoryError("not enough memory for the neighbours, the forces or the derivatives of a structure")
    raise MlmdError(f"the kernels failed: {message.value.decode()}")
