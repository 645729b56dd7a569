"""Run folders and trajectories made from known positions, without a simulation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile

from mlmd.engine.outputs import LOG_HEADER
from mlmd.io.frames import ArrayReader
from mlmd.rundir import StageRecord, stage_record

TIMESTEP = 2.0
"""fs."""
EVERY = 10
"""Steps between frames."""


def stage(index: int, first_step: int, n_steps: int, **changes: Any) -> StageRecord:
    """A stage at 300 K with a frame every ten steps."""
    options: dict[str, Any] = {
        "kind": "nvt", "temperature": (300.0, 300.0), "pressure": None, "barostat": None, "log_every": 10,
    }  # fmt: skip
    return StageRecord(
        index=index, first_step=first_step, n_steps=n_steps, timestep=TIMESTEP, trajectory_every=EVERY,
        **(options | changes),
    )  # fmt: skip


def write_run(
    folder: Path,
    atoms: ase.Atoms,
    stages: tuple[StageRecord, ...],
    positions: np.ndarray,
    *,
    cells: np.ndarray | None = None,
    orientation: np.ndarray | None = None,
    kind: str = "dcd",
    **manifest: Any,
) -> Path:
    """A run folder whose trajectory holds these positions (n_frames, n_atoms, 3) Å and cells (n_frames, 3, 3) Å."""
    folder.mkdir(parents=True)
    ase.io.write(folder / "structure.extxyz", atoms, format="extxyz")
    entries = {
        "format": "mlmd-run", "version": 1, "mlmd": "0", "created": "2020-01-01T00:00:00+00:00", "state": "done",
        "seed": 1, "physics_hash": "0" * 64, "input": {}, "files": {}, "versions": {}, "platform": {},
        "orientation": (np.eye(3) if orientation is None else orientation).tolist(),
        "stages": [stage_record(one) for one in stages],
        "trajectory": {"file": f"trajectory.{kind}", "format": kind},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(entries | manifest))
    boxes = np.broadcast_to(atoms.cell.array, (len(positions), 3, 3)) if cells is None else cells
    write_trajectory(folder / f"trajectory.{kind}", atoms, positions, boxes)
    return folder


def write_trajectory(path: Path, atoms: ase.Atoms, positions: np.ndarray, cells: np.ndarray) -> None:
    """DCD and XTC by MDTraj, extended XYZ by ASE."""
    if path.suffix == ".dcd":
        parameters = np.array([ase.cell.Cell(cell).cellpar() for cell in cells])
        with DCDTrajectoryFile(str(path), "w") as file:
            file.write(positions.astype("f4"), cell_lengths=parameters[:, :3], cell_angles=parameters[:, 3:])
    elif path.suffix == ".xtc":
        with XTCTrajectoryFile(str(path), "w") as file:
            times = np.arange(len(positions), dtype="f4") * TIMESTEP * EVERY / 1e3
            file.write((positions / 10).astype("f4"), box=(cells / 10).astype("f4"), time=times)
    else:
        frames = [
            ase.Atoms(atoms.numbers, x, cell=cell, pbc=atoms.pbc) for x, cell in zip(positions, cells, strict=True)
        ]
        ase.io.write(path, frames, format="extxyz")


def write_log(
    folder: Path, stages: tuple[StageRecord, ...], rng: np.random.Generator, temperature: float = 300.0
) -> None:
    """A log with white noise around a temperature."""
    rows = []
    for one in stages:
        for step in range(0, one.n_steps, one.log_every):
            at = one.first_step + step
            target = one.temperature[0] if one.temperature else np.nan
            values = (-10.0, 1.0, -1.0, temperature + rng.normal(), 0.0, 1000.0, 1.0, target, 0.0)
            rows.append(
                ",".join([str(at), str(one.index + 1), f"{at * TIMESTEP / 1e3:.10g}", *(f"{v:.10g}" for v in values)])
            )
    (folder / "log.csv").write_text(LOG_HEADER + "\n".join(rows) + "\n", encoding="utf-8")


def walk(rng: np.random.Generator, n_frames: int, n_atoms: int, step: float = 0.1) -> np.ndarray:
    """Independent random walks, (n_frames, n_atoms, 3); `step` is the standard deviation per frame and axis."""
    steps = rng.normal(scale=step, size=(n_frames, n_atoms, 3))
    steps[0] = 0.0
    return np.cumsum(steps, axis=0)


@dataclass(frozen=True)
class WithVelocities(ArrayReader):
    """Frames in memory that have velocities."""

    stored: np.ndarray = field(default_factory=lambda: np.empty(0))

    def velocities(self, frames: range, atoms: slice | np.ndarray = slice(None)) -> np.ndarray:
        """(n, n_atoms, 3) Å/fs."""
        chosen: np.ndarray = self.stored[slice(frames.start, frames.stop, frames.step)][:, atoms]
        return chosen
