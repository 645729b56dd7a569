"""Any potential of mlmd as an ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes

from mlmd.neighbors import SkinList
from mlmd.potentials import Potential
from mlmd.potentials.evaluate import SKIN
from mlmd.potentials.load import check_elements


class Calculator(ASECalculator):
    """Energy, forces and stress for ASE; the stress of fully periodic structures only, in Voigt order.

    The list of pairs is kept between calls as long as it is complete, and started anew for other atoms;
    results do not depend on it.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(self, potential: Potential, *, skin: float = SKIN, device: torch.device | str = "cpu") -> None:
        """Take a potential, the skin of the pair list (Å) and where to compute."""
        super().__init__()
        if isinstance(potential, torch.nn.Module):
            potential.to(device)
        self.potential, self.skin, self.device = potential, skin, device
        self._pairs: SkinList | None = None
        self._system: tuple[bytes, bytes] | None = None

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
        if "stress" in properties and not system.pbc.all():
            raise PropertyNotImplementedError("stress is defined with full periodicity only")
        graph = self._list_for(system).graph(system.positions, system.cell.array)
        prediction = self.potential.predict(graph)
        energy = float(prediction.energy[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": prediction.forces.cpu().numpy()}
        if prediction.energies is not None:
            self.results["energies"] = prediction.energies.cpu().numpy()
        if system.pbc.all():
            self.results["stress"] = prediction.stress[0].cpu().numpy().flat[[0, 4, 8, 5, 2, 1]]

    def _list_for(self, atoms: Atoms) -> SkinList:
        system = (atoms.numbers.tobytes(), np.asarray(atoms.pbc).tobytes())
        if self._pairs is None or system != self._system:
            check_elements(self.potential, atoms.get_chemical_symbols())
            self._pairs = SkinList(atoms.numbers, atoms.pbc, self.potential.cutoff, self.skin, self.device)
            self._system = system
        return self._pairs
