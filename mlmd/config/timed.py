"""What all stages have that take time."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mlmd.config.quantities import Time
from mlmd.config.table import Table

MAX_STEPS = 2**53
"""Steps beyond this are not exact as floating-point numbers."""


class Timed(Table):
    """A stage with a duration."""

    refused: ClassVar[dict[str, str]] = dict.fromkeys(
        ("steps", "n_steps", "nsteps"), 'The length of a stage is a time: duration = "10 ps".'
    )
    duration: Time = Field(examples=["100 ps"], description="length of the stage")

    def n_steps(self, timestep: float) -> int:
        """Steps of `timestep` fs in this stage."""
        return round(min(self.duration / timestep, 2.0 * MAX_STEPS))
