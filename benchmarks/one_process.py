"""Time and memory of one program with one potential on one structure, in a process of its own; prints JSON.

    python benchmarks/one_process.py mlmd Cu 8000 --precision float32
    python benchmarks/one_process.py mlmd nep.txt 8000 --element Si
    python benchmarks/one_process.py calorine nep.txt 8000 --element Si
    python benchmarks/one_process.py lammps "eam: * * Cu_u3.eam" 8000 --element Cu
    python benchmarks/one_process.py torch "edge list" 4000

`seconds`, of the processor, are those of one evaluation, the mean of the repeats, while atoms move a little and
lists of neighbours are kept (calorine searches every time). `peak` is the most memory that the whole process has used,
in bytes; `grown` is by how much evaluating the forces of `torch` raised it, the graph being there before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from crystals import crystal, structure_for

SPEED = 0.003  # Å: what an atom moves between evaluations, as in 1 fs at 300 K


def measure(program: str, potential: str, n_atoms: int, **options: object) -> dict[str, Any]:
    """Run this file in a process of its own.

    Raises:
        RuntimeError: with what the process said, when it fails.
    """
    given = [part for name, value in options.items() if value is not None for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if program == "torch":
        environment["MLMD_KERNELS"] = "off"
    command = [sys.executable, __file__, program, potential, str(n_atoms), *given]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        raise RuntimeError(f"{program} {potential} {n_atoms}: {answer.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def in_bytes(name: str) -> int:
    """A line of /proc/self/status, such as VmHWM: the most memory of this process, without what it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


def by_mlmd(potential: str, element: str | None, n_atoms: int, precision: str) -> tuple[int, Callable]:
    """Forces by mlmd."""
    import torch

    from mlmd import models
    from mlmd.potentials import nep_file
    from mlmd.potentials.evaluate import evaluator
    from mlmd.potentials.modelfile import load

    torch.set_num_threads(1)
    path = Path(potential)
    if path.is_file():
        made: Any = nep_file.load(path, precision)
    else:
        made = load(models.path(potential), precision)
    atoms = crystal(element, n_atoms) if element else structure_for(made.elements, path, n_atoms)
    positions, cell = atoms.positions, atoms.cell.array
    ready = evaluator(made, atoms.numbers, atoms.pbc)
    move = mover(positions)

    def once() -> float:
        move()
        start = time.process_time()
        ready.evaluate(positions, cell)
        return time.process_time() - start

    return len(atoms), once


def by_calorine(potential: str, element: str | None, n_atoms: int) -> tuple[int, Callable]:
    """Forces by calorine."""
    from calorine.calculators import CPUNEP

    calculator = CPUNEP(potential)
    elements = [element] if element else Path(potential).read_text().split("\n", 1)[0].split()[2:]
    atoms = structure_for(elements, Path(potential), n_atoms)
    move = mover(atoms.positions)

    def once() -> float:
        move()
        start = time.process_time()
        calculator.calculate(atoms, ["energy", "forces"])
        return time.process_time() - start

    return len(atoms), once


def by_lammps(potential: str, element: str, n_atoms: int) -> tuple[int, Callable]:
    """Forces in steps of NVE by LAMMPS, which makes the crystal itself; "style: what follows pair_coeff"."""
    import lammps_peer

    style, coefficients = potential.split(": ")
    folder = str(lammps_peer.potentials())
    words = [f"{folder}/{word}" if "." in word else word for word in coefficients.split()]
    count, commands = lammps_peer.lattice(element, n_atoms)
    _, advance = lammps_peer.start(commands, style, " ".join(words))
    # shares of the time are told by the clock: turns must be long beside what else the machine does
    n_steps = max(1, min(500, round(0.3 / advance(1)[0])))
    return count, lambda: advance(n_steps)[0]


def by_torch(which: str, n_atoms: int) -> tuple[int, Callable]:
    """Forces of the network of `one_network` by plain torch or by mlmd's torch path; one thread."""
    import one_network
    import torch

    from mlmd.neighbors import build_graph

    torch.set_num_threads(1)
    potential = one_network.network()
    atoms = crystal("Cu", n_atoms, constant=one_network.LATTICE)
    graph = build_graph(atoms, one_network.CUTOFF)
    forces = one_network.TORCH[which]

    def once() -> float:
        start = time.process_time()
        found = forces(potential, graph)
        once.forces = found  # type: ignore[attr-defined]
        return time.process_time() - start

    return len(atoms), once


def mover(positions: np.ndarray) -> Callable[[], None]:
    """What moves the atoms to and fro by one step, so that lists are kept however many steps are taken."""
    shift = np.random.default_rng(3).normal(0, SPEED, positions.shape)

    def move() -> None:
        np.add(positions, shift, out=positions)
        np.negative(shift, out=shift)

    return move


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=["mlmd", "calorine", "lammps", "torch"])
    parser.add_argument("potential")
    parser.add_argument("n_atoms", type=int)
    parser.add_argument("--element")
    parser.add_argument("--precision", default="float64")
    parser.add_argument("--seconds", type=float, default=1.0, help="repeat for so long, at least twice")
    parser.add_argument("--forces", help="file to write the forces of torch to")
    given = parser.parse_args()
    makers: dict[str, Callable[[], tuple[int, Callable]]] = {
        "mlmd": lambda: by_mlmd(given.potential, given.element, given.n_atoms, given.precision),
        "calorine": lambda: by_calorine(given.potential, given.element, given.n_atoms),
        "lammps": lambda: by_lammps(given.potential, given.element, given.n_atoms),
        "torch": lambda: by_torch(given.potential, given.n_atoms),
    }
    n_atoms, once = makers[given.program]()
    before, peak = in_bytes("VmRSS"), in_bytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    once()
    grown = in_bytes("VmHWM") - before
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < given.seconds:
        taken.append(once())
    if given.forces:
        np.save(given.forces, once.forces.numpy())  # type: ignore[attr-defined]
    print(
        json.dumps(
            {
                "n_atoms": n_atoms,
                "seconds": sum(taken) / len(taken),
                "peak": max(peak, in_bytes("VmHWM")),
                "grown": grown,
            }
        )
    )


if __name__ == "__main__":
    main()
