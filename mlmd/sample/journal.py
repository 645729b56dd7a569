"""Labels on their way: every one is on disk before the next one, and none counts that is not whole.

The folder ``<output>.part`` holds a manifest, which says what is labelled and how, and the records, one line each: a
checksum and a JSON object, added at the end of the file. A process that dies leaves at most one torn line behind,
the last, which is cut off by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.errors import InputError, StorageError
from mlmd.rundir import STOP, sync_folder, write_atomically
from mlmd.sample.method import Label

MANIFEST = "manifest.json"
RECORDS = "records"
SCRATCH, FAILED = "scratch", "failed"
"""Folders of the calculators: of those at work, and of the structures without a label."""
OUTPUT = "output.extxyz"
"""What becomes the file of labels."""
_BEGUN = (RECORDS, MANIFEST + ".tmp", STOP)
"""What may stand in the folder without a manifest: a process was killed when it began or when it cleared up."""
_FORMAT = {"format": "mlmd-labelling", "version": 1}
SYNC_EVERY = 1.0
"""Seconds of labels that a power failure may cost; a process that dies costs none."""

Record = Label | str
"""A label, or why there is none."""


@dataclass
class Journal:
    """The records of one labelling, opened for adding; only who holds the lock of the folder may."""

    folder: Path
    records: dict[int, Record]
    """By the number of the structure."""
    n_damaged: int
    """Whole lines that were changed since they were written, and do not count."""
    _file: FileIO
    _synced: float = field(default_factory=time.monotonic)

    def add(self, number: int, record: Record) -> None:
        """Add the record of a structure.

        Raises:
            StorageError: when it cannot be written.
        """
        self._write({"structure": number} | _as_json(record))
        self.records[number] = record

    def forget_failures(self) -> None:
        """Let the structures without a label be tried again."""
        failed = [number for number, record in self.records.items() if isinstance(record, str)]
        if failed:
            self._write({"again": failed})
        for number in failed:
            del self.records[number]

    def close(self) -> None:
        """Make the records durable and close the file."""
        if not self._file.closed:
            self._sync()
            self._file.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            left = memoryview(_line(entry))
            while left:
                left = left[self._file.write(left) :]
            if time.monotonic() - self._synced >= SYNC_EVERY:
                self._sync()
        except OSError as error:
            raise StorageError(
                f"{self.folder / RECORDS} cannot be written: {error.strerror}. The labels so far are kept; the same "
                "command continues."
            ) from None

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def begun(folder: Path) -> dict[str, Any] | None:
    """What a labelling that was begun in a folder is about; None when there is none.

    Raises:
        StorageError: when the folder holds something else.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}. Remove {folder} to start anew.") from None
    if not isinstance(manifest, dict) or {key: manifest.get(key) for key in _FORMAT} != _FORMAT:
        raise StorageError(f"{path} is not what this mlmd writes. Give another --out, or remove {folder}.")
    plan: dict[str, Any] = manifest["plan"]
    return plan


def check_free(folder: Path) -> None:
    """Refuse a folder that holds what no labelling has put there.

    Raises:
        StorageError: names what it holds.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; the labels on their way need a folder there. Give another --out.")
    if begun(folder) is None and (strangers := _strangers(folder)):
        raise StorageError(
            f"{folder}, where the labels would be kept on their way, holds something else: "
            f"{', '.join(strangers[:3])}. Give another --out, or move the folder away; nothing was touched."
        )


def clear(folder: Path) -> None:
    """Remove a journal, and its folder when nothing else stands in it; only by who holds the lock of the folder.

    The manifest goes when all but the records has gone, so that without one the folder holds `_BEGUN` at most.
    """
    if begun(folder) is not None:
        for name in (SCRATCH, FAILED):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (OUTPUT, MANIFEST):
            (folder / name).unlink(missing_ok=True)
    elif _strangers(folder):
        return
    for name in _BEGUN:
        (folder / name).unlink(missing_ok=True)
    if not _strangers(folder):
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()


def _strangers(folder: Path) -> list[str]:
    """What stands in a folder and is not of a labelling without a manifest."""
    return (
        sorted(path.name for path in folder.iterdir() if path.name not in {"lock", *_BEGUN}) if folder.exists() else []
    )


def open_journal(folder: Path, plan: Mapping[str, Any], shapes: list[int]) -> Journal:
    """Begin a journal, or continue the one that is there.

    Args:
        folder: it exists and is locked by this process.
        plan: what is labelled and how (JSON-able).
        shapes: number of atoms of each structure.

    Raises:
        InputError: when the folder belongs to another plan; says what differs.
        StorageError: when the folder cannot be read or written.
    """
    before = begun(folder)
    try:
        if before is None:
            (folder / RECORDS).write_bytes(b"")
            sync_folder(folder)
            write_atomically(folder / MANIFEST, json.dumps(_FORMAT | {"plan": plan}, indent=1).encode())
        elif different := differences(before, plan):
            raise InputError(
                f"{folder} was begun with something else: {different}. Give another --out, or remove the folder to "
                "start anew."
            )
        path = folder / RECORDS
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1  # what follows was being written when a process died
        records, n_damaged = _read(content[:whole], shapes)
        file = path.open("ab", buffering=0)  # after a full disk nothing may be left that closing would write
        if whole < len(content):
            file.truncate(whole)
    except OSError as error:
        raise StorageError(f"{folder} cannot be used: {error.strerror}. Give another --out.") from None
    return Journal(folder, records, n_damaged, file)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> str:
    """What two plans do not have in common, e.g. ``method options kpts: [2, 2, 2], now [4, 4, 4]``."""
    found = []
    for key in dict.fromkeys([*before, *now]):
        old, new, name = before.get(key), now.get(key), f"{place} {key}".strip()
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found.append(differences(old, new, name))
        elif json.loads(json.dumps(old)) != json.loads(json.dumps(new)):
            found.append(f"{name}: {_short(old)}, now {_short(new)}")
    return "; ".join(text for text in found if text)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _as_json(record: Record) -> dict[str, Any]:
    """A record whose numbers read back exactly."""
    if isinstance(record, str):
        return {"failed": record}
    arrays = {"forces": record.forces, "stress": record.stress}
    listed = {name: None if array is None else array.tolist() for name, array in arrays.items()}
    return {"energy": record.energy} | listed


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=True, allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(content: bytes, shapes: list[int]) -> tuple[dict[int, Record], int]:
    """The records of complete lines, and the number of lines that were changed."""
    records: dict[int, Record] = {}
    n_damaged = 0
    for line in content.split(b"\n")[:-1]:
        entry = _entry(line)
        if entry is None:
            n_damaged += 1
        elif "again" in entry:
            for number in entry["again"]:
                if isinstance(records.get(number), str):
                    del records[number]
        else:
            number = entry["structure"]
            records.setdefault(number, _record(entry, shapes[number]))
    return records, n_damaged


def _entry(line: bytes) -> dict[str, Any] | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    entry: dict[str, Any] = json.loads(text)
    return entry


def _record(entry: Mapping[str, Any], n_atoms: int) -> Record:
    if "failed" in entry:
        return str(entry["failed"])
    forces, stress = entry["forces"], entry["stress"]
    return Label(
        entry["energy"],
        None if forces is None else np.array(forces, dtype=float).reshape(n_atoms, 3),
        None if stress is None else np.array(stress, dtype=float).reshape(3, 3),
    )
