"""What a spread is worth: errors of forces that were seen, against those that were expected.

z = (F - F_label) / s of every component of a force, s the spread of its atom. If the spread is the standard deviation
of the errors, 68 % of |z| are below one where errors are normal, and the root mean square of the errors of atoms with
about the same spread is that spread (Levi, Gispan, Giladi and Fetaya, Sensors 22, 5540, 2022; Tran et al., Mach.
Learn.: Sci. Technol. 1, 025006, 2020).

By how much the spread is too small is told by bins of equally many atoms, in the order of their spread: the geometric
mean of RMSE / spread, by which the curve of the bins is moved onto the diagonal, in logarithms by least squares. √⟨z²⟩
(Musil, Willatt, Langovoy and Ceriotti, J. Chem. Theory Comput. 15, 906, 2019) is the same for normal errors of which
the spread is all there is to know. But errors have a part besides, of what the features cannot tell apart, and z, which
divides by the spread, is then made by the few atoms whose spread is smallest: for copper it was up to three times as
large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.figures import color, label, legend, new_figure, plain_ticks
from mlmd.errors import MlmdError
from mlmd.potentials.uncertainty import SPREAD, Judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlmd.io.labelled import LabelledFrame
    from mlmd.train.evaluate import Labels

_N_BINS = 10
"""At most."""
_IN_BIN = 30
"""Atoms, at least, unless there are fewer in all: their RMSE is known to 7 %."""
_LABELS = 1e-3
"""eV/Å, about to which forces are known from density functional theory."""
_NOTHING = 1e-2
"""Of the error that is usual, where labels are more exact."""


@dataclass(frozen=True)
class Bin:
    """Atoms of about the same spread."""

    n_atoms: int
    spread: float
    """eV/Å, root mean square."""
    rmse: float
    """eV/Å, of components of forces."""


@dataclass(frozen=True)
class Calibration:
    """How the errors of forces follow their spread."""

    n_atoms: int
    factor: float
    """Geometric mean over the bins of RMSE / spread: above one the spread is too small."""
    within_one: float
    """Part of the components with |z| < 1; 0.683 of normal errors whose spread is right."""
    within_two: float
    """Part with |z| < 2; 0.954."""
    n_without: int
    """Atoms that are left out, of which no error to speak of is expected."""
    correlation: float
    """Spearman's, of the spread and the error of atoms: whether it tells the bad ones."""
    bins: tuple[Bin, ...]
    """By ascending spread, equally many atoms each."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def text(self) -> str:
        """A few lines."""
        without = f"; {self.n_without:,} whose forces are zero by symmetry are left out" if self.n_without else ""
        lines = [
            f"Spread of forces, {self.n_atoms:,} atoms{without}: errors are {self.factor:.3g} times the spread "
            "(geometric mean of the rows below; 1 is calibrated)",
            f"within one spread {self.within_one:.1%} (normal 68.3 %), two {self.within_two:.1%} (95.4 %); "
            f"rank correlation with the errors {self.correlation:.2f}",
            f"{'spread':>9} {'RMSE':>9}  meV/Å {'atoms':>9}",
        ]
        return "\n".join(
            [*lines, *(f"{1e3 * b.spread:9.3g} {1e3 * b.rmse:9.3g}        {b.n_atoms:9,}" for b in self.bins)]
        )


def calibrated(
    judge: Judge,
    frames: Sequence[LabelledFrame],
    predictions: Sequence[Labels],
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration | None:
    """Ask about structures with known forces; None when none has forces, or all are too large to ask about.

    Args:
        judge: of a potential that knows a spread.
        frames: (n,) with labels.
        predictions: (n,) of the same structures.
        told: called with the number of structures done and of all.

    Raises:
        InputError: naming the structure, as the judge does.
    """
    spreads, errors = [], []
    for done, (frame, one) in enumerate(zip(frames, predictions, strict=True), 1):
        if frame.forces is not None and judge.fits(len(frame.atoms)):
            try:
                spread = judge(frame.atoms, (SPREAD,)).spread
            except MlmdError as error:
                raise type(error)(f"{frame.source}: {error}") from None
            if spread is not None:
                spreads.append(spread.numpy())
                errors.append(one.forces - frame.forces)
        told(done, len(frames))
    return calibration(np.concatenate(spreads), np.concatenate(errors)) if spreads else None


def calibration(spread: np.ndarray, errors: np.ndarray) -> Calibration | None:
    """From spreads (n_atoms,) and errors of forces (n_atoms, 3), eV/Å; None without an atom of known error.

    Atoms without a label are left out, and those whose expected error, their spread times √(⟨error²⟩ / ⟨spread²⟩), is
    below both what labels are known to and a hundredth of the usual one. Their forces are held near zero by symmetry,
    and what errors they have are the labels' own; in z, which divides by the spread, they would count more than all
    others.
    """
    from scipy.stats import spearmanr

    labelled = np.isfinite(errors).all(axis=1)
    spread, errors = spread[labelled], errors[labelled]
    usual = math.sqrt(float(np.mean(errors**2))) if len(errors) else 0.0
    scale = math.sqrt(float(np.mean(spread**2))) if len(spread) else 0.0
    known = spread * usual > min(_LABELS, _NOTHING * usual) * scale
    n_without = int((~known).sum())
    spread, errors = spread[known], errors[known]
    if not len(spread):
        return None
    z = np.abs(errors / spread[:, None])
    order = np.argsort(spread, kind="stable")
    sizes = np.sqrt(np.mean(errors**2, axis=1))
    bins = tuple(
        Bin(len(own), math.sqrt(float(np.mean(spread[own] ** 2))), math.sqrt(float(np.mean(errors[own] ** 2))))
        for own in np.array_split(order, min(_N_BINS, max(1, len(order) // _IN_BIN)))
    )
    ratios = [one.rmse / one.spread for one in bins if one.rmse > 0]
    varied = len(spread) > 2 and np.ptp(spread) > 0 and np.ptp(sizes) > 0
    return Calibration(
        n_atoms=len(spread),
        factor=math.exp(float(np.mean(np.log(ratios)))) if ratios else 0.0,
        within_one=float(np.mean(z < 1)),
        within_two=float(np.mean(z < 2)),
        n_without=n_without,
        correlation=float(spearmanr(spread, sizes).statistic) if varied else 0.0,
        bins=bins,
    )


def calibration_figure(found: Calibration, title: str) -> Figure:
    """RMSE of forces by spread, in logarithms, beside the diagonal on which a calibrated spread lies."""
    figure, (axes,) = new_figure(1, 1, width=4.2, height=4.0)
    x, y = (np.array([getattr(one, name) for one in found.bins]) * 1e3 for name in ("spread", "rmse"))
    shown = y > 0
    axes.loglog(x[shown], y[shown], "o-", color=color(0), markersize=5, linewidth=1.6, label="atoms by their spread")
    every = np.concatenate([x, y[shown]])
    ends = 0.85 * every.min(), every.max() / 0.85
    axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=(0, (4, 2)), label="equal")
    axes.set(xlim=ends, ylim=ends, aspect="equal")  # how far a point is from the diagonal is seen at a glance
    plain_ticks(axes)
    axes.set_title(title, fontsize=10)
    label(axes, "spread of forces (meV/Å)", "RMSE of force components (meV/Å)")
    legend(axes)
    return figure
