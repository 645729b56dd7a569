"""Structures by what they have in common with others: a kernel that compares their atoms, with each of some.

D_s(A) = K(A, B_s), the average or the REMatch kernel (`mlmd.descriptors.similarity`) of the surroundings of all atoms
of A with those of B_s, with K(A, A) = 1. What is linear in D is kernel ridge regression, when the B are what it was
trained on (De, Bartók, Csányi and Ceriotti, Phys. Chem. Chem. Phys. 18, 13754, 2016). Structures may have any number of
atoms, also more than any of the B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.similarity import average_kernel, rematch_kernel
from mlmd.errors import InputError, did_you_mean
from mlmd.graph import Graph
from mlmd.registry import below, find

FORMS = ("average", "rematch")


class Likeness(torch.nn.Module):
    """See the module."""

    kind = "structure"
    environments: Tensor
    """(Σ n_atoms, local.n_features), of the atoms of one B after those of the other."""
    counts: Tensor
    """(n_structures,) atoms of each B."""
    own: Tensor
    """(n_structures,) K of each B with itself, before it is divided by."""

    def __init__(
        self,
        local: Descriptor,
        form: str = "rematch",
        *,
        power: float = 2.0,
        gamma: float | None = None,
        n_structures: int = 0,
        n_environments: int = 0,
    ) -> None:
        """Without numbers, for `remember` or to be loaded.

        Args:
            local: a descriptor of atoms.
            form: one of `FORMS`.
            power: ζ of the similarity of two atoms.
            gamma: γ of a rematch.
            n_structures, n_environments: sizes of what will be loaded.

        Raises:
            InputError: for impossible settings.
        """
        super().__init__()
        if local.kind != "atom":
            raise InputError(f"only the rows of atoms are compared, {type(local).__name__} is of {local.kind}s.")
        if form not in FORMS:
            raise InputError(f"{form!r} is not a kernel of structures. {did_you_mean(form, FORMS)}")
        if not power > 0 or (form == "rematch") != (gamma is not None) or not (gamma is None or gamma > 0):
            raise InputError(f"a {form} kernel with ζ = {power:g} and γ = {gamma} is impossible.")
        self.local, self.form, self.power, self.gamma = local, form, float(power), gamma
        self.cutoff, self.elements, self.n_features = local.cutoff, local.elements, n_structures
        rows = torch.zeros((n_environments, local.n_features), dtype=torch.float64)
        self.register_buffer("environments", rows)
        self.register_buffer("counts", torch.zeros(n_structures, dtype=torch.int64))
        self.register_buffer("own", torch.ones(n_structures, dtype=torch.float64))

    def remember(self, structures: Sequence[Tensor]) -> None:
        """Take the B: rows (n_atoms, local.n_features) of each.

        Raises:
            InputError: for structures without atoms, and atoms whose features are all zero.
        """
        self.own = self._with_themselves(structures)
        self.environments = torch.cat([rows.detach().double() for rows in structures])
        self.counts = torch.tensor([len(rows) for rows in structures], dtype=torch.int64)
        self.n_features = len(structures)

    def _kernel(self, structures: Sequence[Tensor], others: Sequence[Tensor] | None = None) -> Tensor:
        """(n_structures, n_others) of rows of atoms, not divided by K of each with itself."""
        if self.form == "average":
            return average_kernel(structures, others, zeta=self.power, normalised=False)
        assert self.gamma is not None
        return rematch_kernel(structures, others, gamma=self.gamma, zeta=self.power, normalised=False)

    def _with_themselves(self, structures: Sequence[Tensor]) -> Tensor:
        return torch.stack([self._kernel([rows])[0, 0] for rows in structures]).detach()

    def among(
        self, at_once: int, done: Callable[[int], None], matrix: Tensor | None = None, n_known: int = 0
    ) -> Tensor:  # fmt: skip
        """K of the B with each other, (n_structures, n_structures), float64.

        Args:
            at_once: structures that are compared with all others together.
            done: hears after each of these how many are through: so many rows are known.
            matrix: to be written into; one of its own by default.
            n_known: rows that stand there already, a number that `done` heard.
        """
        known, own = self.remembered(), self.own.sqrt()
        if matrix is None:
            matrix = self.environments.new_empty((len(known), len(known)))
        matrix[n_known:, :n_known] = matrix[:n_known, n_known:].T
        for begin in range(n_known, len(known), at_once):
            end = min(begin + at_once, len(known))
            matrix[begin:end, begin:end] = self._kernel(known[begin:end])
            if end < len(known):
                matrix[begin:end, end:] = self._kernel(known[begin:end], known[end:])
            matrix[begin:end, begin:] /= own[begin:end, None] * own[begin:]
            matrix[end:, begin:end] = matrix[begin:end, end:].T
            done(end)
        return matrix

    def remembered(self) -> list[Tensor]:
        """The rows of each B."""
        return list(self.environments.split(self.counts.tolist()))

    def features(self, graph: Graph, centres: slice | None = None) -> Tensor:
        """(n_structures, n_features), K of each structure of the graph with each B.

        Raises:
            InputError: for `centres`, because a row is of a whole structure, and as the descriptor of atoms.
        """
        if centres is not None:
            raise InputError("structures are compared as wholes: there are no rows of some atoms.")
        return self.pooled(self.local.features(graph), graph)

    def pooled(self, rows: Tensor, graph: Graph) -> Tensor:
        """(n_structures, n_features) from the rows (n_atoms, local.n_features) of the atoms of a graph."""
        structures = rows.split(torch.bincount(graph.owner, minlength=graph.n_structures).tolist())
        own = self._with_themselves(structures)
        return self._kernel(structures, self.remembered()) / (own[:, None] * self.own).sqrt()

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Likeness:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        own = below("local.", state)
        local = find("mlmd.descriptors", spec["of"]["kind"], DESCRIPTORS).restore(spec["of"], own)
        sizes = {"n_structures": len(state["counts"]), "n_environments": len(state["environments"])}
        return cls(local, spec["form"], power=spec["power"], gamma=spec.get("gamma"), **sizes)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        gamma = {} if self.gamma is None else {"gamma": self.gamma}
        return {"kind": "likeness", "of": self.local.spec(), "form": self.form, "power": self.power, **gamma}
