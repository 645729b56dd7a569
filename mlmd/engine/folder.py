"""Whose folder is it? Begin a run in an empty one, continue in its own, and leave anybody else's alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlmd.config import Simulate, physics_hash, resolved
from mlmd.config.ending import stop_of
from mlmd.config.files import sha256
from mlmd.config.stop import Stop
from mlmd.engine.schedule import files_of, stage_records
from mlmd.errors import StorageError
from mlmd.rundir import MANIFEST, MESSAGES, PLUMED, STRUCTURE, TOPOLOGIES, End, Run, StageRecord, open_run

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


def is_finished(run: Run, config: Simulate) -> bool:
    """Whether a run is at its end, and the input asks for no more: neither for more time nor for a smaller error."""
    pairs = zip(run.stages, stage_records(config), strict=True)
    ended = all(_still_ended(old, new, config) for old, new in pairs if old.kind != "rerun")
    return ended and run.manifest["state"] == "done"


def _still_ended(old: StageRecord, new: StageRecord, config: Simulate) -> bool:
    """Whether a stage that has come to its end is there by the present input, too."""
    return holds(old.end or End(old.n_steps, old.n_steps, ""), new.n_steps, stop_of(config, old.index))


def holds(end: End, planned: int, stop: Stop | None) -> bool:
    """Whether a stage that ended goes no further with as many steps and this `stop`, which may ask for more now."""
    if not end.early:
        return planned <= end.planned
    if end.quantity is None or end.relative_error is None:
        return True
    return stop is not None and stop.quantity == end.quantity and end.relative_error <= stop.relative_error


def _changed_options(run: Run, config: Simulate) -> Iterator[str]:
    if physics_hash(config) == run.manifest["physics_hash"]:
        return
    old, new = dict(_flat(run.manifest["input"])), dict(_flat(resolved(config)))
    for key in sorted(old.keys() | new.keys()):
        of_current = key.startswith("analysis.charges") and "current" in (config.output.fluxes or ())
        if not of_current and key.startswith(("analysis", "guard", "uncertainty", "engine.grid", "engine.skin")):
            continue
        if key.endswith(("duration", "checkpoint_every")) or "stop" in key.split("."):
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
        place, last = f"stage {old.index + 1} ({old.kind})", old.index == len(run.stages) - 1
        early = old.end is not None and old.end.early
        if early and not last and not _still_ended(old, new, config):
            yield f"{place}: stop: it has ended, and the stages behind it have begun from there"
        if old.planned == new.n_steps:
            continue
        if new.n_steps < old.planned:
            yield f"{place}: duration: it was {old.planned} steps, is {new.n_steps}; a stage cannot shrink"
        elif not last:
            yield f"{place}: duration: only the last stage can grow"
        elif old.ramped:
            yield f"{place}: duration: a ramp cannot grow, its slope would change"
