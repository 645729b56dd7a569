"""A region by machine learning inside an OpenMM force field: the table ``[mlmm]`` of ``mlmd simulate``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo

from mlmd.config.quantities import Quantity, input_path, is_there, refuse, shorten
from mlmd.config.table import NONEMPTY, Table


def _region(value: object) -> str | tuple[int, ...]:
    """A selection of mdtraj, or atoms counted from 0."""
    if isinstance(value, str) and value.strip():
        return value
    atoms = value if isinstance(value, list | tuple) else ()
    if not atoms or any(type(one) is not int or one < 0 for one in atoms):
        raise refuse(
            f'{shorten(value)}: a selection in the words of mdtraj is needed, such as "resname LIG" or "resid 3 to 5", '
            "or a list of atoms, counted from 0."
        )
    if len(set(atoms)) < len(atoms):
        raise refuse(f"{shorten(value)} names an atom twice.")
    return tuple(atoms)


def _forcefield(value: object, info: ValidationInfo) -> str:
    """A file beside the input where there is one of this name, else what OpenMM comes with."""
    if not isinstance(value, str) or not value.strip():
        raise refuse(f'{shorten(value)} is not the name of a force field. Write for example "amber14-all.xml".')
    path = input_path(value, info)
    return str(path) if is_there(path) and path.is_file() else value


ForceFieldName = Annotated[str, BeforeValidator(_forcefield)]


class MLMM(Table):
    """A region by the potential, all else and what is between by a force field."""

    region: Annotated[
        str | tuple[int, ...],
        BeforeValidator(_region),
        PlainSerializer(lambda value: [*value] if isinstance(value, tuple) else value),
    ] = Field(
        examples=["resname LIG"],
        description="atoms of the potential: a selection in the words of mdtraj, or indices counted from 0",
    )
    forcefield: Annotated[tuple[ForceFieldName, ...], NONEMPTY, Field(strict=False)] = Field(
        examples=[["amber14-all.xml", "amber14/tip3p.xml"]],
        description="force field of all atoms: XML files that OpenMM comes with, or your own",
    )
    nonbonded: Literal["auto", "pme", "cutoff", "none"] = Field(
        default="auto",
        description="pme: Ewald sums; cutoff: reaction field; none: all pairs, in open space whatever cell the file "
        "has; auto: pme in a cell, else none",
    )
    cutoff: Annotated[float, Quantity("length", above=0.0)] = Field(
        default=10.0, description="of the force field's pairs, not for none"
    )
    constraints: Literal["none", "hydrogens", "bonds"] = Field(
        default="none", description="bonds of fixed length outside the region: none, those of hydrogen, or all"
    )
    rigid_water: bool = Field(default=True, description="water outside the region is rigid")
    embedding: str = Field(
        default="mechanical", description="how the region feels the rest: an embedding that OpenMM-ML knows"
    )
    long_range: bool = Field(
        default=False,
        description="whether the potential itself sums charges over all cells, so that the force field leaves those "
        "of the region out",
    )
