"""Free energies from what a bias has deposited: hills of metadynamics, kernels of OPES, forces of ABF."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from mlmd.analysis.abf import AdaptiveForces, Axis, read_tables, together
from mlmd.analysis.biased import Biased
from mlmd.analysis.bumps import Bumps, add_up, bumps_of, natural_axes, scaled
from mlmd.analysis.course import LEFT_OUT, N_BLOCKS, N_PARTS, Course, course_of, cut, from_density, normalised
from mlmd.analysis.grid import Grid
from mlmd.bias.doubts import KERNELS_END, SHORT, of_early_ends, other_temperature
from mlmd.bias.extended import EXTENDED
from mlmd.errors import InputError
from mlmd.io.plumed_table import PlumedTable, check_times, constants_of, read_plumed_blocks, read_plumed_table


def hills_of(case: Biased, last_time: float = np.inf) -> tuple[Bumps, float]:
    """The hills of all walkers in the order of time, in units for people and fs, and γ (inf without tempering).

    Raises:
        InputError: when files belong to different biases, or to another than the PLUMED input has.
    """
    if not case.hills:
        raise InputError(f"{case.path}: there are no hills of metadynamics.")
    tables = [read_plumed_table(path) for path in case.hills]
    for table in tables:
        if "kernel_cutoff" in table.constants:
            raise InputError(f"{table.path} has kernels of OPES, and no hills. Give it with --kernels, or --state.")
    every = [bumps_of(table) for table in tables]
    for table, bumps in zip(tables, every, strict=True):
        if bumps.names != every[0].names:
            raise InputError(
                f"{table.path} has hills of {', '.join(bumps.names)}, {tables[0].path} of {', '.join(every[0].names)}."
            )
    _check_arguments(case, every[0].names, ("METAD",), tables[0].path)
    factors = np.concatenate([table["biasf"] if "biasf" in table.names else np.ones(len(table)) for table in tables])
    if np.ptp(factors) > 1e-6 * abs(factors[0]):  # PLUMED writes -1 for hills of one height
        raise InputError(f"{tables[0].path}: hills of different bias factors ({factors.min():g} to {factors.max():g}).")

    def joined(key: str) -> np.ndarray:
        return np.concatenate([getattr(one, key) for one in every])

    together = replace(
        every[0], times=joined("times"), centres=joined("centres"), widths=joined("widths"), heights=joined("heights")
    )
    order = np.argsort(together.times, kind="stable")
    order = order[together.times[order] * case.units.time <= last_time]
    if not len(order):
        begin = together.times.min() * case.units.time / 1e3
        raise InputError(f"{tables[0].path}: no hill lies before --to: the first is of {begin:g} ps.")
    return _shown(case, _taken(together, order)), float(factors[0]) if factors[0] > 1.0 else np.inf


def _taken(bumps: Bumps, which: np.ndarray) -> Bumps:
    return replace(
        bumps, times=bumps.times[which], centres=bumps.centres[which], widths=bumps.widths[which],
        heights=bumps.heights[which],
    )  # fmt: skip


def _shown(case: Biased, bumps: Bumps, *, energies: bool = True) -> Bumps:
    sizes = [case.shown(name)[1] for name in bumps.names]
    return replace(scaled(bumps, sizes, case.units.energy if energies else 1.0), times=bumps.times * case.units.time)


def _check_arguments(case: Biased, names: Sequence[str], actions: Sequence[str], path: Path) -> None:
    for one in case.statements:
        wanted = one.values("ARG")
        if one.action in actions and not any(set(arg) & set("*(") for arg in wanted) and tuple(wanted) != tuple(names):
            raise InputError(
                f"{path} is of {', '.join(names)}, and {one.place} biases {', '.join(wanted)}: it is another run's."
            )


def of_other_temperatures(case: Biased, actions: Set[str]) -> list[str]:
    """Remarks about growing biases whose TEMP is not that of the run, which what they leave is made for."""
    told = ((one, other_temperature(one, case.temperature)) for one in case.statements if one.action in actions)
    return [
        f"{one.place}: {one.action} has TEMP={kelvin:g}, and the run {case.temperature:g} K: what it has left is made "
        "for another temperature, and does not tell the free energy of this run"
        for one, kelvin in told
        if kelvin is not None
    ]


def of_short_kernels(case: Biased) -> list[str]:
    """A remark about kernels of OPES that end where they are still high: see `mlmd.bias.doubts`."""
    for path in (case.kernels, case.state):
        text = constants_of(path).get("kernel_cutoff", "") if path is not None else ""
        with contextlib.suppress(ValueError):
            if float(text) < SHORT:
                return [f"{path}: {of_early_ends(float(text))} Say KERNEL_CUTOFF={KERNELS_END} next time"]
    return []


def axes_of(case: Biased, bumps: Bumps, grid: Grid) -> tuple[Axis, ...]:
    """The grid that is asked for, and what hills or kernels need where nothing is."""
    return grid.refine(natural_axes(bumps, [case.shown(name)[0] for name in bumps.names]))


def from_hills(case: Biased, grid: Grid, first_time: float = -np.inf, last_time: float = np.inf) -> tuple[Course, int]:
    """F = -γ/(γ-1) V of well-tempered metadynamics, and F = -⟨V⟩ over time without tempering.

    The file has hills already scaled by γ/(γ-1). The places of the hills are samples under the bias, and the bias
    where a hill was placed follows from its height; weighted by exp((V - c(t))/kT), blocks of them tell the error, with
    the motion of the bias in the second half of the run, which the last hills make.
    Without tempering the average leaves a beginning out, and its blocks tell the error (Bussi and Laio, Nat. Rev.
    Phys. 2, 200 (2020)).

    Args:
        case: files, units and temperature.
        grid: what is asked for.
        first_time: fs; before, hills count for the bias, not for average and error.
        last_time: fs.

    Returns:
        The free energy, and the number of hills.
    """
    hills, factor = hills_of(case, last_time)
    axes, parts = axes_of(case, hills, grid), cut(len(hills))
    totals = np.cumsum([add_up(hills, axes, part) for part in parts], axis=0)
    so_far = np.where(totals > 0, -totals, np.nan)
    ends = np.array([hills.times[part][-1] for part in parts])
    first = max(int(LEFT_OUT * len(parts)), int(np.searchsorted(ends, first_time)))
    if first >= len(parts):
        raise InputError(
            f"{case.hills[0]}: no hill lies after --from, and before --to: the last is of {hills.times[-1] / 1e3:g} ps."
        )
    if np.isinf(factor):
        return _untempered(axes, so_far, first), len(hills)
    bias = -(factor - 1.0) * case.kt * np.log(hills.heights / hills.heights[0])
    weights = np.exp((bias - offset(hills.times, ends, totals, factor, case.kt)) / case.kt)
    samples = replace(hills, heights=weights / hills.widths.prod(axis=1))
    densities = np.array([add_up(samples, axes, part) for part in parts])
    return course_of(axes, densities, case.kt, first=first, values=so_far[-1], so_far=so_far), len(hills)


def _untempered(axes: tuple[Axis, ...], so_far: np.ndarray, first: int) -> Course:
    used = so_far[first:]
    blocks = [block.mean(axis=0) for block in np.array_split(used, min(N_BLOCKS, len(used)))]
    left_out = [np.mean([b for number, b in enumerate(blocks) if number != n], axis=0) for n in range(len(blocks))]
    n = len(so_far)
    means = np.array([so_far[int(LEFT_OUT * end) : end].mean(axis=0) for end in range(1, n + 1)])
    means[-1] = used.mean(axis=0)
    return Course(axes, means[-1], np.array(left_out) if len(blocks) > 1 else None, np.arange(1, n + 1) / n, means)


def offset(times: np.ndarray, ends: np.ndarray, totals: np.ndarray, factor: float, kt: float) -> np.ndarray:
    """c(t), eV: what a growing bias has that says nothing of the free energy.

    exp(c/kT) = ∫ exp[γ/(γ-1) V/kT] ds / ∫ exp[1/(γ-1) V/kT] ds (Tiwary and Parrinello, J. Phys. Chem. B 119, 736
    (2015)), at the ends of parts and linear in time between.

    Args:
        times: (n,) when it is wanted.
        ends: (n_parts,) in the same unit.
        totals: (n_parts, *shape) eV, γ/(γ-1) V at these times.
        factor: γ, inf without tempering.
        kt: eV.
    """
    flat = totals.reshape(len(totals), -1)
    whole = logsumexp(flat / kt, axis=1) - logsumexp(flat / (factor * kt), axis=1)
    return np.interp(times, np.concatenate([[0.0], ends]), np.concatenate([[0.0], kt * whole]))


def from_kernels(
    case: Biased, grid: Grid, first_time: float = -np.inf, last_time: float = np.inf
) -> tuple[Course, int]:
    """F = -kT ln P with P the sum of the kernels that OPES has deposited (Invernizzi, Parrinello, J. Phys. Chem. Lett.
    11, 2731 (2020)).

    Kernels blur what they estimate, which belongs to the error (`_blur`).
    Those of the exploring variant add up to what is sampled, F = -γ kT ln P (J. Chem. Theory Comput. 18, 3988 (2022));
    its error is told as that of metadynamics, from blocks weighted by exp(V/kT) and the motion of F.
    """
    if case.kernels is None:
        raise InputError(f"{case.path}: there are no kernels of OPES.")
    table = read_plumed_table(case.kernels)
    kernels = _kernels(case, table, case.kernels)
    within = (kernels.times >= first_time) & (kernels.times <= last_time)
    check_times(case.kernels, kernels.times, within, 1, "kernels")
    inside = np.flatnonzero(within)
    kernels = _taken(kernels, inside)
    axes, parts = axes_of(case, kernels, grid), cut(len(kernels))
    sums = np.array([add_up(kernels, axes, part) for part in parts])
    blur = _blur(kernels, axes, sums.sum(axis=0), case.kt)
    if "EXPLORE" not in table.constants.get("action", ""):
        return replace(course_of(axes, sums, case.kt), blur=blur), len(kernels)
    factor, logs = table.number("biasfactor"), table["logweight"][inside]
    so_far = np.array([from_density(one, factor * case.kt) for one in np.cumsum(sums, axis=0)])
    samples = replace(kernels, heights=kernels.heights * np.exp(logs - logs.max()))
    densities = np.array([add_up(samples, axes, part) for part in parts])
    first = int(LEFT_OUT * len(parts))
    course = course_of(axes, densities, case.kt, first=first, values=so_far[-1], so_far=so_far)
    return replace(course, blur=factor * blur), len(kernels)


def _blur(kernels: Bumps, axes: Sequence[Axis], density: np.ndarray, kt: float) -> np.ndarray:
    """What the width of kernels has done to a free energy: (*shape) eV.

    A density is a smooth function of the variance of its kernels. It is carried on from once, twice and three times
    the variance to none by a parabola, and no farther down than to a tenth.
    """
    heights, n_dim = kernels.heights, kernels.widths.shape[1]  # of one volume, whatever the width
    twice, thrice = (
        add_up(replace(kernels, widths=n**0.5 * kernels.widths, heights=heights / n ** (0.5 * n_dim)), axes)
        for n in (2, 3)
    )
    sharp = 3.0 * density - 3.0 * twice + thrice
    return from_density(density, kt) - from_density(np.maximum(sharp, 0.1 * density), kt)


def _kernels(case: Biased, table: PlumedTable, path: Path) -> Bumps:
    if not np.isfinite(table.number("kernel_cutoff")):
        raise InputError(f"{path} is no file of OPES: SET kernel_cutoff is missing.")
    kernels = bumps_of(table, cutoff=table.number("kernel_cutoff"))
    _check_arguments(case, kernels.names, ("OPES_METAD", "OPES_METAD_EXPLORE"), path)
    return _shown(case, kernels, energies=False)


def from_state(case: Biased, grid: Grid) -> tuple[Course, int]:
    """The compressed kernels of the last STATE; that of the exploring variant has P of what is sampled, F = -γ kT ln P.

    A state does not tell its error; several in one file (STORE_STATES) tell how it has converged.
    """
    if case.state is None:
        raise InputError(f"{case.path}: OPES has written no STATE.")
    blocks = [block for block in read_plumed_blocks(case.state) if len(block)]
    if not blocks:
        raise InputError(f"{case.state} has no kernels yet. Wait for the run, or run longer.")
    every = [_kernels(case, block, case.state) for block in blocks]
    axes = axes_of(case, every[-1], grid)
    factor = blocks[-1].number("biasfactor") if "EXPLORE" in blocks[-1].constants.get("action", "") else 1.0
    so_far = np.array([from_density(add_up(one, axes), factor * case.kt) for one in every])
    fractions = np.array([one.times[0] for one in every]) / every[-1].times[0]
    return Course(axes, so_far[-1], None, fractions, so_far), len(every[-1])


def from_forces(cases: Sequence[Biased]) -> tuple[Course, AdaptiveForces]:
    """The free energy of an adaptive biasing force, which several walkers may have collected together.

    Blocks of their histories, one of one walker left out in turn, tell the error.

    Raises:
        InputError: when there are no tables, or they cannot be added up.
    """
    runs = [_tables_of(case) for case in cases]
    _check_springs(cases)
    whole = together([tables[-1] for tables in runs])
    left_out = []
    for tables in runs:
        n_blocks = min(max(2, N_BLOCKS // len(runs)), len(tables))
        edges = np.unique(np.linspace(0, len(tables), n_blocks + 1).astype(int))
        left_out += [
            normalised(_without(whole, tables[b - 1], tables[a - 1] if a else None).free_energy, cases[0].kt)
            for a, b in pairwise(edges.tolist())
        ]
    longest = max(runs, key=len)
    so_far = [
        together([tables[-(-number * len(tables) // len(longest)) - 1] for tables in runs]).free_energy
        for number in range(1, len(longest) + 1)
    ]
    fractions = np.array([table.step for table in longest]) / max(longest[-1].step, 1)
    errors = np.array(left_out) if len(left_out) > 2 else None
    return Course(whole.axes, whole.free_energy, errors, fractions, np.array(so_far)), whole


def _tables_of(case: Biased) -> list[AdaptiveForces]:
    """The history of one run, and its newest table at the end."""
    if case.abf is None:
        raise InputError(f"{case.path}: there is no table of adaptive biasing forces.")
    if not case.abf.exists():
        raise InputError(f"{case.abf} does not exist yet: it is written at every checkpoint. Wait for the run.")
    *_, newest = read_tables(case.abf)
    return _some(case.abf.with_name(case.abf.name.replace(".dat", "_history.dat")), newest)


def _check_springs(cases: Sequence[Biased]) -> None:
    """Mean forces of extended variables belong to a spring."""

    def springs(case: Biased) -> list[str]:
        return [one.text for one in case.statements if one.label.endswith(f"{EXTENDED}_spring")]

    for case in cases[1:]:
        if springs(case) != springs(cases[0]):
            raise InputError(
                f"{case.path} and {cases[0].path} have extended variables on different springs, and their forces "
                f"cannot be added up: {'; '.join(springs(case))}, and {'; '.join(springs(cases[0]))}."
            )


def _some(history: Path, newest: AdaptiveForces) -> list[AdaptiveForces]:
    """About as many tables of the history as a run has parts, and the newest."""
    if not history.exists() or not history.stat().st_size:
        return [newest]
    n = sum(1 for _ in read_tables(history))
    wanted = set(np.linspace(0, n - 1, min(n, N_PARTS)).astype(int).tolist())
    found = [table for number, table in enumerate(read_tables(history)) if number in wanted]
    return [table for table in found if table.step < newest.step] + [newest]


def _without(all_of_it: AdaptiveForces, end: AdaptiveForces, start: AdaptiveForces | None) -> AdaptiveForces:
    """Samples and mean forces without what was collected between two moments."""

    def sums(table: AdaptiveForces) -> np.ndarray:
        return np.asarray(table.samples * table.forces)

    before = 0.0 if start is None else start.samples
    samples = np.maximum(all_of_it.samples - end.samples + before, 0.0)
    kept = sums(all_of_it) - sums(end) + (0.0 if start is None else sums(start))
    forces = np.where(samples > 0, kept / np.maximum(samples, 1.0), 0.0)
    return AdaptiveForces(
        all_of_it.axes, all_of_it.temperature, all_of_it.step, all_of_it.time, samples, forces, all_of_it.extended
    )
