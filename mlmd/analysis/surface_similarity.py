"""Which face of a crystal a layer looks like: surface similarity analysis.

A layer is taken as the surface that it was before others came on top of it: its atoms are described with what lies in
it and below it. They are compared with the top of ideal slabs of as many layers with the faces (100), (110) and (111),

    S(hkl) = 1/N Σ_i max_r (p̂_i · p̂_r)^ζ,

p̂_i the SOAP power spectra (cutoff 6 Å, σ = 0.4 Å, 8 radial functions, l ≤ 6, length 1) of the N atoms of the layer,
p̂_r those of the atoms r of the top of the reference, ζ = 4. A power spectrum does not know how its surroundings are
turned, so deeper than the cutoff all faces would look alike; that is why layers above are left out.

The reference is strained, in the plane and along the normal, to where S is largest, as a film that has to fit onto its
substrate is. And it is as warm as the layer: its atoms are displaced by normal random numbers of a width u along each
axis, p̂_r is the mean of many such, of length 1, and u is what S is largest for (0 for a perfect layer). Without this,
displacements of 0.2 Å make close-packed faces look like open ones, (110) of bcc and (111) of fcc like (100). All atoms
count as of one kind: what is compared is the geometry.

After the idea of Lai et al., Small 19, 2205416 (2023), on lithium on copper, with the spectra of Bartók, Kondor and
Csányi, Phys. Rev. B 87, 184115 (2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ase
import ase.build
import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar

from mlmd.descriptors.soap import Soap
from mlmd.errors import InputError, did_you_mean
from mlmd.neighbors import build_graph

FACES = ("100", "110", "111")
LATTICES = ("fcc", "bcc")
CUTOFF = 6.0
"""Å."""
ZETA = 4
LARGEST_STRAIN = 0.03
"""Of the reference, in the plane and along the normal: with much more one face turns into another."""
_SCAN = np.linspace(-0.1, 0.1, 11)
"""Sizes of the lattice that are tried, relative to the one given."""
_LARGEST_DISPLACEMENT = 0.3
"""Å: a tenth of a bond, with which crystals melt; with more a gas looks like a face."""
_COPIES = 4
"""Cells of a warm reference along each direction in the plane."""
_BUILDERS = {(lattice, face): f"{lattice}{face}" for lattice in LATTICES for face in FACES}


@dataclass(frozen=True)
class Likeness:
    """How much a layer looks like one face, and what the reference was for that."""

    similarity: float
    """S, 1 for the same."""
    in_plane: float
    """Strain of the reference in the plane, relative to the lattice constant."""
    normal: float
    """And along the normal."""
    displacement: float
    """u of the reference, Å."""


def lattice_constant(lattice: str, bond: float) -> float:
    """Å, of a lattice whose nearest neighbours are at a distance in Å."""
    return bond * (np.sqrt(2.0) if lattice == "fcc" else 2.0 / np.sqrt(3.0))


def surface_similarity(
    layer: np.ndarray, below: np.ndarray, cell: np.ndarray, *, lattice: str, constant: float, width: float
) -> dict[str, Likeness]:
    """S of a layer with each face, and the reference with which it is that large.

    Args:
        layer: (n, 3) Å, its atoms.
        below: (m, 3) Å, the atoms below.
        cell: (3, 3) Å, which repeats in the plane of its first two vectors.
        lattice: of `LATTICES`.
        constant: its lattice constant, Å; strains are relative to it.
        width: of the layer, Å: from the reference the layers of as much thickness are looked at, one at least.

    Raises:
        InputError: for another lattice, or a layer without atoms.
    """
    if lattice not in LATTICES:
        raise InputError(
            f"{lattice!r} is not a lattice that layers are compared with. {did_you_mean(lattice, LATTICES)}"
        )
    if not len(layer):
        raise InputError("a layer without atoms looks like nothing.")
    near = below[below[:, 2] > layer[:, 2].min() - CUTOFF]
    depth = float(np.mean(layer[:, 2]) - below[:, 2].min()) if len(below) else 0.0
    spectra = _spectra(np.concatenate([layer, near]), cell, len(layer))
    found = {face: _Reference(spectra, lattice, face, constant, depth, width) for face in FACES}
    # What is as large as the film in the best case, whatever its face, is the lattice without strain.
    size = max((one.similarity(e, e), e) for one in found.values() for e in _SCAN)[1]
    return {face: one.best(size) for face, one in found.items()}


def reference(
    lattice: str, face: str, constant: float, depth: float, strain: tuple[float, float] = (0.0, 0.0)
) -> ase.Atoms:
    """The top of an ideal slab, its highest layer first: as many layers as lie within a depth (Å) and the cutoff."""
    spacing = _spacing(lattice, face) * constant
    n_layers = 1 + min(round(depth / spacing), int(1.2 * CUTOFF / spacing) + 1)
    slab = getattr(ase.build, _BUILDERS[lattice, face])("H", (1, 1, n_layers), a=constant, vacuum=10.0)
    slab = slab[::-1]
    slab.pbc = (True, True, False)
    scale = np.array([1.0 + strain[0], 1.0 + strain[0], 1.0 + strain[1]])
    slab.set_cell(slab.cell.array * scale, scale_atoms=False)
    slab.positions *= scale
    return slab


@cache
def _spacing(lattice: str, face: str) -> float:
    """Distance between layers in units of the lattice constant."""
    slab = getattr(ase.build, _BUILDERS[lattice, face])("H", (1, 1, 2), a=1.0, vacuum=1.0)
    return float(np.ptp(slab.positions[:, 2]))


@cache
def _descriptor() -> Soap:
    return Soap(elements=["H"], cutoff=CUTOFF, sigma=0.4, n_max=8, l_max=6)


def _spectra(positions: np.ndarray, cell: np.ndarray, n_first: int) -> np.ndarray:
    """(n_first, n_features) of the first atoms, of length 1."""
    atoms = ase.Atoms(numbers=np.ones(len(positions), dtype=int), positions=positions, cell=cell, pbc=(1, 1, 0))
    with torch.no_grad():
        rows: np.ndarray = _descriptor().features(build_graph(atoms, CUTOFF), slice(0, n_first)).numpy()
    return rows


@dataclass(frozen=True)
class _Reference:
    """One face, to be strained."""

    spectra: np.ndarray
    """(n_atoms, n_features) of the layer."""
    lattice: str
    face: str
    constant: float
    depth: float
    width: float

    def similarity(self, in_plane: float, normal: float) -> float:
        """S with an ideal slab at a strain."""
        slab = self._slab(in_plane, normal)
        return self._with(_spectra(slab.positions, slab.cell.array, self._n_top(slab)))

    def best(self, size: float) -> Likeness:
        """Where S is largest near a lattice that is larger by `size`."""
        ends = (size - LARGEST_STRAIN, size + LARGEST_STRAIN)
        corners = size + np.array([[0.0, 0.0], [0.01, 0.0], [0.0, 0.01]])
        found = minimize(
            lambda strain: -self.similarity(*strain), corners[0], method="Nelder-Mead", bounds=[ends, ends],
            options={"initial_simplex": corners, "xatol": 5e-4, "fatol": 1e-5},
        )  # fmt: skip
        slab = self._slab(*found.x)
        warm = minimize_scalar(
            lambda u: -self._warm(slab, u),
            bounds=(0.0, _LARGEST_DISPLACEMENT),
            method="bounded",
            options={"xatol": 0.01},
        )
        at_rest = -float(found.fun)
        value, width = max((at_rest, 0.0), (-float(warm.fun), float(warm.x)))
        return Likeness(value, float(found.x[0]), float(found.x[1]), width)

    def _slab(self, in_plane: float, normal: float) -> ase.Atoms:
        return reference(self.lattice, self.face, self.constant, self.depth, (in_plane, normal))

    def _n_top(self, slab: ase.Atoms) -> int:
        """Layers of the reference that are as thick as the layer."""
        spacing = _spacing(self.lattice, self.face) * self.constant
        return min(len(slab), max(1, round(self.width / spacing)))

    def _with(self, rows: np.ndarray) -> float:
        return float(((self.spectra @ rows.T) ** ZETA).max(axis=1).mean())

    def _warm(self, slab: ase.Atoms, displacement: float) -> float:
        """S with the mean spectra of displaced copies."""
        copies = slab.repeat((_COPIES, _COPIES, 1))
        order = np.argsort(-copies.positions[:, 2], kind="stable")  # layer by layer from the top
        # the same numbers for every face and width, so that S is a smooth function of the width
        moves = np.random.default_rng(1).normal(size=(len(copies), 3))
        n_top, each = self._n_top(slab), _COPIES**2
        rows = _spectra(copies.positions[order] + displacement * moves, copies.cell.array, n_top * each)
        means = rows.reshape(n_top, each, -1).mean(axis=1)
        return self._with(means / np.linalg.norm(means, axis=1, keepdims=True))
