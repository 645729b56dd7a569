"""What a potential says about its material, beside what it was trained on: crystal, elasticity, stability, drift.

    python benchmarks/properties.py                                  # every potential that comes with mlmd
    python benchmarks/properties.py Cu my.mlmd fitted.mtp:Li,Y,Cl    # names, files; .mtp files with their elements
    python benchmarks/properties.py Li3YCl6 --reference fitted.mtp:Li,Y,Cl    # beside another potential, its teacher
    python benchmarks/properties.py Cu --write                       # and store the results in the file's card
    python benchmarks/properties.py Cu --duration "2 ps"             # shorter dynamics; "0 ps" leaves them out

Dynamics: constant volume at 0.8 of the melting temperature, by `mlmd simulate`; atoms stay on their sites when they
are displaced from them by less than a quarter of the distance of neighbours (Lindemann's rule has crystals melt at
0.1 to 0.2). Then constant energy: the drift is the slope of the total energy, its error from the slopes of fifths.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ase.build
import ase.io
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from elasticity import bulk_modulus, cubic_constants, elastic_tensor, relaxed, trigonal_constants

from mlmd import models
from mlmd.ase import Calculator
from mlmd.engine.run import simulate
from mlmd.io.log import read_log
from mlmd.io.structures import read_structure
from mlmd.io.trajectories import open_run
from mlmd.potentials import Potential, modelfile, mtp
from mlmd.rundir import Run
from mlmd.units import parse

MLEARN = "DFT-PBE: strained crystals of mlearn"
"""Fitted by benchmarks/references.py."""
NVE_DURATION = 20.0
"""ps at most: slopes of the energy are then known to some tenths of meV/atom/ns."""


@dataclass(frozen=True)
class Property:
    """A number with its unit, and beside it what it should be."""

    value: float
    unit: str
    reference: float | None = None
    source: str | None = None
    error: float | None = None
    """Standard error of the value, where it is an average."""

    def text(self) -> str:
        """Value, reference and deviation, for a terminal."""
        error = "" if self.error is None else f" ± {self.error:.2g}"
        text = f"{self.value:10.5g}{error} {self.unit}"
        if self.reference is None:
            return text
        return f"{text:28s}{self.reference:10.5g}   {self.value / self.reference - 1:+7.1%}"


@dataclass(frozen=True)
class Material:
    """What a potential is tested on."""

    crystal: Callable[[], Atoms]
    """Its unit cell, near the minimum."""
    repeats: tuple[int, int, int]
    """About 100 atoms, for the dynamics."""
    temperature: float
    """K: 0.8 of the melting temperature."""
    framework: tuple[str, ...]
    """Elements that stay on their sites at that temperature."""
    cubic: bool
    references: dict[str, float]
    """In the units of the results; see `MLEARN`."""


def li3ycl6() -> Atoms:
    """The ordered crystal of inputs/, rattled: its symmetry holds it on a saddle, and strains would make it fall."""
    atoms = read_structure(Path(__file__).parents[1] / "inputs" / "li3ycl6.cif")
    atoms.rattle(0.1, seed=1)
    return atoms


# Melting temperatures: CRC Handbook of Chemistry and Physics. For Li3YCl6 no number was found; Li3DyCl6, in which the
# metal is as large, melts at 768 K (J. Therm. Anal. Calorim. 126, 299 (2016)). Its potential is asked for more, 800 K,
# where inputs/li3ycl6.toml computes the conductivity.
MATERIALS = {
    ("Li",): Material(
        lambda: ase.build.bulk("Li", "bcc", 3.43, cubic=True), (4, 4, 4), 0.8 * 453.7, ("Li",), True,
        {"a": 3.439, "C11": 14.5, "C12": 13.4, "C44": 10.5, "bulk modulus": 13.8},
    ),
    ("Si",): Material(
        lambda: ase.build.bulk("Si", "diamond", 5.47, cubic=True), (3, 2, 2), 0.8 * 1687.0, ("Si",), True,
        {"a": 5.469, "C11": 153.5, "C12": 56.8, "C44 of clamped atoms": 100.2, "bulk modulus": 89.0},
    ),
    ("Cu",): Material(
        lambda: ase.build.bulk("Cu", "fcc", 3.62, cubic=True), (3, 3, 3), 0.8 * 1357.8, ("Cu",), True,
        {"a": 3.634, "C11": 172.1, "C12": 133.9, "C44": 86.5, "bulk modulus": 146.7},
    ),
    ("Ni",): Material(
        lambda: ase.build.bulk("Ni", "fcc", 3.51, cubic=True), (3, 3, 3), 0.8 * 1728.0, ("Ni",), True,
        {"a": 3.521, "C11": 281.1, "C12": 169.0, "C44": 137.9, "bulk modulus": 206.4},
    ),
    ("Li", "Y", "Cl"): Material(li3ycl6, (2, 1, 2), 800.0, ("Y", "Cl"), False, {}),
}  # fmt: skip


def load(name: str) -> tuple[Potential, str]:
    """A potential by its name, file, or ``file.mtp:Li,Y,Cl``, and what an input file says about it."""
    path, colon, elements = name.rpartition(":")
    if colon:
        symbols = elements.split(",")
        listed = ", ".join(f'"{symbol}"' for symbol in symbols)
        return mtp.load(path, elements=symbols), f'{{ path = "{Path(path).absolute()}", elements = [{listed}] }}'
    file = file_of(name)
    return modelfile.load(file), f'{{ path = "{file.absolute()}" }}'


def file_of(name: str) -> Path:
    """The file of a name that comes with mlmd, or of a path."""
    return Path(name) if Path(name).is_file() else models.path(name)


def material_of(potential: Potential) -> Material:
    """What a potential of these elements is tested on."""
    for elements, material in MATERIALS.items():
        if set(elements) == set(potential.elements):
            return material
    raise SystemExit(f"no material of {', '.join(potential.elements)} is known here.")


def crystal(potential: Potential, material: Material) -> tuple[Atoms, dict[str, Property]]:
    """The relaxed crystal, and its lattice constants and elastic constants at zero temperature."""
    atoms = material.crystal()
    atoms.calc = Calculator(potential)
    atoms = relaxed(atoms)
    tensor = elastic_tensor(atoms)
    lengths = dict(zip("abc", atoms.cell.lengths().tolist(), strict=True))
    found = {name: Property(length, "Å") for name, length in lengths.items() if not material.cubic or name == "a"}
    constants = cubic_constants(tensor) if material.cubic else trigonal_constants(tensor)
    if "Si" in potential.elements:  # the only one of the cubic crystals whose atoms move when it is sheared
        constants["C44 of clamped atoms"] = cubic_constants(elastic_tensor(atoms, relax=False))["C44"]
    constants["bulk modulus"] = bulk_modulus(tensor)
    found |= {name: Property(value, "GPa") for name, value in constants.items()}
    return atoms, found


def run_dynamics(says: str, atoms: Atoms, material: Material, duration: float, folder: Path) -> Run:
    """Constant volume at the material's temperature for a time (ps), then constant energy."""
    ase.io.write(folder / "crystal.extxyz", Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
    (folder / "input.toml").write_text(
        f"""
structure = "crystal.extxyz"
supercell = {list(material.repeats)}
potential = {says}
timestep = "2 fs"
velocities = "{2 * material.temperature} K"
seed = 1
[[stage]]
kind = "nvt"
temperature = "{material.temperature} K"
duration = "{duration} ps"
[[stage]]
kind = "nve"
duration = "{min(duration, NVE_DURATION)} ps"
[output]
trajectory_every = "100 fs"
log_every = "20 fs"
"""
    )
    return simulate(folder / "input.toml", folder / "run")


def dynamics(run: Run, framework: tuple[str, ...]) -> dict[str, Property]:
    """Whether the crystal stays whole, and how well its energy is conserved."""
    time, energy = constant_energy(run)
    drift, error = slope(time, energy)
    log = read_log(run.log)
    late = (log["stage"] == 1) & (log["time [ps]"] > log["time [ps]"][log["stage"] == 1].max() / 5)
    return {
        "duration of the dynamics": Property(float(log["time [ps]"][log["stage"] == 1].max()), "ps"),
        "temperature of the dynamics": Property(
            float(log["temperature [K]"][late].mean()), "K", run.stages[0].temperature[0], "target"
        ),
        "displacement from sites": Property(displacement(run, framework), "bond lengths"),
        "drift of the energy": Property(drift, "meV/atom/ns", error=error),
    }


def constant_energy(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Time (ns) and energy per atom (meV) of the second stage, its first tenth left out."""
    log = read_log(run.log)
    time = log["time [ps]"][log["stage"] == 2] / 1e3
    energy = 1e3 * log["energy per atom [eV]"][log["stage"] == 2]
    settled = time > time[0] + 0.1 * np.ptp(time)
    return time[settled], energy[settled]


def slope(time: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """Slope of a line, and its error: slopes of fifths scatter 5^1.5 times as much as that of the whole."""
    n = len(time) // 5
    fifths = [np.polyfit(time[k * n : (k + 1) * n], energy[k * n : (k + 1) * n], 1)[0] for k in range(5)]
    return float(np.polyfit(time, energy, 1)[0]), float(np.std(fifths, ddof=1) / 5**1.5)


def displacement(run: Run, framework: tuple[str, ...]) -> float:
    """Root mean square displacement of the framework's atoms from their mean places, by their shortest distance.

    Of the second half of constant temperature, in which atoms that leave their sites are far from the mean.
    """
    trajectory = open_run(run, stage=1)
    atoms = trajectory.atoms_of(framework)
    half = trajectory.n_frames // 2
    positions = np.concatenate([chunk.positions for chunk in trajectory.chunks(half, atoms=atoms)])
    positions -= positions.mean(axis=1, keepdims=True)
    places = positions - positions.mean(axis=0)
    shortest = neighbor_list("d", run.atoms, 4.0).min()
    return float(np.sqrt((places**2).sum(axis=2).mean()) / shortest)


def compared(found: dict[str, Property], references: dict[str, float], source: str) -> dict[str, Property]:
    """The same numbers with what they should be."""
    return {
        name: replace(one, reference=references[name], source=source) if name in references else one
        for name, one in found.items()
    }


def as_json(found: dict[str, Property]) -> dict[str, dict[str, float | str]]:
    """For the card, what is not known left out, and numbers rounded to what they are worth."""
    listed = {
        name: {key: value for key, value in asdict(one).items() if value is not None} for name, one in found.items()
    }
    for one in listed.values():
        one.update({key: float(f"{value:.4g}") for key, value in one.items() if isinstance(value, float)})
    return listed


def examine(name: str, reference: str | None, duration: float) -> Iterator[tuple[str, Property]]:
    """All properties of a potential, each as soon as it is known."""
    potential, says = load(name)
    material = material_of(potential)
    atoms, found = crystal(potential, material)
    references, source = material.references, MLEARN
    if reference is not None:
        other, source = (
            crystal(load(reference)[0], material)[1],
            f"{Path(reference.rpartition(':')[0]).name}, the teacher",
        )
        references = {key: one.value for key, one in other.items()}
    yield from compared(found, references, source).items()
    if duration:
        with tempfile.TemporaryDirectory() as folder:
            yield from dynamics(run_dynamics(says, atoms, material, duration, Path(folder)), material.framework).items()


def main() -> None:
    """Compute, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "potentials", nargs="*", help="names, files, or file.mtp:Li,Y,Cl; by default all that come with mlmd"
    )
    parser.add_argument("--reference", help="another potential to compare with")
    parser.add_argument(
        "--duration", type=lambda text: parse(text, "time") / 1e3, default=100.0, help='of the dynamics, "100 ps"'
    )
    parser.add_argument("--write", action="store_true", help="store the results in the card of each file")
    options = parser.parse_args()
    for name in options.potentials or models.names():
        print(f"{name}\n{'':30s}{'value':>10s}{'':18s}{'reference':>10s}   deviation")
        found = {}
        for key, one in examine(name, options.reference, options.duration):
            print(f"  {key:28s}{one.text()}", flush=True)
            found[key] = one
        if options.write:
            modelfile.update_card(file_of(name), {"properties": as_json(found)})


if __name__ == "__main__":
    main()
