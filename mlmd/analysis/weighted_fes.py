"""Free energies from the course of variables, every line weighted by what the bias has done to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlmd.analysis.abf import Axis
from mlmd.analysis.biased import Biased
from mlmd.analysis.bumps import add_up
from mlmd.analysis.course import LEFT_OUT, N_PARTS, Course, course_of, cut, cut_times, histogram, seen_twice
from mlmd.analysis.grid import Grid
from mlmd.analysis.history_fes import axes_of, hills_of, offset
from mlmd.errors import InputError
from mlmd.io.plumed_table import PlumedTable, read_plumed_table

GROWING = {"METAD", "OPES_METAD", "OPES_METAD_EXPLORE"}
"""Actions whose bias grows, and follows the variable."""
UNWEIGHABLE = {
    "PBMETAD", "ABMD", "EXTENDED_LAGRANGIAN", "DRR", "MOVINGRESTRAINT", "VES_LINEAR_EXPANSION", "OPES_EXPANDED"
}  # fmt: skip
"""Actions whose bias is no function of the variables alone that is known when a line is printed."""


def colvar_of(case: Biased, names: Sequence[str] = ()) -> PlumedTable:
    """The first file with the course of these variables, and of a bias where there is one.

    Raises:
        InputError: when there is none.
        StorageError: when it cannot be read.
    """
    there = [path for path in case.colvars if path.exists()]
    if not there:
        raise InputError(f"{case.path}: there is no file with the course of variables. PLUMED's PRINT writes one.")
    tables = [read_plumed_table(path) for path in there]
    fit = [table for table in tables if all(name in table.names for name in names)]
    if not fit:
        tables[0][next(name for name in names if name not in tables[0].names)]  # raises, and says what there is
    biased = [table for table in fit if any(name.endswith(".bias") for name in table.names)]
    return (biased or fit)[0]


def biased_variables(case: Biased) -> tuple[str, ...]:
    """What the bias acts on, in the order of its input."""
    for one in case.statements:
        if one.action in GROWING | {"RESTRAINT"}:
            return tuple(one.values("ARG"))
    return ()


def from_weights(
    case: Biased, grid: Grid, names: Sequence[str] = (), first_time: float = -np.inf, last_time: float = np.inf
) -> tuple[Course, int, list[str]]:
    """-kT ln of a histogram with weights exp((V - c(t))/kT), V the sum of all biases that are printed.

    c(t) belongs to metadynamics (`offset`); for OPES, restraints and walls it is zero. The first quarter is left out
    where a bias grows, unless `first_time` says from when.

    Args:
        case: files, units and temperature.
        grid: what is asked for.
        names: variables, biased or not; by default those that are biased.
        first_time, last_time: fs.

    Returns:
        The free energy, the number of lines, and remarks.
    """
    if case.abf is not None:
        raise InputError(f"{case.path}: an adaptive biasing force has no energy to be weighed. Leave --method out.")
    for one in case.statements:
        if one.action in UNWEIGHABLE:
            raise InputError(f"{one.place}: the bias of {one.action} cannot be weighed out of a COLVAR file.")
    names = tuple(names) or biased_variables(case)
    table = colvar_of(case, names)
    names = names or tuple(name for name in table.names if name != "time" and "." not in name)[:1]
    if not 1 <= len(names) <= 3:
        raise InputError(f"{table.path}: which variables? Name one to three with --cv: {', '.join(table.names[1:])}.")
    time, samples, axes, inside = _samples(case, table, names, grid, first_time, last_time)
    bias, notes = _bias(case, table)
    if np.isneginf(first_time) and (case.hills or any(one.action in GROWING for one in case.statements)):
        inside &= time >= time[0] + LEFT_OUT * (time[-1] - time[0])
    logs = (bias[inside] - _offset(case, grid, time[inside])) / case.kt
    weights = np.exp(logs - logs.max())
    n_independent = float(weights.sum() ** 2 / (weights**2).sum())
    if n_independent < 100:
        notes.append(f"the weights are those of {n_independent:.0f} lines: few lines have nearly all the weight")
    part = cut_times(time[inside])
    densities = np.array([histogram(axes, samples[inside][part == n], weights[part == n]) for n in range(N_PARTS)])
    return seen_twice(course_of(axes, densities, case.kt)), int(inside.sum()), notes


def _samples(
    case: Biased, table: PlumedTable, names: Sequence[str], grid: Grid, first: float, last: float
) -> tuple[np.ndarray, np.ndarray, tuple[Axis, ...], np.ndarray]:
    """Times (fs), values in units for people, the grid, and which lines lie between two times."""
    shown = [case.shown(name) for name in names]
    samples = np.stack([table[name] * size for name, (_, size) in zip(names, shown, strict=True)], axis=1)
    periods = [scaled_period(table.period(name), size) for name, (_, size) in zip(names, shown, strict=True)]
    time = table["time"] * case.units.time
    inside = (time >= first) & (time <= last)
    if inside.sum() < 2:
        raise InputError(f"{table.path}: fewer than two lines lie between --from and --to.")
    axes = grid.around(names, [unit for unit, _ in shown], samples[inside], periods)
    return time, samples, axes, inside


def scaled_period(period: tuple[float, float] | None, size: float) -> tuple[float, float] | None:
    return None if period is None else (period[0] * size, period[1] * size)


def _bias(case: Biased, table: PlumedTable) -> tuple[np.ndarray, list[str]]:
    """(n_lines,) eV, the sum of all biases that are printed, and remarks about those that are not."""
    printed = [name for name in table.names if name.endswith(".bias")]
    notes = []
    for one in case.statements:
        label = one.label
        acts = one.action in GROWING | {"RESTRAINT", "UPPER_WALLS", "LOWER_WALLS", "BIASVALUE", "EXTERNAL"}
        if not acts or (label and f"{label}.bias" in printed):
            continue
        if one.action in GROWING:
            raise InputError(
                f"{table.path} has no column {label}.bias. PRINT it, and run again, or `rerun` the frames."
            )
        notes.append(f"{one.action} {label} is not printed: it counts as a part of the potential".replace("  ", " "))
    if not printed:
        raise InputError(f"{table.path} has no column that ends in .bias, so nothing can be weighed. PRINT the bias.")
    return np.sum([table[name] for name in printed], axis=0) * case.units.energy, notes


def _offset(case: Biased, grid: Grid, times: np.ndarray) -> np.ndarray:
    """c(t) of metadynamics at some times, eV; zero without."""
    if not case.hills:
        return np.zeros(len(times))
    hills, factor = hills_of(case)
    axes, parts = axes_of(case, hills, Grid()), cut(len(hills), 4 * N_PARTS)
    totals = np.cumsum([add_up(hills, axes, part) for part in parts], axis=0)
    return offset(times, np.array([hills.times[part][-1] for part in parts]), totals, factor, case.kt)
