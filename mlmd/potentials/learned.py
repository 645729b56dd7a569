"""Where a descriptor and a regressor meet: a learned potential, E = Σ_i F(D_i)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.bispectrum import Bispectrum
from mlmd.descriptors.bispectrum_kernel import bispectrum_kernel
from mlmd.descriptors.combined import Combined, within
from mlmd.descriptors.compiled import pair_cutoff
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
from mlmd.fitting.sum import Sum
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel, Prediction
from mlmd.potentials.rows import rows_of
from mlmd.potentials.threads import in_threads, undivided
from mlmd.registry import below, find

ATOMS_AT_ONCE = 256
"""Worked through together on a CPU: their intermediate results stay in its cache, and memory stays bounded."""
ATOMS_AT_ONCE_GPU = 16384
"""The same on a GPU, which needs more to be busy."""
_WORTH_DIVIDING = 128  # atoms; fewer are one piece


class LearnedPotential(EnergyModel):
    """The energy of an atom is a regressor's, from a descriptor's features."""

    calibration: float
    """By which standard deviations of forces are multiplied, so that they are the errors that were seen; 0 for none."""
    inverses: Tensor | None
    """A⁻¹ of the active set of each element, (n_elements, n, n), in float64; None where no grade is known."""

    def __init__(self, descriptor: Descriptor, regressor: Regressor, calibration: float = 1.0) -> None:
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
        self.calibration = float(calibration)
        self.register_buffer("inverses", None)

    def atomic_energies(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_atoms,) eV, or those of some consecutive atoms."""
        features = self.descriptor.features(graph, centres)
        numbers = graph.numbers if centres is None else graph.numbers[centres]
        return self.regressor.energies(features, species(numbers, self.species_table))

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress, some atoms at a time; see `Prediction` for shapes, units and signs."""
        with undivided():
            return super().predict(graph)

    @property
    def local(self) -> bool:  # type: ignore[override]
        """Whether what describes an atom is of its own neighbours."""
        return self.descriptor.kind == "atom"

    def slopes(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Energies of atoms (n_atoms,) eV, and dE/d(vectors) (n_pairs, 3) eV/Å, some atoms at a time."""
        at_once = getattr(self.descriptor, "atoms_at_once", None)
        pieces = _pieces(graph.n_atoms, graph.positions.device.type == "cpu", at_once)
        with undivided() as n_threads:
            results = in_threads(lambda centres: self._piece(graph, centres), pieces, n_threads)
            energies, gradients = (torch.cat(parts) for parts in zip(*results, strict=True))
        return energies, gradients

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
        if nonlinear and self.radial is None:
            raise InputError(f"{type(self.descriptor).__name__} has no parameters that are optimised.")
        found = []
        for part, term, coefficients in self.terms():
            near = within(graph, part.cutoff)
            if isinstance(part, Moments) and isinstance(term, Linear):
                found.append((part.design(near, coefficients if nonlinear else None), term.n_basis))
            else:
                found.append((rows_of(part, term, near, kinds), term.n_basis))
        counts = graph.positions.new_zeros((graph.n_structures, regressor.n_kinds))
        counts.index_put_((graph.owner, kinds), torch.ones_like(graph.positions[:, 0]), accumulate=True)

        def with_constants(of_terms: Sequence[Tensor], middle: Tensor) -> Tensor:
            rows = [rows[..., :n] for rows, (_, n) in zip(of_terms, found, strict=True)]
            of_descriptors = [rows[..., n:] for rows, (_, n) in zip(of_terms, found, strict=True)]
            return torch.cat([*rows, middle.expand(*rows[0].shape[:-1], -1), *of_descriptors], dim=-1)

        nothing = counts.new_zeros(regressor.n_kinds)
        return Design(
            energy=with_constants([design.energy for design, _ in found], counts),
            forces=with_constants([design.forces for design, _ in found], nothing),
            virial=with_constants([design.virial for design, _ in found], nothing),
        )

    def terms(self) -> list[tuple[Descriptor, Expansion, Tensor]]:
        """Descriptors and regressors that have rows of their own, with the coefficients of each."""
        regressor = self.expansion
        match self.descriptor, regressor:
            case Combined() as combined, Sum() as total if combined.columns == total.shares:
                coefficients = [total.coefficients[place] for place in total.places]
                return list(zip(combined.parts, total.terms, coefficients, strict=True))
        return [(self.descriptor, regressor, regressor.coefficients)]

    @property
    def design_cutoff(self) -> float:
        """Å, up to which `design`, or else `mlmd.descriptors.linearised`, needs the pairs of a graph; 0 for none."""
        if not isinstance(self.regressor, Expansion):
            return pair_cutoff(self.descriptor)
        return max(
            part.design_cutoff if isinstance(part, Moments) and isinstance(term, Linear) else pair_cutoff(part)
            for part, term, _ in self.terms()
        )

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
        if not isinstance(self.regressor, Expansion):
            return None
        found = [
            part.radial.coefficients
            for part, term, _ in self.terms()
            if isinstance(part, Moments) and isinstance(term, Linear)
        ]
        return found[0] if len(found) == 1 else None

    def kernel(self) -> Kernel | None:  # noqa: PLR0911 - a return for each pair
        """The compiled form, where descriptor and regressor together have one."""
        match self.descriptor, self.regressor:
            case Moments() as moments, Linear() as linear:
                return moment_kernel(moments, linear.coefficients, linear.constants)
            case RadialAngular() as functions, Network(activations=("tanh",), residual=False) as network:
                return radial_angular_kernel(functions, network.tensors())
            case Symmetry() as functions, Network(residual=False) as network:
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
        restored = cls(**parts_of(spec, state), calibration=spec.get("calibration", 1.0))
        if "inverses" in state:
            restored.inverses = torch.zeros_like(state["inverses"])
        return restored

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        parts: dict[str, Any] = {"descriptor": self.descriptor.spec(), "regressor": self.regressor.spec()}
        # a file without is the same as before there were any
        calibrated = {} if self.calibration == 1.0 else {"calibration": self.calibration}
        return {"kind": "learned", **parts, **calibrated}

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Another precision is not for what grades are solved with, another device is."""
        kept, self.inverses = self.inverses, None
        super()._apply(fn, recurse)
        self.inverses = None if kept is None else kept.to(self.species_table.device)
        return self

    species_table: Tensor


def parts_of(spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The descriptor and the regressor of a `spec`, which the tensors of `state_dict` fit; they are not loaded yet.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError, InputError: when spec and state do not fit.
    """
    parts = {}
    for name, known in (("descriptor", DESCRIPTORS), ("regressor", REGRESSORS)):
        own = below(f"{name}.", state)
        parts[name] = find(f"mlmd.{name}s", spec[name]["kind"], known).restore(spec[name], own)
    return parts


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
