"""By which method it is told of which lattice an atom is: common neighbours, or templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlmd.analysis import common_neighbours, template_matching
from mlmd.analysis.template_matching import check_templates, template_matches
from mlmd.errors import InputError, did_you_mean

METHODS = {"cna": "adaptive common neighbour analysis", "ptm": "polyhedral template matching"}
"""Name -> in words."""
OTHER = common_neighbours.OTHER


@dataclass(frozen=True)
class Lattices:
    """The lattice of each atom of a structure."""

    types: np.ndarray
    """(n_atoms,) numbers of the types of the method."""
    axes: np.ndarray | None
    """(n_atoms, 3, 3) rows are the axes of the lattice, nan for others; None where the method does not tell them."""
    rmsd: np.ndarray | None
    """(n_atoms,) from the best template; None without templates."""


@dataclass(frozen=True)
class Recognition:
    """A method with what it was asked."""

    method: str = "cna"
    """One of `METHODS`."""
    templates: tuple[str, ...] | None = None
    """For templates, with which atoms are compared; None is all but graphene."""
    rmsd: float | None = None
    """For templates, the largest deviation of an atom of a lattice; None is 0.1."""

    def __post_init__(self) -> None:
        """Raises InputError for an unknown method, options that it does not have, and without its package."""
        if self.method not in METHODS:
            raise InputError(f"structure types by {self.method!r} are not known. {did_you_mean(self.method, METHODS)}")
        if self.method == "cna" and (self.templates is not None or self.rmsd is not None):
            raise InputError(
                "templates and an RMSD cutoff belong to polyhedral template matching: ask for structure types by ptm."
            )
        if self.method == "ptm":
            check_templates(self._templates, self._cutoff)

    def __str__(self) -> str:
        """In words."""
        if self.method == "cna":
            return METHODS[self.method]
        return f"{METHODS[self.method]} with {', '.join(self._templates)} and an RMSD up to {self._cutoff:g}"

    @property
    def _templates(self) -> tuple[str, ...]:
        return template_matching.DEFAULT if self.templates is None else self.templates

    @property
    def _cutoff(self) -> float:
        return template_matching.CUTOFF if self.rmsd is None else self.rmsd

    @property
    def names(self) -> dict[str, int]:
        """Type -> its number, of all that can be found, others first."""
        every = template_matching.TYPES
        wanted = common_neighbours.TYPES if self.method == "cna" else (every[OTHER], *self._templates)
        return {name: number for number, name in enumerate(every) if name in wanted}

    def of(self, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> Lattices:
        """The lattices of atoms at positions (n_atoms, 3) Å in a cell (3, 3) Å."""
        if self.method == "cna":
            return Lattices(common_neighbours.structure_types(positions, cell, pbc), None, None)
        found = template_matches(positions, cell, pbc, templates=self._templates, cutoff=self._cutoff)
        return Lattices(found.types, found.axes, found.rmsd)

    def to_json(self) -> dict[str, Any]:
        """What was asked."""
        if self.method == "cna":
            return {"method": self.method}
        return {"method": self.method, "templates": list(self._templates), "rmsd_cutoff": self._cutoff}


CNA = Recognition()
"""What is done where nothing is asked."""
