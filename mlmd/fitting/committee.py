"""A committee: several regressors of the same features; their mean is the energy, their disagreement a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting import REGRESSORS, Regressor
from mlmd.registry import below, find


class Committee(torch.nn.Module):
    """e(x) = (1/n) Σ_m e_m(x), the mean of n members (Krogh and Vedelsby, NeurIPS 1994).

    Of potentials: Behler, Int. J. Quantum Chem. 115, 1032 (2015). Members were trained alike, from other random
    numbers or on other parts of the data. Where there were no data they differ, so that the standard deviation of what
    they say is an estimate of the error.
    """

    accepts: tuple[str, ...]
    n_features: int
    members: torch.nn.ModuleList
    """Regressors, each with `energies` of its own."""

    def __init__(self, members: Sequence[Regressor]) -> None:
        """Bring members together.

        Raises:
            InputError: for fewer than two members, and for members of other features or other kinds of rows.
        """
        super().__init__()
        if len(members) < 2:
            raise InputError(f"a committee of {len(members)} was given; it needs two members to disagree.")
        if len({one.n_features for one in members}) > 1 or len({tuple(one.accepts) for one in members}) > 1:
            sizes = ", ".join(f"{one.n_features} of {' or '.join(one.accepts)}" for one in members)
            raise InputError(f"members of a committee take the same features; these take {sizes}.")
        self.accepts, self.n_features = members[0].accepts, members[0].n_features
        self.members = torch.nn.ModuleList(members)  # type: ignore[arg-type]

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,)."""
        said = [one.energies(features, kinds) for one in self.members]  # type: ignore[operator]
        return torch.stack(said).mean(dim=0)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Committee:
        """Build again from `spec`, with members that the tensors of `state_dict` fit; they are loaded by the caller."""
        members = []
        for index, one in enumerate(spec["members"]):
            own = below(f"members.{index}.", state)
            members.append(find("mlmd.regressors", one["kind"], REGRESSORS).restore(one, own))
        return cls(members)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "committee", "members": [one.spec() for one in self.members]}  # type: ignore[operator]
