"""Tables of embedded-atom potentials: the files ``setfl`` (eam/alloy, eam/fs) and ``funcfl`` of DYNAMO and LAMMPS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlmd.descriptors.species import check_symbols
from mlmd.errors import InputError, ModelError

_HARTREE_BOHR = 27.2 * 0.529
"""eV Å, as DYNAMO and LAMMPS round it: charges of a funcfl file were fitted with it."""
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_FEWEST = 5  # points: the slope of a knot is taken from two on either side


@dataclass(frozen=True)
class Tables:
    """F(ρ), ρ(r) and r φ(r) at equal distances from zero."""

    elements: tuple[str, ...]
    cutoff: float
    """Å."""
    d_rho: float
    """Between the points of F, in the unit of ρ."""
    d_r: float
    """Å, between the points of ρ and r φ."""
    embedding: np.ndarray
    """(n_elements, n_rho) eV."""
    density: np.ndarray
    """(n_elements, n_receivers, n_r) what an atom of the first element gives to one of the second; n_receivers is 1
    where all receive the same (Daw and Baskes), n_elements where they do not (Finnis and Sinclair)."""
    pair: np.ndarray
    """(n_elements, n_elements, n_r) r φ(r) in eV Å, symmetric."""


def read(path: Path | str) -> Tables:
    """Tables of a setfl or funcfl file; its first lines and the count of its numbers say which it is.

    Raises:
        InputError: when the file does not exist.
        ModelError: when it is damaged or of another kind, with the line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    lines = text.splitlines()
    if _begins_setfl(lines):
        return _setfl(path, lines)
    if _begins_funcfl(lines):
        return _funcfl(path, lines)
    raise ModelError(
        f"{path}: not an EAM file: line 4 of a setfl file is a number of elements and their symbols, line 5 is "
        "n_rho d_rho n_r d_r cutoff; lines 2 and 3 of a funcfl file are an atom, and the same five numbers."
    )


def is_eam(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a setfl or funcfl file."""
    lines = start.decode("utf-8", errors="replace").splitlines()
    return _begins_setfl(lines) or _begins_funcfl(lines)


def _begins_setfl(lines: Sequence[str]) -> bool:
    """Three lines of comment, ``n symbol ...``, five numbers."""
    words = lines[3].split() if len(lines) > 4 else []
    symbols = bool(words) and all(_SYMBOL.fullmatch(word) for word in words[1:])
    return symbols and words[0] == str(len(words) - 1) and _is_grid(lines[4])


def _begins_funcfl(lines: Sequence[str]) -> bool:
    """One line of comment, an atom, five numbers."""
    atom = lines[1].split() if len(lines) > 2 else []
    return len(atom) >= 3 and atom[0].isdecimal() and _is_grid(lines[2])


def _is_grid(line: str) -> bool:
    words = line.split()
    return len(words) == 5 and words[0].isdecimal() and words[2].isdecimal()


class _Numbers:
    """The words that follow the first lines of a file, each with the line it stands on."""

    def __init__(self, path: Path, lines: Sequence[str], n_skipped: int) -> None:
        split = [line.split() for line in lines[n_skipped:]]
        self.path, self.place = path, 0
        self.words = [word for words in split for word in words]
        self.lines = np.repeat(np.arange(n_skipped + 1, len(lines) + 1), [len(words) for words in split])

    def error(self, place: int, message: str) -> ModelError:
        """A refusal that names file and line."""
        return ModelError(f"{self.path}: line {self.lines[place] if len(self.lines) else 1}: {message}")

    def skip(self, count: int) -> None:
        """Pass over words."""
        self.place += count

    def take(self, count: int, name: str) -> np.ndarray:
        """(count,) finite numbers."""
        words = self.words[self.place : self.place + count]
        values = np.empty(len(words))
        for index, word in enumerate(words):
            try:
                values[index] = float(word)
            except ValueError:
                values[index] = np.nan
            if not np.isfinite(values[index]):
                raise self.error(self.place + index, f"{word[:20]!r} in {name} is not a finite number.")
        self.place += count
        return values


@dataclass(frozen=True)
class _Grid:
    n_rho: int
    d_rho: float
    n_r: int
    d_r: float
    cutoff: float


def _grid(path: Path, line: str, number: int) -> _Grid:
    """``n_rho d_rho n_r d_r cutoff``."""
    where, words = f"{path}: line {number}:", line.split()
    try:
        grid = _Grid(int(words[0]), float(words[1]), int(words[2]), float(words[3]), float(words[4]))
    except ValueError:
        raise ModelError(f"{where} {line.strip()[:60]!r} is not n_rho d_rho n_r d_r cutoff.") from None
    if not all(np.isfinite(value) and value > 0 for value in (grid.d_rho, grid.d_r, grid.cutoff)):
        raise ModelError(f"{where} d_rho, d_r and cutoff must be positive.")
    if not _FEWEST <= min(grid.n_rho, grid.n_r) <= max(grid.n_rho, grid.n_r) <= 10**7:
        raise ModelError(f"{where} n_rho = {grid.n_rho} and n_r = {grid.n_r} must be from {_FEWEST} to 10⁷.")
    return grid


def _setfl(path: Path, lines: Sequence[str]) -> Tables:
    """For each element an atom, F and ρ (one, or one for each receiver); then r φ of every pair, i ≥ j."""
    symbols = _symbols(path, lines[3].split()[1:], 4)
    n, grid = len(symbols), _grid(path, lines[4], 5)
    numbers = _Numbers(path, lines, 5)
    n_receivers = _receivers(numbers, n, grid)
    embedding, density = np.empty((n, grid.n_rho)), np.empty((n, n_receivers, grid.n_r))
    for one, symbol in enumerate(symbols):
        numbers.skip(4)  # atomic number, mass, lattice constant, lattice
        embedding[one] = numbers.take(grid.n_rho, f"F of {symbol}")
        for receiver in range(n_receivers):
            density[one, receiver] = numbers.take(grid.n_r, f"ρ of {symbol}")
    pair = np.empty((n, n, grid.n_r))
    for i in range(n):
        for j in range(i + 1):
            pair[i, j] = pair[j, i] = numbers.take(grid.n_r, f"r φ of {symbols[i]}-{symbols[j]}")
    return Tables(symbols, grid.cutoff, grid.d_rho, grid.d_r, embedding, density, pair)


def _receivers(numbers: _Numbers, n: int, grid: _Grid) -> int:
    """How many densities an element has: that which the count of numbers in the file fits."""
    pairs = n * (n + 1) // 2
    alloy, fs = (n * (4 + grid.n_rho + receivers * grid.n_r) + pairs * grid.n_r for receivers in (1, n))
    found = len(numbers.words)
    if found not in (alloy, fs):
        kinds = f"{alloy} are needed" + (f" for eam/alloy, {fs} for eam/fs" if n > 1 else "")
        raise numbers.error(
            -1, f"the tables have {found} entries, {kinds}: the file is truncated, or of another kind (adp, eam/he)."
        )
    return 1 if found == alloy else n


def _funcfl(path: Path, lines: Sequence[str]) -> Tables:
    """F, effective charge Z(r) and ρ of one element; r φ = Z² in hartree bohr."""
    number = int(lines[1].split()[0])
    if not 0 < number < len(chemical_symbols):
        raise ModelError(f"{path}: line 2: {number} is not an atomic number.")
    grid = _grid(path, lines[2], 3)
    numbers = _Numbers(path, lines, 3)
    needed = grid.n_rho + 2 * grid.n_r
    if len(numbers.words) != needed:
        raise numbers.error(-1, f"the tables have {len(numbers.words)} entries, {needed} are needed: truncated?")
    embedding = numbers.take(grid.n_rho, "F")
    charge, density = numbers.take(grid.n_r, "Z"), numbers.take(grid.n_r, "ρ")
    pair = _HARTREE_BOHR * charge**2
    # LAMMPS leaves the last point of such files out
    return Tables(
        elements=(chemical_symbols[number],),
        cutoff=grid.cutoff,
        d_rho=grid.d_rho,
        d_r=grid.d_r,
        embedding=embedding[None, :-1],
        density=density[None, None, :-1],
        pair=pair[None, None, :-1],
    )


def _symbols(path: Path, words: Sequence[str], line: int) -> tuple[str, ...]:
    try:
        return check_symbols(words)
    except InputError as error:
        raise ModelError(f"{path}: line {line}: {error}") from None
