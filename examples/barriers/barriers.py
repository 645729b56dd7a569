"""Free-energy barriers of an adatom's hop at three temperatures, and the barrier of the nudged elastic band.

    python examples/barriers/barriers.py [--out hop] [--plot barriers.png] [--processes 2]

Runs `mlmd simulate adatom.toml` and `mlmd analyze fes` of each of its runs, and for the same atoms and the same
potential a nudged elastic band by ASE. A barrier along x is ΔF = F(bridge) - F(hollow) with F = -kT ln P(x). Where all
other coordinates vibrate harmonically, and there are as many of them at the bridge as in the hollow,

    ΔF(T) = ΔE - T ΔS,    ΔS = k/2 ln(det H_hollow / det H_bridge),

H the second derivatives of the energy without the row and column of x: so a straight line through the barriers ends at
0 K in the barrier of the energy. The same command continues what has been stopped, and only shows what is done.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS

from mlmd import models
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.figures import color, label, legend, new_figure, save
from mlmd.ase import Calculator
from mlmd.io.structures import read_structure
from mlmd.io.trajectories import open_run
from mlmd.potentials import modelfile
from mlmd.units import KB

HERE = Path(__file__).parent
INPUT = HERE / "adatom.toml"
ADATOM, FROZEN_BELOW, HOP = 45, 2.5, 2.5701635912
"""Atom, Å, Å from hollow to hollow along x; as in the input."""
N_BETWEEN = 5
ALLOWED = 0.020
"""eV beyond two standard errors."""


# -- the barrier of the energy -----------------------------------------------------------------------------------------


def slab() -> Atoms:
    """The atoms of the runs, held and moved by the same potential."""
    atoms = read_structure(HERE / "adatom.extxyz")
    atoms.set_constraint(FixAtoms(mask=atoms.positions[:, 2] < FROZEN_BELOW))
    atoms.calc = Calculator(modelfile.load(models.path("Cu")))
    return atoms


def moved(atoms: Atoms, along: float = 0.0) -> Atoms:
    """A copy with the adatom somewhere else along x, and a calculator of its own."""
    other = slab()
    other.positions[:] = atoms.positions
    other.positions[ADATOM, 0] += along
    return other


def band() -> list[Atoms]:
    """The lowest way from hollow to hollow: a nudged elastic band with a climbing image (Henkelman, Uberuaga, Jónsson,
    J. Chem. Phys. 113, 9901 (2000)).
    """
    ends = [slab(), moved(slab(), HOP)]
    for end in ends:
        BFGS(end, logfile=None).run(fmax=1e-3, steps=1000)
    images = [ends[0], *(moved(ends[0]) for _ in range(N_BETWEEN)), ends[1]]
    neb = NEB(images, climb=True, k=0.5, method="improvedtangent")
    neb.interpolate()
    BFGS(neb, logfile=None).run(fmax=2e-3, steps=1000)
    return images


def log_determinant(atoms: Atoms, step: float = 0.01) -> float:
    """Of the second derivatives (eV/Å²) for all that moves but x of the adatom, by differences of forces."""
    atoms = moved(atoms)
    free = [
        (atom, axis) for atom in np.flatnonzero(atoms.positions[:, 2] >= FROZEN_BELOW) for axis in range(3)
        if (atom, axis) != (ADATOM, 0)
    ]  # fmt: skip
    rows = []
    for atom, axis in free:
        forces = []
        for shift in (step, -step):
            atoms.positions[atom, axis] += shift
            forces.append(np.array([atoms.get_forces()[one] for one in free]))
            atoms.positions[atom, axis] -= shift
        rows.append((forces[1] - forces[0]) / (2 * step))
    sign, value = np.linalg.slogdet((np.array(rows) + np.array(rows).T) / 2)
    if sign <= 0:
        sys.exit("the second derivatives are not those of a minimum or a saddle point along x")
    return float(value)


def harmonic(file: Path) -> dict[str, float]:
    """ΔE (eV) and ΔS (eV/K) of the hop without any dynamics; kept in a file."""
    if not file.exists():
        images = band()
        energies = np.array([image.get_potential_energy() for image in images])
        top = int(energies.argmax())
        entropy = KB / 2 * (log_determinant(images[0]) - log_determinant(images[top]))
        found = {
            "barrier_eV": float(energies[top] - energies[0]), "entropy_eV_per_K": entropy,
            "way_A": [float(image.positions[ADATOM, 0]) for image in images],
            "energies_eV": (energies - energies[0]).tolist(),
        }  # fmt: skip
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


# -- the barriers of the free energy -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run of metadynamics."""

    name: str
    temperature: float
    barrier: Estimate
    """eV, the mean of both ways, as both hollows are alike."""
    difference: Estimate
    """eV of the two hollows, which is zero."""


def mlmd(*words: object) -> str:
    """What a command of mlmd prints."""
    print("$ mlmd", *words, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "mlmd", *map(str, words)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def exchanged(run: Path) -> float | None:
    """ps, the last frame before the adatom goes into the surface and another atom comes out, which is another way to
    hop; None where it stays on top.
    """
    last = 0.0
    for frames in open_run(run).chunks():
        for time, positions in zip(frames.times, frames.positions, strict=True):
            if positions[:, 2].argmax() != ADATOM:
                return last
            last = float(time) / 1e3
    return None


def free_energy(run: Path) -> Run:
    """What `mlmd analyze fes` says of a run, as long as the adatom is one."""
    end = exchanged(run)
    until = () if end is None else ("--to", f"{end:g} ps")
    found = json.loads(mlmd("analyze", "fes", run, *until, "--json"))
    ways = found["barriers"]
    if list(ways) != ["1 to 2"]:
        sys.exit(f"{run}: {len(found['minima'])} minima, where two are wanted: raise the duration in {INPUT.name}.")
    there, back = (ways["1 to 2"][key] for key in ("height", "back"))
    # both ways share the error of the bridge: as if they shared all of it
    barrier = Estimate((there["value"] + back["value"]) / 2, (there["error"] + back["error"]) / 2, "eV", math.nan)
    second = found["minima"]["minimum 2"]["free_energy"]
    difference = Estimate(second["value"], second["error"], "eV", math.nan)
    return Run(run.name, found["temperature_K"], barrier, difference)


def together(runs: list[Run]) -> Estimate:
    """The mean over seeds; its error the larger of that of the blocks of each run, and of the scatter of the runs."""
    values, errors = (np.array([getattr(run.barrier, key) for run in runs]) for key in ("value", "error"))
    blocks = float(np.sqrt(np.sum(errors**2))) / len(runs)
    scatter = float(values.std(ddof=1)) / math.sqrt(len(runs)) if len(runs) > 1 else 0.0
    return Estimate(float(values.mean()), max(blocks, scatter), "eV", float(len(runs)))


def line(temperatures: np.ndarray, barriers: list[Estimate]) -> tuple[Estimate, Estimate, float]:
    """ΔE, ΔS and χ² of ΔF = ΔE - T ΔS by weighted least squares."""
    values, errors = (np.array([getattr(one, key) for one in barriers]) for key in ("value", "error"))
    design = np.stack([np.ones_like(temperatures), -temperatures], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    energy, entropy = covariance @ design.T @ (values / errors)
    square = float(np.sum(((values - energy + temperatures * entropy) / errors) ** 2))
    error_e, error_s = np.sqrt(np.diag(covariance))
    return (Estimate(float(energy), float(error_e), "eV", math.nan),
            Estimate(float(entropy), float(error_s), "eV/K", math.nan), square)  # fmt: skip


def draw(out: Path, names: list[str], temperatures: np.ndarray, barriers: list[Estimate],
         fitted: tuple[Estimate, Estimate, float], known: dict, path: Path) -> None:  # fmt: skip
    """The free energies, and their barriers against temperature."""
    figure, (left, right) = new_figure(1, 2)
    seen: dict[float, int] = {}
    for name in names:
        temperature = float(name.split("K")[0])
        index = seen.setdefault(temperature, len(seen))
        x, free, *_ = np.loadtxt(out / name / "analysis" / "fes.csv", delimiter=",", skiprows=1, unpack=True)
        one = f"{temperature:g} K" if "-" not in name else None
        left.plot(x, free, color=color(index), linewidth=1.0, label=one)
    left.plot(known["way_A"], known["energies_eV"], "o", color="black", markersize=4, label="elastic band")
    left.set(xlim=(-0.6, 3.17), ylim=(-0.02, 0.75))
    label(left, "x of the adatom (Å)", "free energy (eV)")
    legend(left)
    energy, entropy, _ = fitted
    scale = np.linspace(0.0, 1.1 * temperatures.max(), 50)
    right.plot(scale, energy.value - entropy.value * scale, color=color(0), linewidth=1.4, label="line through them")
    right.plot(scale, known["barrier_eV"] - known["entropy_eV_per_K"] * scale, color="#777777", linestyle="--",
               linewidth=1.2, label="elastic band, harmonic")  # fmt: skip
    values, errors = (np.array([getattr(one, key) for one in barriers]) for key in ("value", "error"))
    right.errorbar(temperatures, values, errors, fmt="o", color=color(0), capsize=3, label="metadynamics")
    right.errorbar([0.0], [energy.value], [energy.error], fmt="s", color=color(0), mfc="white", capsize=3)
    right.plot([0.0], [known["barrier_eV"]], "o", color="black", markersize=6, label="elastic band")
    right.set_xlim(-0.03 * scale[-1], scale[-1])
    label(right, "temperature (K)", "barrier (eV)")
    legend(right)
    save(figure, path)


def main() -> None:
    """Run, analyse, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("hop"), help="folder of the runs; the same again continues")
    parser.add_argument("--input", type=Path, default=INPUT, help="another input, with the same atoms and potential")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--processes", type=int, help="runs at a time [default: by the cores]")
    parser.add_argument("--show", action="store_true", help="run nothing, show the runs that are done")
    given = parser.parse_args()
    at_a_time = ("--processes", given.processes) if given.processes else ()
    if not given.show:
        mlmd("simulate", given.input, "--out", given.out, *at_a_time, "--quiet")
    known = harmonic(given.out / "band.json")
    names = sorted(path.parent.name for path in given.out.glob("*K*/final.extxyz"))
    runs = [free_energy(given.out / name) for name in names]
    print(f"\n{'run':10}{'barrier (eV)':16}{'hollow 2 - hollow 1 (eV)'}")
    for run in runs:
        texts = (str(one).removesuffix(" eV") for one in (run.barrier, run.difference))
        print("{:10}{:16}{}".format(run.name, *texts))
    temperatures = np.array(sorted({run.temperature for run in runs}))
    if len(temperatures) < 2:
        sys.exit("a line needs two temperatures, and fewer are done")
    barriers = [together([run for run in runs if run.temperature == one]) for one in temperatures]
    print(f"\n{'K':10}{'barrier (eV)':16}{'harmonic (eV)'}")
    for temperature, barrier in zip(temperatures, barriers, strict=True):
        theory = known["barrier_eV"] - temperature * known["entropy_eV_per_K"]
        print(f"{temperature:<10g}{str(barrier).removesuffix(' eV'):16}{theory:.4f}")
    energy, entropy, square = fitted = line(temperatures, barriers)
    print(f"\nat 0 K, by a straight line: {energy} (χ² {square:.1f} of {len(barriers) - 2}); elastic band: "
          f"{known['barrier_eV']:.4f} eV; difference {1e3 * (energy.value - known['barrier_eV']):+.1f} meV, "
          f"σ {1e3 * energy.error:.1f} meV")  # fmt: skip
    print(f"entropy: {1e3 * entropy.value:.3f} ± {1e3 * entropy.error:.3f} meV/K; harmonic: "
          f"{1e3 * known['entropy_eV_per_K']:.3f} meV/K")  # fmt: skip
    if given.plot:
        draw(given.out, names, temperatures, barriers, fitted, known, given.plot)
    sys.exit(abs(energy.value - known["barrier_eV"]) > 2 * energy.error + ALLOWED)


if __name__ == "__main__":
    main()
