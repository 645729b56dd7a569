"""Symmetry functions against the sums written out, DScribe's, and in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from dscribe_oracle import ELEMENTS, crystal, dscribe, molecule
from random_symmetry import functions, random_symmetry

from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import learned


def hard_edge(x: float) -> float:
    """exp(1 - 1 / (1 - x²))."""
    return math.exp(1 - 1 / (1 - x * x)) if x < 1 else 0.0


CUTOFFS: dict[str, Callable[[float], float]] = {
    "cosine": lambda x: 0.5 * (math.cos(math.pi * x) + 1),
    "tanh": lambda x: math.tanh(1 - x) ** 3,
    "tanh-normalised": lambda x: (math.tanh(1 - x) / math.tanh(1)) ** 3,
    "exponential": hard_edge,
    "cubic": lambda x: (2 * x - 3) * x**2 + 1,
    "quintic": lambda x: ((15 - 6 * x) * x - 10) * x**3 + 1,
    "septic": lambda x: (x * (x * (20 * x - 70) + 84) - 35) * x**4 + 1,
    "nonic": lambda x: (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126) * x**5 + 1,
}
"""As n2p2's documentation has them, of x = (r - onset) / (cutoff - onset)."""


def written_out(atoms: Atoms, function: SymmetryFunction, f: Callable[[float], float]) -> np.ndarray:
    """The value of a function for every atom, by loops over ASE's neighbours; 0 for atoms of other elements."""
    centres, others, vectors = neighbor_list("ijD", atoms, function.cutoff)
    values = np.zeros(len(atoms))
    for i in range(len(atoms)):
        if atoms.symbols[i] != function.centre:
            continue
        near = [(atoms.symbols[j], v) for j, v in zip(others[centres == i], vectors[centres == i], strict=True)]
        z = {symbol: int(Atoms(symbol).numbers[0]) for symbol, _ in near}
        if function.kind in ("G1", "G2", "G3"):
            for symbol, vector in near:
                if function.neighbours and symbol != function.neighbours[0]:
                    continue
                r, weight = float(np.linalg.norm(vector)), 1 if function.neighbours else z[symbol]
                shape = {
                    "G1": 1.0,
                    "G2": math.exp(-function.eta * (r - function.shift) ** 2),
                    "G3": math.cos(function.kappa * r),
                }[function.kind]
                values[i] += weight * shape * f(r)
            continue
        for pair in itertools.combinations(near, 2):
            swapped = function.neighbours and pair[0][0] != function.neighbours[0]
            (one, v), (other, w) = pair[::-1] if swapped else pair
            if function.neighbours and sorted((one, other)) != sorted(function.neighbours):
                continue
            lengths = [float(np.linalg.norm(v)), float(np.linalg.norm(w)), float(np.linalg.norm(w - v))]
            if function.kind == "G5":
                lengths = lengths[:2]
            elif lengths[2] >= function.cutoff:
                continue
            base = 1 + function.sign * float(v @ w) / (lengths[0] * lengths[1])
            etas = function.etas or (function.eta,) * 3
            gauss = math.exp(-sum(eta * (r - function.shift) ** 2 for eta, r in zip(etas, lengths, strict=False)))
            weight = 1 if function.neighbours else z[one] * z[other]
            values[i] += 2 ** (1 - function.zeta) * weight * base**function.zeta * gauss * math.prod(map(f, lengths))
    return values


def liquid(elements: tuple[str, ...]) -> Atoms:
    generator = np.random.default_rng(3)
    atoms = Atoms(generator.choice(elements, 12), cell=[6.0, 6.5, 7.0], pbc=[True, True, False])
    corners = np.array(list(itertools.product(range(2), range(2), range(3)))) / [2, 2, 3]
    atoms.positions = corners @ atoms.cell.array + generator.uniform(-0.5, 0.5, (12, 3))
    return atoms


@pytest.mark.parametrize("taper", TAPERS)
def test_features_are_the_sums_of_behlers_paper_over_pairs_counted_once(taper: str) -> None:
    elements, onset = ("Si", "O"), 0.0 if taper.startswith("tanh") else 0.2
    atoms, given = liquid(elements), functions(elements)
    descriptor = Symmetry(elements=elements, functions=given, taper=taper, onset=onset)
    values = descriptor.features(build_graph(atoms, descriptor.cutoff)).numpy()
    columns = dict.fromkeys(elements, 0)
    for one in given:
        begin = onset * one.cutoff

        def f(r: float, begin: float = begin, cutoff: float = one.cutoff) -> float:
            return CUTOFFS[taper](max(0.0, (r - begin) / (cutoff - begin)))

        of = atoms.symbols == one.centre
        expected = written_out(atoms, one, f)[of]
        assert np.abs(expected).max() > 1e-9, one  # something to compare
        # the polynomials as they are written out lose digits near the cutoff; atomic numbers multiply what is lost
        lost = 1e-12 if one.neighbours else 3e-11
        assert values[of, columns[one.centre]] == pytest.approx(expected, rel=1e-11, abs=lost), one
        columns[one.centre] += 1
    assert not values[atoms.symbols == "O", columns["O"] :].any()  # Si has one function more


@pytest.mark.parametrize("atoms", [molecule(9, 1), crystal(12, 2)], ids=["molecule", "crystal"])
def test_functions_of_all_kinds_are_dscribes(atoms: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    acsf, cutoff = dscribe(monkeypatch).ACSF, 4.3
    radial: dict[str, list[dict[str, float]]] = {
        "G1": [{}],
        "G2": [{"eta": 0.7, "shift": 1.2}, {"eta": 3.0, "shift": 0.0}],
        "G3": [{"kappa": 1.3}, {"kappa": 0.4}],
    }
    # whole ζ: others make DScribe's nan where three atoms are in a line
    angular: dict[str, list[dict[str, float]]] = {
        "G4": [{"eta": 0.03, "zeta": 1.0, "sign": 1.0}, {"eta": 0.1, "zeta": 4.0, "sign": -1.0}],
        "G5": [{"eta": 0.02, "zeta": 16.0, "sign": -1.0}, {"eta": 0.2, "zeta": 2.0, "sign": 1.0}],
    }
    given = {f"{kind.lower()}_params": [[*one.values()] for one in shapes] for kind, shapes in angular.items()}
    given |= {
        "g2_params": [[*one.values()] for one in radial["G2"]],
        "g3_params": [one["kappa"] for one in radial["G3"]],
    }
    expected = acsf(species=ELEMENTS, r_cut=cutoff, periodic=bool(atoms.pbc.all()), **given).create(atoms)
    # first neighbours by element, then pairs of elements, the heavier one counted first; elements in the order of Z
    pairs = [(lighter, heavier) for n, heavier in enumerate(ELEMENTS) for lighter in ELEMENTS[: n + 1]]
    near = [(kind, (one,), shape) for one in ELEMENTS for kind, shapes in radial.items() for shape in shapes]
    near += [(kind, pair, shape) for pair in pairs for kind, shapes in angular.items() for shape in shapes]
    made = [SymmetryFunction(kind, one, of, cutoff, **shape) for one in ELEMENTS for kind, of, shape in near]
    descriptor = Symmetry(elements=ELEMENTS, functions=made)
    found = descriptor.features(build_graph(atoms, cutoff)).numpy()
    assert found.shape == expected.shape
    # its π has 12 digits
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-11)


def test_a_right_angle_counts_once_and_not_twice_as_in_behlers_paper() -> None:
    atoms = Atoms("OH2", positions=[[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    function = SymmetryFunction("G5", "O", ("H", "H"), 2.0)
    other = SymmetryFunction("G1", "H", ("O",), 2.0)
    descriptor = Symmetry(elements=("O", "H"), functions=[function, other])
    (value,) = descriptor.features(build_graph(atoms, 2.0))[0].tolist()
    assert value == pytest.approx(0.5 * 0.5)  # f = ½ at half of the cutoff, and (1 + cos 90°) = 1


def test_second_derivatives_by_the_positions_exist() -> None:
    descriptor = random_symmetry(("Si", "O")).descriptor
    graph = build_graph(liquid(("Si", "O"))[:5], descriptor.cutoff)
    vectors = graph.vectors.clone().requires_grad_(True)

    def total(given: torch.Tensor) -> torch.Tensor:
        return (descriptor.features(graph.with_vectors(given)) ** 2).sum()

    assert torch.autograd.gradcheck(total, vectors, eps=1e-6, atol=1e-4)
    assert torch.autograd.gradgradcheck(total, vectors, eps=1e-6, atol=1e-3)


def test_the_energy_does_not_depend_on_how_many_atoms_are_worked_through_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    potential = random_symmetry(("Si", "O"))
    graph = build_graph(liquid(("Si", "O")) * (2, 2, 1), potential.cutoff)
    whole = potential.predict(graph)
    monkeypatch.setattr(type(potential.descriptor), "atoms_at_once", 5)
    pieces = potential.predict(graph)
    assert len(learned._pieces(graph.n_atoms, True, 5)) == 10
    assert float((whole.forces - pieces.forces).abs().max()) < 1e-12
    assert float(whole.energy) == pytest.approx(float(pieces.energy), rel=1e-13)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "G6"}, "not a kind of symmetry function"),
        ({"neighbours": ["Si", "O"]}, "takes 1 elements"),
        ({"kind": "G4"}, "takes 2 elements"),
        ({"cutoff": "-5 Å"}, "positive cutoff"),
        ({"cutoff": "5 eV"}, "unit of length"),
        ({"eta": -1.0}, "η ≥ 0"),
        ({"eta": True}, "is a number"),
        ({"eta": float("nan")}, "finite"),
        ({"zeta": 0.5, "kind": "G5", "neighbours": ["Si", "O"]}, "ζ = 0.5"),
        ({"etas": [1.0, 2.0, 1.0]}, "those of two elements of neighbours"),
        ({"etas": [1.0, 2.0]}, "three numbers"),
        ({"kind": "G5", "neighbours": ["O", "O"], "etas": [1.0, 2.0, 1.0]}, "sides of different η"),
        ({"kind": "G5", "neighbours": ["Si", "O"], "etas": [1.0, -2.0, 1.0]}, "η ≥ 0"),
        ({"lambda": 1.0}, "'lambda' is not of a symmetry function"),
        ({"neighbours": "He"}, "is of He"),
    ],
    ids=str,
)
def test_impossible_functions_are_refused(table: dict[str, object], words: str) -> None:
    given = {"kind": "G2", "centre": "Si", "neighbours": "O", "cutoff": "5 Å", "eta": 1.0, **table}
    other = {"kind": "G1", "centre": "O", "neighbours": "O", "cutoff": "5 Å"}
    with pytest.raises(InputError, match=words):
        Symmetry(elements=("Si", "O"), functions=[given, other])


def test_elements_without_functions_and_unknown_cutoff_functions_are_refused() -> None:
    one = SymmetryFunction("G1", "Si", ("O",), 4.0)
    with pytest.raises(InputError, match="O: every element"):
        Symmetry(elements=("Si", "O"), functions=[one])
    with pytest.raises(InputError, match="Did you mean 'cosine'"):
        Symmetry(elements=("Si",), functions=[SymmetryFunction("G1", "Si", ("Si",), 4.0)], taper="cosin")
    with pytest.raises(InputError, match="begins at 0 with a slope"):
        Symmetry(elements=("Si",), functions=[SymmetryFunction("G1", "Si", ("Si",), 4.0)], taper="tanh", onset=0.1)
