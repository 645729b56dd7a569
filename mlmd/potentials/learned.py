"""Where a descriptor and a regressor meet: a learned potential, E = Σ_i F(D_i)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.bispectrum import Bispectrum
from mlmd.descriptors.bispectrum_kernel import bispectrum_kernel
from mlmd.descriptors.linearised import needs_pairs
from mlmd.descriptors.moment_design import Design
from mlmd.descriptors.moment_kernel import moment_kernel
from mlmd.descriptors.moments import Moments
from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.radial_angular_kernel import radial_angular_kernel
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.soap_kernel import soap_kernel
from mlmd.descriptors.species import species, species_table
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_kernel import symmetry_kernel
from mlmd.errors import InputError
from mlmd.fitting import REGRESSORS, Regressor
from mlmd.fitting.expansion import Expansion
from mlmd.fitting.linear import Linear
from mlmd.fitting.network import Network
from mlmd.fitting.polynomial import Polynomial
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel, Prediction, assemble
from mlmd.potentials.rows import rows_of
from mlmd.potentials.threads import in_threads, undivided
from mlmd.registry import find

ATOMS_AT_ONCE = 256
"""Worked through together on a CPU: their intermediate results stay in its cache, and memory stays bounded."""
ATOMS_AT_ONCE_GPU = 16384
"""The same on a GPU, which needs more to be busy."""
_WORTH_DIVIDING = 128  # atoms; fewer are one piece


class LearnedPotential(EnergyModel):
    """The energy of an atom is a regressor's, from a descriptor's features."""

    def __init__(self, descriptor: Descriptor, regressor: Regressor) -> None:
        """Join the two.

        Raises:
            InputError: when the regressor does not take what the descriptor gives.
        """
        super().__init__()
        if descriptor.kind not in regressor.accepts:
            raise InputError(
                f"{type(regressor).__name__} takes features of {' or '.join(regressor.accepts)}, "
                f"{type(descriptor).__name__} gives features of {descriptor.kind}."
            )
        if descriptor.n_features != regressor.n_features:
            raise InputError(
                f"{type(descriptor).__name__} gives {descriptor.n_features} features, "
                f"{type(regressor).__name__} takes {regressor.n_features}."
            )
        self.descriptor, self.regressor = descriptor, regressor
        self.cutoff, self.elements = descriptor.cutoff, descriptor.elements
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    def atomic_energies(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms,) eV, or those of some consecutive atoms."""
        features = self.descriptor.features(graph, centres)
        numbers = graph.numbers if centres is None else graph.numbers[centres]
        return self.regressor.energies(features, species(numbers, self.species_table))

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress, some atoms at a time; see `Prediction` for shapes, units and signs."""
        at_once = getattr(self.descriptor, "atoms_at_once", None)
        pieces = _pieces(graph.n_atoms, graph.positions.device.type == "cpu", at_once)
        with undivided() as n_threads:
            results = in_threads(lambda centres: self._piece(graph, centres), pieces, n_threads)
            energies, gradients = (torch.cat(parts) for parts in zip(*results, strict=True))
            return assemble(graph, energies, gradients)

    def _piece(self, graph: Graph, centres: slice) -> tuple[Tensor, Tensor]:
        """Energies of consecutive atoms, and the derivative with respect to the vectors of their pairs."""
        bounds = torch.tensor([centres.start, centres.stop], device=graph.pairs.device)
        own = slice(*torch.searchsorted(graph.pairs[0].contiguous(), bounds).tolist())
        with torch.enable_grad():
            vectors = graph.vectors[own].detach().requires_grad_(True)
            part = replace(graph, pairs=graph.pairs[:, own], shifts=graph.shifts[own], vectors=vectors)
            energies = self.atomic_energies(part, centres)
            (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        return energies.detach(), gradient

    def design(self, graph: Graph, *, nonlinear: bool = False) -> Design:
        """Derivatives of energies, forces and virials by the parameters, for least squares.

        Args:
            graph: structures, preferably of some hundred atoms together.
            nonlinear: also by the parameters of the descriptor, at their present values and the regressor's.

        Returns:
            Columns: coefficients of the features, constants of the elements, then the descriptor's parameters.

        Raises:
            InputError: when descriptor or regressor have no such derivatives.
        """
        regressor, kinds = self.expansion, species(graph.numbers, self.species_table)
        if isinstance(self.descriptor, Moments) and isinstance(regressor, Linear):
            found = self.descriptor.design(graph, regressor.coefficients if nonlinear else None)
        elif nonlinear:
            raise InputError(f"{type(self.descriptor).__name__} has no parameters that are optimised.")
        else:
            found = rows_of(self.descriptor, regressor, graph, kinds)
        counts = graph.positions.new_zeros((graph.n_structures, regressor.n_kinds))
        counts.index_put_((graph.owner, kinds), torch.ones_like(graph.positions[:, 0]), accumulate=True)
        n = regressor.n_basis

        def with_constants(rows: Tensor, middle: Tensor) -> Tensor:
            return torch.cat([rows[..., :n], middle.expand(*rows.shape[:-1], -1), rows[..., n:]], dim=-1)

        nothing = counts.new_zeros(regressor.n_kinds)
        return Design(
            energy=with_constants(found.energy, counts),
            forces=with_constants(found.forces, nothing),
            virial=with_constants(found.virial, nothing),
        )

    @property
    def design_cutoff(self) -> float:
        """Å, up to which `design` needs the pairs of a graph; 0 where it needs none."""
        if isinstance(self.descriptor, Moments) and isinstance(self.regressor, Linear):
            return self.descriptor.design_cutoff
        return self.cutoff if needs_pairs(self.descriptor) else 0.0

    @property
    def expansion(self) -> Expansion:
        """The regressor, where it is linear in its parameters.

        Raises:
            InputError: when it is not.
        """
        if not isinstance(self.regressor, Expansion):
            raise InputError(
                f"{type(self.regressor).__name__} is not linear in its parameters: least squares cannot train it."
            )
        return self.regressor

    @property
    def radial(self) -> torch.nn.Parameter | None:
        """Coefficients of the radial functions, where they can be optimised with the linear ones."""
        if isinstance(self.descriptor, Moments) and isinstance(self.regressor, Linear):
            return self.descriptor.radial.coefficients
        return None

    def kernel(self) -> Kernel | None:
        """The compiled form, where descriptor and regressor together have one."""
        match self.descriptor, self.regressor:
            case Moments() as moments, Linear() as linear:
                return moment_kernel(moments, linear.coefficients, linear.constants)
            case RadialAngular() as functions, Network(activations=("tanh",)) as network:
                return radial_angular_kernel(functions, network.tensors())
            case Symmetry() as functions, Network() as network:
                return symmetry_kernel(functions, network.packed())
            case Symmetry() as functions, Polynomial(order=1) as polynomial:
                return symmetry_kernel(functions, polynomial.as_network().packed())
            case Soap() as spectra, Linear() as linear:
                coefficients = linear.coefficients.expand(linear.n_kinds, -1)
                return soap_kernel(spectra, coefficients, linear.constants)
            case Soap() as spectra, Polynomial(order=1) as polynomial:
                return soap_kernel(spectra, polynomial.tensors()[0], polynomial.constants)
            case Bispectrum() as components, Polynomial() as polynomial:
                return bispectrum_kernel(components, polynomial.constants, *polynomial.tensors())
        return None

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> LearnedPotential:
        """Build again from `spec`, with parts that the tensors of `state_dict` fit; they are not loaded yet.

        Raises:
            ValueError, KeyError, TypeError, RuntimeError, InputError: when spec and state do not fit.
        """
        parts = {}
        for name, known in (("descriptor", DESCRIPTORS), ("regressor", REGRESSORS)):
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            parts[name] = find(f"mlmd.{name}s", spec[name]["kind"], known).restore(spec[name], own)
        return cls(**parts)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "learned", "descriptor": self.descriptor.spec(), "regressor": self.regressor.spec()}

    species_table: Tensor


def _pieces(n_atoms: int, cpu: bool, at_once: int | None = None) -> list[slice]:
    """Consecutive atoms in equal parts; at least two, for two threads, unless there are few atoms.

    Args:
        n_atoms: to be divided.
        cpu: where they are worked through.
        at_once: of a descriptor that needs more memory for an atom than others.
    """
    n_pieces = max(1, math.ceil(n_atoms / (at_once or (ATOMS_AT_ONCE if cpu else ATOMS_AT_ONCE_GPU))))
    if cpu and n_atoms >= _WORTH_DIVIDING:
        n_pieces = max(n_pieces, 2)
    bounds = [n_atoms * piece // n_pieces for piece in range(n_pieces + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(bounds)]
