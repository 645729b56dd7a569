"""How ``mlmd train`` fits: a kind of regression, with its parameters."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field, PlainValidator

from mlmd.config.quantities import Quantity, choice, refuse, shorten
from mlmd.config.table import Table, of_kind

Choice = Literal["evidence", "cross-validation"]


def _strength(value: object) -> float | str:
    """A number, or how it is chosen."""
    if isinstance(value, str):
        return choice(value, get_args(Choice), "a strength: a number from 0, or how to choose it")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise refuse(f'{shorten(value)}: a number from 0, "evidence" or "cross-validation" is needed.')
    if value < 0:
        raise refuse(f"{value}: at least 0 is needed.")
    return float(value)


class LinearFit(Table):
    """Energies are linear in the features; with moment tensors radial functions can be optimised with them."""

    kind: Literal["linear"] = Field(default="linear", description="kind of fit: linear in the features")
    radial: Literal["optimise", "plain"] = Field(
        default="optimise",
        description="radial functions of mtp: optimise with the rest, or plain polynomials (fast: one linear fit)",
    )
    max_iterations: int = Field(default=50, ge=1, description="give up optimising after so many iterations")
    tolerance: Annotated[float, Field(ge=0)] = Field(
        default=1e-3, description="done when an iteration lowers the loss by less than this fraction"
    )
    regularisation: Annotated[float | Choice, PlainValidator(_strength)] = Field(
        default=1e-6,
        description="ridge on the scaled columns of the linear fit: more keeps coefficients smaller; "
        '"evidence" or "cross-validation" let the data choose it, once radial functions are found',
    )
    quadratic: bool = Field(
        default=False, description="also products of two features (quadratic SNAP, for example); not with mtp"
    )


class RandomFeaturesFit(Table):
    """A Gaussian process of a smooth kernel, approximated by random functions of the features."""

    kind: Literal["random-features"] = Field(
        default="random-features", description="kind of fit: random functions of the features"
    )
    n_random: int = Field(default=1000, ge=1, le=50000, description="random functions for each element")
    function: Literal["fourier", "arc-cosine-1", "arc-cosine-2"] = Field(
        default="fourier",
        description="fourier: the Gaussian kernel; arc-cosine-1 has forces with jumps, arc-cosine-2 has not",
    )
    width: Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[8.0],
        description="length scale in standard deviations of the features; thrice the root of their number when left "
        "out",
    )
    amplitude: Annotated[float, Quantity("energy", above=0.0)] = Field(
        default=10.0, description="by how much energies of atoms are expected to differ: more fits more closely"
    )
    regularisation: Choice | None = Field(
        default=None,
        examples=["evidence"],
        description='how the data choose another amplitude in the end: by "evidence" or "cross-validation"',
    )


class GAPFit(Table):
    """A sparse Gaussian process: energies by likeness to representative atoms of the data."""

    kind: Literal["gap"] = Field(default="gap", description="kind of fit: a sparse Gaussian process")
    n_sparse: int = Field(default=500, ge=2, le=20000, description="representative atoms of each element")
    selection: Literal["farthest", "cur"] = Field(
        default="farthest",
        description="representative atoms: those that are farthest from each other, or by leverage (CUR)",
    )
    kernel: Literal["gaussian", "polynomial"] | None = Field(
        default=None,
        examples=["gaussian"],
        description="likeness: gaussian in the distance of scaled features, or a power of the cosine between rows; "
        "polynomial for soap and gaussian for others when left out",
    )
    width: Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[8.0],
        description="of the gaussian, in standard deviations of the features; thrice the root of their number when "
        "left out",
    )
    power: int = Field(default=4, ge=1, le=16, description="of the polynomial kernel")
    amplitude: Annotated[float, Quantity("energy", above=0.0)] = Field(
        default=10.0, description="by how much energies of atoms are expected to differ: more fits more closely"
    )
    regularisation: Choice | None = Field(
        default=None,
        examples=["evidence"],
        description='how the data choose another amplitude in the end: by "evidence" or "cross-validation"',
    )


class KernelFit(Table):
    """The full Gaussian process: every energy, force and stress of the data is a function of the basis."""

    kind: Literal["kernel"] = Field(
        default="kernel", description="kind of fit: a Gaussian process of all labels, for small data"
    )
    kernel: Literal["gaussian", "polynomial", "linear", "laplacian"] | None = Field(
        default=None,
        examples=["gaussian"],
        description="likeness: gaussian in the distance of scaled features, a power of the cosine between rows, "
        "linear, or laplacian (for energies alone: its forces jump); polynomial for soap and gaussian for others when "
        "left out",
    )
    width: Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[8.0],
        description="of gaussian and laplacian, in standard deviations of the features; thrice the root of their "
        "number when left out, and for laplacian thrice their number",
    )
    power: int = Field(default=4, ge=1, le=16, description="of the polynomial kernel")
    amplitude: Annotated[float, Quantity("energy", above=0.0)] = Field(
        default=10.0, description="by how much energies of atoms are expected to differ: more fits more closely"
    )


class AGNIFit(Table):
    """Force components by likeness to reference fingerprints: no energy, so none that is conserved."""

    kind: Literal["agni"] = Field(
        default="agni", description="kind of fit: forces alone, with the descriptor agni; no energy is conserved"
    )
    n_sparse: int = Field(default=500, ge=2, le=20000, description="reference fingerprints of each element")
    width: Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None = Field(
        default=None,
        examples=[3.0],
        description="of the Gaussian, in standard deviations of the fingerprints; the root of their number when left "
        "out",
    )
    amplitude: Annotated[float, Quantity("force", above=0.0)] = Field(
        default=10.0, description="by how much components of forces are expected to differ: more fits more closely"
    )
    regularisation: Choice | None = Field(
        default=None,
        examples=["evidence"],
        description='how the data choose another amplitude in the end: by "evidence" or "cross-validation"',
    )


class NetworkFit(Table):
    """A neural network for each element, trained by gradient descent on batches of structures."""

    kind: Literal["network"] = Field(default="network", description="kind of fit: a neural network for each element")
    n_neurons: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, min_length=1, max_length=8)
    ] = Field(default=(30, 30), description="neurons of each hidden layer")
    activation: Literal["tanh", "softplus", "silu", "logistic", "gaussian"] = Field(
        default="silu", description="function of a neuron"
    )
    epochs: int = Field(default=500, ge=1, description="passes over the training structures, at most")
    batch: int = Field(default=4, ge=1, description="structures for each step")
    learning_rate: Annotated[float, Field(strict=False, gt=0.0, le=1.0)] = Field(
        default=1e-2, description="size of the first steps; it falls to nearly nothing in the last epochs"
    )
    ema: Annotated[float, Field(strict=False, ge=0.0, lt=1.0)] = Field(
        default=0.99, description="weights are averaged over about 1 / (1 - ema) steps; 0 for the last ones"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        examples=[50],
        description="stop after so many epochs without a better loss for a tenth of the structures that is kept apart",
    )


FitTable = Annotated[
    LinearFit | RandomFeaturesFit | GAPFit | KernelFit | AGNIFit | NetworkFit,
    Field(discriminator="kind"),
    of_kind("linear"),
]
