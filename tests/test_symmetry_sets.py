"""Sets of symmetry functions: what is in them, and which of many are chosen."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlmd.config import ACSF
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.descriptors.symmetry_sets import by_radii, evenly_spaced, pool
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.neighbors import build_graph
from mlmd.train.environments import features_of
from mlmd.train.functions import selected, symmetry_functions

ATOMIC = {"Li": 1.67, "P": 0.98, "S": 0.88}
"""Å, of the program of Zhang, Yin and Liu."""


def warm(n_frames: int = 6) -> list[LabelledFrame]:
    """Rock salt with atoms off their sites; oxygen more than magnesium."""
    frames = []
    for index in range(n_frames):
        atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
        size = np.where(atoms.symbols == "O", 0.2, 0.1)[:, None]
        atoms.positions += size * np.random.default_rng(index).standard_normal((8, 3))
        frames.append(LabelledFrame(atoms, None, None, None, "", f"warm@{index}"))
    return frames


def test_an_evenly_spaced_set_has_all_pairs_of_elements() -> None:
    made = evenly_spaced(("Si", "O"), "5 Å", n_radial=4, n_angular=2, zetas=(1.0, 4.0), angular_cutoff="4 Å")
    descriptor = Symmetry(elements=("Si", "O"), functions=made)
    assert descriptor.n_features == 2 * 4 + 3 * 2 * 2 * 2
    radial = [one for one in made if one.kind == "G2" and one.centre == "O" and one.neighbours == ("Si",)]
    assert [one.shift for one in radial] == pytest.approx([1, 2, 3, 4])
    assert {one.eta for one in radial} == {0.5}  # a width of their distance
    assert {one.cutoff for one in made} == {4.0, 5.0}
    again = Symmetry.restore(descriptor.spec(), {})
    assert again.functions == descriptor.functions


def test_a_set_by_radii_has_the_widths_of_the_paper() -> None:
    made = by_radii(("Li", "P", "S"), "6 Å", ATOMIC, scales=[36.0], n_angular=1, zetas=[2.0])
    assert len(made) == 3 * (3 + 6 * 2)
    radial = {one.neighbours: one.eta for one in made if one.centre == "Li" and one.kind == "G2"}
    # ½ / (R_i² + R_j²), as s = r_c²: ½ / (2.7889 + 0.9604) for Li-P
    expected = {("Li",): 0.08964108, ("P",): 0.13335823, ("S",): 0.14031937}
    assert radial == pytest.approx(expected, rel=1e-6)
    sides = {one.neighbours: one.etas for one in made if one.centre == "Li" and one.kind == "G4" and one.sign > 0}
    # ½ R_k² / D and so on, D = (1.67 · 0.98)² + (0.98 · 0.88)² + (1.67 · 0.88)² = 5.58192
    assert sides["P", "S"] == pytest.approx((0.06936687, 0.08602778, 0.24981540), rel=1e-5)
    assert sides["Li", "Li"] == pytest.approx((1 / (6 * 2.7889),) * 3)
    wide = by_radii(("Li", "P", "S"), "6 Å", ATOMIC, scales=[36.0], n_angular=1, zetas=[2.0], kind="G5")
    (one,) = (one for one in wide if (one.centre, one.neighbours, one.sign) == ("Li", ("P", "S"), 1.0))
    assert one.etas is not None
    assert one.etas[:2] == pytest.approx((expected["P",], expected["S",]), rel=1e-6)  # those of the pairs


def test_a_function_by_radii_is_the_sum_of_the_paper() -> None:
    # one triplet with its centre at Li, P in 1.5 Å and S in 1.2 Å, at a right angle; ζ = 2, γ = 1, s = 50, r_c = 4 Å
    atoms = Atoms("LiPS", positions=[[0, 0, 0], [1.5, 0, 0], [0, 1.2, 0]])
    made = by_radii(("Li", "P", "S"), "4 Å", ATOMIC, scales=[50.0], n_angular=1, zetas=[2.0])
    values = Symmetry(elements=("Li", "P", "S"), functions=made).features(build_graph(atoms, 4.0))[0].numpy()
    places = {(one.neighbours, one.sign): n for n, one in enumerate(one for one in made if one.centre == "Li")}
    between = np.hypot(1.5, 1.2)
    r = {"P": 1.5, "S": 1.2, "PS": between}
    taper = {name: 0.5 * (np.cos(np.pi * length / 4) + 1) for name, length in r.items()}
    gauss = np.exp(-0.5 * 50 / (1.67**2 + 0.98**2) * (1.5 / 4) ** 2)
    assert values[places[("P",), 1.0]] == pytest.approx(gauss * taper["P"])
    d = (1.67 * 0.98) ** 2 + (0.98 * 0.88) ** 2 + (1.67 * 0.88) ** 2
    exponent = 0.5 * 50 / d * ((0.88 * 1.5 / 4) ** 2 + (0.98 * 1.2 / 4) ** 2 + (1.67 * between / 4) ** 2)
    expected = 0.5 * np.exp(-exponent) * np.prod(list(taper.values()))  # 2^(1-ζ) (1 + cos 90°)^ζ = ½
    assert values[places[("P", "S"), 1.0]] == pytest.approx(expected)


def test_radii_are_those_of_all_elements() -> None:
    assert by_radii(("Li",), "6 Å", n_angular=0, scales=[36.0])[0].eta == pytest.approx(0.25 / 1.28**2)  # Cordero
    assert by_radii(("Li",), "6 Å", "van-der-waals", n_angular=0, scales=[36.0])[0].eta == pytest.approx(0.25 / 1.82**2)
    with pytest.raises(InputError, match="radii: S has none"):
        by_radii(("Li", "S"), "6 Å", {"Li": 1.67})
    with pytest.raises(InputError, match="radii: Li has none"):
        by_radii(("Li",), "6 Å", {"Li": 0.0})
    with pytest.raises(InputError, match="radii: Na is none of the elements, Li"):
        symmetry_functions(ACSF(functions="radii", radii={"Li": 1.6, "Na": 1.9}), [], ("Li",), 1)


def test_a_weighted_set_is_the_sum_of_those_of_elements_times_their_atomic_numbers() -> None:
    elements, z = ("O", "Mg"), {"O": 8, "Mg": 12}
    settings = {"n_radial": 3, "n_angular": 1, "zetas": (1.0,)}
    weighted = evenly_spaced(elements, "4 Å", weighted=True, **settings)  # type: ignore[arg-type]
    each = evenly_spaced(elements, "4 Å", **settings)  # type: ignore[arg-type]
    assert len(weighted) == len(evenly_spaced(("O",), "4 Å", **settings)) * 2  # type: ignore[arg-type]
    graph = build_graph(warm(1)[0].atoms, 4.0)
    of_all = Symmetry(elements=elements, functions=weighted).features(graph)
    apart = Symmetry(elements=elements, functions=each).features(graph)
    columns = [one for one in each if one.centre == "O"]
    for place, one in enumerate(one for one in weighted if one.centre == "O"):
        same = [n for n, other in enumerate(columns) if replace(other, centre="O", neighbours=()) == one]
        expected = sum(np.prod([z[symbol] for symbol in columns[n].neighbours]) * apart[:, n] for n in same)
        assert len(same) == (2 if one.kind == "G2" else 3)
        torch.testing.assert_close(of_all[:, place], expected)


def test_the_pool_grows_geometrically() -> None:
    made = pool(("Si",), "6 Å", n_radial=4, n_angular=2, zetas=(1.0,))
    centred = [one.eta * 36 for one in made if one.kind == "G2" and not one.shift]
    assert centred == pytest.approx([1, 2, 4, 8, 16])
    shifted = {one.shift: one.eta for one in made if one.kind == "G2" and one.shift}
    places = [6, 6 / 2**0.5, 3, 3 / 2**0.5, 1.5]
    assert list(shifted) == pytest.approx(places[1:])
    assert list(shifted.values()) == pytest.approx([1 / (a - b) ** 2 for a, b in itertools.pairwise(places)])
    assert sorted({one.eta * 36 for one in made if one.kind == "G4"}) == pytest.approx([1, 2, 4])
    assert len(made) == 9 + 3 * 2


@pytest.mark.parametrize("selection", ["farthest", "cur"])
def test_a_choice_follows_the_data_and_not_the_order_of_structures(selection: str) -> None:
    frames, elements = warm(), ("O", "Mg")
    many = Symmetry(elements=elements, functions=pool(elements, "4 Å"))
    chosen = selected(many, frames, 9, selection, 1)
    assert [sum(one.centre == symbol for one in chosen) for symbol in elements] == [9, 9]
    assert {*chosen} <= {*many.functions}
    assert selected(many, frames[::-1], 9, selection, 2) == chosen
    # with other atoms other functions
    other = [replace(frame, atoms=frame.atoms.copy()) for frame in frames]
    for frame in other:
        frame.atoms.set_cell(0.8 * frame.atoms.cell, scale_atoms=True)
    assert selected(many, other, 9, selection, 1) != chosen


@pytest.mark.parametrize("selection", ["farthest", "cur"])
def test_of_functions_that_are_nearly_the_same_one_is_chosen(selection: str) -> None:
    shapes = [("G2", 0.5, 0.0), ("G2", 4.0, 2.2), ("G2", 4.0, 3.4)]
    kinds = [SymmetryFunction(kind, "O", (), 4.0, eta=eta, shift=shift) for kind, eta, shift in shapes]
    twice = [replace(one, eta=one.eta * factor) for one in kinds for factor in (1.0, 1.001)]
    faint = SymmetryFunction("G2", "O", (), 4.0, eta=200.0, shift=0.3)  # no atom is so near
    of_others = SymmetryFunction("G1", "Mg", (), 4.0)
    many = Symmetry(elements=("O", "Mg"), functions=[*twice, faint, of_others])
    chosen = selected(many, warm(), 3, selection, 1)
    assert [one.shift for one in chosen if one.centre == "O"] == [0.0, 2.2, 3.4]
    # and where more are asked for than differ, those that do
    many = Symmetry(elements=("O", "Mg"), functions=[*kinds, *kinds, of_others])
    assert len(selected(many, warm(), 5, selection, 1)) == 3 + 1


@pytest.mark.parametrize("selection", ["farthest", "cur"])
def test_chosen_functions_leave_less_of_the_pool_unexplained_than_others(selection: str) -> None:
    many, frames = Symmetry(elements=("O", "Mg"), functions=pool(("O", "Mg"), "4 Å")), warm(20)
    chosen = selected(many, frames, 16, selection, 1)
    of_oxygen = [one for one in many.functions if one.centre == "O"]
    features, kinds = features_of(many, frames, 1)
    columns = features[kinds == 0, : len(of_oxygen)]
    columns, spread = columns - columns.mean(dim=0), columns.std(dim=0)
    varying = (spread > 1e-2 * spread.max()).nonzero().squeeze(1).tolist()
    columns = columns[:, varying] / spread[varying]

    def unexplained(places: list[int]) -> float:
        solution = torch.linalg.lstsq(columns[:, places], columns, driver="gelsd").solution
        return float((columns - columns[:, places] @ solution).square().mean())

    generator = np.random.default_rng(1)
    own = unexplained([place for place, one in enumerate(varying) if of_oxygen[one] in chosen])
    random = [unexplained(generator.choice(len(varying), 16, replace=False).tolist()) for _ in range(20)]
    assert own < min(random)


def test_nothing_is_chosen_where_all_atoms_are_alike() -> None:
    crystal = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    frames = [LabelledFrame(crystal, None, None, None, "", "crystal")]
    many = Symmetry(elements=("O", "Mg"), functions=pool(("O", "Mg"), "4 Å"))
    with pytest.raises(InputError, match="all atoms of O in the training structures have the same surroundings"):
        selected(many, frames, 4, "cur", 1)


def test_functions_of_the_input_are_those_of_their_set() -> None:
    frames, elements = warm(), ("O", "Mg")
    chosen = symmetry_functions(ACSF(functions="selected", n_functions=5, cutoff=4.0), frames, elements, 1)
    assert len(chosen) == 10
    radial = symmetry_functions(
        ACSF(functions="selected", n_functions=5, n_angular=0, cutoff=4.0, weighted=True), frames, elements, 1
    )
    assert {(one.kind, one.neighbours) for one in radial} == {("G2", ())}
    assert str(evenly_spaced(("Li",), "6 Å", n_radial=2, n_angular=0)[1]) == "G2 of Li-Li: η 0.125, r_s 4, cutoff 6 Å"
