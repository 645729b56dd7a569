"""Pair potentials: Lennard-Jones, Morse and ZBL, brought smoothly to zero at the cutoff.

E = ½ Σ_i Σ_j φ(r_ij) s(r_ij), where s is the quintic step from `onset` to `cutoff`: forces and their
derivative are continuous. Parameters hold for all elements, or are given by pair of elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, ClassVar

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor

from mlmd import units
from mlmd.descriptors.cutoffs import quintic
from mlmd.descriptors.species import check_symbols, species, species_table
from mlmd.errors import InputError, did_you_mean
from mlmd.graph import Graph
from mlmd.kernels import Kernel
from mlmd.potentials import EnergyModel
from mlmd.precision import dtype_of

COULOMB = units.units_of("energy")["hartree"] * units.units_of("length")["bohr"]
"""e²/(4πε₀) in eV Å: one hartree times one bohr."""

_ONSET = 0.9  # of the cutoff


class PairPotential(EnergyModel):
    """A sum over pairs; subclasses write `pair_energies` and name their parameters."""

    kind: ClassVar[str]
    form: ClassVar[int]
    """Number of φ in the fused kernel."""
    quantities: ClassVar[Mapping[str, str]] = {}
    """Parameter -> quantity that its unit belongs to (a key of `units.DEFAULT_UNIT`)."""

    def __init__(
        self,
        *,
        cutoff: object,
        onset: object = None,
        elements: Sequence[str] | None = None,
        pairs: Mapping[str, Mapping[str, object]] | None = None,
        precision: str = "float64",
        **parameters: object,
    ) -> None:
        """Read what an input table says.

        Args:
            cutoff: length beyond which the energy is zero.
            onset: length where the smooth step to zero begins; 0.9 of the cutoff when not given.
            elements: symbols; without them, and without `pairs`, any element is accepted.
            pairs: ``{"Ar-Kr": {parameters}}``; an element alone, ``{"Ar": {parameters}}``, stands for its
                pair with itself and is mixed with the others where their pair is not given.
            precision: "float64" or "float32".
            **parameters: for all pairs that `pairs` does not name.

        Raises:
            InputError: for a missing, unknown or impossible parameter.
        """
        super().__init__()
        self.cutoff = _length(cutoff, "cutoff")
        self.onset = _ONSET * self.cutoff if onset is None else _length(onset, "onset")
        if not 0 <= self.onset < self.cutoff:
            raise InputError(f"onset {self.onset:g} Å must lie below the cutoff, {self.cutoff:g} Å.")
        self.dtype = dtype_of(precision)
        pairs = {} if pairs is None else pairs
        self.elements = check_symbols(elements if elements is not None else _symbols_in(pairs))
        self._given = self._read(parameters, pairs)
        self.register_buffer("species_table", species_table(self.elements), persistent=False)
        for name in self.quantities:
            self.register_buffer(name, self._matrix(name), persistent=False)

    def pair_energies(self, distances: Tensor, graph: Graph) -> Tensor:
        """φ(r) in eV, (n_pairs,), without the step; distances (n_pairs,) in Å."""
        raise NotImplementedError

    def mix(self, first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float] | None:
        """Parameters of two unlike elements from their own, or None where no rule is established."""
        return None

    def brought_to_zero(self, distances: Tensor, graph: Graph) -> Tensor:
        """Energies of pairs in eV, (n_pairs,), which end at the cutoff."""
        return self.pair_energies(distances, graph) * quintic(distances, self.cutoff, self.onset)

    def coefficients(self) -> np.ndarray | None:
        """Those in the fused kernel (`pair.hpp`), (n_species, n_species, 3 or 6); None where there are none."""
        return None

    def kernel(self) -> Kernel | None:
        """The fused form; None where the species do not tell the parameters."""
        coefficients = self.coefficients()
        if coefficients is None:
            return None
        return Kernel(
            family="pair",
            cutoff=self.cutoff,
            integers=np.array([self.form, len(coefficients)]),
            numbers=np.concatenate([[self.cutoff, self.onset], coefficients.ravel()]),
            precision=str(self.dtype).removeprefix("torch."),
        )

    def atomic_energies(self, graph: Graph) -> Tensor:
        """(n_atoms,) eV: half of every pair's energy."""
        distances = graph.distances.to(self.dtype)
        energies = self.brought_to_zero(distances, graph)
        total = torch.zeros(graph.n_atoms, dtype=torch.float64, device=distances.device)
        return total.index_add(0, graph.pairs[0], 0.5 * energies.double())

    def parameters_of(self, graph: Graph) -> list[Tensor]:
        """Each parameter by pair, (n_pairs,); a single number where one kind of pair is known."""
        types = species(graph.numbers, self.species_table)
        matrices: list[Tensor] = [getattr(self, name) for name in self.quantities]
        if len(self.elements) < 2:
            return [matrix[0, 0] for matrix in matrices]
        centre, neighbour = (types.index_select(0, atoms) for atoms in graph.pairs)
        pair = centre * len(self.elements) + neighbour
        return [matrix.flatten().index_select(0, pair) for matrix in matrices]

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> PairPotential:
        """Build again from `spec`; there is no state."""
        return cls(**{name: value for name, value in spec.items() if name != "kind"})

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        spec: dict[str, Any] = {"kind": self.kind, "precision": str(self.dtype).removeprefix("torch.")}
        spec |= {name: units.with_unit(getattr(self, name), "length") for name in ("cutoff", "onset")}
        if not self.elements:
            return spec | self._with_units(self._given[""])
        spec["elements"] = list(self.elements)
        if self.quantities:
            spec["pairs"] = {pair: self._with_units(values) for pair, values in self._given.items()}
        return spec

    def _with_units(self, values: Mapping[str, float]) -> dict[str, str]:
        return {name: units.with_unit(values[name], quantity) for name, quantity in self.quantities.items()}

    def _read(self, common: Mapping[str, object], pairs: object) -> dict[str, dict[str, float]]:
        """Parameters by pair "A-B" in the order of `elements`, or under "" when they hold for any element."""
        if not isinstance(pairs, Mapping) or not all(isinstance(one, Mapping) for one in pairs.values()):
            raise InputError('pairs must be a table of tables, e.g. { "Ar-Kr" = { ... } }.')
        everywhere = self._parse(common) if common or not pairs else None
        if not self.elements:
            return {"": everywhere or {}}
        given: dict[frozenset[str], dict[str, float]] = {}
        for key, values in pairs.items():
            pair = _pair_key(key, self.elements)
            if pair in given:
                raise InputError(f"the pair {key} is given twice.")
            given[pair] = self._parse(values, f"{key}: ")
        return {
            f"{first}-{second}": self._of_pair(first, second, given, everywhere)
            for first, second in combinations_with_replacement(self.elements, 2)
        }

    def _of_pair(
        self,
        first: str,
        second: str,
        given: Mapping[frozenset[str], dict[str, float]],
        everywhere: dict[str, float] | None,
    ) -> dict[str, float]:
        """What is given for a pair, else for all pairs, else mixed from the pairs of like atoms."""
        own = [frozenset((first,)), frozenset((second,))]
        if (pair := frozenset((first, second))) in given:
            return given[pair]
        if everywhere is not None:
            return everywhere
        mixed = self.mix(*(given[one] for one in own)) if all(one in given for one in own) else None
        if mixed is None:
            raise InputError(f'the pair {first}-{second} has no parameters. Give "{first}-{second}" in pairs.')
        return mixed

    def _parse(self, values: Mapping[str, object], where: str = "") -> dict[str, float]:
        for name in values:
            if name not in self.quantities:
                hint = did_you_mean(name, self.quantities) if self.quantities else "It has none."
                raise InputError(f"{where}{name!r} is not a parameter of {self.kind}. {hint}")
        missing = [name for name in self.quantities if name not in values]
        if missing:
            raise InputError(f"{where}{' and '.join(missing)} must be given.")
        return {name: _positive(values[name], quantity, name) for name, quantity in self.quantities.items()}

    def _matrix(self, name: str) -> Tensor:
        """(n_species, n_species) of one parameter."""
        n_species = max(1, len(self.elements))
        matrix = torch.empty((n_species, n_species), dtype=self.dtype)
        indices = combinations_with_replacement(range(n_species), 2)
        for (i, j), values in zip(indices, self._given.values(), strict=True):
            matrix[i, j] = matrix[j, i] = values[name]
        return matrix

    species_table: Tensor


class LennardJones(PairPotential):
    """φ(r) = 4ε [(σ/r)¹² - (σ/r)⁶] (Jones, Proc. R. Soc. A 106, 463, 1924).

    Unlike elements mix by Lorentz and Berthelot: σ = (σ_a + σ_b) / 2, ε = √(ε_a ε_b).
    """

    kind, form = "lennard-jones", 0
    quantities: ClassVar = {"epsilon": "energy", "sigma": "length"}

    def pair_energies(self, distances: Tensor, graph: Graph) -> Tensor:
        """See the class."""
        epsilon, sigma = self.parameters_of(graph)
        sixth = (sigma / distances) ** 6
        return 4 * epsilon * sixth * (sixth - 1)

    def coefficients(self) -> np.ndarray:
        """4 ε σ¹² and 4 ε σ⁶."""
        epsilon, sigma = (getattr(self, name).double().cpu().numpy() for name in self.quantities)
        return np.stack([4 * epsilon * sigma**12, 4 * epsilon * sigma**6, 0 * sigma], axis=-1)

    def mix(self, first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
        """Lorentz-Berthelot."""
        return {
            "epsilon": (first["epsilon"] * second["epsilon"]) ** 0.5,
            "sigma": 0.5 * (first["sigma"] + second["sigma"]),
        }


class Morse(PairPotential):
    """φ(r) = D [(1 - exp(-a (r - r₀)))² - 1] (Morse, Phys. Rev. 34, 57, 1929).

    `width` is 1/a. There is no established mixing rule: name every pair of unlike elements.
    """

    kind, form = "morse", 1
    quantities: ClassVar = {"depth": "energy", "width": "length", "r0": "length"}

    def pair_energies(self, distances: Tensor, graph: Graph) -> Tensor:
        """See the class."""
        depth, width, r0 = self.parameters_of(graph)
        decay = torch.exp((r0 - distances) / width)
        return depth * decay * (decay - 2)

    def coefficients(self) -> np.ndarray:
        """Depth, 1 / width and r₀."""
        depth, width, r0 = (getattr(self, name).double().cpu().numpy() for name in self.quantities)
        return np.stack([depth, 1 / width, r0], axis=-1)


class ZBL(PairPotential):
    """Screened repulsion of nuclei at short distance.

    φ(r) = Z_i Z_j e²/(4πε₀ r) Σ_k c_k exp(-d_k r/a), a = 0.46850 Å / (Z_i^0.23 + Z_j^0.23)
    (Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Matter, 1985). It has no parameters;
    any element is accepted unless `elements` are given.

    With ``switching = "lammps"`` it is LAMMPS' ``pair_style zbl onset cutoff``: not φ times a step, but φ plus

        S(r) = C + A/3 t³ + B/4 t⁴,  t = max(r - onset, 0),

    with A, B and C such that the sum and its first two derivatives are zero at the cutoff.
    """

    kind = "zbl"
    _TERMS = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))

    def __init__(
        self,
        *,
        cutoff: object,
        onset: object = None,
        elements: Sequence[str] | None = None,
        switching: str = "step",
        precision: str = "float64",
    ) -> None:
        """Read what an input table says.

        Args:
            cutoff, onset, elements, precision: as `PairPotential`.
            switching: "step" (times the quintic step) or "lammps".

        Raises:
            InputError: for an impossible parameter.
        """
        super().__init__(cutoff=cutoff, onset=onset, elements=elements, precision=precision)
        if switching not in _SWITCHINGS:
            raise InputError(f"switching: {switching!r} is not known. {did_you_mean(str(switching), _SWITCHINGS)}")
        self.switching = switching

    @property
    def form(self) -> int:  # type: ignore[override]
        """Number in the fused kernel."""
        return _SWITCHINGS[self.switching]

    def pair_energies(self, distances: Tensor, graph: Graph) -> Tensor:
        """See the class."""
        charge, inverse = self._nuclei(graph)
        return charge / distances * self._screening(distances * inverse, 0)

    def brought_to_zero(self, distances: Tensor, graph: Graph) -> Tensor:
        """See the class."""
        if self.switching == "step":
            return super().brought_to_zero(distances, graph)
        charge, inverse = self._nuclei(graph)
        c, third, fourth = self._switch(charge, inverse)
        t = (distances - self.onset).clamp(min=0.0)
        energies = charge / distances * self._screening(distances * inverse, 0) + c + t**3 * (third + fourth * t)
        return torch.where(distances < self.cutoff, energies, 0.0)

    def coefficients(self) -> np.ndarray | None:
        """Z Z' e²/(4πε₀), 1/a, 0 and of LAMMPS' switching C, A/3, B/4; none for any element: its number is needed."""
        if not self.elements:
            return None
        z = np.array([atomic_numbers[symbol] for symbol in self.elements], dtype=float)
        charge, inverse = COULOMB * np.outer(z, z), (z[:, None] ** 0.23 + z**0.23) / 0.46850
        found = np.stack([charge, inverse, 0 * charge], axis=-1)
        if self.switching == "step":
            return found
        switch = self._switch(torch.from_numpy(charge), torch.from_numpy(inverse))
        return np.concatenate([found, np.stack([one.numpy() for one in switch], axis=-1)], axis=-1)

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return super().spec() | ({} if self.switching == "step" else {"switching": self.switching})

    def _nuclei(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """Z Z' e²/(4πε₀) in eV Å and 1/a in 1/Å of pairs."""
        species(graph.numbers, self.species_table)  # refuses elements that were not named
        charges = graph.numbers.to(self.dtype)
        first, second = (charges.index_select(0, atoms) for atoms in graph.pairs)
        return COULOMB * first * second, (first**0.23 + second**0.23) / 0.46850

    def _screening(self, x: Tensor, order: int) -> Tensor:
        """Σ_k c_k (-d_k)^order exp(-d_k x): a derivative of the screening function."""
        total = torch.zeros_like(x)
        for weight, decay in self._TERMS:
            total = total + weight * (-decay) ** order * torch.exp(-decay * x)
        return total

    def _switch(self, charge: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """C, A/3 and B/4 of what LAMMPS adds, from φ and its derivatives at the cutoff."""
        r, width = self.cutoff, self.cutoff - self.onset
        zeroth, first, second = (self._screening(r * inverse, order) * inverse**order for order in range(3))
        energy, slope = charge * zeroth / r, charge * (first / r - zeroth / r**2)
        curvature = charge * (second / r - 2 * first / r**2 + 2 * zeroth / r**3)
        a = (-3 * slope + width * curvature) / width**2
        b = (2 * slope - width * curvature) / width**3
        return -energy + width * slope / 2 - width**2 * curvature / 12, a / 3, b / 4


_SWITCHINGS = {"step": 2, "lammps": 3}
"""How ZBL is brought to zero -> its form in the fused kernel."""


def _length(value: object, name: str) -> float:
    return _positive(value, "length", name)


def _positive(value: object, quantity: str, name: str) -> float:
    """A positive number with unit; the error names the parameter."""
    try:
        number = units.parse(value, quantity)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if number <= 0:
        raise InputError(f"{name}: {value!r} must be positive.")
    return number


def _symbols_in(pairs: Mapping[str, object]) -> tuple[str, ...]:
    """Elements in the order in which the keys "A-B" name them."""
    return tuple(dict.fromkeys(symbol for key in pairs for symbol in key.split("-")))


def _pair_key(key: str, elements: Sequence[str]) -> frozenset[str]:
    """The one or two elements that a key "A-B" or "A" names."""
    symbols = key.split("-")
    unknown = [symbol for symbol in symbols if symbol not in elements]
    if unknown or len(symbols) > 2:
        example = f"{elements[0]}-{elements[-1]}"
        raise InputError(f'{key!r} is not a pair of {", ".join(elements)}. Write for example "{example}".')
    return frozenset(symbols)
