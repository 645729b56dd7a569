"""Checkpoints: one file, checked to the last byte, complete or absent.

OpenMM accepts damaged checkpoints without a word, so its bytes travel in a container of our own: magic, a JSON
header (stage, step, sizes and hashes of all output files, random generators), raw arrays, and a SHA-256 over
everything. The newest valid one by stage and step counts, never by date. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.errors import StorageError
from mlmd.rundir import write_atomically

MAGIC = b"MLMDCKP1"
KEPT = 3
_TAIL = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on."""

    header: Mapping[str, Any]
    """``stage``, ``step`` (local) and whatever else is small."""
    arrays: Mapping[str, np.ndarray]

    @property
    def position(self) -> tuple[int, int]:
        """Stage index and step within the stage."""
        return int(self.header["stage"]), int(self.header["step"])

    @property
    def name(self) -> str:
        """Of its file; names sort by age. Where replicas exchange, a step is there before an exchange and after."""
        exchanges = self.header.get("exchanges")
        stage, step = self.position
        return f"{stage:03d}-{step:015d}{'' if exchanges is None else f'-{exchanges:010d}'}.ckpt"


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint durably, then remove all but the newest `KEPT`."""
    if not folder.is_dir():
        folder.mkdir()
    path = folder / checkpoint.name
    write_atomically(path, _pack(checkpoint))
    for old in _by_age(folder)[KEPT:]:
        old.unlink()
    return path


def forget_after(folder: Path, name: str | None) -> None:
    """Remove all checkpoints that are newer than one of them; all, where none is named."""
    for path in _by_age(folder):
        if name is None or path.name > name:
            path.unlink()


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest valid checkpoint, and what was wrong with newer ones.

    Raises:
        StorageError: when there are checkpoints and none of them is valid.
    """
    problems: list[str] = []
    for path in _by_age(folder):
        try:
            return read(path), problems
        except StorageError as error:
            problems.append(str(error))
    if problems:
        raise StorageError(
            "no checkpoint can be used: " + " ".join(problems) + " Start again with another --out, or restore the "
            "folder from a backup."
        )
    return None, []


def read(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        StorageError: when a byte of it is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"checkpoint {path} cannot be read: {error.strerror}.") from None
    head = len(MAGIC) + 8
    if len(content) < head + _TAIL or not content.startswith(MAGIC):
        raise StorageError(f"checkpoint {path} is damaged or not a checkpoint.")
    if hashlib.sha256(content[:-_TAIL]).digest() != content[-_TAIL:]:
        raise StorageError(f"checkpoint {path} is damaged: its checksum does not match.")
    (length,) = struct.unpack_from("<Q", content, len(MAGIC))
    header = json.loads(content[head : head + length])
    arrays, offset = {}, head + length
    for name, (dtype, shape) in header.pop("arrays").items():
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(content, dtype, count, offset).reshape(shape).copy()
        offset += arrays[name].nbytes
    return Checkpoint(header, arrays)


def _pack(checkpoint: Checkpoint) -> bytes:
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    table = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    header = json.dumps({**checkpoint.header, "arrays": table}).encode()
    body = b"".join([MAGIC, struct.pack("<Q", len(header)), header, *(a.tobytes() for a in arrays.values())])
    return body + hashlib.sha256(body).digest()


def _by_age(folder: Path) -> list[Path]:
    """Newest first, by the stage and step in the name."""
    return sorted(folder.glob("*.ckpt"), reverse=True) if folder.is_dir() else []
