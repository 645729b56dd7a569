"""What metatomic runs of a potential of mlmd, compiled to TorchScript; only `metatomic_save` imports this."""

# ruff: noqa: UP006, UP035, UP045 - annotations as TorchScript and metatomic read them
from typing import Dict, List, Optional

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, NeighborListOptions, System


class Exported(torch.nn.Module):
    """Energies of systems, from traced energies of some atoms at a time."""

    numbers: torch.Tensor
    places: torch.Tensor

    def __init__(self, energies: torch.nn.Module, numbers: torch.Tensor, cutoff: float, at_once: int) -> None:
        """Take what `metatomic_save.traced` made, for these atomic numbers, cutoff (Å) and atoms at once."""
        super().__init__()
        self.traced, self.at_once = energies, at_once
        self.pairs = NeighborListOptions(cutoff=cutoff, full_list=True, strict=True)
        places = torch.full((int(numbers.max()) + 1,), -1, dtype=torch.int64)
        places[numbers] = at_once + torch.arange(len(numbers))
        self.register_buffer("numbers", numbers)
        self.register_buffer("places", places)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Both directions of every pair."""
        return [self.pairs]

    def forward(
        self, systems: List[System], outputs: Dict[str, ModelOutput], selected_atoms: Optional[Labels]
    ) -> Dict[str, TensorMap]:
        """The energy, in eV, of systems or of their atoms."""
        found: Dict[str, TensorMap] = {}
        if "energy" not in outputs:
            return found
        values: List[torch.Tensor] = []
        samples: List[torch.Tensor] = []
        of_atoms = outputs["energy"].sample_kind == "atom"
        for number, system in enumerate(systems):
            energies = self.of_system(system)
            atoms = torch.arange(len(energies), device=energies.device)
            if selected_atoms is not None:
                mine = selected_atoms.column("system") == number
                atoms = selected_atoms.column("atom")[mine].to(torch.int64)
                energies = energies.index_select(0, atoms)
            if of_atoms:
                values.append(energies.reshape(-1, 1))
                samples.append(torch.stack([torch.full_like(atoms, number), atoms], dim=1))
            else:
                values.append(energies.sum().reshape(1, 1))
                samples.append(torch.full((1, 1), number, dtype=torch.int64, device=energies.device))
        names = ["system", "atom"] if of_atoms else ["system"]
        rows = torch.cat(samples).to(torch.int32)
        zero = torch.zeros((1, 1), dtype=torch.int32, device=rows.device)
        block = TensorBlock(torch.cat(values), Labels(names, rows), [], Labels(["energy"], zero))
        found["energy"] = TensorMap(Labels(["_"], zero), [block])
        return found

    def of_system(self, system: System) -> torch.Tensor:
        """(n_atoms,) eV."""
        pairs = system.get_neighbor_list(self.pairs)
        centre = pairs.samples.column("first_atom").to(torch.int64)
        neighbour = pairs.samples.column("second_atom").to(torch.int64)
        vectors = pairs.values.reshape(-1, 3)
        order = torch.argsort(centre, stable=True)
        centre, neighbour, vectors = centre[order], neighbour[order], vectors.index_select(0, order)
        types = system.types.to(torch.int64)
        # whatever atom a neighbour is: only its element counts, and there is one atom of each behind the others
        place = self.places.index_select(0, types.index_select(0, neighbour))
        n_atoms = types.size(0)
        parts: List[torch.Tensor] = []
        for first in range(0, n_atoms, self.at_once):
            last = min(n_atoms, first + self.at_once)
            own = ((centre >= first) & (centre < last)).nonzero().squeeze(1)
            filled = self.numbers[:1].expand(self.at_once - (last - first))
            numbers = torch.cat([types[first:last], filled, self.numbers])
            two = torch.stack([centre.index_select(0, own) - first, place.index_select(0, own)])
            parts.append(self.traced(numbers, two, vectors.index_select(0, own))[: last - first])
        # a system without pairs has a derivative too, and it is zero
        return torch.cat(parts) + 0.0 * system.positions.sum()
