"""The potential of an input file: a file, or a kind with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, model_serializer, model_validator

from mlmd import models
from mlmd.config.quantities import Symbols, input_path, refuse, shorten
from mlmd.config.table import NONEMPTY, Table, named


def _file_or_shipped(value: object, info: ValidationInfo) -> Path:
    """The file of a path, or of a potential that comes with mlmd where the user has no file of this name."""
    path = input_path(value, info)
    return path if path.is_file() else models.find(str(value)) or path


PotentialPath = Annotated[Path, BeforeValidator(_file_or_shipped), PlainSerializer(str)]


def file_or_kind(text: str) -> dict[str, str]:
    """What a command's argument means as a table: a file, the name of a potential that comes with mlmd, or a kind."""
    path = Path(text)
    is_file = path.exists() or path.suffix != "" or len(path.parts) > 1 or models.find(text) is not None
    return {"path": text} if is_file else {"kind": text}


class PotentialTable(Table):
    """A potential: a file, or a kind with its parameters."""

    kind: str | None = Field(
        default=None,
        examples=["mtp"],
        description="kind of potential; recognised from the file when left out",
    )
    path: PotentialPath | None = Field(
        default=None,
        examples=["fitted.mtp"],
        description="file of the potential, relative to this file, or the name of one that comes with mlmd",
    )
    elements: Symbols | None = Field(
        default=None,
        min_length=1,
        description="chemical symbols in the order of the file, for formats that have none (.mtp)",
    )
    precision: Literal["float64", "float32"] = Field(default="float64", description="numbers the model computes with")
    options: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the kind, written directly in the table"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any, info: ValidationInfo) -> Any:
        """Keys that are not fields are parameters of the kind; those that name files count from the input too."""
        if not isinstance(data, Mapping):
            raise refuse(f"{shorten(data)} is not a potential: a file name or a table is needed.")
        if "trust" in data:
            raise refuse(
                "'trust' is not an option. No kind of potential executes code, so nothing needs it; remove it."
            )
        own = {key: value for key, value in data.items() if key in cls.model_fields and key != "options"}
        given = data.get("options", {})
        if not isinstance(given, Mapping):
            raise refuse("options: a table is needed.")
        options = dict(given) | {key: data[key] for key in data.keys() - cls.model_fields.keys()}
        if isinstance(options.get("parameters"), str):
            options["parameters"] = str(input_path(options["parameters"], info))
        return own | {"options": options}

    @model_validator(mode="after")
    def _says_which(self) -> PotentialTable:
        """A file or a kind must be named."""
        if self.path is None and self.kind is None:
            raise refuse('a potential needs path = "file" or kind = "lennard-jones".')
        return self

    @model_serializer(mode="wrap")
    def _spread_options(self, handler: Any) -> dict[str, Any]:
        """Parameters stand beside the other keys, as a user writes them."""
        table: dict[str, Any] = handler(self)
        return {key: table[key] for key in table if key != "options"} | table["options"]


def _as_list(value: object) -> object:
    """One potential is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


Potentials = Annotated[
    tuple[Annotated[PotentialTable, named("path")], ...],
    NONEMPTY,
    BeforeValidator(_as_list),
    Field(strict=False),
]
