"""The embedded-atom method: a metal's atoms embedded in the density of their neighbours.

E = Σ_i F_i(ρ_i) + ½ Σ_i Σ_j φ_ij(r_ij),   ρ_i = Σ_j ρ_ji(r_ij)

(Daw and Baskes, Phys. Rev. B 29, 6443, 1984; Finnis and Sinclair, Philos. Mag. A 50, 45, 1984, where what j gives
depends on the element of i too). The functions are tables, joined by cubics with one continuous derivative.
Above the last density F goes on as a straight line; beyond the cutoff φ and ρ are zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd import units
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel
from mlmd.potentials.setfl import Tables, read
from mlmd.precision import dtype_of


class EAM(EnergyModel):
    """See the module; coefficients of the cubics are its state."""

    kind = "eam"

    def __init__(
        self,
        *,
        elements: Sequence[str],
        cutoff: float,
        d_rho: float,
        d_r: float,
        embedding: Tensor,
        density: Tensor,
        pair: Tensor,
    ) -> None:
        """Take the cubics of all functions, see `cubics`.

        Args:
            elements: symbols.
            cutoff: Å.
            d_rho: between the knots of F, in the unit of ρ.
            d_r: Å, between the knots of ρ and r φ.
            embedding: (n_elements, n_rho - 1, 4) F in eV.
            density: (n_elements, n_receivers, n_r - 1, 4) ρ by the element that gives and the one that receives
                it; n_receivers is 1 where all receive the same.
            pair: (n_elements, n_elements, n_r - 1, 4) r φ in eV Å, symmetric.

        Raises:
            InputError: for a word that is no element, or one given twice.
            ValueError: when the shapes do not fit.
        """
        super().__init__()
        self.elements, self.cutoff = check_symbols(elements), float(cutoff)
        self.d_rho, self.d_r = float(d_rho), float(d_r)
        n, intervals = len(self.elements), pair.shape[-2:]
        if embedding.shape[::2] != (n, 4) or pair.shape[:2] != (n, n) or density.shape[2:] != intervals:
            raise ValueError("the tables of an EAM potential do not fit each other")
        if density.shape[0] != n or density.shape[1] not in (1, n):
            raise ValueError(f"densities of {tuple(density.shape[:2])} elements for {n}")
        self.register_buffer("embedding", embedding.clone())
        self.register_buffer("density", density.clone())
        self.register_buffer("pair", pair.clone())
        self.register_buffer("species_table", species_table(self.elements), persistent=False)

    @classmethod
    def from_tables(cls, tables: Tables) -> EAM:
        """The potential of the functions' values at their knots."""
        return cls(
            elements=tables.elements,
            cutoff=tables.cutoff,
            d_rho=tables.d_rho,
            d_r=tables.d_r,
            embedding=cubics(tables.embedding),
            density=cubics(tables.density),
            pair=cubics(tables.pair),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers it computes with."""
        return self.embedding.dtype

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: an atom's embedding energy, and half of its pairs'."""
        kinds = species(graph.numbers, self.species_table)
        distances = graph.distances
        near = torch.nonzero(distances < self.cutoff)[:, 0]
        r = distances.index_select(0, near).to(self.dtype)
        centre, neighbour = graph.pairs.index_select(1, near)
        n, n_receivers = self.density.shape[:2]
        of_centre, of_neighbour = kinds.index_select(0, centre), kinds.index_select(0, neighbour)
        x = r / self.d_r
        given = _along(self.density, of_neighbour * n_receivers + of_centre * int(n_receivers > 1), x)
        bound = _along(self.pair, of_centre * n + of_neighbour, x) / r
        nothing = torch.zeros(graph.n_atoms, dtype=torch.float64, device=r.device)
        rho = nothing.index_add(0, centre, given.double()).to(self.dtype)
        return self._embed(rho, kinds).double() + nothing.index_add(0, centre, 0.5 * bound.double())

    def kernel(self) -> Kernel:
        """The fused form: ρ and r φ side by side for every pair of centre and neighbour."""
        given = self.density.transpose(0, 1).expand(len(self.elements), -1, -1, -1)
        together = torch.cat([given, self.pair], dim=-1)
        tables = [table.double().cpu().numpy().ravel() for table in (self.embedding, together)]
        return Kernel(
            family="eam",
            cutoff=self.cutoff,
            integers=np.array([len(self.elements), self.embedding.shape[1], self.pair.shape[2]]),
            numbers=np.concatenate([[self.cutoff, self.d_rho, self.d_r], *tables]),
            precision=str(self.dtype).removeprefix("torch."),
        )

    def spec(self) -> dict[str, Any]:
        """What an input file would say; the tables are in the state."""
        return {
            "kind": self.kind,
            "elements": list(self.elements),
            "cutoff": units.with_unit(self.cutoff, "length"),
            "d_r": units.with_unit(self.d_r, "length"),
            "d_rho": self.d_rho,
        }

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> EAM:
        """Build again from `spec` and `state_dict`.

        Raises:
            ValueError, KeyError, InputError: when they do not fit.
        """
        return cls(
            elements=spec["elements"],
            cutoff=units.parse(spec["cutoff"], "length"),
            d_rho=float(spec["d_rho"]),
            d_r=units.parse(spec["d_r"], "length"),
            **{name: state[name] for name in ("embedding", "density", "pair")},
        )

    def _embed(self, rho: Tensor, kinds: Tensor) -> Tensor:
        """F(ρ) in eV (n_atoms,), straight above the last knot."""
        n_intervals = self.embedding.shape[1]
        x = rho / self.d_rho
        ends = self.embedding[:, -1] @ self.embedding.new_tensor([0.0, 1.0, 2.0, 3.0])
        above = (x - n_intervals).clamp(min=0.0)
        return _along(self.embedding, kinds, x) + ends.index_select(0, kinds) * above

    embedding: Tensor
    density: Tensor
    pair: Tensor
    species_table: Tensor


def load(path: Path | str, precision: str = "float64") -> EAM:
    """An embedded-atom potential from a setfl (eam/alloy, eam/fs) or funcfl file.

    Args:
        path: the file; its content says which kind it is.
        precision: "float64" or "float32".

    Raises:
        InputError: when the file does not exist, or for an unknown precision.
        ModelError: when the file is damaged or of another kind, with the line.
    """
    return EAM.from_tables(read(path)).to(dtype_of(precision))


def cubics(values: np.ndarray) -> Tensor:
    """Coefficients (..., n - 1, 4) of the cubic in each interval between values (..., n), in powers of p = 0 … 1.

    The slope of a knot is that of the parabola or quartic through its neighbours (two on either side, fewer at the
    ends), as in DYNAMO and LAMMPS; value and slope at both ends make the cubic (Hermite).
    """
    y = torch.as_tensor(values, dtype=torch.float64)
    slope = torch.empty_like(y)
    slope[..., 0], slope[..., -1] = y[..., 1] - y[..., 0], y[..., -1] - y[..., -2]
    slope[..., 1], slope[..., -2] = 0.5 * (y[..., 2] - y[..., 0]), 0.5 * (y[..., -1] - y[..., -3])
    slope[..., 2:-2] = (y[..., :-4] - y[..., 4:] + 8.0 * (y[..., 3:-1] - y[..., 1:-3])) / 12.0
    rise, first, second = y[..., 1:] - y[..., :-1], slope[..., :-1], slope[..., 1:]
    return torch.stack((y[..., :-1], first, 3 * rise - 2 * first - second, first + second - 2 * rise), dim=-1)


def _along(table: Tensor, which: Tensor, x: Tensor) -> Tensor:
    """Cubics (..., n_intervals, 4) at x (n,) intervals from zero, each in the table's row `which` (n,).

    Beyond the last knot the value stays; below zero the first cubic goes on.
    """
    n_intervals = table.shape[-2]
    interval = x.detach().floor().clamp(0, n_intervals - 1)
    p = (x - interval).clamp(max=1.0)
    c = table.reshape(-1, 4).index_select(0, which * n_intervals + interval.long())
    return ((c[:, 3] * p + c[:, 2]) * p + c[:, 1]) * p + c[:, 0]
