"""All files that the table of a potential names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlmd.config.files import files_in, files_of_potential
from mlmd.config.potential import PotentialTable

_NAMING = ("calculator", "arguments", "extensions")
"""Options of potentials in which files are named."""


def files_of_table(name: str, table: PotentialTable) -> dict[str, Path]:
    """The files of one potential, and of the members of a committee, by what they are."""
    files: dict[str, Path] = {}
    others: list[Path] = []
    if table.path is not None:
        files[name], *others = files_of_potential(table.path, table.options)
    others += files_in([table.options.get(key) for key in _NAMING])
    files |= {f"{name}: {called}": file for called, file in told_apart(others).items()}
    for number, member in enumerate(table.options.get("members", ()), 1):
        files |= files_of_table(f"{name}: member {number}", member)
    return files


def told_apart(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their names, with as many of the folders above them as tell them apart."""
    left, found = list(dict.fromkeys(files)), dict[str, Path]()
    depth = 1
    while left:
        names = {file: "/".join(file.parts[-depth:]) for file in left}
        count = Counter(names.values())
        alone = [file for file in left if count[names[file]] == 1 or len(file.parts) < depth]
        found |= {names[file]: file for file in alone}
        left, depth = [file for file in left if file not in alone], depth + 1
    return found
