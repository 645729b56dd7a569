"""Any crystal gets into OpenMM's reduced form and back into the user's axes."""

from __future__ import annotations

import ase
import numpy as np
import openmm
import pytest
from ase.cell import Cell
from scipy.spatial.transform import Rotation

from mlmd.engine.frame import Frame, frame_of, reduce_cell

PERIODIC = np.array([True, True, True])
LATTICES = {
    "cubic": [5, 5, 5, 90, 90, 90],
    "fcc": [5, 5, 5, 60, 60, 60],
    "bcc": [5, 5, 5, 109.47122063449069, 109.47122063449069, 109.47122063449069],
    "hexagonal 120": [4, 4, 7, 90, 90, 120],
    "hexagonal 60": [4, 4, 7, 90, 90, 60],
    "flat rhombohedral": [6, 6, 6, 115, 115, 115],
    "sharp rhombohedral": [9, 9, 9, 25, 25, 25],
    "triclinic": [4, 6, 9, 71, 98, 113],
}


def orientations(n: int = 200) -> list[np.ndarray]:
    """Rotations (3, 3), the first of them none."""
    return [np.eye(3), *Rotation.random(n, random_state=np.random.default_rng(1)).as_matrix()]


def other_vectors(rng: np.random.Generator) -> np.ndarray:
    """(3, 3) integers of determinant 1: other vectors of the same lattice."""
    lower, upper = (np.eye(3, dtype=int) for _ in range(2))
    lower[np.tril_indices(3, -1)] = rng.integers(-2, 3, 3)
    upper[np.triu_indices(3, 1)] = rng.integers(-2, 3, 3)
    return np.asarray(lower @ upper)


@pytest.mark.parametrize("lattice", LATTICES)
def test_openmm_takes_every_lattice_in_every_orientation(lattice: str) -> None:
    # angles of 60° and 120° lie on the border of the reduced form, where the last bit decides
    cell, rng = Cell.fromcellpar(LATTICES[lattice]).array, np.random.default_rng(2)
    for rotation in orientations():
        for vectors in (np.eye(3), other_vectors(rng)):
            user = vectors @ cell @ rotation
            for given in (user, np.round(user, 8)):
                reduced, frame = frame_of(given, PERIODIC)
                openmm.System().setDefaultPeriodicBoxVectors(*(reduced / 10))
                assert np.linalg.det(reduced) == pytest.approx(np.linalg.det(given), rel=1e-9)
                np.testing.assert_allclose(frame.user_cell(reduced), given, atol=1e-9)


@pytest.mark.parametrize("lattice", LATTICES)
def test_positions_come_back_and_stay_where_they_are_in_the_crystal(lattice: str) -> None:
    rng = np.random.default_rng(3)
    user = other_vectors(rng) @ Cell.fromcellpar(LATTICES[lattice]).array @ orientations(1)[1]
    positions = rng.random((10, 3)) @ user
    reduced, frame = frame_of(user, PERIODIC)
    engine = frame.to_engine(positions)
    np.testing.assert_allclose(frame.to_user(engine), positions, atol=1e-12)
    one = ase.Atoms("H10", positions, cell=user, pbc=True).get_all_distances(mic=True)
    other = ase.Atoms("H10", engine, cell=reduced, pbc=True).get_all_distances(mic=True)
    np.testing.assert_allclose(other, one, atol=1e-9)


def test_tensors_turn_with_the_axes() -> None:
    _, frame = frame_of(Cell.fromcellpar(LATTICES["triclinic"]).array @ orientations(1)[1], PERIODIC)
    vector = np.array([1.0, 2.0, 3.0])
    tensor = np.outer(frame.to_engine(vector), frame.to_engine(vector))
    np.testing.assert_allclose(frame.tensor_to_user(tensor), np.outer(vector, vector), atol=1e-12)


def test_a_standard_cell_is_left_alone_to_the_last_bit() -> None:
    cell = np.array([[4.0, 0.0, 0.0], [1.3, 5.0, 0.0], [-0.7, 2.1, 6.0]])
    reduced, frame = frame_of(cell, PERIODIC)
    assert np.array_equal(reduced, cell)
    assert not frame.turned and np.array_equal(frame.lattice, np.eye(3))


def test_open_directions_are_left_to_the_potential() -> None:
    cell = np.array([[0.0, 4.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    reduced, frame = frame_of(cell, np.array([True, True, False]))
    assert np.array_equal(reduced, cell) and not frame.turned


def test_a_cell_that_left_the_reduced_form_is_the_same_lattice_in_the_frame_that_follows() -> None:
    cell = np.array([[4.0, 0.0, 0.0], [1.9, 5.0, 0.0], [0.5, 2.4, 6.0]])
    reduced, frame = frame_of(cell, PERIODIC)
    driven = reduced @ np.array([[0.95, 0.0, 0.0], [0.04, 1.0, 0.0], [0.03, 0.04, 1.0]])  # as the barostat does
    again, following = frame.reduce(driven)
    assert not np.array_equal(following.lattice, frame.lattice)
    np.testing.assert_allclose(following.user_cell(again), frame.user_cell(driven), atol=1e-12)
    assert isinstance(following, Frame)
    once_more, change = reduce_cell(again)
    assert np.array_equal(change, np.eye(3)) and np.array_equal(once_more, again)
