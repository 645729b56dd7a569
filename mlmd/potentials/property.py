"""A number of each structure, in a unit of its own: a descriptor of whole structures, and a regressor.

y(S) = F(D(S)) + Σ_e n_e c_e, where the part of the composition is there for what grows with the number of atoms. Such a
model is no potential: it says nothing of forces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlmd.descriptors import Descriptor
from mlmd.descriptors.average import Average
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.compiled import pair_cutoff
from mlmd.descriptors.coulomb import Coulomb
from mlmd.descriptors.likeness import Likeness
from mlmd.descriptors.linearised import values
from mlmd.descriptors.species import species, species_table
from mlmd.errors import InputError
from mlmd.fitting import Regressor
from mlmd.neighbors import build_graph
from mlmd.potentials.learned import ATOMS_AT_ONCE, parts_of
from mlmd.potentials.threads import undivided

_ROWS_AT_ONCE = 256
"""Whose kernels with all structures that were trained on are computed together."""


@dataclass(frozen=True)
class Quantity:
    """What is learned."""

    name: str
    """In the files."""
    unit: str
    """Of the numbers; empty where it is not known."""
    extensive: bool
    """Whether it grows with the number of atoms."""

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


class PropertyModel(torch.nn.Module):
    """See the module."""

    baseline: Tensor
    """c, (n_elements,) in the unit of the quantity; zero unless it is extensive."""

    def __init__(self, descriptor: Descriptor, regressor: Regressor, quantity: Quantity, n_draws: int = 1) -> None:
        """Join the parts.

        Args:
            descriptor: of structures.
            regressor: of its features.
            quantity: what is learned.
            n_draws: orders of the atoms of each structure that are averaged, for randomly sorted Coulomb matrices.

        Raises:
            InputError: when the regressor does not take what the descriptor gives.
        """
        super().__init__()
        if descriptor.kind != "structure" or "structure" not in regressor.accepts:
            raise InputError(
                f"{type(descriptor).__name__} gives features of {descriptor.kind}s and {type(regressor).__name__} "
                f"takes those of {' or '.join(regressor.accepts)}s: a property needs both of structures."
            )
        if descriptor.n_features != regressor.n_features:
            raise InputError(
                f"{type(descriptor).__name__} gives {descriptor.n_features} features, "
                f"{type(regressor).__name__} takes {regressor.n_features}."
            )
        self.descriptor, self.regressor, self.quantity, self.n_draws = descriptor, regressor, quantity, n_draws
        self.cutoff, self.elements = descriptor.cutoff, descriptor.elements
        self.units = {quantity.name: quantity.unit or "not given", "length": "Å"}
        self.register_buffer("baseline", torch.zeros(len(self.elements), dtype=torch.float64))

    def values(self, structures: Sequence[Atoms], names: Sequence[str] | None = None) -> np.ndarray:
        """(n_structures,) in the unit of the quantity, float64.

        Args:
            structures: of known elements.
            names: what they are called in messages.

        Raises:
            InputError: for unknown elements, structures larger than any that was trained on where features are padded
                to these, and as the descriptor.
        """
        with undivided():
            rows = rows_of(self.descriptor, structures, self.n_draws, names)
            return self.values_of_rows(rows) + composition_part(structures, self.elements, self.baseline)

    def values_of_rows(self, rows: Tensor) -> np.ndarray:
        """(n_structures,), the regressor's part, of rows (n_structures, n_draws, n_features)."""
        flat, found = rows.flatten(0, 1).to(self.baseline.dtype), []
        with torch.no_grad():
            for some in flat.split(_ROWS_AT_ONCE):
                found.append(self.regressor.energies(some, torch.zeros(len(some), dtype=torch.int64)))
        values: np.ndarray = torch.cat(found).view(rows.shape[:2]).mean(dim=1).double().numpy()
        return values

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> PropertyModel:
        """Build again from `spec`, with parts that the tensors of `state_dict` fit; they are not loaded yet.

        Raises:
            ValueError, KeyError, TypeError, RuntimeError, InputError: when spec and state do not fit.
        """
        parts = parts_of(spec, state)
        return cls(parts["descriptor"], parts["regressor"], Quantity(**spec["property"]), int(spec["n_draws"]))

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "property",
            "property": asdict(self.quantity),
            "descriptor": self.descriptor.spec(),
            "regressor": self.regressor.spec(),
            "n_draws": self.n_draws,
        }


def rows_of(
    descriptor: Descriptor, structures: Sequence[Atoms], n_draws: int = 1, names: Sequence[str] | None = None
) -> Tensor:
    """Features (n_structures, n_draws, n_features), float64, by the compiled kernel where there is one.

    The same structure has the same row to rounding, whatever stands beside it; randomly sorted matrices have one row
    for each draw.

    Raises:
        InputError: as the descriptor, naming the structure.
    """
    if not structures:
        return torch.zeros((0, n_draws, descriptor.n_features), dtype=torch.float64)
    called = [f"structure {number}" for number in range(len(structures))] if names is None else list(names)
    found = []
    for some in _together(descriptor, structures):
        try:
            found.append(_rows(descriptor, structures[some], n_draws))
        except InputError as error:
            if some.stop - some.start == 1:
                raise InputError(f"{called[some.start]}: {error}") from None
            for number in range(some.start, some.stop):  # one of them raises, with its name
                rows_of(descriptor, [structures[number]], n_draws, [called[number]])
            raise
    return torch.cat(found)


def environments_of(descriptor: Descriptor, atoms: Atoms, name: str) -> Tensor:
    """Rows of all atoms of a structure, (n_atoms, n_features), float64, by the compiled kernel where there is one.

    Raises:
        InputError: as the descriptor, naming the structure.
    """
    try:
        with torch.no_grad():
            return values(descriptor, build_graph([atoms], pair_cutoff(descriptor)))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def composition_part(structures: Sequence[Atoms], elements: Sequence[str], baseline: Tensor) -> np.ndarray:
    """(n_structures,) Σ_e n_e c_e."""
    table, constants = species_table(elements), baseline.double()
    sums = [float(constants[species(torch.from_numpy(np.asarray(one.numbers)), table)].sum()) for one in structures]
    return np.array(sums)


def _together(descriptor: Descriptor, structures: Sequence[Atoms]) -> Iterator[slice]:
    """Consecutive structures that are worked through together."""
    parts = descriptor.parts if isinstance(descriptor, Combined) else [descriptor]
    alone = any(isinstance(one, Average | Likeness) or getattr(one, "form", "") == "random" for one in parts)
    begin, n_atoms = 0, 0
    for number, atoms in enumerate(structures):
        if number > begin and (alone or n_atoms + len(atoms) > ATOMS_AT_ONCE):
            yield slice(begin, number)
            begin, n_atoms = number, 0
        n_atoms += len(atoms)
    yield slice(begin, len(structures))


def _rows(descriptor: Descriptor, structures: Sequence[Atoms], n_draws: int) -> Tensor:
    """(n_structures, n_draws, n_features); beside draws of one descriptor others are the same in each."""
    if isinstance(descriptor, Combined):
        parts = [_rows(part, structures, n_draws) for part in descriptor.parts]
        return torch.cat([rows.expand(-1, n_draws, -1) for rows in parts], dim=2)
    cutoff = pair_cutoff(descriptor.local) if isinstance(descriptor, Average | Likeness) else descriptor.cutoff
    graph = build_graph(list(structures), cutoff)
    with torch.no_grad():
        if isinstance(descriptor, Average | Likeness):
            return descriptor.pooled(values(descriptor.local, graph), graph)[:, None]
        if isinstance(descriptor, Coulomb) and descriptor.form == "random":
            # the generator begins anew for every structure, so that a row does not depend on those before it
            return descriptor.draws(graph, n_draws, torch.Generator().manual_seed(descriptor.seed))
        return descriptor.features(graph).double()[:, None]
