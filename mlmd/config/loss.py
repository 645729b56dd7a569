"""What the loss of a fit weighs: the expected errors of energies, forces and stresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from mlmd.config.quantities import Quantity, refuse, shorten
from mlmd.config.table import Table
from mlmd.errors import did_you_mean


class Factors(Table):
    """Factors on the expected errors of a group; a bare number is one for all three."""

    energy: float = 1.0
    forces: float = 1.0
    stress: float = 1.0

    @model_validator(mode="before")
    @classmethod
    def _above_zero(cls, data: Any) -> Any:
        """One number is that of all three; all must be above 0."""
        if not isinstance(data, Mapping):
            factor = _factor(data, "")
            return dict.fromkeys(cls.model_fields, factor)
        if not data:
            raise refuse("the table is empty; give a factor, or { energy = 0.5, forces = 2, stress = 1 }.")
        for key in data:
            if key not in cls.model_fields:
                raise refuse(f"{key!r} is not an option. {did_you_mean(key, cls.model_fields)}")
        return {key: _factor(value, f"{key}: ") for key, value in data.items()}


def _factor(value: object, place: str) -> float:
    """A number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(f"{place}{shorten(value)}: a number is needed.")
    if value <= 0:
        raise refuse(f"{place}{float(value)!r}: a factor above 0 is needed.")
    return float(value)


class Loss(Table):
    """Expected errors, the sigmas: a residual counts in units of its sigma, so a smaller one counts more."""

    energy: Annotated[float, Quantity("energy", above=0.0)] = Field(
        default=1e-3, description="expected error of the energy per atom"
    )
    forces: Annotated[float, Quantity("force", above=0.0)] = Field(
        default=50e-3, description="expected error of a component of a force"
    )
    stress: Annotated[float, Quantity("pressure", above=0.0)] = Field(
        default=1000.0, description="expected error of a component of the stress"
    )
    groups: dict[str, Factors] = Field(
        default_factory=dict,
        examples=[{"Elastic": 0.5, "Liquid": {"energy": 0.2, "forces": 2.0}}],
        description="factors on the sigmas by group of structures, or { energy, forces, stress }: smaller counts more",
    )
