"""Random features: a kernel's inner products approximated by D random functions, and a fit that is linear in them.

    Fourier:      φ_j(x) = δ √(2/D) cos(ω_j · x + b_j),       ω ~ N(0, 1/ℓ²), b uniform in [0, 2π)
    arc-cosine n: φ_j(x) = δ √(2/D) max(0, ω_j · x + b_j)ⁿ,   ω ~ N(0, 1/ℓ²), b ~ N(0, 1)

φ(x) · φ(y) tends to the Gaussian kernel δ² exp(-|x - y|²/2ℓ²) (Rahimi and Recht, NeurIPS 2007), or to the arc-cosine
kernel of order n of the vectors (x/ℓ, 1) (Cho and Saul, NeurIPS 2009), with an error of the order of 1/√D.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from mlmd.errors import InputError, did_you_mean
from mlmd.fitting.expansion import Expansion, in_blocks
from mlmd.fitting.scaling import mean_and_deviation

FUNCTIONS: Final[dict[str, int]] = {"fourier": 0, "arc-cosine-1": 1, "arc-cosine-2": 2}
"""Names and, of arc-cosine features, the order.

Fourier features are smooth. Arc-cosine features of order 1 have a kink where ω · x + b = 0: the energy is continuous,
forces jump there, and a run in NVE drifts. Those of order 2 have continuous forces, whose derivatives jump.
"""


class RandomFeatures(Expansion):
    """e = α · φ((x - shift) / scale) + c[kind], with random features φ of each kind, or common to all.

    A basis function of one kind is zero for rows of others, so that kinds do not mix. The prior is the identity: the
    ridge fit is the Gaussian process whose kernel φ(x) · φ(y) approximates.
    """

    frequencies: Tensor
    """ω, (n_kinds or 1, n_random, n_features)."""
    phases: Tensor
    """b, (n_kinds or 1, n_random)."""
    shift: Tensor
    """(n_features,), in units of the features."""
    scale: Tensor
    """(n_features,), in units of the features."""

    def __init__(
        self,
        *,
        n_features: int,
        n_random: int,
        n_kinds: int = 1,
        function: str = "fourier",
        width: float | None = None,
        amplitude: float = 1.0,
        common: bool = False,
    ) -> None:
        """All zeros, to be loaded, or `randomise`d, `standardise`d and fitted.

        Args:
            n_features: columns of the features.
            n_random: D, random functions of each kind.
            n_kinds: of rows, e.g. chemical elements.
            function: a name of `FUNCTIONS`.
            width: ℓ, in standard deviations of the features; √n_features by default, because the distance of
                two rows is about √(2 n_features) of them.
            amplitude: δ, eV, how much energies of rows are expected to differ.
            common: one set of functions for all kinds.

        Raises:
            InputError: for sizes, widths and amplitudes that are not positive, and unknown functions.
        """
        if min(n_features, n_random, n_kinds) < 1:
            raise InputError(f"{n_random} random functions of {n_features} features, {n_kinds} kinds are impossible.")
        if function not in FUNCTIONS:
            raise InputError(f"{function!r} is not a random feature. {did_you_mean(str(function), FUNCTIONS)}")
        width = math.sqrt(n_features) if width is None else width
        for name, value in (("width", width), ("amplitude", amplitude)):
            if not 0 < value < math.inf:
                raise InputError(f"random features with {name} {value} are impossible; it must be positive.")
        n_sets = 1 if common else n_kinds
        super().__init__(n_features=n_features, n_kinds=n_kinds, n_basis=n_sets * n_random)
        self.n_random, self.function, self.common = n_random, function, common
        self.width, self.amplitude = float(width), float(amplitude)
        self._columns = [slice(n_random * one, n_random * (one + 1)) for one in range(n_sets)]
        for name, shape in (("frequencies", (n_sets, n_random, n_features)), ("phases", (n_sets, n_random))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    def randomise(self, generator: torch.Generator) -> None:
        """Draw ω and b."""
        drawn = torch.randn(self.frequencies.shape, generator=generator, dtype=torch.float64)
        self.frequencies.copy_(drawn / self.width)
        if self.function == "fourier":
            self.phases.copy_(2 * math.pi * torch.rand(self.phases.shape, generator=generator, dtype=torch.float64))
        else:
            self.phases.copy_(torch.randn(self.phases.shape, generator=generator, dtype=torch.float64))

    def standardise(self, features: Tensor, alike: Sequence[slice] = ()) -> None:
        """Set shift and scale by `mean_and_deviation` of rows (n, n_features) and of columns that are alike.

        Raises:
            InputError: for rows of another width, without rows, and for numbers that are not finite.
        """
        shift, scale = mean_and_deviation(features, alike)
        if len(shift) != self.n_features:
            raise InputError(f"rows of {len(shift)} features were given, {self.n_features} are needed.")
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def basis(self, features: Tensor, kinds: Tensor) -> Tensor:
        """φ, (n, n_basis), of rows of features (n, n_features) and their kinds (n,); torch differentiates it."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            arguments, _ = self._arguments(features[rows], kind)
            if self.function == "fourier":
                return self._norm * torch.cos(arguments)
            return self._norm * arguments.clamp(min=0) ** FUNCTIONS[self.function]

        return in_blocks(kinds, self._columns, of_kind)

    def slopes(self, features: Tensor, kinds: Tensor, directions: Tensor) -> Tensor:
        """(n, n_basis, n_directions), the derivatives of φ along directions (n, n_features, n_directions) of rows."""

        def of_kind(rows: Tensor | slice, kind: int) -> Tensor:
            arguments, frequencies = self._arguments(features[rows], kind)
            order = FUNCTIONS[self.function]
            if self.function == "fourier":
                outer = -torch.sin(arguments)
            else:
                outer = order * (arguments > 0) * arguments ** (order - 1)
            return (frequencies @ directions[rows]).mul_((self._norm * outer)[..., None])

        return in_blocks(kinds, self._columns, of_kind)

    def columns(self, kind: int) -> slice:
        """The random functions of a kind."""
        return self._columns[0 if self.common else kind]

    @property
    def _norm(self) -> float:
        return self.amplitude * math.sqrt(2 / self.n_random)

    def _arguments(self, features: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """ω · (x - shift) / scale + b, (n, n_random), and its derivative by x, (n_random, n_features)."""
        frequencies = self.frequencies[kind].to(features.dtype) / self.scale.to(features.dtype)
        centred = features - self.shift.to(features.dtype)
        return centred @ frequencies.T + self.phases[kind].to(features.dtype), frequencies

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> RandomFeatures:
        """Build again from `spec`; the tensors of `state_dict` are loaded by the caller."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"}).with_factor_of(state)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {
            "kind": "random-features",
            "n_features": self.n_features,
            "n_random": self.n_random,
            "n_kinds": self.n_kinds,
            "function": self.function,
            "width": self.width,
            "amplitude": self.amplitude,
            "common": self.common,
        }
