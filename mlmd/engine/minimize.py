"""The minimize stage: ASE's optimizers on the run's own evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.calculators.calculator import all_changes
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlmd import units
from mlmd.ase import SystemCalculator
from mlmd.config import Minimize
from mlmd.errors import InputError, SimulationError
from mlmd.potentials import Evaluator

_DENSEST = 0.1
"""Volume of a cell in units of the spheres of covalent radius about its atoms: caesium at 200 GPa has 0.3, and most
have more than 1. A cell that goes on shrinking has ever more pairs, so that it would neither end nor fit the memory."""


class _Finite(SystemCalculator):
    """The run's own evaluator as ASE sees it, and nothing that is not finite or denser than any matter."""

    stress_needed = False
    """Whether the stress must be finite too."""

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`, as ASE asks."""
        if self.stress_needed and atoms is not None:
            _check_density(atoms)
        super().calculate(atoms, properties, system_changes)
        energy = self.results["energy"]
        if not np.isfinite(energy) or not np.all(np.isfinite(self.results["forces"])):
            raise SimulationError(
                f"the potential gave a non-finite result while minimizing: energy {energy} eV. "
                "Are atoms on top of each other, or outside what the potential was trained on?"
            )
        if self.stress_needed and not np.all(np.isfinite(self.results["stress"])):
            raise SimulationError(
                "the potential gives no stress, or one that is not finite: the cell cannot be relaxed."
            )


def _check_density(atoms: ase.Atoms) -> None:
    """Make sure that a cell has not collapsed.

    Raises:
        SimulationError: when it has.
    """
    volume, spheres = atoms.get_volume(), float((4 / 3 * np.pi * covalent_radii[atoms.numbers] ** 3).sum())
    if volume < _DENSEST * spheres:
        raise SimulationError(
            f"the cell collapses: {volume / len(atoms):.3g} Å³ are left for an atom, less than in any matter. The "
            "potential does not keep atoms apart: is a part of it missing, such as the ZBL with which a SNAP was "
            'fitted or the baseline of what was learned beside one? Add it, or { kind = "zbl", cutoff = "2 Å" }.'
        )


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
        SimulationError: for a non-finite energy or force, and with the cell for a stress that is not finite and for a
            cell that collapses.
    """
    if stage.cell and not atoms.pbc.all():
        raise InputError("minimize: cell = true needs a structure that is periodic in all three directions.")
    atoms = atoms.copy()
    atoms.calc = _Finite(evaluator)
    atoms.calc.stress_needed = stage.cell
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
