"""The many-body tensor representation against DScribe, loops over all atoms, and closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule as known_molecule
from dscribe_oracle import ELEMENTS, crystal, dscribe, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmd.descriptors import DESCRIPTORS
from mlmd.descriptors.mbtr import MBTR
from mlmd.descriptors.mbtr_terms import GEOMETRIES, Term, channels
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.registry import find

GRIDS: dict[str, tuple[float, float, float]] = {
    "number": (0.0, 18.0, 0.4),
    "distance": (0.0, 8.0, 0.3),
    "inverse_distance": (0.0, 1.2, 0.05),
    "angle": (-10.0, 190.0, 7.0),
    "cosine": (-1.2, 1.2, 0.1),
    "dihedral": (-10.0, 190.0, 7.0),
    "dihedral_cosine": (-1.2, 1.2, 0.1),
}
"""Minimum, maximum and width."""
WEIGHTS: dict[str, list[dict[str, Any]]] = {
    "unity": [{"cutoff": 20.0}],
    "exponential": [{"scale": 0.7, "threshold": 1e-3}],
    "inverse_square": [{"cutoff": 4.0}],
    "smooth_cutoff": [{"cutoff": 3.5}, {"cutoff": 3.0, "sharpness": 3.5}],
}
OF: dict[int, tuple[str, ...]] = {
    2: ("unity", "exponential", "inverse_square"),
    3: ("unity", "exponential", "smooth_cutoff"),
}
"""Weightings that DScribe has."""
NORMS = ("none", "l2", "n_atoms", "valle_oganov")


def term(geometry: str, weighting: str = "unity", **settings: Any) -> dict[str, Any]:
    low, high, width = GRIDS[geometry]
    grid = {"minimum": low, "maximum": high, "n_points": 41, "width": width}
    return {"geometry": geometry, "weighting": weighting, **grid, **settings}


def mbtr(*terms: Mapping[str, Any], elements: Sequence[str] = ELEMENTS) -> MBTR:
    return MBTR(elements=elements, terms=terms)


def of(descriptor: MBTR, atoms: Atoms | Sequence[Atoms]) -> np.ndarray:
    return descriptor.features(build_graph(atoms, descriptor.cutoff)).numpy()


def in_dscribes_words(weighting: str, numbers: Mapping[str, float]) -> dict[str, Any]:
    if weighting == "exponential":
        return {"function": "exp", **numbers}
    renamed = {"r_cut" if name == "cutoff" else name: value for name, value in numbers.items()}
    return {"function": weighting, **({} if weighting == "unity" else renamed)}


DSCRIBES = [
    (geometry, weighting, numbers, norm, periodic)
    for geometry, k in GEOMETRIES.items()
    if k in OF
    for weighting in OF[k]
    for numbers in WEIGHTS[weighting]
    for norm in NORMS
    for periodic in (False, True)
    if not (periodic and weighting == "unity") and (periodic or norm != "valle_oganov")
]


@pytest.mark.parametrize(("geometry", "weighting", "numbers", "norm", "periodic"), DSCRIBES)
def test_spectra_of_pairs_and_triplets_are_dscribes(
    geometry: str,
    weighting: str,
    numbers: dict[str, float],
    norm: str,
    periodic: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low, high, width = GRIDS[geometry]
    oracle = dscribe(monkeypatch).MBTR(
        geometry={"function": geometry},
        grid={"min": low, "max": high, "n": 41, "sigma": width},
        weighting=in_dscribes_words(weighting, numbers),
        normalization=norm,
        species=ELEMENTS,
        periodic=periodic,
    )
    structures = [crystal(3, 0), crystal(6, 1)] if periodic else [molecule(5, 0, 3.0), molecule(9, 1, 4.0)]
    expected = oracle.create(structures)
    descriptor = mbtr(term(geometry, weighting, normalisation=norm, **numbers))
    assert np.abs(expected).max(axis=1).min() > 1e-5  # something to compare
    # angles by the arc of a cosine lose half of their digits where it is near ±1
    assert of(descriptor, structures) == pytest.approx(expected, rel=1e-9, abs=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("norm", ["none", "l2", "n_atoms"])
def test_spectra_of_atomic_numbers_are_dscribes(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"min": 0, "max": 18, "n": 41, "sigma": 0.4}
    geometry = {"function": "atomic_number"}
    oracle = dscribe(monkeypatch).MBTR(geometry=geometry, grid=grid, normalization=norm, species=ELEMENTS)
    molecules = [molecule(5, 0), molecule(9, 1)]
    descriptor = mbtr(term("number", normalisation=norm))
    assert descriptor.cutoff == 0.0
    assert of(descriptor, molecules) == pytest.approx(oracle.create(molecules), rel=1e-12, abs=1e-13)


def test_spectra_stand_where_dscribe_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for geometry, word in (("distance", "distance"), ("cosine", "cosine")):
        oracle = dscribe(monkeypatch).MBTR(
            geometry={"function": word}, grid={"min": 0, "max": 1, "n": 41, "sigma": 1}, species=ELEMENTS
        )
        descriptor = mbtr(term("number"), term(geometry, cutoff=2.0))
        for symbols in itertools.product(ELEMENTS, repeat=GEOMETRIES[geometry]):
            expected = oracle.get_location(symbols)
            before = 4 * 41
            assert descriptor.columns(1, symbols) == slice(before + expected.start, before + expected.stop)


def images(atoms: Atoms, n: int) -> list[tuple[int, np.ndarray]]:
    """Atoms and places, first those of the cell, then their images up to n cells away."""
    cells = sorted(
        itertools.product(*(range(-n, n + 1) if one else (0,) for one in atoms.pbc)), key=lambda s: s != (0,) * 3
    )
    return [(i, atoms.positions[i] + np.array(s) @ atoms.cell.array) for s in cells for i in range(len(atoms))]


def weight_written_out(weighting: str, numbers: Mapping[str, float], legs: Sequence[float]) -> float:
    if weighting == "exponential":
        w = math.exp(-numbers["scale"] * sum(legs))
        return w if w >= numbers["threshold"] else 0.0
    if max(legs) >= numbers["cutoff"]:
        return 0.0
    if weighting == "unity":
        return 1.0
    y = numbers.get("sharpness", 2.0)
    return math.prod(1 + y * (r / numbers["cutoff"]) ** (y + 1) - (y + 1) * (r / numbers["cutoff"]) ** y for r in legs)


def paths_written_out(
    atoms: Atoms, weighting: str, numbers: Mapping[str, float], longest: float, n: int
) -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """Dihedral angles of all paths by ASE, with weights, that begin in the cell, each from both of its ends: half."""
    every = images(atoms, n)
    where = np.array([place for _, place in every])
    lengths = np.linalg.norm(where[:, None] - where[None], axis=2)
    near = lengths < longest
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for i in range(len(atoms)):
        for j in np.flatnonzero(near[i]):
            for k in np.flatnonzero(near[j]):
                for end in np.flatnonzero(near[k]):
                    path = [i, int(j), int(k), int(end)]
                    if len(set(path)) < 4:
                        continue
                    legs = [lengths[a, b] for a, b in itertools.pairwise(path)]
                    weight = 0.5 * weight_written_out(weighting, numbers, legs)
                    if weight:
                        symbols = tuple(atoms.symbols[every[one][0]] for one in path)
                        angle = Atoms("H4", where[path]).get_dihedral(0, 1, 2, 3)
                        found.setdefault(min(symbols, symbols[::-1]), []).append((min(angle, 360 - angle), weight))
    return found


PATHS: list[tuple[str, dict[str, float], float]] = [
    ("unity", {"cutoff": 2.7}, 2.7),
    ("exponential", {"scale": 0.9, "threshold": 3e-3}, -math.log(3e-3) / 0.9 - 2 * 0.9),
    ("smooth_cutoff", {"cutoff": 2.8}, 2.8),
    ("smooth_cutoff", {"cutoff": 2.8, "sharpness": 4.0}, 2.8),
]
"""Weighting, its numbers, and the longest distance from atom to atom, Å; no two atoms are nearer than 0.9 Å."""


@pytest.mark.parametrize("geometry", ["dihedral", "dihedral_cosine"])
@pytest.mark.parametrize(("weighting", "numbers", "longest"), PATHS)
@pytest.mark.parametrize("periodic", [False, True], ids=["molecule", "crystal"])
def test_spectra_of_four_atoms_are_loops_over_all_paths(
    geometry: str, weighting: str, numbers: dict[str, float], longest: float, periodic: bool
) -> None:
    atoms = crystal(5, 2) if periodic else molecule(7, 4, 3.0)
    descriptor = mbtr(term(geometry, weighting, **numbers))
    values = of(descriptor, atoms)[0]
    paths = paths_written_out(atoms, weighting, numbers, longest, 3)
    assert sum(map(len, paths.values())) > 30
    low, high, width = GRIDS[geometry]
    points, step = np.linspace(low, high, 41), (high - low) / 40
    expected = np.zeros_like(values)
    for symbols, found in paths.items():
        for angle, weight in found:
            x = angle if geometry == "dihedral" else math.cos(math.radians(angle))
            bounds = np.append(points - 0.5 * step, points[-1] + 0.5 * step)
            area = [0.5 * math.erf((bound - x) / (width * math.sqrt(2))) for bound in bounds]
            expected[descriptor.columns(0, symbols)] += weight * np.diff(area) / step
    assert np.abs(expected).max() > 1e-4
    # ASE's angles by the arc of a cosine lose half of their digits near 0 and 180°
    assert values == pytest.approx(expected, rel=1e-7, abs=1e-7 * np.abs(expected).max())


def test_hydrogen_peroxide_has_the_one_dihedral_angle_that_ase_finds() -> None:
    atoms = known_molecule("H2O2")
    assert str(atoms.symbols) == "O2H2"
    angle = atoms.get_dihedral(2, 0, 1, 3)
    given = {"geometry": "dihedral", "minimum": 0, "maximum": 180, "n_points": 1801, "width": 0.5, "cutoff": "1.6 Å"}
    (spectrum,) = of(mbtr(given, elements=("O", "H")), atoms)
    descriptor = mbtr(given, elements=("O", "H"))
    own = descriptor.columns(0, ("H", "O", "O", "H"))
    assert spectrum.sum() == pytest.approx(spectrum[own].sum())
    assert 0.1 * spectrum.sum() == pytest.approx(1.0, rel=1e-9)  # one Gaussian of area 1
    assert 0.1 * np.argmax(spectrum[own]) == pytest.approx(min(angle, 360 - angle), abs=0.06)


def test_paths_with_three_atoms_on_a_line_have_no_dihedral_and_no_infinite_derivative() -> None:
    acetylene = known_molecule("C2H2")
    descriptor = mbtr(term("dihedral", cutoff=1.5), term("dihedral_cosine", cutoff=1.5), term("angle", cutoff=1.5))
    graph = build_graph(acetylene, descriptor.cutoff)
    vectors = graph.vectors.clone().requires_grad_(True)
    values = descriptor.features(graph.with_vectors(vectors))
    of_four = 41 * len(channels(4, 4)) * 2
    assert not values[:, :of_four].any()
    assert values[:, of_four:].any()
    (gradient,) = torch.autograd.grad(values.square().sum(), vectors)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize(("k", "number"), [(1, 3), (2, 6), (3, 18), (4, 45)])
def test_a_set_of_elements_and_its_reverse_have_one_spectrum(k: int, number: int) -> None:
    sets = channels(k, 3)
    assert len(sets) == len(set(sets)) == number  # (3^k + those that are their own reverse) / 2
    assert {one[::-1] if one not in sets else one for one in itertools.product(range(3), repeat=k)} == set(sets)


def everything(norm: str = "none") -> MBTR:
    """All geometries, with several weightings."""
    return mbtr(
        term("number", normalisation=norm),
        term("distance", "exponential", scale=0.8, threshold=1e-2, normalisation=norm),
        term("inverse_distance", "smooth_cutoff", cutoff=4.0, normalisation=norm),
        term("angle", "smooth_cutoff", cutoff=3.0, normalisation=norm),
        term("cosine", "exponential", scale=0.8, threshold=1e-3, normalisation=norm),
        term("dihedral", "exponential", scale=1.2, threshold=5e-3, normalisation=norm),
        term("dihedral_cosine", "smooth_cutoff", cutoff=2.3, normalisation=norm),
    )


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), repeats=st.sampled_from([(2, 1, 1), (1, 2, 2), (1, 3, 1)]))
def test_a_supercell_has_the_spectra_of_its_cell_as_many_times(seed: int, repeats: tuple[int, int, int]) -> None:
    atoms = crystal(3, seed)
    large = atoms * repeats
    assert of(everything(), large) == pytest.approx(math.prod(repeats) * of(everything(), atoms), rel=1e-7, abs=1e-6)
    assert of(everything("n_atoms"), large) == pytest.approx(of(everything("n_atoms"), atoms), rel=1e-7, abs=1e-7)


def test_structures_of_a_graph_have_the_rows_that_each_has_alone() -> None:
    structures = [crystal(4, 0), molecule(6, 1), molecule(1, 2), crystal(5, 3)]
    together = of(everything(), structures)
    for row, one in zip(together, structures, strict=True):
        assert row == pytest.approx(of(everything(), one)[0], rel=1e-12, abs=1e-12)


def test_pairs_beyond_the_reach_of_a_term_do_not_count() -> None:
    atoms = crystal(4, 6)
    descriptor = everything()
    wider = descriptor.features(build_graph(atoms, descriptor.cutoff + 3)).numpy()
    assert np.array_equal(wider, of(descriptor, atoms))


@pytest.mark.parametrize("norm", ["none", "l2", "n_atoms"])
@pytest.mark.parametrize("periodic", [False, True], ids=["molecule", "crystal"])
def test_derivatives_by_vectors_are_those_of_finite_differences(norm: str, periodic: bool) -> None:
    atoms = crystal(2, 4) if periodic else molecule(5, 4, 3.0)
    coarse = {"n_points": 7, "normalisation": norm}
    descriptor = mbtr(
        term("distance", "inverse_square", **{"cutoff": 3.0, **coarse}),
        term("inverse_distance", "exponential", **{"scale": 0.8, "threshold": 0.05, **coarse}),
        term("angle", "exponential", **{"scale": 0.8, "threshold": 0.01, **coarse}),
        term("cosine", "smooth_cutoff", **{"cutoff": 2.5, **coarse}),
        term("dihedral", "smooth_cutoff", **{"cutoff": 2.3, **coarse}),
        term("dihedral_cosine", "exponential", **{"scale": 1.0, "threshold": 0.02, **coarse}),
    )
    graph = build_graph(atoms, descriptor.cutoff)
    mixing = torch.randn(descriptor.n_features, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def mixed(vectors: torch.Tensor) -> torch.Tensor:
        return descriptor.features(graph.with_vectors(vectors)) @ mixing

    vectors = graph.vectors.clone().requires_grad_(True)
    assert float(torch.autograd.grad(mixed(vectors).sum(), vectors)[0].abs().max()) > 0.01
    assert torch.autograd.gradcheck(mixed, vectors, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_the_area_of_a_spectrum_is_the_sum_of_weights_on_a_grid_as_coarse_as_it_may_be() -> None:
    atoms = molecule(6, 7)
    for n_points in (5, 500):
        descriptor = mbtr(term("distance", cutoff=20.0, minimum=-4.0, maximum=12.0, n_points=n_points))
        area = of(descriptor, atoms).sum() * 16 / (n_points - 1)
        assert area == pytest.approx(15, rel=1e-9)  # pairs of six atoms


def test_the_input_of_a_representation_gives_it_again() -> None:
    made = everything("l2")
    again = find("mlmd.descriptors", made.spec()["kind"], DESCRIPTORS).restore(made.spec(), made.state_dict())
    assert again.terms == made.terms
    assert (again.n_features, again.cutoff, again.kind) == (made.n_features, made.cutoff, "structure")
    assert np.array_equal(of(again, crystal(3, 1)), of(made, crystal(3, 1)))
    read = Term.read(term("distance", cutoff="0.5 nm"))
    assert read.cutoff == 5.0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"geometry": "distances"}, "Did you mean 'distance'"),
    ({"weighting": "exponental"}, "Did you mean 'exponential'"),
    ({"normalisation": "atoms"}, "'atoms' is not a normalisation of MBTR. Did you mean 'n_atoms'"),
    ({"geometry": "angle", "weighting": "inverse_square"}, "not of angle, of 3 atoms. Try exponential|not of angle"),
    ({"geometry": "dihedral", "normalisation": "valle_oganov"}, "valle_oganov is not of dihedral, of 4 atoms"),
    ({"minimum": 8.0}, "from 8 to 8 has no points"),
    ({"maximum": math.inf}, "from 0 to inf"),
    ({"n_points": 1}, "two points or more, not 1"),
    ({"n_points": 7.5}, "not 7.5"),
    ({"width": 0.0}, "positive width"),
    ({"width": "wide"}, "width of a term of MBTR is a number"),
    ({"cutoff": None}, "needs cutoff"),
    ({"cutoff": -3.0}, "cutoff is positive"),
    ({"cutoff": "3 eV"}, "unit of length"),
    ({"scale": 1.0}, "scale is not of distance with weighting unity"),
    ({"weighting": "exponential"}, "cutoff is not of|needs scale and threshold"),
    ({"weighting": "exponential", "cutoff": None, "scale": 1.0}, "needs scale and threshold"),
    ({"weighting": "exponential", "cutoff": None, "scale": 1.0, "threshold": 1.0}, "threshold of weights lies below 1"),
    ({"weighting": "smooth_cutoff", "sharpness": 0.5}, "sharpness of a smooth cutoff is 1 or more"),
    ({"sigma": 0.1}, "'sigma' is not of a term of MBTR"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=str)
def test_impossible_terms_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mbtr({**term("distance", cutoff=5.0), **change})


def test_what_a_representation_is_not_for_is_refused() -> None:
    descriptor = mbtr(term("distance", cutoff=4.0, normalisation="valle_oganov"))
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: of(descriptor, [crystal(3, 0), molecule(3, 0)]), "structure 1 is not periodic .* no volume"),
        (lambda: of(mbtr(term("number")), Atoms("Si")), "also has Si"),
        (lambda: descriptor.features(build_graph(crystal(3, 0), 4.0), slice(0, 1)), "whole structures"),
        (lambda: descriptor.columns(0, ("H", "Si")), "H-Si is not a set of 2 of H, C, O, S"),
        (lambda: descriptor.columns(0, ("H",)), "H is not a set of 2"),
        (lambda: MBTR(elements=ELEMENTS, terms=[]), "needs elements and terms"),
        (lambda: MBTR(elements=("H", "H"), terms=[term("number")]), "H is given twice"),
        (lambda: Term.read({"geometry": "distance"}), "needs minimum, maximum, n_points, width"),
    ]
    for call, words in refusals:
        with pytest.raises(InputError, match=words):
            call()
