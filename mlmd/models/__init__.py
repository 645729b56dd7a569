"""The potentials that come with mlmd: files ``<name>.mlmd`` beside this one, called by their names.

Each file carries a card: elements, cutoff, errors on its test set, where the data come from, licence.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from mlmd.errors import InputError
from mlmd.models.others import written_as

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Names of the potentials that come with mlmd, in alphabetical order."""
    return tuple(sorted((file.stem for file in FOLDER.glob("*.mlmd")), key=str.lower))


def path(name: str) -> Path:
    """The file of a potential, whatever the case of its name.

    Raises:
        InputError: when none has this name.
    """
    file = find(name)
    if file is None:
        raise InputError(f"no potential named {name!r} comes with mlmd. {hint(name)}".rstrip())
    return file


def find(name: str) -> Path | None:
    """The file of a potential when one has this name, whatever its case; names have no suffix and no folder."""
    for known in names():
        if known.lower() == name.lower():
            return FOLDER / f"{known}.mlmd"
    return None


def hint(name: str) -> str:
    """Which names there are, and which of them may have been meant; empty when no potential comes with mlmd.

    Of what other programs bring, how it is written.
    """
    if told := written_as(name):
        return told
    known = {one.lower(): one for one in names()}
    if not known:
        return ""
    close = get_close_matches(name.lower(), known, n=1)
    meant = f"Did you mean {known[close[0]]!r}? " if close else ""
    return f"{meant}Potentials that come with mlmd: {', '.join(known.values())}."
