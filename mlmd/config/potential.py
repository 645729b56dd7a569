"""The potential of an input file: a file, or a kind with its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, model_serializer, model_validator

from mlmd import models
from mlmd.config.quantities import Symbols, input_path, is_there, refuse, shorten
from mlmd.config.table import NONEMPTY, Table, named


def _file_or_shipped(value: object, info: ValidationInfo) -> Path:
    """The file of a path, or of a potential that comes with mlmd where the user has no file of this name."""
    path = input_path(value, info)
    return path if path.is_file() else models.find(str(value)) or path


def _digests(value: object) -> tuple[str, ...]:
    """One digest, or several."""
    given = value if isinstance(value, list | tuple) else [value]
    for one in given:
        if not isinstance(one, str) or not _DIGEST.fullmatch(one):
            raise refuse(f'{shorten(one)} is not a digest. Write "sha256:" and 64 hexadecimal digits (sha256sum FILE).')
    return tuple(str(one) for one in given)


def _rooted(value: Any, info: ValidationInfo) -> Any:
    """Texts that name a file or folder, counted from the folder of the input; others as they are.

    Without a slash or a dot a word never names a file, since it may be the name of a model. ``file.py:Class`` does.
    """
    if isinstance(value, Mapping):
        return {key: _rooted(one, info) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rooted(one, info) for one in value]
    if not isinstance(value, str) or not set("/.") & set(value) or "\0" in value:
        return value
    name, colon, attribute = value.rpartition(":") if ".py:" in value else (value, "", "")
    path = input_path(name, info)
    return f"{path}{colon}{attribute}" if colon or is_there(path) else value


def _members(value: object, info: ValidationInfo) -> tuple[PotentialTable, ...]:
    """The potentials of a committee, each a file name or a table."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise refuse('members: two potentials or more are needed, e.g. ["one.mlmd", "two.mlmd"].')
    tables = [{"path": one} if isinstance(one, str) else one for one in value]
    return tuple(
        one if isinstance(one, PotentialTable) else PotentialTable.model_validate(one, context=info.context)
        for one in tables
    )


_DIGEST = re.compile("sha256:[0-9a-f]{64}")
Trust = Annotated[
    tuple[str, ...], BeforeValidator(_digests), PlainSerializer(lambda value: value[0] if len(value) == 1 else value)
]
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
    trust: Trust = Field(
        default=(),
        examples=["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        description="digests of files that execute code when they are opened, from somebody you trust",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the kind, written directly in the table"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any, info: ValidationInfo) -> Any:
        """Keys that are not fields are parameters of the kind; those that name files count from the input too."""
        if not isinstance(data, Mapping):
            raise refuse(f"{shorten(data)} is not a potential: a file name or a table is needed.")
        own = {key: value for key, value in data.items() if key in cls.model_fields and key != "options"}
        given = data.get("options", {})
        if not isinstance(given, Mapping):
            raise refuse("options: a table is needed.")
        options = dict(given) | {key: data[key] for key in data.keys() - cls.model_fields.keys()}
        if isinstance(options.get("parameters"), str):
            options["parameters"] = str(input_path(options["parameters"], info))
        for name in ("arguments", "calculator", "extensions", "python"):
            if name in options:
                options[name] = _rooted(options[name], info)
        if "members" in options:
            options["members"] = _members(options["members"], info)
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
        own = {key: table[key] for key in table if key != "options" and (key != "trust" or table[key])}
        return own | table["options"]


def _as_list(value: object) -> object:
    """One potential is a list of one."""
    return value if isinstance(value, list | tuple) else [value]


Potentials = Annotated[
    tuple[Annotated[PotentialTable, named("path")], ...],
    NONEMPTY,
    BeforeValidator(_as_list),
    Field(strict=False),
]
