"""Neuroevolution potentials of GPUMD, `nep.txt`: versions 3 and 4, with and without ZBL.

A header of a few lines, then one number a line: networks, radial coefficients, scaling of the features, and
fitted screening functions where there are some.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd.descriptors.radial_angular import RadialAngular
from mlmd.descriptors.species import check_symbols
from mlmd.errors import InputError, ModelError
from mlmd.fitting.network import Network
from mlmd.potentials.nep import N_TERMS, NEP
from mlmd.precision import dtype_of

KINDS = {"nep3": (3, False), "nep3_zbl": (3, True), "nep4": (4, False), "nep4_zbl": (4, True)}
"""First word of a file -> version, whether it has ZBL."""

_COULOMB = 14.399645  # eV Å: e²/(4πε₀) and the inverse screening length as GPUMD has them, and potentials were trained
_INVERSE_LENGTH = 2.134563  # 1/Å, a⁻¹ = this (z_i^0.23 + z_j^0.23)
_UNIVERSAL = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)
"""Weights and decays of the universal screening function (Ziegler, Biersack and Littmark, 1985)."""
_RADII = (
    0.32, 0.46, 1.20, 0.94, 0.77, 0.75, 0.71, 0.63, 0.64, 0.67, 1.40, 1.25, 1.13, 1.04, 1.10, 1.02, 0.99, 0.96, 1.76,
    1.54, 1.33, 1.22, 1.21, 1.10, 1.07, 1.04, 1.00, 0.99, 1.01, 1.09, 1.12, 1.09, 1.15, 1.10, 1.14, 1.17, 1.89, 1.67,
    1.47, 1.39, 1.32, 1.24, 1.15, 1.13, 1.13, 1.08, 1.15, 1.23, 1.28, 1.26, 1.26, 1.23, 1.32, 1.31, 2.09, 1.76, 1.62,
    1.47, 1.58, 1.57, 1.56, 1.55, 1.51, 1.52, 1.51, 1.50, 1.49, 1.49, 1.48, 1.53, 1.46, 1.37, 1.31, 1.23, 1.18, 1.16,
    1.11, 1.12, 1.13, 1.32, 1.30, 1.30, 1.36, 1.31, 1.38, 1.42, 2.01, 1.81, 1.67, 1.58, 1.52, 1.53, 1.54, 1.55,
)  # fmt: skip
"""Covalent radii in Å, H to Pu (Pyykkö and Atsumi 2009, those of metals 10 % less: Grimme et al., J. Chem. Phys. 132,
154104, 2010). Four thirds of them, times a factor of the file, are the outer distances of ZBL."""


def load(path: Path | str, precision: str = "float64") -> NEP:
    """A neuroevolution potential from a `nep.txt` of GPUMD.

    Args:
        path: the file; what it is called does not matter. It names its elements.
        precision: "float64" or "float32".

    Raises:
        InputError: when there is no such file.
        ModelError: when the file is damaged or of another kind, with the line.
    """
    file = _File(Path(path))
    version, repulsive, elements = _first_line(file)
    zbl = _zbl(file) if repulsive else []
    descriptor = _descriptor(file, elements)
    n_neurons, deeper = file.integers("ANN", (2,), range(1001))
    if deeper or not n_neurons:
        raise file.error("one hidden layer is supported, 'ANN <neurons> 0'.")
    network = Network(n_features=descriptor.n_features, n_neurons=n_neurons, n_kinds=len(elements), common=version == 3)
    fitted = zbl[:2] == [0.0, 0.0]
    n_pairs = len(elements) * (len(elements) + 1) // 2
    numbers = file.numbers(_n_parameters(descriptor, network) + fitted * n_pairs * (2 + 2 * N_TERMS))
    _fill(descriptor, network, numbers)
    potential = NEP(descriptor, network, repulsive=repulsive)
    if potential.repulsion is not None:
        table = _fitted(elements, numbers) if fitted else universal(elements, zbl)
        if not bool((table[..., 0] < table[..., 1]).all()) or float(table[..., 1].max()) > descriptor.angular_cutoff:
            raise file.error("ZBL must end beyond where it begins, and within the angular cutoff.")
        potential.repulsion.table.copy_(table)
    return potential.to(dtype_of(precision))


def is_nep(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a NEP file, of any version and kind."""
    words = start.split(b"\n", 1)[0].split()
    return len(words) > 2 and re.fullmatch(rb"nep[0-9]*(_[a-z0-9_]+)?", words[0]) is not None


class _File:
    """The lines of a file, taken one after the other."""

    def __init__(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path} does not exist.") from None
        self.path, self.line = path, 0
        self._lines = content.decode("utf-8", errors="replace").rstrip().splitlines()

    def error(self, message: str) -> ModelError:
        """A refusal that names file and line."""
        return ModelError(f"{self.path}: line {max(self.line, 1)}: {message}")

    def next(self) -> list[str]:
        """The words of the next line."""
        if self.line >= len(self._lines):
            raise self.error("the file ends in its header.")
        self.line += 1
        return self._lines[self.line - 1].split()

    def entry(self, keyword: str, counts: Sequence[int]) -> list[float]:
        """Numbers of a line that begins with a keyword."""
        first, *words = self.next() or ("",)
        if first != keyword or len(words) not in counts:
            needed = " or ".join(str(count) for count in counts)
            raise self.error(f"{' '.join([first, *words])[:60]!r} is not {keyword!r} with {needed} numbers.")
        return [self._number(word) for word in words]

    def integers(self, keyword: str, counts: Sequence[int], allowed: range) -> list[int]:
        """The same with integers of a range."""
        numbers = self.entry(keyword, counts)
        for number in numbers:
            if number not in allowed:
                raise self.error(f"{keyword} has {number:g}, which is no integer up to {allowed.stop - 1}.")
        return [int(number) for number in numbers]

    def numbers(self, count: int) -> Iterator[float]:
        """The rest of the file, which must be so many lines of one number."""
        found = len(self._lines) - self.line
        if found != count:
            self.line = len(self._lines)
            what = "is truncated, or has" if found < count else "has"
            raise self.error(f"the file {what} {found} numbers below its header, which asks for {count}.")
        values = []
        for line in self._lines[self.line :]:
            self.line += 1
            values.append(self._number(line.strip()))
        return iter(values)

    def _number(self, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            raise self.error(f"{word[:40]!r} is not a number.") from None
        if not math.isfinite(value):
            raise self.error(f"{word!r} is not finite.")
        return value


def _first_line(file: _File) -> tuple[int, bool, tuple[str, ...]]:
    """Version, whether the file has ZBL, and its elements."""
    kind, count, *symbols = (*file.next(), "", "")
    symbols = symbols[:-2]
    if kind not in KINDS:
        raise file.error(f"a NEP of kind {kind[:40]!r} is not supported; {', '.join(KINDS)} are.")
    if count != str(len(symbols)) or not symbols:
        raise file.error(f"{count[:20]!r} elements are announced, {len(symbols)} are named.")
    try:
        return *KINDS[kind], check_symbols(symbols)
    except InputError as error:
        raise file.error(str(error)) from None


def _zbl(file: _File) -> list[float]:
    """Inner and outer distance, both zero for fitted functions, and perhaps a factor for covalent radii."""
    zbl = file.entry("zbl", (2, 3))
    if zbl[:2] != [0.0, 0.0] and (not 0 <= zbl[0] < zbl[1] or min(zbl[2:], default=1.0) <= 0):
        raise file.error("zbl needs an inner distance below the outer one, and a positive factor.")
    return zbl


def _descriptor(file: _File, elements: Sequence[str]) -> RadialAngular:
    """What the header says about the features."""
    cutoffs = file.entry("cutoff", sorted({4, 2 * len(elements) + 2}))[:-2]  # the last two count neighbours
    radial, angular = (cutoffs[k::2] if len(cutoffs) > 2 else cutoffs[k] for k in (0, 1))
    if not all(0 < inner <= outer <= 100 for outer, inner in zip(cutoffs[0::2], cutoffs[1::2], strict=True)):
        raise file.error(f"cutoffs {cutoffs}: angular ones must be positive and not larger than the radial ones.")
    n_radial, n_angular = file.integers("n_max", (2,), range(101))
    n_radial_basis, n_angular_basis = file.integers("basis_size", (2,), range(101))
    l_max, *flags = file.integers("l_max", range(1, 8), range(9))
    four_body, five_body, *others = (*flags, 0, 0)
    if any(others):
        raise file.error("invariants beyond q_222 and q_1111 are not supported.")
    try:
        return RadialAngular(
            elements=elements,
            cutoff=radial,
            angular_cutoff=angular,
            n_radial=n_radial + 1,
            n_radial_basis=n_radial_basis + 1,
            n_angular=n_angular + 1,
            n_angular_basis=n_angular_basis + 1,
            l_max=l_max,
            four_body=bool(four_body),
            five_body=bool(five_body),
        )
    except InputError as error:
        raise file.error(str(error)) from None


def _n_parameters(descriptor: RadialAngular, network: Network) -> int:
    """Numbers below the header, without those of ZBL: a file has one constant for all elements."""
    trained = (network.weights, network.biases, network.output, descriptor.radial.coefficients)
    return 1 + sum(one.numel() for one in (*trained, descriptor.angular.coefficients, descriptor.scaling))


def _fill(descriptor: RadialAngular, network: Network, numbers: Iterator[float]) -> None:
    """Put the numbers of a file in their places."""

    def take(*shape: int) -> Tensor:
        return torch.tensor([next(numbers) for _ in range(math.prod(shape))], dtype=torch.float64).view(shape)

    with torch.no_grad():
        for kind in range(len(network.weights)):
            network.weights[kind] = take(network.n_neurons, network.n_features)
            network.biases[kind] = -take(network.n_neurons)  # files have tanh(w q - b)
            network.output[kind] = take(network.n_neurons)
        network.constants.fill_(-next(numbers))
        for radial in (descriptor.radial, descriptor.angular):
            n_species, _, n_functions, n_polynomials = radial.coefficients.shape
            by_pair = take(n_functions, n_polynomials, n_species, n_species)
            radial.coefficients.copy_(by_pair.permute(2, 3, 0, 1))
        descriptor.scaling.copy_(take(descriptor.n_features))


def universal(elements: Sequence[str], zbl: Sequence[float]) -> Tensor:
    """The universal screening function between the distances of a file; see `Repulsion.table`."""
    inner, outer, *factor = zbl
    table = torch.zeros((len(elements), len(elements), 2 + 2 * N_TERMS), dtype=torch.float64)
    for i, first in enumerate(elements):
        for j, second in enumerate(elements):
            reach = [inner, outer]
            if factor:
                reach = [0.0, min(outer, factor[0] * (_radius(first) + _radius(second)))]
            table[i, j] = torch.tensor([*reach, *_screening(first, second, _UNIVERSAL)], dtype=torch.float64)
    return table


def _fitted(elements: Sequence[str], numbers: Iterator[float]) -> Tensor:
    """Screening functions of pairs of elements that follow each other in a file; see `Repulsion.table`."""
    table = torch.zeros((len(elements), len(elements), 2 + 2 * N_TERMS), dtype=torch.float64)
    for i, j in combinations_with_replacement(range(len(elements)), 2):
        inner, outer, *terms = (next(numbers) for _ in range(2 + 2 * N_TERMS))
        row = torch.tensor([inner, outer, *_screening(elements[i], elements[j], terms)], dtype=torch.float64)
        table[i, j] = table[j, i] = row
    return table


def _screening(first: str, second: str, terms: Sequence[float]) -> list[float]:
    """A c_k and d_k / a of two elements, in turn, from weights c_k and decays d_k in turn."""
    z_i, z_j = atomic_numbers[first], atomic_numbers[second]
    prefactor, inverse_length = _COULOMB * z_i * z_j, _INVERSE_LENGTH * (z_i**0.23 + z_j**0.23)
    scales = (prefactor, inverse_length) * N_TERMS
    return [scale * term for scale, term in zip(scales, terms, strict=True)]


def screening_of(first: str, second: str, row: Tensor) -> Tensor:
    """Distances, weights and decays of two elements as files have them, from a row of `Repulsion.table`."""
    of_ones = torch.tensor(_screening(first, second, (1.0,) * (2 * N_TERMS)), dtype=torch.float64)
    return torch.cat([row[:2], row[2:] / of_ones])


def _radius(symbol: str) -> float:
    """Four thirds of the covalent radius, Å, in the six digits of GPUMD; no NEP knows elements beyond plutonium."""
    return float(f"{4 / 3 * _RADII[min(atomic_numbers[symbol], len(_RADII)) - 1]:.6g}")
