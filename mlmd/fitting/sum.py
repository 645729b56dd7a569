"""A sum of regressions that are linear in their parameters, each of its own columns of the features.

    e(x) = Σ_t Σ_b α_tb φ_tb(x_t) + c[kind],   x = (x_1, x_2, ...)

With a sparse Gaussian process for each descriptor of a combination the kernel is the sum of theirs, as that of two-body
and many-body terms (Bartók and Csányi, Int. J. Quantum Chem. 115, 1051, 2015): each has representative rows and an
amplitude of its own, and the prior of one knows nothing of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting import REGRESSORS
from mlmd.fitting.expansion import Expansion
from mlmd.registry import below, find


class Sum(Expansion):
    """Coefficients are those of the terms, one after the other; constants are common to all."""

    terms: Sequence[Expansion]

    def __init__(self, terms: Sequence[Expansion]) -> None:
        """Add regressions up; coefficients and constants are zero, to be fitted or loaded.

        Args:
            terms: each takes the next of the columns, as many as it has features. Their own coefficients and
                constants are given up.

        Raises:
            InputError: without terms, and when they do not go together.
        """
        if not terms:
            raise InputError("a sum of no regressions is nothing that can be fitted.")
        if len({term.n_kinds for term in terms}) > 1:
            raise InputError("regressions of different numbers of kinds do not add up.")
        if len({term.relative for term in terms}) > 1:
            raise InputError("regressions with a prior and others without one are not fitted together.")
        super().__init__(
            n_features=sum(term.n_features for term in terms),
            n_kinds=terms[0].n_kinds,
            n_basis=sum(term.n_basis for term in terms),
        )
        self.relative = terms[0].relative
        self.accepts = tuple(kind for kind in terms[0].accepts if all(kind in term.accepts for term in terms))
        self.terms = torch.nn.ModuleList(terms)  # type: ignore[assignment]
        for term in terms:  # what is fitted stands in one place
            term.coefficients = term.constants = None  # type: ignore[assignment]
        self.shares = _slices([term.n_features for term in terms])
        """Of the features that each term takes."""
        self.places = _slices([term.n_basis for term in terms])
        """Of the coefficients that each term has."""

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n, n_basis), the functions of all terms."""
        terms = zip(self.terms, self.shares, strict=True)
        return torch.cat([term.basis(features[:, own], kinds) for term, own in terms], dim=1)

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), the derivatives along directions (n, n_features, n_directions) of rows."""
        terms = zip(self.terms, self.shares, strict=True)
        return torch.cat([term.slopes(features[:, own], kinds, directions[:, own]) for term, own in terms], dim=1)

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64; summed in float64 whatever the precision of the features, since terms may cancel."""
        varying = self.basis(features, kinds).double() @ self.coefficients.double()
        return varying + self.constants.double().index_select(0, kinds)

    def prior(self) -> Tensor:
        """(m, n_basis), a block for each term.

        Raises:
            InputError: as those of the terms.
        """
        return torch.block_diag(*(term.prior() for term in self.terms))

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Sum:
        """Build again from `spec`, with terms that the tensors of `state_dict` fit; they are not loaded yet.

        Raises:
            KeyError, TypeError, InputError: when spec and state do not fit.
        """
        terms = []
        for number, one in enumerate(spec["terms"]):
            own = below(f"terms.{number}.", state)
            terms.append(find("mlmd.regressors", one["kind"], REGRESSORS).restore(one, own))
        return cls(terms).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "sum", "terms": [term.spec() for term in self.terms]}


def _slices(sizes: Sequence[int]) -> tuple[slice, ...]:
    """Consecutive columns."""
    return tuple(slice(first, last) for first, last in itertools.pairwise([0, *itertools.accumulate(sizes)]))
