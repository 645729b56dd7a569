"""The structure factors of a trajectory as a result: what it says, writes and draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import find_peaks

from mlmd.analysis.estimate import Estimate
from mlmd.analysis.scattering.curves import DEFINITIONS, Curve, find
from mlmd.analysis.scattering.experiment import Match
from mlmd.analysis.scattering.weights import Weights
from mlmd.io.frames import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMINENCE = 0.2
"""Of the height of the highest peak above the lowest value: what stands out less is no peak."""
N_ERRORS, N_SPREADS = 4.0, 2.0
"""How many errors, and times the scatter over wavevectors, a peak stands out at least, where they are known."""


@dataclass(frozen=True)
class Peak:
    """A maximum of a curve."""

    q: Estimate
    height: Estimate


@dataclass(frozen=True)
class StructureFactor:
    """Partial and total structure factors."""

    method: str
    """"direct" or "rdf"."""
    weights: Weights
    q: np.ndarray
    """(n_q,) 1/Å; directly, the mean length of the wavevectors of a bin."""
    n_points: np.ndarray | None
    """(n_q,) wavevectors in a bin, of half of the space; None from g(r)."""
    curves: tuple[Curve, ...]
    """Functions of q."""
    r: np.ndarray
    """(n_r,) Å."""
    real_space: tuple[Curve, ...]
    """Functions of r."""
    window: str
    """At the end of transforms."""
    density: float
    """Atoms/Å³."""
    n_frames: int
    """Frames that were used."""
    match: Match | None
    """With an experiment, where there is one."""
    notes: tuple[str, ...]
    provenance: Provenance

    name = "structure-factor"

    @property
    def spread_is(self) -> str:
        """What the spread of a curve is."""
        return "scatter over wavevectors" if self.method == "direct" else "truncation"

    def curve(self, name: str) -> Curve:
        """A curve by its name, as ``"S(q)"``, ``"A Si-O"`` or ``"T(r)"``.

        Raises:
            KeyError: when there is none.
        """
        found = find((*self.curves, *self.real_space), name)
        if found is None:
            raise KeyError(name)
        return found

    def peaks(self, name: str) -> list[Peak]:
        """Maxima of a curve of q that stand out, the first one first."""
        curve = self.curve(name)
        values = curve.values
        where, found = find_peaks(values, prominence=PROMINENCE * float(values.max() - values.min()))
        spread = np.zeros_like(values) if curve.spread is None else curve.spread
        least = np.maximum(N_ERRORS * np.nan_to_num(curve.error), N_SPREADS * np.nan_to_num(spread))
        where = where[found["prominences"] > least[where]]
        step = np.gradient(self.q) if len(self.q) > 1 else np.zeros(1)
        return [
            Peak(
                Estimate(float(self.q[i]), float(step[i] / np.sqrt(12)), "1/Å", np.nan),
                Estimate(float(values[i]), float(curve.error[i]), curve.unit, np.nan),
            )
            for i in where.tolist()
        ]

    def __str__(self) -> str:
        """The first peak of the total, and of every partial; the experiment."""
        lines = [f"{name}: {_first(self.peaks(name))}" for name in self._summarised]
        return "\n".join([*lines, *([] if self.match is None else [str(self.match)]), *self.provenance.notes])

    @property
    def _summarised(self) -> list[str]:
        return ["S(q)", *(one.name for one in self.curves if one.name.startswith("A "))]

    def to_json(self) -> dict[str, Any]:
        """Peaks with errors, definitions, weights and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "method": self.method,
            "radiation": self.weights.radiation,
            "weights": {"source": self.weights.source, "scattering_lengths_fm": dict(self.weights.lengths)},
            "curves": {name: _extremes(self.peaks(name)) for name in self._summarised},
            "peaks": {
                name: [{"q": one.q.to_dict(), "height": one.height.to_dict()} for one in self.peaks(name)]
                for name in self._summarised
            },
            "definitions": self.definitions,
            "spread": self.spread_is,
            "window": self.window,
            "q_range_1/A": [float(self.q[0]), float(self.q[-1])],
            "n_wavevectors": None if self.n_points is None else int(self.n_points.sum()),
            "density_1/A3": self.density,
            "n_frames_used": self.n_frames,
            "experiment": None if self.match is None else self.match.to_json(),
            "notes": list(self.notes),
            "provenance": self.provenance.to_dict(),
        }

    @property
    def definitions(self) -> dict[str, str]:
        """Those of the curves that are here."""
        names = {one.name.split()[0] for one in (*self.curves, *self.real_space)}
        return {name: text for name, text in DEFINITIONS.items() if names & set(name.replace(",", "").split())}

    def to_csv(self) -> str:
        """Curves of q with errors, and beside them, in as many rows as they have, those of r."""
        columns: list[tuple[str, np.ndarray]] = [("q [1/Å]", self.q)]
        if self.n_points is not None:
            columns.append(("wavevectors", self.n_points))
        for one in self.curves:
            columns += [(one.heading, one.values), (f"{one.name} error", one.error)]
            if one.spread is not None:
                columns.append((f"{one.name} {self.spread_is}", one.spread))
        columns.append(("r [Å]", self.r))
        for one in self.real_space:
            columns += [(one.heading, one.values), (f"{one.name} error", one.error)]
        rows = zip_longest(*([f"{value:.8g}" for value in column] for _, column in columns), fillvalue="")
        return "\n".join([",".join(name for name, _ in columns), *(",".join(row) for row in rows)]) + "\n"

    def figure(self) -> Figure:
        """The total with the experiment, partials, and the total in real space."""
        from mlmd.analysis.scattering.figure import structure_factor_figure

        return structure_factor_figure(self)


def _extremes(peaks: list[Peak]) -> dict[str, Any]:
    """The first peak and the highest one, as plain numbers."""
    if not peaks:
        return {"first_peak": None, "height": None, "highest_peak": None, "highest": None}
    highest = max(peaks, key=lambda one: one.height.value)
    return {
        "first_peak": peaks[0].q.to_dict(),
        "height": peaks[0].height.to_dict(),
        "highest_peak": highest.q.to_dict(),
        "highest": highest.height.to_dict(),
    }


def _first(peaks: list[Peak]) -> str:
    return f"first peak {peaks[0].height} at {peaks[0].q.value:.2f} 1/Å" if peaks else "no peak"
