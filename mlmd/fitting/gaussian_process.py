"""The full Gaussian process: every energy, force and stress that is trained on is a function of the basis.

Sums and derivatives of a Gaussian process e(x) of environments x are jointly normal with it, so that its mean is

    e(x) = Σ_r α_r cov(e(x), r) + c[kind] = Σ_j [a_j k(x, x_j) + b_j · ∂k(x, x_j)/∂x_j] + c[kind],

r the labels and j the environments they are made of: an energy is Σ_j e(x_j), a force -Σ_j ∂e(x_j)/∂x_j · ∂x_j/∂r. The
coefficients are α = (K + Σ)⁻¹ (y - H c), K the covariances of labels, Σ the variances of their errors, and c those of
generalised least squares, c = (H' (K + Σ)⁻¹ H)⁻¹ H' (K + Σ)⁻¹ y, H counting the atoms of each kind in an energy.

(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, sections 2.7 and 9.4; Bartók and Csányi, IJQC
115, 1051, 2015; Chmiela et al., Sci. Adv. 3, e1603015, 2017.) Time grows as the third power of the number of labels and
memory as its square: `SparseGaussian` and `RandomFeatures` are for more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from mlmd.errors import InputError
from mlmd.fitting.kernels import SmoothKernel, arguments, kernel_named

_NUMBERS_AT_ONCE = 2**22
"""In the largest intermediate result: 32 MB."""


@dataclass(frozen=True)
class Environments:
    """The environments of one structure and its labels, each divided by its expected error."""

    images: Tensor
    """Images of the scaled features, (n, n_features)."""
    kinds: Tensor
    """(n,) integers."""
    slopes: Tensor
    """Derivatives of the images for the labels that are derivatives, (n, n_features, n_labels)."""
    energy: float | None
    """Factor of Σ_j e(x_j) for the label that is an energy, eV⁻¹; None where there is none."""

    @property
    def n_rows(self) -> int:
        """Labels: the energy first, then the derivatives."""
        return (self.energy is not None) + self.slopes.shape[2]


class GaussianProcess(torch.nn.Module):
    """e = Σ_j [a_j k(x, x_j) + b_j · ∂k(x, x_j)/∂x_j] + c[kind], k = δ² κ within a kind, 0 between kinds."""

    accepts: tuple[str, ...] = ("atom",)
    coefficients: torch.nn.Parameter
    """a, (n_points,) eV⁻¹."""
    slopes: torch.nn.Parameter
    """b, (n_points, n_features), eV⁻¹ times the unit of the images."""
    constants: torch.nn.Parameter
    """c, (n_kinds,) eV."""
    points: Tensor
    """Images of x_j, (n_points, n_features)."""
    point_kinds: Tensor
    """(n_points,) integers."""
    shift: Tensor
    """(n_features,), in units of the features."""
    scale: Tensor
    """(n_features,), in units of the features."""

    def __init__(
        self,
        *,
        n_features: int,
        n_points: int,
        n_kinds: int = 1,
        kernel: str = "gaussian",
        width: float | None = None,
        power: int | None = None,
        amplitude: float = 1.0,
        shift: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        """Without numbers, to be fitted or loaded.

        Args:
            n_features: columns of the features.
            n_points: environments that are trained on.
            n_kinds: of rows, e.g. chemical elements.
            kernel: a name of `mlmd.fitting.kernels.KERNELS`; the Laplacian one for energies alone.
            width: ℓ of the Gaussian and the Laplacian kernel, in units of the scaled features.
            power: ζ of the polynomial kernel.
            amplitude: δ, eV, how much energies of rows are expected to differ.
            shift, scale: (n_features,) of the features; 0 and 1 by default.

        Raises:
            InputError: for impossible settings.
        """
        if min(n_features, n_kinds) < 1 or n_points < 0:
            raise InputError(f"{n_points} points of {n_features} features, {n_kinds} kinds are impossible.")
        if not 0 < amplitude < math.inf:
            raise InputError(f"a Gaussian process with amplitude {amplitude} is impossible; it must be positive.")
        super().__init__()
        self.n_features, self.n_points, self.n_kinds = n_features, n_points, n_kinds
        self.kernel, self.width, self.power, self.amplitude = kernel, width, power, float(amplitude)
        self._kernel = kernel_named(kernel, width=width, power=power)
        for name, shape in (
            ("coefficients", (n_points,)),
            ("slopes", (n_points, n_features)),
            ("constants", (n_kinds,)),
        ):
            zeros = torch.zeros(shape, dtype=torch.float64)
            self.register_parameter(name, torch.nn.Parameter(zeros, requires_grad=False))
        self.register_buffer("points", torch.zeros((n_points, n_features), dtype=torch.float64))
        self.register_buffer("point_kinds", torch.zeros(n_points, dtype=torch.int64))
        zeros = torch.zeros(n_features, dtype=torch.float64)
        self.register_buffer("shift", zeros if shift is None else shift.double().clone())
        self.register_buffer("scale", zeros + 1 if scale is None else scale.double().clone())

    def image(self, scaled: Tensor) -> Tensor:
        """What the kernel is a function of, (n, n_features), of scaled features."""
        return cast(SmoothKernel, self._kernel).image(scaled) if self.smooth else scaled

    @property
    def smooth(self) -> bool:
        """Whether the kernel has the derivatives that forces and stresses are learned with."""
        return self.kernel != "laplacian"

    def environments(self, features: Tensor, kinds: Tensor, jacobian: Tensor, energy: float | None) -> Environments:
        """What a structure contributes.

        Args:
            features: (n, n_features) of its atoms.
            kinds: (n,) of them.
            jacobian: (n, n_features, n_labels), what each label that is a derivative is of the derivatives of e, over
                its expected error: for a force component -∂x_j/∂r / σ.
            energy: 1 / σ of the label that is an energy, None where there is none.

        Raises:
            InputError: for derivatives with a kernel that has none.
        """
        scaled, along = self._scaled(features.double()), jacobian / self.scale[:, None]
        if self.smooth:
            along = cast(SmoothKernel, self._kernel).turned(scaled, along)
        elif jacobian.shape[2]:
            raise InputError("the Laplacian kernel has a kink where two rows agree: it cannot learn derivatives.")
        return Environments(self.image(scaled), kinds, along, energy)

    def covariances(self, one: Environments, other: Environments) -> Tensor:
        """Covariances of the labels of two structures, (n_rows of one, n_rows of the other), dimensionless."""
        result = one.images.new_zeros((one.n_rows, other.n_rows))
        for kind in one.kinds.unique().tolist():
            left, right = (side.kinds == kind for side in (one, other))
            if not bool(right.any()):
                continue
            x, y, u, v = one.images[left], other.images[right], one.slopes[left], other.slopes[right]
            at_once = max(1, _NUMBERS_AT_ONCE // (len(y) * max(1, u.shape[2])))
            for some, along in zip(x.split(at_once), u.split(at_once), strict=True):
                result += self._block(some, along, y, v, one.energy, other.energy)
        return self.amplitude**2 * result

    def _block(self, x: Tensor, u: Tensor, y: Tensor, v: Tensor, left: float | None, right: float | None) -> Tensor:
        """`covariances` of some environments x and y of one kind, for an amplitude of one."""
        if not self.smooth:
            whole = self._kernel.values(x, y).sum().reshape(1, 1)
            return left * right * whole if left is not None and right is not None else whole[:0, :0]
        kernel = cast(SmoothKernel, self._kernel)
        values, first, second = kernel.orders(arguments(kernel, x, y))
        of_left, of_right = y @ u, x @ v  # (n, m, labels of one), (m, n, labels of the other)
        if kernel.relative:
            of_left -= x[:, None] @ u
            of_right -= y[:, None] @ v
        of_right = of_right.transpose(0, 1)
        carried = (first.T @ u.flatten(1)).view(len(y), *u.shape[1:])
        block = carried.flatten(0, 1).T @ v.flatten(0, 1)
        block += (second[..., None] * of_left).flatten(0, 1).T @ of_right.flatten(0, 1)
        if right is not None:
            column = right * torch.einsum("nm,nml->l", first, of_left)
            block = torch.cat([column[:, None], block], dim=1)
        if left is not None:
            row = left * torch.einsum("nm,nml->l", first, of_right)
            corner = [left * right * values.sum().reshape(1)] if right is not None else []
            block = torch.cat([torch.cat([*corner, row])[None], block])
        return block

    def put(self, environments: list[Environments], solution: Tensor, constants: Tensor) -> None:
        """Keep structures with the coefficients α of their labels (n_rows in all,), and the constants (n_kinds,) eV.

        Structures whose labels are not among the coefficients, at the end, count for nothing.
        """
        weights, slopes, start = [], [], 0
        for one in environments:
            own = solution[start : start + one.n_rows]
            start += one.n_rows
            if not len(own):
                own = solution.new_zeros(one.n_rows)
            n = one.n_rows - one.slopes.shape[2]
            weights.append(torch.full_like(one.images[:, 0], 0.0 if one.energy is None else one.energy * float(own[0])))
            slopes.append(one.slopes @ own[n:])
        with torch.no_grad():
            self.points.copy_(torch.cat([one.images for one in environments]))
            self.point_kinds.copy_(torch.cat([one.kinds for one in environments]))
            self.coefficients.copy_(torch.cat(weights))
            self.slopes.copy_(torch.cat(slopes))
            self.constants.copy_(constants)

    def energies(self, features: Tensor, kinds: Tensor) -> Tensor:
        """(n,) eV, float64, of rows of features (n, n_features) and their kinds (n,); torch differentiates it once."""
        scaled, dtype = self._scaled(features), features.dtype
        total = self.constants.double().index_select(0, kinds)
        for kind in kinds.unique().tolist():
            rows, own = (kinds == kind).nonzero().squeeze(1), self.point_kinds == kind
            points, weights = self.points[own].to(dtype), self.coefficients[own].to(dtype)
            if self.smooth:
                kernel = cast(SmoothKernel, self._kernel)
                sums = _sums(kernel.image(scaled[rows]), kernel, points, weights, self.slopes[own].to(dtype))
            else:
                sums = self._kernel.values(scaled[rows], points) @ weights
            total = total.index_add(0, rows, self.amplitude**2 * sums.double())
        return total

    def _scaled(self, features: Tensor) -> Tensor:
        return (features - self.shift.to(features.dtype)) / self.scale.to(features.dtype)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> GaussianProcess:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        spec = {
            "kind": "gaussian-process",
            "n_features": self.n_features,
            "n_points": self.n_points,
            "n_kinds": self.n_kinds,
            "kernel": self.kernel,
            "width": self.width,
            "power": self.power,
            "amplitude": self.amplitude,
        }
        return {name: value for name, value in spec.items() if value is not None}


class _Sums(torch.autograd.Function):
    """Σ_j a_j f(t_ij) + f'(t_ij) ∂t_ij · b_j, with the derivatives by x_i worked out beside it.

    Nothing of a pair (i, j) is kept, so that memory does not grow with the number of points.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: SmoothKernel, points: Tensor, a: Tensor, b: Tensor) -> Tensor:
        found, gradients = [], []
        origin, y, own = _from_origin(kernel, points, b)
        for some in (x - origin).split(max(1, _NUMBERS_AT_ONCE // max(1, len(points)))):
            values, first, second = kernel.orders(arguments(kernel, some, y))
            towards = some @ b.T - own
            found.append(values @ a + (first * towards).sum(dim=1))
            outer = first * a + second * towards
            gradient = outer @ y + first @ b
            gradients.append(gradient - some * outer.sum(dim=1, keepdim=True) if kernel.relative else gradient)
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        (gradients,) = ctx.saved_tensors
        return weights[:, None] * gradients, None, None, None, None


def _from_origin(kernel: SmoothKernel, points: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
    """An origin, the points from there, and y_j · b_j, of t that are relative, where the origin is free."""
    origin = points.mean(dim=0) if kernel.relative and len(points) else torch.zeros_like(points[:1]).sum(dim=0)
    y = points - origin
    return origin, y, (y * b).sum(dim=1) if kernel.relative else 0.0


def _sums(x: Tensor, kernel: SmoothKernel, points: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if torch.jit.is_tracing():  # what is exported holds operations alone
        origin, y, own = _from_origin(kernel, points, b)
        values, first, _ = kernel.orders(arguments(kernel, x - origin, y))
        return values @ a + (first * ((x - origin) @ b.T - own)).sum(dim=1)
    return cast(Tensor, _Sums.apply(x, kernel, points, a, b))
