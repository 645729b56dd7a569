"""Lattice constants and elastic constants of the DFT that mlearn was made with, from its strained crystals.

    python benchmarks/references.py FOLDER      # with Li_train.xyz.xz, Li_test.xyz.xz, Si_..., Cu_..., Ni_...

The energy of a cubic crystal to third order in the Lagrangian strain η (Voigt notation; Brugger, Phys. Rev. 133,
A1611 (1964)),

    U/V = τ (η1 + η2 + η3) + C11 (η1² + η2² + η3²)/2 + C12 (η1η2 + η2η3 + η3η1) + C44 (η4² + η5² + η6²)/2 + C111 ...

without C123, on which crystals strained along one axis do not depend, is fitted to energies and stresses together;
stresses are its derivatives. The diagonal of the stress may have an offset: in a basis of plane waves energies and
stresses do not agree about the volume (Francis and Payne, J. Phys. Condens. Matter 2, 4395 (1990)), by 2 to 3 GPa
for Cu and Ni here. Potentials learn energies and forces, so the minimum of the energy is what they are compared with.
In brackets: half the range of the results with strains up to 2.5, 3.5, 4.5 and 6 %.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import units

from mlmd.io.labelled import LabelledFrame, read_labelled

CELLS = {"Li": 1, "Si": 2, "Cu": 3, "Ni": 3}
"""Unit cells along each edge of the strained crystals."""
EXCHANGED = ("Cu", "Ni")
"""In these files yz and xz of the stress are exchanged, as the strains show (a shear of xz has a stress in yz)."""
SHEAR_BY_ENERGY = ("Li",)
"""Shear stresses of Li jump between strains of 0.5 and 1 %, where the mesh of k-points changes; energies do not."""
ENERGY, STRESS = 1e-4, 0.05 * units.GPa
"""eV/atom and eV/Å³: how well the labels are known, for the weights."""


def terms(strain: np.ndarray) -> np.ndarray:
    """What multiplies 1, τ, C11, C12, C44, C111, C112, C144, C155, C456 in U/V; strain (3, 3)."""
    e1, e2, e3 = np.diag(strain)
    e4, e5, e6 = 2 * strain[1, 2], 2 * strain[0, 2], 2 * strain[0, 1]
    second = [(e1**2 + e2**2 + e3**2) / 2, e1 * e2 + e2 * e3 + e3 * e1, (e4**2 + e5**2 + e6**2) / 2]
    third = [
        (e1**3 + e2**3 + e3**3) / 6,
        (e1**2 * (e2 + e3) + e2**2 * (e3 + e1) + e3**2 * (e1 + e2)) / 2,
        (e1 * e4**2 + e2 * e5**2 + e3 * e6**2) / 2,
        ((e2 + e3) * e4**2 + (e3 + e1) * e5**2 + (e1 + e2) * e6**2) / 2,
        e4 * e5 * e6,
    ]
    return np.array([1, e1 + e2 + e3, *second, *third])


def slopes(strain: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """dU/V by each strain component, (3, 3, n_terms): the second Piola-Kirchhoff stress."""
    result = np.empty((3, 3, len(terms(strain))))
    for i, j in np.ndindex(3, 3):
        change = np.zeros((3, 3))
        change[i, j] += step / 2
        change[j, i] += step / 2
        result[i, j] = (terms(strain + change) - terms(strain - change)) / (2 * step)
    return result


def crystals(folder: Path, element: str) -> list[LabelledFrame]:
    """The strained crystals of an element; where the file has no groups, those without forces."""
    frames = [frame for part in ("train", "test") for frame in read_labelled(folder / f"{element}_{part}.xyz.xz")]
    size = CELLS[element] ** 3 * {"Li": 2, "Si": 8}.get(element, 4)
    return [frame for frame in frames if frame.group == "Elastic" or (not frame.group and is_perfect(frame, size))]


def is_perfect(frame: LabelledFrame, size: int) -> bool:
    """A crystal of this many atoms without forces."""
    return len(frame.atoms) == size and np.abs(frame.forces).max() < 0.02


def fit(frames: Sequence[LabelledFrame], element: str, largest: float) -> dict[str, float]:
    """Lattice constant (Å) and elastic constants (GPa) at the minimum of the energy."""
    edge = float(np.median([frame.atoms.cell.array[0, 0] for frame in frames]))
    volume = edge**3 / len(frames[0].atoms)
    rows: list[np.ndarray] = []
    values: list[float] = []
    for frame in frames:
        gradient = (frame.atoms.cell.array / edge).T  # x' = F x
        strain = (gradient.T @ gradient - np.eye(3)) / 2
        if np.abs(strain).max() > largest:
            continue
        rows.append(np.append(volume * terms(strain), 0.0) / ENERGY)
        values.append(frame.energy / len(frame.atoms) / ENERGY)
        if frame.stress is None:
            continue
        stress = frame.stress
        if element in EXCHANGED:
            stress = stress.copy()
            stress[1, 2], stress[0, 2] = frame.stress[0, 2], frame.stress[1, 2]
            stress[2, 1], stress[2, 0] = stress[1, 2], stress[0, 2]
        inverse = np.linalg.inv(gradient)
        piola = np.linalg.det(gradient) * inverse @ stress @ inverse.T
        for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            if i == j or element not in SHEAR_BY_ENERGY:
                rows.append(np.append(slopes(strain)[i, j], float(i == j)) / STRESS)
                values.append(piola[i, j] / STRESS)
    matrix = np.array(rows)
    scale = np.abs(matrix).max(axis=0) + 1e-300
    solution = np.linalg.lstsq(matrix / scale, np.array(values), rcond=1e-9)[0] / scale
    return at_minimum(solution[:-1], edge / CELLS[element])


def at_minimum(coefficients: np.ndarray, edge: float) -> dict[str, float]:
    """Where the fitted energy is lowest, and its second derivatives there."""

    def energy(deformation: np.ndarray) -> float:
        return float(terms((deformation.T @ deformation - np.eye(3)) / 2) @ coefficients)

    scales = np.linspace(0.985, 1.015, 3001)
    best = scales[np.argmin([energy(scale * np.eye(3)) for scale in scales])]

    def curvature(direction: np.ndarray, step: float = 1e-3) -> float:
        low, mid, high = (energy(best * (np.eye(3) + shift * direction)) for shift in (-step, 0.0, step))
        return (low - 2 * mid + high) / step**2 / best**3 / units.GPa

    bulk, shear = curvature(np.eye(3)) / 9, curvature(np.diag([1.0, -1.0, 0.0])) / 4
    c44 = curvature(np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]]))
    return {
        "a": best * edge, "C11": bulk + 4 * shear / 3, "C12": bulk - 2 * shear / 3, "C44": c44, "bulk modulus": bulk,
    }  # fmt: skip


def main() -> None:
    """Fit and print."""
    folder = Path(sys.argv[1])
    for element in CELLS:
        frames = crystals(folder, element)
        fits = [fit(frames, element, largest) for largest in (0.025, 0.035, 0.045, 0.06)]
        spread = {name: np.ptp([one[name] for one in fits]) / 2 for name in fits[0]}
        mean = {name: np.mean([one[name] for one in fits]) for name in fits[0]}
        text = ", ".join(
            f"{name} {mean[name]:.{digits}f} ({spread[name]:.{digits}f})"
            for name, digits in {"a": 3, "C11": 1, "C12": 1, "C44": 1, "bulk modulus": 1}.items()
        )
        print(f"{element}: {len(frames)} crystals: {text}" + (" (C44 with clamped atoms)" if element == "Si" else ""))


if __name__ == "__main__":
    main()
