"""Inputs written as TOML (https://toml.io/en/v1.0.0), which Python itself only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def document(tables: Mapping[str, Any]) -> str:
    """A file: tables, also those of lists, under headings of their own after what is no table; the rest inline."""
    apart = [f"[{_key(key)}]\n{_lines(table)}" for key, table in tables.items() if isinstance(table, Mapping)]
    listed = {key: value for key, value in tables.items() if _are_tables(value)}
    apart = [f"[[{_key(key)}]]\n{_lines(one)}" for key, value in listed.items() for one in value] + apart
    top = {key: value for key, value in tables.items() if not isinstance(value, Mapping) and key not in listed}
    return "\n".join([_lines(top), *apart]) if top else "\n".join(apart)


def inline(value: Any) -> str:
    """A value on one line: of tables, lists, text, numbers and truth values."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(inline(item) for item in value)}]"
    if isinstance(value, str):  # text of JSON is text of TOML, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {inline(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else inline(key)
