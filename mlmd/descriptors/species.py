"""Which of the elements of a model an atom is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from mlmd.errors import InputError, did_you_mean

_N_NUMBERS = len(chemical_symbols)


def check_symbols(elements: Sequence[str]) -> tuple[str, ...]:
    """The elements as a tuple of chemical symbols.

    Raises:
        InputError: for a word that is no element, or one given twice.
    """
    symbols = tuple(elements)
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) == 0:
            raise InputError(f"{symbol!r} is not a chemical element. {did_you_mean(symbol, chemical_symbols[1:])}")
        if symbols.count(symbol) > 1:
            raise InputError(f"element {symbol} is given twice in {', '.join(symbols)}.")
    return symbols


def species_table(elements: Sequence[str]) -> Tensor:
    """(n_numbers,) int64: index of each atomic number in `elements`, -1 for others; all 0 for no elements."""
    if not elements:
        return torch.zeros(_N_NUMBERS, dtype=torch.int64)
    table = torch.full((_N_NUMBERS,), -1, dtype=torch.int64)
    for index, symbol in enumerate(elements):
        table[atomic_numbers[symbol]] = index
    return table


def species(numbers: Tensor, table: Tensor) -> Tensor:
    """(n_atoms,) index of each atom's element.

    Args:
        numbers: (n_atoms,) atomic numbers.
        table: see `species_table`.

    Raises:
        InputError: when an atom is of an element that is not in the table.
    """
    found = table.index_select(0, numbers)
    if not torch.jit.is_tracing() and bool((found < 0).any()):
        missing = sorted({chemical_symbols[int(number)] for number in numbers[found < 0]})
        known = [chemical_symbols[int(number)] for number in torch.nonzero(table >= 0)]
        raise InputError(f"the model knows {', '.join(known)}; the structure also has {', '.join(missing)}.")
    return found
