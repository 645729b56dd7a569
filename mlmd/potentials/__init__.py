"""Potentials: what gives energy, forces and stress, and what the engine calls every step.

`Potential` is the protocol that every kind of potential obeys; `EnergyModel` gives forces and stress to
whoever writes the energy of each atom; an `Evaluator` is a potential made ready for one system in a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mlmd.graph import Graph

POTENTIALS: dict[str, str] = {
    "mlmd": "mlmd.potentials.modelfile:load",
    "mtp": "mlmd.potentials.mtp:load",
    "nep": "mlmd.potentials.nep_file:load",
    "hdnnp": "mlmd.potentials.hdnnp:load",
    "lennard-jones": "mlmd.potentials.pair:LennardJones",
    "morse": "mlmd.potentials.pair:Morse",
    "zbl": "mlmd.potentials.pair:ZBL",
    "coulomb": "mlmd.potentials.coulomb:Coulomb",
    "snap": "mlmd.potentials.snap:load",
    "gap": "mlmd.potentials.gap:load",
    "eam": "mlmd.potentials.eam:load",
    "stillinger-weber": "mlmd.potentials.stillinger_weber:load",
    "tersoff": "mlmd.potentials.tersoff:load",
    "committee": "mlmd.potentials.load:load_committee",
    "ase": "mlmd.pretrained.ase:load",
    "torchscript": "mlmd.pretrained.torchscript:load",
    "d3": "mlmd.pretrained.d3:load",
    "nequix": "mlmd.pretrained.nequix:load",
    "sevennet": "mlmd.pretrained.sevennet:load",
    "chgnet": "mlmd.pretrained.chgnet:load",
    "mace": "mlmd.pretrained.mace:load",
    "nequip": "mlmd.pretrained.nequip:load",
    "metatomic": "mlmd.pretrained.metatomic:load",
    "ani": "mlmd.pretrained.ani:load",
    "matgl": "mlmd.pretrained.matgl:load",
    "deepmd": "mlmd.pretrained.deepmd:load",
    "orb": "mlmd.pretrained.orb:load",
    "mattersim": "mlmd.pretrained.mattersim:load",
    "openmmml": "mlmd.pretrained.openmmml:load",
    "none": "mlmd.potentials.nothing:Nothing",
}
"""Kinds an input file may name, and what builds them from the keywords of their table."""


@dataclass(frozen=True)
class Prediction:
    """What a potential says about the structures of a graph."""

    energy: Tensor
    """(n_structures,) eV, float64."""
    forces: Tensor
    """(n_atoms, 3) eV/Å, float64."""
    stress: Tensor
    """(n_structures, 3, 3) eV/Å³, +(1/V) dE/dε, positive in tension; nan without full periodicity."""
    virial: Tensor
    """(n_structures, 3, 3) eV, Σ vectors ⊗ dE/d(vectors) = V · stress, defined for open systems too."""
    energies: Tensor | None = None
    """(n_atoms,) eV, where the potential divides its energy among atoms."""
    virials: Tensor | None = None
    """(n_atoms, 3, 3) eV, `virials_of` atoms, where they were asked for and are known."""
    spread: Tensor | None = None
    """(n_atoms,) eV/Å, expected error of the force, or None."""
    grade: Tensor | None = None
    """(n_atoms,) extrapolation grade γ, dimensionless, or None."""
    properties: Mapping[str, Tensor] = field(default_factory=dict)
    """Other heads by name."""


@dataclass(frozen=True)
class Evaluation:
    """Energy and derivatives of one system at one moment of a run."""

    energy: float
    """eV."""
    forces: np.ndarray
    """(n_atoms, 3) eV/Å, float64, C order."""
    virial: np.ndarray
    """(3, 3) eV, Σ r ⊗ dE/dr; the pressure of the configuration is -trace / 3V."""
    energies: np.ndarray | None = None
    """(n_atoms,) eV, where the evaluator was asked for them and knows them."""
    virials: np.ndarray | None = None
    """(n_atoms, 3, 3) eV, likewise, as `virials_of` says; the symmetric part of their sum is the virial."""
    parts: Mapping[str, float] | None = None
    """eV by name, where the energy is a sum whose parts are to be told."""


@runtime_checkable
class Potential(Protocol):
    """Energy, forces and stress of any structures made of known elements."""

    cutoff: float
    """Å."""
    elements: tuple[str, ...]
    """Chemical symbols it knows; empty means any."""

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress of every structure in the graph."""
        ...

    def spec(self) -> dict[str, Any]:
        """What an input file would say to build it again (JSON-able), without its fitted numbers."""
        ...


def has_energy(potential: object) -> bool:
    """Whether a potential gives energies and stresses; a force field gives forces alone, and nan for the others."""
    return bool(getattr(potential, "has_energy", True))


def has_stress(potential: object) -> bool:
    """Whether a potential gives stresses of periodic structures; some models of others give energy and forces alone."""
    return has_energy(potential) and bool(getattr(potential, "has_stress", True))


class Evaluator(Protocol):
    """A potential made ready for one system in a run: owns the pair list and the buffers.

    `state` is what an exact restart needs besides positions and cell: the configuration of the last pair
    search, since the order of pairs is the order of the sums.

    An evaluator may have a second method `detailed`, as `evaluate` with what it knows of the energies and virials of
    atoms.
    """

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial at positions (n_atoms, 3) Å and cell (3, 3) Å."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that reproduce the pair list."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a `state`."""
        ...


class EnergyModel(torch.nn.Module):
    """A potential given by the energy of each atom; forces and stress follow by one derivative.

    With g = dE/d(vectors), the force on an atom is the sum of g over the pairs it is the centre of minus
    the sum over the pairs it is the neighbour of, and the virial is Σ vectors ⊗ g.
    """

    cutoff: float
    elements: tuple[str, ...]
    local = True
    """Whether the energy of an atom depends on the vectors from this atom alone, and not on those between others."""

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: all that a subclass writes; differentiable with respect to ``graph.vectors``."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """What an input file would say to build it again."""
        raise NotImplementedError

    def slopes(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies of atoms (n_atoms,) eV, and dE/d(vectors) (n_pairs, 3) eV/Å."""
        with torch.enable_grad():
            vectors = graph.vectors.detach().requires_grad_(True)
            energies = self.atomic_energies(graph.with_vectors(vectors)).double()
            gradient = torch.autograd.grad(energies.sum(), vectors, allow_unused=True)[0]
        if gradient is None:  # no pair, or a model without interactions
            gradient = torch.zeros_like(vectors)
        return energies.detach(), gradient.detach()

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress; see `Prediction` for shapes, units and signs."""
        return assemble(graph, *self.slopes(graph))

    def detailed(self, graph: Graph) -> Prediction:
        """The same with the virials of atoms, where the energy of an atom is `local`."""
        if not self.local:
            return self.predict(graph)
        energies, gradient = self.slopes(graph)
        return replace(assemble(graph, energies, gradient), virials=virials_of(graph, gradient))


def assemble(graph: Graph, energies: Tensor, gradient: Tensor) -> Prediction:
    """Forces, virial and stress from atomic energies (n_atoms,) eV and dE/d(vectors) (n_pairs, 3) eV/Å."""
    n_atoms, n_structures = graph.n_atoms, graph.n_structures
    centre, neighbour = graph.pairs
    gradient = gradient.to(graph.positions.dtype)
    by_axis = gradient.new_zeros((3, n_atoms))
    for axis in range(3):  # torch adds rows of three numbers many times slower than single numbers
        column = gradient[:, axis].contiguous()
        by_axis[axis].index_add_(0, centre, column).index_add_(0, neighbour, column, alpha=-1.0)
    forces = by_axis.T.contiguous()
    energy = torch.zeros(n_structures, dtype=torch.float64, device=gradient.device)
    energy.index_add_(0, graph.owner, energies.double())
    if n_structures == 1:
        virial = (graph.vectors.detach().T @ gradient)[None]
    else:
        outer = graph.vectors.detach()[:, :, None] * gradient[:, None, :]
        virial = torch.zeros((n_structures, 3, 3), dtype=gradient.dtype, device=gradient.device)
        virial.index_add_(0, graph.owner[centre], outer)
    virial = 0.5 * (virial + virial.transpose(1, 2))
    return Prediction(
        energy=energy,
        forces=forces,
        stress=virial / graph.volumes[:, None, None],
        virial=virial,
        energies=energies.double(),
    )


def virials_of(graph: Graph, gradient: Tensor) -> Tensor:
    """Virials of atoms from dE/d(vectors) (n_pairs, 3) eV/Å, where the energy of an atom is local.

    B_j = Σ_i r_ij ⊗ dU_i/dr_ij, the sum over the pairs whose neighbour j is: nine components, not symmetric where more
    than pairs interact. The interactions carry the heat -Σ_j B_j v_j (Fan et al., Phys. Rev. B 92, 094301, 2015, whose
    W_j is -B_j).

    Returns:
        (n_atoms, 3, 3) eV.
    """
    outer = graph.vectors.detach()[:, :, None] * gradient.to(graph.positions.dtype)[:, None, :]
    total = torch.zeros((graph.n_atoms, 9), dtype=outer.dtype, device=outer.device)
    return total.index_add_(0, graph.pairs[1], outer.reshape(-1, 9)).reshape(-1, 3, 3)
