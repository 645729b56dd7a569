"""Any potential of mlmd as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlmd.errors import InputError, MlmdError, SimulationError
from mlmd.neighbors import build_graph, check_skin, volume
from mlmd.potentials import Evaluator, Potential, has_energy
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import SKIN, evaluator
from mlmd.potentials.load import check_elements

NEAR = 0.1
"""Å: atoms so close to each other are a mistake in the structure."""


class SystemCalculator(ASECalculator):
    """An evaluator as ASE sees it: energy, forces and stress of the one system that it was made for.

    Energies and stresses of atoms are computed where they are asked for and the evaluator knows them. A stress of an
    atom is the symmetric part of its virial (`mlmd.kernels.kernel.Sums`) per volume of the whole cell, so that their
    sum is the stress. Both kinds of stress are those of fully periodic structures only, in Voigt order.
    """

    implemented_properties = [  # noqa: RUF012 (ASE's name and type)
        "energy", "free_energy", "energies", "forces", "stress", "stresses",
    ]  # fmt: skip

    def __init__(self, evaluator: Evaluator) -> None:
        """Take what evaluates the system."""
        super().__init__()
        self._evaluator: Evaluator | None = evaluator

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`, as ASE asks.

        Raises:
            InputError: when the potential does not know an element.
            PropertyNotImplementedError: for the stress without full periodicity.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        system: Any = self.atoms
        periodic = bool(system.pbc.all())
        if not periodic and {"stress", "stresses"} & set(properties):
            raise PropertyNotImplementedError("stress is defined with full periodicity only")
        engine = self._evaluator_of(system)
        ask = engine.evaluate
        if {"energies", "stresses"} & set(properties):
            ask = getattr(engine, "detailed", ask)
        found = ask(system.positions, system.cell.array)
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.energies is not None:
            self.results["energies"] = found.energies
        if periodic:
            space = volume(system.cell.array, system.pbc)
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.virial / space)
            if found.virials is not None:
                self.results["stresses"] = full_3x3_to_voigt_6_stress(found.virials / space)

    def _evaluator_of(self, atoms: Atoms) -> Evaluator:
        assert self._evaluator is not None
        return self._evaluator


class Calculator(SystemCalculator):
    """Any potential: by its compiled kernel, where it has one, else by its graph.

    The list of pairs is kept between calls as long as it is complete, and started anew for other atoms. What a graph
    gives does not depend on it. A kernel adds up in the order of the last search, so that results for the same atoms
    agree to rounding, and to the last bit only where pairs were searched for the same positions.

    A kernel reads the parameters of the potential when the first structure is evaluated, and the first of other atoms:
    make a new calculator of a potential whose parameters have changed.
    """

    def __init__(self, potential: Potential, *, skin: float = SKIN, device: torch.device | str = "cpu") -> None:
        """Take a potential, the skin of the pair list (Å) and where to compute: cpu, cuda, cuda:0 or auto.

        Raises:
            InputError: for a skin that is negative or not finite, and a device that is not there.
        """
        ASECalculator.__init__(self)
        self.potential, self.skin, self.device = potential, check_skin(skin), choose_device(str(device), potential)
        if isinstance(potential, torch.nn.Module):
            potential.to(self.device)
        self._evaluator = None
        self._system: tuple[bytes, bytes] | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`, as ASE asks.

        Raises:
            InputError: when the potential does not know an element, and for atoms in one place, where most potentials
                have no energy or no force.
            SimulationError: when energy or forces are not finite for another reason.
            PropertyNotImplementedError: for the stress without full periodicity, and for what a force field without an
                energy is asked for besides forces.
        """
        super().calculate(atoms, properties, system_changes)
        if not has_energy(self.potential):
            self.results = {"forces": self.results["forces"]}  # ASE says itself what is not there
        if not (np.isfinite(self.results.get("energy", 0.0)) and np.isfinite(self.results["forces"]).all()):
            self.results = {}
            raise _not_finite(self.atoms)

    def _evaluator_of(self, atoms: Atoms) -> Evaluator:
        system = (atoms.numbers.tobytes(), np.asarray(atoms.pbc).tobytes())
        if self._evaluator is None or system != self._system:
            check_elements(self.potential, atoms.get_chemical_symbols())
            self._evaluator = evaluator(self.potential, atoms.numbers, atoms.pbc, skin=self.skin, device=self.device)
            self._system = system
        return self._evaluator


def _not_finite(atoms: Atoms) -> MlmdError:
    """Why energy or forces are not finite, as far as one can see: two atoms in one place, or nearly so."""
    graph = build_graph(atoms, NEAR)
    if not graph.pairs.shape[1]:
        return SimulationError("the potential gives an energy or forces that are not finite for this structure.")
    distances = graph.vectors.norm(dim=1)
    i, j = graph.pairs[:, int(distances.argmin())].tolist()
    return InputError(
        f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {float(distances.min()):.2g} Å apart: the "
        "potential gives no finite energy or forces. Move or remove one of them (atoms are counted from 0)."
    )
