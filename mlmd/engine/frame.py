"""The engine's frame: OpenMM wants triclinic cells in reduced form, and users want theirs back.

OpenMM's form has a along x, b in the xy plane, and 2|b_x| ≤ a_x, 2|c_x| ≤ a_x, 2|c_y| ≤ b_y. Any right-handed cell
(rows a, b, c) gets there by a rotation Q and an integer change of lattice vectors M:

    user = M⁻¹ · reduced · Q,      positions_user = positions_engine · Q.

M is unit lower triangular, so the cell M⁻¹ · reduced has the user's lengths and angles in standard orientation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Frame:
    """Rotation and lattice change between the user's cell and the engine's."""

    rotation: np.ndarray
    """(3, 3) Q, proper: user = standard @ Q."""
    lattice: np.ndarray
    """(3, 3) M, integers, unit lower triangular: reduced = M @ standard."""

    @property
    def turned(self) -> bool:
        """Whether the orientation differs at all."""
        return not np.array_equal(self.rotation, np.eye(3))

    def to_engine(self, vectors: np.ndarray) -> np.ndarray:
        """Positions or velocities (..., 3) in the engine's orientation."""
        return vectors @ self.rotation.T if self.turned else vectors

    def to_user(self, vectors: np.ndarray) -> np.ndarray:
        """Positions, velocities or forces (..., 3) in the user's orientation."""
        return vectors @ self.rotation if self.turned else vectors

    def tensor_to_user(self, tensor: np.ndarray) -> np.ndarray:
        """A second-rank tensor (3, 3), e.g. a stress, in the user's orientation."""
        return self.rotation.T @ tensor @ self.rotation if self.turned else tensor

    def standard_cell(self, reduced: np.ndarray) -> np.ndarray:
        """(3, 3) Å: the user's lattice vectors, a along x and b in the xy plane."""
        return np.linalg.solve(self.lattice.astype(float), reduced) if self._changed else reduced

    def user_cell(self, reduced: np.ndarray) -> np.ndarray:
        """(3, 3) Å: the user's lattice vectors in the user's orientation."""
        return self.to_user(self.standard_cell(reduced))

    @property
    def _changed(self) -> bool:
        return not np.array_equal(self.lattice, np.eye(3))

    def reduce(self, cell: np.ndarray) -> tuple[np.ndarray, Frame]:
        """Reduce an engine cell that a volume move has driven out of OpenMM's form; the frame that goes with it."""
        reduced, change = reduce_cell(cell)
        return reduced, replace(self, lattice=change @ self.lattice)


IDENTITY = Frame(np.eye(3), np.eye(3, dtype=int))


def frame_of(cell: np.ndarray, pbc: np.ndarray) -> tuple[np.ndarray, Frame]:
    """The engine's cell (3, 3) Å and the frame that leads there from a user's cell.

    Only fully periodic systems are turned: the potential takes any other cell as it is, and OpenMM needs none.
    """
    if not np.all(pbc):
        return np.array(cell, dtype=float), IDENTITY
    standard, rotation = _standardize(np.array(cell, dtype=float))
    reduced, lattice = reduce_cell(standard)
    return reduced, Frame(rotation, lattice)


def _standardize(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower-triangular cell with a positive diagonal and the rotation back: cell = standard @ rotation."""
    if np.array_equal(cell, np.tril(cell)) and np.all(np.diag(cell) > 0):
        return cell, np.eye(3)
    q, r = np.linalg.qr(cell.T)
    signs = np.sign(np.diag(r))
    return np.tril((r.T) * signs), (q * signs).T


def reduce_cell(standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenMM's reduced form of a lower-triangular cell (3, 3) and the integers M with reduced = M @ standard."""
    cell, lattice = standard.copy(), np.eye(3, dtype=int)
    for row, column in ((2, 1), (2, 0), (1, 0)):
        times = int(np.rint(cell[row, column] / cell[column, column]))
        cell[row] -= times * cell[column]
        # OpenMM compares to the last bit, and where angles are 60° a half and one bit more has been rounded to a half
        more = int(np.sign(cell[row, column])) * int(2 * abs(cell[row, column]) > cell[column, column])
        cell[row] -= more * cell[column]
        lattice[row] -= (times + more) * lattice[column]
    return cell, lattice
