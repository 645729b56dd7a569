"""Whose folder is it? Begin a run in an empty one, continue in its own, and leave anybody else's alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlmd.config import Simulate, physics_hash, resolved
from mlmd.config.files import sha256
from mlmd.engine.schedule import files_of, stage_records
from mlmd.errors import StorageError
from mlmd.rundir import MANIFEST, MESSAGES, PLUMED, STRUCTURE, TOPOLOGIES, Run, open_run

_BEGUN = {"lock", MESSAGES, PLUMED} | {
    name + end
    for name in ("input.toml", STRUCTURE, *TOPOLOGIES, MANIFEST)
    for end in ("", ".tmp")
    if name + end != MANIFEST
}
"""What may stand in the folder of a run that was killed before its manifest was written."""


def existing_run(folder: Path, config: Simulate) -> Run | None:
    """The run in this folder if it is this input's, None if the folder is free.

    Raises:
        StorageError: when the folder holds something else, or the run of another input (saying what differs).
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file; a folder is needed for the run. Give another --out.")
    if not (folder / MANIFEST).exists():
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in _BEGUN)
        if strangers:
            raise StorageError(
                f"{folder} is not empty and not a run folder (it holds {', '.join(strangers[:3])}). "
                "Give another --out; nothing was touched."
            )
        return None
    run = open_run(folder)
    differences = [
        *_changed_options(run, config),
        *_changed_files(run, config),
        *_changed_lengths(run, config),
    ]
    if differences:
        listed = "\n  ".join(differences)
        raise StorageError(
            f"{folder} belongs to another input:\n  {listed}\n"
            "A changed input needs a folder of its own: give another --out, or restore the input. "
            "Only the duration of the last stage may grow, [guard] and [uncertainty] may change."
        )
    return run


def _changed_options(run: Run, config: Simulate) -> Iterator[str]:
    if physics_hash(config) == run.manifest["physics_hash"]:
        return
    old, new = dict(_flat(run.manifest["input"])), dict(_flat(resolved(config)))
    for key in sorted(old.keys() | new.keys()):
        of_current = key.startswith("analysis.charges") and "current" in (config.output.fluxes or ())
        if not of_current and key.startswith(("analysis", "guard", "uncertainty", "engine.grid", "engine.skin")):
            continue
        if key.endswith(("duration", "checkpoint_every")):
            continue
        if key.endswith(("structure", "path", "file", "kernel", "parameters", "trajectory")) and _name(
            old.get(key)
        ) == _name(new.get(key)):
            continue  # the content of files is compared by itself
        if old.get(key) != new.get(key):
            yield f"{key}: was {old.get(key, 'not set')}, is {new.get(key, 'not set')}"


def _name(path: Any) -> Any:
    return Path(path).name if isinstance(path, str) else path


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, item in enumerate(value, 1):
            yield from _flat(item, f"{key} {number}")
    else:
        yield key, value


def _changed_files(run: Run, config: Simulate) -> Iterator[str]:
    for name, path in files_of(config).items():
        recorded = run.manifest["files"].get(name)
        if recorded is not None and path.exists() and sha256(path) != recorded["sha256"]:
            yield f"{name}: the content of {path} is not what it was"


def _changed_lengths(run: Run, config: Simulate) -> Iterator[str]:
    """Durations may grow for the last stage, and for no ramp that has begun."""
    if any(_changed_options(run, config)):
        return
    for old, new in zip(run.stages, stage_records(config), strict=True):
        if old.kind == "rerun":  # as long as its trajectory, which is compared by its content
            continue
        if old.n_steps == new.n_steps:
            continue
        place = f"stage {old.index + 1} ({old.kind})"
        if new.n_steps < old.n_steps:
            yield f"{place}: duration: it was {old.n_steps} steps, is {new.n_steps}; a stage cannot shrink"
        elif old.index != len(run.stages) - 1:
            yield f"{place}: duration: only the last stage can grow"
        elif old.ramped:
            yield f"{place}: duration: a ramp cannot grow, its slope would change"
