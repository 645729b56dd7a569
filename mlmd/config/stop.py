"""``[stop]``: a stage that ends when a quantity is known well enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from mlmd.config.quantities import refuse, shorten
from mlmd.config.table import Table
from mlmd.errors import did_you_mean

OF_LOG = {"density": "density [g/cm^3]", "volume": "volume [Å^3]", "temperature": "temperature [K]"}
"""Quantities that are means of the log -> their columns."""
CONDUCTIVITY = "conductivity"
_NO_ZERO = {
    "energy": "the zero of an energy is arbitrary",
    "potential_energy": "the zero of an energy is arbitrary",
    "pressure": "a pressure fluctuates about its target, which may be zero",
}
"""Quantities whose error over their value means nothing, and why."""
FIRST_LOOK = 100
"""Frames, or lines of the log, of the stage at the first look at its error."""
_GROWTH = 4
"""Each look comes when the stage is longer by this part, a quarter, than at the one before."""


def _quantity(value: object) -> str:
    """A quantity that can be asked for."""
    known = ["D:ELEMENT", CONDUCTIVITY, *OF_LOG]
    if not isinstance(value, str):
        raise refuse(f"{shorten(value)}: the name of a quantity is needed: {', '.join(known)}.")
    name = value.strip()
    if re.fullmatch(r"D:[A-Z][a-z]?", name) or name in known[1:]:
        return name
    if name in _NO_ZERO:
        raise refuse(f"{shorten(value)}: {_NO_ZERO[name]}, so that its relative error means nothing.")
    hint = "D of which element? Write for example \"D:Li\"." if name in ("D", "D:", "diffusion") else did_you_mean(
        name, set(known[1:])
    )  # fmt: skip
    raise refuse(f"{shorten(value)} is no quantity with an error here: {', '.join(known)}. {hint}".rstrip())


class Stop(Table):
    """When a stage of dynamics ends before its duration is over: when a quantity is known well enough."""

    refused: ClassVar[dict[str, str]] = {
        "error": "It is called relative_error here: one standard error over the value.",
        "tolerance": "It is called relative_error here: one standard error over the value.",
        "stage": "Write stop = { ... } in a stage to end that stage; [stop] is for the last stage of dynamics.",
    }
    quantity: Annotated[str, BeforeValidator(_quantity)] = Field(
        examples=["D:Li"],
        description="D:ELEMENT (self-diffusion), conductivity (of all ions, with the charges of [analysis]), density, "
        "volume or temperature",
    )
    relative_error: Annotated[float, Field(strict=False, gt=0.0, lt=1.0, allow_inf_nan=False)] = Field(
        examples=[0.1], description="standard error over value, at which the stage ends when two looks agree on it"
    )

    @property
    def element(self) -> str | None:
        """Whose diffusion is looked at; None for other quantities."""
        return self.quantity.removeprefix("D:") if self.quantity.startswith("D:") else None

    @property
    def in_log(self) -> bool:
        """Whether it is a mean of the log."""
        return self.quantity in OF_LOG


def looks() -> Iterator[int]:
    """Frames of a stage at which the error is looked at: 100, 125, 156, 195, ...

    They depend on nothing, so that a run that is longer, or was continued, looks at the same moments.
    """
    at = FIRST_LOOK
    while True:
        yield at
        at += at // _GROWTH


def next_look(n: int) -> int:
    """Frames at the first look behind n frames."""
    return next(at for at in looks() if at > n)


def look_before(n: int) -> int | None:
    """Frames at the last look before n frames; None where there was none."""
    return max(takewhile(lambda at: at < n, looks()), default=None)
