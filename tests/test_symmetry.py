"""Atom-centred symmetry functions: against their formulas, and compiled against torch."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from kernel_systems import SYSTEMS, assert_kernel_is_its_reference, needs_kernels, system
from random_symmetry import ANGULAR, RADIAL, random_symmetry

from mlmd.descriptors.symmetry import SymmetryFunctions, evenly_spaced
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile

SETTINGS: dict[str, dict[str, Any]] = {
    "wide": {},
    "narrow": {"wide": False},
    "smaller angular cutoff": {"angular_cutoff": "3.6 Å"},
    "narrow, smaller angular cutoff": {"wide": False, "angular_cutoff": "3.6 Å"},
    "quintic": {"weight": "quintic"},
    "quintic, narrow": {"weight": "quintic", "wide": False},
    "radial only": {"angular": ()},
    "one of each": {"radial": RADIAL[1:2], "angular": ANGULAR[:1]},
}


def weight(distance: float, cutoff: float, kind: str) -> float:
    """f_c as the papers write it."""
    if distance >= cutoff:
        return 0.0
    x = distance / cutoff
    return 0.5 * (math.cos(math.pi * x) + 1) if kind == "cosine" else 1 + x**3 * (-6 * x**2 + 15 * x - 10)


def by_the_formulas(descriptor: SymmetryFunctions, atoms: Atoms) -> np.ndarray:
    """Features one neighbour and one pair of neighbours after the other, of ASE's list of neighbours."""
    outer, inner, kind = descriptor.cutoff, descriptor.angular_cutoff, descriptor.weight
    elements, found = list(descriptor.elements), []
    centre, neighbour, vectors = neighbor_list("ijD", atoms, outer)
    for i in range(len(atoms)):
        own = [
            (elements.index(atoms[j].symbol), v)
            for j, v in zip(neighbour[centre == i], vectors[centre == i], strict=True)
        ]
        row = []
        for a, one in itertools.product(range(len(elements)), descriptor.radial):
            distances = [float(np.linalg.norm(v)) for b, v in own if b == a]
            row.append(sum(math.exp(-one.eta * (r - one.shift) ** 2) * weight(r, outer, kind) for r in distances))
        for pair, angle in itertools.product(descriptor.pairs, descriptor.angular):
            total = 0.0
            for (a, first), (b, second) in itertools.combinations(own, 2):
                r, s, t = (float(np.linalg.norm(v)) for v in (first, second, second - first))
                if tuple(sorted((a, b))) != pair or r >= inner or s >= inner:
                    continue
                term = 2 ** (1 - angle.zeta) * max(1 + angle.sign * float(first @ second) / (r * s), 0.0) ** angle.zeta
                term *= math.exp(-angle.eta * (r * r + s * s)) * weight(r, inner, kind) * weight(s, inner, kind)
                if not descriptor.wide:
                    term *= math.exp(-angle.eta * t * t) * weight(t, inner, kind)
                total += term
            row.append(total)
        found.append(row)
    return np.array(found) * descriptor.scaling.numpy()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ["liquid", "tiny", "cluster"])
def test_features_are_those_of_the_formulas(name: str, settings: str) -> None:
    elements = ("Si", "O")
    atoms = system(name, elements, 2.4)[:9]
    descriptor = random_symmetry(elements, **SETTINGS[settings]).descriptor
    found = descriptor.features(build_graph(atoms, descriptor.cutoff)).numpy()
    np.testing.assert_allclose(found, by_the_formulas(descriptor, atoms), rtol=1e-11, atol=1e-13)


@needs_kernels
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_kernel_is_the_reference_on_all_kinds_of_systems(name: str, precision: str) -> None:
    elements = ("Li", "Y", "Cl")
    potential, reference = random_symmetry(elements, precision), random_symmetry(elements)
    assert_kernel_is_its_reference(potential, reference, system(name, elements, 2.6), n_threads=2)


@needs_kernels
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_kernel_is_the_reference_for_all_settings(settings: str) -> None:
    elements = ("Si", "O")
    potential = random_symmetry(elements, **SETTINGS[settings])
    assert_kernel_is_its_reference(potential, potential, system("liquid", elements, 2.2, seed=3))


def test_a_power_that_is_no_whole_number_runs_on_torch() -> None:
    potential = random_symmetry(("Cu",), angular=((0.01, 1.5, 1),))
    assert potential.kernel() is None
    atoms = system("crystal", ("Cu",), 2.6)
    assert torch.isfinite(potential.predict(build_graph(atoms, potential.cutoff)).forces).all()


def test_a_file_gives_the_same_potential_back(tmp_path: Path) -> None:
    potential = random_symmetry(("Si", "O"), weight="quintic", wide=False)
    modelfile.save(potential, tmp_path / "made.mlmd", {"licence": "none"})
    graph = build_graph(system("liquid", ("Si", "O"), 2.2), potential.cutoff)
    again = modelfile.load(tmp_path / "made.mlmd").predict(graph)
    assert torch.equal(again.forces, potential.predict(graph).forces)


def test_an_even_set_covers_distances_from_a_quarter_of_the_cutoff() -> None:
    radial, angular = evenly_spaced(6.0, 4)
    assert [one.shift for one in radial] == pytest.approx([1.5, 3.0, 4.5, 6.0])
    assert all(one.eta == pytest.approx(0.5 / 1.5**2) for one in radial)
    assert {(one.zeta, one.sign) for one in angular} == {(1, 1), (1, -1), (4, 1), (4, -1)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"radial": ()}, "one radial function"),
        ({"angular_cutoff": "6 Å"}, "angular cutoff"),
        ({"weight": "cosin"}, "cosin"),
        ({"radial": ((-1.0, 0.0),)}, "η"),
        ({"radial": ((math.nan, 0.0),)}, "η"),
        ({"angular": ((0.1, 0.5, 1),)}, "ζ"),
        ({"angular": ((0.1, 1, 0),)}, "λ"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        random_symmetry(("Cu",), **settings)
