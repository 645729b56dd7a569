"""Pair potentials and the embedded-atom method on a GPU: parameters as `src/pair.cu` and `src/eam.cu` read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mlmd.kernels.gpu.neighbours import DeviceList, Program, Reach
from mlmd.kernels.kernel import Kernel

_ROW = 8
"""Numbers of a pair of species in `src/pair.cu`."""


class Classical:
    """What both have in common: one cutoff, a table, and sums that need no further room."""

    least_lanes = 1
    kernels: tuple[str, ...]
    """In their order."""

    def __init__(self, kernel: Kernel, table: np.ndarray, sizes: dict[str, object]) -> None:
        """Take the kernel, whose cutoff and precision count, with the table and the macros made of it."""
        self.type = torch.float32 if kernel.precision == "float32" else torch.float64
        self.cutoff, self.table, self._sizes = kernel.cutoff, table, sizes

    def macros(self, lanes: int) -> dict[str, object]:
        """Sizes by the names that the program gives them; as many lanes work on an atom."""
        return {"real": "float" if self.type == torch.float32 else "double", "LANES": lanes, **self._sizes}

    def reach(self, skin: float) -> Reach:
        """How far neighbours are to be listed."""
        return Reach(self.cutoff, 0.0, skin)

    def prepare(self, atoms: DeviceList) -> None:
        """Put the parameters on the device."""
        atoms.frame.point(table=torch.tensor(self.table, dtype=self.type, device=atoms.device))

    def make_room(self, atoms: DeviceList) -> None:
        """Buffers for the list as long as it is now."""
        atoms.make_room(self.type, features=1)

    def compute(self, program: Program, atoms: DeviceList) -> None:
        """Energies, forces and virials of atoms, where `follow` has seen them."""
        for kernel in (*self.kernels, "add_forces"):
            program.launch(kernel, atoms.n_atoms * atoms.lanes, atoms.frame)


class PairProgram(Classical):
    """Lennard-Jones, Morse and ZBL."""

    kernels = ("slope_pairs",)

    def __init__(self, kernel: Kernel, present: Sequence[int]) -> None:
        """Take the kernel of a potential of the family "pair", and the species that there are of it."""
        form, z = (int(one) for one in kernel.integers)
        cutoff, onset = kernel.numbers[:2]
        given = np.asarray(kernel.numbers[2:]).reshape(z, z, -1)[np.ix_(present, present)]
        rows = np.zeros((*given.shape[:2], _ROW))
        rows[..., : given.shape[2]] = given
        table = np.concatenate([[cutoff, onset, 1 / (cutoff - onset), 0.0], rows.ravel()])
        super().__init__(kernel, table, {"FORM": form, "N_SPECIES": len(present)})


class EamProgram(Classical):
    """The embedded-atom method."""

    kernels = ("add_density", "slope_pairs")

    def __init__(self, kernel: Kernel, present: Sequence[int]) -> None:
        """Take the kernel of a potential of the family "eam", and the species that there are of it."""
        z, n_rho, n_r = (int(one) for one in kernel.integers)
        (cutoff, step_of_rho, step_of_r), numbers = kernel.numbers[:3], np.asarray(kernel.numbers[3:])
        embedding = numbers[: z * n_rho * 4].reshape(z, -1)[np.asarray(present)]
        pairs = numbers[z * n_rho * 4 :].reshape(z, z, -1)[np.ix_(present, present)]
        table = np.concatenate([[cutoff, 1 / step_of_rho, 1 / step_of_r, 0.0], embedding.ravel(), pairs.ravel()])
        super().__init__(kernel, table, {"N_SPECIES": len(present), "N_RHO": n_rho, "N_R": n_r})
