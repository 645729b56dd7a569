"""Labelled structures made in the tests: copper with ASE's EMT potential, which knows energies, forces and stresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlmd.io.labelled import LabelledFrame


def label(atoms: Atoms, source: str, group: str = "") -> LabelledFrame:
    """A structure with EMT's labels."""
    computed = atoms.copy()
    computed.calc = EMT()
    stress = computed.get_stress(voigt=False) if atoms.pbc.all() else None
    # EMT counts from the crystal; DFT counts from atoms or electrons
    return LabelledFrame(
        atoms, computed.get_potential_energy() - 3.7 * len(atoms), computed.get_forces(), stress, group, source
    )


def thermal(n_frames: int = 24, repeat: int = 2, amplitude: float = 0.06, seed: int = 1) -> list[LabelledFrame]:
    """fcc copper with atoms displaced from their sites (Å, per component), in cells of one size."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.6).repeat(repeat)
        atoms.positions += random.normal(0, amplitude, (len(atoms), 3))
        frames.append(label(atoms, f"cu.xyz@{index}", "thermal"))
    return frames


def strained(n_frames: int = 10, seed: int = 2) -> list[LabelledFrame]:
    """Perfect fcc copper in cells that are strained by up to 4 %."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.6)
        strain = random.uniform(-0.02, 0.02, (3, 3)) + random.uniform(-0.02, 0.02) * np.eye(3)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        frames.append(label(atoms, f"cu.xyz@{100 + index}", "strained"))
    return frames


def copper_and_silver() -> list[LabelledFrame]:
    """Copper of one cell, displaced and strained, every other atom of which is called silver but in the first."""
    frames = [*thermal(7, repeat=1), *strained(7)]
    for frame in frames[1:]:
        frame.atoms.numbers[::2] = 47
    return frames


def at_volumes(n_frames: int = 40, seed: int = 3) -> list[LabelledFrame]:
    """Warm copper in cells of several volumes, as an NPT run gives them."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.6 * random.uniform(0.985, 1.015)).repeat(2)
        atoms.positions += random.normal(0, 0.1, (len(atoms), 3))
        frames.append(label(atoms, f"npt.xyz@{index}", "npt"))
    return frames


def scaled(
    frame: LabelledFrame, energy: float = 1.0, forces: float = 1.0, stress: float = 1.0, length: float = 1.0
) -> LabelledFrame:  # fmt: skip
    """A frame with numbers in other units or of other sign."""
    atoms = frame.atoms.copy()
    atoms.set_cell(atoms.cell.array * length, scale_atoms=False)
    atoms.positions *= length
    changes: dict[str, Any] = {"atoms": atoms}
    factors = {"energy": energy, "forces": forces, "stress": stress}
    for name, factor in factors.items():
        value = getattr(frame, name)
        changes[name] = None if value is None else value * factor
    return replace(frame, **changes)
