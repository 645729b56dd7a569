"""A potential on the command line as an input has it: ``'{ kind = "chgnet", python = "env/bin/python" }'``."""

from __future__ import annotations

import tomllib
from typing import Any

from mlmd.errors import InputError


def is_table(text: str) -> bool:
    """Whether a potential is written as a table of TOML, and no file, name or kind."""
    return text.lstrip().startswith("{")


def table_of(text: str) -> dict[str, Any]:
    """The table.

    Raises:
        InputError: when it is none.
    """
    try:
        return dict(tomllib.loads(f"potential = {text}")["potential"])
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{text} is no table of TOML ({error}). Write for example '{{ kind = \"chgnet\" }}'."
        ) from None


def name_and_options(text: str) -> tuple[str, dict[str, Any]]:
    """The file or the kind of a potential, and its options: of a table what it says, else `text` and none.

    Raises:
        InputError: for a table without both.
    """
    if not is_table(text):
        return text, {}
    table = table_of(text)
    for key in ("path", "kind"):
        if isinstance(table.get(key), str):
            return table.pop(key), table
    raise InputError(f'{text}: a potential needs path = "FILE" or kind = "KIND".')
