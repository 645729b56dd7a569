"""How fast mlmd's compiled potentials are beside other programs, and how much memory they take.

    GOMP_SPINCOUNT=1000 python benchmarks/kernels.py --nep Si.txt C.txt alloy.txt:Cu alloy.txt Li3PS4/nep.txt
        --mtp fitted.mtp:Li,Y,Cl --prototype kern2v.cpp --plot speed.png
    python benchmarks/kernels.py --only snap classical     # some sections

Programs take turns: in every round each one moves the same crystal, off its places at 300 K, by some steps of Newton's
equations, and only the time of its list and its potential counts (`peers.py`). The median of the rounds is printed.
GOMP_SPINCOUNT is what the command `mlmd` sets: threads that spin long would take time of the next turn. Before that all
must give the same forces where their potential is the same, else no ratio is printed. Sections named "mtp-vs-snap" and
"sw" compare different potentials of the same element, and say so. Needs

    pip install -c constraints.txt ".[bench]"

Sections: kern2v (a prototype kernel in C++ with the same parameters, `one_network.py`), nep (calorine), mtp (motep),
snap, mtp-vs-snap, sw, classical (LAMMPS), size (time and memory by number of atoms, with a plot), flat (the same time
of few sizes by turns), torch (mlmd's path without kernels against an edge list). Those whose files or programs are not
there are left out with a note.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import against_lammps
import kernel_sizes
import numpy as np
import one_network
import peers
from crystals import crystal, off_places, structure_for
from machine import processor
from one_process import measure
from peers import Program
from side_by_side import TOLERANCE, Row, Seen, compare, left_out

from mlmd.kernels import describe
from mlmd.potentials import mtp, nep_file

ROOT = Path(__file__).parents[1]


def kern2v(given: argparse.Namespace) -> list[Seen]:
    """A prototype kernel with the same parameters; it gets its list, mlmd follows its own."""
    if given.prototype is None:
        return left_out("kern2v", "give --prototype kern2v.cpp")
    atoms = crystal("Cu", 8788, lattice="fcc", constant=one_network.LATTICE)
    library, potential = one_network.compiled(given.prototype), one_network.network()
    lines = []
    for precision in TOLERANCE:
        for threads in (1, 2):
            run = one_network.Prototype(library, potential, atoms, precision, threads)
            forces = run(atoms.positions)[0]
            theirs = Program("prototype", threads, precision, "given, not followed", forces, peers.verlet(atoms, run))
            ours = peers.mlmd("the same", one_network.network(precision), atoms, precision=precision, threads=threads)
            title = f"radial-angular kernel, 54 neighbours, {precision}, {threads} thread{'s' * (threads > 1)}"
            seen, us = compare(given, title, atoms, [Row(theirs), Row(ours, "1")])
            lines += seen
            peak = one_network.peak(threads, precision)
            rates = {one.name: one_network.FLOPS_PER_PAIR * 54 / 1e3 / us[one] for one in us}
            shares = ", ".join(f"{name} {rate:.0f} ({100 * rate / peak:.0f} %)" for name, rate in rates.items())
            print(
                f"\nGFLOP/s at 2.1 kflop per pair, and share of the {peak:.0f} of fused multiply-adds alone: {shares}"
            )
    return lines


def nep(given: argparse.Namespace) -> list[Seen]:
    """NEP files in calorine and here, and the memory of both."""
    if not given.nep:
        return left_out("nep", "give --nep FILE ...")
    lines = []
    for name in given.nep:
        path, _, element = name.partition(":")
        potentials = {precision: nep_file.load(path, precision) for precision in TOLERANCE}
        elements = [element] if element else potentials["float64"].elements
        atoms = structure_for(elements, Path(path), given.atoms)
        rows = [Row(one) for one in peers.calorine(Path(path), atoms)]
        for precision, threads, skin, aim in (
            ("float64", 1, None, "45"), ("float64", 1, 0.0, ""), ("float32", 1, None, ""), ("float32", 1, 0.0, ""),
            ("float64", 2, None, "90"), ("float64", 2, 0.0, ""), ("float32", 2, None, "150"), ("float32", 2, 0.0, ""),
        ):  # fmt: skip
            options = {} if skin is None else {"skin": skin}
            made = peers.mlmd("the same", potentials[precision], atoms, precision=precision, threads=threads, **options)
            rows.append(Row(made, aim))
        title = (
            f"NEP {Path(path).stem[:20]} ({', '.join(elements) if len(elements) < 5 else f'{len(elements)} elements'})"
        )
        seen, _ = compare(given, title, atoms, rows)
        lines += seen
        if not (Path(path).parent / "model.xyz.xz").is_file() or len(elements) == 1:
            lines += nep_memory(title, path, element or None)
    return lines


def nep_memory(title: str, path: str, element: str | None) -> list[Seen]:
    """kB per atom: how much more two sizes take in processes of their own, divided by the atoms between them."""
    per_atom = {}
    for program, sizes in (("calorine", (4_000, 16_000)), ("mlmd", (50_000, 400_000))):
        small, large = (measure(program, path, size, element=element, seconds=0.0) for size in sizes)
        per_atom[program] = (large["peak"] - small["peak"]) / (large["n_atoms"] - small["n_atoms"]) / 1e3
    print(f"\nMemory: calorine {per_atom['calorine']:.0f} kB/atom, mlmd f64 {per_atom['mlmd']:.2f} kB/atom")
    what = f"{title}: kB/atom, calorine against mlmd"
    return [Seen(what, f"{per_atom['calorine']:.0f} : {per_atom['mlmd']:.2f}", "125 : 1")]


def published_mtp(given: argparse.Namespace) -> list[Seen]:
    """A published MTP of Li3YCl6 in motep and here."""
    if given.mtp is None:
        return left_out("mtp", "give --mtp FILE:Li,Y,Cl")
    name, _, listed = given.mtp.rpartition(":")
    elements = listed.split(",")
    atoms = off_places(ROOT / "inputs" / "li3ycl6.cif", (2, 2, 4))
    rows = [Row(peers.motep(Path(name), elements, atoms))]
    for precision, threads, aim in (("float64", 1, "10"), ("float32", 1, ""), ("float64", 2, ""), ("float32", 2, "")):
        potential = mtp.load(name, elements, precision)
        rows.append(Row(peers.mlmd("the same", potential, atoms, precision=precision, threads=threads), aim))
    return compare(given, "MTP of Li3YCl6 (Qi 2021)", atoms, rows)[0]


def size(given: argparse.Namespace) -> list[Seen]:
    """Time and memory by number of atoms."""
    silicon = next(
        (Path(name) for name in given.nep if ":" not in name and nep_file.load(name).elements == ("Si",)), None
    )
    print("\n**By number of atoms**, one core, lists kept (calorine searches at every call), each in its own process\n")
    found = kernel_sizes.table(kernel_sizes.curves(silicon), given.largest, given.seconds, given.rounds)
    if given.plot:
        caption = f"{processor()}, {datetime.date.today()}, kernels: {describe()}"
        kernel_sizes.plot(found, kernel_sizes.curves(silicon), given.plot, caption)
        print(f"\nDrawn: {given.plot}")
    return [
        Seen(
            f"{label}, whole process, {rows['n_atoms'][-1]:.0f} atoms", f"{rows['bytes'][-1] / 1e3:.2f} kB/atom", "1.5"
        )
        for label, rows in found.items()
        if label.startswith("mlmd")
    ]


def flat(given: argparse.Namespace) -> list[Seen]:
    """Time per atom of four sizes by turns."""
    silicon = next(
        (Path(name) for name in given.nep if ":" not in name and nep_file.load(name).elements == ("Si",)), None
    )
    lines = []
    for one in kernel_sizes.curves(silicon, ["mlmd"]):
        said = kernel_sizes.told(kernel_sizes.flatness(one, given.rounds))
        print(f"{one.label}, 8·10³, 64·10³, 256·10³, 10⁶ atoms: {said}", flush=True)
        lines.append(Seen(f"{one.label}, 8·10³ to 10⁶ atoms", said, "± 10 %"))
    return lines


def without_kernels(given: argparse.Namespace) -> list[Seen]:
    """mlmd's torch path against an edge list: the same network, forces, time and memory."""
    folder = Path(tempfile.mkdtemp(prefix="torch-"))
    times: dict[str, list[float]] = {name: [] for name in one_network.TORCH}
    grown, forces = {}, {}
    for _ in range(2):
        for name in one_network.TORCH:
            file = folder / f"{name}.npy"
            got = measure("torch", name, 4000, seconds=2 * given.seconds, forces=file)
            times[name].append(got["seconds"] / got["n_atoms"])
            grown[name], forces[name] = got["grown"] / got["n_atoms"] / 1e3, np.load(file)
    off = float(np.abs(forces["mlmd"] - forces["edge list"]).max())
    faster = min(times["edge list"]) / min(times["mlmd"])
    smaller = grown["edge list"] / grown["mlmd"]
    print("\n**torch without kernels**, one network, 4000 atoms, 54 neighbours, float64, one thread, pairs given\n")
    print("| program | µs/atom (smallest) | kB/atom more than before |\n| --- | ---: | ---: |")
    for name, taken in times.items():
        print(f"| {name} | {1e6 * min(taken):.0f} | {grown[name]:.1f} |")
    if not off < 1e-8:
        raise RuntimeError(f"forces differ by {off} eV/Å")
    print(f"\nForces differ by {off:.0e} eV/Å.")
    return [
        Seen("torch: edge list / mlmd, time", f"{faster:.1f}", "4"),
        Seen("torch: the same, memory", f"{smaller:.0f}", "8"),
    ]


SECTIONS: dict[str, Callable[[argparse.Namespace], list[Seen]]] = {
    "kern2v": kern2v,
    "nep": nep,
    "mtp": published_mtp,
    "snap": against_lammps.snaps,
    "mtp-vs-snap": against_lammps.mtp_against_snap,
    "sw": against_lammps.against_sw,
    "classical": against_lammps.classical,
    "size": size,
    "flat": flat,
    "torch": without_kernels,
}


def versions() -> str:
    """Versions of the programs."""
    found = []
    for name in ("calorine", "lammps", "motep", "numpy", "torch"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def main() -> None:
    """Print the tables and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--prototype", type=Path, help="kern2v.cpp")
    parser.add_argument("--nep", nargs="+", default=[], metavar="FILE[:ELEMENT]", help="NEP files, of one element only")
    parser.add_argument("--mtp", metavar="FILE:ELEMENTS", help="published MTP of Li3YCl6, e.g. fitted.mtp:Li,Y,Cl")
    parser.add_argument("--plot", type=Path, help="PNG to draw the section size in")
    parser.add_argument(
        "--atoms", type=int, default=4000, help="about so many in a crystal; a quarter for SNAP, four times classical"
    )
    parser.add_argument("--largest", type=int, default=1_000_000, help="atoms of the section size")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one program in one round")
    given = parser.parse_args()
    print(
        f"{datetime.date.today()}, {processor()}, kernels: {describe()}, median of {given.rounds} rounds; {versions()}"
    )
    seen: list[Seen] = []
    failed = []
    for name in given.only:
        start = time.perf_counter()
        try:
            seen += SECTIONS[name](given)
        except Exception:  # the other sections are worth having
            traceback.print_exc()
            failed.append(name)
        print(f"\n({name}: {time.perf_counter() - start:.0f} s)", flush=True)
    print("\n**Summary**: how many times as fast as the first program of its table\n")
    print("| comparison | seen | aimed at |\n| --- | ---: | ---: |")
    for line in seen:
        print(f"| {line.what} | {line.seen} | {line.aimed} |")
    if failed:
        sys.exit(f"\nFailed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
