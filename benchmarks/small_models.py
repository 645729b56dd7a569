"""Models that need about 2 ms for a step or less: `mlmd simulate` beside the same model in ASE's own loop.

    python benchmarks/small_models.py [--nep FILE] [--mtp FILE:Li,Y,Cl] [--seconds 5]

About a hundred atoms with velocities of 300 K in NVE, 1 fs. In ASE's loop (`VelocityVerlet`) they are moved with the
calculator of the program that the file is of (calorine, motep, LAMMPS, ASE itself), and with mlmd's calculator, which
computes as `mlmd simulate` does: then only the loop differs. `mlmd simulate` runs with log, trajectory, guard and
checkpoints as by default, by OpenMM's steps and by its own (`engine = "native"`). One thread each; times are those of
the processor, for a run minus those for one of few steps, so that nothing counts that a process needs to begin. All
take turns, and medians count. Energies of the first structure are compared before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.data import atomic_numbers
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from crystals import off_places
from lammps_peer import module, potentials
from machine import machine

import mlmd.ase
from mlmd.config.potential import PotentialTable
from mlmd.potentials.load import load_potential

ROOT = Path(__file__).parents[1]
INPUT = """
structure = "atoms.extxyz"
potential = {potential}
engine = "{engine}"
timestep = "1 fs"

velocities = "300 K"
seed = 1

[[stage]]
kind = "nve"
duration = "{duration} fs"
"""
TEMPERATURE = 300.0
"""K."""
ENGINES = ("openmm", "native")
"""The second moves compiled kernels only."""
FEW = 200
"""Steps of the run whose time is taken away."""


@dataclass(frozen=True)
class Model:
    """One model on one structure, and the program that it is of."""

    name: str
    table: dict[str, Any]
    """`potential` of an input file."""
    atoms: Atoms
    program: str
    calculator: Callable[[], Calculator] | None
    """Of that program."""
    engines: tuple[str, ...] = ENGINES


def models(options: argparse.Namespace) -> list[Model]:
    """Those that come with mlmd and with LAMMPS, and those of the files that are given."""
    copper, silicon = ase.build.bulk("Cu", cubic=True) * (3, 3, 3), ase.build.bulk("Si", cubic=True) * (2, 2, 2)
    found = [Model("Cu, moment tensors", {"path": "Cu"}, copper, "", None)]
    if options.nep:
        path = Path(options.nep).absolute()
        found.append(
            Model("Si, NEP", {"kind": "nep", "path": str(path)}, silicon, "calorine", partial(_calorine, path))
        )
    if options.mtp:
        name, _, listed = options.mtp.rpartition(":")
        path, elements = Path(name).absolute(), listed.split(",")
        table = {"kind": "mtp", "path": str(path), "elements": elements}
        salt = off_places(ROOT / "inputs" / "li3ycl6.cif", (1, 1, 4))
        found.append(Model("Li3YCl6, published MTP", table, salt, "motep", partial(_motep, path, elements)))
    folder = potentials()
    table = {"kind": "eam", "path": str(folder / "Cu_u3.eam")}
    found.append(Model("Cu, EAM", table, copper, "LAMMPS", partial(_lammps, "Cu", "eam", f"* * {folder}/Cu_u3.eam")))
    table = {"kind": "stillinger-weber", "path": str(folder / "Si.sw")}
    found.append(
        Model("Si, Stillinger-Weber", table, silicon, "LAMMPS", partial(_lammps, "Si", "sw", f"* * {folder}/Si.sw Si"))
    )
    table = {"kind": "ase", "calculator": "ase.calculators.emt:EMT"}
    found.append(Model("Cu, EMT", table, ase.build.bulk("Cu", cubic=True) * 2, "ASE", EMT, ENGINES[:1]))
    return found


def _calorine(path: Path) -> Calculator:
    from calorine.calculators import CPUNEP

    return CPUNEP(str(path))


def _motep(path: Path, elements: Sequence[str]) -> Calculator:
    from motep.calculator import MTP
    from motep.io.mlip.mtp import read_mtp

    data = read_mtp(str(path))
    data.species = [atomic_numbers[one] for one in elements]
    return MTP(data, engine="cext")


def _lammps(element: str, style: str, coefficients: str) -> Calculator:
    from ase.calculators.lammpslib import LAMMPSlib

    module()  # with its library of MPI
    commands = [f"pair_style {style}", f"pair_coeff {coefficients}"]
    return LAMMPSlib(lmpcmds=commands, atom_types={element: 1}, keep_alive=True)


class Loop:
    """ASE's loop with a calculator."""

    def __init__(self, atoms: Atoms, calculator: Calculator) -> None:
        """Be ready."""
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self.energy = float(self.atoms.get_potential_energy())
        thermalize_momenta(self.atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(1))
        Stationary(self.atoms)
        self._dynamics = VelocityVerlet(self.atoms, timestep=units.fs)
        self._dynamics.run(FEW)

    def seconds(self, n_steps: int) -> float:
        """Of the processor, for a step."""
        begun = time.process_time()
        self._dynamics.run(n_steps)
        return (time.process_time() - begun) / n_steps


@dataclass
class Simulation:
    """`mlmd simulate` of the same atoms, in processes."""

    model: Model
    engine: str
    folder: Path
    n_runs: int = 0

    def seconds(self, n_steps: int) -> float:
        """Of the processor, for a step: so many more than few."""
        return (self._run(n_steps + FEW) - self._run(FEW)) / n_steps

    def _run(self, n_steps: int) -> float:
        self.n_runs += 1
        place = self.folder / f"{self.engine}-{self.n_runs}"
        place.mkdir(parents=True)
        ase.io.write(place / "atoms.extxyz", self.model.atoms)
        table = "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in self.model.table.items()) + " }"
        (place / "in.toml").write_text(INPUT.format(potential=table, engine=self.engine, duration=n_steps))
        before = _of_children()
        command = [sys.executable, "-m", "mlmd", "simulate", "in.toml", "--quiet", "--threads", "1"]
        subprocess.run(command, cwd=place, check=True)
        return _of_children() - before


def _of_children() -> float:
    """s of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(model: Model, seconds: float, rounds: int) -> dict[str, float]:
    """Seconds of a step by each way, the median of some rounds after a short one that tells how many steps to take.

    Raises:
        SystemExit: when two programs have other energies of the same structure.
    """
    potential = load_potential((PotentialTable.model_validate(model.table),))
    loops = {"ASE, mlmd's calculator": Loop(model.atoms, mlmd.ase.Calculator(potential))}
    if model.calculator is not None:
        loops["ASE, its program"] = Loop(model.atoms, model.calculator())
    energies = [one.energy for one in loops.values()]
    if np.ptp(energies) > 1e-5 * len(model.atoms):
        raise SystemExit(f"{model.name}: energies differ: {energies} eV")
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        ways: dict[str, Loop | Simulation] = dict(loops)
        for engine in model.engines:
            ways[f"mlmd, {engine}"] = Simulation(model, engine, Path(name))
        first = {way: max(one.seconds(5 * FEW), 1e-4) for way, one in ways.items()}
        for _ in range(rounds):
            for way, one in ways.items():
                found.setdefault(way, []).append(one.seconds(max(5 * FEW, round(seconds / first[way]))))
    return {way: float(np.median(several)) for way, several in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nep", metavar="FILE", help="a NEP of silicon")
    parser.add_argument("--mtp", metavar="FILE:ELEMENTS", help="published MTP of Li3YCl6, e.g. fitted.mtp:Li,Y,Cl")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a program in a round")
    parser.add_argument("--rounds", type=int, default=3, help="besides a short one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; µs of a step, in brackets how many times as fast as ASE's loop with that calculator\n")
    print("| model | atoms | its program | ASE, its program | ASE, mlmd's calculator | mlmd, OpenMM | mlmd, native |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for model in models(options):
        found = measured(model, options.seconds, options.rounds)
        program, calculator = found.get("ASE, its program"), found["ASE, mlmd's calculator"]
        cells = [f"{1e6 * program:.0f}" if program else "", f"{1e6 * calculator:.0f}"]
        for engine in ENGINES:
            one = found.get(f"mlmd, {engine}")
            if one is None:
                cells.append("")
                continue
            times = [f"{other / one:.2f}" for other in (program, calculator) if other]
            cells.append(f"{1e6 * one:.0f} ({', '.join(times)})")
        print(f"| {model.name} | {len(model.atoms)} | {model.program} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
