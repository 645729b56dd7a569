"""Coulomb energy of charges, fixed or equilibrated: Ewald's sum in crystals, all pairs in the open.

E = ½ Σ_i Σ_j q_i q_j e² / (4πε₀ r_ij) over all pairs and periodic images (P. P. Ewald, Ann. Phys. 369, 253 (1921)), the
charges given by element, or those of `mlmd.potentials.equilibration`, which are Gaussians and depend on the structure.
Ewald's sum is that of torch-pme (P. Loche et al., J. Chem. Phys. 162, 142501 (2025)) with a
conducting boundary far away. A fit above it has only what is near to learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.potentials import Prediction
from mlmd.potentials.equilibration import KIND, Equilibration, equilibrate, overlap
from mlmd.potentials.pair import COULOMB
from mlmd.units import parse

_NEUTRAL = 1e-6
"""e for each atom: charges of a crystal that add up to more have no energy."""
_LEAST, _MOST = 1e-12, 1e-2
"""Of the accuracy."""


class Coulomb(torch.nn.Module):
    """Charges by element or equilibrated; its forces and stress are the derivatives of Ewald's sum.

    Predictions have the charges, in e, among their properties.
    """

    def __init__(
        self,
        *,
        charges: Mapping[str, object],
        cutoff: object = 10.0,
        accuracy: float = 1e-8,
        elements: Sequence[str] | None = None,
        precision: str = "float64",
    ) -> None:
        """Read what an input table says.

        Args:
            charges: of an atom of each element, in e, e.g. ``{"Na": 1, "Cl": -1}``; or what they depend on, see
                `Equilibration.read`.
            cutoff: of the part that is summed over pairs; the longer, the fewer waves for the rest.
            accuracy: relative to the energy of an atom; neglected parts of both sums are of this size.
            elements: those of `charges`; given to choose among them.
            precision: float64 alone: large terms cancel.

        Raises:
            InputError: for charges, lengths and numbers that are none, and when torch-pme is not installed.
        """
        super().__init__()
        if precision != "float64":
            raise InputError("precision: large terms of Ewald's sum cancel: it is computed in float64 alone.")
        if not isinstance(charges, Mapping) or not charges:
            raise InputError(
                f"charges: {charges!r} is not a table of charges. Write for example {{ Na = 1, Cl = -1 }}."
            )
        self.equilibration = Equilibration.read(charges) if charges.get("kind") == KIND else None
        if "kind" in charges and self.equilibration is None:
            raise InputError(
                f'charges: kind: {charges["kind"]!r} is not known; "{KIND}" is, or a charge of each element.'
            )
        fixed = charges if self.equilibration is None else dict.fromkeys(self.equilibration.elements, 0.0)
        for symbol, charge in fixed.items():
            if isinstance(charge, bool) or not isinstance(charge, int | float) or not math.isfinite(charge):
                raise InputError(f"charges: {symbol}: {charge!r} is not a number of elementary charges.")
        if isinstance(accuracy, bool) or not isinstance(accuracy, int | float) or not _LEAST <= accuracy <= _MOST:
            raise InputError(f"accuracy: {accuracy!r}: a number from {_LEAST:g} to {_MOST:g} is needed.")
        self.elements = check_symbols(tuple(fixed) if elements is None else elements)
        if missing := [symbol for symbol in self.elements if symbol not in fixed]:
            raise InputError(f"charges: {', '.join(missing)} has none.")
        self.charges = {symbol: float(fixed[symbol]) for symbol in self.elements}  # type: ignore[arg-type]
        self.cutoff, self.accuracy = float(parse(cutoff, "length")), float(accuracy)
        if not self.cutoff > 0:
            raise InputError(f"cutoff: {cutoff!r}: a length above zero is needed.")
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        of_elements = torch.tensor(list(self.charges.values()), dtype=torch.float64)
        self.register_buffer("of_elements", of_elements, persistent=False)
        # erfc(s) and exp(-s²), by which both sums are cut off, are about the accuracy
        s = math.sqrt(-math.log(self.accuracy))
        if self.equilibration is not None:
            table = self.equilibration.of(self.elements)
            self.register_buffer("of_equilibration", table, persistent=False)
            if self.cutoff < (least := 2.0 * s * float(table[:, 2].max())):
                raise InputError(
                    f"charges: width: Gaussians of {float(table[:, 2].max()):g} Å overlap up to {least:.3g} Å, beyond "
                    f"the cutoff of {self.cutoff:g} Å. Give a longer cutoff or a larger accuracy."
                )
        smearing = self.cutoff / (math.sqrt(2.0) * s)
        self._longest = math.sqrt(2.0) * s / smearing
        self._sum = _ewald(smearing)

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress; see `Prediction` for shapes, units and signs.

        Raises:
            InputError: for a structure with some periodic directions, a crystal whose charges do not cancel, and two
                atoms at the same place.
        """
        kinds = species(graph.numbers, self.get_buffer("species_table"))
        parts = [self._one(graph, n, kinds) for n in range(graph.n_structures)]
        energy, forces, virial, energies, charges = (
            torch.stack([one[0] for one in parts]), torch.cat([one[1] for one in parts]),
            torch.stack([one[2] for one in parts]), torch.cat([one[3] for one in parts]),
            torch.cat([one[4] for one in parts]),
        )  # fmt: skip
        stress = virial / graph.volumes[:, None, None]
        return Prediction(energy, forces, stress, virial, energies, properties={"charges": charges})

    def _one(self, graph: Graph, n: int, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Energy, forces, virial, energies and charges of the atoms of one structure."""
        mine = graph.owner == n
        own = kinds[mine]
        with torch.enable_grad():
            positions = graph.positions[mine].detach().requires_grad_(True)
            strain = torch.zeros((3, 3), dtype=torch.float64, device=positions.device, requires_grad=True)
            bent = torch.eye(3, dtype=torch.float64, device=positions.device) + strain
            if bool(graph.pbc[n].any()):
                potential = self._crystal(graph, n, mine, own, positions @ bent, graph.cells[n] @ bent)
            else:
                potential = self._open(own, positions @ bent)
            charges = self._charges(own, potential)
            energies = 0.5 * charges * potential(charges)
            if self.equilibration is not None:
                energies = energies + charges * self.get_buffer("of_equilibration")[own, 0]
            # of one atom too the derivative is there, and zero
            total = energies.sum() + 0.0 * (positions.sum() + strain.sum())
            gradient, by_strain = torch.autograd.grad(total, (positions, strain))
        virial = 0.5 * (by_strain + by_strain.T)
        return total.detach(), -gradient, virial, energies.detach(), charges

    def _charges(self, kinds: Tensor, potential: Callable[[Tensor], Tensor]) -> Tensor:
        """(n_atoms,) e."""
        if self.equilibration is None:
            return self.get_buffer("of_elements")[kinds]
        chi, hardness, _ = self.get_buffer("of_equilibration")[kinds].unbind(dim=1)
        with torch.no_grad():
            return equilibrate(potential, chi, hardness, self.equilibration.total)

    def _open(self, kinds: Tensor, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Charges -> the potential (n_atoms,) eV/e that they make at each other, in the open."""
        n_atoms = len(kinds)
        i, j = torch.triu_indices(n_atoms, n_atoms, 1, device=kinds.device)
        distances = torch.linalg.vector_norm(positions[j] - positions[i], dim=1)
        of_pairs = 1.0 / distances
        if self.equilibration is not None:
            of_pairs = of_pairs - self._overlap(distances, kinds[i], kinds[j])

        def potential(charges: Tensor) -> Tensor:
            found = torch.zeros_like(charges)
            found = found.index_add(0, i, of_pairs * charges[j]).index_add(0, j, of_pairs * charges[i])
            return COULOMB * found + self._of_itself(kinds, charges)

        return potential

    def _crystal(
        self, graph: Graph, n: int, mine: Tensor, kinds: Tensor, positions: Tensor, cell: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """The same in a crystal."""
        self._check_crystal(graph, n, kinds)
        first = int(mine.nonzero()[0])
        centre, neighbour = graph.pairs
        near = mine[centre] & (graph.distances < self.cutoff)
        i, j = centre[near] - first, neighbour[near] - first
        distances = torch.linalg.vector_norm(positions[j] + graph.shifts[near] @ cell - positions[i], dim=1)
        waves = _waves(cell, self._longest)
        less = None if self.equilibration is None else self._overlap(distances, kinds[i], kinds[j])

        def potential(charges: Tensor) -> Tensor:
            half = self._sum(
                charges=charges[:, None], cell=cell, positions=positions, kvectors=waves,
                neighbor_indices=torch.stack([i, j], dim=1), neighbor_distances=distances,
            )  # fmt: skip
            found = 2.0 * COULOMB * half[:, 0]
            if less is not None:
                found = found.index_add(0, i, -COULOMB * less * charges[j])
            return found + self._of_itself(kinds, charges)

        return potential

    def _overlap(self, distances: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """`overlap` of pairs of kinds of atoms."""
        widths = self.get_buffer("of_equilibration")[:, 2]
        return overlap(distances, widths[first], widths[second])

    def _of_itself(self, kinds: Tensor, charges: Tensor) -> Tensor:
        """The potential (n_atoms,) eV/e of an atom's charge at itself: hardness and Gaussian."""
        if self.equilibration is None:
            return torch.zeros_like(charges)
        return self.get_buffer("of_equilibration")[kinds, 1] * charges

    def _check_crystal(self, graph: Graph, n: int, kinds: Tensor) -> None:
        """Refuse what Ewald's sum has no energy of."""
        if not bool(graph.pbc[n].all()):
            raise InputError("coulomb: Ewald's sum needs a structure that is periodic in three directions, or in none.")
        if self.equilibration is not None:
            if abs(self.equilibration.total) > _NEUTRAL:
                raise InputError(
                    f"coulomb: charges: total: {self.equilibration.total:+g} e, and the charges of a crystal must "
                    "cancel. Give total = 0."
                )
            return
        total = float(self.get_buffer("of_elements")[kinds].sum())
        if abs(total) > _NEUTRAL * len(kinds):
            raise InputError(
                f"coulomb: the charges of the structure add up to {total:+g} e, and those of a crystal "
                f"must cancel. Change `charges`: {', '.join(f'{a} {q:+g}' for a, q in self.charges.items())}."
            )

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Coulomb:
        """Build again from `spec`; there are no tensors."""
        return cls(**{key: value for key, value in spec.items() if key != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        charges = self.charges if self.equilibration is None else self.equilibration.spec()
        return {"kind": "coulomb", "charges": charges, "cutoff": f"{self.cutoff!r} Å", "accuracy": self.accuracy}


def _waves(cell: Tensor, longest: float) -> Tensor:
    """Vectors of the reciprocal lattice up to a length (1/Å), zero first: (n, 3) 1/Å."""
    to_reciprocal = 2.0 * math.pi * torch.linalg.inv(cell).T
    ends = [math.floor(longest * float(length) / (2.0 * math.pi)) for length in cell.detach().norm(dim=1)]
    axes = [torch.arange(-end, end + 1, dtype=cell.dtype, device=cell.device) for end in ends]
    waves = torch.cartesian_prod(*axes) @ to_reciprocal
    within = waves.detach().norm(dim=1) <= longest
    order = torch.argsort(waves.detach()[within].square().sum(dim=1), stable=True)
    return waves[within][order]


def _ewald(smearing: float) -> Any:
    """Ewald's sum of torch-pme."""
    try:
        from torchpme import CoulombPotential, EwaldCalculator
    except ImportError:
        raise InputError('Ewald\'s sum needs torch-pme: pip install "mlmd[coulomb]".') from None
    # waves are given with every call, up to a length: a grid of them would depend on the orientation
    made = EwaldCalculator(CoulombPotential(smearing=smearing), lr_wavelength=smearing, full_neighbor_list=True)
    return made.to(torch.float64)
