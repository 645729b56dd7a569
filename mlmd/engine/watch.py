"""What a potential says of its own errors in the course of a run: numbers for the log and the frames, and a stop.

Nothing of it reaches the dynamics: a run that is watched is the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ase
import numpy as np

from mlmd.config import Guard
from mlmd.engine.job import Job
from mlmd.errors import SimulationError
from mlmd.potentials import Potential
from mlmd.potentials.uncertainty import BREAKS, EXTRAPOLATES, GRADE, SPREAD, Judge, Uncertainty, largest

COLUMNS = {SPREAD: "max spread [eV/Å]", GRADE: "max grade"}
"""What is added to the log, where the potential knows it."""
SPREAD_EVERY = 10
"""Lines of the log from one spread to the next by default: it costs as much as some tens of steps."""


class Watch:
    """Asks a potential that knows of its errors; one for all stages of a run."""

    def __init__(
        self,
        potential: Potential,
        numbers: np.ndarray,
        pbc: np.ndarray,
        guard: Guard,
        tell: Callable[[str], None],
        device: str = "cpu",
    ) -> None:
        """
        Args:
            potential: of the run.
            numbers: (n_atoms,) atomic numbers.
            pbc: (3,) bool.
            guard: of the input.
            tell: who is told.
            device: where the potential computes.
        """
        self._judge, self._guard, self._tell = Judge(potential, device), guard, tell
        self._atoms = ase.Atoms(numbers, pbc=pbc)
        self._fits, self._told_of_size = True, False
        self._see_size()
        self.knows: Sequence[str] = [name for name in self._judge.knows if self._fits or name != SPREAD]
        self.columns = [COLUMNS[name] for name in self.knows]
        self._told = 0.0

    def follow(self, numbers: np.ndarray) -> None:
        """Other atoms (n_atoms,) atomic numbers are there from now on."""
        self._atoms = ase.Atoms(numbers, pbc=self._atoms.pbc)
        self._see_size()

    def _see_size(self) -> None:
        """Say it when there are too many atoms for a spread, from now on."""
        fits, n_atoms = self._judge.fits(len(self._atoms)), len(self._atoms)
        if not fits and SPREAD in self._judge.knows and not self._told_of_size:
            self._told_of_size = True
            self._tell(f"the spread of forces is not told: for {n_atoms:,} atoms it needs too much memory.")
        self._fits = fits

    def look(self, positions: np.ndarray, cell: np.ndarray, *, spread: bool) -> Uncertainty:
        """Spread, where it is asked for, and grade of atoms at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        self._atoms.set_cell(cell)
        self._atoms.set_positions(positions)
        return self._judge(self._atoms, [name for name in self.knows if (spread and self._fits) or name != SPREAD])

    def row(self, found: Uncertainty) -> list[float]:
        """The columns of the log: the largest of all atoms, nan where it was not asked for."""
        of_columns = {SPREAD: found.spread, GRADE: found.grade}
        return [largest(of_columns[name]) for name in self.knows]

    def check(self, found: Uncertainty, step: int, time: float) -> None:
        """Warn of extrapolation once, and once more where it is far; stop above the limits of the guard.

        Args:
            found: at this step.
            step: global.
            time: fs.

        Raises:
            SimulationError: above a limit.
        """
        limits = {SPREAD: self._guard.max_spread, GRADE: self._guard.max_grade}
        units = {SPREAD: " eV/Å", GRADE: ""}
        for name, values in ((SPREAD, found.spread), (GRADE, found.grade)):
            limit = limits[name] if self._guard.enabled else None
            if values is not None and limit is not None and not largest(values) <= limit:
                worst = int(values.argmax())
                raise SimulationError(
                    f"the {name} of atom {worst} ({self._atoms.symbols[worst]}, counted from 0) is "
                    f"{float(values[worst]):.3g}{units[name]} at step {step:,} ({time / 1e3:g} ps), above [guard] "
                    f"max_{name} = {limit:g}{units[name]}: the potential has not learned such surroundings. Label this "
                    "structure and train on it too."
                )
        if found.grade is not None:
            self._warn(largest(found.grade), int(found.grade.argmax()), step, time)

    def _warn(self, grade: float, atom: int, step: int, time: float) -> None:
        crossed = max((limit for limit in (EXTRAPOLATES, BREAKS) if grade > limit), default=0.0)
        if crossed <= self._told:
            return
        self._told = crossed
        what = "extrapolates" if crossed < BREAKS else "extrapolates far"
        stops = self._guard.enabled and self._guard.max_grade is not None
        advice = "" if crossed < BREAKS or stops else f" [guard] max_grade = {BREAKS:g} would stop here."
        self._tell(
            f"the potential {what}: at step {step:,} ({time / 1e3:g} ps) the grade of atom {atom} "
            f"({self._atoms.symbols[atom]}, counted from 0) is {grade:.3g}, above {crossed:g}.{advice}"
        )


def watch_of(job: Job, tell: Callable[[str], None], device: str = "cpu") -> Watch | None:
    """A watch, where the potential knows anything of its errors, which is of whole systems and not of mixed ones."""
    if job.mixed is not None:
        return None
    watch = Watch(job.potential, job.body.numbers, job.body.pbc, job.config.guard, tell, device)
    return watch if watch.knows else None
