"""A model of metatomic with random numbers: python random_metatomic.py FILE [WHAT].

What it gives is energy, or test::other; or the same energy of neighbours of which each pair is listed once: half.
"""

# ruff: noqa: UP006, UP035, UP045 - annotations as TorchScript and metatomic read them
import sys
from typing import Dict, List, Optional

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)

ELEMENTS = [3, 17]
CUTOFF = 4.0


class Densities(torch.nn.Module):
    """-√ρ of the density ρ at every atom, and a repulsion of pairs; both are smooth at the cutoff."""

    def __init__(self, what: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.what, self.twice = what.replace("half", "energy"), what == "half"
        self.kinds = torch.nn.Parameter(torch.rand((18, 18, 2), dtype=torch.float64, generator=generator) + 0.5)
        self.pairs = NeighborListOptions(cutoff=CUTOFF, full_list=not self.twice, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        return [self.pairs]

    def forward(
        self, systems: List[System], outputs: Dict[str, ModelOutput], selected_atoms: Optional[Labels]
    ) -> Dict[str, TensorMap]:
        energies: List[torch.Tensor] = []
        for system in systems:
            pairs = system.get_neighbor_list(self.pairs)
            centre, neighbour = pairs.samples.column("first_atom"), pairs.samples.column("second_atom")
            types = system.types.to(torch.int64)
            strength = self.kinds[types[centre], types[neighbour]]
            distance = torch.sqrt((pairs.values.reshape(-1, 3) ** 2).sum(1))
            near = (1 - (distance / 4.0) ** 2) ** 3
            density = torch.zeros(len(system), dtype=near.dtype, device=near.device)
            density = density.index_add(0, centre, strength[:, 0] * near)
            repulsion = (strength[:, 1] * near / distance**4).sum()
            if self.twice:
                strength = self.kinds[types[neighbour], types[centre]]
                density = density.index_add(0, neighbour, strength[:, 0] * near)
                repulsion = repulsion + (strength[:, 1] * near / distance**4).sum()
            energies.append((4.0 * repulsion - torch.sqrt(density + 0.1).sum()).reshape(1, 1))
        block = TensorBlock(
            values=torch.cat(energies),
            samples=Labels("system", torch.arange(len(systems)).reshape(-1, 1)),
            components=[],
            properties=Labels("energy", torch.tensor([[0]])),
        )
        return {self.what: TensorMap(Labels("_", torch.tensor([[0]])), [block])}


if __name__ == "__main__":
    what = sys.argv[2] if len(sys.argv) > 2 else "energy"
    model = Densities(what).eval()
    units = {"energy": "eV", "test::other": ""}
    can = ModelCapabilities(
        outputs={model.what: ModelOutput(unit=units[model.what], sample_kind="system")}, atomic_types=ELEMENTS,
        interaction_range=CUTOFF, length_unit="angstrom", supported_devices=["cpu"], dtype="float64",
    )  # fmt: skip
    AtomisticModel(model, ModelMetadata(name="random densities"), can).save(sys.argv[1])
