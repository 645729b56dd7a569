"""What three-body potentials share: pairs of neighbours of the same atom, and files of parameters by triplet.

Files are LAMMPS': entries of three elements and some numbers, over one or more lines, with comments after ``#``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd.errors import InputError, ModelError

_SYMBOL = re.compile(r"[A-Za-z]\S*")
_ROUNDING = 1e-3
"""Relative difference of parameters that must be equal; published files differ in the fourth digit."""


def with_each_other(centre: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs (j, k) of different pairs with the same centre.

    Args:
        centre: (n_pairs,) atoms, ascending.

    Returns:
        Two tensors of places in `centre`, (n_triplets,).
    """
    counts = torch.bincount(centre)
    begin = torch.cumsum(counts, 0) - counts
    repeats = counts.index_select(0, centre)
    first = torch.repeat_interleave(torch.arange(centre.shape[0], device=centre.device), repeats)
    before = torch.cumsum(repeats, 0) - repeats
    rank = torch.arange(first.shape[0], device=centre.device) - before.index_select(0, first)
    second = begin.index_select(0, centre).index_select(0, first) + rank
    different = first != second
    return first[different], second[different]


def read_entries(path: Path | str, names: Sequence[str], kind: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Elements of a file in the order in which they first stand as centres, and parameters of all triplets.

    Args:
        path: the file.
        names: of the numbers of an entry.
        kind: of the potential, for messages.

    Returns:
        Elements, and (n_elements, n_elements, n_elements, n_names).

    Raises:
        InputError: when the file does not exist.
        ModelError: when it is damaged or of another kind, with the line.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    found: dict[tuple[str, ...], np.ndarray] = {}
    for line, words in _entries(path, lines, names, kind):
        symbols = tuple(words[:3])
        for symbol in symbols:
            if atomic_numbers.get(symbol, 0) == 0:
                raise ModelError(
                    f"{path}: line {line}: {symbol!r} is not an element. Write its symbol in a copy of the file."
                )
        if symbols in found:
            raise ModelError(f"{path}: line {line}: a second entry for {' '.join(symbols)}.")
        found[symbols] = _numbers(f"{path}: line {line}:", words[3:], names)
    elements = tuple(dict.fromkeys(symbols[0] for symbols in found))
    if not elements:
        raise ModelError(f"{path}: no entry of three elements and {len(names)} numbers: not a file of {kind}.")
    missing = [" ".join(one) for one in itertools.product(elements, repeat=3) if one not in found]
    if missing or len(found) != len(elements) ** 3:
        missing = missing or [" ".join(one) for one in found if not set(one) <= set(elements)]
        raise ModelError(
            f"{path}: the elements {', '.join(elements)} need {len(elements) ** 3} entries; "
            f"{'missing' if len(found) < len(elements) ** 3 else 'too many'}: {', '.join(missing[:8])}. "
            "Keep the entries of one set of elements in a copy of the file."
        )
    values = [found[one] for one in itertools.product(elements, repeat=3)]
    return elements, np.array(values).reshape(*[len(elements)] * 3, len(names))


def mean_of_equals(one: np.ndarray, other: np.ndarray, elements: Sequence[str], what: str) -> np.ndarray:
    """The mean of numbers that the order of two atoms must not change.

    Args:
        one, other: (n_elements, n_elements, ...) the number for a triplet or pair, and with two atoms exchanged.
        elements: symbols.
        what: for the message.

    Raises:
        ModelError: where they differ by more than the rounding of published files.
    """
    wrong = np.argwhere(np.abs(one - other) > _ROUNDING * np.maximum(np.abs(one), np.abs(other)))
    if len(wrong):
        atoms = " ".join(elements[index] for index in wrong[0])
        raise ModelError(f"{what} of {atoms} is not that of the same atoms in another order: undefined.")
    return 0.5 * (one + other)


def _entries(path: Path, lines: Sequence[str], names: Sequence[str], kind: str) -> Iterator[tuple[int, list[str]]]:
    """Line and words of each entry."""
    words: list[str] = []
    begin, needed = 1, 3 + len(names)
    for number, line in enumerate(lines, start=1):
        new = line.split("#")[0].split()
        if new and not words:
            begin = number
        words += new
        if len(words) > needed or (len(words) == needed and not all(map(_SYMBOL.fullmatch, words[:3]))):
            break
        if len(words) == needed:
            yield begin, words
            words = []
    if words:
        raise ModelError(
            f"{path}: line {begin}: an entry of {kind} is three elements and {len(names)} numbers "
            f"({', '.join(names)}); this one has {len(words)} words: damaged, or another kind of potential."
        )


def _numbers(where: str, words: Sequence[str], names: Sequence[str]) -> np.ndarray:
    values = np.full(len(names), np.nan)
    for index, (word, name) in enumerate(zip(words, names, strict=True)):
        try:
            values[index] = float(word)
        except ValueError:
            raise ModelError(f"{where} {name} = {word[:20]!r} is not a number.") from None
        if not np.isfinite(values[index]):
            raise ModelError(f"{where} {name} = {word!r} is not finite.")
    return values
