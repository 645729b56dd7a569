"""Thermal conductivity out of equilibrium: heat of a known power between two slabs, and the gradient that it makes.

    κ = P / (2 A |dT/dz|)

with P the power that the hot slab gets and the cold one loses, A the area of the cell, and 2 because the heat goes
both ways round (Ikeshoji and Hafskjold, Mol. Phys. 81, 251, 1994). T(z) is from the kinetic energies of slabs, both
ways averaged; the line is fitted without the slabs that exchange heat and some beside them, where T is not linear.

The beginning, before the flow is steady, is left out up to where the most independent values of the gradient remain
(Chodera, J. Chem. Theory Comput. 12, 1799, 2016). The error is from the autocorrelation of the gradient.

In a crystal carriers of heat come from slab to slab without a collision where the cell is short: runs of several
lengths L give 1/κ = (1/κ_∞) (1 + λ/L) (Schelling, Phillpot, Keblinski, Phys. Rev. B 65, 144306, 2002).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd import units
from mlmd.analysis.columns import csv_of
from mlmd.analysis.estimate import Estimate, average
from mlmd.analysis.finite_length import Extrapolation, extrapolated
from mlmd.analysis.once import check_each_once
from mlmd.errors import InputError
from mlmd.io.frames import Provenance
from mlmd.io.slab_temperatures import SlabTemperatures, read_slabs
from mlmd.rundir import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNIT = "W/(m K)"
SKIP = 1
"""Slabs beside those that exchange heat, on each side, that are not in the fit."""
STARTS = np.linspace(0.0, 0.5, 11)
"""Shares of the stage that may be left out at its beginning."""
FEW = 10.0
"""Independent values of the gradient below which its error is not known."""
CLEAR = 4.0
"""Standard errors by which two numbers differ clearly."""
BENT = 0.2
"""Of the gradient: as much may it change along the line."""
STEEP = 0.5
"""Of the temperature: as far apart may the ends of the line be."""


@dataclass(frozen=True)
class Flow:
    """The flow of heat in one run."""

    axis: str
    power: float
    """eV/fs."""
    length: float
    """Å, of the cell along the axis: twice the way from the hot slab to the cold one."""
    area: float
    """Å²."""
    volume_per_atom: float
    """Å³."""
    distances: np.ndarray
    """(n,) Å, from the hot slab to the middles of others, the cold one last."""
    temperatures: np.ndarray
    """(n,) K."""
    errors: np.ndarray
    """(n,) K, nan where not known."""
    fitted: np.ndarray
    """(n,) bool, which are on the line."""
    gradient: Estimate
    """K/Å, negative: away from the hot slab."""
    temperature: Estimate
    """K, mean of the line."""
    conductivity: Estimate
    first_time: float
    """fs since the beginning of the run, from which on the flow is taken to be steady."""
    notes: tuple[str, ...]
    provenance: Provenance

    @property
    def line(self) -> np.ndarray:
        """(n,) K, where the fitted line is at all distances."""
        middle = self.distances[self.fitted].mean()
        line: np.ndarray = self.temperature.value + self.gradient.value * (self.distances - middle)
        return line

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, and provenance."""
        return {
            "axis": self.axis,
            "conductivity": self.conductivity.to_dict(),
            "gradient": self.gradient.to_dict(),
            "temperature": self.temperature.to_dict(),
            "power": Estimate(1e3 * self.power, 0.0, "eV/ps", math.nan).to_dict(),
            "length_A": self.length,
            "area_A2": self.area,
            "steady_from_ps": self.first_time / 1e3,
            "provenance": {**asdict(self.provenance), "counted": "lines of temperatures"},
        }


@dataclass(frozen=True)
class NEMDResult:
    """The thermal conductivity of one system by one run, or by several."""

    flows: tuple[Flow, ...]
    conductivity: Estimate
    """Of an infinite length where runs have several lengths, else their mean."""
    extrapolation: Extrapolation | None
    notes: tuple[str, ...]

    name = "nemd"

    def __str__(self) -> str:
        """The conductivity, and those of runs."""
        each = [
            f"L = {one.length:.4g} Å, {one.temperature}: κ = {one.conductivity}, gradient {one.gradient}"
            for one in self.flows
        ]
        where = "" if self.extrapolation is None else " of an infinite length"
        return "\n".join([f"thermal conductivity{where} {self.conductivity}", *each, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors and provenance; the profiles are in the CSV file."""
        found = [one.to_json() for one in self.flows]
        told: dict[str, Any] = {"analysis": self.name, "conductivity": self.conductivity.to_dict()}
        if self.extrapolation is not None:
            told["mean_free_path"] = self.extrapolation.path.to_dict()
        if len(found) == 1:
            told |= {key: value for key, value in found[0].items() if key != "conductivity"}
        else:
            told |= {"runs": found, "provenance": None}
        return {**told, "notes": list(self.notes)}

    def to_csv(self) -> str:
        """Temperatures against the distance from the hot slab, with the fitted lines."""
        names = ["distance [Å]", "temperature [K]", "temperature error", "line [K]"]
        rows = [(one.distances, one.temperatures, one.errors, one.line) for one in self.flows]
        columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        if len(self.flows) > 1:
            names.append("run")
            columns.append(np.repeat(np.arange(1, len(rows) + 1), [len(one.distances) for one in self.flows]))
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """Profiles with lines, and the extrapolation where there is one."""
        from mlmd.analysis.nemd_figure import nemd_figure

        return nemd_figure(self)


def nemd(
    runs: Sequence[Run | Path | str] | Run | Path | str, *, stage: int | None = None, first_time: float | None = None,
    last_time: float | None = None, skip: int = SKIP,
) -> NEMDResult:  # fmt: skip
    """The thermal conductivity from runs in which heat was exchanged between slabs.

    Args:
        runs: run folders; of several lengths κ is extrapolated, else averaged.
        stage: number of the stage, counted from 1; by default the last that exchanges heat.
        first_time, last_time: fs since the beginning of the run; by default all after the flow has become steady.
        skip: slabs beside those that exchange heat, on each side, that are not in the fit.

    Raises:
        InputError: for runs without an exchange of heat or of different states, the same run twice, and where fewer
            than three slabs are left for a line.
    """
    given = [runs] if isinstance(runs, Run | Path | str) else list(runs)
    series = [read_slabs(one, stage, first_time, last_time) for one in given]
    flows = tuple(flow(one, skip, chosen=first_time is not None) for one in series)
    _check_same_state(flows)
    notes = [f"{Path(one.provenance.path).name}: {note}" if len(flows) > 1 else note
             for one in flows for note in one.notes]  # fmt: skip
    if len(flows) == 1:
        notes.append(
            f"this is κ of a cell of L = {flows[0].length:.4g} Å: that of a crystal grows with L; give runs of several "
            "lengths to extrapolate. In a liquid it does not, from some ten distances of atoms on"
        )
        return NEMDResult(flows, flows[0].conductivity, None, tuple(notes))
    value, line, more = extrapolated([one.length for one in flows], [one.conductivity for one in flows])
    return NEMDResult(flows, value, line, (*notes, *more))


def flow(series: SlabTemperatures, skip: int = SKIP, *, chosen: bool = False) -> Flow:
    """The flow of heat in a series of temperatures of slabs.

    Args:
        series: of one run.
        skip: as in `nemd`.
        chosen: whether the beginning was chosen, and nothing more is to be left out.

    Raises:
        InputError: when fewer than three slabs are left for a line, or a slab is empty throughout.
    """
    half = series.kinetic.shape[1] // 2
    fitted = np.zeros(half + 1, dtype=bool)
    fitted[1 + skip : half - skip] = True
    if fitted.sum() < 3:
        raise InputError(
            f"{2 * half} slabs, {skip} of them left out beside those that exchange heat: {int(fitted.sum())} are left "
            "for a line, and it needs three. Leave out fewer (--skip), or run with more slabs."
        )
    distances = series.length / (2 * half) * np.arange(half + 1)
    ways = _ways(_temperatures(series))
    around = distances[fitted] - distances[fitted].mean()
    weights = around / (around @ around)
    gradients = ways[:, :, fitted] @ weights
    begin = 0 if chosen else _steady(gradients.mean(axis=0))
    ways, gradients = ways[:, begin:], gradients[:, begin:]
    folded = ways.mean(axis=0)
    gradient = average(gradients.mean(axis=0), "K/Å", least=FEW)
    errors = np.array([average(one, "K", least=FEW).error for one in folded.T])
    origin = series.provenance
    n_atoms = float(series.counts.sum(axis=1).mean())
    return Flow(
        axis=series.axis, power=series.power, length=series.length, area=series.area,
        volume_per_atom=series.length * series.area / n_atoms,
        distances=distances, temperatures=folded.mean(axis=0), errors=errors, fitted=fitted, gradient=gradient,
        temperature=average(folded[:, fitted].mean(axis=1), "K"),
        conductivity=_conductivity(series, gradient), first_time=origin.first_time + begin * origin.interval,
        notes=(*origin.notes, *_notes(gradient, gradients, folded[:, fitted], around, begin / series.kinetic.shape[0])),
        provenance=origin,
    )  # fmt: skip


def _temperatures(series: SlabTemperatures) -> np.ndarray:
    """(n_times, n_slabs) K.

    T = 2 ⟨K⟩ / (3 k_B ⟨n⟩), which a moment moves by (2 K / 3 k_B - n T) / ⟨n⟩: the mean of 2 K / 3 k_B n itself would
    need atoms in the slab at all times. The momentum of the whole, which is at rest, takes a share of every slab.
    """
    kinetic, counts = series.kinetic, series.counts
    if not counts.any(axis=0).all():
        raise InputError(
            f"{series.provenance.path}: slab {int(np.argmin(counts.any(axis=0)))} along {series.axis} never has an "
            "atom, and a gradient needs all. Run with fewer slabs."
        )
    n_atoms = counts.sum(axis=1).mean()
    twice = 2.0 / (3.0 * units.KB) * n_atoms / (n_atoms - 1.0) * kinetic
    mean = twice.sum(axis=0) / counts.sum(axis=0)
    temperatures: np.ndarray = mean + (twice - counts * mean) / counts.mean(axis=0)
    return temperatures


def _ways(temperatures: np.ndarray) -> np.ndarray:
    """(2, n_times, n_slabs / 2 + 1) from the hot slab to the cold one, on both sides."""
    half = temperatures.shape[1] // 2
    back = np.concatenate([temperatures[:, :1], temperatures[:, : half - 1 : -1]], axis=1)
    return np.stack([temperatures[:, : half + 1], back])


def _steady(gradients: np.ndarray) -> int:
    """The first time (an index) after which the most independent values of the gradient remain."""
    begins = [int(share * len(gradients)) for share in STARTS]
    remaining = [average(gradients[begin:], "").n_independent for begin in begins]
    return begins[int(np.argmax(remaining))]


def _conductivity(series: SlabTemperatures, gradient: Estimate) -> Estimate:
    """From the gradient; not determined where that is not seen."""
    if gradient.value >= 0.0 or gradient.consistent_with_zero:
        return Estimate(math.nan, math.nan, UNIT, gradient.n_independent)
    value = units.W_PER_MK * series.power / (2.0 * series.area * -gradient.value)
    return Estimate(value, value * gradient.error / -gradient.value, UNIT, gradient.n_independent)


def _notes(
    gradient: Estimate, ways: np.ndarray, line: np.ndarray, around: np.ndarray, left_out: float
) -> Iterator[str]:  # fmt: skip
    """What to know of a line: gradients on both ways (2, n_times), temperatures on it (n_times, n), places (n,) Å."""
    if left_out > 0.0:
        yield f"{left_out:.0%} at the beginning were left out, in which the flow became steady"
    if left_out >= STARTS[-1]:
        yield "the flow may not have become steady: run longer, or choose where it is with --from"
    if not math.isfinite(gradient.error):
        yield "the gradient remembers itself for more than a tenth of the time: its error is not known. Run longer"
    elif gradient.value >= 0.0 or gradient.consistent_with_zero:
        yield f"no gradient is seen ({gradient}): run longer, or with more power"
        return
    one, other = (average(each, "K/Å", least=FEW) for each in ways)
    if abs(one.value - other.value) > CLEAR * math.hypot(one.error, other.error):
        yield (
            f"the gradients on both sides differ, {one} and {other}: the system is not the same on both, or the flow "
            "is not steady"
        )
    squares = around**2 - np.polyval(np.polyfit(around, around**2, 1), around)
    bend = average(line @ squares / (squares @ squares), "K/Å²", least=FEW)
    change = 2.0 * bend.value * np.ptp(around)
    if abs(bend.value) > CLEAR * bend.error and abs(change) > BENT * abs(gradient.value):
        yield (
            f"the profile is bent: its gradient changes by {abs(change / gradient.value):.0%} along the line. Leave "
            "out more slabs (--skip), or take less power"
        )
    reach = abs(gradient.value) * np.ptp(around) / line.mean()
    if reach > STEEP:
        yield f"temperatures on the line differ by {reach:.0%} of their mean: κ is one of all of these. Take less power"


def _check_same_state(flows: Sequence[Flow]) -> None:
    """Runs that are put together are of one substance in one state."""
    if not flows:
        raise InputError("no run is given.")
    check_each_once([Path(one.provenance.path).resolve() for one in flows])
    first = flows[0]
    for other in flows[1:]:
        for what, one, two, apart in (
            ("temperature (K)", first.temperature.value, other.temperature.value, 0.05),
            ("volume of an atom (Å³)", first.volume_per_atom, other.volume_per_atom, 0.01),
        ):
            if abs(one - two) > apart * one:
                raise InputError(
                    f"{first.provenance.path} and {other.provenance.path} differ in {what}: {one:.5g} and {two:.5g}. "
                    "Runs that are put together are of one substance in one state; analyse others each for itself."
                )
