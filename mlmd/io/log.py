"""log.csv of a run as columns."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from mlmd.errors import StorageError


def read_log(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log by their names, e.g. ``"temperature [K]"``; a torn last line is left out.

    Raises:
        StorageError: when the log cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    header, _, body = content[: content.rfind(b"\n") + 1].partition(b"\n")
    names = header.decode(errors="replace").split(",")
    try:
        table = np.loadtxt(BytesIO(body), delimiter=",", ndmin=2) if body else np.empty((0, len(names)))
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}.") from None
    if table.shape[1] != len(names):
        raise StorageError(f"{path} is damaged: {table.shape[1]} columns under {len(names)} names.")
    return dict(zip(names, table.T, strict=True))
