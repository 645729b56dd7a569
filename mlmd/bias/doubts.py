"""What makes a free energy wrong without a word: kernels of OPES that end early, a bias for another temperature.

PLUMED lowers the kernels of OPES by what they are at their end, and takes their slopes from the lowered values (its
module opes, `evaluateKernel`): where they end early, the force is less than the slope of the bias. They end at
KERNEL_CUTOFF widths, by default √(2 ΔE / ((1 - 1/γ) kT)) with the barrier ΔE and the bias factor γ, which is ΔE / kT
where the file does not say it (Invernizzi and Parrinello, J. Phys. Chem. Lett. 11, 2731 (2020)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from mlmd import units
from mlmd.bias.script import Script
from mlmd.bias.statement import Statement

SHORT = 4.0
"""Widths below which the end of kernels of OPES is told of: forces were 4 % too small at 3.5, right to 0.1 % at 5."""
_OPES = ("OPES_METAD", "OPES_METAD_EXPLORE")
_GROWING = ("METAD", "PBMETAD", *_OPES)


def doubts(script: Script, temperature: float) -> Iterator[str]:
    """Sentences about each bias that would go wrong; nothing is said of what cannot be told.

    Args:
        script: of the stage.
        temperature: K, of its thermostat from the beginning to the end.
    """
    scaled = any(statement.action == "UNITS" for statement in script.statements)
    for one in script.statements:
        said = _number(one, "TEMP")
        if one.action in _GROWING and said is not None and abs(said - temperature) > 1e-3 * temperature:
            yield (
                f"{script.path.name}: {one.action} has TEMP={said:g}, and the stage {temperature:g} K: what it leaves "
                "will be made for another temperature, and not tell the free energy of this run. Leave TEMP out."
            )
        end = None if one.action not in _OPES else _end(one, temperature, scaled=scaled)
        if end is not None and end < SHORT:
            yield (
                f"{script.path.name}: the kernels of {one.action} end at {end:.3g} widths, and PLUMED's forces are "
                "then too small for the bias that it prints: free energies come out some hundredths too high. Say "
                "KERNEL_CUTOFF=10."
            )


def _end(one: Statement, temperature: float, *, scaled: bool) -> float | None:
    """Widths at which kernels end."""
    if (said := _number(one, "KERNEL_CUTOFF")) is not None:
        return said
    barrier = _number(one, "BARRIER")
    if barrier is None or scaled:  # energies in units of the file
        return None
    barrier *= units.EV_PER_KJMOL / (units.KB * temperature)
    factor = _number(one, "BIASFACTOR") or barrier
    if one.action == "OPES_METAD_EXPLORE":
        return math.sqrt(2.0 * barrier)
    return math.sqrt(2.0 * barrier / (1.0 - 1.0 / factor)) if factor > 1.0 else None


def _number(one: Statement, key: str) -> float | None:
    """What a keyword has, where it is one number."""
    try:
        return float(one.values(key)[0])
    except (IndexError, ValueError):
        return None
