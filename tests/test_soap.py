"""Power spectra against DScribe, and against the overlaps of densities they stand for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from ase import Atoms
from random_soap import random_soap
from scipy.spatial.transform import Rotation

from mlmd.descriptors.moments import Moments
from mlmd.descriptors.parity_series import parity_series
from mlmd.descriptors.soap import PRODUCTS, Soap
from mlmd.descriptors.soap_basis import BASES, chebyshev_series, inverse_root
from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.potentials import learned

PADDING = math.sqrt(-2 * math.log(1e-3))
"""σ beyond its cutoff up to which DScribe counts neighbours."""
MODES = {"all": "off", "same-element": "crossover", "with-sum": "mu1nu1"}
"""DScribe's names of products."""


def liquid(elements: Sequence[str], periodic: bool = True, seed: int = 3) -> Atoms:
    generator = np.random.default_rng(seed)
    corners = 2.2 * np.array(list(itertools.product(range(3), repeat=3)))
    cell = 6.6 * np.eye(3) + generator.uniform(-0.5, 0.5, (3, 3))
    positions = corners + generator.uniform(-0.3, 0.3, (27, 3))
    return Atoms(generator.choice(elements, 27), positions=positions, cell=cell, pbc=periodic)


def dscribe_columns(soap: Soap) -> tuple[list[int], np.ndarray]:
    """For every feature: DScribe's column, and the weight that it lacks."""
    n, n_elements, products = soap.n_max, len(soap.elements), soap.products
    pairs = itertools.combinations_with_replacement(range(n_elements), 2)
    blocks = pairs if products == "all" else [(z, z) for z in range(n_elements)]
    place: dict[tuple[int, ...], int] = {}
    for z, other in blocks:
        half = z == other and products != "with-sum"
        for degree, i in itertools.product(range(soap.l_max + 1), range(n)):
            for j in range(i if half else 0, n):
                place[degree, z, i, other, j] = len(place)
    channels = list(itertools.product(range(n_elements), range(n)))
    columns, weights = [], []
    for degree in range(soap.l_max + 1):
        if products == "all":
            wanted = [(*one, *other) for one, other in itertools.combinations_with_replacement(channels, 2)]
        else:
            wanted = [(z, i, z, j) for z, i in channels for j in range(i if products == "same-element" else 0, n)]
        columns += [place[degree, *key] for key in wanted]
        weights += [math.sqrt(2) if key[:2] != key[2:] and products != "with-sum" else 1.0 for key in wanted]
    return columns, np.array(weights)


# DScribe inverts overlaps in double precision: the more functions, the less they are orthonormal (eight polynomials to
# 5·10⁻⁶); and its π has 12 digits
@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("elements", [("Si",), ("H", "O", "Si")], ids=len)
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    ("basis", "n_max", "l_max", "sigma", "tolerance"),
    [
        ("gto", 1, 0, 0.5, 1e-11),
        ("gto", 4, 5, 0.5, 2e-11),
        ("gto", 8, 6, 0.4, 2e-9),
        ("gto", 9, 9, 0.3, 3e-8),
        ("polynomial", 3, 4, 0.5, 5e-11),
        ("polynomial", 5, 9, 0.3, 1e-8),
    ],
)
def test_features_are_dscribes(
    basis: str, n_max: int, l_max: int, sigma: float, tolerance: float, periodic: bool, elements: tuple[str, ...],
    products: str,
) -> None:  # fmt: skip
    dscribe = pytest.importorskip("dscribe.descriptors")
    atoms, reach = liquid(elements, periodic), 4.0
    oracle = dscribe.SOAP(
        species=elements, r_cut=reach, n_max=n_max, l_max=l_max, sigma=sigma, rbf=basis, periodic=periodic,
        compression={"mode": MODES[products], "species_weighting": None},
    )  # fmt: skip
    soap = Soap(
        elements=elements, cutoff=reach + PADDING * sigma, extent=reach, n_max=n_max, l_max=l_max, sigma=sigma,
        basis=basis, taper="none", normalised=False, products=products,
    )  # fmt: skip
    columns, weights = dscribe_columns(soap)
    expected = oracle.create(atoms)
    assert sorted(columns) == list(range(expected.shape[1]))
    values = soap.features(build_graph(atoms, soap.cutoff)).numpy()
    assert abs(values - weights * expected[:, columns]).max() < tolerance * abs(expected).max()


def test_features_with_a_cutoff_function_are_dscribes_with_it() -> None:
    dscribe = pytest.importorskip("dscribe.descriptors")
    atoms, elements = liquid(("O", "Si")), ("O", "Si")
    # its polynomial 1 + 2x³ - 3x² is `cubic` from 0 to the cutoff; w0 = 0 is a density without the centre
    weighting = {"function": "poly", "r0": 5.0, "c": 1.0, "m": 1.0, "w0": 0.0}
    sizes = {"n_max": 4, "l_max": 4, "sigma": 0.5}
    oracle = dscribe.SOAP(species=elements, r_cut=5.0, weighting=weighting, periodic=True, **sizes)
    soap = Soap(
        elements=elements, cutoff=5.0, taper="cubic", onset=0.0, include_centre=False, normalised=False, **sizes
    )
    columns, weights = dscribe_columns(soap)
    expected = oracle.create(atoms)[:, columns] * weights
    values = soap.features(build_graph(atoms, 5.0)).numpy()
    assert abs(values - expected).max() < 1e-10 * abs(expected).max()


def quips_transition(r: float, cutoff: float, width: float) -> float:
    """1, then ½ (1 + cos(π (r - r_c + d)/d)) in the last d before the cutoff."""
    return 1.0 if r < cutoff - width else 0.5 * (1 + math.cos(math.pi * (r - cutoff + width) / width))


def test_a_cosine_with_an_onset_is_the_transition_of_quip() -> None:
    soap = Soap(
        elements=["Si"], cutoff=5.0, taper="cosine", onset=1 - 0.8 / 5.0, include_centre=False, normalised=False
    )
    plain = Soap(elements=["Si"], cutoff=5.0, taper="none", include_centre=False, normalised=False)
    for r in (2.0, 4.1, 4.3, 4.7, 4.95):
        graph = build_graph(Atoms("Si2", positions=[[0, 0, 0], [0, 0.6 * r, 0.8 * r]]), 5.0)
        expected = quips_transition(r, 5.0, 0.8) ** 2 * plain.features(graph)
        assert torch.allclose(soap.features(graph), expected, rtol=1e-11, atol=1e-14)


def overlap_over_rotations(one: Atoms, other: Atoms, sigma: float) -> float:
    """∫ dR (Σ_Z ∫ ρ^Z(r) ρ'^Z(Rr) dr)² of Gaussian densities around the origin, by quadrature; ∫ dR = 8π²."""
    n = 40
    angles = 2 * np.pi * np.arange(n) / n
    cosines, weights = np.polynomial.legendre.leggauss(n)
    total = 0.0
    for cosine, weight in zip(cosines, weights, strict=True):
        a, c = (grid.ravel() for grid in np.meshgrid(angles, angles))
        euler = np.stack([a, np.full_like(a, math.acos(cosine)), c], axis=1)
        turned = np.einsum("rab,jb->rja", Rotation.from_euler("ZYZ", euler).as_matrix(), other.positions)
        squares = ((one.positions[:, None, :] - turned[:, None, :, :]) ** 2).sum(axis=-1)
        same = one.numbers[:, None] == other.numbers
        overlaps = (math.pi * sigma**2) ** 1.5 * (same * np.exp(-squares / (4 * sigma**2))).sum(axis=(1, 2))
        total += weight * float((overlaps**2).mean())
    return 4 * math.pi**2 * total


# QUIP interpolates the density at the centres of its functions, which these do to some 10⁻⁴
@pytest.mark.parametrize(("basis", "tolerance"), [("gto", 1e-5), ("polynomial", 1e-5), ("quip", 5e-4)])
def test_dot_products_of_rows_are_overlaps_of_densities_over_all_rotations(basis: str, tolerance: float) -> None:
    # Bartók, Kondor and Csányi's definition of the kernel; the weight of √2 is part of what is tested
    sigma, generator = 0.7, np.random.default_rng(8)
    places = [[0, 0, 0], [1.6, 0.3, 0], [-0.4, 1.9, 0.5], [0.2, -1.1, 1.3], [0.1, -0.6, -2.0]]
    structures = [
        Atoms(symbols, positions=np.array(places) + np.vstack([np.zeros(3), generator.uniform(-0.4, 0.4, (4, 3))]))
        for symbols in ("SiSiOSiO", "SiOSiSiO", "OSiSiOSi")
    ]
    # densities end with the basis, at 7 Å; fifteen functions and degrees resolve a Gaussian of 0.7 Å
    soap = Soap(
        elements=("Si", "O"), cutoff=7.0, n_max=12, l_max=14, sigma=sigma, basis=basis, extent=7.0, taper="none",
        normalised=False,
    )  # fmt: skip
    rows = [soap.features(build_graph(one, 7.0), slice(0, 1))[0] for one in structures]
    for i, j in ((0, 0), (0, 1), (1, 2)):
        expected = overlap_over_rotations(structures[i], structures[j], sigma)
        assert float(rows[i] @ rows[j]) == pytest.approx(expected, rel=tolerance)


def test_orthonormal_functions_have_all_digits_whatever_the_condition_number() -> None:
    with localcontext(prec=50):
        orders = range(1, 13)
        hilbert = [[Decimal(1) / ((5 + i + j) * (6 + i + j) * (7 + i + j)) for i in orders] for j in orders]
        overlaps = np.array(hilbert)
        assert np.linalg.cond(overlaps.astype(float)) > 1e16
        root = inverse_root(overlaps)
        error = root @ overlaps @ root - np.eye(12, dtype=int)
        assert max(abs(error).flat) < Decimal("1e-20")


@pytest.mark.parametrize("basis", BASES)
def test_the_series_is_the_radial_function_and_its_slope_the_derivative(basis: str) -> None:
    sizes = {"n_max": 8, "l_max": 9, "sigma": 0.3, "extent": 5.0}
    table = torch.from_numpy(chebyshev_series(basis, cutoff=6.0, **sizes))
    d = np.random.default_rng(1).uniform(0.02, 6.0, 300)
    expected = BASES[basis](d, *sizes.values())
    x = torch.from_numpy(d / 6.0).requires_grad_(True)
    even, odd = parity_series(x, table)
    for degree in range(10):
        values = (even, odd)[degree % 2][degree // 2].detach().numpy()
        # orbitals are differences of Gaussians up to 10⁴ times as large
        assert abs(values - expected[degree]).max() < 2e-12 * abs(expected).max()
    # there are two ways to the derivative: the second is taken where it will be differentiated again
    total = (even**2).sum() + odd.sum()
    (once,) = torch.autograd.grad(total, x, retain_graph=True)
    (again,) = torch.autograd.grad(total, x, create_graph=True)
    assert float((once - again.detach()).abs().max()) < 1e-11 * float(once.abs().max())
    some = torch.linspace(0.05, 0.98, 7, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: parity_series(x, table[:4, :2]), some, eps=1e-6, atol=1e-6)
    assert torch.autograd.gradgradcheck(lambda x: parity_series(x, table[:4, :2]), some, eps=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"basis": "gto", "products": "all", "normalised": True},
        {"basis": "polynomial", "products": "with-sum", "normalised": False, "include_centre": False},
        {"basis": "gto", "products": "same-element", "taper": "cosine", "onset": 0.8},
    ],
    ids=lambda options: options["products"],
)
def test_derivatives_are_those_of_finite_differences(options: dict[str, object]) -> None:
    soap = Soap(elements=("Si", "O"), cutoff=5.0, n_max=3, l_max=3, **options)
    graph = build_graph(liquid(("Si", "O"), periodic=False)[:4], 5.0)
    vectors = graph.vectors.clone().requires_grad_(True)

    def weighted(given: torch.Tensor) -> torch.Tensor:
        return (soap.features(graph.with_vectors(given)) ** 2).sum(dim=0)

    assert torch.autograd.gradcheck(weighted, vectors, eps=1e-5, atol=1e-7, rtol=1e-6)
    assert torch.autograd.gradgradcheck(lambda v: weighted(v).sum(), vectors, eps=1e-5, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("basis", BASES)
def test_the_derivative_is_smooth_down_to_the_smallest_distances(basis: str) -> None:
    soap = Soap(elements=["H"], cutoff=4.0, n_max=4, l_max=4, basis=basis, include_centre=False, normalised=False)
    slopes = []
    for r in (1e-2, 1e-4, 1e-6, 1e-8):
        graph = build_graph(Atoms("H2", positions=[[0, 0, 0], [0.6 * r, 0, 0.8 * r]]), 4.0)
        vectors = graph.vectors.clone().requires_grad_(True)
        values = soap.features(graph.with_vectors(vectors))
        (slope,) = torch.autograd.grad(values[:, : soap.n_features // 5].sum(), vectors)
        assert bool(slope.isfinite().all())
        slopes.append(float(slope.abs().max()) / r)
    # p of l = 0 is even in r: its slope is r times a constant, until that is below rounding
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-3)


def test_normalised_rows_have_length_1() -> None:
    rows = Soap(elements=("O", "Si"), cutoff=5.0, n_max=4, l_max=5).features(build_graph(liquid(("O", "Si")), 5.0))
    assert float((rows.norm(dim=1) - 1).abs().max()) < 1e-14


def test_pairs_beyond_the_cutoff_change_nothing() -> None:
    for taper in ("none", "quintic"):
        soap = Soap(elements=("O", "Si"), cutoff=4.0, n_max=4, l_max=4, taper=taper)
        near, far = (soap.features(build_graph(liquid(("O", "Si")), reach)) for reach in (4.0, 6.5))
        assert float((near - far).abs().max()) < 1e-14


def test_the_energy_does_not_depend_on_how_many_atoms_are_worked_through_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    potential = random_soap(("Si", "O"))
    graph = build_graph(liquid(("Si", "O")), potential.cutoff)
    whole = potential.predict(graph)
    monkeypatch.setattr(Soap, "atoms_at_once", 5)
    pieces = potential.predict(graph)
    assert len(learned._pieces(graph.n_atoms, True, 5)) == 6
    assert float((whole.forces - pieces.forces).abs().max()) < 1e-12
    assert float(whole.energy) == pytest.approx(float(pieces.energy), rel=1e-13)


def test_single_precision_is_that_of_the_numbers_also_with_many_functions() -> None:
    given = {"elements": ("O", "Si"), "cutoff": 5.0, "n_max": 9, "l_max": 9, "sigma": 0.3}
    graph = build_graph(liquid(("O", "Si")), 5.0)
    exact, rounded = (Soap(**given, precision=precision).features(graph) for precision in ("float64", "float32"))
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).abs().max()) < 2e-6  # of rows of length 1


def test_a_stored_descriptor_keeps_its_functions_where_another_machine_would_take_more_terms() -> None:
    soap = Soap(elements=["Si"], cutoff=5.0, n_max=4, l_max=4)
    state = dict(soap.state_dict())
    state["table"] = torch.nn.functional.pad(state["table"], (0, 3))
    again = Soap.restore(soap.spec(), state)
    again.load_state_dict(state)
    graph = build_graph(liquid(["Si"]), 5.0)
    assert float((again.features(graph) - soap.features(graph)).abs().max()) < 1e-14


def on_a_circle(places: Sequence[int]) -> Atoms:
    """An atom in the middle of a circle of 2 Å, and others on it, at multiples of 45°."""
    angles = np.pi / 4 * np.array(places)
    ring = 2.0 * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    return Atoms("C" + "H" * len(places), positions=np.vstack([np.zeros(3), ring]))


def test_power_spectra_do_not_tell_degenerate_environments_apart_and_moments_do() -> None:
    # Patterson's homometric sets (Phys. Rev. 65, 195, 1944): seen from the middle both have the angles 45°, 45°, 90°,
    # 135°, 135° and 180°, and no rotation or reflection takes one to the other
    one, other = on_a_circle((0, 1, 3, 4)), on_a_circle((0, 1, 2, 5))
    angles = [sorted(a.get_angle(i, 0, j) for i, j in itertools.combinations(range(1, 5), 2)) for a in (one, other)]
    assert angles[0] == pytest.approx([45, 45, 90, 135, 135, 180])
    assert angles[1] == pytest.approx(angles[0])
    graphs = [build_graph(atoms, 5.0) for atoms in (one, other)]
    soap = Soap(elements=("H", "C"), cutoff=5.0, n_max=6, l_max=9, sigma=0.3)
    middle = [soap.features(graph)[0] for graph in graphs]
    assert float((middle[0] - middle[1]).abs().max()) < 1e-14
    # it is no accident of these functions: a set with other angles has another spectrum
    third = soap.features(build_graph(on_a_circle((0, 1, 2, 4)), 5.0))[0]
    assert float((middle[0] - third).abs().max()) > 1e-2
    moments = Moments(elements=("H", "C"), cutoff=5.0, min_distance=1.0, level=14)
    seen = [moments.features(graph)[0] for graph in graphs]
    assert float((seen[0] - seen[1]).abs().max()) > 1e-2 * float(seen[0].abs().max())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"basis": "gtos"}, "Did you mean 'gto'"),
        ({"products": "al"}, "Did you mean 'all'"),
        ({"taper": "cosin"}, "Did you mean 'cosine'"),
        ({"n_max": 0}, "n_max = 0"),
        ({"l_max": -1}, "l_max = -1"),
        ({"elements": ()}, "0 elements"),
        ({"sigma": "0 Å"}, "positive lengths"),
        ({"cutoff": "5 eV"}, "unit of length"),
        ({"extent": "0.9 Å"}, "more than 1 Å"),
        ({"include_centre": False}, "include_centre"),
        ({"n_max": 40}, "n_max = 40"),
        ({"n_max": 20, "l_max": 0}, "cannot be told apart"),
        ({"precision": "float16"}, "not a precision"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Soap(**{"elements": ("Si",), "cutoff": "5 Å", **options})
