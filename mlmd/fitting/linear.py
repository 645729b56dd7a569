"""Linear regression: the energy is a weighted sum of features and a constant of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
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

    def fit(self, design: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Least squares: minimise Σ w² (design · (coefficients, constants) - targets)².

        Args:
            design: (n_equations, n_features + n_kinds): for the energy of a structure the sums of its
            features,
                then how many rows of each kind it has; for a force, minus their derivatives, then zeros.
            targets: (n_equations,) eV or eV/Å.
            weights: (n_equations,), all one by default.

        Returns:
            Residuals design · (coefficients, constants) - targets, unweighted.

        Raises:
            InputError: when the shapes do not fit.
        """
        expected = (len(targets), self.n_features + self.n_kinds)
        if design.shape != expected:
            raise InputError(f"a design matrix of shape {tuple(design.shape)} was given, {expected} is needed.")
        scale = torch.ones_like(targets) if weights is None else weights
        # the minimum-norm solution: features may depend linearly on each other
        solution = torch.linalg.lstsq(design * scale[:, None], (targets * scale)[:, None], driver="gelsd").solution
        with torch.no_grad():
            self.coefficients.copy_(solution[: self.n_features, 0])
            self.constants.copy_(solution[self.n_features :, 0])
        return design @ solution[:, 0] - targets

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Linear:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(n_features=spec["n_features"], n_kinds=spec["n_kinds"]).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "linear", "n_features": self.n_features, "n_kinds": self.n_kinds}
