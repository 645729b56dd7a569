"""How one diffusion coefficient or conductivity depends on temperature, and what it is at others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlmd.analysis.estimate import Estimate
from mlmd.analysis.temperature_laws import VTF, Choice, Law, choose
from mlmd.errors import InputError
from mlmd.io.frames import Provenance

_UNCERTAIN = 0.5
"""Relative error from which the logarithm of a value is far from normally distributed."""
_REACH = 700.0
"""Of the logarithm: beyond, a value is no number of the computer's."""


@dataclass(frozen=True)
class Point:
    """A value at a temperature."""

    temperature: float
    """K."""
    value: Estimate
    """D or σ."""
    source: str
    """Of the run."""
    notes: tuple[str, ...] = ()
    """What a careful reader should know of this value."""
    provenance: Provenance | None = None
    """Of its frames, where it is of a run."""


@dataclass(frozen=True)
class Prediction:
    """What the chosen law gives for a temperature."""

    temperature: float
    """K."""
    value: Estimate
    low: float
    high: float
    """Ends of the interval of 95 %, in the unit of the value."""
    others: Mapping[str, float]
    """What the other laws give."""

    def __str__(self) -> str:
        """With the interval, without which one far from the data may look like zero."""
        return f"{self.value}, 95 % between {self.low:.3g} and {self.high:.3g}"


@dataclass(frozen=True)
class Activation:
    """How one quantity depends on temperature."""

    quantity: str
    """E.g. ``D(Li)`` or ``conductivity``."""
    times_temperature: bool
    """Whether it is multiplied by the temperature before it is fitted."""
    points: tuple[Point, ...]
    left_out: tuple[Point, ...]
    """Those whose value is not larger than twice its error."""
    choice: Choice
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...]

    @property
    def law(self) -> Law:
        """That the data show."""
        return self.choice.chosen

    def curve(self, law: Law, temperatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (n,) of a law at temperatures (n,) K, and the standard errors of their logarithms."""
        y, errors = law.at(temperatures)
        return np.exp(y) / (temperatures if self.times_temperature else 1.0), errors


def activation(
    quantity: str, points: Sequence[Point], at: Sequence[float], *, times_temperature: bool = False
) -> Activation:
    """The laws of one quantity.

    Args:
        quantity: its name.
        points: values at temperatures; those that are not larger than twice their error are left out, and told.
        at: K, where values are predicted.
        times_temperature: whether σT is fitted in the place of σ.

    Raises:
        InputError: for fewer than two temperatures with a value.
    """
    good, bad = divided(points)
    kelvins = kelvins_of(good)
    if len(kelvins) < 2:
        raise InputError(f"{quantity} is larger than twice its error at {listed(kelvins)}; two are needed.")
    temperatures = np.array([point.temperature for point in good])
    values, errors = (np.array([getattr(point.value, name) for point in good]) for name in ("value", "error"))
    known = bool(np.isfinite(errors).all() and (errors > 0.0).all())
    y = np.log(values * (temperatures if times_temperature else 1.0))
    choice = choose(temperatures, y, errors / values if known else None)
    notes = [*choice.notes, *_notes(good, bad, known=known)]
    made = Activation(quantity, times_temperature, tuple(good), tuple(bad), choice, (), ())
    told_of = [temperature for temperature in at if _tells(choice.chosen, temperature)]
    predictions = tuple(_predicted(made, temperature) for temperature in told_of)
    notes += _about_predictions(made, predictions, temperatures)
    if frozen := sorted(set(at) - set(told_of)):
        where = "not above T_0 or too close to it" if choice.chosen.name == VTF else "so far from all runs"
        notes.append(f"at {listed(frozen)}, {where}, the law gives nothing")
    return replace(made, predictions=predictions, notes=tuple(notes))


def told(law: Law) -> list[str]:
    """The parameters of a law in words, with their errors; energies and temperatures."""
    names = {"E": "E_a", "E_hot": "E_a above", "E_cold": "E_a below", "T_break": "break at", "B": "B", "T_0": "T_0"}
    said = []
    for key, one in law.parameters.items():
        if key in names:
            joint = " " if key == "T_break" else " = "
            said.append(f"{names[key]}{joint}{Estimate(one.value, one.error, one.unit, math.nan)}")
    return said


def divided(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """Those with a value larger than twice its error (or of unknown error), and the others."""
    good: list[Point] = []
    bad: list[Point] = []
    for one in points:
        counts = one.value.determined and one.value.value > 0.0 and not one.value.value <= 2.0 * one.value.error
        (good if counts else bad).append(one)
    return good, bad


def kelvins_of(points: Sequence[Point]) -> list[float]:
    """Their different temperatures, K, the coldest first."""
    return sorted({point.temperature for point in points})


def listed(kelvins: Sequence[float]) -> str:
    """Temperatures in words."""
    return ", ".join(f"{one:g} K" for one in kelvins) or "no temperature"


def _notes(good: Sequence[Point], bad: Sequence[Point], *, known: bool) -> list[str]:
    notes = []
    if bad:
        notes.append(
            f"left out, not larger than twice the error: {listed(sorted(one.temperature for one in bad))}. "
            "Of cold runs that are too short only those count in which more moved than on average: run them longer"
        )
    wide = [one.temperature for one in good if one.value.error > _UNCERTAIN * one.value.value]
    if known and wide:
        notes.append(f"the error is more than half of the value at {listed(sorted(wide))}: run longer there")
    everywhere = [note for note in good[0].notes if len(good) > 1 and all(note in one.notes for one in good)]
    notes += [f"of all runs: {note}" for note in everywhere]
    for one in good:
        notes += [f"{one.temperature:g} K ({one.source}): {note}" for note in one.notes if note not in everywhere]
    if not known:
        notes.append("errors of the values are not known: those told follow from how far the points lie from the law")
    return notes


def _tells(law: Law, temperature: float) -> bool:
    """Whether a law gives a value and an interval; just above T_0 of a glass the interval has no end."""
    if not _defined(law, temperature):
        return False
    (y,), (error,) = law.at(np.array([temperature]))
    return not abs(y) + law.quantile * error >= _REACH  # an error that is not known hides no value


def _defined(law: Law, temperature: float) -> bool:
    """Whether a law gives a value: a glass does not flow below T_0."""
    if law.name == VTF and temperature <= law.parameters["T_0"].value:
        return False
    return bool(abs(law.at(np.array([temperature]))[0][0]) < _REACH)


def _predicted(one: Activation, temperature: float) -> Prediction:
    where = np.array([temperature])
    (value,), (error,) = one.curve(one.law, where)
    others = {
        law.name: float(one.curve(law, where)[0][0])
        for law in one.choice.laws
        if law is not one.law and _defined(law, temperature)
    }
    reach = one.law.quantile * error
    unit = one.points[0].value.unit
    estimate = Estimate(float(value), float(value * error), unit, math.nan)
    return Prediction(temperature, estimate, float(value * math.exp(-reach)), float(value * math.exp(reach)), others)


def _about_predictions(one: Activation, predictions: Sequence[Prediction], temperatures: np.ndarray) -> list[str]:
    notes = []
    coldest = float(temperatures.min())
    beyond = [each for each in predictions if not coldest <= each.temperature <= float(temperatures.max())]
    for each in beyond:
        side = "below" if each.temperature < coldest else "above"
        text = f"{each.temperature:g} K is {side} all runs: the law is assumed to hold there"
        apart = [other / each.value.value for other in each.others.values()]
        factor = max((max(one, 1.0 / one) for one in apart), default=1.0)
        if factor > 2.0:
            text += f"; other laws that were fitted give up to {factor:.2g} times more or less"
        notes.append(text)
    return notes
