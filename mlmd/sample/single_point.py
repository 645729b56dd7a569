"""What a potential says about structures as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlmd.errors import InputError, MlmdError
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
            "structure": frame.source, "formula": frame.atoms.get_chemical_formula("metal"), "atoms": len(frame.atoms),
            "energy_eV": frame.energy, "energy_eV_per_atom": frame.energy / len(frame.atoms),
            "max_force_eV_per_A": self.max_force, "pressure_bar": self.pressure,
            "spread_eV_per_A": self.spread, "grade": self.grade,
        }  # fmt: skip


def single_points(
    potential: Potential,
    frames: Sequence[LabelledFrame],
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SinglePoint]:
    """Energy, forces and stress of structures, with errors where the potential knows them.

    Raises:
        InputError, SimulationError: naming the structure.
    """
    answer, judge, stresses = predictor(potential, device), Judge(potential), has_stress(potential)
    points = []
    for frame in frames:
        atoms = frame.atoms
        try:
            found = answer(atoms)
            known = tuple(name for name in judge.knows if name != SPREAD or judge.fits(len(atoms)))
            errors = judge(atoms, known) if known else None
        except MlmdError as error:
            raise type(error)(f"{frame.source}: {error}") from None
        if not (np.isfinite(found.energy) and np.isfinite(found.forces).all()):
            raise InputError(f"{frame.source}: the energy or a force is not finite. Do atoms coincide?")
        periodic = stresses and bool(atoms.pbc.all())
        stress = found.virial / volume(atoms.cell.array, atoms.pbc) if periodic else None
        spread, grade = (
            None if errors is None or (values := getattr(errors, name)) is None else float(values.max())
            for name in (SPREAD, GRADE)
        )
        points.append(
            SinglePoint(
                frame=LabelledFrame(atoms, found.energy, found.forces, stress, frame.group, frame.source),
                max_force=float(np.linalg.norm(found.forces, axis=1).max()),
                pressure=None if stress is None else -float(np.trace(stress)) / 3 / BAR,
                spread=spread,
                grade=grade,
            )
        )
        progress(len(points), len(frames))
    return points
