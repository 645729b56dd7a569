"""Potentials of mlmd in OpenMM-ML, by the entry point ``openmmml.potentials``: ``MLPotential("mlmd", path="x.mlmd")``.

They become one PythonForce of an OpenMM System, of all atoms or of those that OpenMM-ML asks for: its mixed systems of
a part by machine learning and the rest by a force field take them too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import openmm
from openmm import unit
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory
from pydantic import ValidationError

from mlmd.config import PotentialTable
from mlmd.config.explain import explain
from mlmd.engine.forces import NM
from mlmd.errors import InputError
from mlmd.potentials import Evaluator
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.load import check_elements, check_energy, load_potential
from mlmd.units import EV_PER_KJMOL


class Factory(MLPotentialImplFactory):
    """Makes potentials by what an input file would say of them."""

    def createImpl(self, name: str, device: str = "auto", **table: Any) -> MLPotentialImpl:
        """A potential.

        Args:
            name: "mlmd".
            device: where it computes: cpu, cuda, cuda:0 or auto.
            table: as the table ``potential`` of an input: ``path="x.mlmd"``, or ``kind=...`` with its options.

        Raises:
            InputError, ModelError: when it cannot be loaded.
        """
        try:
            checked = PotentialTable.model_validate(table)
        except ValidationError as error:
            raise InputError("; ".join(explain(error, PotentialTable, table))) from None
        return Implementation(checked, device)


class Implementation(MLPotentialImpl):
    """Adds a potential to Systems."""

    def __init__(self, table: PotentialTable, device: str) -> None:
        """Load it."""
        self._potential, self._device = load_potential((table,)), choose_device(device)
        check_energy(self._potential)

    def addForces(
        self,
        topology: Any,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **options: Any,
    ) -> None:
        """Add one force.

        Args:
            topology: names the elements, and whether there is a box.
            system: gets the force.
            atoms: indices of those that it acts on; None for all.
            forceGroup: that the force belongs to.
            options: none are known.

        Raises:
            InputError: for elements that the potential does not know, and for options.
        """
        if options:
            raise InputError(f"{', '.join(options)}: give options of the potential to MLPotential, not to the system.")
        everyone = list(topology.atoms())
        if nameless := [atom.index for atom in everyone if atom.element is None]:
            raise InputError(f"atom {nameless[0]} of the topology has no element (atoms are counted from 0).")
        indices = None if atoms is None else list(atoms)
        chosen = everyone if indices is None else [everyone[i] for i in indices]
        check_elements(self._potential, [atom.element.symbol for atom in chosen], "the topology")
        periodic = topology.getPeriodicBoxVectors() is not None
        numbers = np.array([atom.element.atomic_number for atom in chosen])
        ready = evaluator(self._potential, numbers, np.full(3, periodic), device=self._device)
        force = openmm.PythonForce(_Compute(ready, periodic))
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(periodic)
        if indices is not None:
            force.setParticles(indices)
        system.addForce(force)


class _Compute:
    """What OpenMM calls."""

    def __init__(self, ready: Evaluator, periodic: bool) -> None:
        self._evaluator, self._periodic = ready, periodic

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (n_atoms, 3) (kJ/mol/nm)."""
        positions = np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        cell = np.zeros((3, 3))
        if self._periodic:
            cell = np.array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer)) * NM
        found = self._evaluator.evaluate(positions, cell)
        return found.energy / EV_PER_KJMOL, found.forces * NM / EV_PER_KJMOL
