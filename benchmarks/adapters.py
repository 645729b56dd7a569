"""What a step costs with a model of another framework: in mlmd, by its own calculator, and in ASE's own loop.

    python benchmarks/adapters.py --envs FOLDER [--only chgnet] [--atoms 64 216] [--steps 12] [--threads 1]
    python benchmarks/adapters.py --envs FOLDER --potential '{ kind = "mace", path = "FILE", trust = "sha256:..." }'

The folder holds one environment for each framework, with mlmd in it (`tests/pretrained/environments.py --with-mlmd`).
Rock salt, or another structure, moves by ASE's velocity Verlet with the framework's calculator, at 600 K and 1 fs.
The positions of every second step are given to: the calculator itself (`calculate`); mlmd's evaluator around the
calculator in the same process; the same in a process of its own; and, where mlmd can ask the network about its own
pairs, that. All take turns in one process, in an order drawn for each step and with mlmd's way to keep freed memory;
each is asked twice, as in a run, and the second time counts: medians over the steps, with one thread of the
processor's time, that of the other process included, with more of the clock. The last columns are how far mlmd's own
pairs are from the calculator.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.stress import voigt_6_to_full_3x3_stress
from machine import processor

from mlmd.potentials import Evaluation
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.load import build
from mlmd.pretrained import serve
from mlmd.pretrained.external import External

ROOT = Path(__file__).parents[1]
POTENTIALS: list[dict[str, Any]] = [{"kind": "sevennet", "name": "7net-0"}, {"kind": "chgnet", "name": "0.3.0"}]
"""Those whose weights come with the framework."""
LATTICE = 5.64
"""Å, of NaCl."""
WARM_UP = 4
"""Steps that do not count: some frameworks compile while they compute for the first times."""
WANTED = ["energy", "forces", "stress"]
WAYS = ("calculator", "loop", "around", "elsewhere", "pairs")
COLUMNS = ("its calculator", "ASE's loop", "mlmd, around it", "mlmd, other process", "mlmd, own pairs")


def salt(n_atoms: int) -> Atoms:
    """A cube of NaCl.

    Raises:
        SystemExit: when no cube has so many ions.
    """
    repeat = round((n_atoms / 8) ** (1 / 3))
    if 8 * repeat**3 != n_atoms:
        raise SystemExit(f"{n_atoms} ions make no cube of rock salt: give 8 n³, e.g. 64 or 216")
    return bulk("NaCl", "rocksalt", LATTICE, cubic=True) * (repeat, repeat, repeat)


def clock(threads: int, pid: int | None = None) -> Callable[[], float]:
    """What measures, s: the processor's time of this process and, where it is given, of all threads of another one."""
    if threads > 1:
        return time.perf_counter
    if pid is None:
        return time.process_time
    others = Path(f"/proc/{pid}/task")
    return lambda: (
        time.process_time() + 1e-9 * sum(int(one.read_text().split()[0]) for one in others.glob("*/schedstat"))
    )


def timed(call: Callable[[], Any], now: Callable[[], float]) -> tuple[Any, float]:
    """What a call gives, and the seconds it took."""
    start = now()
    found = call()
    return found, now() - start


def structure(what: str) -> Atoms:
    """A cube of NaCl of so many ions, or what a file holds."""
    return salt(int(what)) if what.isdigit() else read(what)


def measure(table: Mapping[str, Any], what: str, steps: int, threads: int) -> dict[str, Any]:
    """Seconds of a step by each of the ways, and how far mlmd's own pairs are from the calculator.

    Args:
        table: of the potential, as an input has it.
        what: number of ions, or a file.
        steps: that count.
        threads: with which torch computes.
    """
    torch.set_num_threads(threads)
    options = {name: Path(value) if name == "path" else value for name, value in table.items() if name != "kind"}
    potential = build(table["kind"], options)
    around: External = getattr(potential, "external", potential)
    elsewhere = build(table["kind"], {**options, "python": sys.executable})
    alone, moved = (serve.build(around.recipe.target, around.recipe.on("cpu")) for _ in range(2))

    atoms = structure(what)
    wanted = WANTED if atoms.pbc.all() else WANTED[:2]
    atoms.calc = moved
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(1))
    dynamics = VelocityVerlet(atoms, timestep=units.fs)
    before, still, system = atoms.copy(), atoms.copy(), (atoms.numbers, atoms.pbc)
    asked: dict[str, Any] = {"around": around.evaluator(*system), "elsewhere": elsewhere.evaluator(*system)}
    if potential is not around:
        asked["pairs"] = evaluator(potential, *system)
    now = clock(threads)
    clocks = dict.fromkeys(WAYS, now) | {
        "elsewhere": clock(threads, elsewhere._workers[elsewhere.device]._process.running.pid)
    }
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    off = np.zeros(3)
    turns = np.random.default_rng(2)
    for step in range(WARM_UP + steps):
        seconds, answers = {}, {}
        for way in turns.permutation(["loop", "calculator", *asked]):  # none is always the one after a certain other
            for given in (before, still):  # the first time brings into the caches what the ways before have driven out
                if way == "loop":
                    seconds[way] = timed(lambda: dynamics.run(1), clocks[way])[1]
                elif way == "calculator":
                    ask = partial(alone.calculate, given, wanted, serve.MOVED)
                    seconds[way] = timed(ask, clocks[way])[1]
                else:
                    ask = partial(asked[way].evaluate, given.positions, given.cell.array)
                    answers[way], seconds[way] = timed(ask, clocks[way])
        if "pairs" in asked:
            found = answers["pairs"]
            off = np.maximum(off, distances(found, alone.results, still))
        if step >= WARM_UP:
            for way, one in seconds.items():
                spent[way].append(one)
        before.positions[:], still.positions[:] = still.positions, atoms.positions
    medians = {way: float(np.median(one)) for way, one in spent.items() if one}
    return {"atoms": len(atoms), "seconds": medians, "off": off.tolist()}


def distances(found: Evaluation, results: Mapping[str, Any], atoms: Atoms) -> list[float]:
    """How far an evaluation is from a calculator: eV, eV/Å, and GPa where there is a stress."""
    off = [abs(found.energy - results["energy"]), np.abs(found.forces - results["forces"]).max(), 0.0]
    if atoms.pbc.all():
        stress = np.array(results["stress"], dtype=float)
        stress = voigt_6_to_full_3x3_stress(stress) if stress.shape == (6,) else stress
        off[2] = np.abs(found.virial / atoms.get_volume() - 0.5 * (stress + stress.T)).max() / units.GPa
    return off


def in_environment(python: Path, table: Mapping[str, Any], options: argparse.Namespace, what: str) -> dict[str, Any]:
    """What `measure` says under the Python of an environment."""
    inside = json.dumps([table, what, options.steps, options.threads])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        [str(python), __file__, "--inside", inside], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(kind: str, found: Mapping[str, Any]) -> str:
    """A line of the table: ms, and in parts of the calculator's and of the loop's time."""
    seconds, (energy, forces, stress) = found["seconds"], found["off"]
    cells = []
    for way in WAYS:
        if way not in seconds:
            cells.append("none")
            continue
        cell = f"{1e3 * seconds[way]:.1f}"
        if way in ("around", "elsewhere", "pairs"):
            cell += (
                f" ({100 * (seconds[way] / seconds['calculator'] - 1):+.1f} %, {seconds['loop'] / seconds[way]:.2f})"
            )
        cells.append(cell)
    off = f"{energy:.0e} eV | {forces:.0e} eV/Å | {stress:.0e} GPa" if "pairs" in seconds else "| |"
    return f"| {kind} | {found['atoms']} | " + " | ".join(cells) + f" | {off} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, help="folder of environments")
    parser.add_argument("--potential", action="append", default=[], metavar="TABLE", help="of an input file, in TOML")
    parser.add_argument("--only", nargs="+", metavar="KIND", help="of those whose weights come with the framework")
    parser.add_argument("--atoms", type=int, nargs="+", default=[64, 216])
    parser.add_argument("--structure", nargs="+", metavar="FILE", help="in the place of rock salt, of any elements")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(*json.loads(options.inside))))
        return
    if options.envs is None:
        parser.error("--envs FOLDER is needed")
    given = [tomllib.loads(f"potential = {one}")["potential"] for one in options.potential]
    tables = given or [one for one in POTENTIALS if options.only is None or one["kind"] in options.only]
    print(f"{processor()}, {options.threads} thread(s), torch {torch.__version__}; ms per step (more than its")
    print("calculator, times as fast as ASE's loop)\n")
    print("| model | atoms | " + " | ".join(COLUMNS) + " | energy | forces | stress |")
    print("|" + "---|" * (len(COLUMNS) + 5))
    for table in tables:
        python = options.envs.absolute() / table["kind"] / "bin" / "python"
        if not python.exists():
            print(f"{table['kind']}: no environment at {python}", file=sys.stderr)
            continue
        for what in options.structure or map(str, options.atoms):
            print(row(table["kind"], in_environment(python, table, options, what)), flush=True)


if __name__ == "__main__":
    main()
