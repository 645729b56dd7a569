"""One statement of a plumed.dat, taken apart as PLUMED does it.

PLUMED ignores the case of actions and keywords, takes braces out of words wherever they stand, and keeps spaces
inside them. What mlmd looks for has to be found in the same way, or it is not found at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlmd.errors import InputError

_EXPRESSIONS = {"FUNC", "LABEL", "ARG", "VAR", "SWITCH", "ATOMS", "GROUP", "UNITS", "PERIODIC"}
"""Keywords whose values are formulas, labels or atoms, never files."""
_REPLICAS = re.compile("@replicas:", re.IGNORECASE)
_AROUND = str.maketrans("", "", "{}()\"' \t")


@dataclass(frozen=True)
class Statement:
    """One action of a script, continuation lines joined."""

    path: Path
    """The file where it stands."""
    line: int
    """Line of the file where it begins, from 1."""
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.path}: line {self.line}"

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The statement's words without its label and without their outer braces."""
        words = tuple(_words(self.text))
        return words[1:] if words and words[0].endswith(":") else words

    @cached_property
    def label(self) -> str:
        """Its label; empty where it has none."""
        first = self.text.split(maxsplit=1)[0]
        return first[:-1] if first.endswith(":") else (self.values("LABEL") or [""])[0]

    @property
    def action(self) -> str:
        """The name of the action in capitals, e.g. ``METAD``."""
        return self.words[0].upper() if self.words else ""

    @property
    def keywords(self) -> list[tuple[str, str]]:
        """``KEY=value`` pairs, the keys in capitals."""
        pairs = (word.partition("=") for word in self.words[1:])
        return [(key.upper(), value) for key, equals, value in pairs if equals]

    @property
    def paths(self) -> list[tuple[str, str]]:
        """``KEY=value`` pairs whose value could name a file, one for each name of a list."""
        named = [(key, part) for key, value in self.keywords if not is_expression(key) for part in value.split(",")]
        return [(key, bare_path(part)) for key, part in named if bare_path(part)]

    def values(self, key: str) -> list[str]:
        """The names of a list ``KEY=a,b``; empty without the keyword."""
        return [part.strip() for found, value in self.keywords if found == key for part in value.split(",")]


def is_expression(key: str) -> bool:
    """Whether a keyword, numbered or not, holds formulas, labels or atoms."""
    return key.rstrip("0123456789") in _EXPRESSIONS


def bare_path(value: str) -> str:
    """A file name as PLUMED opens it: without braces and the prefix for replicas, and as short as it can be written."""
    name = _REPLICAS.sub("", value.translate(_AROUND))
    return os.path.normpath(name) if name else ""


def split_statements(path: Path, text: str) -> Iterator[Statement]:
    """Join ``LABEL: ACTION ... / ... / ... ACTION`` blocks; leave out comments and what follows ENDPLUMED.

    Raises:
        InputError: when a multi-line statement does not end.
    """
    begun, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.split("#", 1)[0].split()
        if not parts:
            if words and words[0].upper() == "ENDPLUMED":
                return
            if words and words[-1] == "...":
                begun, parts = number, words[:-1]
            elif words:
                yield Statement(path, number, " ".join(words))
        elif words and words[0] == "...":
            yield Statement(path, begun, " ".join(parts))
            parts = []
        else:
            parts += words
    if parts:
        raise InputError(f"{path}: line {begun}: the statement that ends in '...' is never closed by a line '...'.")


def _words(text: str) -> Iterator[str]:
    """Split at spaces outside braces, and leave the outer braces out."""
    depth, word = 0, ""
    for character in text:
        if character.isspace() and not depth:
            if word:
                yield word
            word = ""
            continue
        inside = depth > 0
        depth += (character == "{") - (character == "}")
        outer = (character == "{" and not inside) or (character == "}" and depth <= 0)
        word += "" if outer else character
        depth = max(depth, 0)
    if word:
        yield word
