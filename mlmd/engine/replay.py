"""Which frames of a trajectory a rerun takes, and the step of the dynamics at which each of them was.

PLUMED tells the time as step times timestep, and so does the log of a rerun. The step of a frame is therefore its time
over the timestep where the file tells the time, else the step that the file tells, else its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ase
import numpy as np

from mlmd.bias.script import Script
from mlmd.config import Rerun
from mlmd.errors import InputError
from mlmd.io.recording import SINGLE, Frame, Recording, open_recording

NEAR = 0.01
"""Of a timestep, by which times of a file may be off."""
_OF_THE_CELL = ("CELL", "VOLUME")
"""Actions of PLUMED that are nothing without a cell."""


@dataclass(frozen=True)
class Replay:
    """The frames of a rerun."""

    recording: Recording
    atoms: ase.Atoms
    """The structure that they are of."""
    rows: range
    """Their numbers in the file."""
    steps: np.ndarray
    """(n_frames,) growing, of the dynamics."""
    notes: tuple[str, ...]
    """What a person should know of them."""
    _cells: np.ndarray | None

    @property
    def n_frames(self) -> int:
        """How many frames there are."""
        return len(self.rows)

    def frame(self, number: int) -> Frame:
        """A frame by its number among those that are taken.

        Raises:
            InputError: when its elements are not those of the structure, or its positions are not finite.
            StorageError: when it cannot be read.
        """
        row = self.rows[number]
        found = self.recording.frame(row, self.atoms, self._cells)
        place, numbers = f"{self.recording.path}: frame {row} (counted from 0)", self.atoms.numbers
        if found.numbers is not None and not np.array_equal(found.numbers, numbers):
            atom = int(np.flatnonzero(found.numbers != numbers)[0])
            theirs, ours = ase.Atoms(numbers=[found.numbers[atom], numbers[atom]]).get_chemical_symbols()
            raise InputError(
                f"{place}: atom {atom} is {theirs}, in the structure {ours}. A trajectory has to be of the atoms of "
                "the structure, in its order."
            )
        if not (np.isfinite(found.positions).all() and np.isfinite(found.cell).all()):
            raise InputError(f"{place}: positions or cell are not finite. Leave it out with first, last or every.")
        if self.atoms.pbc.all() and not abs(np.linalg.det(found.cell)) > 0.0:
            raise InputError(f"{place}: its cell vectors span no volume. Leave it out with first, last or every.")
        return found


def replay_of(stage: Rerun, timestep: float, atoms: ase.Atoms) -> Replay:
    """The frames of a rerun, the first of them read.

    Args:
        stage: of the input.
        timestep: fs.
        atoms: the structure as simulated.

    Raises:
        InputError: when there is no such file, no frame, another number of atoms or other elements than in the
            structure, or times and steps that are none of a trajectory.
        StorageError: when the file cannot be read.
    """
    try:
        return _replay(stage, timestep, atoms)
    except InputError as error:
        raise InputError(f"stage 1 (rerun): trajectory: {error}") from None


def _replay(stage: Rerun, timestep: float, atoms: ase.Atoms) -> Replay:
    recording = open_recording(stage.trajectory)
    n_frames, n_atoms = recording.reader.n_frames, recording.reader.n_atoms
    if n_atoms != len(atoms):
        raise InputError(
            f"{recording.path} has {n_atoms:,} atoms, the structure {len(atoms):,}. Give the structure that the frames "
            "are of."
        )
    for key, wanted in (("first", stage.first), ("last", stage.last)):
        if wanted is not None and wanted >= n_frames:
            raise InputError(
                f"{recording.path} has {n_frames:,} frames, counted from 0, and {key} = {wanted:,} is none of them."
            )
    rows = range(stage.first, n_frames if stage.last is None else stage.last + 1, stage.every)
    steps, notes = _steps(stage, timestep, recording, rows)
    made = Replay(recording, atoms, rows, steps, tuple(notes), recording.cells(atoms))
    made.frame(0)
    return made


def _steps(stage: Rerun, timestep: float, recording: Recording, rows: range) -> tuple[np.ndarray, list[str]]:
    """Steps of the frames, and what a person should know of them."""
    where, own = np.arange(recording.reader.n_frames), slice(rows.start, rows.stop, rows.step)
    if stage.interval is not None:
        every = round(stage.interval / timestep)
        if every < 1 or abs(every * timestep - stage.interval) > NEAR * timestep:
            raise InputError(f"interval: {stage.interval:g} fs are no whole steps of {timestep:g} fs.")
        return every * where[own], []
    if recording.times is not None:
        return _of_times(recording, timestep, own, rows)
    if recording.steps is not None:
        return _checked(recording.steps[own], recording, rows), []
    text = f"{recording.path.name} tells no times: its frames count as one timestep apart; interval says otherwise"
    return where[own], [text]


def _of_times(
    recording: Recording, timestep: float, own: slice, rows: range
) -> tuple[np.ndarray, list[str]]:  # fmt: skip
    """Steps of the frames of a file that tells their times."""
    assert recording.times is not None
    times, steps, notes = recording.times[own], None, list[str]()
    rounding = SINGLE * np.abs(times) if recording.single else 0.0
    if recording.steps is not None:
        steps = recording.steps[own]
        if (np.abs(steps * timestep - times) <= NEAR * timestep + rounding).all():
            return _checked(steps, recording, rows), notes
    found = np.rint(times / timestep)
    off = np.abs(found * timestep - times) > NEAR * timestep + rounding
    if off.any():
        number = int(np.flatnonzero(off)[0])
        raise InputError(
            f"{recording.path}: frame {rows[number]} is at {times[number]:.10g} fs, which is no whole number of "
            f"timesteps of {timestep:g} fs. Give the timestep of the dynamics that it is of, or interval."
        )
    if steps is not None and (meant := _timestep(steps, times)) is not None and abs(meant - timestep) > NEAR * timestep:
        notes.append(
            f"{recording.path.name} counts {int(steps[1] - steps[0]):,} steps for {times[1] - times[0]:g} fs, a "
            f"timestep of {meant:g} fs; the input says {timestep:g} fs, and by that its times are counted in steps"
        )
    return _checked(found.astype(np.int64), recording, rows), notes


def _timestep(steps: np.ndarray, times: np.ndarray) -> float | None:
    """fs, as a file has it in steps and times; None where it counts frames, not steps, as some writers of XTC do."""
    distance = int(steps[1] - steps[0]) if len(steps) > 1 else 0
    return float(f"{(times[1] - times[0]) / distance:.6g}") if distance > 1 else None


def _checked(steps: np.ndarray, recording: Recording, rows: range) -> np.ndarray:
    """Steps that grow from 0 or later."""
    if steps[0] < 0:
        raise InputError(f"{recording.path}: frame {rows[0]} is before time 0. Set interval to count from 0.")
    back = np.flatnonzero(np.diff(steps) <= 0)
    if back.size:
        one, other = int(back[0]), int(back[0]) + 1
        raise InputError(
            f"{recording.path}: frame {rows[other]} is at step {steps[other]:,}, and frame {rows[one]} before it at "
            f"{steps[one]:,}: files that were put together have frames twice. Take them out, or set interval to count "
            "the frames anew."
        )
    return np.asarray(steps, dtype=np.int64)


def cell_problems(script: Script, atoms: ase.Atoms) -> Iterator[str]:
    """What a PLUMED script asks of a cell that is not there."""
    if atoms.pbc.any():
        return
    for statement in script.statements:
        if statement.action in _OF_THE_CELL:
            yield f"{statement.place}: {statement.action} needs a cell, and the structure is not periodic."


def cell_notes(script: Script, atoms: ase.Atoms) -> Iterator[str]:
    """What a PLUMED script takes for granted of atoms in a cell."""
    if not atoms.pbc.any():
        return
    for statement in script.statements:
        if "NOPBC" in map(str.upper, statement.words):
            yield (
                f"{statement.place}: NOPBC sees atoms where the trajectory has them: it is right where molecules are "
                "whole there"
            )
            return
