"""What is subtracted from energies, forces and stresses before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator

from mlmd.config.potential import Potentials
from mlmd.config.quantities import choice, refuse, symbol
from mlmd.config.table import Table
from mlmd.errors import InputError
from mlmd.units import parse, with_unit

_WORDS = ("fit", "isolated", "average")
_LONGEST_SYMBOL = 2


def _energies(value: object) -> str | dict[str, float]:
    """A word, or the energy of each element."""
    if not isinstance(value, Mapping):
        return choice(value, _WORDS, 'a baseline, nor a table of energies, { Li = "-0.2 eV" }')
    energies: dict[str, float] = {}
    for key, energy in value.items():
        try:
            energies[symbol(key)] = parse(energy, "energy")
        except InputError as error:
            raise refuse(f"{key}: {error}") from None
    if not energies:
        raise refuse('the table is empty; give the energy of an atom of each element, or "fit".')
    return energies


def _write(value: str | dict[str, float]) -> Any:
    """What `_energies` turns into the same again."""
    return value if isinstance(value, str) else {key: with_unit(energy, "energy") for key, energy in value.items()}


class Baseline(Table):
    """Energies of single atoms, and a potential to which the fitted one is added."""

    energies: Annotated[
        Literal["fit", "isolated", "average"] | dict[str, float], PlainValidator(_energies), PlainSerializer(_write)
    ] = Field(
        default="fit",
        description='of an atom of each element: "fit" (least squares), "average" (per atom), "isolated" (single atoms '
        'in the data), or { Li = "-0.2 eV" }; the last two are exact for single atoms',
    )
    potential: Potentials | None = Field(
        default=None,
        examples=[{"kind": "zbl", "cutoff": "2 Å"}],
        description="a file or table, as for a simulation: only what it leaves is fitted, and their sum is the result",
    )


def _as_table(value: object) -> object:
    """A word or the energies alone stand for a table with only them."""
    if isinstance(value, Baseline):
        return value
    if isinstance(value, Mapping) and any(len(key) > _LONGEST_SYMBOL for key in value):
        return value
    return {"energies": _energies(value)}


BaselineTable = Annotated[Baseline, BeforeValidator(_as_table)]
