"""Heat that a stage takes from one slab of atoms and gives to another, for the thermal conductivity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mlmd.config.quantities import Quantity, Time, refuse
from mlmd.config.table import Table
from mlmd.units import with_unit

if TYPE_CHECKING:
    from mlmd.config.simulate import Simulate


class HeatExchange(Table):
    """Constant power from a cold slab to a hot one, half a cell apart: heat flows back on both sides."""

    axis: Literal["x", "y", "z"] = Field(
        default="z", description="direction of the flow, at right angles to the plane of the other two cell vectors"
    )
    power: Annotated[float, Quantity("power", above=0.0)] = Field(
        examples=["0.1 eV/ps"], description="heat that the first slab gets and the one in the middle loses"
    )
    slabs: Annotated[int, Field(ge=8, le=200)] = Field(
        default=20, description="slabs of equal thickness that the cell is divided into along the axis, an even number"
    )
    every: Annotated[int, Field(ge=1)] = Field(default=10, description="steps between exchanges")
    write_every: Time = Field(default=100.0, description="simulated time between lines of temperatures.csv")

    @model_validator(mode="after")
    def _has_a_middle(self) -> HeatExchange:
        """The cold slab is as far from the hot one on both sides."""
        if self.slabs % 2:
            raise refuse(f"slabs: {self.slabs} is odd, and the cold slab has to be half a cell from the hot one.")
        return self


def heat_problems(run: Simulate) -> Iterator[str]:
    """What does not go with an exchange of heat."""
    found = [
        (number, exchange)
        for number, stage in enumerate(run.stage, 1)
        if (exchange := heat_exchange_of(stage)) is not None
    ]
    for number, exchange in found:
        if exchange.write_every < run.timestep:
            shown = with_unit(exchange.write_every, "time")
            yield f"stage {number} (nve): heat_exchange: write_every: {shown} is shorter than the timestep."
        if exchange.slabs != found[0][1].slabs:
            yield (
                f"stage {number} (nve): heat_exchange: slabs: {exchange.slabs}, and stage {found[0][0]} has "
                f"{found[0][1].slabs}. Both write to one file: give them the same number."
            )
    if found and run.mlmm is not None:
        yield (
            f"stage {found[0][0]} (nve): heat_exchange: a change of the velocities of some atoms would stretch bonds "
            "of fixed length, and with mlmm there may be such. It is to be had with a potential alone."
        )
    if "nemd" in (() if run.analysis is None else run.analysis.run) and heat_exchange_of(run.stage[-1]) is None:
        yield (
            "analysis: nemd: it is made of a flow of heat, and the last stage has none. Give it "
            'heat_exchange = { power = "0.1 eV/ps" }.'
        )


def heat_exchange_of(stage: object) -> HeatExchange | None:
    """The exchange of heat of a stage; None where it has none."""
    found = getattr(stage, "heat_exchange", None)
    return found if isinstance(found, HeatExchange) else None
