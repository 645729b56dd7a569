"""Names to classes and functions, found only when asked for.

A registry is a dictionary of strings ``"module:attribute"``; installed packages add to it through an entry-point
group of the same name (``mlmd.potentials``, ``mlmd.descriptors``, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from mlmd.errors import InputError, did_you_mean

Value = TypeVar("Value")


def below(prefix: str, state: Mapping[str, Value]) -> dict[str, Value]:
    """The entries of a part, whose names begin with a prefix such as ``"members.0."``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def find(group: str, name: str, known: dict[str, str]) -> Any:
    """The object registered as `name`.

    Args:
        group: what is looked for, also the entry-point group, e.g. ``"mlmd.potentials"``.
        name: the word a user wrote.
        known: mlmd's own entries, ``{"name": "module:attribute"}``.

    Raises:
        InputError: when nothing has this name.
    """
    targets = {point.name: point.value for point in entry_points(group=group)} | known
    if name not in targets:
        kind = group.rpartition(".")[2].removesuffix("s")
        raise InputError(f"{name!r} is not a known {kind}. {did_you_mean(name, targets)}")
    module, _, attribute = targets[name].partition(":")
    return getattr(import_module(module), attribute)
