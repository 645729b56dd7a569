"""What every table of an input file has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from mlmd.config.quantities import refuse


class Table(BaseModel):
    """A table of an input file: unknown keys and wrong types are errors, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    refused: ClassVar[dict[str, str]] = {}
    """Keys that people write here by mistake, with what to do instead."""


class KindTable(Table):
    """A table of which there are several kinds, each with options of its own."""

    kind: str


def named(key: str) -> BeforeValidator:
    """A bare string stands for a table with only this key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def of_kind(default: str) -> BeforeValidator:
    """A bare string is a kind with its defaults, and a table that names no kind is of the default one."""

    def with_kind(value: object) -> object:
        if isinstance(value, str):
            return {"kind": value}
        return {"kind": default, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(with_kind)


def _nonempty(value: object) -> object:
    """A list with something in it (pydantic's own check counts only the entries without errors)."""
    if isinstance(value, list | tuple) and not value:
        raise refuse("the list is empty; at least one entry is needed.")
    return value


NONEMPTY = BeforeValidator(_nonempty)
