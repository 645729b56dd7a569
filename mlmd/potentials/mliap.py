"""Potentials in a user's own LAMMPS: a model of its ML-IAP package, and an input that runs it.

``pair_style mliap unified FILE`` opens a pickle, gives it the pairs of each process, and takes energies of atoms and
forces of pairs: f_i += g, f_j -= g, virial from r ⊗ g, with r from i to j (LAMMPS, src/ML-IAP/mliap_unified.cpp). So g
is dE_i/dr, and every potential fits that is a sum over atoms of functions of the vectors to their neighbours. They are
worked out by PyTorch, with Kokkos on the GPU that LAMMPS' atoms are on. The Python of that LAMMPS has to have mlmd.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.io import write
from torch import Tensor

from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.potentials import EnergyModel, Potential, has_energy, modelfile
from mlmd.potentials.centres import parts_of

SUFFIX = ".mliap"
"""Of the pickle: LAMMPS opens .pt and .pth by `torch.load`, which refuses what is not tensors since PyTorch 2.6."""


class Unified:
    """What LAMMPS asks; its attributes and methods are those of ``lammps.mliap.mliap_unified_abc.MLIAPUnified``."""

    def __init__(self, model: bytes, elements: Sequence[str]) -> None:
        """Take the content of a model file of mlmd, and the elements it knows."""
        self._model, self.element_types = model, list(elements)
        self.interface: Any = None
        """Set by LAMMPS."""
        self.ndescriptors, self.nparams = 1, 1
        self._open()

    def _open(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.mlmd"
            path.write_bytes(self._model)
            potential = modelfile.load(path)
        self._parts = _of_atoms(potential)
        self.rcutfac = 0.5 * potential.cutoff
        """Å: LAMMPS' cutoff is twice that."""
        self._numbers = torch.tensor([atomic_numbers[one] for one in self.element_types])
        self._device = torch.device("cpu")

    def __reduce__(self) -> tuple[Any, ...]:
        """The model as the bytes of its file, which later versions of mlmd read."""
        return Unified, (self._model, self.element_types)

    def compute_gradients(self, data: Any) -> None:
        """Nothing: there is nothing between descriptors and forces for LAMMPS to know."""

    def compute_descriptors(self, data: Any) -> None:
        """Nothing."""

    def compute_forces(self, data: Any) -> None:
        """Energies of the atoms of a process, and forces of its pairs.

        Args:
            data: LAMMPS' MLIAPData, on the processor or, with Kokkos, on a GPU.
        """
        kinds, vectors = torch.as_tensor(data.elems).long(), torch.as_tensor(data.rij).double()
        self._move(vectors.device)
        pairs = torch.stack([torch.as_tensor(data.pair_i).long(), torch.as_tensor(data.pair_j).long()])
        energies, gradient = self.slopes(self._numbers[kinds], pairs, vectors.reshape(-1, 3))
        own = energies[torch.as_tensor(data.iatoms).long()[: data.nlistatoms]]
        forces = gradient.contiguous()
        if hasattr(data, "update_pair_forces_gpu"):
            torch.as_tensor(data.eatoms)[: len(own)].copy_(own)
            data.energy = own.sum()
            data.update_pair_forces_gpu(forces)
            return
        data.eatoms = own.numpy()
        data.energy = float(own.sum())
        if len(forces):  # LAMMPS takes the address of the first
            data.update_pair_forces(forces.numpy())

    def slopes(self, numbers: Tensor, pairs: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of atoms (n_atoms,) eV and their derivatives by the vectors (n_pairs, 3) eV/Å.

        Args:
            numbers: (n_atoms,) atomic numbers, of copies too.
            pairs: (2, n_pairs) centres, ascending, and neighbours.
            vectors: (n_pairs, 3) Å.
        """
        graph = _graph(numbers, pairs, vectors)
        energies, gradient = torch.zeros(len(numbers)).to(vectors), torch.zeros_like(vectors)
        for factor, part in self._parts:
            of_part, by_vectors = part.slopes(graph)
            energies += factor * of_part
            gradient += factor * by_vectors
        return energies, gradient

    def _move(self, device: torch.device) -> None:
        """Be where LAMMPS' atoms are."""
        if device != self._device:
            self._device, self._numbers = device, self._numbers.to(device)
            for _, part in self._parts:
                part.to(device)


def _of_atoms(potential: Potential) -> list[tuple[float, EnergyModel]]:
    """Potentials that add up with factors.

    Raises:
        InputError: when one of them is no sum over atoms of functions of the vectors to their neighbours.
    """
    found = []
    for factor, part in parts_of(potential):
        if not (isinstance(part, EnergyModel) and part.local and has_energy(part)):
            name = getattr(part, "source", type(part).__name__)
            raise InputError(
                f"{name} is no sum over atoms of functions of the vectors to their neighbours, as LAMMPS' ML-IAP needs "
                "it: long-range terms, message passing and AGNI are not, nor are models of other programs."
            )
        found.append((factor, part))
    return found


def _graph(numbers: Tensor, pairs: Tensor, vectors: Tensor) -> Graph:
    """What a potential sees of a process: pairs, and no cell."""
    here = vectors.device
    return Graph(
        numbers=numbers, positions=torch.zeros((len(numbers), 3)).to(vectors),
        cells=torch.eye(3)[None].to(vectors), pbc=torch.zeros((1, 3), dtype=torch.bool, device=here),
        pairs=pairs, shifts=torch.zeros_like(vectors), vectors=vectors,
        owner=torch.zeros(len(numbers), dtype=torch.int64, device=here),
        volumes=torch.full((1,), torch.nan).to(vectors),
    )  # fmt: skip


def save(potential: Potential, path: Path, atoms: Atoms | None = None) -> tuple[Path, ...]:
    """Write a model of ML-IAP and an input of LAMMPS beside it; with a structure its data file too.

    Args:
        potential: with elements, of which a model file can be written.
        path: of the pickle; the input is called the same with ``.in``, and the data ``.data``.
        atoms: that the input runs; else it names a data file to be made.

    Returns:
        The files that were written.

    Raises:
        InputError: when ML-IAP cannot compute the potential.
    """
    _of_atoms(potential)
    if not potential.elements:
        raise InputError("a potential of any element has no types that LAMMPS could name.")
    with tempfile.TemporaryDirectory() as folder:
        modelfile.save(potential, Path(folder) / "model.mlmd")
        model = (Path(folder) / "model.mlmd").read_bytes()
    path.write_bytes(pickle.dumps(Unified(model, potential.elements)))
    deck, data = path.with_suffix(".in"), path.with_suffix(".data")
    if atoms is not None:
        write(data, atoms, format="lammps-data", specorder=list(potential.elements), masses=True, units="metal")
    deck.write_text(_deck(path.name, data.name, potential.elements, atoms), encoding="utf-8")
    return (path, deck, *(() if atoms is None else (data,)))


def _deck(model: str, data: str, elements: Sequence[str], atoms: Atoms | None) -> str:
    masses = "".join(
        f"mass {number} {atomic_masses[atomic_numbers[element]]:.6g}  # {element}\n"
        for number, element in enumerate(elements, 1)
    )
    sides = "p p p" if atoms is None else " ".join("p" if one else "s" for one in atoms.pbc)
    note = "" if atoms is not None else f"  # yours, with atom types in the order {', '.join(elements)}"
    return f"""\
# {model} in LAMMPS with the packages ML-IAP and PYTHON (-D MLIAP_ENABLE_PYTHON=yes), whose Python has mlmd.
#   lmp -in FILE                                                      on processors, by PyTorch
#   mpirun -n 2 lmp -k on g 2 -sf kk -pk kokkos newton on neigh half -in FILE     with KOKKOS on two GPUs
# The pickle is code that LAMMPS executes: take it from nobody else.
units metal
atom_style atomic
atom_modify map yes
newton on
boundary {sides}
read_data {data}{note}
{masses}
pair_style mliap unified {model} 0
pair_coeff * * {" ".join(elements)}

neighbor 1.0 bin
timestep 0.002
velocity all create 300 1 mom yes rot no
fix move all nvt temp 300 300 0.1
thermo 100
thermo_style custom step time temp pe ke etotal press vol
run 1000
"""
