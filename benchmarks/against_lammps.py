"""Sections of `kernels.py` against LAMMPS: SNAP and classical potentials, and learned ones against both."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import one_network
import peers
from ase import Atoms
from crystals import crystal
from lammps_peer import lammps, potentials, ranks
from peers import Program
from side_by_side import Row, Seen, compare

from mlmd import models
from mlmd.potentials import eam, modelfile, nep_file, snap, stillinger_weber, tersoff
from mlmd.potentials.pair import LennardJones


def bundled(element: str, precision: str) -> Any:
    """A potential that comes with mlmd."""
    return modelfile.load(models.path(element), precision)


SNAPS = {"Ta06A": "Ta", "W_2940_2017_2": "W", "Si_Zuo_JPCA2020": "Si"}
"""Files that come with LAMMPS -> element."""


def lammps_snap(name: str, element: str, atoms: Atoms) -> Program:
    """SNAP alone, without the repulsion that some files ask for."""
    return lammps(f"SNAP {name}", atoms, "snap", snap_coefficients(name, element))


def snap_coefficients(name: str, element: str) -> str:
    """What follows pair_coeff."""
    path = potentials() / name
    return f"* * {path}.snapcoeff {path}.snapparam {element}"


def snaps(given: argparse.Namespace) -> list[Seen]:
    """SNAP in LAMMPS and here, one core, and two."""
    lines = []
    for name, element in SNAPS.items():
        atoms = crystal(element, given.atoms // 4)
        theirs = lammps_snap(name, element, atoms)
        both = ranks("SNAP", atoms, "snap", snap_coefficients(name, element), 2, theirs.forces)
        file = potentials() / f"{name}.snapcoeff"
        rows = [Row(theirs)]
        for precision, threads, aim in (
            ("float64", 1, "4"),
            ("float32", 1, ""),
            ("float64", 2, ""),
            ("float32", 2, ""),
        ):
            potential = snap.load(file, precision=precision)
            rows.append(Row(peers.mlmd("the same", potential, atoms, precision=precision, threads=threads), aim))
        rows.append(Row(both))
        lines += compare(given, f"SNAP {name}", atoms, rows)[0]
    return lines


def mtp_against_snap(given: argparse.Namespace) -> list[Seen]:
    """MTPs that come with mlmd, whose errors are smaller than SNAP's, against SNAP of the same element."""
    lines = []
    for element in ("Cu", "Ni", "Si"):
        atoms = crystal(element, given.atoms // 4)
        rows = [Row(lammps_snap(f"{element}_Zuo_JPCA2020", element, atoms))]
        for precision, threads in (("float64", 1), ("float32", 1), ("float32", 2)):
            program = peers.mlmd("MTP", bundled(element, precision), atoms, precision=precision, threads=threads)
            rows.append(Row(program, "15" if threads == 1 else ""))
        lines += compare(given, f"MTP of {element} against SNAP (Zuo 2020)", atoms, rows, same=False)[0]
    return lines


def against_sw(given: argparse.Namespace) -> list[Seen]:
    """Networks and MTP in single precision against the classical potential of silicon."""
    atoms = crystal("Si", given.atoms)
    rows = [Row(lammps("Stillinger–Weber", atoms, "sw", f"* * {potentials() / 'Si.sw'} Si"))]
    rows.append(Row(peers.mlmd("MTP Si", bundled("Si", "float32"), atoms, precision="float32"), "1 / 1.5"))
    for name in given.nep:
        path = name.partition(":")[0]
        potential = nep_file.load(path, "float32")
        if potential.elements == ("Si",):
            program = peers.mlmd(f"NEP {Path(path).stem}", potential, atoms, precision="float32")
            rows.append(Row(program, "1 / 1.5"))
    small = one_network.network("float32", "Si")
    rows.append(Row(peers.mlmd("radial-angular, as kern2v", small, atoms, precision="float32"), "1 / 1.5"))
    return compare(given, "Silicon: learned against Stillinger–Weber", atoms, rows, same=False)[0]


ARGON = {"epsilon": 0.0104, "sigma": 3.4, "cutoff": 8.5, "onset": 7.65}


def classical(given: argparse.Namespace) -> list[Seen]:
    """Lennard-Jones, EAM, Stillinger-Weber and Tersoff in LAMMPS, by its package OPT where that has them, and here."""
    folder = potentials()
    # the step of lj/mdf is ours; that of lj/cut is not smooth, so it stands beside without a ratio
    mdf = "* * {epsilon} {sigma} {onset} {cutoff}".format(**ARGON)
    for_argon: Callable[[str], Any] = lambda p: LennardJones(**ARGON, precision=p)  # noqa: E731
    cases: list[tuple[str, str, str, str, Callable[[str], Any]]] = [
        ("Lennard-Jones, 8.5 Å", "Ar", "lj/mdf {onset} {cutoff}".format(**ARGON), mdf, for_argon),
        ("EAM Cu_u3", "Cu", "eam", f"* * {folder / 'Cu_u3.eam'}", lambda p: eam.load(folder / "Cu_u3.eam", p)),
        ("Stillinger–Weber Si", "Si", "sw", f"* * {folder / 'Si.sw'} Si",
         lambda p: stillinger_weber.load(folder / "Si.sw", p)),
        ("Tersoff Si", "Si", "tersoff", f"* * {folder / 'Si.tersoff'} Si",
         lambda p: tersoff.load(folder / "Si.tersoff", p)),
    ]  # fmt: skip
    lines = []
    for title, element, style, coefficients, load in cases:
        atoms = crystal(element, 4 * given.atoms)
        name = style.split()[0]
        rows = [
            Row(lammps(name, atoms, style, coefficients, suffix="opt")),
            Row(lammps(name, atoms, style, coefficients, suffix="omp", threads=2)),
        ]
        if element == "Ar":
            cut = lammps("lj/cut", atoms, "lj/cut 8.5", f"* * {ARGON['epsilon']} {ARGON['sigma']}", suffix="opt")
            rows.append(Row(cut))
        for precision, threads in (("float64", 1), ("float32", 1), ("float64", 2), ("float32", 2)):
            made = peers.mlmd("the same", load(precision), atoms, precision=precision, threads=threads)
            rows.append(Row(made, "1" if threads == 1 else ""))
        lines += compare(given, title, atoms, rows)[0]
    return lines
