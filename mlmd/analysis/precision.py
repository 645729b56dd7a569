"""How well a quantity is known while a run goes on: its value, its relative error, and whether to believe that.

An error that is looked at again and again is believed at last when it happens to come out small. What is asked here
makes that rare: enough independent data, and for D a straight MSD, two halves that agree, and atoms that go somewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlmd.analysis.diffusion import HOP, ElementDiffusion, diffusion
from mlmd.analysis.estimate import Estimate, average
from mlmd.config.stop import CONDUCTIVITY, OF_LOG, Stop
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.log import read_log
from mlmd.io.trajectories import open_run
from mlmd.rundir import Run

LEAST = 10
"""Independent windows, or values, below which an error is not believed."""
_UNITS = {"density": "g/cm³", "volume": "Å³", "temperature": "K"}


@dataclass(frozen=True)
class Known:
    """What is known of a quantity."""

    name: str
    estimate: Estimate
    doubt: str | None
    """Why its error is not to be believed; None where it is."""

    def __str__(self) -> str:
        """The value, its relative error and the doubt."""
        if not self.estimate.determined:
            return f"{self.name} is not determined: {self.doubt}"
        error = f"its relative error is {self.relative_error:.2g}" if math.isfinite(self.relative_error) else ""
        words = ", ".join(filter(None, (f"{self.name} = {self.estimate}", error)))
        return words + (f" ({self.doubt})" if self.doubt else "")

    @property
    def relative_error(self) -> float:
        """Standard error over value; nan where it is not known."""
        return self.estimate.error / abs(self.estimate.value) if self.estimate.value else math.nan

    def good(self, relative_error: float) -> bool:
        """Whether it is known as well as this, without a doubt."""
        return self.doubt is None and self.relative_error <= relative_error


def precision_of(
    run: Run, stage: int, time: float, stop: Stop, *, charges: Mapping[str, float], drift: str | Sequence[str]
) -> Known:  # fmt: skip
    """What the frames of a stage, or its lines of the log, tell until a time.

    Args:
        run: its folder, in which a run may go on.
        stage: number, counted from 1.
        time: fs since the beginning of the run.
        stop: which quantity.
        charges: e, by element, for a conductivity.
        drift: what is taken to be at rest.
    """
    if stop.in_log:
        return _of_log(run, stage, time, stop.quantity)
    return of_frames(open_run(run, stage, last_time=time), stop, charges=charges, drift=drift)


def of_frames(
    trajectory: Trajectory, stop: Stop, *, charges: Mapping[str, float], drift: str | Sequence[str]
) -> Known:  # fmt: skip
    """What the frames of a trajectory tell of D or a conductivity (arguments as for `precision_of`)."""
    name = CONDUCTIVITY if stop.element is None else f"D({stop.element})"
    elements = None if stop.element is None else [stop.element]
    try:
        found = diffusion(trajectory, elements=elements, charges={} if elements else charges, drift=drift)
    except InputError as error:
        return Known(name, Estimate(math.nan, math.nan, "", math.nan), str(error))
    if elements:
        one = found.species[0]
        return Known(name, one.coefficient, _doubt(one, trajectory.n_frames))
    if found.collective is None or not found.collective.conductivity.determined:
        why = "; ".join(found.notes) or "no ion with a charge diffuses yet"
        return Known(name, Estimate(math.nan, math.nan, "S/cm", math.nan), why)
    doubts = (_doubt(one, trajectory.n_frames) for one in found.species if charges.get(one.element))
    own = found.collective.line
    few = None if own is None else _few(trajectory.n_frames / own.first_lag)
    return Known(name, found.collective.conductivity, few or next(filter(None, doubts), None))


def _of_log(run: Run, stage: int, time: float, quantity: str) -> Known:
    log = read_log(run.log)
    # times of the log have ten digits
    rows = (log["stage"] == stage) & (log["time [ps]"] * 1e3 <= time * (1.0 + 1e-9))
    mean = average(log[OF_LOG[quantity]][rows], _UNITS[quantity])
    return Known(quantity, mean, _few(mean.n_independent))


def _doubt(one: ElementDiffusion, n_frames: int) -> str | None:
    """Why the error of D is not to be believed."""
    if one.line is None:
        return "no diffusive regime yet"
    if (few := _few(n_frames / one.line.first_lag)) is not None:
        return few
    reached = math.sqrt(one.msd.total[one.line.last_lag])
    if reached < HOP:
        return f"atoms move by only {reached:.2f} Å within the fit, less than a hop"
    return None if one.line.steady else "the first and the second half of the stage disagree"


def _few(n: float) -> str | None:
    """Words where there are too few independent windows or values."""
    return None if n >= LEAST else f"of {math.floor(n)} independent parts, and {LEAST} are needed"
