"""The files of a SNAP of LAMMPS: `.snapcoeff` and `.snapparam`, read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import mlmd
from mlmd.descriptors.bispectrum import Expansion
from mlmd.errors import InputError, ModelError, did_you_mean

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_BEGINNING = (r"\d+ \d+", rf"[A-Z][a-z]? {_NUMBER} {_NUMBER}", _NUMBER)
"""Number of elements and of coefficients; symbol, radius and weight; the first coefficient."""


@dataclass(frozen=True)
class Settings:
    """What a `.snapparam` file says."""

    expansion: Expansion
    quadratic: bool
    """Whether there are coefficients of products of two components."""


@dataclass(frozen=True)
class Element:
    """What a `.snapcoeff` file says of one element."""

    symbol: str
    radius: float
    """Å."""
    weight: float
    coefficients: list[float]
    """eV."""
    line: int = 0
    """Where it begins in its file."""


def is_snap(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a `.snapcoeff` file."""
    rows = [" ".join(words) for _, words in _rows(start.decode("utf-8", errors="replace"))][: len(_BEGINNING)]
    return len(rows) == 3 and all(re.fullmatch(shape, row) for shape, row in zip(_BEGINNING, rows, strict=True))


def read_coefficients(path: Path) -> list[Element]:
    """The elements of a `.snapcoeff` file with their coefficients.

    Raises:
        InputError: when there is no such file.
        ModelError: when it is damaged, with the line.
    """
    rows = _rows(_text(path))
    line, header = next(rows, (1, []))
    if len(header) != 2 or not all(re.fullmatch(r"[1-9][0-9]{0,8}", word) for word in header):
        raise _refusal(path, line, f"{' '.join(header)[:40]!r} is not a number of elements and one of coefficients.")
    n_elements, n_coefficients = map(int, header)
    found = []
    for _ in range(n_elements):
        line, words = next(rows, (line, []))
        if len(words) != 3 or not re.fullmatch(r"[A-Z][a-z]?", words[0]):
            message = f"{' '.join(words)[:40]!r} is not an element with radius and weight; {n_elements} are needed."
            raise _refusal(path, line, message)
        own, (radius, weight) = line, (_number(path, line, word) for word in words[1:])
        coefficients: list[float] = []
        while len(coefficients) < n_coefficients:
            line, one = next(rows, (line, []))
            if len(one) != 1:
                n_read = f"{len(coefficients)} of {n_coefficients} coefficients of {words[0]}"
                raise _refusal(path, line, f"{' '.join(one)[:40]!r} after {n_read}: truncated or damaged.")
            coefficients.append(_number(path, line, one[0]))
        found.append(Element(words[0], radius, weight, coefficients, line=own))
    if (extra := next(rows, None)) is not None:
        raise _refusal(path, extra[0], f"{' '.join(extra[1])[:40]!r} after the last coefficient.")
    return found


def read_parameters(path: Path) -> Settings:
    """The settings in a `.snapparam` file.

    Raises:
        InputError: when there is no such file.
        ModelError: for what is unknown, missing or impossible, with the line.
    """
    given: dict[str, object] = {}
    for line, (key, *words) in _rows(_text(path)):
        if key not in _KEYS:
            raise _refusal(path, line, f"{key[:40]!r} is not a parameter of SNAP. {did_you_mean(key, _KEYS)}")
        if key in given:
            raise _refusal(path, line, f"{key} is given twice.")
        if not words or (len(words) > 1 and key not in _BY_ELEMENT):
            raise _refusal(path, line, f"{key} needs one value, {len(words)} were given.")
        try:
            given[key] = _KEYS[key](words)
        except ValueError:
            raise _refusal(path, line, f"{key} = {' '.join(words)[:40]!r} is not possible.") from None
    missing = [name for name in ("rcutfac", "twojmax") if name not in given]
    if missing:
        raise ModelError(f"{path}: {' and '.join(missing)} must be given.")
    if given.pop("switchinnerflag", False) != any(name in given for name in _BY_ELEMENT):
        raise ModelError(f"{path}: switchinnerflag 1 needs sinner and dinner, and they need it.")
    quadratic = bool(given.pop("quadraticflag", False))
    settings = {name: value for name, value in given.items() if name not in _WITHOUT_EFFECT}
    return Settings(Expansion(**settings), quadratic)  # type: ignore[arg-type]


def write_coefficients(path: Path, elements: Sequence[Element]) -> None:
    """A `.snapcoeff` file; numbers have the digits that give them back to the last bit."""
    heading = _heading("symbol, radius and weight, then the coefficients of each element")
    lines = [heading, f"{len(elements)} {len(elements[0].coefficients)}"]
    for one in elements:
        lines += [f"{one.symbol} {one.radius!r} {one.weight!r}", *map(repr, one.coefficients)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_parameters(path: Path, settings: Settings) -> None:
    """A `.snapparam` file that says everything, also what is LAMMPS' default today."""
    given = asdict(settings.expansion) | {"quadraticflag": settings.quadratic}
    inner = {name: given.pop(name) for name in _BY_ELEMENT}
    given["switchinnerflag"] = bool(settings.expansion.sinner)
    lines = [_heading("settings of the bispectrum")]
    lines += [f"{name} {int(value) if isinstance(value, int) else repr(float(value))}" for name, value in given.items()]
    lines += [f"{name} {' '.join(map(repr, values))}" for name, values in inner.items() if values]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _heading(content: str) -> str:
    """The first line, in which LAMMPS looks for the word after UNITS: and refuses a run in others."""
    return f"# SNAP written by mlmd {mlmd.__version__}: {content}. UNITS: metal"


def _flag(words: list[str]) -> bool:
    return bool(("0", "1").index(words[0]))


def _integer(words: list[str]) -> int:
    return int(words[0])


def _real(words: list[str]) -> float:
    return _finite(words[0])


def _reals(words: list[str]) -> tuple[float, ...]:
    return tuple(map(_finite, words))


def _only(value: str) -> Callable[[list[str]], None]:
    """A setting of old files that has one value left."""

    def check(words: list[str]) -> None:
        if words[0] != value:
            raise ValueError

    return check


_FLAGS = ("switchflag", "bzeroflag", "bnormflag", "chemflag", "wselfallflag", "switchinnerflag", "quadraticflag")
_BY_ELEMENT = ("sinner", "dinner")
_WITHOUT_EFFECT = ("diagonalstyle", "chunksize", "parallelthresh")
_KEYS: Mapping[str, Callable[[list[str]], object]] = MappingProxyType(
    {
        "rcutfac": _real,
        "twojmax": _integer,
        "rfac0": _real,
        "rmin0": _real,
        **dict.fromkeys(_FLAGS, _flag),
        **dict.fromkeys(_BY_ELEMENT, _reals),
        "diagonalstyle": _only("3"),  # which components there are, before LAMMPS of 2019
        "chunksize": _integer,  # of LAMMPS' own arrays
        "parallelthresh": _integer,
    }
)


def _text(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: {'not a file' if path.exists() else 'does not exist'}.")
    return path.read_text(encoding="utf-8", errors="replace")


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, without comments: their number, and their words."""
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split("#", 1)[0].split():
            yield number, words


def _number(path: Path, line: int, word: str) -> float:
    try:
        return _finite(word)
    except ValueError:
        raise _refusal(path, line, f"{word[:40]!r} is not a finite number.") from None


def _finite(word: str) -> float:
    if not re.fullmatch(_NUMBER, word) or not math.isfinite(value := float(word)):
        raise ValueError
    return value


def _refusal(path: Path, line: int, message: str) -> ModelError:
    return ModelError(f"{path}: line {line}: {message}")
