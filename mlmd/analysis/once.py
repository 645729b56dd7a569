"""Runs that are put together count as independent: none may be there twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlmd.errors import InputError


def check_each_once(places: Sequence[Path], names: Sequence[object] | None = None, how: str = "") -> None:
    """Refuse a run that would count as another one beside itself, and make errors smaller.

    Args:
        places: what tells a run from others, whatever it was called.
        names: of the same runs in the message; by default their places.
        how: it may have been given twice, in words that begin with a comma.

    Raises:
        InputError: where a place is there twice.
    """
    seen: set[Path] = set()
    for place, name in zip(places, names or places, strict=True):
        if place.resolve() in seen:
            raise InputError(f"{name} is given twice{how}, and is no run independent of itself. Give it once.")
        seen.add(place.resolve())
