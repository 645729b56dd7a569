"""Hyperdynamics by bond boost: ``bias = [{ kind = "hyperdynamics", ... }]`` in an nvt stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlmd.config.quantities import Force, Quantity, Symbols, Time, refuse
from mlmd.config.table import Table

Length = Annotated[float, Quantity("length", above=0.0)]


class Hyperdynamics(Table):
    """Bond boost with its clock (Miron and Fichthorn, J. Chem. Phys. 119, 6210 (2003)), as LAMMPS' hyper/global."""

    kind: Literal["hyperdynamics"] = Field(default="hyperdynamics", description="kind of bias")
    cutbond: Length = Field(
        examples=["3.2 Å"], description="atoms that are closer in the quenched state have a bond that is boosted"
    )
    q: Annotated[float, Field(strict=False, gt=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        examples=[0.3],
        description="strain of the most strained bond from which on there is no boost; below its strain at any saddle "
        "point",
    )
    vmax: Annotated[float, Quantity("energy", above=0.0)] = Field(
        examples=["0.4 eV"], description="boost without any strain; below the lowest barrier"
    )
    elements: Symbols = Field(
        default=(), description="boost only bonds with an atom of these elements; those of all mobile atoms by default"
    )
    atoms: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = Field(
        default=(), description="boost only bonds with one of these atoms, counted from 0"
    )
    quench_every: Time = Field(default=1000.0, description="simulated time between quenches that look for events")
    event_distance: Length = Field(
        default=1.0, description="an event is an atom that a quench leaves farther than this from its last place"
    )
    quench_force: Force = Field(default=0.02, description="a quench is done when no atom feels a larger force")
    quench_steps: int = Field(default=1000, ge=1, description="a quench gives up after so many steps")

    @model_validator(mode="after")
    def _one_selection(self) -> Hyperdynamics:
        """Two selections would leave open whether both count."""
        if self.elements and self.atoms:
            raise refuse("elements and atoms: give one of them.")
        return self
