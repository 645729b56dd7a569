"""Free energies from the work of steered runs: averages over runs that were driven out of equilibrium.

With the work W_t that a moving restraint V(z, t) has done until t, in runs that began in equilibrium under V(z, 0),

    ⟨exp(-W_t/kT)⟩ = exp(-ΔF_t/kT)

is exact, however fast it moved (Jarzynski, Phys. Rev. Lett. 78, 2690 (1997)), and so is for the variable itself

    exp(-F(z)/kT) = Σ_t ⟨δ(z - z_t) exp(-W_t/kT)⟩/η_t  /  Σ_t exp(-V(z, t)/kT)/η_t,   η_t = ⟨exp(-W_t/kT)⟩

(Hummer and Szabo, Proc. Natl. Acad. Sci. 98, 3658 (2001)). The averages are ruled by the runs with the least work: when
much more than kT is lost as heat few of many runs count, which is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from mlmd.analysis.abf import Axis
from mlmd.analysis.biased import Biased
from mlmd.analysis.course import N_BLOCKS, Course
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.grid import Grid
from mlmd.analysis.weighted_fes import GROWING, colvar_of, scaled_period
from mlmd.bias.script import before
from mlmd.bias.statement import Statement
from mlmd.errors import InputError
from mlmd.io.plumed_table import PlumedTable, check_times, read_plumed_blocks

FEW = 5.0
"""Runs that the averages need to rest on."""


@dataclass(frozen=True)
class _Pulls:
    """Runs in which a restraint went the same way."""

    work: np.ndarray
    """(n_runs, n_times) eV."""
    values: np.ndarray
    """(n_runs, n_times) of the variable."""
    centres: np.ndarray
    """(n_times,) of the restraint."""
    springs: np.ndarray
    """(n_times,) eV per squared unit."""


def from_work(
    cases: Sequence[Biased], grid: Grid, first_time: float = -np.inf, last_time: float = np.inf
) -> tuple[Course, int, list[str]]:
    """The free energy along a variable that was steered, from one run or better many.

    Groups of runs, at most ten, are left out in turn for the error.

    Args:
        cases: runs whose restraint moves in the same way.
        grid: what is asked for.
        first_time, last_time: fs; the work counts from the beginning in any case.

    Returns:
        The free energy, the number of lines, and remarks.

    Raises:
        InputError: for runs that are not steered, along other ways, or that have not printed their work.
    """
    steered = [_restraint(case) for case in cases]
    name, case = steered[0].values("ARG")[0], cases[0]
    unit, _ = case.shown(name)
    pulls, period, inside = _pulls(cases, steered, name, unit, first_time, last_time)
    length = None if period is None else period[1] - period[0]
    axes = grid.around([name], [unit], pulls.values[:, inside].reshape(-1, 1), [period])
    groups = np.array_split(np.arange(len(cases)), min(N_BLOCKS, len(cases)))

    def profile(runs: np.ndarray) -> np.ndarray:
        return _hummer_szabo(_some(pulls, runs), axes[0], length, case.kt, inside)

    every = np.arange(len(cases))
    left_out = [profile(np.setdiff1d(every, group)) for group in groups] if len(groups) > 1 else []
    so_far = [profile(np.concatenate(groups[: number + 1])) for number in range(len(groups))]
    fractions = np.arange(1, len(groups) + 1) / len(groups)
    course = Course(axes, so_far[-1], np.array(left_out) if left_out else None, fractions, np.array(so_far))
    return course, int(pulls.values[:, inside].size), _in_words(pulls, name, unit, case.kt)


def is_steered(case: Biased) -> bool:
    """Whether a moving restraint is all that has driven the variables of a run."""
    actions = [one.action for one in case.statements]
    return "MOVINGRESTRAINT" in actions and not GROWING.intersection(actions) and case.abf is None


def _restraint(case: Biased) -> Statement:
    found = [one for one in case.statements if one.action == "MOVINGRESTRAINT"]
    if len(found) != 1 or len(found[0].values("ARG")) != 1 or not is_steered(case) or not found[0].label:
        what = ", ".join(one.text[:60] for one in found) or "no MOVINGRESTRAINT"
        raise InputError(
            f"{case.path}: work is told of runs with one MOVINGRESTRAINT of one variable, which has a label, and no "
            f"bias that grows: it has {what}."
        )
    if sides := [side for side in found[0].values("VERSE") if side.upper() != "B"]:
        raise InputError(
            f"{case.path}: VERSE={sides[0]} lets the restraint act from one side, and its work is told for both."
        )
    return found[0]


def _pulls(
    cases: Sequence[Biased], steered: Sequence[Statement], name: str, unit: str, first: float, last: float
) -> tuple[_Pulls, tuple[float, float] | None, np.ndarray]:
    """What the runs have in common in time, the period of the variable, and which times count."""
    columns = []
    for case, restraint in zip(cases, steered, strict=True):
        label = restraint.label
        parts = [f"{label}.{name}_{part}" for part in ("work", "cntr", "kappa")]
        table = colvar_of(case, [name, *parts])
        done = _work_in(table, label, parts[0])
        table.check_finite(["time", name, done, *parts[1:]])
        energy, size = case.units.energy, case.size(unit)
        columns.append([
            table["time"] * case.units.time, table[name] * size, table[done] * energy, table[parts[1]] * size,
            table[parts[2]] * energy / size**2,
        ])  # fmt: skip
        if abs(case.temperature - cases[0].temperature) > 1e-6 * case.temperature:
            raise InputError(
                f"{case.path} is at {case.temperature:g} K, {cases[0].path} at {cases[0].temperature:g} K."
            )
    n_times = min(len(one[0]) for one in columns)
    times, values, work, centres, springs = (np.array([one[k][:n_times] for one in columns]) for k in range(5))
    for case, *others in zip(cases, times, centres, springs, strict=True):
        if not all(
            np.allclose(a, b[0], rtol=1e-5, atol=1e-6) for a, b in zip(others, (times, centres, springs), strict=True)
        ):
            raise InputError(
                f"{case.path}: its restraint does not go the way of that of {cases[0].path}: times, places and springs "
                "have to be the same, and lines printed as often."
            )
    inside = (times[0] >= first) & (times[0] <= last)
    check_times(Path(cases[0].path), times[0], inside)
    period = scaled_period(colvar_of(cases[0], [name]).period(name), cases[0].size(unit))
    return _Pulls(work, values, centres[0], springs[0]), period, inside


def _work_in(table: PlumedTable, label: str, since_start: str) -> str:
    """The column with the work over all starts, which mlmd's own input has; PLUMED knows that of the last start."""
    if f"{label}_work" in table.names:
        return f"{label}_work"
    if len(read_plumed_blocks(table.path)) > 1:
        raise InputError(
            f"{table.path}: the run was continued, and PLUMED counted {since_start} anew. In the PLUMED file write "
            f"`{before(label)}: CONSTANT VALUE=0` and `{label}_work: COMBINE ARG={since_start},{before(label)} "
            f"PERIODIC=NO`, and PRINT {label}_work: mlmd puts the work before in the place of the constant."
        )
    return since_start


def _some(pulls: _Pulls, runs: np.ndarray) -> _Pulls:
    return _Pulls(pulls.work[runs], pulls.values[runs], pulls.centres, pulls.springs)


def _hummer_szabo(pulls: _Pulls, axis: Axis, length: float | None, kt: float, inside: np.ndarray) -> np.ndarray:
    """(n_bins,) eV; nan where no run was."""
    reduced = -pulls.work / kt
    etas = logsumexp(reduced, axis=0) - np.log(len(reduced))
    logs = (reduced - etas)[:, inside] - np.log(len(reduced))
    away = axis.centres[:, None] - pulls.centres[inside]
    if length is not None:
        away -= length * np.rint(away / length)
    held = logsumexp(-0.5 * pulls.springs[inside] * away**2 / kt - etas[inside], axis=1)
    values = pulls.values[:, inside]
    if length is not None:
        values = axis.minimum + (values - axis.minimum) % length
    places = np.floor((values - axis.minimum) / axis.width).astype(int)
    found = np.full(axis.n_bins, np.nan)
    for number in np.unique(places[(places >= 0) & (places < axis.n_bins)]).tolist():
        found[number] = -kt * (logsumexp(logs[places == number]) - held[number])
    return found


def _in_words(pulls: _Pulls, name: str, unit: str, kt: float) -> list[str]:
    """The work to the end of the way, and Jarzynski's estimate of the free energy between its ends."""
    last = pulls.work[:, -1]
    n = len(last)
    way = f"{name} from {pulls.centres[0]:.4g} to {pulls.centres[-1]:.4g} {unit}".rstrip()
    if n == 1:
        return [
            f"work to bring {way}: {last[0]:.4g} eV; one run tells its work, of which the free energy is a part: give "
            "the folders of several runs with other seeds"
        ]
    between = _jarzynski(last, kt)
    without = np.array([_jarzynski(np.delete(last, one), kt) for one in range(n)])
    error = float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))
    mean = Estimate(float(last.mean()), float(last.std(ddof=1) / np.sqrt(n)), "eV", float(n))
    weights = np.exp(-(last - last.min()) / kt)
    counting = float(weights.sum() ** 2 / (weights**2).sum())
    notes = [
        f"work to bring {way}, mean of {n} runs: {mean}; by Jarzynski's equality "
        f"{Estimate(between, error, 'eV', float(n))} are free energy of the restrained system, the rest is heat"
    ]
    if counting < FEW:
        notes.append(
            f"the average of exp(-W/kT) rests on {counting:.1f} of {n} runs: steer more slowly, or give more runs"
        )
    return notes


def _jarzynski(work: np.ndarray, kt: float) -> float:
    """-kT ln ⟨exp(-W/kT)⟩, eV."""
    return float(-kt * (logsumexp(-work / kt) - np.log(len(work))))
