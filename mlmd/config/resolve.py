"""The resolved input: every default filled in, every unit written, every path absolute."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mlmd.config.simulate import Simulate
from mlmd.config.table import Table
from mlmd.config.train import Train

_PATHS = {"structure", "path", "file", "kernel", "parameters", "model", "reference", "files", "folder", "trajectory"}


def resolved(model: Table) -> dict[str, Any]:
    """A model as JSON-able tables that load as the same model; keys that are not set are left out."""
    tables: dict[str, Any] = _without_none(model.model_dump(mode="json"))
    return tables


def from_resolved(data: dict[str, Any]) -> Simulate:
    """The model of a `resolved` input, e.g. of ``run.json``."""
    return Simulate.model_validate(data)


def physics_hash(model: Simulate) -> str:
    """SHA-256 of everything that a continued run may not change.

    Left out are the durations of stages and what ends them before, `checkpoint_every`, how an engine divides the cell,
    the analyses (but for charges of a current that the run writes), the `route` of a TorchScript module, guard and
    uncertainty, which move no atom, and the folders of files: a run that was moved with its input is the same run. What
    the files contain is hashed in ``run.json``.
    """
    data = resolved(model)
    analysis = data.pop("analysis", None) or {}
    if "current" in (data["output"].get("fluxes") or ()):
        data["charges of the current"] = analysis.get("charges")
    for table in data["potential"]:
        if table.get("kind") == "torchscript":
            table.pop("route", None)
    if (engine := data.pop("engine", {}).get("kind", "openmm")) != "openmm":
        data["engine"] = engine
    data.pop("guard")
    data.pop("uncertainty", None)
    data["output"].pop("checkpoint_every")
    data.pop("stop", None)
    for stage in data["stage"]:
        stage.pop("duration", None)
        stage.pop("stop", None)
        if not stage.get("bias"):
            stage.pop("bias", None)  # runs that began before there was such a key go on
    return _hash(data)


def training_hash(model: Train) -> str:
    """SHA-256 of everything that decides the fitted numbers, besides what the files of data contain.

    Left out are the card and the folders of files, as a training that was moved with its input is the same.
    """
    data = resolved(model)
    data.pop("card")
    return _hash(data)


def _hash(data: dict[str, Any]) -> str:
    """SHA-256 of a resolved input."""
    text = json.dumps(_names_only(data), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_none(value: Any) -> Any:
    """Tables without the keys that are not set."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _names_only(value: Any, key: str = "") -> Any:
    """Paths cut to the names of their files."""
    if isinstance(value, dict):
        return {name: _names_only(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_names_only(item, key) for item in value]
    if not isinstance(value, str):
        return value
    own_file = key in _PATHS or (key == "forcefield" and Path(value).is_absolute())
    return Path(value).name if own_file else value
