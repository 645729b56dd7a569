"""The conductivity of ions that know of each other, and how far it is from that of ions that do not.

With the charge displacement P(t) = Σ q_i [r_i(t) - r_i(0)] of all ions, the Einstein relation of the current is

    σ = lim d/dt ⟨|P(s + t) - P(s)|²⟩ / (6 V k_B T),

the same as Green and Kubo's integral of the current. One number for a trajectory of any size, and not one for each
ion, it is known far less well than D. Beside it stand the Haven ratio H = σ_NE / σ, 1 for ions that are independent,
less where they push each other along; and the transference numbers t_α = Σ_β σ_αβ / σ, the part of the current that
each species carries with its correlations to the others, as seen from what is taken to be at rest (Onsager
coefficients: Fong, Self, McCloskey, Persson, Macromolecules 2021, 54, 2575).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlmd import units
from mlmd.analysis.einstein import Line, error_of, fit_diffusive, fit_from, same_line
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.msd import AXES, MSD, msd_of_path
from mlmd.analysis.unwrap import drift_path, unwrapped
from mlmd.io.frames import Trajectory

_NEUTRAL = 1e-6
"""e"""


@dataclass(frozen=True)
class Collective:
    """Conduction by all ions together."""

    conductivity: Estimate
    """σ, S/cm."""
    along: Mapping[str, Estimate]
    """σ_xx, σ_yy, σ_zz, S/cm."""
    haven: Estimate | None
    """σ_NE / σ; None where either is missing."""
    transference: Mapping[str, Estimate]
    """By element; empty where one element carries all."""
    line: Line | None
    msd: MSD
    """⟨|ΔP|²⟩, e² Å²."""
    notes: tuple[str, ...]


def collective_conduction(
    trajectory: Trajectory, charges: Mapping[str, float], drift: str | Sequence[str], temperature: float,
    carriers: Mapping[str, tuple[Line, MSD]],
) -> Collective:  # fmt: skip
    """Conductivity, Haven ratio and transference numbers of a trajectory.

    A current of charges that do not add up to zero depends on what is at rest. The missing charges are those of the
    elements that were given none: unless `drift` says otherwise, these are at rest. (Relative to the centre of mass
    the conductivity of one mobile element would be too small by the square of the mass fraction of the others.)

    The fit begins where the motion of single ions is diffusive, or later, and has the weights of theirs: those that
    one noisy curve would give itself favour what it happens to be.

    Args:
        trajectory: periodic in all directions.
        charges: e, by element; not all zero.
        drift: as for `mlmd.analysis.diffusion.diffusion`.
        temperature: K.
        carriers: lines and MSDs of the elements whose D is part of the Nernst–Einstein conductivity, at least one.
    """
    net = sum(charge * len(trajectory.atoms_of([element])) for element, charge in charges.items())
    notes: tuple[str, ...] = ()
    if drift == "none" and abs(net) >= _NEUTRAL:
        notes = (
            f"collective conductivity: the charges add up to {net:+g} e, so that the current depends on what is at "
            "rest, and that is the cell, as was asked for (drift)",
        )
    elif drift == "cell" and abs(net) >= _NEUTRAL:
        drift, notes = _framework(trajectory, charges, net)
        if not drift:
            value = Estimate(np.nan, np.nan, "S/cm", 0.0)
            path = msd_of_path(np.zeros((trajectory.n_frames, 3)), trajectory.provenance.interval, "P")
            return Collective(value, dict.fromkeys("xyz", value), None, {}, None, path, notes)
    paths = charge_paths(trajectory, charges, drift)
    total = sum(paths.values(), start=np.zeros((trajectory.n_frames, 3)))
    interval = trajectory.provenance.interval
    msd = msd_of_path(total, interval, "P")
    earliest = max(line.first_lag for line, _ in carriers.values())
    line = fit_diffusive(msd.windows["xyz"], msd.total, trajectory.n_frames, earliest)
    if line is None:
        value = Estimate(np.nan, np.nan, "S/cm", 0.0)
        why = "collective conductivity: no diffusive regime of the charge displacement: run longer"
        return Collective(value, dict.fromkeys("xyz", value), None, {}, None, msd, (why, *notes))
    most = max(carriers, key=lambda one: carriers[one][1].n_atoms * charges[one] ** 2 * carriers[one][0].slope)
    ions = carriers[most][1]
    model = fit_from(ions.windows["xyz"], ions.total, trajectory.n_frames, line.first_lag)
    line = same_line(msd.windows["xyz"], model, trajectory.n_frames)
    factor = units.S_PER_CM / (2.0 * interval * trajectory.volume() * units.KB * temperature)
    along = {
        axis: _scaled(same_line(msd.windows[axis], line, trajectory.n_frames), factor, 1) for axis in AXES[1:]
    }  # fmt: skip
    conductivity = _scaled(line, factor / 3.0, 3)
    if conductivity.consistent_with_zero:
        notes = ("collective conductivity: consistent with zero, no ratios of it are given: run longer", *notes)
        return Collective(conductivity, along, None, {}, line, msd, notes)
    haven = _haven(trajectory, charges, carriers, line)
    return Collective(
        conductivity, along, haven, _transference(paths, total, line, trajectory), line, msd, tuple(notes)
    )


def charge_paths(
    trajectory: Trajectory, charges: Mapping[str, float], drift: str | Sequence[str]
) -> dict[str, np.ndarray]:
    """Charge displacement of each element that has a charge, (n_frames, 3) e Å."""
    rest = drift_path(trajectory, drift)
    paths = {}
    for element, charge in charges.items():
        if charge:
            atoms = trajectory.atoms_of([element])
            summed = np.concatenate([part.sum(axis=1) for part in unwrapped(trajectory, atoms)])
            paths[element] = charge * (summed - summed[0] - len(atoms) * rest)
    return paths


def _scaled(line: Line, factor: float, n_axes: int) -> Estimate:
    return Estimate(line.slope * factor, line.slope_error * factor, "S/cm", line.n_independent(n_axes))


def _ratio(value: float, waves: np.ndarray, line: Line, n_frames: int) -> Estimate:
    """A slope over that of a line, with what their fluctuations have in common."""
    ratio = value / line.slope
    together = error_of((waves - ratio * line.waves) / line.slope, line.first_lag, n_frames)
    error = float(np.hypot(together, ratio * line.spread / line.slope))
    return Estimate(ratio, error, "", line.n_independent(3))


def _haven(
    trajectory: Trajectory, charges: Mapping[str, float], carriers: Mapping[str, tuple[Line, MSD]], line: Line
) -> Estimate:
    """Σ N q² D over the same of all ions together."""
    parts = [(msd.n_atoms * charges[element] ** 2, one) for element, (one, msd) in carriers.items()]
    value = sum(weight * one.slope for weight, one in parts)
    waves = np.sum([weight * one.waves for weight, one in parts], axis=0)
    return _ratio(value, waves, line, trajectory.n_frames)


def _transference(
    paths: Mapping[str, np.ndarray], total: np.ndarray, line: Line, trajectory: Trajectory
) -> dict[str, Estimate]:
    """t_α = ⟨P_α · P⟩ / ⟨P · P⟩ of the slopes, from P_α · P = ½ (|P|² + |P_α|² - |P - P_α|²)."""
    if len(paths) < 2:
        return {}
    n_frames, interval = trajectory.n_frames, trajectory.provenance.interval
    numbers = {}
    for element, path in paths.items():
        own, others = (
            same_line(msd_of_path(one, interval, element).windows["xyz"], line, n_frames)
            for one in (path, total - path)
        )
        cross = 0.5 * (line.slope + own.slope - others.slope)
        numbers[element] = _ratio(cross, 0.5 * (line.waves + own.waves - others.waves), line, n_frames)
    return numbers


def _framework(
    trajectory: Trajectory, charges: Mapping[str, float], net: float
) -> tuple[list[str], tuple[str, ...]]:  # fmt: skip
    """Elements without a charge, relative to which others carry it, and what to say; none where all have one."""
    others = [element for element in trajectory.elements if not charges.get(element)]
    if not others:
        return [], (
            f"collective conductivity: all elements have charges, which add up to {net:+g} e: the current of a system "
            "that is not neutral depends on what is at rest. Give charges that add up to zero, or a framework (drift).",
        )
    return others, (
        f"collective conductivity: the charges add up to {net:+g} e, so that the current is that relative to the "
        f"elements without one ({', '.join(others)}); with the charges of all elements it would be the same for all",
    )
