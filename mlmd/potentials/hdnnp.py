"""High-dimensional neural network potentials of n2p2 and RuNNer: a folder with input.nn, scaling.data, weights.*.data.

Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007); n2p2: Singraber, Behler and Dellago, J. Chem. Theory Comput.
15, 1827 (2019). Read are those of the second generation (short range) with symmetry functions of types 2, 3, 9, 12 and
13. The files do not say their units. Normalised ones (mean_energy, conv_energy, conv_length) mean, for every atom,
E = E_network / conv_energy + mean_energy; symmetry functions have no unit and stay as they are.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd import units
from mlmd.config.files import SETTINGS, without_settings
from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.species import check_symbols
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.errors import InputError, ModelError, did_you_mean
from mlmd.fitting.network import Network
from mlmd.potentials.learned import LearnedPotential
from mlmd.precision import dtype_of

_TYPES = {2: ("G2", 1), 3: ("G4", 2), 9: ("G5", 2), 12: ("G2", 0), 13: ("G4", 0)}
"""Type of a symmetry function -> kind, elements of neighbours that a line names."""
_PARAMETERS = {
    2: ("eta", "shift", "cutoff"), 3: ("eta", "sign", "zeta", "cutoff", "shift"),
    9: ("eta", "sign", "zeta", "cutoff", "shift"), 12: ("eta", "shift", "cutoff"),
    13: ("eta", "shift", "sign", "zeta", "cutoff"),
}  # fmt: skip
"""Numbers of a line in their order; the shift of types 3 and 9 may be left out."""
_ACTIVATIONS = {"t": "tanh", "p": "softplus", "s": "logistic", "g": "gaussian", "l": "linear"}
_CHANGES_THE_ENERGY = (
    "normalize_nodes", "use_electrostatics", "electrostatic_type", "use_vdw", "use_vdw_interactions",
    "element_hidden_layers_short", "element_nodes_short", "element_activation_short", "element_symfunction_short",
    "global_symfunction_short", "element_pairsymfunction_short", "use_short_pair_nn",
)  # fmt: skip
"""Keywords that would make it another potential than the one that is read."""


def load(
    path: Path | str, length: str | None = None, energy: str | None = None, precision: str = "float64"
) -> LearnedPotential:
    """A potential from the folder of an n2p2 training.

    Args:
        path: the folder, or its input.nn.
        length: unit of the positions it was trained on, e.g. "bohr" or "Å".
        energy: unit of the energies, e.g. "hartree" or "eV".
        precision: "float64" or "float32".

    Raises:
        InputError: when there is no such folder, or a unit is missing or unknown.
        ModelError: when a file is missing, damaged, or asks for what is not supported, with the line.
    """
    folder = Path(path).parent if Path(path).name == SETTINGS else Path(path)
    if not (folder / SETTINGS).is_file():
        raise InputError(without_settings(folder) if folder.is_dir() else f"{folder} does not exist.")
    sizes = _sizes({"length": length, "energy": energy})
    settings = _Settings(folder / SETTINGS)
    elements = _elements(settings)
    functions = _functions(settings, elements, sizes[0])
    taper, onset = _taper(settings)
    try:
        descriptor = Symmetry(elements=elements, functions=functions, taper=taper, onset=onset)
        layers, activations = _architecture(settings)
        network = Network(
            n_features=descriptor.n_features, n_neurons=layers, n_kinds=len(elements), activation=activations
        )
    except InputError as error:
        raise ModelError(f"{settings.path}: {error}") from None
    counts = [sum(one.centre == symbol for one in functions) for symbol in elements]
    _scale(descriptor, settings, folder / "scaling.data", counts)
    _fill(network, settings, folder, elements, counts, sizes[1])
    return LearnedPotential(descriptor, network).to(dtype_of(precision))


def is_folder(path: Path) -> bool:
    """Whether a path is such a folder, or the settings in one."""
    return path.name == SETTINGS or (path / SETTINGS).is_file()


@dataclass(frozen=True)
class _Line:
    number: int
    words: list[str]


class _Settings:
    """The lines of an input.nn by keyword."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[_Line]] = defaultdict(list)
        for number, line in enumerate(_lines(path), 1):
            keyword, *words = re.split(r"[#!]", line)[0].split() or [""]
            if keyword:
                self.lines[keyword].append(_Line(number, words))
        for keyword in _CHANGES_THE_ENERGY:
            if keyword in self.lines:
                raise self.error(self.lines[keyword][0], f"{keyword} is not supported.")
        for one in self.lines.get("nnp_type", []) + self.lines.get("nnp_gen", []):
            if one.words[:1] not in (["2G-HDNNP"], ["0"], ["1"], ["2"]):
                raise self.error(one, f"{' '.join(one.words)}: only potentials of the second generation are supported.")

    def error(self, line: _Line, message: str) -> ModelError:
        """A refusal that names file and line."""
        return ModelError(f"{self.path}: line {line.number}: {message}")

    def one(self, keyword: str) -> _Line:
        """The line of a keyword that must be there."""
        if keyword not in self.lines:
            raise ModelError(f"{self.path}: there is no {keyword}: damaged, or not a file of n2p2.")
        return self.lines[keyword][-1]

    def number(self, keyword: str, default: float) -> float:
        """The number behind a keyword."""
        if keyword not in self.lines:
            return default
        line = self.one(keyword)
        return self.numbers(line, line.words[:1], 1)[0]

    def numbers(self, line: _Line, words: Sequence[str], count: int) -> list[float]:
        """So many numbers."""
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise self.error(line, f"{error}.") from None
        if len(values) < count or not all(map(math.isfinite, values)):
            raise self.error(line, f"{count} finite numbers are needed, not {' '.join(words) or 'none'}.")
        return values


def _sizes(given: Mapping[str, str | None]) -> list[float]:
    """The sizes of units in mlmd's own."""
    usual = {"length": '"bohr" or "Å"', "energy": '"hartree" or "eV"'}
    missing = [f"{quantity} = {usual[quantity]}" for quantity, unit in given.items() if unit is None]
    if missing:
        which = "the one" if len(missing) == 1 else "those"
        raise InputError(
            f"the files of n2p2 do not say their units: give {' and '.join(missing)}, {which} of the training data."
        )
    for quantity, unit in given.items():
        known = units.units_of(quantity)
        if not isinstance(unit, str) or unit not in known:
            raise InputError(f"{unit!r} is not a unit of {quantity}. {did_you_mean(str(unit), known)}")
    return [units.units_of(quantity)[str(unit)] for quantity, unit in given.items()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; it belongs to the potential.") from None


def _elements(settings: _Settings) -> tuple[str, ...]:
    """By atomic number, as the other files count them."""
    line = settings.one("elements")
    try:
        return tuple(sorted(check_symbols(line.words), key=atomic_numbers.__getitem__))
    except InputError as error:
        raise settings.error(line, str(error)) from None


def _functions(settings: _Settings, elements: Sequence[str], length: float) -> list[SymmetryFunction]:
    """In the order of the other files: by element, type, cutoff, η, r_s, ζ, λ, elements of neighbours."""
    read = [(_function(settings, line, elements, length)) for line in settings.lines.get("symfunction_short", [])]
    return [function for _, function in sorted(read, key=lambda one: one[0])]


def _function(
    settings: _Settings, line: _Line, elements: Sequence[str], length: float
) -> tuple[tuple[float, ...], SymmetryFunction]:
    """A function and what it is sorted by."""
    centre, kind, *words = (*line.words, "", "")[: max(2, len(line.words))]
    number = int(kind) if kind.isdecimal() else -1
    if number not in _TYPES:
        raise settings.error(line, f"symmetry functions of type {kind} are not supported; 2, 3, 9, 12 and 13 are.")
    name, n_neighbours = _TYPES[number]
    symbols, words = words[:n_neighbours], words[n_neighbours:]
    for symbol in (centre, *symbols):
        if symbol not in elements:
            raise settings.error(line, f"{symbol!r} is not among the elements, {', '.join(elements)}.")
    parameters = _PARAMETERS[number]
    values = settings.numbers(line, words, len(parameters) - (number in (3, 9)))
    given = {"shift": 0.0, "zeta": 1.0, "sign": 1.0} | dict(zip(parameters, values, strict=False))
    neighbours = tuple(sorted(symbols, key=elements.index))
    keys = [given[name] for name in ("cutoff", "eta", "shift", "zeta", "sign")]
    places = [float(elements.index(symbol)) for symbol in (centre, *neighbours)]
    function = SymmetryFunction(
        kind=name,
        centre=centre,
        neighbours=neighbours,
        cutoff=given["cutoff"] * length,
        eta=given["eta"] / length**2,
        shift=given["shift"] * length,
        zeta=given["zeta"],
        sign=given["sign"],
    )
    try:
        function.check()
    except InputError as error:
        raise settings.error(line, str(error)) from None
    return (places[0], float(number), *keys, *places[1:]), function


def _taper(settings: _Settings) -> tuple[str, float]:
    """Name and onset of the cutoff function; those with tanh take no notice of an onset."""
    line = settings.one("cutoff_type")
    kind, onset, *_ = (*settings.numbers(line, line.words[:2], 1), 0.0)
    names = dict(enumerate(TAPERS, 1))
    if kind not in names:
        raise settings.error(line, f"a cutoff function of type {kind:g} is not supported; 1 to 8 are.")
    return names[int(kind)], 0.0 if names[int(kind)].startswith("tanh") else onset


def _architecture(settings: _Settings) -> tuple[list[int], list[str]]:
    """Neurons and activations of the hidden layers."""
    n_layers = int(settings.number("global_hidden_layers_short", 0))
    nodes, letters = settings.one("global_nodes_short"), settings.one("global_activation_short")
    layers = [int(value) for value in settings.numbers(nodes, nodes.words[:n_layers], max(n_layers, 1))]
    found = letters.words[: n_layers + 1]
    if len(found) != n_layers + 1 or found[-1] != "l" or not {*found} <= _ACTIVATIONS.keys():
        known = ", ".join(f"{letter} ({name})" for letter, name in _ACTIVATIONS.items())
        raise settings.error(letters, f"{' '.join(found)}: {n_layers} of {known} are supported, and l for the output.")
    return layers, [_ACTIVATIONS[letter] for letter in found[:-1]]


def _scale(descriptor: Symmetry, settings: _Settings, path: Path, counts: Sequence[int]) -> None:
    """Offsets and factors: x = S_min + (S_max - S_min) (G - centre) / range of the training data."""
    keys = ("center_symmetry_functions", "scale_symmetry_functions", "scale_symmetry_functions_sigma")
    centred, ranged, by_sigma = (key in settings.lines for key in keys)
    if not (centred or ranged or by_sigma):
        return
    if by_sigma and (ranged or centred):
        raise ModelError(f"{settings.path}: scale_symmetry_functions_sigma with another scaling is not defined.")
    low, high = settings.number("scale_min_short", 0.0), settings.number("scale_max_short", 1.0)
    table = _scaling(path, counts, 6 if by_sigma else 5)
    for kind, count in enumerate(counts):
        for column in range(count):
            least, most, mean, *sigma = table[kind, column]
            width = sigma[0] if by_sigma else most - least
            if (ranged or by_sigma) and not (width > 0 and high > low):
                raise ModelError(
                    f"{path}: function {column + 1} of {descriptor.elements[kind]} is the same for all training data; "
                    "it cannot be scaled."
                )
            factor = (high - low) / width if ranged or by_sigma else 1.0
            centre = mean if centred or by_sigma else least
            descriptor.factor[kind, column] = factor
            descriptor.offset[kind, column] = centre - (low / factor if ranged or by_sigma else 0.0)


def _scaling(path: Path, counts: Sequence[int], n_columns: int) -> Mapping[tuple[int, int], list[float]]:
    """Minimum, maximum, mean and perhaps σ of each element's functions."""
    table = {}
    for number, line in enumerate(_lines(path), 1):
        words = line.split("#")[0].split()
        if len(words) < 5:  # the last line of RuNNer's is the range of the energies
            continue
        try:
            kind, column, *values = int(words[0]) - 1, int(words[1]) - 1, *map(float, words[2:])
        except ValueError as error:
            raise ModelError(f"{path}: line {number}: {error}.") from None
        if len(words) < n_columns or not all(map(math.isfinite, values)):
            raise ModelError(f"{path}: line {number}: {n_columns} finite numbers are needed.")
        table[kind, column] = values
    needed = {(kind, column) for kind, count in enumerate(counts) for column in range(count)}
    if table.keys() != needed:
        raise ModelError(
            f"{path}: {len(table)} functions are scaled, {SETTINGS} has {' + '.join(map(str, counts))}: "
            "damaged, or of another potential."
        )
    return table


def _fill(
    network: Network,
    settings: _Settings,
    folder: Path,
    elements: Sequence[str],
    counts: Sequence[int],
    energy: float,
) -> None:
    """Weights, and what an atom of each element has besides."""
    mean, scale = settings.number("mean_energy", 0.0), settings.number("conv_energy", 1.0)
    if scale <= 0:
        raise settings.error(settings.one("conv_energy"), "conv_energy must be positive.")
    alone = _atom_energies(settings, elements)
    with torch.no_grad():
        for kind, (symbol, count) in enumerate(zip(elements, counts, strict=True)):
            path = folder / f"weights.{atomic_numbers[symbol]:03d}.data"
            layers = _weights(path, [count, *network.layers, 1])
            for (weights, biases), (given, bias) in zip(network.hidden, layers[:-1], strict=True):
                weights[kind, :, : given.shape[1]] = given
                biases[kind] = bias
            output, bias = layers[-1]
            network.output[kind] = output[0] * (energy / scale)
            network.constants[kind] = (float(bias) / scale + mean + alone[symbol]) * energy


def _atom_energies(settings: _Settings, elements: Sequence[str]) -> dict[str, float]:
    """Energies of free atoms that were taken from the training data; 0 where none is given."""
    found = dict.fromkeys(elements, 0.0)
    for line in settings.lines.get("atom_energy", []):
        symbol, *words = line.words or [""]
        if symbol not in found:
            raise settings.error(line, f"{symbol!r} is not among the elements, {', '.join(elements)}.")
        found[symbol] = settings.numbers(line, words[:1], 1)[0]
    return found


def _weights(path: Path, sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """w (outputs, inputs) and b (outputs) of each layer: of a layer all weights by input, then all biases."""
    numbers: list[float] = []
    for number, line in enumerate(_lines(path), 1):
        if words := line.split("#")[0].split():
            try:
                numbers.append(float(words[0]))
            except ValueError as error:
                raise ModelError(f"{path}: line {number}: {error}.") from None
            if not math.isfinite(numbers[-1]):
                raise ModelError(f"{path}: line {number}: {words[0]} is not finite.")
    shapes = list(itertools.pairwise(sizes))
    needed = sum((inputs + 1) * outputs for inputs, outputs in shapes)
    if len(numbers) != needed:
        raise ModelError(
            f"{path}: {len(numbers)} numbers, {needed} are needed for {' × '.join(map(str, sizes))} neurons: "
            "truncated, or of another potential."
        )
    values, layers = torch.tensor(numbers, dtype=torch.float64), []
    for inputs, outputs in shapes:
        weights, biases, values = values.split([inputs * outputs, outputs, len(values) - (inputs + 1) * outputs])
        layers.append((weights.view(inputs, outputs).T, biases))
    return layers
