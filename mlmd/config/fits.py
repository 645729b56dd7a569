"""How ``mlmd train`` fits: a kind of regression, with its parameters."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, PlainSerializer, PlainValidator, model_serializer, model_validator

from mlmd.config.quantities import EACH, EachQuantity, Quantity, choice, refuse, shorten
from mlmd.config.table import KindTable, of_kind

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


class LinearFit(KindTable):
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
        '"evidence" or "cross-validation" let the data choose it, once radial functions are found; of whole structures '
        "the most probable one when left out",
    )
    quadratic: bool = Field(
        default=False, description="also products of two features (quadratic SNAP, for example); not with mtp"
    )


class RandomFeaturesFit(KindTable):
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
        "out; of whole structures the most probable of some",
    )
    amplitude: Annotated[float, Quantity("energy", above=0.0)] = Field(
        default=10.0, description="by how much energies of atoms are expected to differ: more fits more closely"
    )
    regularisation: Choice | None = Field(
        default=None,
        examples=["evidence"],
        description='how the data choose another amplitude in the end: by "evidence" or "cross-validation"',
    )


class GAPFit(KindTable):
    """A sparse Gaussian process: energies by likeness to representative atoms of the data.

    With several descriptors it is the sum of one for each; options that are a list have a value for each of them.
    """

    kind: Literal["gap"] = Field(default="gap", description="kind of fit: a sparse Gaussian process")
    n_sparse: Annotated[int, Field(ge=2, le=20000), *EACH] = Field(
        default=500,
        description="representative atoms of each element; of several descriptors for all, or a list with one for each",
    )
    selection: Literal["farthest", "cur"] = Field(
        default="farthest",
        description="representative atoms: those that are farthest from each other, or by leverage (CUR)",
    )
    kernel: Annotated[Literal["gaussian", "polynomial"] | None, *EACH] = Field(
        default=None,
        examples=["gaussian"],
        description="likeness: gaussian in the distance of scaled features, or polynomial, a power of the cosine "
        "between rows, for soap alone: rows of others are zero for an atom without neighbours; polynomial for soap and "
        "gaussian for others when left out; or a list, as n_sparse",
    )
    width: Annotated[Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)] | None, *EACH] = Field(
        default=None,
        examples=[8.0],
        description="of the gaussian, in standard deviations of the features; thrice the root of their number when "
        "left out; or a list, as n_sparse",
    )
    power: Annotated[int, Field(ge=1, le=16), *EACH] = Field(
        default=4, description="of the polynomial kernel; or a list, as n_sparse"
    )
    amplitude: Annotated[float, EachQuantity("energy", above=0.0)] = Field(
        default=10.0,
        description="by how much energies of atoms are expected to differ: more fits more closely; of several "
        "descriptors for all, or a list with one for each, in their order",
    )
    regularisation: Choice | None = Field(
        default=None,
        examples=["evidence"],
        description='how the data choose another amplitude in the end: by "evidence" or "cross-validation"',
    )

    def wrong_length(self, n: int) -> str | None:
        """What is wrong where a list has another length than there are descriptors, n; None where all fit."""
        for name in self._EACH:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != n:
                several = f"{n} descriptors are" if n > 1 else "one descriptor is"
                return (
                    f"fit: {name}: {len(value)} value{'s' * (len(value) > 1)}, and {several} given. Give one value for "
                    f"all{', or a list with one for each descriptor, in their order' if n > 1 else ''}."
                )
        return None

    def of(self, number: int) -> GAPFit:
        """The fit of one of several descriptors, counted from 0."""
        values = {name: getattr(self, name) for name in self._EACH}
        own = {name: value[number] for name, value in values.items() if isinstance(value, tuple)}
        return self.model_copy(update=own)

    _EACH: ClassVar[tuple[str, ...]] = ("n_sparse", "kernel", "width", "power", "amplitude")


class KernelFit(KindTable):
    """The full Gaussian process: every energy, force and stress of the data is a function of the basis."""

    kind: Literal["kernel"] = Field(
        default="kernel", description="kind of fit: a Gaussian process of all labels, for small data"
    )
    kernel: Literal["gaussian", "polynomial", "linear", "laplacian"] | None = Field(
        default=None,
        examples=["gaussian"],
        description="likeness: gaussian in the distance of scaled features, polynomial (a power of the cosine between "
        "rows, where soap is among the descriptors), linear, or laplacian (for energies alone: its forces jump); "
        "polynomial for soap and gaussian for others when left out",
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


class AGNIFit(KindTable):
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


_EPOCHS = {"adamw": 500, "kalman": 30, "l-bfgs": 1000}
"""By default, for each optimiser."""
_NOT_USED = {
    "adamw": ("components",),
    "kalman": ("learning_rate",),
    "l-bfgs": ("components", "learning_rate", "batch", "ema"),
}
"""Options that an optimiser has no use for."""


def not_used(optimiser: object) -> tuple[str, ...]:
    """Options that an optimiser of the input has no use for; without one, those of the optimiser by default."""
    return _NOT_USED.get(optimiser, ()) if isinstance(optimiser, str) else _NOT_USED["adamw"]


class NetworkFit(KindTable):
    """A neural network for each element, or a committee of them, trained on energies, forces and stresses."""

    kind: Literal["network"] = Field(default="network", description="kind of fit: a neural network for each element")
    n_neurons: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(strict=False, min_length=1, max_length=8)
    ] = Field(default=(30, 30), description="neurons of each hidden layer")
    residual: bool = Field(
        default=False,
        description="layers as wide as the one before, or twice as wide, add to what it gave, each neuron with a "
        "factor that is learned",
    )
    activation: Literal["tanh", "softplus", "silu", "logistic", "gaussian"] = Field(
        default="silu", description="function of a neuron"
    )
    optimiser: Literal["adamw", "kalman", "l-bfgs"] = Field(
        default="adamw",
        description="adamw: gradient descent on batches; kalman: an extended Kalman filter for each element, few and "
        "costly epochs, for networks of some thousand weights; l-bfgs: all structures at once",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        examples=[500],
        description="passes over the training structures, at most; 500 (adamw), 30 (kalman) or 1000 (l-bfgs) when left "
        "out",
    )
    batch: int = Field(default=4, ge=1, description="structures for each step (adamw, kalman)")
    components: int = Field(
        default=24,
        ge=1,
        description="components of forces and stress of each structure that a step looks at, drawn at random (kalman)",
    )
    learning_rate: Annotated[float, Field(strict=False, gt=0.0, le=1.0)] = Field(
        default=1e-2, description="size of the first steps; it falls to nearly nothing in the last epochs (adamw)"
    )
    ema: Annotated[float, Field(strict=False, ge=0.0, lt=1.0)] = Field(
        default=0.99,
        description="weights are averaged over about 1 / (1 - ema) steps; 0 for the last ones (adamw, kalman)",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        examples=[50],
        description="stop after so many epochs without a better loss for a tenth of the structures that is kept apart",
    )
    members: int = Field(
        default=1,
        ge=1,
        le=64,
        description="networks of a committee, trained one after the other from other random weights; their mean is "
        "the energy, and where they differ, data are missing",
    )
    bootstrap: bool = Field(
        default=False, description="each member learns from as many structures drawn with replacement"
    )

    @model_validator(mode="after")
    def _uses_what_is_given(self) -> NetworkFit:
        """What an optimiser has no use for would be ignored."""
        for name in _NOT_USED[self.optimiser]:
            if name in self.model_fields_set:
                raise refuse(f"{name}: {self.optimiser} has no use for it. Remove it, or choose another optimiser.")
        if self.bootstrap and self.members == 1:
            raise refuse("bootstrap: one network has nothing to differ from. Give members, or remove it.")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, handler: Any) -> dict[str, Any]:
        """No options that would be refused: the two do not load together."""
        table: dict[str, Any] = handler(self)
        return {key: item for key, item in table.items() if key not in _NOT_USED[self.optimiser]}

    @property
    def n_epochs(self) -> int:
        """Passes over the training structures, at most."""
        return self.epochs or _EPOCHS[self.optimiser]

    @property
    def step(self) -> str:
        """What a pass is called."""
        return "iteration" if self.optimiser == "l-bfgs" else "epoch"


CROSS_VALIDATION = "cross-validation"
OF_ENVIRONMENTS = ("average", "rematch")
"""Kernels of structures that compare their atoms."""


def _width(value: object) -> float | tuple[float, ...] | str:
    """A number, one for each descriptor, or the word for those that predict best what they have not seen."""
    if not isinstance(value, list | tuple):
        return _positive_or_tried(value)
    widths = tuple(one for one in map(_positive_or_tried, value) if isinstance(one, float))
    if len(widths) != len(value) or not widths:
        raise refuse(f'{shorten(value)}: a number for each descriptor is needed. Or "{CROSS_VALIDATION}" for all.')
    return widths


def _listed(value: object) -> object:
    """A tuple as a file has it."""
    return list(value) if isinstance(value, tuple) else value


def _positive_or_tried(value: object) -> float | str:
    """A number, or the word for the one that predicts best what it has not seen."""
    if value == CROSS_VALIDATION:
        return CROSS_VALIDATION
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise refuse(f'{shorten(value)}: a number above 0 is needed. Or "{CROSS_VALIDATION}".')
    return float(value)


class KernelRidgeFit(KindTable):
    """Likeness to every structure that is trained on, of the rows of structures or of the rows of their atoms."""

    kind: Literal["kernel-ridge"] = Field(
        default="kernel-ridge", description="kind of fit: likeness to every structure that is trained on"
    )
    kernel: Literal["laplacian", "gaussian", "polynomial", "linear", "average", "rematch"] = Field(
        default="laplacian",
        description="likeness: falls with the sum of the differences of features, or with the distance; a power of the "
        "cosine; or the product of the rows; average and rematch compare the atoms of two structures, each with each "
        "or best matched, and go with a descriptor of atoms",
    )
    width: Annotated[
        float | tuple[float, ...] | str, PlainValidator(_width), PlainSerializer(_listed, return_type=Any)
    ] = Field(
        default=CROSS_VALIDATION,
        description="length scale of the laplacian or the gaussian kernel, in units of the features; a number, or "
        "the one that predicts best what it has not seen; of several descriptors each has its own, a list",
    )
    power: int | None = Field(
        default=None,
        ge=1,
        le=16,
        examples=[2],
        description="of the polynomial kernel; of the cosine between two atoms (average, rematch), 2 when left out",
    )
    gamma: Annotated[float, Field(strict=False, ge=1e-4, le=1e4)] | None = Field(
        default=None,
        examples=[0.1],
        description="entropy of a rematch: small ones match each atom with the most alike, large ones are the average; "
        "0.1 when left out",
    )
    regularisation: Annotated[float | str, PlainValidator(_positive_or_tried)] = Field(
        default=CROSS_VALIDATION,
        description="added to the diagonal of the kernel: more allows for noise; a number, or the best one",
    )

    @model_validator(mode="after")
    def _settings_of_the_kernel(self) -> KernelRidgeFit:
        """Every kernel has its own."""
        if self.kernel == "polynomial" and self.power is None:
            raise refuse("power: the polynomial kernel needs one, such as power = 2.")
        if self.kernel not in ("polynomial", *OF_ENVIRONMENTS) and self.power is not None:
            raise refuse(f"power: the {self.kernel} kernel has none; leave it out.")
        if self.kernel not in ("gaussian", "laplacian") and self.width != CROSS_VALIDATION:
            raise refuse(f"width: the {self.kernel} kernel has none; leave it out.")
        if self.kernel != "rematch" and self.gamma is not None:
            raise refuse(f"gamma: the {self.kernel} kernel has none; leave it out.")
        return self

    def wrong_length(self, n: int) -> str | None:
        """What is wrong where there are more or fewer widths than descriptors, n; None where they fit."""
        if not isinstance(self.width, tuple) or len(self.width) == n > 1:
            return None
        needed = f"{n} descriptors are given. Give a list with one for each" if n > 1 else "one descriptor is. Give one"
        return f"fit: width: a list of {len(self.width)} is given, and {needed}."

    @property
    def of_environments(self) -> bool:
        """Whether the atoms of two structures are compared, and not one row of each."""
        return self.kernel in OF_ENVIRONMENTS


FitTable = Annotated[
    LinearFit | RandomFeaturesFit | GAPFit | KernelFit | AGNIFit | NetworkFit | KernelRidgeFit,
    Field(discriminator="kind"),
    of_kind("linear"),
]
