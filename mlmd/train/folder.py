"""The folder of a training: whose it is, and whether it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlmd
from mlmd.config import Train, resolved, training_hash
from mlmd.config.files import TRAINING
from mlmd.errors import StorageError
from mlmd.rundir import MESSAGES, write_atomically

MANIFEST = TRAINING
ERRORS = "errors.json"
ANSWERS = "baseline.answers"
"""The file of what a slow model in the baseline said, followed by the beginning of a digest of how it is made."""
_BEGUN = {"lock", "input.toml", MESSAGES, MANIFEST + ".tmp"}
"""What may stand in the folder of a training that was killed before its manifest was written."""


def _is_ours(name: str) -> bool:
    return name in _BEGUN or name.startswith(ANSWERS)


def existing(folder: Path, config: Train) -> dict[str, Any] | None:
    """The manifest of this training, None if the folder is free.

    Raises:
        StorageError: when the folder holds something else, or another training.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file; a folder is needed for the training. Give another --out.")
    path = folder / MANIFEST
    if not path.exists():
        strangers = sorted(entry.name for entry in folder.iterdir() if not _is_ours(entry.name))
        if strangers:
            raise StorageError(
                f"{folder} is not empty and not the folder of a training (it holds {', '.join(strangers[:3])}). "
                "Give another --out; nothing was touched."
            )
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        same = manifest["training_hash"] == training_hash(config)
        manifest["digest"], manifest["state"]
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{path} is damaged. Give another --out, or remove the folder.") from None
    if not same:
        raise StorageError(
            f"{folder} belongs to another input. A changed input needs a folder of its own: give another --out, or "
            f"restore the input (a copy of the old one is {folder / 'input.toml'})."
        )
    return manifest


def begin(folder: Path, source: Path, config: Train, digest: str) -> dict[str, Any]:
    """Write what stands in a folder before the first step; the manifest last."""
    if not (folder / "input.toml").exists() or not source.samefile(folder / "input.toml"):
        shutil.copyfile(source, folder / "input.toml")
    manifest = {
        "state": "running",
        "mlmd": mlmd.__version__,
        "training_hash": training_hash(config),
        "digest": digest,
        "input": resolved(config),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False).encode())
