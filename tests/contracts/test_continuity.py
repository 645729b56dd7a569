"""How smooth features are where an atom crosses a cutoff: as the cutoff function says, and no smoother."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from descriptor_cases import ELEMENTS, Case, kinds_of, spectra
from made_potentials import random_mtp
from random_deeppot import random_deeppot
from random_networks import random_nep
from random_snap import random_snap

from mlmd.descriptors import DESCRIPTORS, Descriptor
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.compiled import kernels_of
from mlmd.descriptors.cutoffs import TAPERS
from mlmd.descriptors.directional import Directional
from mlmd.descriptors.linearised import values
from mlmd.descriptors.mbtr_terms import WEIGHTINGS
from mlmd.descriptors.soap import Soap
from mlmd.descriptors.soap_basis import BASES
from mlmd.descriptors.symmetry import Symmetry
from mlmd.descriptors.symmetry_functions import SymmetryFunction
from mlmd.neighbors import build_graph

JUMPS = -1
"""The class of what is not even continuous."""
SMOOTH = 99
"""All derivatives are."""
AT_THE_CUTOFF = {
    "cosine": 1, "cubic": 1, "tanh": 2, "tanh-normalised": 2, "quintic": 2, "septic": 3, "nonic": 4,
    "exponential": SMOOTH,
}  # fmt: skip
"""Continuous derivatives there, as `mlmd.descriptors.cutoffs` has them."""
AT_THE_ONSET = {"cosine": 1, "cubic": 1, "quintic": 2, "septic": 3, "nonic": 4, "exponential": 1}
"""The same where a function begins to fall."""
HIGHEST = 4
"""Derivatives of a smooth function that are looked at."""


@dataclass(frozen=True)
class Edge:
    """A distance at which something ends."""

    case: Case
    distance: float
    smoothness: int
    """Derivatives that do not jump."""
    alone: int | None = None
    """The same of a dimer, where it is another number: sums over neighbours that are squared go to zero earlier."""

    @property
    def name(self) -> str:
        """Of a test."""
        return f"{self.case.name}-{self.distance:g}"


def functions() -> list[SymmetryFunction]:
    """All kinds, with one cutoff."""
    found = []
    for centre in ELEMENTS:
        found += [
            SymmetryFunction("G1", centre, ("Si",), 4.0),
            SymmetryFunction("G2", centre, ("Si",), 4.0, eta=0.9, shift=3.0),
            SymmetryFunction("G2", centre, (), 4.0, eta=0.2),
            SymmetryFunction("G3", centre, ("Si",), 4.0, kappa=1.3),
            SymmetryFunction("G4", centre, ("Si", "Si"), 4.0, eta=0.03, zeta=2.0),
            SymmetryFunction("G4", centre, (), 4.0, eta=0.01, zeta=4.0, sign=-1.0),
            SymmetryFunction("G5", centre, ("Si", "Si"), 4.0, eta=0.03, zeta=2.0),
        ]
    return found


def _symmetry(taper: str, onset: float) -> Callable[[], Descriptor]:
    return lambda: Symmetry(elements=ELEMENTS, functions=functions(), taper=taper, onset=onset)


def _soap(taper: str, onset: float, **settings: Any) -> Callable[[], Descriptor]:
    sizes = {"cutoff": 4.0, "n_max": 3, "l_max": 3, **settings}
    return lambda: Soap(elements=ELEMENTS, taper=taper, onset=onset, **sizes)


def _snap(**settings: Any) -> Callable[[], Descriptor]:
    return lambda: random_snap(ELEMENTS, 3, rcutfac=4.0, **settings).descriptor  # R of silicon is ½


def _with_tapers() -> list[Edge]:
    found = []
    for name, made in (("symmetry", _symmetry), ("soap", _soap)):
        for taper in TAPERS:
            onset = 0.0 if taper.startswith("tanh") else 0.5
            case = Case(f"{name}-{taper}", made(taper, onset))
            found.append(Edge(case, 4.0, AT_THE_CUTOFF[taper]))
            if onset:
                found.append(Edge(case, 2.0, AT_THE_ONSET[taper]))
    for basis in BASES:
        found.append(Edge(Case(f"soap-{basis}", _soap("quintic", 0.5, basis=basis)), 4.0, 2))
    # QUIP's transition falls in the last 0.8 Å
    quips = Case("soap-as-quip", _soap("cosine", 0.8, basis="quip", normalised=False))
    found += [Edge(quips, 4.0, 1), Edge(quips, 3.2, 1)]
    return [*found, Edge(Case("soap-none", _soap("none", 0.0)), 4.0, JUMPS)]


def _spectra(weighting: str, **numbers: float) -> Callable[[], Descriptor]:
    geometries = ("distance", "cosine", "dihedral_cosine") if weighting != "inverse_square" else ("distance",)
    return lambda: spectra(*((geometry, weighting, numbers) for geometry in geometries))


INNER = {"sinner": (2.55, 2.55), "dinner": (0.45, 0.45)}
DEEPPOT = Case("deeppot-se", lambda: random_deeppot(ELEMENTS, cutoff=4.0, onset=2.0).descriptor)
NEP = Case("radial-angular", lambda: random_nep(ELEMENTS, cutoff="4 Å", angular_cutoff="3.5 Å").descriptor)
BOTH = Case("combined", lambda: Combined([random_mtp(ELEMENTS, 6).descriptor, _symmetry("septic", 0.2)()]))
AGNI = Case("agni", lambda: Directional(elements=ELEMENTS, cutoff=4.0, widths=(2.0, 5.0)))
EDGES = (
    *_with_tapers(),
    Edge(Case("moments", lambda: random_mtp(ELEMENTS, 8).descriptor), 5.0, 1),
    Edge(NEP, 4.0, 1),
    Edge(NEP, 3.5, 1, alone=3),
    Edge(Case("snap", _snap()), 4.0, 1),
    Edge(Case("snap-densities", _snap(chemflag=True)), 4.0, 1),
    Edge(Case("snap-atoms-alone-kept", _snap(bzeroflag=False, bnormflag=True)), 4.0, 1),
    Edge(Case("snap-no-switch", _snap(switchflag=False)), 4.0, JUMPS),
    *(Edge(Case("snap-inner-switch", _snap(**INNER)), distance, 1) for distance in (4.0, 3.0, 2.1)),
    Edge(DEEPPOT, 4.0, 2),
    Edge(DEEPPOT, 2.0, 2),
    Edge(BOTH, 5.0, 1),
    Edge(BOTH, 4.0, 3),
    Edge(AGNI, 4.0, 1),
    Edge(Case("mbtr-smooth_cutoff", _spectra("smooth_cutoff", cutoff=4.0)), 4.0, 1),
    Edge(Case("mbtr-smooth_cutoff-sharp", _spectra("smooth_cutoff", cutoff=4.0, sharpness=3.5)), 4.0, 1),
    Edge(Case("mbtr-unity", _spectra("unity", cutoff=4.0)), 4.0, JUMPS),
    Edge(Case("mbtr-inverse_square", _spectra("inverse_square", cutoff=4.0)), 4.0, JUMPS),
    Edge(Case("mbtr-exponential", _spectra("exponential", scale=0.8, threshold=math.exp(-3.2))), 4.0, JUMPS),
)
"""Every descriptor with every cutoff function that it takes."""
STEPS = (0.02, 0.01)
"""Å, of finite differences."""
WITHOUT_KERNELS = ("deeppot", "agni", "mbtr", "snap-densities")
ROUTES = [
    (edge, route)
    for edge in EDGES
    for route in ("autograd", "kernels")
    if route == "autograd" or not edge.case.name.startswith(WITHOUT_KERNELS)
]


def derivatives(samples: np.ndarray, step: float, highest: int) -> np.ndarray:
    """Derivatives of orders 0 to `highest` at the end of a row of samples: (highest + 1, n).

    With Δ the forward difference, f(0) = (1 + Δ)^(-½) f(step/2) and d/dt = ln(1 + Δ)/step: both are series in Δ.

    Args:
        samples: (n_samples, n), of n functions at ½, 3/2, 5/2, ... steps from there.
        step: Å, below zero where the samples are on the other side.
        highest: order.
    """
    n = len(samples)
    differences = np.stack([np.diff(samples, n=order, axis=0)[0] for order in range(n)])
    series = np.array([math.prod((-0.5 - q) / (q + 1) for q in range(order)) for order in range(n)])
    logarithm = np.array([0.0, *((-1.0) ** (order + 1) / order for order in range(1, n))])
    found = []
    for order in range(highest + 1):
        found.append(series @ differences / step**order)
        series = np.convolve(series, logarithm)[:n]
    return np.stack(found)


def jumps(of: Callable[[float], np.ndarray], step: float, highest: int) -> np.ndarray:
    """(highest + 1, n): by how much derivatives at 0 from above differ from those from below."""
    places = (np.arange(highest + 5) + 0.5) * step
    above, below = (np.stack([of(sign * place) for place in places]) for sign in (1, -1))
    return derivatives(above, step, highest) - derivatives(below, -step, highest)


def pair(distance: float) -> Atoms:
    return Atoms("Si2", [[0, 0, 0], [0.6 * distance, 0, 0.8 * distance]])


def among_others(distance: float) -> Atoms:
    """The second atom leaves the first one, and two others see both."""
    along = distance * np.array([0.6, 0, 0.8])
    return Atoms("Si2SiO", [[0, 0, 0], along, [1.1, 0.9, 1.6], [1.5, -1.2, 0.9]])


def test_every_descriptor_and_every_cutoff_function_is_tried() -> None:
    made = kinds_of([edge.case for edge in EDGES])
    # a Coulomb matrix has no cutoff, averages and kernels of structures have those of the features of their atoms
    assert made | {"coulomb", "average", "likeness"} == {*DESCRIPTORS}
    assert {*AT_THE_CUTOFF} == {*TAPERS}
    names = {edge.case.name for edge in EDGES}
    assert {f"mbtr-{weighting}" for weighting in WEIGHTINGS} <= names
    assert {f"soap-{basis}" for basis in BASES} <= names


def test_one_sided_derivatives_of_known_functions_are_found() -> None:
    def of(t: float) -> np.ndarray:
        return np.array([math.exp(t), abs(t) ** 3, math.sin(2 * t) + (t > 0)])

    found = jumps(of, 0.01, 3)
    assert found[:, 0] == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert found[:, 1] == pytest.approx([0, 0, 0, 12], abs=1e-5)
    assert found[:, 2] == pytest.approx([1, 0, 0, 0], abs=1e-5)


@pytest.mark.parametrize("surroundings", ["among others", "the last neighbour"])
@pytest.mark.parametrize(("edge", "route"), ROUTES, ids=lambda one: getattr(one, "name", one), indirect=["route"])
def test_derivatives_jump_at_the_cutoff_from_that_order_on_which_the_cutoff_function_says(
    edge: Edge, route: str, surroundings: str
) -> None:
    descriptor, structure, smoothness = edge.case.make(), among_others, edge.smoothness
    assert route == "autograd" or kernels_of(descriptor) is not None
    if surroundings == "the last neighbour":
        structure, smoothness = pair, edge.smoothness if edge.alone is None else edge.alone
    highest = min(smoothness, HIGHEST)

    def of(displacement: float) -> np.ndarray:
        graph = build_graph(structure(edge.distance + displacement), descriptor.cutoff)
        rows = values(descriptor, graph) if descriptor.kind == "atom" else descriptor.features(graph)
        return rows.numpy().ravel()

    size = np.abs(np.stack([of(displacement) for displacement in (-0.5, 0.0, 0.5)])).max(axis=0)
    size = size.clip(min=1e-3 * size.max())
    coarse, fine = (np.abs(jumps(of, step, highest + 1) / size).max(axis=1) for step in STEPS)
    # what differences make at most of features that are rounded to some 1e-14
    weights = derivatives(np.eye(highest + 6), STEPS[1], highest + 1)
    rounding = 3e-14 * np.abs(weights).sum(axis=1)
    for order in range(highest + 1):
        assert fine[order] <= max(0.1 * coarse[order], rounding[order]), f"derivative {order} jumps by {fine[order]:g}"
    if smoothness < SMOOTH:
        assert fine[-1] > max(0.7 * coarse[-1], 2 * rounding[-1]), f"derivative {highest + 1} does not jump"
