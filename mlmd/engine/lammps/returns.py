"""Forces on copies of atoms back to the processes that own the atoms.

Which process owns an atom is asked of the one whose number is that of the atom modulo the number of processes: nobody
knows all atoms. What is found lasts until atoms change hands. Contributions are added in a fixed order, so that the
same division of the cell gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class Returns:
    """The way back for the copies that this process has."""

    def __init__(self, comm: Any, own: np.ndarray, copies: np.ndarray) -> None:
        """All processes together: identities of the atoms that each owns (n_own,), and those of its copies."""
        self._comm, self._n_own = comm, len(own)
        ways = _owners(comm, own, copies)
        to = _Deal(comm, ways[:, 0])
        self._wanted = to.order
        """Copies in the order of their owners."""
        self._mine = to.send(ways[to.order, 1])
        """Own atoms that a force comes back for, in the order in which it arrives."""
        self._forces = to

    def add(self, forces: np.ndarray) -> np.ndarray:
        """Forces (n_own, 3) on own atoms, of forces (n_own + n_copies, 3) on all that this process knows."""
        arrived = self._forces.send(forces[self._n_own :][self._wanted])
        total = np.empty((self._n_own, 3))
        for axis in range(3):
            more = np.bincount(self._mine, weights=arrived[:, axis], minlength=self._n_own)
            np.add(forces[: self._n_own, axis], more, out=total[:, axis])
        return total


class _Deal:
    """Rows that go to processes: how many to each, how many come from each."""

    def __init__(self, comm: Any, to: np.ndarray) -> None:
        self._comm = comm
        self.order = np.argsort(to, kind="stable")
        """Rows in the order in which they are sent."""
        self.n_sent = np.bincount(to, minlength=comm.size)
        self.n_received = np.empty_like(self.n_sent)
        comm.Alltoall(self.n_sent, self.n_received)

    def send(self, rows: np.ndarray) -> np.ndarray:
        """What arrives, by the process it comes from, where each sends its rows in `order`."""
        rows = np.ascontiguousarray(rows)
        arrived = np.empty((int(self.n_received.sum()), *rows.shape[1:]), dtype=rows.dtype)
        width = rows[0].size if len(rows) else int(np.prod(rows.shape[1:], dtype=np.int64))
        self._comm.Alltoallv([rows, self.n_sent * width], [arrived, self.n_received * width])
        return arrived


def _owners(comm: Any, own: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """(n_copies, 2): the process that owns each, and the number that it has among that process's atoms."""
    known = _Deal(comm, own % comm.size)
    listed = known.send(np.column_stack([own, np.arange(len(own))])[known.order])
    at = np.repeat(np.arange(comm.size), known.n_received)
    by_identity = np.argsort(listed[:, 0])
    asking = _Deal(comm, copies % comm.size)
    asked = asking.send(copies[asking.order])
    found = by_identity[np.searchsorted(listed[by_identity, 0], asked)]
    answering = _Deal(comm, np.repeat(np.arange(comm.size), asking.n_received))
    answers = answering.send(np.column_stack([at[found], listed[found, 1]]))
    ways = np.empty((len(copies), 2), dtype=np.int64)
    ways[asking.order] = answers
    return ways
