"""Units: eV, Å, fs, K, amu and e inside; everything else is converted at the edges.

Constants are the exact SI values (2019) and CODATA 2022 for the atomic mass constant.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from mlmd.errors import InputError, did_you_mean

_E: Final = 1.602176634e-19  # C, exact
_KB: Final = 1.380649e-23  # J/K, exact
_NA: Final = 6.02214076e23  # 1/mol, exact
_AMU: Final = 1.66053906892e-27  # kg, CODATA 2022

KB: Final = _KB / _E
"""Boltzmann constant, eV/K."""
PLANCK: Final = 6.62607015e-34 * 1e15 / _E
"""Planck constant, eV fs."""
EV_PER_KJMOL: Final = 1e3 / (_E * _NA)
"""One kJ/mol in eV."""
EV_PER_KCALMOL: Final = 4.184 * EV_PER_KJMOL
"""One kcal/mol in eV."""
BAR: Final = 1e5 * 1e-30 / _E
"""One bar in eV/Å³."""
KINETIC: Final = _AMU * (1e-10 / 1e-15) ** 2 / _E
"""One amu Å²/fs² in eV."""
DENSITY: Final = _AMU * 1e3 / 1e-24
"""One amu/Å³ in g/cm³."""
CM2_PER_S: Final = 1e-16 / 1e-15
"""One Å²/fs in cm²/s."""
S_PER_CM: Final = _E / (1e-10 * 1e-15) * 1e-2
"""One e²/(eV Å fs) in S/cm (conductivity)."""

MPA_S: Final = _E / 1e-30 * 1e-15 * 1e3
"""One eV fs/Å³ in mPa s (viscosity)."""
W_PER_MK: Final = _E / (1e-15 * 1e-10)
"""One eV/(fs Å K) in W/(m K) (thermal conductivity)."""

LIGHT: Final = 299792458.0 * 1e10 / 1e15
"""Speed of light, Å/fs, exact."""
PERMITTIVITY: Final = 8.8541878188e-12 * 1e-10 / _E  # F/m, CODATA 2022
"""Of the vacuum, e²/(eV Å)."""
PER_CM: Final = 1e-10 / 1e-2
"""One 1/cm in 1/Å."""
KM_PER_MOL: Final = _NA * (1e-10 / 1e-2) ** 2 * 1e-2 / 1e3
"""One Å²/cm of a molecule in km/mol (intensity of absorption)."""

_UNITS: Final[dict[str, dict[str, float]]] = {
    "time": {"fs": 1.0, "ps": 1e3, "ns": 1e6, "us": 1e9, "µs": 1e9, "μs": 1e9, "ms": 1e12, "s": 1e15},
    "wall time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
    "temperature": {"K": 1.0},
    "pressure": {
        "bar": 1.0, "Pa": 1e-5, "kPa": 1e-2, "MPa": 10.0, "GPa": 1e4, "atm": 1.01325, "eV/Å^3": 1 / BAR, "kbar": 1e3,
    },
    "viscosity": {
        "bar s": 1.0, "bars": 1.0, "Pa s": 1e-5, "Pas": 1e-5, "mPa s": 1e-8, "mPas": 1e-8, "cP": 1e-8, "P": 1e-6,
    },
    "length": {"Å": 1.0, "A": 1.0, "angstrom": 1.0, "nm": 10.0, "pm": 0.01, "bohr": 0.529177210544},
    "energy": {"eV": 1.0, "meV": 1e-3, "kJ/mol": EV_PER_KJMOL, "kcal/mol": EV_PER_KCALMOL, "hartree": 27.211386245981},
    "force": {"eV/Å": 1.0, "eV/A": 1.0, "meV/Å": 1e-3, "meV/A": 1e-3, "kJ/mol/nm": EV_PER_KJMOL / 10},
    "rate": {
        "1/fs": 1.0, "1/ps": 1e-3, "1/ns": 1e-6, "/fs": 1.0, "/ps": 1e-3, "/ns": 1e-6,
        "fs^-1": 1.0, "ps^-1": 1e-3, "ns^-1": 1e-6, "THz": 1e-3,
    },
    "power": {"eV/fs": 1.0, "eV/ps": 1e-3, "eV/ns": 1e-6, "W": 1e-15 / _E, "µW": 1e-21 / _E, "nW": 1e-24 / _E},
    "angle": {"rad": 1.0, "deg": math.pi / 180.0, "°": math.pi / 180.0},
    "mass": {"amu": 1.0, "u": 1.0, "Da": 1.0, "g/mol": 1.0},
    "speed": {"Å/fs": 1.0, "A/fs": 1.0, "Å/ps": 1e-3, "A/ps": 1e-3, "nm/ps": 1e-2, "m/s": 1e-5, "km/s": 1e-2},
    "flux": {
        "1/Å^2/fs": 1.0, "1/nm^2/ns": 1e-8, "/nm^2/ns": 1e-8, "atoms/nm^2/ns": 1e-8, "1/nm^2/ps": 1e-5,
        "/nm^2/ps": 1e-5, "atoms/nm^2/ps": 1e-5, "1/Å^2/ps": 1e-3, "/Å^2/ps": 1e-3, "1/cm^2/s": 1e-31, "/cm^2/s": 1e-31,
    },
}  # fmt: skip
"""Quantity -> unit -> size in mlmd's unit of that quantity (pressure: bar; wall time: s; angle: radians)."""

DEFAULT_UNIT: Final[dict[str, str]] = {
    "time": "fs", "wall time": "s", "temperature": "K", "pressure": "bar", "viscosity": "mPa s", "length": "Å",
    "energy": "eV", "force": "eV/Å", "rate": "1/ps", "mass": "amu",
    "angle": "deg", "speed": "Å/ps", "power": "eV/ps", "flux": "1/nm^2/ns",
}  # fmt: skip
"""The unit in which a bare number is read."""

_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


def units_of(quantity: str) -> dict[str, float]:
    """The units known for a quantity, with their size in mlmd's own unit (pressure: bar, wall time: s)."""
    return dict(_UNITS[quantity])


def parse(value: object, quantity: str) -> float:
    """A number with a unit as a float in mlmd's unit of the quantity (pressure: bar, wall time: s).

    Args:
        value: ``"2 fs"``, ``"1 / ps"``, or a bare number in the unit `DEFAULT_UNIT` names.
        quantity: a key of `DEFAULT_UNIT`.

    Raises:
        InputError: for booleans, nan, inf, text that is not a number, and units of another quantity.
    """
    table, default = _UNITS[quantity], DEFAULT_UNIT[quantity]
    example = f'Write for example "1.5 {default}".'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InputError(f"{value!r} is not a {quantity}. {example}")
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None:
            raise InputError(f"{value!r} is not a {quantity}. {example}")
        number, unit = float(match[1]), match[2].replace(" ", "") or default
        for raised, plain in (("³", "^3"), ("²", "^2"), ("⁻¹", "^-1")):
            unit = unit.replace(raised, plain)
        if unit not in table:
            raise InputError(f"{value!r}: {match[2]!r} is not a unit of {quantity}. {did_you_mean(unit, table)}")
    else:
        try:
            number, unit = float(value), default
        except OverflowError:
            number, unit = math.inf, default
    result = _times(number, table[unit])
    if not math.isfinite(result):
        raise InputError(f"{value!r} is not a finite {quantity}. {example}")
    return result


def with_unit(value: float, quantity: str) -> str:
    """A value in mlmd's unit written with that unit, so that `parse` gives the same float back."""
    default = DEFAULT_UNIT[quantity]
    scale = _UNITS[quantity][default]
    value = float(value)
    number = float(Decimal(repr(value)) / Decimal(repr(scale)))
    if _times(number, scale) != value:  # e.g. rates, kept in 1/fs: find a spelling that reads back exactly
        default = next(unit for unit, size in _UNITS[quantity].items() if size == 1.0)
        number = value
    return f"{number!r} {default}"


def _times(number: float, scale: float) -> float:
    """The product as decimal numbers, so that 1.001 ps is 1001 fs and not 1000.9999999999999 fs."""
    return float(Decimal(repr(number)) * Decimal(repr(scale)))
