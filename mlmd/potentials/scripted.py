"""A potential as a TorchScript module of OpenMM-Torch's contract: ``forward(positions[, box])`` in nm and kJ/mol.

Such a module gets no atomic numbers, so that it is made for one structure: its atoms in their order. It finds their
neighbours itself, among all pairs of atoms and as many images as the cutoff reaches: a search takes a time that grows
with the square of the number of atoms. Pairs are searched a skin beyond the cutoff and kept while none can be missing.
Energies of atoms are traced by torch: what is written holds the operations for any number of pairs, and nothing of
mlmd. Forces and the derivative by the box are those of autograd.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlmd import units
from mlmd.errors import InputError
from mlmd.graph import Graph
from mlmd.neighbors import build_graph
from mlmd.potentials import EnergyModel, Potential
from mlmd.potentials.combine import Sum
from mlmd.potentials.committee import Committee
from mlmd.potentials.load import check_elements

SUFFIXES = (".pt", ".ts")
"""Of the files."""
NM = 10.0
"""One nm in Å."""
SKIN = 1.0
"""Å searched beyond the cutoff: more than mlmd's own search takes, which costs less."""
AT_ONCE = 2**20
"""Distances computed together in a search for neighbours: some 50 MB."""
AGREEMENT = {torch.float64: 1e-8, torch.float32: 2e-4}
"""By how much a module may differ from its potential, as parts of the largest force, and of the energy of all atoms."""
_SHAKEN, _CHANGES = 0.15, (1.0, 0.96, 1.08, 2.5)
"""Å by which atoms are displaced, and factors on lengths, where the two are compared: other pairs, and nearly none."""


def save(potential: Potential, atoms: Atoms, path: Path) -> None:
    """Write the module of a potential for the atoms of a structure.

    Raises:
        InputError: as `module_of`.
    """
    made = module_of(potential, atoms)
    with quietly():
        torch.jit.save(made, str(path))


def module_of(potential: Potential, atoms: Atoms) -> Any:
    """The module of a potential for the atoms of a structure, which has been compared with the potential.

    It computes on the CPU. With a box, all directions are periodic; without, none.

    Raises:
        InputError: for a potential that is not made of energies of atoms in PyTorch or that cannot be traced, for
            elements that it does not know, and for a structure that is periodic in some directions only.
    """
    if atoms.pbc.any() and not atoms.pbc.all():
        raise InputError(
            "a TorchScript module of OpenMM-Torch has a box, which is periodic in three directions, or none; the "
            "structure is periodic in some. Set its pbc to all or none."
        )
    if kind := unscriptable(potential):
        raise InputError(
            f"a potential of kind {kind!r} cannot be written as TorchScript: it is not made of energies of atoms that "
            "PyTorch computes from mlmd's pairs. Pair potentials, EAM, Stillinger-Weber, Tersoff, NEP, networks of "
            "n2p2, GAP, SNAP and learned potentials are, and their sums and committees."
        )
    check_elements(potential, atoms.get_chemical_symbols())
    cast(torch.nn.Module, potential).to("cpu")
    with quietly():
        made = torch.jit.script(Scripted(_traced(potential, atoms), float(potential.cutoff), len(atoms)))
    compare(lambda one: evaluate(made, one), potential, atoms, "the TorchScript module")
    made.kept = _nothing()
    return made


def _nothing() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `Scripted` keeps before the first search."""
    empty = torch.zeros(0, 3, dtype=torch.float64)
    return empty, torch.zeros(3, 3, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.int64), empty


class Scripted(torch.nn.Module):
    """What TorchScript compiles: neighbours around the traced energy."""

    def __init__(self, energy: torch.nn.Module, cutoff: float, n_atoms: int) -> None:
        """Take the traced energy, eV, of pairs, shifts and vectors, its cutoff, Å, and the number of its atoms."""
        super().__init__()
        self.energy, self.cutoff, self.n_atoms = energy, cutoff, n_atoms
        self.nm, self.kj, self.skin, self.at_once = NM, units.EV_PER_KJMOL, SKIN, AT_ONCE
        # of the last search: positions and cell, Å, and what `search` gave; one attribute, exchanged as a whole
        self.kept = _nothing()

    def forward(self, positions: Tensor, box: Tensor | None = None) -> Tensor:
        """Energy in kJ/mol of positions (n_atoms, 3) and a box (3, 3), nm."""
        if positions.size(0) != self.n_atoms:
            raise ValueError(f"this module is for {self.n_atoms} atoms, not for {positions.size(0)}")
        where = positions.to(torch.float64) * self.nm
        cell = torch.zeros(3, 3, dtype=torch.float64, device=where.device)
        if box is not None:
            cell = box.to(torch.float64) * self.nm
        pairs, shifts = self.neighbours(where.detach(), cell.detach(), box is not None)
        vectors = where.index_select(0, pairs[1]) - where.index_select(0, pairs[0]) + torch.matmul(shifts, cell)
        squares = vectors.detach().square().sum(dim=1)
        near = (squares < self.cutoff * self.cutoff).nonzero().squeeze(1)
        pairs, shifts, vectors = (
            pairs.index_select(1, near),
            shifts.index_select(0, near),
            vectors.index_select(0, near),
        )
        energy: Tensor = self.energy(pairs, shifts, vectors)
        return energy / self.kj + 0.0 * where.sum()  # of positions that are not finite there is no energy

    def neighbours(self, where: Tensor, cell: Tensor, periodic: bool) -> tuple[Tensor, Tensor]:
        """What `search` gave, as long as no atom has moved by half of the skin and the cell is the same."""
        searched, of_cell, pairs, shifts = self.kept
        if searched.size(0) == where.size(0) and torch.equal(of_cell, cell):
            moved = (where - searched).square().sum(dim=1).max()
            if bool(4.0 * moved < self.skin * self.skin):
                return pairs, shifts
        pairs, shifts = self.search(where, cell, periodic, self.cutoff + self.skin)
        self.kept = (where.clone(), cell.clone(), pairs, shifts)
        return pairs, shifts

    def search(self, where: Tensor, cell: Tensor, periodic: bool, reach: float) -> tuple[Tensor, Tensor]:
        """Pairs (2, n_pairs) closer than `reach` and the cell vectors they cross (n_pairs, 3), in canonical order.

        Of each pair of atoms, the nearest image in fractional coordinates and those around it are looked at: up to
        floor(reach / h + ½) away, for the distance h of two faces of the cell.
        """
        n = where.size(0)
        images = torch.zeros(1, 3, dtype=torch.float64, device=where.device)
        inverse = torch.zeros_like(cell)
        if periodic:
            inverse = torch.linalg.inv(cell)
            farthest = torch.floor(reach * torch.linalg.vector_norm(inverse, dim=0) + 0.5)
            axes: list[Tensor] = []
            for axis in range(3):
                far = int(farthest[axis])
                axes.append(torch.arange(-far, far + 1, dtype=torch.float64, device=where.device))
            images = torch.cartesian_prod(axes[0], axes[1], axes[2])
        away = torch.matmul(images, cell)
        placed = torch.matmul(where, inverse)
        rows = max(1, self.at_once // (n * images.size(0)))
        pairs: list[Tensor] = []
        shifts: list[Tensor] = []
        for first in range(0, n, rows):
            last = min(n, first + rows)
            crossed: list[Tensor] = []
            between: list[Tensor] = []
            for axis in range(3):
                crossed.append(-torch.round(placed[:, axis] - placed[first:last, axis].unsqueeze(1)))
                between.append(where[:, axis] - where[first:last, axis].unsqueeze(1))
            squares = torch.zeros(1, dtype=torch.float64, device=where.device)
            for axis in range(3):  # arrays of numbers: torch is slow with many rows of three
                along = between[axis]
                if periodic:
                    for other in range(3):
                        along = along + crossed[other] * cell[other, axis]
                along = along.unsqueeze(2) + away[:, axis]
                squares = squares + along * along
            near = squares < reach * reach
            own = torch.arange(last - first, device=where.device)
            near[own, own + first, images.size(0) // 2] = False
            found = near.nonzero()
            centre, neighbour, image = found[:, 0], found[:, 1], found[:, 2]
            pairs.append(torch.stack([centre + first, neighbour]))
            nearest = torch.stack([one[centre, neighbour] for one in crossed], dim=1)
            shifts.append(nearest + images.index_select(0, image))
        return torch.cat(pairs, dim=1), torch.cat(shifts)


class _Energy(torch.nn.Module):
    """The energy of one structure by its pairs: what is traced."""

    def __init__(self, potential: Potential, graph: Graph) -> None:
        """Take the potential and a graph of the structure."""
        super().__init__()
        # not as a submodule: torch would look at all its properties; its numbers become constants of the trace
        self._behind = (potential, graph)

    def forward(self, pairs: Tensor, shifts: Tensor, vectors: Tensor) -> Tensor:
        """EV."""
        potential, one = self._behind
        graph = Graph(
            numbers=one.numbers, positions=torch.zeros_like(one.positions), cells=torch.zeros_like(one.cells),
            pbc=one.pbc, pairs=pairs, shifts=shifts, vectors=vectors, owner=one.owner, volumes=one.volumes,
        )  # fmt: skip
        return energies_of_atoms(potential, graph).sum()


def energies_of_atoms(potential: Potential, graph: Graph) -> Tensor:
    """(n_atoms,) eV, of a potential or of what it is made of."""
    if isinstance(potential, Sum | Committee):
        total = torch.stack([energies_of_atoms(one, graph) for one in _parts(potential)]).sum(dim=0)
        return total / len(potential.members) if isinstance(potential, Committee) else total
    return cast(EnergyModel, potential).atomic_energies(graph).double()


def _parts(potential: Potential) -> tuple[Potential, ...]:
    return tuple(getattr(potential, "parts", ())) + tuple(getattr(potential, "members", ()))


def unscriptable(potential: Potential) -> str | None:
    """The kind of the part that is not made of energies of atoms; None where there is none."""
    if isinstance(potential, Sum | Committee):
        return next((kind for part in _parts(potential) if (kind := unscriptable(part)) is not None), None)
    if isinstance(potential, EnergyModel) and not hasattr(potential, "described"):
        return None
    spec = potential.spec()
    return str(spec["recipe"]["kind"] if "recipe" in spec else spec["kind"])


def _traced(potential: Potential, atoms: Atoms) -> Any:
    graph = build_graph(_shaken(atoms, _CHANGES[1], 0), float(potential.cutoff))
    model = _Energy(potential, graph)
    for parameter in cast(torch.nn.Module, potential).parameters():
        parameter.requires_grad_(False)
    try:
        return torch.jit.trace(
            model, (graph.pairs, graph.shifts, graph.vectors.clone().requires_grad_(True)), check_trace=False
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"{_name(potential)} cannot be traced by torch {torch.__version__}: {error}") from None


def compare(answer: Callable[[Atoms], tuple[float, Tensor]], potential: Potential, atoms: Atoms, what: str) -> None:
    """Energies and forces of a structure and of others with more and with fewer neighbours.

    Args:
        answer: energy (eV) and forces (n_atoms, 3) (eV/Å) of a structure by what is to be written.
        potential: which that has to be.
        atoms: the structure.
        what: is to be written, for a person.

    Raises:
        InputError: where it is not the potential.
    """
    dtype = torch.float32 if _single(potential) else torch.float64
    for seed, factor in enumerate(_CHANGES):
        one = _shaken(atoms, factor, seed)
        expected = potential.predict(build_graph(one, float(potential.cutoff)))
        energy, forces = answer(one)
        part, size = AGREEMENT[dtype], 0.0 if expected.energies is None else float(expected.energies.abs().sum())
        wrong = float((forces - expected.forces).abs().max())
        same_energy = abs(energy - float(expected.energy[0])) <= part * max(1.0, size)
        if not (same_energy and wrong <= part * max(1.0, float(expected.forces.abs().max()))):
            raise InputError(
                f"{what} of {_name(potential)} is not the potential: with {factor:g} times the "
                f"distances it gives {energy:.9g} eV, the potential {float(expected.energy[0]):.9g} eV, and forces "
                f"differ by {wrong:.3g} eV/Å. Nothing was written."
            )


def evaluate(module: Any, atoms: Atoms) -> tuple[float, Tensor]:
    """Energy (eV) and forces (n_atoms, 3) (eV/Å) by a module."""
    positions = torch.tensor(atoms.positions / NM, dtype=torch.float64).requires_grad_(True)
    with quietly():
        box = torch.tensor(atoms.cell.array / NM, dtype=torch.float64) if atoms.pbc.all() else None
        energy = module(positions, box)
        (gradient,) = torch.autograd.grad(energy, positions)
    return float(energy.detach()) * units.EV_PER_KJMOL, -gradient * units.EV_PER_KJMOL / NM


def _shaken(atoms: Atoms, factor: float, seed: int) -> Atoms:
    """The structure with other distances."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array * factor, scale_atoms=False)
    moved.positions = atoms.positions * factor
    if seed:
        moved.positions += np.random.default_rng(seed).normal(0.0, _SHAKEN, moved.positions.shape)
    return moved


def _single(potential: Potential) -> bool:
    """Whether something in it is computed in single precision."""
    tensors = [*cast(torch.nn.Module, potential).parameters(), *cast(torch.nn.Module, potential).buffers()]
    return any(one.dtype == torch.float32 for one in tensors) or getattr(potential, "dtype", None) == torch.float32


def _name(potential: Potential) -> str:
    return str(getattr(potential, "source", f"the potential of kind {potential.spec()['kind']!r}"))


@contextmanager
def quietly() -> Iterator[None]:
    """Torch would rather have other formats, and warns of numbers that a trace keeps: they are compared afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        yield
