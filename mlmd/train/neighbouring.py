"""Whether energies, forces and stresses are derivatives of each other, seen from pairs of frames that are nearly alike.

Between two frames of the same atoms the energy changes by the work of the mean forces and of the mean stress,

    ΔE = -Σ_i (F_i + F_i')/2 · Δr_i + (Vσ + V'σ')/2 : ε + O(Δr³, ε³),

exactly so in a harmonic crystal. The ratio of both sides is 1; otherwise it tells the sign or the unit that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mlmd.io.labelled import LabelledFrame
from mlmd.units import BAR, EV_PER_KCALMOL, EV_PER_KJMOL, units_of

_HARTREE, _BOHR = units_of("energy")["hartree"], units_of("length")["bohr"]
_RYDBERG = _HARTREE / 2

N_SETS, N_FRAMES, N_CONSECUTIVE = 30, 40, 200
"""At most so many sets of alike frames, frames of a set that are all paired, and frames paired with the next one."""
NEAR, NEARER = 1.0, 0.5
"""Å: largest displacement of an atom over which the mean force is taken for the force in between."""
STILL = 0.05
"""Å: displacement below which only the cell differs."""
LARGEST_STRAIN, NO_STRAIN = 0.1, 1e-5

_ENERGY_UNITS = {
    "Hartree": _HARTREE, "Rydberg": _RYDBERG, "kcal/mol": EV_PER_KCALMOL, "kJ/mol": EV_PER_KJMOL, "meV": 1e-3,
}  # fmt: skip
_FORCE_UNITS = {
    "Hartree/Bohr": _HARTREE / _BOHR, "Rydberg/Bohr": _RYDBERG / _BOHR, "Hartree/Å": _HARTREE, "eV/Bohr": 1 / _BOHR,
    "kcal/mol/Å": EV_PER_KCALMOL, "kJ/mol/Å": EV_PER_KJMOL, "kJ/mol/nm": EV_PER_KJMOL / 10, "meV/Å": 1e-3,
}  # fmt: skip
_STRESS_UNITS = {
    "GPa": 1e4 * BAR, "kbar": 1e3 * BAR, "MPa": 10 * BAR, "bar": BAR,
    "Hartree/Bohr³": _HARTREE / _BOHR**3, "eV/Bohr³": 1 / _BOHR**3,
}  # fmt: skip


@dataclass(frozen=True)
class FramePair:
    """What changes from one frame to another of the same atoms."""

    displacement: float
    """Å, largest of an atom, beyond what the cell moves it."""
    strain: float
    """Largest component of the strain."""
    energy: float
    """ΔE, eV."""
    force_work: float
    """-Σ mean force · Δr, eV; nan without forces."""
    stress_work: float
    """Mean V·stress : strain, eV; nan without stresses."""
    n_atoms: int
    volume: float
    """Å³, nan without full periodicity."""


@dataclass(frozen=True)
class Ratio:
    """ΔE divided by work: the median over the pairs with much work, and how much it varies among them (relative)."""

    value: float
    spread: float


def near_pairs(frames: Sequence[LabelledFrame]) -> list[FramePair]:
    """Pairs of frames with energies that have the same atoms, and nearly the same positions and cell."""
    sets: dict[bytes, list[LabelledFrame]] = {}
    for frame in frames:
        if frame.energy is not None and len(frame.atoms) > 1:
            sets.setdefault(frame.atoms.numbers.tobytes() + frame.atoms.pbc.tobytes(), []).append(frame)
    largest = sorted(sets.values(), key=len, reverse=True)[:N_SETS]
    found = (_pair(alike[i], alike[j]) for alike in largest for i, j in _chosen(len(alike)))
    return [pair for pair in found if pair is not None]


def energy_against_forces(pairs: Sequence[FramePair]) -> Ratio | None:
    """ΔE over the work of the forces in a fixed cell; None when too few frames are near each other to tell."""
    fixed = [pair for pair in pairs if pair.strain < NO_STRAIN and math.isfinite(pair.force_work)]
    for limit, tolerance in ((NEARER, 0.35), (NEAR, 0.25)):
        near = [pair for pair in fixed if pair.displacement < limit]
        ratio = _ratio([pair.force_work for pair in near], [pair.energy for pair in near])
        if ratio is not None and ratio.spread < tolerance:
            return ratio
    return None


def energy_against_stress(pairs: Sequence[FramePair]) -> Ratio | None:
    """ΔE over the work of the stress among strained crystals; None when there are too few to tell.

    Stresses of plane waves in a basis of constant energy are off by a pressure (Pulay), so the ratio is a rough one.
    """
    strained = strained_pairs(pairs)
    internal = [pair.force_work if math.isfinite(pair.force_work) else 0.0 for pair in strained]
    energies = [pair.energy - work for pair, work in zip(strained, internal, strict=True)]
    ratio = _ratio([pair.stress_work for pair in strained], energies)
    return ratio if ratio is not None and ratio.spread < 0.8 else None


def strained_pairs(pairs: Sequence[FramePair]) -> list[FramePair]:
    """Those with stresses in which little more than the cell differs."""
    return [p for p in pairs if p.strain > NO_STRAIN and p.displacement < STILL and math.isfinite(p.stress_work)]


def forces_are_unrelated(pairs: Sequence[FramePair]) -> bool:
    """Whether energies change without regard to the forces even between frames that are very near each other."""
    near = [
        pair for pair in pairs if pair.strain < NO_STRAIN and pair.displacement < 0.3 and math.isfinite(pair.force_work)
    ]
    works, energies = np.array([p.force_work for p in near]), np.array([p.energy for p in near])
    if len(near) < 8 or not works.any() or not energies.any():
        return False
    return abs(works @ energies) < 0.3 * float(np.linalg.norm(works) * np.linalg.norm(energies))


def likely_units(ratio: float, n_atoms: float) -> list[str]:
    """Sentences that would explain a ratio of ΔE to the work of the forces, the closest first."""
    size = abs(ratio)
    single = {f"the energies are in {name}": 1 / unit for name, unit in _ENERGY_UNITS.items()}
    single |= {f"the forces are in {name}": unit for name, unit in _FORCE_UNITS.items()}
    single |= {"the positions are in Bohr": _BOHR, "the positions are in nm": 10.0}
    single["the energies are per atom"] = 1 / n_atoms
    both = {
        "energies and forces are in Hartree and Hartree/Bohr (or Rydberg and Rydberg/Bohr)": 1 / _BOHR,
        "energies and forces are in kJ/mol and kJ/mol/nm": 0.1,
        "everything is in atomic units, positions too": 1.0,
    }
    return _fitting(size, both | single, 1.25)


def likely_energy_units(ratio: float, n_atoms: float) -> list[str]:
    """Sentences that would explain energies that vary so many times too much, known to a factor of about three."""
    known = {f"the energies are in {name}": 1 / unit for name, unit in _ENERGY_UNITS.items() if name != "Rydberg"}
    return _fitting(ratio, known | {"the energies are per atom": 1 / n_atoms}, 3.0)


def likely_stress_units(ratio: float, volume: float) -> list[str]:
    """Sentences that would explain a ratio of ΔE to the work of the stress, known to a factor of about two."""
    sign = " with the wrong sign" if ratio < 0 else ""
    known = {f"it is in {name}{sign}": unit for name, unit in _STRESS_UNITS.items()}
    whole = 'it is a virial, -V·stress in eV (name it virial = "...")' if ratio < 0 else "it is V·stress in eV"
    known[whole] = 1 / volume
    together = {f"energies and forces are in {name}": 1 / unit for name, unit in _ENERGY_UNITS.items()}
    fitting = _fitting(abs(ratio), known, 2.5) + ([] if ratio < 0 else _fitting(ratio, together, 1.3))
    return fitting[:2]


def _fitting(size: float, known: Mapping[str, float], factor: float) -> list[str]:
    if size == 0:
        return []
    off = {text: abs(math.log(size / value)) for text, value in known.items()}
    return sorted((text for text in known if off[text] < math.log(factor)), key=lambda text: off[text])[:2]


def _chosen(n_frames: int) -> list[tuple[int, int]]:
    """Which frames of a set to compare: each with the next one, and some with all."""
    some = np.unique(np.linspace(0, n_frames - 1, min(n_frames, N_FRAMES)).astype(int)).tolist()
    following = list(pairwise(range(min(n_frames, N_CONSECUTIVE))))
    return sorted({*following, *((i, j) for i in some for j in some if i < j)})


def _pair(one: LabelledFrame, other: LabelledFrame) -> FramePair | None:
    """The changes from one frame to another, None when they are too far apart."""
    assert one.energy is not None and other.energy is not None
    periodic = one.atoms.pbc
    volume, strain, stress_work = math.nan, 0.0, math.nan
    if not periodic.any():
        displacements, turn = _aligned(one.atoms.positions, other.atoms.positions)
    else:
        turn = np.eye(3)
        cells = [np.asarray(frame.atoms.cell.complete().array) for frame in (one, other)]
        deformation = np.linalg.solve(cells[0], cells[1])
        strain = float(np.abs(deformation - np.eye(3)).max())
        if strain > LARGEST_STRAIN or (strain > NO_STRAIN and not periodic.all()):
            return None
        displacements = _displacements(one, other, cells)
    largest = float(np.linalg.norm(displacements, axis=1).max())
    if largest > NEAR:
        return None
    if periodic.all():
        volume = abs(float(np.linalg.det(cells[0])))
        stress_work = _stress_work(one, other, cells, deformation)
    force_work = math.nan
    if one.forces is not None and other.forces is not None:
        force_work = -float(np.sum((one.forces + other.forces @ turn) / 2 * displacements))
    energy = other.energy - one.energy
    return FramePair(largest, strain, energy, force_work, stress_work, len(one.atoms), volume)


def _displacements(one: LabelledFrame, other: LabelledFrame, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Δr of the nearest images at equal fractional coordinates, without the motion of the whole, (n_atoms, 3) Å."""
    fractions = [np.linalg.solve(cell.T, f.atoms.positions.T).T for cell, f in zip(cells, (one, other), strict=True)]
    difference = fractions[1] - fractions[0]
    periodic = one.atoms.pbc
    for _ in range(2):  # again when the motion of the whole carried atoms across the boundary
        difference[:, periodic] -= np.round(difference[:, periodic])
        difference -= difference.mean(axis=0)
    result: np.ndarray = difference @ ((cells[0] + cells[1]) / 2)
    return result


def _aligned(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacements of a molecule after the best rotation (Kabsch), and the rotation: other @ rotation ≈ one."""
    a, b = one - one.mean(axis=0), other - other.mean(axis=0)
    u, _, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ flip @ vt
    return b @ rotation - a, rotation


def _stress_work(
    one: LabelledFrame, other: LabelledFrame, cells: Sequence[np.ndarray], deformation: np.ndarray
) -> float:  # fmt: skip
    """Mean V·stress : strain, eV; nan without stresses."""
    if one.stress is None or other.stress is None:
        return math.nan
    # 2 (D - 1)(D + 1)⁻¹ is ln D up to the third order
    strain = 2 * (deformation - np.eye(3)) @ np.linalg.inv(deformation + np.eye(3))
    volumes = [abs(np.linalg.det(cell)) for cell in cells]
    return float(np.sum((one.stress * volumes[0] + other.stress * volumes[1]) / 2 * (strain + strain.T) / 2))


def _ratio(works: Sequence[float], energies: Sequence[float]) -> Ratio | None:
    """Median and relative spread of energy/work over the half of the pairs with more work."""
    work, energy = np.abs(np.array(works)), np.array(energies)
    if len(work) < 3 or not energy.any():
        return None
    used = (work >= np.median(work)) & (work > 1e-9 * max(1.0, float(np.abs(energy).max())))
    if used.sum() < 3:
        return None
    ratios = energy[used] / np.array(works)[used]
    value = float(np.median(ratios))
    spread = 1.4826 * float(np.median(np.abs(ratios - value))) / max(abs(value), 1e-12)
    return Ratio(value, spread)
