"""Linear or quadratic regression with coefficients of their own for every kind.

    e = c[k] + Σ_f b[k, f] x_f                              order 1
        + Σ_{f<g} a[k, f, g] x_f x_g + ½ Σ_f a[k, f, f] x_f²    order 2,      k the kind of the row.

With a bispectrum this is SNAP (Thompson et al., J. Comput. Phys. 285, 316, 2015; Wood and Thompson, J. Chem. Phys.
148, 241721, 2018); the order of the coefficients is that of its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.expansion import Expansion, in_blocks
from mlmd.fitting.network import Network


class Polynomial(Expansion):
    """See the module. Coefficients are b, then the upper triangle of a by rows, for one kind after the other."""

    relative = True

    def __init__(self, *, n_features: int, n_kinds: int = 1, order: int = 1) -> None:
        """All zeros, to be fitted or loaded.

        Raises:
            InputError: for another order than 1 and 2.
        """
        if order not in (1, 2):
            raise InputError(f"a polynomial of order {order} was asked for; it can be 1 (linear) or 2 (quadratic).")
        of_each = n_features + (n_features * (n_features + 1) // 2 if order == 2 else 0)
        super().__init__(n_features=n_features, n_kinds=n_kinds, n_basis=n_kinds * of_each)
        self.order, self.n_of_each = order, of_each
        self._columns = [slice(kind * of_each, (kind + 1) * of_each) for kind in range(n_kinds)]
        self._triangle = torch.triu_indices(n_features, n_features)

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """x, and of order 2 the products, in the columns of each row's kind; (n, n_basis)."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            x = features[rows]
            if self.order == 1:
                return x
            first, second = self._triangle.to(x.device)
            return torch.cat([x, x[:, first] * x[:, second] * self._halves(x)], dim=1)

        return in_blocks(kinds, self._columns, of_kind)

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), the derivatives along directions (n, n_features, n_directions) of rows."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            x, along = features[rows], directions[rows]
            if self.order == 1:
                return along
            first, second = self._triangle.to(x.device)
            products = along[:, second].mul_(x[:, first, None])  # in place: these are the largest numbers of a fit
            products += along[:, first].mul_(x[:, second, None])
            return torch.cat([along, products.mul_(self._halves(x)[:, None])], dim=1)

        return in_blocks(kinds, self._columns, of_kind)

    def columns(self, kind: int) -> slice:
        """The coefficients of a kind."""
        return self._columns[kind]

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64; summed in float64 whatever the precision of the features, since large terms cancel."""
        x = features.double()
        linear, quadratic = self.tensors()
        total = self.constants.double()[kinds] + (x * linear[kinds]).sum(dim=1)
        if quadratic is not None:
            for kind in range(self.n_kinds):
                own = torch.where((kinds == kind)[:, None], x, 0.0)
                total = total + 0.5 * ((own @ quadratic[kind]) * own).sum(dim=1)
        return total

    def tensors(self) -> tuple[Tensor, Tensor | None]:
        """b (n_kinds, n_features), and of order 2 the symmetric a (n_kinds, n_features, n_features), float64."""
        each = self.coefficients.double().view(self.n_kinds, self.n_of_each)
        linear = each[:, : self.n_features]
        if self.order == 1:
            return linear, None
        first, second = self._triangle.to(each.device)
        quadratic = each.new_zeros((self.n_kinds, self.n_features, self.n_features))
        quadratic[:, first, second] = each[:, self.n_features :]
        quadratic[:, second, first] = each[:, self.n_features :]
        return linear, quadratic

    def as_network(self) -> Network:
        """Of order 1 the same as a network of one neuron without an activation, for which there are kernels.

        Raises:
            InputError: of order 2.
        """
        if self.order == 2:
            raise InputError("a quadratic function is no network of one neuron.")
        network = Network(n_features=self.n_features, n_neurons=1, n_kinds=self.n_kinds, activation="linear")
        linear, _ = self.tensors()
        with torch.no_grad():
            network.weights.copy_(linear[:, None])
            network.output.fill_(1.0)
            network.constants.copy_(self.constants)
        return network.to(self.coefficients.dtype)

    def _halves(self, like: Tensor) -> Tensor:
        """½ for squares, 1 for the other products."""
        first, second = self._triangle.to(like.device)
        return torch.where(first == second, 0.5, 1.0).to(like.dtype)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> Polynomial:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"}).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        numbers = {"n_features": self.n_features, "n_kinds": self.n_kinds, "order": self.order}
        return {"kind": "polynomial", **numbers}
