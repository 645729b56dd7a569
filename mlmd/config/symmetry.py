"""Symmetry functions that an input lists one by one, each with the parameters of its kind."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, create_model

from mlmd.config.quantities import Quantity, refuse, shorten, symbol
from mlmd.config.table import NONEMPTY, KindTable, named


def _neighbours(value: object) -> tuple[str, ...]:
    """Chemical symbols, of which two may be the same."""
    if isinstance(value, str):
        return (symbol(value),)
    if not isinstance(value, list | tuple):
        raise refuse(f'{shorten(value)} is not a list of chemical symbols. Write for example ["O"].')
    return tuple(symbol(one) for one in value)


def _counted(n_neighbours: int) -> AfterValidator:
    """As many elements as the function has neighbours in a term."""
    needed = {1: 'one is needed here, as ["O"]', 2: 'two are needed here, as ["O", "O"]'}[n_neighbours]

    def check(elements: tuple[str, ...]) -> tuple[str, ...]:
        if len(elements) != n_neighbours:
            raise refuse(
                f"{shorten([*elements])}: these are the elements of neighbours, of which {needed}; or leave it out for "
                "functions of all. The element of the atom in the middle is called centre."
            )
        return elements

    return AfterValidator(check)


_OF_ONE = "element of the neighbours; when left out, a function for every element"
_OF_TWO = "elements of the two neighbours, which may be the same; when left out, a function for every two elements"
_Elements = Annotated[tuple[str, ...], Field(strict=False)]
_Eta = Annotated[float, Quantity("inverse area", least=0.0)]
_Shift = Annotated[float, Quantity("length")]


class ListedFunction(KindTable):
    """One line of a list of symmetry functions, which may stand for functions of several elements."""

    refused: ClassVar[dict[str, str]] = {
        "neighbours": "The neighbours are called elements.",
        "sign": "λ is called lambda.",
        "r_s": "r_s is called shift.",
        "Rs": "r_s is called shift.",
        "r_cut": "It is called cutoff.",
    }
    centre: Annotated[str, BeforeValidator(symbol)] | None = Field(
        default=None, examples=["Si"], description="element of the atom that is described; when left out, every element"
    )
    cutoff: Annotated[float, Quantity("length", above=0.0)] | None = Field(
        default=None, examples=["4 Å"], description="shorter than that of the descriptor, which it is when left out"
    )

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The elements, none for all."""
        return getattr(self, "elements", None) or ()

    @property
    def shape(self) -> dict[str, float]:
        """Parameters by the names of `mlmd.descriptors.symmetry_functions.SymmetryFunction`."""
        names = {"eta": "eta", "shift": "shift", "kappa": "kappa", "zeta": "zeta", "lambda": "sign"}
        return {name: getattr(self, key) for key, name in names.items() if key in type(self).model_fields}


class _OfDistances(ListedFunction):
    """A sum over neighbours."""

    elements: Annotated[_Elements, _counted(1), BeforeValidator(_neighbours)] | None = Field(
        default=None, examples=[["O"]], description=_OF_ONE
    )


class G1(_OfDistances):
    """Σ f(r)."""

    kind: Literal["G1"] = Field(default="G1", description="the sum of the cutoff function")


class G2(_OfDistances):
    """Σ exp(-η (r - r_s)²) f(r)."""

    kind: Literal["G2"] = Field(default="G2", description="Gaussians of distances")
    eta: _Eta = Field(description="η, a half over the squared width")
    shift: _Shift = Field(default=0.0, description="distance r_s where the Gaussian is")


class G3(_OfDistances):
    """Σ cos(κ r) f(r)."""

    kind: Literal["G3"] = Field(default="G3", description="cosines of distances")
    kappa: Annotated[float, Quantity("inverse length", least=0.0)] = Field(description="κ, 2π over the wavelength")


class _OfAngles(ListedFunction):
    """A sum over pairs of neighbours."""

    elements: Annotated[_Elements, _counted(2), BeforeValidator(_neighbours)] | None = Field(
        default=None, examples=[["Si", "O"]], description=_OF_TWO
    )
    eta: _Eta = Field(description="η, a half over the squared width")
    shift: _Shift = Field(default=0.0, description="distance r_s where the Gaussians are")
    zeta: Annotated[float, Field(strict=False, ge=1.0, le=1024.0)] = Field(
        default=1.0, description="exponent ζ: more sees angles more sharply"
    )


_Lambda: dict[str, Any] = {
    "lambda": (
        Annotated[float, Field(strict=False, ge=-1.0, le=1.0)],
        Field(description="λ, 1 for functions that are largest at 0° and -1 for 180°"),
    )
}
# made by a call: the name of this field is a word of Python's own
_WithLambda: Any = create_model("_WithLambda", __base__=_OfAngles, **_Lambda)


class G4(_WithLambda):
    """2^(1-ζ) Σ (1 + λ cos θ)^ζ exp(-η [(r_ij - r_s)² + (r_ik - r_s)² + (r_jk - r_s)²]) f(r_ij) f(r_ik) f(r_jk)."""

    kind: Literal["G4"] = Field(default="G4", description="angles, with the distance between the two neighbours")


class G5(_WithLambda):
    """The same without the distance between the two neighbours."""

    kind: Literal["G5"] = Field(default="G5", description="angles, without the distance between the two neighbours")


_One = Annotated[G1 | G2 | G3 | G4 | G5, Field(discriminator="kind"), named("kind")]
Functions = Annotated[
    Annotated[Literal["even", "radii", "selected"], Tag("[key]")]
    | Annotated[tuple[_One, ...], Field(strict=False), NONEMPTY, Tag("[list]")],
    Discriminator(lambda value: "[list]" if isinstance(value, list | tuple) else "[key]"),
]
"""A set that is made, or functions one by one."""
