"""What makes a free energy wrong without a word: kernels of OPES that end early, a bias for another temperature.

PLUMED lowers the kernels of OPES by what they are at their end, and takes their slopes from the lowered values (its
module opes, `evaluateKernel`): where they end early, the force is less than the slope of the bias. They end at
KERNEL_CUTOFF widths, by default √(2 ΔE / ((1 - 1/γ) kT)) with the barrier ΔE and the bias factor γ, which is ΔE / kT
where the file does not say it, and OPES_METAD_EXPLORE at √(2 ΔE / kT) (Invernizzi and Parrinello, J. Phys. Chem. Lett.
11, 2731 (2020); J. Chem. Theory Comput. 18, 3988 (2022)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlmd import units
from mlmd.bias.script import Script
from mlmd.bias.statement import Statement

KERNELS_END = 10
"""Widths that `mlmd.bias.write` says: where PLUMED chooses the end, 3.5 for a barrier of 5 kT, forces were 3.7 % too
small for the bias that it prints, and free energies about as much too high."""
SHORT = 4.5
"""Widths below which the end of kernels of OPES is told of: forces are then more than 0.1 % too small."""
_OPES = ("OPES_METAD", "OPES_METAD_EXPLORE")
_HILLS = ("METAD", "PBMETAD")
_TEMPERED = {"BIASFACTOR", "DAMPFACTOR", "TAU", "TARGET", "TTBIASFACTOR", "REWEIGHTING_NGRID"}
"""Keywords of METAD by which kT decides over its hills."""


def doubts(script: Script, temperature: float | None) -> Iterator[str]:
    """Sentences about each bias that would go wrong; nothing is said of what cannot be told.

    Args:
        script: of the stage.
        temperature: K, of its thermostat from the beginning to the end; None where there is no such temperature.
    """
    scaled = [statement for statement in script.statements if statement.action == "UNITS"]
    natural = any("NATURAL" in map(str.upper, one.words) for one in scaled)
    for one in script.statements:
        place = f"{one.path.name}: line {one.line}"
        kelvin = None if one.action not in _HILLS or natural else temperature  # of OPES PLUMED tells itself
        if kelvin is not None and (said := other_temperature(one, kelvin)) is not None:
            yield (
                f"{place}: {one.action} has TEMP={said:g}, and the stage {temperature:g} K: its hills will be made for "
                "another temperature, and not tell the free energy of this run. Leave TEMP out."
            )
        end = None if one.action not in _OPES else _end(one, temperature, natural or any(map(_of_energy, scaled)))
        if end is not None and end < SHORT:
            yield f"{place}: {of_early_ends(end)} Say KERNEL_CUTOFF={KERNELS_END}."


def other_temperature(one: Statement, temperature: float) -> float | None:
    """TEMP (K) of a bias that is made with it, as tempered metadynamics is, where it is not that of the run."""
    made_with = one.action in ("PBMETAD", *_OPES) or any(key in _TEMPERED for key, _ in one.keywords)
    said = _number(one, "TEMP")
    return said if made_with and said is not None and abs(said - temperature) > 1e-3 * temperature else None


def of_early_ends(end: float) -> str:
    """A sentence about kernels that end after so many widths c.

    Where many of them make a flat density of one variable, forces are too small by (2 c³/3) e^(-c²/2) / ∫(g - g(c)),
    with the kernel g = e^(-x²/2): what is missing of the slopes, ∫ x² g(c), in parts of what is there.
    """
    last = math.exp(-0.5 * end**2)
    share = 2.0 / 3.0 * end**3 * last / (math.sqrt(2.0 * math.pi) * math.erf(end / math.sqrt(2.0)) - 2.0 * end * last)
    return (
        f"kernels of OPES that end at {end:.3g} widths make forces that are too small for the bias that PLUMED prints, "
        f"by some {100 * share:.2g} %, and free energies as much too high."
    )


def _end(one: Statement, temperature: float | None, scaled: bool) -> float | None:
    """Widths at which kernels end."""
    if (said := _number(one, "KERNEL_CUTOFF")) is not None:
        return said
    barrier, kelvin = _number(one, "BARRIER"), _number(one, "TEMP") or temperature
    if barrier is None or kelvin is None or scaled:  # energies in units of the file
        return None
    barrier *= units.EV_PER_KJMOL / (units.KB * kelvin)
    factor = _number(one, "BIASFACTOR") or barrier
    if one.action == "OPES_METAD_EXPLORE":
        return math.sqrt(2.0 * barrier)
    return math.sqrt(2.0 * barrier / (1.0 - 1.0 / factor)) if factor > 1.0 else None


def _of_energy(one: Statement) -> bool:
    return any(key == "ENERGY" for key, _ in one.keywords)


def _number(one: Statement, key: str) -> float | None:
    """What a keyword has, where it is one number."""
    try:
        return float(one.values(key)[0])
    except (IndexError, ValueError):
        return None
