"""Kernels: how alike two rows of features are, and how that changes when one of them moves.

    linear       x · y
    polynomial   (x̂ · ŷ + c)^ζ, x̂ = x / |x|      (GAP's of SOAP: Bartók, Kondor and Csányi, PRB 87, 184115, 2013)
    gaussian     exp(-|x - y|² / 2ℓ²)
    laplacian    exp(-Σ_f |x_f - y_f| / ℓ)         (Rupp, IJQC 115, 1058, 2015)

Values are (n, m) for rows x (n, n_features) and y (m, n_features), and torch differentiates them by both. Slopes are
(n, m, n_directions), the derivatives of the values when each row of x moves along directions of its own
(n, n_features, n_directions); they are products of matrices.

All but the Laplacian one are functions f(t) of t = x̂ · ŷ (x · y) or t = -|x - y|² / 2, so that with c = 0 or 1

    ∂t = (y - c x) · ∂x,    ∂²t = ∂x · ∂y,    ∂²k = f'(t) ∂x · ∂y + f''(t) ((y - c x) · ∂x) ((x - c y) · ∂y),

which is what a Gaussian process needs that is trained on derivatives (`mlmd.fitting.gaussian_process`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import torch
from torch import Tensor

from mlmd.errors import InputError, did_you_mean

_NUMBERS_AT_ONCE = 2**22
"""Of differences x_f - y_f, which the Laplacian kernel's slopes need one by one: 32 MB."""


class Kernel(Protocol):
    """A kernel of rows of features."""

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_j), (n, m)."""
        ...

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """Σ_f ∂k(x_i, y_j)/∂x_if directions_ifd, (n, m, n_directions)."""
        ...

    def diagonal(self, x: Tensor) -> Tensor:
        """k(x_i, x_i), (n,)."""
        ...


class SmoothKernel(Kernel, Protocol):
    """A kernel f(t) with two derivatives, t of the images of two rows; see the module."""

    relative: ClassVar[bool]
    """Whether t = -|x - y|² / 2 and c = 1; else t = x · y and c = 0."""

    def image(self, x: Tensor) -> Tensor:
        """The rows that t is made of, (n, n_features): x itself, or x̂; torch differentiates it."""
        ...

    def turned(self, x: Tensor, directions: Tensor) -> Tensor:
        """Derivatives of the image along directions (n, n_features, n_directions), in the same shape."""
        ...

    def orders(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f, f' and f'' at t."""
        ...


def arguments(kernel: SmoothKernel, x: Tensor, y: Tensor) -> Tensor:
    """t, (n, m), of images x (n, n_features) and y (m, n_features)."""
    if not kernel.relative:
        return x @ y.T
    # |x - y|² = |x|² + |y|² - 2 x · y loses digits when rows are far from zero and near to each other
    origin = y.detach().mean(dim=0)
    x, y = x - origin, y - origin
    # no more than two (n, m) at once
    return torch.addmm(-0.5 * (y * y).sum(dim=1), x, y.T) - 0.5 * (x * x).sum(dim=1)[:, None]


@dataclass(frozen=True)
class LinearKernel:
    """x · y."""

    relative: ClassVar[bool] = False

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, m)."""
        return x @ y.T

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """(n, m, n_directions)."""
        return y @ directions

    def diagonal(self, x: Tensor) -> Tensor:
        """(n,)."""
        return (x * x).sum(dim=1)

    def image(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def turned(self, x: Tensor, directions: Tensor) -> Tensor:
        """The directions themselves."""
        return directions

    def orders(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t, 1, 0."""
        return t, torch.ones_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class PolynomialKernel:
    """(x̂ · ŷ + c)^ζ of rows of norm one; without c a row of zeros is like nothing, also not like itself."""

    power: int
    """ζ."""
    offset: float = 0.0
    """c."""
    relative: ClassVar[bool] = False

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, m)."""
        return (_normalised(x) @ _normalised(y).T + self.offset) ** self.power

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """(n, m, n_directions); zero for a row x of zeros, where the kernel has no derivative."""
        unit, others = _normalised(x), _normalised(y)
        alike = unit @ others.T
        outer = self.power * (alike + self.offset) ** (self.power - 1) * _inverse_norms(x)[:, None]
        if _same_for_all(directions):
            return _towards(others, unit, alike * outer, outer, directions[0])
        return (others @ self._across(x, directions)).mul_(outer[..., None])

    def diagonal(self, x: Tensor) -> Tensor:
        """(n,)."""
        return ((x != 0).any(dim=1).to(x.dtype) + self.offset) ** self.power

    def image(self, x: Tensor) -> Tensor:
        """x̂."""
        return _normalised(x)

    def turned(self, x: Tensor, directions: Tensor) -> Tensor:
        """∂x̂ = (∂x - x̂ (x̂ · ∂x)) / |x|."""
        return self._across(x, directions) * _inverse_norms(x)[:, None, None]

    def orders(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """s^ζ, ζ s^(ζ-1), ζ (ζ-1) s^(ζ-2), s = t + c."""
        n, t = self.power, t + self.offset
        return t**n, n * t ** (n - 1), n * (n - 1) * t ** (n - 2) if n > 1 else torch.zeros_like(t)

    def _across(self, x: Tensor, directions: Tensor) -> Tensor:
        unit = _normalised(x)
        return directions - unit[..., None] * (unit[:, None] @ directions)


@dataclass(frozen=True)
class GaussianKernel:
    """exp(-|x - y|² / 2ℓ²)."""

    width: float
    """ℓ, in units of the features."""
    relative: ClassVar[bool] = True
    order: ClassVar[int] = 2
    """n of k = exp(exponents / ℓⁿ)."""

    def exponents(self, x: Tensor, y: Tensor) -> Tensor:
        """-|x - y|² / 2, (n, m), whatever the width."""
        return arguments(self, x, y)

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, m)."""
        return torch.exp(self.exponents(x, y) / self.width**self.order)

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """(n, m, n_directions)."""
        origin, outer = y.mean(dim=0), self.values(x, y) / self.width**2
        if _same_for_all(directions):
            return _towards(y - origin, x - origin, outer, outer, directions[0])
        towards = ((y - origin) @ directions).sub_((x - origin)[:, None] @ directions)
        return towards.mul_(outer[..., None])

    def diagonal(self, x: Tensor) -> Tensor:
        """(n,)."""
        return torch.ones_like(x[:, 0])

    def image(self, x: Tensor) -> Tensor:
        """x."""
        return x

    def turned(self, x: Tensor, directions: Tensor) -> Tensor:
        """The directions themselves."""
        return directions

    def orders(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, k / ℓ², k / ℓ⁴."""
        values = torch.exp(t / self.width**2)
        first = values / self.width**2
        return values, first, first / self.width**2


@dataclass(frozen=True)
class LaplacianKernel:
    """exp(-Σ_f |x_f - y_f| / ℓ), which has a kink where x_f = y_f: forces of a potential made of it jump."""

    width: float
    """ℓ, in units of the features."""
    order: ClassVar[int] = 1
    """n of k = exp(exponents / ℓⁿ)."""

    def exponents(self, x: Tensor, y: Tensor) -> Tensor:
        """-Σ_f |x_f - y_f|, (n, m), whatever the width."""
        return -torch.cdist(x, y, p=1)

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, m)."""
        return torch.exp(self.exponents(x, y) / self.width**self.order)

    def slopes(self, x: Tensor, y: Tensor, directions: Tensor) -> Tensor:
        """(n, m, n_directions)."""
        values = self.values(x, y) / self.width
        at_once = max(1, _NUMBERS_AT_ONCE // max(1, y.numel()))
        parts = []
        for some, along, of_some in zip(
            x.split(at_once), directions.split(at_once), values.split(at_once), strict=True
        ):
            parts.append(of_some[..., None] * (torch.sign(y - some[:, None]) @ along))
        return torch.cat(parts)

    def diagonal(self, x: Tensor) -> Tensor:
        """(n,)."""
        return torch.ones_like(x[:, 0])


KERNELS: Final[dict[str, type]] = {
    "linear": LinearKernel,
    "polynomial": PolynomialKernel,
    "gaussian": GaussianKernel,
    "laplacian": LaplacianKernel,
}
"""Names an input file may say."""

_SETTINGS: Final[dict[str, str]] = {"polynomial": "power", "gaussian": "width", "laplacian": "width"}


def kernel_named(name: str, *, width: float | None = None, power: int | None = None, offset: float = 0.0) -> Kernel:
    """The kernel of a name.

    Args:
        name: one of `KERNELS`.
        width: ℓ of the Gaussian and the Laplacian one.
        power: ζ of the polynomial one.
        offset: c of the polynomial one.

    Raises:
        InputError: for unknown names, and settings that a kernel does not have, lacks, or cannot have.
    """
    if name not in KERNELS:
        raise InputError(f"{name!r} is not a kernel. {did_you_mean(str(name), KERNELS)}")
    given: dict[str, Any] = {key: value for key, value in (("width", width), ("power", power)) if value is not None}
    needed = _SETTINGS.get(name)
    for key in given:
        if key != needed:
            raise InputError(f"the {name} kernel has no {key}; it has {needed or 'no settings'}.")
    if needed is None:
        return KERNELS[name]()
    if needed not in given:
        raise InputError(f"the {name} kernel needs a {needed}.")
    if needed == "power" and not (isinstance(power, int) and power >= 1):
        raise InputError(f"the power of a polynomial kernel is a whole number from 1, not {power}.")
    if needed == "width" and not 0 < given["width"] < math.inf:
        raise InputError(f"the width of a {name} kernel is positive, not {width}.")
    if not (offset == 0 or (needed == "power" and 0 < offset < math.inf)):
        raise InputError(f"an offset of {offset} is impossible for the {name} kernel; polynomial takes one from 0.")
    return KERNELS[name](**given, **({"offset": float(offset)} if offset else {}))


def _inverse_norms(rows: Tensor) -> Tensor:
    """1 / |x|, (n,); 0 for rows of zeros."""
    norm = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(norm > 0, 1 / norm, torch.zeros_like(norm))


def _same_for_all(directions: Tensor) -> bool:
    """Whether all rows move along the same directions: those of one row, expanded."""
    return len(directions) > 0 and directions.stride(0) == 0


def _towards(y: Tensor, x: Tensor, inner: Tensor, outer: Tensor, directions: Tensor) -> Tensor:
    """(outer_ij y_j - inner_ij x_i) · ∂, (n, m, n_directions), along the same directions (n_features, n_directions)."""
    found = (directions.T @ y.T) * outer[:, None]  # (n, n_directions, m), as what asks for all directions wants them
    return found.addcmul_((x @ directions)[..., None], inner[:, None], value=-1).mT


def _normalised(rows: Tensor) -> Tensor:
    """Rows of norm one; rows of zeros stay."""
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norm > 0, norm, torch.ones_like(norm))
