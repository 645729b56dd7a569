"""What a run learns of the errors of its potential, in files: DeePMD's table, and structures that are worth a label.

Deviations have the meaning of DP-GEN (Zhang et al., Comput. Phys. Commun. 253, 107206, 2020): below `low` a structure
is accurate, from `low` to `high` a candidate for a label, from `high` on it has failed: too strange to learn from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import ase
import numpy as np

from mlmd.config import UncertaintyLimits
from mlmd.engine.outputs import AppendOnly, ExtXYZ, Snapshot
from mlmd.errors import SimulationError
from mlmd.io.extxyz import open_extxyz
from mlmd.potentials.uncertainty import Uncertainty, largest

MODEL_DEVI, CANDIDATES = "model_devi.out", "candidates.extxyz"
ACCURATE, CANDIDATE, FAILED = range(3)
_COLUMNS = tuple(f"{which}_devi_{what}" for what in "vf" for which in ("max", "min", "avg"))


class ModelDevi(AppendOnly):
    """model_devi.out as DeePMD writes it: step, deviations of the virial (eV per atom) and of the forces (eV/Å)."""

    def header(self) -> bytes:
        """Names of the columns."""
        return ("#" + "step".rjust(11) + "".join(name.rjust(19) for name in _COLUMNS) + "\n").encode()

    def row(self, step: int, virial: np.ndarray, forces: np.ndarray) -> None:
        """Add a row: deviations of the nine components of the virial, and of the forces on all atoms (n_atoms,)."""
        numbers = (
            virial.max(), virial.min(), math.sqrt(float(np.mean(virial**2))), forces.max(), forces.min(), forces.mean(),
        )  # fmt: skip
        self.append((f"{step:12d}" + "".join(f"{number:19.6e}" for number in numbers) + "\n").encode())
        self._file.flush()


class Deviations:
    """Writes both files of a run folder, and warns or stops at the limits."""

    def __init__(
        self, folder: Path, limits: UncertaintyLimits, template: ase.Atoms, tell: Callable[[str], None]
    ) -> None:
        """Take the run folder, the table of the input, numbers and periodicity, and who is told."""
        self._limits, self._tell, self._folder, self._template = limits, tell, folder, template
        self._table: ModelDevi | None = None
        self._frames: ExtXYZ | None = None
        self._n_candidates = _count(folder / CANDIDATES) if limits.collect else 0
        self._told = ACCURATE

    def follow(self, template: ase.Atoms) -> None:
        """Other atoms are there from now on."""
        self._template = template
        if self._frames is not None:
            self._frames.follow(template)

    def take(self, found: Uncertainty, snapshot: Snapshot) -> None:
        """Write what was found of a moment.

        Args:
            found: by the potential.
            snapshot: the same moment, with spread and grade of the atoms.

        Raises:
            SimulationError: at or above `high`, where the input wants to stop there.
        """
        if found.deviation is not None:
            if self._table is None:
                self._table = ModelDevi(self._folder / MODEL_DEVI)
            self._table.row(snapshot.step, found.deviation.virial.numpy(), found.deviation.forces.numpy())
        verdict = self._judge(found)
        if verdict == CANDIDATE and self._limits.collect and self._n_candidates < self._limits.max_candidates:
            if self._frames is None:
                self._frames = ExtXYZ(self._folder / CANDIDATES, self._template)
            self._frames.frame(snapshot)
            self._n_candidates += 1
        if verdict > self._told:
            self._told = verdict
            self._warn(verdict, found, snapshot)
        if verdict == FAILED and self._limits.above == "stop":
            raise SimulationError(
                f"the {_words(found)} at step {snapshot.step:,} ({snapshot.time / 1e3:g} ps): above the upper limit of "
                "[uncertainty]. Label structures of this run (mlmd select, mlmd label) and train on them too."
            )

    def _judge(self, found: Uncertainty) -> int:
        """The worse of the verdicts on forces and on grades."""
        limits, verdict = self._limits, ACCURATE
        for value, low, high in (
            (deviation_of_forces(found), limits.low, limits.high),
            (largest(found.grade), limits.low_grade, limits.high_grade),
        ):
            if high is not None and value >= high:
                verdict = FAILED
            elif low is not None and value >= low:
                verdict = max(verdict, CANDIDATE)
        return verdict

    def _warn(self, verdict: int, found: Uncertainty, snapshot: Snapshot) -> None:
        which = "lower" if verdict == CANDIDATE else "upper"
        self._tell(
            f"the {_words(found)} at step {snapshot.step:,} ({snapshot.time / 1e3:g} ps): for the first time above the "
            f"{which} limit of [uncertainty]"
        )

    def commit(self) -> None:
        """Make everything written so far durable."""
        for file in (self._table, self._frames):
            if file is not None:
                file.commit()

    def close(self) -> None:
        """Close the files."""
        for file in (self._table, self._frames):
            if file is not None:
                file.close()


def deviation_of_forces(found: Uncertainty) -> float:
    """eV/Å: DeePMD's ``max_devi_f`` of a committee, else the largest spread; nan where neither is known."""
    return largest(found.spread if found.deviation is None else found.deviation.forces)


def _words(found: Uncertainty) -> str:
    known = (
        ("largest deviation of a force is {:.3g} eV/Å", deviation_of_forces(found)),
        ("largest grade is {:.3g}", largest(found.grade)),
    )
    return " and the ".join(text.format(value) for text, value in known if not math.isnan(value))


def _count(path: Path) -> int:
    """Frames of a file of ours, which may differ in size."""
    return open_extxyz(path, varying=True).n_frames if path.exists() else 0
