"""What a plumed.dat from somebody else must not do: execute code, or touch files outside the run folder.

The search is wider than PLUMED's grammar: a word that PLUMED would not take for an action is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlmd.bias.statement import Statement, bare_path, is_expression
from mlmd.errors import InputError

EXECUTES = {
    "LOAD",
    "METATENSOR",
    "METATOMIC",
    "PLUMED",
    "PYCVINTERFACE",
    "PYFUNCTION",
    "PYTORCH_MODEL",
    "PYTORCH_MODEL_CV",
}
"""Actions that run code from a file; PLUMED reads another script unseen."""

_SELECTOR = re.compile(r"@(mdt|mda|vmd|vmdexec|python):", re.IGNORECASE)
"""Selections of atoms that PLUMED has made by another program."""
_KEYWORD = re.compile(r"(\w+)=([^\s=]*)")
_WAY_OUT = "Set plumed = { file = ..., allow_unsafe = true } if you trust this file."


def refuse_unsafe(statements: Iterable[Statement]) -> None:
    """Refuse what could execute code or reach outside the run folder.

    Raises:
        InputError: naming the line and what stands there.
    """
    for statement in statements:
        _refuse_code(statement)
        for key, value in _all_keywords(statement):
            for part in value.split(","):
                if _leaves(part):
                    raise InputError(
                        f"{statement.place}: {key}={part} leaves the run folder. Name files without a folder "
                        f"(files beside {statement.path.name} are copied into the run folder). {_WAY_OUT}"
                    )


def _refuse_code(statement: Statement) -> None:
    # braces vanish inside words too, and a label may be glued to what follows it
    words = statement.text.replace("{", "").replace("}", "").split()
    if words and re.fullmatch(r"[^:]+:", words[0]):
        words = words[1:]
    for piece in (piece for word in words for piece in re.split(r"[:()\"']", word)):
        if piece.upper() in EXECUTES:
            raise InputError(f"{statement.place}: {piece.upper()} executes code from a file. {_WAY_OUT}")
    selector = _SELECTOR.search("".join(words))
    if selector:
        raise InputError(f"{statement.place}: the selection {selector[0].lower()} starts another program. {_WAY_OUT}")
    if any(key == "PYTHON_BIN" for key, _ in _all_keywords(statement)):
        raise InputError(f"{statement.place}: PYTHON_BIN names a program that PLUMED starts. {_WAY_OUT}")


def _all_keywords(statement: Statement) -> Iterator[tuple[str, str]]:
    """Keywords as PLUMED splits the statement, and those inside the braces of a value."""
    together, apart = (re.sub(r"[{}]", by, statement.text) for by in ("", " "))
    nested = [*_KEYWORD.findall(together), *_KEYWORD.findall(apart)]
    for key, value in (*statement.keywords, *((key.upper(), value) for key, value in nested)):
        if not is_expression(key):
            yield key, value


def _leaves(part: str) -> bool:
    name = bare_path(part)
    return name.startswith(("/", "~")) or ".." in Path(name).parts
