"""What stops a run whose physics has failed, and what is left for the person to look at."""

from __future__ import annotations

import math
from pathlib import Path

import ase
import ase.io
import numpy as np
from scipy.stats import chi2

from mlmd.config import Guard, Simulate
from mlmd.engine.outputs import Snapshot, to_atoms
from mlmd.errors import SimulationError
from mlmd.neighbors import find_pairs
from mlmd.potentials.hdnnp import is_folder
from mlmd.rundir import CRASH

LOOK_EVERY = 50
"""Steps between looks at the temperature."""
LOOK_AGAIN = 10
"""Steps to the next look after one that was too hot."""
CHANCE = 1e-12
"""Probability at which a system in equilibrium may be hotter than the limit: the limit is never below that."""
ADVICE = (
    "Try a shorter timestep, a minimize stage first, or a potential that knows such configurations; "
    "see also [guard] in the input."
)


def question(config: Simulate) -> str:
    """What to ask where forces are too large for a structure that is right: what no file says.

    A potential of n2p2 names its elements and not its units; of others it is at most the other way round.
    """
    doubts: dict[str, None] = {}  # a set that keeps its order
    for table in config.potential:
        if table.path is not None and is_folder(table.path):
            given = " and ".join(f'{key} = "{table.options.get(key)}"' for key in ("length", "energy"))
            doubts[f"are {given} the units of its training data"] = None
        else:
            doubts["are the elements of the potential in the order of its file"] = None
    return ", ".join([*doubts, "are the lengths of the structure in Å?"])


class Thermometer:
    """Stops a run that is above its largest temperature and still is `LOOK_AGAIN` steps later."""

    def __init__(self, guard: Guard, n_dof: int) -> None:
        """`guard` is the table of the input, `n_dof` the degrees of freedom of the system."""
        self._guard = guard
        self.count(n_dof)
        self._was_above = False
        self.next_look = 0
        """Global step from which on the temperature is to be looked at again."""

    def count(self, n_dof: int) -> None:
        """Say over how many degrees of freedom the temperature is taken."""
        # few atoms are now and then many times hotter than their bath: χ² with n_dof degrees of freedom
        self._chance = float(chi2.isf(CHANCE, n_dof)) / n_dof if n_dof else math.inf

    def look(self, temperature: float, target: float | None, step: int, time: float) -> None:
        """Look at the temperature (K) at a global step and time (fs); `target` in K, None without a thermostat.

        Raises:
            SimulationError: when it was above the limit at this look and the one before.
        """
        limit = self._limit(target)
        above = limit is not None and not temperature <= limit
        if above and self._was_above:
            raise SimulationError(
                f"temperature {temperature:.3g} K at step {step:,} ({time / 1e3:g} ps), above the limit of {limit:g} K "
                f"([guard] max_temperature) for {LOOK_AGAIN} steps."
            )
        self._was_above = above
        self.next_look = step + (LOOK_AGAIN if above else LOOK_EVERY)

    def _limit(self, target: float | None) -> float | None:
        wanted = self._guard.max_temperature
        if not self._guard.enabled or wanted is None:
            return None
        if isinstance(wanted, float):
            return wanted
        multiple = self._guard.temperature_limit(target) if target else None
        return None if multiple is None or target is None else max(multiple, self._chance * target)


def check_distances(
    positions: np.ndarray, cell: np.ndarray, template: ase.Atoms, guard: Guard, step: int, time: float
) -> None:
    """Look for two atoms that are nearer than atoms can be: a potential may have a hole there and say nothing.

    Args:
        positions: (n_atoms, 3) Å.
        cell: (3, 3) Å.
        template: elements and periodicity.
        guard: of the input.
        step: global.
        time: fs.

    Raises:
        SimulationError: when there are such; names the nearest two.
    """
    limit = guard.min_distance
    if limit is None:
        return
    pairs, shifts = find_pairs(positions, cell, template.pbc, limit)
    if not pairs.shape[1]:
        return
    vectors = positions[pairs[1]] + shifts @ cell - positions[pairs[0]]
    lengths = np.linalg.norm(vectors, axis=1)
    nearest = int(lengths.argmin())
    i, j = (int(index) for index in pairs[:, nearest])
    if lengths[nearest] >= limit:
        return
    raise SimulationError(
        f"atoms {i} ({template.symbols[i]}) and {j} ({template.symbols[j]}, counted from 0) are "
        f"{lengths[nearest]:.3g} Å apart at step {step:,} ({time / 1e3:g} ps), nearer than [guard] min_distance = "
        f"{limit:g} Å."
    )


def save_crash(
    folder: Path, template: ase.Atoms, good: Snapshot | None, bad: Snapshot | None, message: str, advice: str = ""
) -> str:
    """Leave the last good and the bad frame, where there are such, and the explanation in the crash folder.

    Returns:
        The message, where the frames are, and the advice.
    """
    crash = folder / CRASH
    crash.mkdir(exist_ok=True)
    path = crash / "last.extxyz"
    frames = [to_atoms(snapshot, template) for snapshot in (good, bad) if snapshot is not None]
    for frame in frames:
        if (
            frame.calc is not None
            and "forces" in frame.calc.results
            and not np.all(np.isfinite(frame.calc.results["forces"]))
        ):
            frame.info["note"] = "forces are not finite"
    if frames:
        ase.io.write(path, frames, format="extxyz")
    else:
        path.unlink(missing_ok=True)  # of a crash before

    def told(name: Path) -> str:
        which = ("", f"The last frame is in {name}.", f"The last good and the bad frame are in {name}.")[len(frames)]
        return " ".join(one for one in (message, which, advice) if one)

    (crash / "why.txt").write_text(told(path.relative_to(folder)) + "\n")
    return told(path)
