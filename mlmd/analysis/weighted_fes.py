"""Free energies from the course of variables, every line weighted by what the bias has done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlmd.analysis.abf import Axis
from mlmd.analysis.biased import Biased
from mlmd.analysis.bumps import add_up
from mlmd.analysis.course import (
    LEFT_OUT,
    N_PARTS,
    Course,
    course_of,
    cut,
    cut_times,
    growth_of_error,
    histogram,
    seen_twice,
)
from mlmd.analysis.grid import Grid
from mlmd.analysis.history_fes import axes_of, hills_of, offset
from mlmd.errors import InputError
from mlmd.io.plumed_table import PlumedTable, check_times, columns_of, read_plumed_table

GROWING = {"METAD", "OPES_METAD", "OPES_METAD_EXPLORE"}
"""Actions whose bias grows, and follows the variable."""
CHANGING = GROWING | {"OPES_EXPANDED"}
"""Actions whose bias changes as the run goes on, and is known line by line."""
UNWEIGHABLE = {"PBMETAD", "ABMD", "EXTENDED_LAGRANGIAN", "DRR", "MOVINGRESTRAINT", "VES_LINEAR_EXPANSION"}
"""Actions whose bias is no function of the variables alone that is known when a line is printed."""


TOO_SHORT = 1.6
"""Growth of the error from fortieths to tenths of the run from which on it is told of; at most it is 2."""
FEW = 100
"""Lines of one weight below which few of them are told of."""


def colvar_of(case: Biased, names: Sequence[str] = ()) -> PlumedTable:
    """The first file with the course of these variables, and of a bias where there is one.

    Raises:
        InputError: when there is none.
        StorageError: when it cannot be read.
    """
    there = [path for path in case.colvars if path.exists()]
    if not there:
        raise InputError(f"{case.path}: there is no file with the course of variables. PLUMED's PRINT writes one.")
    columns = {path: columns_of(path) for path in there}
    fit = [path for path in there if set(names) <= set(columns[path])]
    if not fit:
        table = read_plumed_table(there[0])
        for name in names:
            table[name]  # raises, and says what there is
        return table
    wanted = _changing(case)
    return read_plumed_table(
        max(fit, key=lambda path: (len(wanted & set(columns[path])), any(map(_is_bias, columns[path]))))
    )


def can_be_weighed(case: Biased) -> bool:
    """Whether one file has the course of what is biased, and of every bias that changes."""
    names, biases = biased_variables(case), _changing(case)
    if not names or case.abf is not None or any(one.action in UNWEIGHABLE for one in case.statements):
        return False
    every = map(columns_of, case.colvars)
    return any({*names, *biases} <= set(columns) and any(map(_is_bias, columns)) for columns in every)


def _changing(case: Biased) -> set[str]:
    """Columns of the biases that change."""
    return {f"{one.label}.bias" for one in case.statements if one.action in CHANGING}


def grows_alone(case: Biased) -> None:
    """Refuse a second bias that changes: each then fills what the others leave, and c(t) is not that of one.

    Raises:
        InputError: where there is one.
    """
    several = [one for one in case.statements if one.action in CHANGING]
    if len(several) < 2:
        return
    names = " and ".join(f"{one.action} {one.label}".strip() for one in several)
    way = "Run with one of them." if any(one.action == "METAD" for one in several) else "Give --method reweight."
    raise InputError(
        f"{several[1].place}: {names} grow beside each other, and what one has left does not tell the free energy. "
        f"{way}"
    )


def _is_bias(name: str) -> bool:
    return name.endswith(".bias")


def biased_variables(case: Biased) -> tuple[str, ...]:
    """What the bias acts on: what its history names, else its input, where a bias that grows counts for more."""
    for path in (*case.hills[:1], case.kernels, case.state):
        if path is not None and (columns := columns_of(path)):
            return tuple(name for name in columns if f"sigma_{name}" in columns)
    for actions in (GROWING, {"RESTRAINT"}):
        for one in case.statements:
            if one.action in actions:
                return tuple(one.values("ARG"))
    return ()


def from_weights(
    case: Biased, grid: Grid, names: Sequence[str] = (), first_time: float = -np.inf, last_time: float = np.inf
) -> tuple[Course, np.ndarray, list[str]]:
    """-kT ln of a histogram with weights exp((V - c(t))/kT), V the sum of all biases that are printed.

    c(t) belongs to metadynamics (`offset`); for OPES, restraints and walls it is zero. The first quarter is left out
    where a bias changes, unless `first_time` says from when.

    Args:
        case: files, units and temperature.
        grid: what is asked for.
        names: variables, biased or not; by default those that are biased.
        first_time, last_time: fs.

    Returns:
        The free energy, the times (fs) of the lines that it is of, and remarks.
    """
    if case.abf is not None:
        raise InputError(f"{case.path}: an adaptive biasing force has no energy to be weighed. Leave --method out.")
    for one in case.statements:
        if one.action in UNWEIGHABLE:
            raise InputError(f"{one.place}: the bias of {one.action} cannot be weighed out of a COLVAR file.")
    names = tuple(names) or biased_variables(case)
    table = colvar_of(case, names)
    expanded = any(one.action == "OPES_EXPANDED" for one in case.statements)
    if not expanded:  # which biases none of them
        names = names or tuple(name for name in table.names if name != "time" and "." not in name)[:1]
    if len(set(names)) < len(names):
        raise InputError(f"--cv {' --cv '.join(names)}: a variable is named twice. Name each once.")
    if not 1 <= len(names) <= 3:
        raise InputError(f"{table.path}: which variables? Name one to three with --cv: {', '.join(table.names[1:])}.")
    first, last = max(first_time, case.since), min(last_time, case.until)
    time, samples, axes, lengths, inside = _samples(case, table, names, grid, first, last)
    bias, notes = _bias(case, table, inside)
    history = bool(case.hills) or case.kernels is not None or case.state is not None
    left_out = LEFT_OUT if np.isneginf(first_time) and (history or _changing(case)) else 0.0
    if left_out:
        begin, end = float(time[inside].min()), float(time[inside].max())
        inside &= time >= begin + left_out * (end - begin)
    if case.stage is None and len(case.colvars) > 1:
        notes.append(f"of the files of --colvar the lines of one are weighed: {table.path}")
    if len(case.hills) > 1:
        notes.append(
            f"the lines of one walker of {len(case.hills)} are weighed, with the hills of all: c(t) is right where the "
            "walkers ran at the same time"
        )
    if not case.statements and not history:
        notes.append(
            "without PLUMED's input the bias is taken for one that does not change: of metadynamics give --hills too, "
            "of OPES --kernels"
        )
    logs = (bias[inside] - _offset(case, time[inside])) / case.kt
    weights = np.exp(logs - logs.max())
    n_independent = float(weights.sum() ** 2 / (weights**2).sum())
    if n_independent < FEW:
        notes.append(
            f"the weights of {inside.sum():,} lines are those of {n_independent:.0f} alike: few lines say nearly "
            "everything. Run longer, or print more often"
        )
    part = cut_times(time[inside])
    densities = np.array(
        [histogram(axes, samples[inside][part == n], weights[part == n], lengths) for n in range(N_PARTS)]
    )
    if (growth := growth_of_error(densities)) > TOO_SHORT:
        notes.append(
            f"the error is {growth:.1f} times that of blocks a quarter as long, and still grows: the run goes to and "
            "fro too seldom for its blocks to be independent, and the error told is too small. Run longer"
        )
    notes += where_times_go_back(table.path, time)
    course = seen_twice(course_of(axes, densities, case.kt))
    return replace(course, fractions=left_out + (1.0 - left_out) * course.fractions), time[inside], notes


def where_times_go_back(path: Path, times: np.ndarray) -> list[str]:
    """A remark about the first of the times (n_lines,) fs of a file after which they do, if there is one."""
    return [
        f"{path.name}: times go back after {at / 1e3:g} ps: a run was continued from before its last lines, or two "
        "have written into it. All lines count"
        for at in times[:-1][np.diff(times) < 0][:1]
    ]


def _samples(
    case: Biased, table: PlumedTable, names: Sequence[str], grid: Grid, first: float, last: float
) -> tuple[np.ndarray, np.ndarray, tuple[Axis, ...], list[float | None], np.ndarray]:
    """Times (fs), values in units for people, the grid, lengths of periods, and which lines lie between two times."""
    shown = [case.shown(name) for name in names]
    samples = np.stack([table[name] * size for name, (_, size) in zip(names, shown, strict=True)], axis=1)
    periods = [scaled_period(table.period(name), size) for name, (_, size) in zip(names, shown, strict=True)]
    time = table["time"] * case.units.time
    inside = (time >= first) & (time <= last)
    check_times(table.path, time, inside)
    table.check_finite(names, inside)
    axes = grid.around(names, [unit for unit, _ in shown], samples[inside], periods)
    return time, samples, axes, lengths_of(periods), inside


def scaled_period(period: tuple[float, float] | None, size: float) -> tuple[float, float] | None:
    return None if period is None else (period[0] * size, period[1] * size)


def lengths_of(periods: Sequence[tuple[float, float] | None]) -> list[float | None]:
    return [None if period is None else period[1] - period[0] for period in periods]


def _bias(case: Biased, table: PlumedTable, inside: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(n_lines,) eV, the sum of all biases that are printed, and remarks about those that are not."""
    printed = [name for name in table.names if _is_bias(name)]
    notes = []
    for one in case.statements:
        label = one.label
        acts = one.action in CHANGING | {"RESTRAINT", "UPPER_WALLS", "LOWER_WALLS", "BIASVALUE", "EXTERNAL"}
        if not acts or (label and f"{label}.bias" in printed):
            continue
        if one.action in CHANGING:
            what = f"column {label}.bias" if label else f"bias of {one.action} (a label names its column)"
            raise InputError(f"{table.path} has no {what}. PRINT it, and run again, or `rerun` the frames.")
        notes.append(f"{one.action} {label} is not printed: it counts as a part of the potential".replace("  ", " "))
    if not printed:
        raise InputError(f"{table.path} has no column that ends in .bias, so nothing can be weighed. PRINT the bias.")
    table.check_finite(printed, inside)
    return np.sum([table[name] for name in printed], axis=0) * case.units.energy, notes


def _offset(case: Biased, times: np.ndarray) -> np.ndarray:
    """c(t) of metadynamics at some times, eV; zero without."""
    metadynamics = [one for one in case.statements if one.action == "METAD"]
    if metadynamics:
        grows_alone(case)
    if metadynamics and not case.hills:
        raise InputError(f"{metadynamics[0].place}: c(t) of metadynamics is that of its hills. Give them with --hills.")
    if not case.hills:
        return np.zeros(len(times))
    hills, factor = hills_of(case)
    axes, parts = axes_of(case, hills, Grid()), cut(len(hills), 4 * N_PARTS)
    totals = np.cumsum([add_up(hills, axes, part) for part in parts], axis=0)
    return offset(times, np.array([hills.times[part][-1] for part in parts]), totals, factor, case.kt)
