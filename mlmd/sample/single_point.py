"""What a potential says about structures as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlmd.errors import MlmdError, SimulationError
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import volume
from mlmd.potentials import Potential, has_stress
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.uncertainty import GRADE, SPREAD, Judge
from mlmd.units import BAR


@dataclass(frozen=True)
class SinglePoint:
    """A structure and what was said about it."""

    frame: LabelledFrame
    """The structure, with energy (eV), forces (eV/Å) and stress (eV/Å³) as predicted."""
    max_force: float
    """eV/Å, the largest norm of a force."""
    pressure: float | None
    """bar, of the structure at rest; None without full periodicity or without a stress."""
    spread: float | None
    """eV/Å, the largest expected error of a force; None where the potential knows none."""
    grade: float | None
    """The largest extrapolation grade γ; None where the potential knows none."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        frame = self.frame
        assert frame.energy is not None
        return {
            **facts(frame),
            "energy_eV": frame.energy, "energy_eV_per_atom": frame.energy / len(frame.atoms),
            "max_force_eV_per_A": self.max_force, "pressure_bar": self.pressure,
            "spread_eV_per_A": self.spread, "grade": self.grade, "error": None,
        }  # fmt: skip


@dataclass(frozen=True)
class Failed:
    """A structure of which nothing is known."""

    frame: LabelledFrame
    message: str
    """Why, without its name."""

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {**facts(self.frame), "error": self.message}


def facts(frame: LabelledFrame) -> dict[str, Any]:
    """What is known of a structure without asking anybody (JSON-able)."""
    return {
        "structure": frame.source, "formula": frame.atoms.get_chemical_formula("metal"), "atoms": len(frame.atoms)
    }  # fmt: skip


def single_points(
    potential: Potential, frames: Sequence[LabelledFrame], device: str = "cpu"
) -> Iterator[SinglePoint | Failed]:
    """Energy, forces and stress of structures, one after the other, with errors where the potential knows them.

    A structure that fails, also by an energy or a force that is not finite, does not keep the others from being asked
    about.
    """
    answer, judge, stresses = predictor(potential, device), Judge(potential, device), has_stress(potential)

    def point(frame: LabelledFrame) -> SinglePoint:
        atoms = frame.atoms
        found = answer(atoms)
        if not (np.isfinite(found.energy) and np.isfinite(found.forces).all()):
            raise SimulationError("the energy or a force is not finite. Do atoms coincide?")
        known = tuple(name for name in judge.knows if name != SPREAD or judge.fits(len(atoms)))
        errors = judge(atoms, known) if known else None
        periodic = stresses and bool(atoms.pbc.all())
        stress = finite_stress(found.virial, atoms) if periodic else None
        spread, grade = (
            None if errors is None or (values := getattr(errors, name)) is None else _finite(values.max())
            for name in (SPREAD, GRADE)
        )
        return SinglePoint(
            frame=LabelledFrame(atoms, found.energy, found.forces, stress, frame.group, frame.source),
            max_force=float(np.linalg.norm(found.forces, axis=1).max()),
            pressure=None if stress is None else -float(np.trace(stress)) / 3 / BAR,
            spread=spread,
            grade=grade,
        )

    for frame in frames:
        try:
            yield point(frame)
        except MlmdError as error:
            yield Failed(frame, str(error))


def finite_stress(virial: np.ndarray, atoms: Atoms) -> np.ndarray | None:
    """(3, 3) eV/Å³, the stress of a periodic structure with a virial (eV); None where the potential knows none."""
    return virial / volume(atoms.cell.array, atoms.pbc) if np.isfinite(virial).all() else None


def _finite(value: float) -> float | None:
    """A number that JSON has; None for others."""
    return float(value) if math.isfinite(value) else None
