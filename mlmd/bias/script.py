"""A plumed.dat read before PLUMED sees it: what it would execute, and which files it touches.

PLUMED can load shared objects, import Python and write anywhere; a file from somebody else must not, unless the
person who runs it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlmd.errors import InputError

EXECUTES = ("LOAD", "PYCVINTERFACE", "PYFUNCTION", "PYTORCH_MODEL", "PYTORCH_MODEL_CV")
"""Actions that run code from a file."""

HISTORIES = {
    "METAD": ("HILLS",),
    "PBMETAD": (),
    "OPES_METAD": ("KERNELS",),
    "OPES_METAD_EXPLORE": ("KERNELS",),
    "OPES_EXPANDED": ("DELTAFS",),
}
"""Actions with a memory, and the files that keep it although the script may not name them."""

_EXPRESSIONS = ("FUNC", "LABEL", "ARG", "SWITCH", "ATOMS", "GROUP", "UNITS", "PERIODIC")
_KEYWORD = re.compile(r"([A-Z][A-Z0-9_]*)=(\{[^}]*\}|\S+)")


@dataclass(frozen=True)
class Statement:
    """One action of the script, continuation lines joined."""

    line: int
    """Line of the file where it begins, from 1."""
    text: str

    @property
    def words(self) -> list[str]:
        """The statement's words, its label left out."""
        words = self.text.split()
        return words[1:] if words and words[0].endswith(":") else words

    @property
    def action(self) -> str:
        """The name of the action, e.g. ``METAD``."""
        return self.words[0] if self.words else ""

    @property
    def writes(self) -> bool:
        """Whether its ``FILE`` is written, so that a file of this name that exists already is somebody else's."""
        return self.action in HISTORIES or self.action == "PRINT" or self.action.startswith("DUMP")

    @property
    def keywords(self) -> list[tuple[str, str]]:
        """``KEY=value`` pairs, braces removed."""
        return [(key, value.strip("{}")) for key, value in _KEYWORD.findall(self.text)]


@dataclass(frozen=True)
class Script:
    """The statements of a plumed.dat and the files it reads."""

    path: Path
    statements: tuple[Statement, ...]
    text: str

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Files beside the script that it names to read and that exist: they travel into the run folder.

        Outputs of an earlier run are among them when the script says RESTART.
        """
        goes_on = any(statement.words[:2] in (["RESTART"], ["RESTART", "YES"]) for statement in self.statements)
        named = (part for s, key, part in self._paths() if goes_on or not (key == "FILE" and s.writes))
        return tuple(dict.fromkeys(part for part in named if (self.path.parent / part).is_file()))

    @cached_property
    def prints(self) -> tuple[str, ...]:
        """Files that PLUMED adds lines to and never reads again (COLVAR)."""
        named = [part for s, key, part in self._paths() if key == "FILE" and (s.writes or part not in self.reads)]
        return tuple(name for name in dict.fromkeys(named) if name not in self.histories)

    @cached_property
    def histories(self) -> tuple[str, ...]:
        """Files that PLUMED adds lines to and reads when a bias continues (HILLS, KERNELS)."""
        return tuple(dict.fromkeys(name for statement in self.statements for name in self.history_of(statement)))

    def history_of(self, statement: Statement) -> tuple[str, ...]:
        """Files that keep the memory of one action, under the names it gives and the usual ones."""
        if statement.action not in HISTORIES:
            return ()
        named = (part for s, key, part in self._paths() if s is statement and key == "FILE")
        return (*named, *HISTORIES[statement.action])

    @cached_property
    def rewrites(self) -> tuple[str, ...]:
        """Files that PLUMED writes anew each time (states, grids); a restart puts back the checkpoint's copy."""
        return tuple(dict.fromkeys(part for _, key, part in self._paths() if key.endswith("WFILE")))

    def _paths(self) -> Iterator[tuple[Statement, str, str]]:
        for statement in self.statements:
            for key, value in statement.keywords:
                if key not in _EXPRESSIONS:
                    yield from ((statement, key, part) for part in value.split(",") if part)

    def refuse_unsafe(self) -> None:
        """Refuse what could execute code or reach outside the run folder.

        Raises:
            InputError: naming the line and what stands there.
        """
        way_out = "Set plumed = { file = ..., allow_unsafe = true } if you trust this file."
        for statement in self.statements:
            # the label may be glued to the action, and LOAD must not hide behind it
            for word in re.split(r"[\s:]+", statement.text):
                if word in EXECUTES:
                    raise InputError(f"{self.path}: line {statement.line}: {word} executes code from a file. {way_out}")
        for statement, key, part in self._paths():
            if part.startswith(("/", "~")) or ".." in Path(part).parts:
                raise InputError(
                    f"{self.path}: line {statement.line}: {key}={part} leaves the run folder. Name files without "
                    f"a folder (files beside {self.path.name} are copied into the run folder). {way_out}"
                )


def read_script(path: Path, *, allow_unsafe: bool = False) -> Script:
    """Read a plumed.dat, its INCLUDEd files too.

    Raises:
        InputError: when a file cannot be read or a multi-line statement does not end, and, unless
            `allow_unsafe`, for actions that execute code and paths outside the run folder.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise InputError(f"PLUMED file {path} cannot be read: {reason}.") from None
    script = Script(path, tuple(_statements(path, text)), text)
    if not script.statements:
        raise InputError(f"PLUMED file {path} has no actions. Give at least one, or leave `plumed` out.")
    if not allow_unsafe:
        script.refuse_unsafe()
        for statement in script.statements:
            if statement.action == "INCLUDE":
                for name in (value for key, value in statement.keywords if key == "FILE"):
                    read_script(path.parent / name)
    return script


def _statements(path: Path, text: str) -> Iterator[Statement]:
    """Join ``LABEL: ACTION ... / ... / ... ACTION`` blocks; leave out comments and what follows ENDPLUMED."""
    begun, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.split("#", 1)[0].split()
        if not parts:
            if words == ["ENDPLUMED"]:
                return
            if words and words[-1] == "...":
                begun, parts = number, words[:-1]
            elif words:
                yield Statement(number, " ".join(words))
        elif words and words[0] == "...":
            yield Statement(begun, " ".join(parts))
            parts = []
        else:
            parts += words
    if parts:
        raise InputError(f"{path}: line {begun}: the statement that ends in '...' is never closed by a line '...'.")
