"""Linear regression: the energy is a weighted sum of features and a constant of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mlmd.fitting.expansion import Expansion


class Linear(Expansion):
    """e = x · w + c[kind]: the features are the basis, w the coefficients in eV per unit of the feature."""

    accepts: tuple[str, ...] = ("atom",)
    relative = True

    def __init__(self, *, n_features: int, n_kinds: int = 1) -> None:
        """All zeros, to be fitted or loaded."""
        super().__init__(n_features=n_features, n_kinds=n_kinds, n_basis=n_features)

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """The features themselves."""
        return features

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """The directions themselves."""
        return directions

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Linear:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(n_features=spec["n_features"], n_kinds=spec["n_kinds"]).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "linear", "n_features": self.n_features, "n_kinds": self.n_kinds}
