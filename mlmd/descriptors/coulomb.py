"""Coulomb matrices: a whole structure as the interactions of its nuclei.

Matrices and papers: `mlmd.descriptors.coulomb_matrices`. They do not change when a structure is moved or rotated. What
makes them independent of the order of atoms is their form:

- plain: as they are, and they depend on the order
- sorted: rows and columns by the norms of rows, descending. Rows of equal norm, as symmetry makes them, stay in the
  order of the atoms, and features jump where two norms cross
- eigenspectrum: eigenvalues by their magnitude, descending
- random: sorted by norms with Gaussian noise, so that several draws of a structure stand for the ways in which its rows
  could be ordered (Montavon et al., Advances in Neural Information Processing Systems 25, 2012)

**The unit of length is part of the features**: Rupp et al. (2012) have bohr, most programs that came later Å. It
changes what lies off the diagonal, and with it the width of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd import units
from mlmd.descriptors.coulomb_matrices import differences, ewald_matrix, inverse_distances, inverse_sines
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError, did_you_mean
from mlmd.graph import Graph

FORMS = ("plain", "sorted", "eigenspectrum", "random")
INTERACTIONS = ("coulomb", "sine", "ewald")
UNITS = ("angstrom", "bohr")
LAYOUTS = ("full", "triangle")
NUMBER = "number"
"""The atomic number as a property."""


class Coulomb(torch.nn.Module):
    """Coulomb matrices of structures, padded with zeros to the largest number of atoms.

    Features are a function of positions and cells and not of pairs: give graphs without (a cutoff of 0). Forces are
    minus the derivative with respect to `graph.positions`, made a leaf by `dataclasses.replace`, stresses follow from
    that with respect to `graph.cells`; those with respect to `graph.vectors`, which other descriptors have, are absent.
    Derivatives exist but where the norms of two rows (sorted, random) or the magnitudes of two eigenvalues are equal.
    """

    kind = "structure"
    cutoff = 0.0

    def __init__(
        self,
        *,
        elements: Sequence[str],
        n_atoms_max: int,
        form: str = "sorted",
        interaction: str = "coulomb",
        unit: str = "angstrom",
        layout: str = "full",
        properties: Sequence[str | Mapping[str, float]] = (NUMBER,),
        noise: float | None = None,
        seed: int = 0,
        accuracy: float = 1e-8,
    ) -> None:
        """Take what the matrix is made of.

        Args:
            elements: symbols.
            n_atoms_max: atoms of the largest structure.
            form: one of `FORMS`.
            interaction: "coulomb" for molecules, "sine" or "ewald" for crystals.
            unit: of lengths in the matrix, "angstrom" or "bohr".
            layout: "full", all n² entries, where what is off the diagonal counts twice in a distance of features; or
                "triangle", the upper triangle row by row, where it counts once. An eigenspectrum has only values.
            properties: one or several layers, one after the other in the features: "number", or numbers ≥ 0 of the
                elements that take its place, such as electronegativities. Rows of all layers are in the order of the
                first, so that a row is one atom.
            noise: standard deviation of what is added to the norms of rows, for the random form only.
            seed: of the noise in `features`.
            accuracy: of Ewald sums, see `ewald_matrix`.

        Raises:
            InputError: for impossible values.
        """
        super().__init__()
        self.elements = check_symbols(elements)
        self.n_atoms_max, self.form, self.interaction = n_atoms_max, form, interaction
        self.unit, self.layout, self.noise, self.seed, self.accuracy = unit, layout, noise, seed, accuracy
        self.properties = tuple(properties)
        self._check()
        table = [[_property(layer, symbol) for symbol in self.elements] for layer in self.properties]
        width = n_atoms_max if form == "eigenspectrum" else n_atoms_max**2
        if layout == "triangle":
            width = n_atoms_max * (n_atoms_max + 1) // 2
        self.n_features = len(self.properties) * width
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        self.register_buffer("values", torch.tensor(table, dtype=torch.float64), persistent=False)

    def _check(self) -> None:
        words = (("form", FORMS), ("interaction", INTERACTIONS), ("unit", UNITS), ("layout", LAYOUTS))
        for name, known in words:
            if (word := getattr(self, name)) not in known:
                raise InputError(
                    f"{word!r} is not a known {name} of a Coulomb matrix. {did_you_mean(str(word), known)}"
                )
        if not self.elements:
            raise InputError("a Coulomb matrix needs elements: give those of all structures.")
        if isinstance(self.n_atoms_max, bool) or not isinstance(self.n_atoms_max, int) or self.n_atoms_max < 1:
            raise InputError(f"n_atoms_max is the number of atoms of the largest structure, not {self.n_atoms_max!r}.")
        if not self.properties:
            raise InputError(f'a Coulomb matrix needs a property: "{NUMBER}" or a table of the elements.')
        if self.layout == "triangle" and self.form == "eigenspectrum":
            raise InputError('an eigenspectrum has no triangle: leave out layout = "triangle".')
        if self.form == "random" and not (self.noise is not None and math.isfinite(self.noise) and self.noise > 0):
            raise InputError(f"the random form needs a positive standard deviation as noise, not {self.noise!r}.")
        if self.form != "random" and self.noise is not None:
            raise InputError(f'noise is of the random form, this one is {self.form}. Leave it out, or form = "random".')
        if not 0 < self.accuracy < 1:
            raise InputError(f"the accuracy of an Ewald sum is between 0 and 1, such as 1e-8, not {self.accuracy!r}.")

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_structures, n_features) float64; in the random form one draw, the same for the same graph.

        Raises:
            InputError: for unknown elements, too many atoms, atoms at one place, and where the interaction is one of
                molecules and the structure is periodic or the other way round; for `centres`, because a row is of a
                whole structure.
        """
        if centres is not None:
            raise InputError("Coulomb matrices are of whole structures: there are none of some atoms.")
        if self.form == "random":
            return self.draws(graph, 1, torch.Generator().manual_seed(self.seed))[:, 0]
        matrices, real = self._matrices(graph)
        if self.form == "eigenspectrum":
            return _eigenvalues(matrices, real).flatten(1)
        return self._rows(matrices, _norms(matrices, real) if self.form == "sorted" else None)

    def draws(self, graph: Graph, n_draws: int, generator: torch.Generator) -> Tensor:
        """(n_structures, n_draws, n_features): matrices sorted by norms with noise, each draw with its own.

        Args:
            graph: structures.
            n_draws: of each structure.
            generator: of the noise, on the CPU.

        Raises:
            InputError: for a form that is not random, and as `features`.
        """
        if self.noise is None:
            raise InputError(
                f'only the random form has draws, this one is {self.form}. Give form = "random" and noise.'
            )
        matrices, real = self._matrices(graph)
        norms = _norms(matrices, real)
        found = []
        for _ in range(n_draws):
            noise = self.noise * torch.randn(norms.shape, dtype=norms.dtype, generator=generator)
            found.append(self._rows(matrices, norms + noise.to(norms.device)))
        return torch.stack(found, dim=1)

    def _matrices(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """(n_structures, n_layers, n_atoms_max, n_atoms_max), and (n_structures, n_atoms_max) where atoms are."""
        kinds = species(graph.numbers, self.species_table)
        counts = torch.bincount(graph.owner, minlength=graph.n_structures)
        self._check_structures(graph, counts)
        rank = torch.arange(graph.n_atoms, device=counts.device) - (counts.cumsum(0) - counts)[graph.owner]
        place = (graph.owner, rank)
        shape = (graph.n_structures, self.n_atoms_max)
        real = torch.zeros(shape, dtype=torch.bool, device=counts.device).index_put(place, torch.ones_like(kinds) > 0)
        charges = self.values.new_zeros((*shape, len(self.properties))).index_put(place, self.values.T[kinds])
        charges = charges.movedim(2, 1)
        products = charges[..., :, None] * charges[..., None, :]
        length = units.units_of("length")[self.unit]
        if self.interaction == "ewald":
            return products * length * self._ewald(graph, counts)[:, None], real
        positions = graph.positions.new_zeros((*shape, 3)).index_put(place, graph.positions)
        apart, between = differences(positions, real)
        if self.interaction == "sine":
            inverse = inverse_sines(apart, between, graph.cells)
        else:
            inverse = inverse_distances(apart, between)
        if not bool(inverse.isfinite().all()):
            structure = int((~inverse.isfinite()).nonzero()[0, 0])
            raise InputError(
                f"two atoms of structure {structure} are at the same place: their interaction is infinite."
            )
        return products * length * inverse[:, None] + torch.diag_embed(0.5 * charges**2.4), real

    def _ewald(self, graph: Graph, counts: Tensor) -> Tensor:
        """(n_structures, n_atoms_max, n_atoms_max) interactions of unit charges, 1/Å."""
        n = self.n_atoms_max
        found = []
        for own, cell in zip(graph.positions.split(counts.tolist()), graph.cells, strict=True):
            matrix, empty = ewald_matrix(own, cell, self.accuracy), n - len(own)
            found.append(torch.nn.functional.pad(matrix, (0, empty, 0, empty)))
        return torch.stack(found)

    def _check_structures(self, graph: Graph, counts: Tensor) -> None:
        if bool((counts > self.n_atoms_max).any()):
            structure = int(counts.argmax())
            raise InputError(
                f"structure {structure} has {int(counts[structure])} atoms; n_atoms_max is {self.n_atoms_max}. "
                "Give the number of atoms of the largest structure."
            )
        if self.interaction == "coulomb" and bool(graph.pbc.any()):
            structure = int(graph.pbc.any(dim=1).nonzero()[0])
            raise InputError(
                f'structure {structure} is periodic, and interaction = "coulomb" knows no images. '
                'Try "sine" or "ewald", or set pbc to false.'
            )
        if self.interaction != "coulomb" and not bool(graph.pbc.all()):
            structure = int((~graph.pbc.all(dim=1)).nonzero()[0])
            raise InputError(
                f'structure {structure} is not periodic in all directions, and interaction = "{self.interaction}" '
                'is of crystals. Try "coulomb".'
            )

    def _rows(self, matrices: Tensor, norms: Tensor | None) -> Tensor:
        """Matrices as features, rows and columns by descending norms."""
        if norms is not None:
            order = torch.argsort(norms, dim=1, descending=True, stable=True)[:, None].expand(-1, matrices.shape[1], -1)
            matrices = torch.take_along_dim(matrices, order[..., :, None], dim=2)
            matrices = torch.take_along_dim(matrices, order[..., None, :], dim=3)
        if self.layout == "full":
            return matrices.flatten(1)
        row, column = torch.triu_indices(self.n_atoms_max, self.n_atoms_max, device=matrices.device)
        return matrices[..., row, column].flatten(1)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Coulomb:
        """Build again from `spec`; there is no state."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        said = {
            "kind": "coulomb",
            "elements": list(self.elements),
            "n_atoms_max": self.n_atoms_max,
            "form": self.form,
            "interaction": self.interaction,
            "unit": self.unit,
            "layout": self.layout,
            "properties": [layer if isinstance(layer, str) else dict(layer) for layer in self.properties],
        }
        if self.form == "random":
            said |= {"noise": self.noise, "seed": self.seed}
        return said | ({"accuracy": self.accuracy} if self.interaction == "ewald" else {})

    species_table: Tensor
    values: Tensor
    """(n_layers, n_species) properties."""


def _property(layer: str | Mapping[str, float], symbol: str) -> float:
    """The property of an element, checked."""
    if isinstance(layer, str):
        if layer != NUMBER:
            raise InputError(f'{layer!r} is not a property with a name. Write "{NUMBER}", or a table of the elements.')
        return float(atomic_numbers[symbol])
    if symbol not in layer:
        raise InputError(f"a property of a Coulomb matrix has no value for {symbol}: {dict(layer)}.")
    value = layer[symbol]
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise InputError(f"a property of {symbol} is {value!r}; its power 2.4 needs a number of zero or more.")
    return float(value)


def _norms(matrices: Tensor, real: Tensor) -> Tensor:
    """(n_structures, n_atoms_max) norms of the rows of the first layer; -inf without an atom, which sorts last."""
    return torch.linalg.vector_norm(matrices[:, 0].detach(), dim=-1).masked_fill(~real, -math.inf)


def _eigenvalues(matrices: Tensor, real: Tensor) -> Tensor:
    """(n_structures, n_layers, n_atoms_max) by descending magnitude; exactly 0 without an atom."""
    values = torch.linalg.eigvalsh(matrices)
    order = torch.argsort(values.detach().abs(), dim=-1, descending=True, stable=True)
    first = torch.arange(real.shape[1], device=real.device) < real.sum(dim=1, keepdim=True)
    return torch.where(first[:, None], torch.take_along_dim(values, order, dim=-1), 0.0)
