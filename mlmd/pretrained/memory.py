"""What a slow model said about structures, kept in a file, so that nobody asks it twice.

The file grows by one record for each answer: lengths, numbers, and a checksum. What a crash cut off is not there, and
everything before it is.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np

from mlmd.errors import StorageError
from mlmd.potentials import Evaluation

_MAGIC = b"mlmd answers 1\n"
_KEY = 32
"""Bytes of the digest of a structure."""


class Memory:
    """Answers by structure."""

    def __init__(self, path: Path, identity: str) -> None:
        """Read what is there.

        Args:
            path: the file; it is made when the first answer is kept.
            identity: of the model; answers of another are not read, and go with the first that is kept.

        Raises:
            StorageError: when the file cannot be read.
        """
        self._path = path
        self._head = _MAGIC + hashlib.sha256(identity.encode()).digest()
        self._known: dict[bytes, Evaluation] = {}
        self._length = 0
        """Bytes of the file that are sound."""
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
        if content.startswith(self._head):
            self._length = len(self._head)
            while (record := _read(content, self._length)) is not None:
                key, found, self._length = record
                self._known[key] = found

    def __len__(self) -> int:
        """Structures that are known."""
        return len(self._known)

    def find(self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> Evaluation | None:
        """What was said about a structure that is the same to the last bit; None where it was not asked about."""
        return self._known.get(_key(numbers, pbc, positions, cell))

    def keep(
        self, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray, found: Evaluation
    ) -> None:
        """Write an answer at once.

        Raises:
            StorageError: when it cannot be written.
        """
        key = _key(numbers, pbc, positions, cell)
        numbers_of = np.concatenate([[found.energy], found.virial.ravel(), found.forces.ravel()])
        body = key + len(found.forces).to_bytes(8, "little") + numbers_of.astype("<f8").tobytes()
        try:
            with self._path.open("r+b" if self._length else "wb") as file:
                if not self._length:
                    file.write(self._head)
                    self._length = len(self._head)
                file.seek(self._length)
                file.write(body + zlib.crc32(body).to_bytes(4, "little"))
                file.truncate()
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}.") from None
        self._length += len(body) + 4
        self._known[key] = found


def _key(numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    for array, kind in ((numbers, "<i8"), (pbc, "<i8"), (positions, "<f8"), (cell, "<f8")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.digest()


def _read(content: bytes, begin: int) -> tuple[bytes, Evaluation, int] | None:
    """Key, answer and end of the record that begins somewhere; None where there is no whole one."""
    at = begin + _KEY
    if len(content) < at + 8:
        return None
    n_atoms = int.from_bytes(content[at : at + 8], "little")
    end = at + 8 + 8 * (1 + 9 + 3 * n_atoms)
    if len(content) < end + 4 or zlib.crc32(content[begin:end]).to_bytes(4, "little") != content[end : end + 4]:
        return None
    values = np.frombuffer(content[at + 8 : end], dtype="<f8").astype(np.float64)
    found = Evaluation(float(values[0]), values[10:].reshape(n_atoms, 3), values[1:10].reshape(3, 3))
    return content[begin:at], found, end + 4
