"""Umbrella windows put together by MBAR."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from mlmd.analysis.abf import Axis
from mlmd.analysis.biased import Biased
from mlmd.analysis.course import N_BLOCKS, Course, from_density, histogram, seen_twice
from mlmd.analysis.grid import Grid
from mlmd.analysis.weighted_fes import CHANGING, UNWEIGHABLE, colvar_of, lengths_of, scaled_period
from mlmd.errors import InputError
from mlmd.io.plumed_table import check_times

MOST_LINES = 60_000
"""Lines of all windows that are used."""
OVERLAP = 0.03
"""Least share of a window's samples that another explains, for the two to be connected (Klimovich, Shirts, Mobley,
J. Comput. Aided Mol. Des. 29, 397 (2015))."""
INSTALL_HINT = "Install it with `pip install 'mlmd[umbrella]'` or `pip install 'pymbar>=4'`."


@dataclass(frozen=True)
class _Window:
    """One umbrella."""

    samples: np.ndarray
    """(n, n_dim)."""
    centre: np.ndarray
    spring: np.ndarray
    """(n_dim,) eV per squared unit."""


def from_umbrellas(
    cases: Sequence[Biased], grid: Grid, first_time: float = -np.inf, last_time: float = np.inf
) -> tuple[Course, int, list[str]]:
    """All umbrellas together by MBAR (Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)), by pymbar.

    Each is left out of the same blocks in time, and MBAR solved again, for the error.

    Raises:
        InputError: without pymbar, for windows of different variables or temperatures, and for other biases.
    """
    names = _common_variables(cases)
    tables = [colvar_of(case, names) for case in cases]
    shown = [cases[0].shown(name) for name in names]
    periods = [scaled_period(tables[0].period(name), size) for name, (_, size) in zip(names, shown, strict=True)]
    windows, notes = [], list[str]()
    most = max(2, MOST_LINES // len(cases))
    for case, table in zip(cases, tables, strict=True):
        time = table["time"] * case.units.time
        within = (time >= max(first_time, case.since)) & (time <= min(last_time, case.until))
        check_times(table.path, time, within)
        table.check_finite(names, within)
        inside = np.flatnonzero(within)
        if len(inside) > most:
            inside = inside[np.linspace(0, len(inside) - 1, most).astype(int)]
            notes = [f"of every window {most:,} lines at equal distances are used at most"]
        sizes = np.array([case.size(unit) for unit, _ in shown])  # the UNITS of each window are its own
        values = np.stack([table[name] * size for name, size in zip(names, sizes, strict=True)], axis=1)
        windows.append(_Window(values[inside], *_spring(case, names, sizes)))
        notes += [f"{case.path}: {one}" for one in _others(case)]
    axes = grid.around(names, [unit for unit, _ in shown], np.concatenate([one.samples for one in windows]), periods)
    kt = cases[0].kt
    lengths = lengths_of(periods)
    values, guess, connected = _mbar(windows, axes, lengths, kt, None)
    n_lines = sum(len(one.samples) for one in windows)
    if not connected:
        notes.append("the windows do not all overlap: the free energy between groups of them means nothing")
        return Course(axes, values, None, np.ones(1), values[None]), n_lines, list(dict.fromkeys(notes))
    n_blocks = min(N_BLOCKS, *(len(one.samples) for one in windows))
    left_out, so_far = [], []
    cuts = [np.array_split(np.arange(len(one.samples)), n_blocks) for one in windows]
    for block in range(n_blocks):
        rest = [np.concatenate([c for n, c in enumerate(cut_) if n != block]) for cut_ in cuts]
        up_to = [np.concatenate(cut_[: block + 1]) for cut_ in cuts]
        left_out.append(_mbar(_of(windows, rest), axes, lengths, kt, guess)[0])
        so_far.append(_mbar(_of(windows, up_to), axes, lengths, kt, guess)[0])
    fractions = np.arange(1, n_blocks + 1) / n_blocks
    course = seen_twice(Course(axes, values, np.array(left_out), fractions, np.array(so_far)))
    return course, n_lines, list(dict.fromkeys(notes))


def _of(windows: Sequence[_Window], which: Sequence[np.ndarray]) -> list[_Window]:
    return [_Window(one.samples[rows], one.centre, one.spring) for one, rows in zip(windows, which, strict=True)]


def _common_variables(cases: Sequence[Biased]) -> tuple[str, ...]:
    found = []
    for case in cases:
        restraints = [one for one in case.statements if one.action == "RESTRAINT"]
        others = [one for one in case.statements if one.action in CHANGING | UNWEIGHABLE]
        if len(restraints) != 1 or others or case.abf is not None:
            what = ", ".join(one.action for one in [*restraints, *others]) or "no RESTRAINT"
            raise InputError(f"{case.path} is no umbrella window, which has one RESTRAINT: it has {what}.")
        found.append(tuple(restraints[0].values("ARG")))
    for case, names in zip(cases, found, strict=True):
        if names != found[0]:
            raise InputError(
                f"{case.path} restrains {', '.join(names)}, {cases[0].path} {', '.join(found[0])}: windows are of the "
                "same variables."
            )
        if abs(case.temperature - cases[0].temperature) > 1e-6 * case.temperature:
            raise InputError(
                f"{case.path} is at {case.temperature:g} K, {cases[0].path} at {cases[0].temperature:g} K."
            )
    return found[0]


def _spring(case: Biased, names: Sequence[str], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (one,) = (one for one in case.statements if one.action == "RESTRAINT")
    if any(float(slope) for slope in one.values("SLOPE")):
        raise InputError(f"{one.place}: a SLOPE is not weighed. Use KAPPA alone.")
    try:
        centre, spring = (np.array([float(text) for text in one.values(key)]) for key in ("AT", "KAPPA"))
    except ValueError:
        raise InputError(f"{one.place}: AT and KAPPA are to be numbers. It reads: {one.text[:200]}") from None
    if len(centre) != len(names) or len(spring) != len(names):
        raise InputError(f"{one.place}: AT and KAPPA need a number for each variable. It reads: {one.text[:200]}")
    return centre * sizes, spring * case.units.energy / sizes**2


def _others(case: Biased) -> list[str]:
    """Biases besides the umbrella."""
    walls = [one.action for one in case.statements if one.action in ("UPPER_WALLS", "LOWER_WALLS", "BIASVALUE")]
    return [f"{action} counts as a part of the potential" for action in walls]


def _mbar(
    windows: Sequence[_Window], axes: tuple[Axis, ...], lengths: Sequence[float | None], kt: float,
    guess: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, bool]:  # fmt: skip
    """The free energy (eV) on a grid, those of the windows (kT), and whether all windows overlap."""
    try:
        logging.getLogger("pymbar").setLevel(logging.ERROR)  # it greets with advice about other of its parts
        from pymbar import MBAR
    except ImportError:
        raise InputError(f"umbrellas are put together by pymbar, which is not installed. {INSTALL_HINT}") from None
    samples = np.concatenate([one.samples for one in windows])
    reduced = np.zeros((len(windows), len(samples)))
    for row, one in enumerate(windows):
        off = samples - one.centre
        for column, length in enumerate(lengths):
            if length is not None:
                off[:, column] -= length * np.rint(off[:, column] / length)
        reduced[row] = 0.5 * (off**2 @ one.spring) / kt
    counts = np.array([len(one.samples) for one in windows])
    # Newton's method alone: the usual way hands options to SciPy that it warns about
    mbar = MBAR(
        reduced,
        counts,
        initial_f_k=guess,
        solver_protocol=({"method": "adaptive", "options": {"min_sc_iter": 0, "maxiter": 500}},),
    )
    free = np.asarray(mbar.f_k)
    logs = -logsumexp(free[:, None] - reduced, b=counts[:, None], axis=0)
    values = from_density(histogram(axes, samples, np.exp(logs - logs.max()), lengths), kt)
    overlap = np.exp(free[:, None] - reduced + logs)  # (n_windows, n) weights of each window's samples
    shared = (overlap @ overlap.T) * counts
    return values, free, connected_components(shared > OVERLAP)[0] == 1
