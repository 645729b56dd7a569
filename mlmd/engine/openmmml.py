"""Potentials of mlmd in OpenMM-ML, by the entry point ``openmmml.potentials``: ``MLPotential("mlmd", path="x.mlmd")``.

They become one PythonForce of an OpenMM System, of all atoms or of those that OpenMM-ML asks for: its mixed systems of
a part by machine learning and the rest by a force field take them too.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory
from pydantic import ValidationError

from mlmd.config import PotentialTable
from mlmd.config.explain import explain
from mlmd.engine.python_force import Compute, Loaded
from mlmd.errors import InputError
from mlmd.potentials.device import choose_device
from mlmd.potentials.load import check_elements, check_energy

MEANINGLESS = frozenset(
    ("charge", "implementation", "interpolate", "linkAtomDistances", "mlLongRange", "multiplicity", "precision",
     "returnEnergyType")
)  # fmt: skip
"""Keywords of systems that OpenMM-ML's embeddings and its other potentials take, and that change nothing here."""


class Factory(MLPotentialImplFactory):
    """Makes potentials by what an input file would say of them."""

    def createImpl(
        self, name: str, device: str = "auto", loaded: Loaded | None = None, **table: Any
    ) -> MLPotentialImpl:
        """A potential.

        Args:
            name: "mlmd".
            device: where it computes: cpu, cuda, cuda:0 or auto.
            loaded: one that is there already, instead of a table.
            table: as the table ``potential`` of an input: ``path="x.mlmd"``, or ``kind=...`` with its options.

        Raises:
            InputError, ModelError: when it cannot be loaded.
        """
        if loaded is not None:
            return Implementation(loaded, device)
        try:
            checked = PotentialTable.model_validate(table, context={"folder": Path.cwd()})
        except ValidationError as error:
            raise InputError("; ".join(explain(error, PotentialTable, table))) from None
        return Implementation(Loaded((checked,)), device)


class Implementation(MLPotentialImpl):
    """Adds a potential to Systems."""

    def __init__(self, loaded: Loaded, device: str) -> None:
        """Load it, if it is not."""
        self._loaded, self._device = loaded, choose_device(device, loaded.potential)
        self.computes: list[Compute] = []
        """The functions of the forces that were added."""
        check_energy(self._loaded.potential)

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
            options: ``device``, where it computes if not where MLPotential says. Those that other potentials and the
                embeddings take are ignored: ``charge`` and ``multiplicity`` (a potential here has the charges that it
                was fitted to), ``precision`` (which MLPotential takes), ``interpolate=False``, ``returnEnergyType``,
                ``implementation``, ``mlLongRange`` and ``linkAtomDistances`` (which the embedding has used already).

        Raises:
            InputError: for elements that the potential does not know, and for other options.
        """
        device = (
            choose_device(str(options.pop("device")), self._loaded.potential) if "device" in options else self._device
        )
        if options.get("interpolate"):
            raise InputError("interpolate: only a mixed system has something to interpolate with: createMixedSystem.")
        if unknown := sorted(options.keys() - MEANINGLESS):
            raise InputError(f"{', '.join(unknown)}: give options of the potential to MLPotential, not to the system.")
        everyone = list(topology.atoms())
        if nameless := [atom.index for atom in everyone if atom.element is None]:
            raise InputError(f"atom {nameless[0]} of the topology has no element (atoms are counted from 0).")
        indices = None if atoms is None else list(atoms)
        chosen = everyone if indices is None else [everyone[i] for i in indices]
        check_elements(self._loaded.potential, [atom.element.symbol for atom in chosen], "the topology")
        periodic = topology.getPeriodicBoxVectors() is not None
        numbers = np.array([atom.element.atomic_number for atom in chosen])
        compute = Compute(self._loaded, numbers, periodic, device)
        compute.prepare()
        self.computes.append(compute)
        force = openmm.PythonForce(compute)
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(periodic)
        if indices is not None:
            force.setParticles(indices)
        system.addForce(force)
