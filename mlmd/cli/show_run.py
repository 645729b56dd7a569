"""What a trajectory or a checkpoint is, in facts: for ``mlmd show``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.errors import MlmdError

TRAJECTORIES = {".dcd", ".xtc", ".lammpstrj", ".dump"}
"""Endings of files that hold frames and nothing else."""


def facts_of_output(path: Path) -> dict[str, Any] | None:
    """Facts about a file that a run writes; None for other files."""
    if path.suffix == ".ckpt":
        return checkpoint_facts(path)
    return trajectory_facts(path) if path.suffix in TRAJECTORIES or has_several_frames(path) else None


def has_several_frames(path: Path) -> bool:
    """Whether an extended XYZ file goes on after its first frame; compressed files and others are not looked into."""
    if path.suffix not in (".xyz", ".extxyz") or not path.is_file():
        return False
    with path.open(errors="replace") as file:
        head = file.readline().strip()
        if not head.isdigit():
            return False
        for _ in range(int(head) + 1):
            if not file.readline():
                return False
        return file.readline().strip().isdigit()


def trajectory_facts(path: Path) -> dict[str, Any]:
    """Facts about a file of frames; in the folder of a run also what the frames are.

    Raises:
        InputError, StorageError: when it cannot be read.
    """
    from mlmd.io.trajectories import open_frames

    reader = open_frames(path, varying=True)
    sizes = {*getattr(reader, "sizes", ())} or {reader.n_atoms}
    n_atoms = reader.n_atoms if len(sizes) == 1 else [min(sizes), max(sizes)]
    facts: dict[str, Any] = {
        "what": "trajectory", "frames": reader.n_frames, "atoms": n_atoms, "bytes": path.stat().st_size,
    }  # fmt: skip
    if reader.n_frames:
        first, end = (reader.cells(range(n, n + 1)) for n in (0, reader.n_frames - 1))
        if first is not None and end is not None:
            one, other = (abs(float(np.linalg.det(cells[0]))) for cells in (first, end))
            facts["volume [Å^3]"] = one if math.isclose(one, other, rel_tol=1e-6) else [one, other]
        last = reader.read(range(reader.n_frames - 1, reader.n_frames))
        facts["last frame"] = "finite" if np.isfinite(last).all() else "NOT finite"
    return facts | _of_run(path, reader.n_frames)


def _of_run(path: Path, n_frames: int) -> dict[str, Any]:
    """What the run that the file lies in says of its frames."""
    from mlmd.rundir import open_run

    try:
        run = open_run(path.parent)
    except MlmdError:
        return {}
    if run.trajectory.name != path.name:
        return {}
    stages, steps, times = run.frame_table()
    facts: dict[str, Any] = {"run": str(run.path), "planned frames": len(steps)}
    if n := min(n_frames, len(steps)):
        facts |= {
            "stages": sorted({int(index) + 1 for index in stages[:n]}),
            "first [ps]": float(times[0]) / 1e3,
            "last [ps]": float(times[n - 1]) / 1e3,
            "last step": int(steps[n - 1]),
        }
    return facts


def checkpoint_facts(path: Path) -> dict[str, Any]:
    """Facts about a checkpoint, read and verified to the last byte.

    Raises:
        StorageError: when it is damaged.
    """
    from mlmd.engine.checkpoint import read
    from mlmd.rundir import open_run

    saved = read(path)
    stage, step = saved.position
    facts: dict[str, Any] = {
        "what": "checkpoint", "valid": True, "stage": stage + 1, "step of the stage": step,
        "atoms": len(saved.arrays["positions"]), "energy [eV]": saved.header.get("energy"),
        "written by": dict(saved.header.get("machine", {})),
        "files": {name: f"{entry['size']:,} bytes" for name, entry in saved.header.get("files", {}).items()},
    }  # fmt: skip
    try:
        facts["step"] = open_run(path.parent.parent).stages[stage].first_step + step
    except (MlmdError, IndexError):
        facts["step"] = None
    return facts
