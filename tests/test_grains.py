"""Grains: each is found with the way it is turned, in fcc and bcc, also where atoms are displaced."""

from __future__ import annotations

import ase
import ase.build
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlmd.analysis.common_neighbours import BCC, FCC, structure_types
from mlmd.analysis.grains import Grain, grains, misorientation, orientations
from mlmd.analysis.surroundings import bond_length, pairs_within

A = {"fcc": 3.6, "bcc": 2.9}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def ball(lattice: str, turn: Rotation, radius: float = 12.0) -> np.ndarray:
    """A round piece of a crystal about the origin, turned."""
    atoms = ase.build.bulk("Cu", lattice, A[lattice], cubic=True).repeat(12)
    positions = atoms.positions - atoms.positions.mean(axis=0)
    return turn.apply(positions[np.linalg.norm(positions, axis=1) < radius])


def of(positions: np.ndarray) -> tuple[Grain, ...]:
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    return grains(positions, cell, pbc, structure_types(positions, cell, pbc))


@pytest.mark.parametrize("lattice", ["fcc", "bcc"])
def test_a_crystal_is_one_grain_turned_as_it_is(lattice: str, rng: np.random.Generator) -> None:
    for turn in Rotation.random(3, rng=rng):
        positions = ball(lattice, turn)
        (found,) = of(positions + 0.06 * rng.normal(size=positions.shape))
        assert found.lattice == lattice
        # rows of the rotation back are the axes <100>; hundreds of atoms, each known to about two degrees
        angle = misorientation(found.axes[None], turn.inv().as_matrix()[None])[0]
        assert np.degrees(angle) < 0.5


@pytest.mark.parametrize("lattice", ["fcc", "bcc"])
def test_two_pieces_with_an_angle_between_them_are_two_grains(lattice: str, rng: np.random.Generator) -> None:
    for angle, expected in ((15.0, 2), (2.0, 1)):
        left, right = (ball(lattice, Rotation.from_euler("z", turn, degrees=True)) for turn in (0.0, angle))
        positions = np.concatenate([left[left[:, 0] < -0.6], right[right[:, 0] > 0.6]])
        found = of(positions + 0.03 * rng.normal(size=positions.shape))
        assert len(found) == expected
        if expected == 2:
            between = np.degrees(misorientation(found[0].axes[None], found[1].axes[None])[0])
            assert between == pytest.approx(angle, abs=0.5)
        assert {one.face[0] for one in found} == {"100"}


@pytest.mark.parametrize("face", ["100", "110", "111"])
def test_the_plane_of_a_slab_is_its_face(face: str, rng: np.random.Generator) -> None:
    slab = getattr(ase.build, f"fcc{face}")("Cu", (6, 6, 6), a=A["fcc"], vacuum=8)
    for displacement in (0.0, 0.05):  # opposite neighbours add up to nothing where atoms are at rest
        positions = slab.positions + displacement * rng.normal(size=(len(slab), 3))
        types = structure_types(positions, slab.cell.array, slab.pbc)
        (found,) = grains(positions, slab.cell.array, slab.pbc, types)
        assert found.face[0] == face and found.face[1] < 0.5


def test_equivalent_ways_to_turn_a_cube_are_the_same() -> None:
    one = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    other = one[[1, 2, 0]] * np.array([[-1.0], [-1.0], [1.0]])  # axes in another order, two of them reversed
    assert misorientation(one[None], other[None])[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("lattice", "kind"), [("fcc", FCC), ("bcc", BCC)])
def test_every_atom_knows_how_it_is_turned(lattice: str, kind: int, rng: np.random.Generator) -> None:
    turn = Rotation.random(rng=rng)
    positions = ball(lattice, turn)
    positions += 0.08 * rng.normal(size=positions.shape)
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    inside = structure_types(positions, cell, pbc) == kind
    near = pairs_within(2.0 * bond_length(positions, cell, pbc), positions, cell, pbc)
    axes = orientations(near.nearest(14)[0][inside], kind)
    off = np.degrees(misorientation(axes, np.broadcast_to(turn.inv().as_matrix(), axes.shape)))
    # a neighbour at 2.5 Å is 0.08 √2 Å or 2.6° off its direction along either axis; six or twelve are averaged
    assert np.median(off) < 2.0
