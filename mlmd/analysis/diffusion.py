"""Self-diffusion coefficients and conductivities of a trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd import units
from mlmd.analysis.collective import Collective, collective_conduction
from mlmd.analysis.columns import csv_of
from mlmd.analysis.einstein import Line, error_of, fit_diffusive, same_line
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.finite_size import yeh_hummer
from mlmd.analysis.msd import AXES, MSD, mean_squared_displacements
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

D_UNIT = "cm²/s"
HOP = 1.0
"""Å: atoms that have moved less than this on average have not left their places."""
_LOCAL_MOTION = 0.8
"""Exponent of the MSD below which local motion is worth a remark."""


@dataclass(frozen=True)
class ElementDiffusion:
    """Diffusion of the atoms of one element."""

    element: str
    n_atoms: int
    coefficient: Estimate
    """D = lim MSD / 6t, cm²/s."""
    along: Mapping[str, Estimate]
    """D = lim MSD / 2t along x, y and z, and along directions that were asked for, cm²/s."""
    window: tuple[float, float] | None
    """Lags between which the MSD is a straight line, fs; None when it is nowhere."""
    line: Line | None
    notes: tuple[str, ...]
    """What a careful reader should know."""
    msd: MSD
    endless: Estimate | None = None
    """D in a cell without end (Yeh and Hummer), cm²/s; None without a viscosity."""


@dataclass(frozen=True)
class DiffusionResult:
    """Diffusion coefficients of a trajectory, element by element."""

    species: tuple[ElementDiffusion, ...]
    conductivity: Estimate | None
    """Nernst–Einstein, S/cm: as if ions moved independently of each other. None without charges."""
    charges: Mapping[str, float]
    """e, by element."""
    temperature: float | None
    """K."""
    volume: float
    """Å³, mean."""
    drift: str | tuple[str, ...]
    """What was taken to be at rest."""
    notes: tuple[str, ...]
    """About all elements: the conductivity, a bias."""
    provenance: Provenance
    collective: Collective | None = None
    """Conductivity of all ions together; None where none with a charge diffuses."""
    viscosity: float | None = None
    """bar s, of the correction for the finite cell."""

    name = "diffusion"

    def __str__(self) -> str:
        """One line for each element, one for the conductivity, and the notes."""
        lines = [_line(one) for one in self.species]
        if self.conductivity is not None:
            lines.append(f"Nernst–Einstein conductivity = {self.conductivity}")
        lines += [f"{name} = {value}" for name, value in self.together()]
        return "\n".join([*lines, *self.notes])

    def together(self) -> tuple[tuple[str, Estimate], ...]:
        """What all ions do together, as far as it is determined: names and numbers."""
        if self.collective is None or not self.collective.conductivity.determined:
            return ()
        one = self.collective
        haven = (("Haven ratio", one.haven),) if one.haven is not None else ()
        parts = ((f"transference number t({element})", value) for element, value in one.transference.items())
        return (("collective conductivity", one.conductivity), *haven, *parts)

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, units and provenance; the curves are in the CSV file."""
        return {
            "analysis": self.name,
            "elements": {one.element: _element_json(one) for one in self.species},
            **_with_interval("conductivity", self.conductivity),
            **_collective_json(self.collective),
            "charges_e": dict(self.charges),
            "temperature_K": self.temperature,
            "volume_A3": None if math.isnan(self.volume) else self.volume,
            "viscosity_mPa_s": None if self.viscosity is None else self.viscosity / units.parse("1 mPa s", "viscosity"),
            "drift": self.drift if isinstance(self.drift, str) else list(self.drift),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """Mean squared displacements at all lags, in total and along each axis."""
        names, columns = ["lag [ps]"], [self.species[0].msd.times / 1e3]
        for one in self.species:
            axes = (*"xyz", *(name.replace(",", " ") for name in one.msd.directions))
            names += [f"MSD {one.element} [Å^2]", *(f"MSD {one.element} {axis} [Å^2]" for axis in axes)]
            columns += [one.msd.total, *one.msd.values.T]
        if self.collective is not None:
            names, columns = [*names, "MSD of the charge [e^2 Å^2]"], [*columns, self.collective.msd.total]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """The MSDs and their lines."""
        from mlmd.analysis.figures import diffusion_figure

        return diffusion_figure(self)


def diffusion(
    trajectory: Trajectory,
    *,
    elements: Sequence[str] | None = None,
    charges: Mapping[str, float] | None = None,
    drift: str | Sequence[str] = "cell",
    temperature: float | None = None,
    along: Sequence[str] = (),
    viscosity: float | None = None,
) -> DiffusionResult:
    """Diffusion coefficients with errors that know how little independent data there is.

    D comes from the slope of the mean squared displacement where it has become a straight line, by generalised
    least squares (`mlmd.analysis.einstein`). With charges, the Nernst–Einstein conductivity
    σ = Σ N q² D / (V k_B T) follows, and that of all ions together (`mlmd.analysis.collective`).

    Args:
        trajectory: frames at equal intervals, at one temperature.
        elements: by default all.
        charges: e, by element; others count as neutral. Elements without a D, and those of a framework that is at
            rest, are left out of the conductivity.
        drift: what is taken to be at rest: ``"cell"`` (centre of mass of all atoms), ``"none"``, or the elements of
            a framework.
        temperature: K; by default the trajectory's.
        along: lattice directions along which D is wanted besides x, y and z: ``"a"``, ``"1,1,0"``.
        viscosity: bar s, of a liquid in a cubic cell: D without the finite size of the cell is given, too
            (`mlmd.analysis.finite_size`).

    Raises:
        InputError: for too few frames, unknown elements or directions, a conductivity without finite charges,
            a temperature or volume, or a viscosity where the correction does not hold.
    """
    charges = dict(charges or {})
    trajectory.atoms_of(tuple(charges))
    if not all(math.isfinite(charge) for charge in charges.values()):
        raise InputError(f"Charges must be finite numbers in units of e; got {charges}.")
    chosen = tuple(dict.fromkeys([*(elements or trajectory.elements), *charges]))
    temperature = trajectory.temperature if temperature is None else temperature
    rise = None if viscosity is None else yeh_hummer(trajectory, viscosity, temperature) * units.CM2_PER_S
    msds = mean_squared_displacements(trajectory, chosen, drift, along)
    interval = trajectory.provenance.interval
    species = tuple(_endless(_element(msd, trajectory.n_frames, interval), rise) for msd in msds.values())
    conductivity, notes = _conductivity(species, charges, temperature, trajectory, drift)
    collective = _collective(trajectory, species, charges, drift, temperature)
    return DiffusionResult(
        species, conductivity, charges, temperature, trajectory.volume(),
        drift if isinstance(drift, str) else tuple(drift),
        (
            *notes, *(() if collective is None else collective.notes), *_confined(trajectory, msds),
            *trajectory.provenance.notes,
        ),
        trajectory.provenance, collective, viscosity,
    )  # fmt: skip


def _line(one: ElementDiffusion) -> str:
    joint = " = " if one.coefficient.determined else ": "
    return f"D({one.element}){joint}{one.coefficient}" + "".join(
        f"{'; ' if number or one.coefficient.determined else ': '}{note}" for number, note in enumerate(one.notes)
    )


def _element(msd: MSD, n_frames: int, interval: float) -> ElementDiffusion:
    line = fit_diffusive(msd.windows["xyz"], msd.total, n_frames)
    if line is None:
        still = not msd.values.any()
        value = Estimate(0.0, 0.0, D_UNIT, math.nan) if still else Estimate(math.nan, math.nan, D_UNIT, 0.0)
        note = (
            "the atoms do not move" if still else
            "no diffusive regime, the MSD is not yet a straight line within an eighth of the trajectory: run longer, "
            "or the element does not diffuse"
        )  # fmt: skip
        axes = dict.fromkeys((*AXES[1:], *msd.directions), value)
        return ElementDiffusion(msd.element, msd.n_atoms, value, axes, None, None, (note,), msd)
    lines = {axis: same_line(msd.windows[axis], line, n_frames) for axis in (*AXES[1:], *msd.directions)}
    along = {axis: coefficient_of(one, 1, interval) for axis, one in lines.items()}
    total = coefficient_of(line, 3, interval)
    window = (line.first_lag * interval, line.last_lag * interval)
    return ElementDiffusion(msd.element, msd.n_atoms, total, along, window, line, _notes(total, line, msd), msd)


def coefficient_of(line: Line, n_axes: int, interval: float) -> Estimate:
    """D = slope / 2d, cm²/s, of a line through the MSD along so many axes; the interval of frames is in fs."""
    scale = units.CM2_PER_S / (2 * n_axes * interval)
    return Estimate(line.slope * scale, line.slope_error * scale, D_UNIT, line.n_independent(n_axes))


def _notes(coefficient: Estimate, line: Line, msd: MSD) -> tuple[str, ...]:
    notes = []
    reached = math.sqrt(msd.total[line.last_lag])
    if coefficient.consistent_with_zero:
        limit = max(coefficient.value, 0.0) + 2.0 * coefficient.error
        notes.append(f"consistent with zero (below {limit:.1e} {D_UNIT} at 95 %)")
    if reached < HOP:
        notes.append(f"atoms move by only {reached:.2f} Å within the fit, less than a hop: no evidence of diffusion")
    elif line.exponent < _LOCAL_MOTION:
        notes.append(
            f"local motion is a large part of the MSD (ln MSD / ln t = {line.exponent:.2f} in the fit): D is the slope "
            f"of a line that begins at {line.intercept:.2g} Å²; see whether a longer run agrees"
        )
    if not line.steady:
        notes.append("the first and the second half of the trajectory disagree: not in equilibrium, or too short")
    return tuple(notes)


def _confined(trajectory: Trajectory, msds: Mapping[str, MSD]) -> tuple[str, ...]:
    """Whether positions that were said to be unwrapped seem to be wrapped, and atoms to go too far between frames.

    Of atoms that are anywhere in one cell with vectors a_i, whenever one looks, the MSD is Σ |a_i|² / 6 at all lags.
    """
    lag = trajectory.n_frames // 4
    foreign = trajectory.provenance.stage is None and trajectory.unwrapped and trajectory.pbc.all()
    if not foreign or lag < 10:  # a path that goes on is ten times farther in ten frames
        return ()
    anywhere = float(np.mean(np.sum(trajectory.cells**2, axis=(1, 2)))) / 6.0
    found = []
    for name, msd in msds.items():
        early, late = msd.total[[1, lag]] / anywhere
        if early > 0.4 and 0.75 < late < 1.15:
            found.append(name)
    if not found:
        return ()
    return (
        f"the MSD of {', '.join(found)} stays at that of atoms that are anywhere in one cell ({anywhere:.3g} Å²), from "
        "the first frames on: the positions seem to be wrapped, and frames too rare to follow atoms. Write them more "
        "often, or unwrapped",
    )


def _conductivity(
    species: Sequence[ElementDiffusion], charges: Mapping[str, float], temperature: float | None,
    trajectory: Trajectory, drift: str | Sequence[str],
) -> tuple[Estimate | None, tuple[str, ...]]:  # fmt: skip
    """Of the elements that have a charge and a D and are not at rest by definition; notes say who was left out.

    The error is that of the slow fluctuations of the sum: ions of two elements may move together.
    """
    volume, n_frames = trajectory.volume(), trajectory.n_frames
    if not charges:
        return None, ()
    if temperature is None or not temperature > 0.0:
        raise InputError('A conductivity needs the temperature. Give temperature=... in K (--temperature "300 K").')
    if math.isnan(volume):
        raise InputError("A conductivity needs a cell that is periodic in all three directions.")
    fixed = _fixed(drift)
    carriers = [one for one in species if charges.get(one.element)]
    charged = [one for one in carriers if one.coefficient.determined and one.element not in fixed]
    notes = _left_out(carriers, fixed)
    if not charged:
        return None, (f"no conductivity: {'; '.join(notes) or 'no element has a charge'}",)
    factors = [one.n_atoms * charges[one.element] ** 2 / (volume * units.KB * temperature) for one in charged]
    scale = units.S_PER_CM / units.CM2_PER_S
    value = sum(factor * one.coefficient.value for factor, one in zip(factors, charged, strict=True))
    error = _error_of_sum(factors, charged, n_frames) * units.CM2_PER_S / (6.0 * trajectory.provenance.interval)
    n_independent = min((one.coefficient.n_independent for one in charged), default=math.nan)
    return Estimate(value * scale, error * scale, "S/cm", n_independent), tuple(
        f"conductivity: {note}" for note in notes
    )


def _error_of_sum(factors: Sequence[float], charged: Sequence[ElementDiffusion], n_frames: int) -> float:
    """Of Σ factor · slope, with what the slopes of elements have in common; of atoms that do not move 0."""
    lines = [(factor, one.line) for factor, one in zip(factors, charged, strict=True) if one.line is not None]
    if not lines:
        return 0.0
    waves = np.sum([factor * line.waves for factor, line in lines], axis=0)
    spread = sum(factor * line.spread for factor, line in lines)
    return math.hypot(error_of(waves, max(line.first_lag for _, line in lines), n_frames), spread)


def _fixed(drift: str | Sequence[str]) -> tuple[str, ...]:
    """Elements that are at rest by definition."""
    return () if drift in ("cell", "none") else (drift,) if isinstance(drift, str) else tuple(drift)


def _collective(
    trajectory: Trajectory, species: Sequence[ElementDiffusion], charges: Mapping[str, float],
    drift: str | Sequence[str], temperature: float | None,
) -> Collective | None:  # fmt: skip
    """Where ions with a charge diffuse; checks of temperature and cell have been made."""
    carriers = {
        one.element: (one.line, one.msd)
        for one in species
        if charges.get(one.element) and one.line is not None and one.element not in _fixed(drift)
    }
    if not carriers or temperature is None:
        return None
    return collective_conduction(trajectory, charges, drift, temperature, carriers)


def _endless(one: ElementDiffusion, rise: float | None) -> ElementDiffusion:
    """With D in a cell without end, where the correction (cm²/s) is known."""
    if rise is None or one.line is None:
        return one
    d = one.coefficient
    endless = Estimate(d.value + rise, d.error, d.unit, d.n_independent)
    return replace(one, endless=endless, notes=(f"in a cell without end {endless} (Yeh–Hummer)", *one.notes))


def _left_out(carriers: Sequence[ElementDiffusion], fixed: Sequence[str]) -> list[str]:
    """Why some elements with charges do not count."""
    at_rest = [one.element for one in carriers if one.element in fixed]
    unknown = [one.element for one in carriers if one.element not in fixed and not one.coefficient.determined]
    reasons = ((unknown, "no diffusion coefficient"), (at_rest, "taken to be at rest (drift)"))
    return [f"{', '.join(names)} left out: {reason}" for names, reason in reasons if names]


def _element_json(one: ElementDiffusion) -> dict[str, Any]:
    return {
        "n_atoms": one.n_atoms,
        **_with_interval("D", one.coefficient),
        **{f"D_{axis}": estimate.to_dict() for axis, estimate in one.along.items()},
        "D_endless": None if one.endless is None else one.endless.to_dict(),
        "window_ps": None if one.window is None else [lag / 1e3 for lag in one.window],
        "exponent": None if one.line is None else one.line.exponent,
        "notes": list(one.notes),
    }


def _collective_json(one: Collective | None) -> dict[str, Any]:
    if one is None:
        return {"collective_conductivity": None, "haven_ratio": None, "transference": {}}
    return {
        **_with_interval("collective_conductivity", one.conductivity),
        "collective_along": {axis: {"conductivity": estimate.to_dict()} for axis, estimate in one.along.items()},
        **_with_interval("haven_ratio", one.haven),
        "transference": {element: {"t": estimate.to_dict()} for element, estimate in one.transference.items()},
    }


def _with_interval(name: str, one: Estimate | None) -> dict[str, Any]:
    """An estimate, and its interval of 95 % beside it."""
    if one is None or not one.determined:
        return {name: None if one is None else one.to_dict()}
    return {name: one.to_dict(), f"{name}_95": [*one.interval()]}
