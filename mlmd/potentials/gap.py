"""Gaussian approximation potentials of QUIP: sparse Gaussian processes of SOAP power spectra, and of distances.

    E = Σ_i e0_i + Σ_t Σ_x Σ_s α_ts k_t(x, x_ts)

over terms t, what their descriptors give (x) and sparse points (s): of `soap` with k = δ² (x · x_s + σ0²)^ζ, which
becomes power spectra and a sparse Gaussian process for each set of settings, and of `distance_2b` with Gaussian kernels
(Bartók, Payne, Kondor and Csányi, Phys. Rev. Lett. 104, 136403, 2010; Bartók and Csányi, Int. J. Quantum Chem. 115,
1051, 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols

from mlmd.descriptors.soap import Soap
from mlmd.errors import InputError, ModelError
from mlmd.fitting.gaussian import SparseGaussian
from mlmd.potentials import Potential
from mlmd.potentials.combine import Sum
from mlmd.potentials.gap_file import Content, Term, read
from mlmd.potentials.gap_pairs import GaussianPairs, PairTerm
from mlmd.potentials.learned import LearnedPotential
from mlmd.precision import dtype_of

_SINCE_WEIGHTS = 1423143769
"""Version of the files from which on power spectra have the factor 1/√(2l + 1)."""
_SINCE_OWN_CENTRE = 1426512068
"""The same for centres that are part of the density of their own element only."""
_FALSE = {"F", "FALSE", ".FALSE.", "0", "N", "NO"}
_OTHER_SOAP: Final[dict[str, str]] = {
    "average": "F", "diagonal_radial": "F", "normalise": "T", "normalize": "T", "cutoff_dexp": "0", "nu_R": "2",
    "nu_S": "2", "Z_mix": "F", "R_mix": "F", "sym_mix": "F", "coupling": "T", "Z_map": "", "basis_error_exponent": "10",
    "radial_basis": "EQUISPACED_GAUSS",
}  # fmt: skip
"""Settings of `soap` that are read with one value only."""
_OTHER_PAIRS: Final[dict[str, str]] = {
    "only_intra": "F", "only_inter": "F", "resid_name": "", "tail_exponent": "0", "n_exponents": "1",
}  # fmt: skip
"""The same of `distance_2b`."""


@dataclass(frozen=True)
class _Settings:
    """What power spectra and kernels of different centres must share to be one descriptor and one regression."""

    cutoff: float
    width: float
    n_max: int
    l_max: int
    sigma: float
    central_weight: float
    kinds: frozenset[str]
    """Elements of the neighbours."""
    power: int
    offset: float
    amplitude: float


def load(path: Path | str, elements: Sequence[str] | None = None, precision: str = "float64") -> Potential:
    """A Gaussian approximation potential from the XML file of QUIP and the points beside it.

    Args:
        path: the file.
        elements: symbols, where the file does not name any because its descriptors take all atoms for alike; else
            their order.
        precision: "float64" or "float32".

    Raises:
        InputError: for a missing file, and elements that the file does not have.
        ModelError: for a damaged file, and for descriptors, kernels and settings that are not read.
    """
    path = Path(path)
    content = read(path)
    symbols = _elements(path, content, elements)
    groups: dict[_Settings, list[tuple[Term, tuple[str, ...]]]] = {}
    pairs: list[PairTerm] = []
    for term in content.terms:
        if term.descriptor == "soap":
            groups.setdefault(_settings(term, content.version, symbols), []).append((term, _centres(term, symbols)))
        elif term.descriptor == "distance_2b":
            pairs.append(_pair_term(term))
        else:
            raise term.error(f"the descriptor {term.descriptor} is not read; soap and distance_2b are.")
    parts: list[LearnedPotential | GaussianPairs] = [_spectra(one, terms, symbols) for one, terms in groups.items()]
    try:
        parts += [GaussianPairs.of(pairs, symbols)] if pairs else []
    except InputError as error:
        raise ModelError(f"{path}: {error}") from None
    lone = torch.tensor([content.energies.get(atomic_numbers[symbol], 0.0) for symbol in symbols], dtype=torch.float64)
    with torch.no_grad():
        first = parts[0].regressor if isinstance(parts[0], LearnedPotential) else parts[0]
        assert isinstance(first, SparseGaussian | GaussianPairs)
        first.constants.copy_(lone)
    potentials: list[Potential] = [part.to(dtype_of(precision)) for part in parts]
    return potentials[0] if len(potentials) == 1 else Sum(potentials)


def _elements(path: Path, content: Content, given: Sequence[str] | None) -> tuple[str, ...]:
    """Symbols that the descriptors name, else those that the user gives or that the potential was trained on."""
    named: dict[str, None] = {}
    for term in content.terms:
        for key in ("species_Z", "Z", "Z1", "Z2"):
            named |= dict.fromkeys(symbol for symbol in _symbols(term, key) if symbol)
    if named and given and set(named) != set(given):
        raise InputError(f"{path} has {', '.join(named)}; elements = {', '.join(given)} was given.")
    symbols = tuple(given or named or content.trained_on)
    if not symbols:
        raise InputError(f'{path} does not say which elements it is for. Give them, e.g. elements = ["Si"].')
    return symbols


def _symbols(term: Term, key: str) -> list[str]:
    """The elements that an option names by their numbers; an empty string for 0, which is any."""
    found = []
    for word in term.options.get(key, "").split():
        if not (word.isdigit() and int(word) < len(chemical_symbols)):
            raise term.error(f"{key}: {word[:20]!r} is not an atomic number.")
        found.append(chemical_symbols[int(word)] if int(word) else "")
    return found


def _number(term: Term, *keys: str, default: float | None = None) -> float:
    """An option under one of its names."""
    text = next((term.options[key] for key in keys if key in term.options), None)
    if text is None and default is not None:
        return default
    try:
        return float(text or "")
    except ValueError:
        raise term.error(f"{keys[0]}: {'is missing' if text is None else f'{text[:20]!r} is not a number'}.") from None


def _true(text: str) -> bool:
    return text.upper() not in _FALSE


def _check(term: Term, known: Mapping[str, str], kernel: str) -> None:
    """Refuse settings that mean what mlmd does not compute."""
    for key, needed in known.items():
        found = term.options.get(key, needed)
        same = _true(found) == _true(needed) if needed in ("T", "F") else found == needed
        if not same and not (needed[:1].isdigit() and _number(term, key) == float(needed)):
            raise term.error(f"{term.descriptor} with {key} = {found} is not read.")
    if term.kernel != kernel:
        raise term.error(f"{term.descriptor} with a covariance {term.kernel} is not read; {kernel} is.")


def _settings(term: Term, version: int, symbols: Sequence[str]) -> _Settings:
    """Of a term of power spectra."""
    _check(term, _OTHER_SOAP, "dot_product")
    if version < _SINCE_WEIGHTS:
        raise term.error(f"power spectra of files before version {_SINCE_WEIGHTS} (2015) are others and are not read.")
    kinds = _kinds(term, symbols)
    alone = len(kinds) == 1 or (
        version >= _SINCE_OWN_CENTRE and not _true(term.options.get("central_reference_all_species", "F"))
    )
    if not alone:
        raise term.error("centres that are part of the density of every element are not read.")
    if term.power != int(term.power) or term.power < 1:
        raise term.error(f"a covariance to the power of {term.power:g} is not read; whole numbers from 1 are.")
    return _Settings(
        cutoff=_number(term, "cutoff"),
        width=_number(term, "cutoff_transition_width", default=0.5),
        n_max=int(_number(term, "n_max")),
        l_max=int(_number(term, "l_max")),
        sigma=_number(term, "atom_gaussian_width", "atom_sigma"),
        central_weight=_number(term, "central_weight", default=1.0),
        kinds=frozenset(kinds),
        power=int(term.power),
        offset=_number(term, "covariance_sigma0", default=0.0) ** 2,
        amplitude=term.amplitude,
    )


def _kinds(term: Term, symbols: Sequence[str]) -> list[str]:
    """Elements of the neighbours, in the order of the term's features."""
    kinds = _symbols(term, "species_Z") or [""]
    if kinds == [""] and len(symbols) == 1:
        return [*symbols]
    if "" in kinds:
        raise term.error(f"takes all neighbours for alike, which goes for one element, not for {', '.join(symbols)}.")
    if set(kinds) != set(symbols):
        lacking = ", ".join(symbol for symbol in symbols if symbol not in kinds)
        raise term.error(f"neighbours that do not count ({lacking}) are not read.")
    return kinds


def _centres(term: Term, symbols: Sequence[str]) -> tuple[str, ...]:
    """Elements of the atoms that a term gives an energy to."""
    found = _symbols(term, "Z") or [""]
    return tuple(symbols) if "" in found else tuple(found)


def _spectra(one: _Settings, terms: Sequence[tuple[Term, tuple[str, ...]]], symbols: Sequence[str]) -> LearnedPotential:
    """Power spectra and the sparse Gaussian process of all terms that share their settings."""
    place = terms[0][0]
    try:
        descriptor = Soap(
            elements=symbols,
            cutoff=one.cutoff,
            n_max=one.n_max,
            l_max=one.l_max,
            sigma=one.sigma,
            basis="quip",
            taper="cosine" if one.width > 0 else "none",
            onset=1 - one.width / one.cutoff if one.width > 0 and one.cutoff > 0 else 0.0,
            central_weight=one.central_weight,
        )
        points, kinds, coefficients = [], [], []
        for term, centres in terms:
            rows = torch.from_numpy(term.points[:, _columns(term, one, symbols)])
            for centre in centres:
                points.append(rows)
                kinds.append(torch.full((len(rows),), symbols.index(centre)))
                coefficients.append(torch.from_numpy(term.coefficients))
        of_all = torch.cat(kinds)
        regressor = SparseGaussian(
            torch.cat(points),
            of_all,
            n_kinds=len(symbols),
            kernel="polynomial",
            power=one.power,
            offset=one.offset,
            amplitude=one.amplitude,
        )
        with torch.no_grad():
            regressor.coefficients.copy_(torch.cat(coefficients)[torch.argsort(of_all, stable=True)])
        return LearnedPotential(descriptor, regressor)
    except InputError as error:
        raise place.error(str(error)) from None


def _columns(term: Term, one: _Settings, symbols: Sequence[str]) -> np.ndarray:
    """For every feature of mlmd the column of QUIP, where l runs first, then of channels (Z, n) the lesser."""
    kinds = _kinds(term, symbols)
    n_channels, n_degrees = len(kinds) * one.n_max, one.l_max + 1
    expected = n_degrees * n_channels * (n_channels + 1) // 2 + 1
    if term.points.shape[1] != expected:
        raise term.error(f"points of {term.points.shape[1]} numbers; its settings have {expected}.")
    channel = np.array([kinds.index(symbol) * one.n_max + n for symbol in symbols for n in range(one.n_max)])
    first, second = (channel[places] for places in np.triu_indices(n_channels))
    greater, lesser = np.maximum(first, second), np.minimum(first, second)
    products = greater * (greater + 1) // 2 + lesser
    return np.concatenate([products * n_degrees + degree for degree in range(n_degrees)])


def _pair_term(term: Term) -> PairTerm:
    """Of a term of distances."""
    _check(term, _OTHER_PAIRS, "ard_se")
    if term.points.shape[1] != 1 or len(term.lengths) != 1:
        raise term.error(f"points of {term.points.shape[1]} numbers with {len(term.lengths)} lengths; 1 is expected.")
    one, other = (next(iter(_symbols(term, key)), "") for key in ("Z1", "Z2"))
    return PairTerm(
        pair=(one, other),
        cutoff=_number(term, "cutoff"),
        width=_number(term, "cutoff_transition_width", default=0.5),
        length=term.lengths[0],
        amplitude=term.amplitude,
        mean=term.mean,
        points=term.points[:, 0],
        weights=term.coefficients * term.cutoffs,
    )
