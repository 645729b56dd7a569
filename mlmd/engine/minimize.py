"""The minimize stage: ASE's optimizers on the run's own evaluator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.stress import full_3x3_to_voigt_6_stress

from mlmd import units
from mlmd.config import Minimize
from mlmd.errors import InputError, SimulationError
from mlmd.potentials import Evaluator


class _FromEvaluator(Calculator):
    """An evaluator as ASE sees it."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's name and type)

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()
        self._evaluator = evaluator

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: object = None, system_changes: object = all_changes
    ) -> None:
        """Energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt)."""
        super().calculate(atoms)
        result = self._evaluator.evaluate(self.atoms.positions, self.atoms.cell.array)
        if not np.isfinite(result.energy) or not np.all(np.isfinite(result.forces)):
            raise SimulationError(
                f"the potential gave a non-finite result while minimizing: energy {result.energy} eV. "
                "Are atoms on top of each other, or outside what the potential was trained on?"
            )
        self.results = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces}
        if self.atoms.pbc.all():
            self.results["stress"] = full_3x3_to_voigt_6_stress(result.virial / self.atoms.get_volume())


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended."""

    positions: np.ndarray
    """(n_atoms, 3) Å."""
    cell: np.ndarray
    """(3, 3) Å."""
    energy: float
    """eV."""
    max_force: float
    """eV/Å; with the cell relaxed, the generalised forces too."""
    n_steps: int
    converged: bool


def minimize(
    stage: Minimize,
    evaluator: Evaluator,
    atoms: ase.Atoms,
    mobile: np.ndarray,
    each_step: Callable[[int], None] = lambda step: None,
) -> Minimum:
    """Move atoms downhill by FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)).

    Args:
        stage: of the input.
        evaluator: of the potential.
        atoms: start; not changed.
        mobile: (n_atoms,) bool.
        each_step: called after every step with its number; may raise to stop.

    Raises:
        InputError: when the cell is to be relaxed and is not periodic in three directions.
        SimulationError: for a non-finite energy or force.
    """
    if stage.cell and not atoms.pbc.all():
        raise InputError("minimize: cell = true needs a structure that is periodic in all three directions.")
    atoms = atoms.copy()
    atoms.calc = _FromEvaluator(evaluator)
    if not mobile.all():
        atoms.set_constraint(FixAtoms(mask=~mobile))
    pressure = stage.pressure * units.BAR
    target = FrechetCellFilter(atoms, scalar_pressure=pressure) if stage.cell else atoms
    optimizer = FIRE(target, logfile=None)
    optimizer.attach(lambda: each_step(optimizer.nsteps))
    converged = bool(optimizer.run(fmax=stage.max_force, steps=stage.max_steps))
    residual = float(np.sqrt((np.asarray(target.get_forces()) ** 2).sum(axis=1).max()))
    return Minimum(
        atoms.positions.copy(), atoms.cell.array.copy(), float(atoms.get_potential_energy()), residual,
        int(optimizer.nsteps), converged,
    )  # fmt: skip
