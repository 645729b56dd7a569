"""Differences between predictions and labels that are no scatter: other zeros, units, signs or orders of components.

They are found in data of other people, and spoil a fit that includes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from mlmd.train.error_table import Property
from mlmd.train.evaluate import Labels, compared, errors, shifted
from mlmd.units import BAR, EV_PER_KCALMOL, EV_PER_KJMOL, units_of

if TYPE_CHECKING:
    from mlmd.io.labelled import LabelledFrame

SURE = 0.95
"""Correlation above which a factor between predictions and labels is believed."""
_FACTOR = 1.8  # bad potentials of the right unit stay below
_FEW = 6  # numbers from which nothing is concluded
_GPA = 1e4 * BAR
_ENERGY, _LENGTH = units_of("energy"), units_of("length")
_OTHER_UNITS: Mapping[str, Mapping[str, float]] = {
    "forces": {
        "hartree/bohr": _ENERGY["hartree"] / _LENGTH["bohr"],
        "rydberg/bohr": _ENERGY["hartree"] / _LENGTH["bohr"] / 2.0,
        "kcal/mol/Å": EV_PER_KCALMOL,
        "kJ/mol/Å": EV_PER_KJMOL,
        "kJ/mol/nm": EV_PER_KJMOL / _LENGTH["nm"],
    },
    "stress": {
        "GPa": _GPA,
        "kbar": 1e3 * BAR,
        "MPa": 1e-3 * _GPA,
        "bar": BAR,
        "hartree/bohr³": _ENERGY["hartree"] / _LENGTH["bohr"] ** 3,
    },
}
"""Units that data come in, in eV/Å and eV/Å³."""
_SHEARS = ("yz", "xz", "xy")


def systematic(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> list[str]:
    """Sentences about systematic differences, without a full stop; none where only scatter is seen.

    Looked for are energies counted from another zero, forces and stress in another unit or of opposite sign, shear
    stresses in another order (Voigt's xx yy zz yz xz xy against VASP's xx yy zz xy yz zx), and a pressure
    that all structures have in addition (Pulay stress of a small basis set, for example).

    Args:
        frames: (n,) with labels.
        predictions: (n,) of the same structures.
    """
    return [
        *_zero_of_energy(frames, predictions),
        *_factor(frames, predictions, "forces"),
        *_factor(frames, predictions, "stress"),
        *_order_of_shears(frames, predictions),
        *_pressure(frames, predictions),
    ]


def _zero_of_energy(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> Iterator[str]:
    before = errors(frames, predictions).row("energy")
    after = errors(frames, shifted(frames, predictions)[0]).row("energy")
    if before.n > 1 and before.rmse > 50.0 and after.rmse < 0.2 * before.rmse:
        yield (
            f"the energies are counted from another zero: a shift by element brings the RMSE from {before.rmse:,.0f} "
            f"to {after.rmse:.3g} {after.unit}. --shift compares them so"
        )


def _factor(frames: Sequence[LabelledFrame], predictions: Sequence[Labels], name: Property) -> Iterator[str]:
    reference, predicted = compared(frames, predictions, name)
    if name == "stress":
        reference, predicted = reference[:, :3], predicted[:, :3]
    known = np.isfinite(reference)
    x, y = reference[known], predicted[known]
    if len(x) < _FEW or not (np.ptp(x) > 0.0 and np.ptp(y) > 0.0):
        return
    if abs(np.corrcoef(x, y)[0, 1]) < SURE:
        return
    slope = float(np.std(x) / np.std(y) * np.sign(np.corrcoef(x, y)[0, 1]))
    if slope < 0.0:
        what = "derivatives of the energy, not forces" if name == "forces" else "-stress, positive in compression"
        yield f"the {name} have the opposite sign: the labels look like {what}"
    if not 1.0 / _FACTOR < abs(slope) < _FACTOR:
        close = [unit for unit, size in _OTHER_UNITS[name].items() if abs(abs(slope) * size - 1.0) < 0.1]
        guess = f"in {close[0]}" if close else "in another unit"
        yield f"the {name} of the labels are {abs(slope):.3g} times those predicted: are they {guess}?"


def _order_of_shears(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> Iterator[str]:
    """Which order of the shears fits; asked of each group, since groups may come from different sources."""
    reference, predicted = (tensor[:, -3:] for tensor in compared(frames, predictions, "stress"))
    groups = np.array([frame.group for frame in frames], dtype=object)
    orders: dict[tuple[int, ...], list[str]] = {}
    for group in sorted(set(groups)):
        own = (groups == group) & np.isfinite(reference).all(axis=1)
        if own.sum() < 2:
            continue
        distance = {
            order: math.sqrt(float(np.mean((predicted[own][:, order] - reference[own]) ** 2)))
            for order in permutations(range(3))
        }
        best = min(distance, key=lambda order: distance[order])
        spread = float(np.std(predicted[own]))
        if distance[best] < 0.3 * distance[0, 1, 2] and distance[0, 1, 2] > 0.3 * spread:
            orders.setdefault(best, []).append(group)
    for order, members in orders.items():
        where = f" (groups {', '.join(members)})" if any(members) and len(members) < len(set(groups)) else ""
        yield (
            f"the shear stresses of the data fit in another order{where}: what stands as {', '.join(_SHEARS)} agrees "
            f"with the predicted {', '.join(_SHEARS[axis] for axis in order)}"
        )


def _pressure(frames: Sequence[LabelledFrame], predictions: Sequence[Labels]) -> Iterator[str]:
    reference, predicted = (tensor[:, :3].mean(axis=1) for tensor in compared(frames, predictions, "stress"))
    excess = (reference - predicted)[np.isfinite(reference)] / _GPA
    if len(excess) < _FEW:
        return
    mean = float(excess.mean())
    if abs(mean) > max(0.1, 2.0 * float(excess.std())):
        yield (
            f"the stress of the data has {mean:+.2f} GPa in addition, nearly the same in all structures, which their "
            "energies do not know of: Pulay stress, for example"
        )
