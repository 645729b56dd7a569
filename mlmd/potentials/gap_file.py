"""Files of Gaussian approximation potentials: the XML of QUIP and `gap_fit`, with the points that lie beside it.

A file `<GAP_params>` has the energy of a lone atom of each element (`e0`) and, for each descriptor, its settings as one
line, its kernel (δ, ζ or θ), the coefficients α of its sparse points, and the points: in the file, or as one number a
line in a file beside it (`sparseX_filename`). XML can say much more, such as entities that grow without bounds or name
other files: a document type is refused, nothing is kept but what is asked for, and points lie in the same folder.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.parsers import expat

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from mlmd.config.gap import MAGIC, in_folder
from mlmd.errors import InputError, ModelError

KERNELS: Final[dict[int, str]] = {1: "ard_se", 2: "dot_product", 3: "bond_real_space", 4: "pp"}
"""Numbers of kinds of covariance."""
LARGEST = 2**30
"""Bytes of a file: 1 GB, some times as much as the data of the largest published potentials take in it."""
_PER_NUMBER = 64  # bytes of a line, at most
_OPTION = re.compile(r"(\w+)\s*=\s*(?:\{+([^{}]*)\}+|\"([^\"]*)\"|(\S+))")
_TEXTS = {"descriptor", "theta", "sparseX"}
"""Elements whose text is kept."""


@dataclass(frozen=True)
class Term:
    """One descriptor with its kernel."""

    place: str
    """Of the file, for messages: its name and the term's label."""
    descriptor: str
    """ "soap", "distance_2b", ..."""
    options: Mapping[str, str]
    """What else the line of the descriptor says."""
    kernel: str
    """A value of `KERNELS`."""
    amplitude: float
    """δ, eV."""
    mean: float
    """f0, eV."""
    power: float
    """ζ of dot_product."""
    lengths: tuple[float, ...]
    """θ of ard_se, in the units of the descriptor."""
    points: np.ndarray
    """(n_points, n_features)."""
    coefficients: np.ndarray
    """α, (n_points,) eV⁻¹."""
    cutoffs: np.ndarray
    """(n_points,) the cutoff function of each point."""

    def error(self, message: str) -> ModelError:
        """A refusal that names file and term."""
        return ModelError(f"{self.place}: {message}")


@dataclass(frozen=True)
class Content:
    """What a file says."""

    version: int
    """When it was made, in seconds since 1970: formulas have changed."""
    energies: Mapping[int, float]
    """Atomic number -> e0, eV."""
    terms: tuple[Term, ...]
    trained_on: tuple[str, ...]
    """Elements of the data that the file carries; none when it has no data."""


def read(path: Path) -> Content:
    """The content of a file and of the files of points beside it.

    Raises:
        InputError: when a file does not exist.
        ModelError: when it is damaged, of another kind, or says what XML is not trusted with, with the line.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ModelError(f"{path}: {size / 1e9:.1f} GB are more than is read of such a file.")
        with path.open("rb") as stream:
            reader = _Reader(path)
            return reader.read(stream)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None


class _Reader:
    """Goes through the XML once and keeps what belongs to the potential."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version, self.energies = 0, dict[int, float]()
        self.n_terms: int | None = None
        self.terms: list[Term] = []
        self.symbols: dict[str, None] = {}
        self._seen = False
        self._term: dict[str, str] | None = None  # attributes of the term that is read
        self._texts: dict[str, list[str]] = {}
        self._points: list[tuple[dict[str, str], list[str]]] = []
        self._into: list[str] | None = None  # where text goes
        self._in_data, self._rest = False, ""
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse

    def read(self, stream: object) -> Content:
        try:
            self._parser.ParseFile(stream)  # type: ignore[arg-type]
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise ModelError(f"{self.path}: line {error.lineno}: {what}: truncated or damaged.") from None
        if not self._seen:
            raise ModelError(f"{self.path}: no {MAGIC.decode()}>: not a Gaussian approximation potential.")
        if not self.terms or len(self.terms) != self.n_terms:
            raise ModelError(f"{self.path}: {len(self.terms)} of {self.n_terms or 0} descriptors: damaged.")
        return Content(self.version, self.energies, tuple(self.terms), tuple(self.symbols))

    def _refuse(self, *_: object) -> None:
        raise self._error("a document type, which can say anything; no Gaussian approximation potential has one.")

    def _error(self, message: str) -> ModelError:
        return ModelError(f"{self.path}: line {self._parser.CurrentLineNumber}: {message}")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Potential":
            self._check_kind(attributes.get("init_args", "IP GAP"))
        elif name == "GAP_params":
            if self._seen:
                raise self._error("a second potential in one file.")
            self._seen, self.version = True, int(self._number(attributes, "gap_version", "0"))
        elif name == "GAP_data":
            self._begin_data(attributes)
        elif name == "e0":
            self.energies[int(self._number(attributes, "Z"))] = self._number(attributes, "value")
        elif name == "gpSparse":
            self.n_terms = int(self._number(attributes, "n_coordinate"))
        elif name == "gpCoordinates":
            self._term, self._texts, self._points = attributes, {}, []
        elif name == "XYZ_data":
            self._in_data = True
        elif name in _TEXTS and self._term is not None:
            self._into = []
            if name == "sparseX":
                self._points.append((attributes, self._into))
            else:
                self._texts[name] = self._into

    def _check_kind(self, words: str) -> None:
        """Sums with other potentials say so here."""
        if words.split()[:2] != ["IP", "GAP"]:
            raise self._error(f"the potential is {words[:60]!r}, not a Gaussian approximation potential alone.")

    def _begin_data(self, attributes: dict[str, str]) -> None:
        if attributes.get("do_core", "F").upper().startswith("T"):
            raise self._error("a core potential of QUIP is added (do_core), which mlmd does not read.")
        if "e0" in attributes:
            value = self._number(attributes, "e0")
            self.energies = dict.fromkeys(range(1, len(chemical_symbols)), value)

    def _end(self, name: str) -> None:
        if name == "gpCoordinates" and self._term is not None:
            self.terms.append(self._finished(self._term))
            self._term = None
        elif name == "XYZ_data":
            self._in_data = False
        if name in _TEXTS:
            self._into = None

    def _text(self, text: str) -> None:
        if self._into is not None:
            self._into.append(text)
        elif self._in_data:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                word = line[:20].split(maxsplit=1)[:1]
                if word and word[0] in atomic_numbers:
                    self.symbols[word[0]] = None

    def _finished(self, given: dict[str, str]) -> Term:
        label = given.get("label", str(len(self.terms) + 1))
        n_points, n_features = (int(self._number(given, name)) for name in ("n_sparseX", "dimensions"))
        if len(self._points) != n_points or min(n_points, n_features) < 1:
            raise self._error(f"{label} has {len(self._points)} of {n_points} points: truncated or damaged.")
        line = "".join(self._texts.get("descriptor", ()))
        if not line.split():
            raise self._error(f"{label} does not say which descriptor it has.")
        code = int(self._number(given, "covariance_type"))
        if int(self._number(given, "n_permutations", "1")) != 1:
            raise self._error(f"{label}: a descriptor with permutations is not read: {line.split()[0]}.")
        of_points = [[self._number(one, name, "1") for one, _ in self._points] for name in ("alpha", "sparseCutoff")]
        if "sparseX_filename" in given:
            points = self._beside(given, n_points * n_features)
        else:
            texts = [" ".join(text) for _, text in self._points]
            points = self._numbers(" ".join(texts), n_points * n_features, f"the points of {label}")
        return Term(
            place=f"{self.path}: {label}",
            descriptor=line.split()[0],
            options={key: next((one for one in values if one), "") for key, *values in _OPTION.findall(line)},
            kernel=KERNELS.get(code, str(code)),
            amplitude=self._number(given, "signal_variance"),  # which is what its name says, before it is squared
            mean=self._number(given, "signal_mean", "0"),
            power=self._number(given, "zeta", "0"),
            lengths=tuple(self._numbers(" ".join(self._texts.get("theta", ())), None, f"theta of {label}")),
            points=points.reshape(n_points, n_features),
            coefficients=np.array(of_points[0]),
            cutoffs=np.array(of_points[1]),
        )

    def _beside(self, given: dict[str, str], n_numbers: int) -> np.ndarray:
        """The numbers of a file of points."""
        name = given["sparseX_filename"]
        if not in_folder(name):
            raise self._error(
                f"the points are said to be in {name!r}; they are read from the folder of the file alone."
            )
        path = self.path.parent / name
        if not path.is_file():
            raise InputError(
                f"{self.path} needs its points: {path} does not exist. Copy it from where the file is from."
            )
        if path.stat().st_size > _PER_NUMBER * n_numbers:
            raise ModelError(f"{path}: too large for the {n_numbers} numbers of {self.path.name}.")
        content = path.read_bytes()
        expected, found = (
            given.get("sparseX_md5sum", "").lower(),
            hashlib.md5(content, usedforsecurity=False).hexdigest(),
        )
        if expected and found != expected:
            raise ModelError(
                f"{path}: damaged, or of another potential: its MD5 sum is {found}; {self.path.name} was written with "
                f"one of {expected}. Copy both from where they are from."
            )
        return self._numbers(content.decode("ascii", errors="replace"), n_numbers, str(path))

    def _numbers(self, text: str, n_numbers: int | None, what: str) -> np.ndarray:
        return _checked(text.split(), n_numbers, lambda message: self._error(f"{what}: {message}"))

    def _number(self, attributes: Mapping[str, str], name: str, default: str | None = None) -> float:
        text = attributes.get(name, default)
        if text is None:
            raise self._error(f"{name} is missing.")
        return float(_checked([text], 1, lambda message: self._error(f"{name}: {message}"))[0])


def _checked(words: list[str], n_numbers: int | None, error: Callable[[str], ModelError]) -> np.ndarray:
    """Words as finite numbers."""
    if n_numbers is not None and len(words) != n_numbers:
        raise error(f"{len(words)} numbers instead of {n_numbers}: truncated or damaged.")
    try:
        found = np.array([float(word) for word in words])
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise error(f"{wrong[:40]!r} is not a number.") from None
    if not np.isfinite(found).all():
        raise error("a number is not finite.")
    return found


def _is_number(word: str) -> bool:
    try:
        return not math.isnan(float(word))
    except ValueError:
        return False
