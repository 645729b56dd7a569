"""Where the numbers of a run come from: versions, files, machine, what was said, and how to do it again."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath

from mlmd.rundir import CRASH, MESSAGES, Run

LAST_MESSAGES = 200
_DECIDE = ("openmm", "torch", "numpy", "ase", "plumed")
"""Packages whose versions may change digits."""


def failure(run: Run) -> str:
    """Why the run failed: what the crash folder says, or the last message."""
    why = text_of(run.path / CRASH / "why.txt").strip()
    lines = text_of(run.path / MESSAGES).strip().splitlines()
    return why or (lines[-1] if lines else "There is no message about the reason.")


def messages(run: Run) -> tuple[str, str]:
    """The last messages of a run, and a remark about those that are left out."""
    lines = text_of(run.path / MESSAGES).splitlines()
    left = len(lines) - LAST_MESSAGES
    return "\n".join(lines[-LAST_MESSAGES:]), f"{left:,} earlier ones are in {MESSAGES}." if left > 0 else ""


def facts(run: Run) -> Iterator[tuple[str, str]]:
    """What decides the numbers, by name."""
    manifest = run.manifest
    yield "mlmd", str(manifest.get("mlmd", "unknown"))
    yield "created", str(manifest.get("created", "unknown"))
    yield "seed", str(manifest.get("seed", "unknown"))
    yield "hash of the physics", str(manifest.get("physics_hash", "unknown"))
    for name, entry in manifest.get("files", {}).items():
        yield str(name), f"{entry.get('path')}  sha256 {entry.get('sha256')}"
    for name, value in manifest.get("platform", {}).items():
        yield str(name), json.dumps(value) if isinstance(value, dict) else str(value)
    yield "versions", ", ".join(f"{name} {version}" for name, version in manifest.get("versions", {}).items())


def commands(run: Run) -> str:
    """Commands that do the same again: relative paths of the input count from where it lay."""
    name, versions = run.path.resolve().name, run.manifest.get("versions") or {}
    pinned = ", ".join(f"{key} {versions[key]}" for key in _DECIDE if isinstance(versions.get(key), str))
    lines = [f"# numbers are the same with mlmd {run.manifest.get('mlmd', '?')}{f', {pinned}' if pinned else ''}"]
    if run.manifest.get("seed") is not None and (run.manifest.get("input") or {}).get("seed") is None:
        lines.append(f"# the input has no seed: add  seed = {run.manifest['seed']}  to it")
    own, folder = f"{name}/input.toml", _base(run)
    if folder is not None:
        copy = str(folder / f"{name.removesuffix('.run')}-again.toml")
        lines.append(f"cp {shlex.quote(own)} {shlex.quote(copy)}")
        own = copy
    return "\n".join([*lines, f"mlmd simulate {shlex.quote(own)}" + ("" if folder else " --out again.run")])


def _base(run: Run) -> PurePath | None:
    """The folder that relative paths of the input count from; None where it names its structure in full."""
    resolved = PurePath(str((run.manifest.get("input") or {}).get("structure", "")))
    try:
        given = PurePath(str(tomllib.loads(text_of(run.path / "input.toml")).get("structure", resolved)))
    except tomllib.TOMLDecodeError:
        return None
    if given.is_absolute() or not resolved.is_absolute():
        return None
    n = len(given.parts)
    return PurePath(*resolved.parts[:-n]) if resolved.parts[-n:] == given.parts else resolved.parent


def text_of(path: Path) -> str:
    """A file as text; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
