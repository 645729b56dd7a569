"""Every descriptor, and structures at random to try it on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from hypothesis import strategies as st
from made_potentials import random_mtp
from random_deeppot import random_deeppot
from random_networks import random_nep
from random_snap import random_snap
from random_soap import random_soap
from random_symmetry import random_symmetry
from scipy.spatial.transform import Rotation
from test_mbtr import GRIDS

from mlmd.descriptors import Descriptor
from mlmd.descriptors.average import Average
from mlmd.descriptors.combined import Combined
from mlmd.descriptors.coulomb import Coulomb
from mlmd.descriptors.directional import Directional
from mlmd.descriptors.likeness import Likeness
from mlmd.descriptors.mbtr import MBTR
from mlmd.descriptors.mbtr_terms import GEOMETRIES
from mlmd.neighbors import build_graph

ELEMENTS = ("Si", "O")
EVERYWHERE, CRYSTALS, MOLECULES = "everywhere", "crystals", "molecules"
"""What a descriptor is for."""


@dataclass(frozen=True)
class Case:
    """A descriptor and what it is for."""

    name: str
    make: Callable[[], Descriptor]
    of: str = EVERYWHERE
    like: float = 1e-8
    """Relative difference of features that are the same."""


def _snap(twojmax: int = 4, **settings: Any) -> Callable[[], Descriptor]:
    # no distance of a lattice is this cutoff, where some of these jump
    return lambda: random_snap(ELEMENTS, twojmax, rcutfac=4.8137, **settings).descriptor


def _soap(**settings: Any) -> Callable[[], Descriptor]:
    return lambda: random_soap(ELEMENTS, **{"cutoff": "4.7137 Å", **settings}).descriptor


def _symmetry(**settings: Any) -> Callable[[], Descriptor]:
    return lambda: random_symmetry(ELEMENTS, **settings).descriptor


def _deeppot(**settings: Any) -> Callable[[], Descriptor]:
    return lambda: random_deeppot(ELEMENTS, **settings).descriptor


def _combined() -> Combined:
    made = (random_mtp(ELEMENTS, 6).descriptor, _soap(n_max=2, l_max=2)(), _symmetry(taper="quintic")())
    return Combined(made)


ATOMS = (
    Case("moments", lambda: random_mtp(ELEMENTS, 12).descriptor),
    Case("radial-angular", lambda: random_nep(ELEMENTS, l_max=8).descriptor),
    Case("symmetry", _symmetry()),
    Case("symmetry-tanh", _symmetry(taper="tanh")),
    Case("symmetry-septic", _symmetry(taper="septic", onset=0.3)),
    Case("soap-gto", _soap(basis="gto")),
    Case("soap-polynomial", _soap(basis="polynomial", products="same-element", normalised=False)),
    Case("soap-quip", _soap(basis="quip", taper="cosine", onset=0.8, central_weight=0.9)),
    Case("soap-with-sum", _soap(products="with-sum", include_centre=False, normalised=False)),
    Case("soap-no-cutoff-function", _soap(taper="none", extent="4 Å")),
    Case("snap", _snap(6)),
    Case("snap-densities", _snap(3, chemflag=True)),
    Case("snap-densities-of-all", _snap(2, chemflag=True, wselfallflag=True, bnormflag=True)),
    Case("snap-densities-no-switch", _snap(2, chemflag=True, switchflag=False, bzeroflag=False)),
    Case("snap-no-switch", _snap(switchflag=False)),
    Case("snap-atoms-alone-kept", _snap(bzeroflag=False, bnormflag=True, rfac0=0.8)),
    Case("snap-inner-switch", _snap(sinner=(2.0, 2.3), dinner=(0.4, 0.6), rmin0=0.7)),
    Case("deeppot-se", _deeppot()),
    Case("deeppot-se-of-pairs", _deeppot(type_one_side=False)),
    Case("combined", _combined),
)
"""Descriptors of atoms."""

FINGERPRINTS = Case("agni", lambda: Directional(elements=ELEMENTS, cutoff=5.0, widths=(0.8, 2.0, 5.0)))


def spectra(*of: tuple[str, str, dict[str, Any]], normalisation: str = "none") -> MBTR:
    """A term for each geometry, weighting and its numbers."""
    terms = []
    for geometry, weighting, numbers in of:
        low, high, width = GRIDS[geometry]
        grid = {"minimum": low, "maximum": high, "n_points": 15, "width": width, "normalisation": normalisation}
        terms.append({"geometry": geometry, "weighting": weighting, **grid, **numbers})
    return MBTR(elements=ELEMENTS, terms=terms)


SMOOTH = [(name, "smooth_cutoff", {"cutoff": 4.1 - 0.4 * k}) for name, k in GEOMETRIES.items() if k > 1]
STEEP = [(name, "exponential", {"scale": 0.9, "threshold": 10.0 ** (-1 - 0.5 * k)}) for name, k in GEOMETRIES.items()
         if k > 1]  # fmt: skip


def _spectra(normalisation: str, weighting: str) -> Callable[[], Descriptor]:
    terms = {"smooth": SMOOTH, "exponential": STEEP}[weighting]
    if normalisation == "valle_oganov":
        terms = [one for one in terms if GEOMETRIES[one[0]] < 4]
    else:
        terms = [("number", "unity", {}), *terms]
    return lambda: spectra(*terms, normalisation=normalisation)


def _coulomb(interaction: str, form: str, **settings: Any) -> Callable[[], Descriptor]:
    given = {"elements": ELEMENTS, "n_atoms_max": 6, "accuracy": 1e-12, **settings}
    return lambda: Coulomb(interaction=interaction, form=form, **given)


def _likeness(form: str, **settings: Any) -> Likeness:
    local = _soap(n_max=2, l_max=2)()
    made = Likeness(local, form, **settings)
    others = [Atoms("SiO2", [[0, 0, 0], [0, 1.6, 0.1], [1.5, -0.2, 0]]), Atoms("Si2", [[0, 0, 0], [0, 0, 2.2]])]
    made.remember([local.features(build_graph(one, local.cutoff)) for one in others])
    return made


MATRICES = tuple(
    Case(f"{interaction}-{form}", _coulomb(interaction, form), MOLECULES if interaction == "coulomb" else CRYSTALS)
    for interaction in ("coulomb", "sine", "ewald")
    for form in ("plain", "sorted", "eigenspectrum")
)
TWO = ["number", {"Si": 1.9, "O": 3.44}]
STRUCTURES = (
    *MATRICES,
    Case("coulomb-of-two-properties", _coulomb("coulomb", "sorted", layout="triangle", properties=TWO), MOLECULES),
    Case("mbtr", _spectra("none", "smooth")),
    Case("mbtr-exponential", _spectra("n_atoms", "exponential")),
    Case("mbtr-of-length-1", _spectra("l2", "smooth")),
    Case("mbtr-valle-oganov", _spectra("valle_oganov", "exponential"), CRYSTALS),
    Case("average", lambda: Average(_soap(n_max=2, l_max=2)())),
    Case("sum-of-moments", lambda: Average(random_mtp(ELEMENTS, 6).descriptor, "sum")),
    Case("combined", lambda: Combined([_spectra("none", "smooth")(), Average(_soap(n_max=2, l_max=2)())])),
    Case("likeness", lambda: _likeness("average")),
    Case("likeness-rematch", lambda: _likeness("rematch", gamma=0.5)),
)
"""Descriptors of whole structures."""


def _thousandths(most: int) -> st.SearchStrategy[float]:
    # no tiny numbers: of angles that are zero but for 1e-7 half of the digits are rounding
    return st.integers(-most, most).map(lambda n: n / 1000)


@st.composite
def structures(draw: st.DrawFn, of: str = EVERYWHERE, spacing: float = 2.3) -> Atoms:
    """One to five atoms off the corners of a cell, skewed by a little or by whole vectors."""
    corners = np.array(list(itertools.product((0.0, 0.5), repeat=3)))
    chosen = draw(st.lists(st.integers(0, 7), min_size=1, max_size=5, unique=True))
    n = len(chosen)
    symbols = draw(st.lists(st.sampled_from(ELEMENTS), min_size=n, max_size=n))
    off = np.array(draw(st.lists(_thousandths(150), min_size=3 * n, max_size=3 * n))).reshape(n, 3)
    a, b, c = (draw(_thousandths(400)) for _ in range(3))
    cell = 2 * spacing * np.array([[1.0, 0.0, 0.0], [a, 1.05, 0.0], [b, c, 0.95]])
    positions = corners[chosen] @ cell + spacing * off
    if of == MOLECULES:
        return Atoms(symbols, positions=positions)
    i, j, k = (draw(st.integers(-2, 2)) for _ in range(3))
    pbc = draw(st.tuples(*[st.booleans()] * 3)) if of == EVERYWHERE else (True, True, True)
    # another cell of the same lattice, where all of its vectors are those of periods
    skewed = np.array([[1, 0, 0], [i, 1, 0], [j, k, 1]]) if all(pbc) else np.eye(3)
    return Atoms(symbols, positions=positions, cell=skewed @ cell, pbc=pbc)


@dataclass(frozen=True)
class Move:
    """A rotation or a rotation with a mirror, another origin, other cells for the atoms, and another order."""

    matrix: np.ndarray
    shift: np.ndarray
    images: np.ndarray
    order: np.ndarray

    def __call__(self, atoms: Atoms) -> Atoms:
        """The structure as it is after all of that."""
        moved = atoms.copy()
        moved.positions = moved.positions + (self.images * atoms.pbc) @ atoms.cell.array + self.shift
        moved.set_cell(atoms.cell.array @ self.matrix.T)
        moved.positions = moved.positions @ self.matrix.T
        return moved[self.order]


@st.composite
def moved_structures(draw: st.DrawFn, of: str = EVERYWHERE) -> tuple[Atoms, Move]:
    """A structure, and where it goes."""
    atoms = draw(structures(of))
    n = len(atoms)
    turn = Rotation.from_euler("zyz", draw(st.tuples(*[st.integers(0, 359)] * 3)), degrees=True).as_matrix()
    mirror = -1.0 if draw(st.booleans()) else 1.0
    shift = np.array([draw(_thousandths(20_000)) for _ in range(3)])
    images = np.array(draw(st.lists(st.integers(-2, 2), min_size=3 * n, max_size=3 * n))).reshape(n, 3)
    return atoms, Move(mirror * turn, shift, images, np.array(draw(st.permutations(range(n)))))


def assert_same_features(found: torch.Tensor, expected: torch.Tensor, like: float = 1e-8) -> None:
    """Equal up to a part of the largest number of the column, or of a thousandth of that of all columns."""
    assert found.shape == expected.shape
    size = expected.abs().amax(dim=0)
    size = size.clamp(min=1e-3 * float(size.max()) + 1e-12)
    worst = (found - expected).abs() / size
    assert float(worst.max()) <= like, f"column {int(worst.amax(dim=0).argmax())} differs by {float(worst.max()):.1e}"


def kinds_of(made: Sequence[Case]) -> set[str]:
    """The names of descriptors, as they stand in files."""
    return {case.make().spec()["kind"] for case in made}
