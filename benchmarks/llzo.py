"""Lithium in Li7La3Zr2O12 at four temperatures by a published NEP: D, and its activation energy, beside GPUMD's.

    python benchmarks/llzo.py --data gpumd_reference --out llzo     # half an hour of one core; a stopped one continues

Potential, structure and reference: Z. Yan, Z. Fan, Y. Zhu, J. Chem. Inf. Model. 66, 1406 (2026), example 24 of
GPUMD-Tutorials: NEP25-ZBL, 12,288 atoms, 1 ns, NPT; D are the slopes of its msd.out, the activation energy is that of
σT. Here 1,536 atoms run for 100 ps after 10 ps: the framework is that of GPUMD's structure, averaged over its 64 cells,
and lithium is where it is in a part of it.
"""

from __future__ import annotations

import argparse
import io
import lzma
import shutil
from pathlib import Path

import ase
import ase.io
import numpy as np

from mlmd.analysis.activation import told
from mlmd.analysis.arrhenius import CONDUCTIVITY, arrhenius
from mlmd.engine.replicas import simulate_replicas

GPUMD = {950: 8.03e-6, 1000: 9.68e-6, 1100: 12.87e-6, 1200: 16.64e-6}
"""cm²/s."""
GPUMD_ENERGY = 0.278
"""eV."""
OF_FRAMEWORK = {"La": 24, "Zr": 16, "O": 96}
"""Atoms in a cell."""
NEAR = 1.2
"""Å about a place of the framework."""
INPUT = """
structure = "llzo.extxyz"
potential = { kind = "nep", path = "nep.txt" }
timestep = "2 fs"
seed = 1

[replicas]
temperatures = ["950 K", "1000 K", "1100 K", "1200 K"]

[[stage]]
kind = "minimize"
max_force = "0.5 eV/Å"
max_steps = 200

[[stage]]
kind = "npt"
temperature = "replica"
pressure = "0 bar"
duration = "10 ps"

[[stage]]
kind = "npt"
temperature = "replica"
pressure = "0 bar"
duration = "100 ps"

[output]
trajectory_every = "100 fs"
log_every = "500 fs"
"""


def smaller(whole: ase.Atoms, n_whole: int = 4, n: int = 2) -> ase.Atoms:
    """n³ cells of a structure of `n_whole`³ cells that has been simulated."""
    fractions, symbols = whole.get_scaled_positions(), np.array(whole.get_chemical_symbols())
    length = np.cbrt(whole.get_volume()) / n_whole
    elements, places = [], []
    for element, count in OF_FRAMEWORK.items():
        found = _means((fractions[symbols == element] * n_whole) % 1.0, length)
        assert len(found) == count, f"{len(found)} places of {element} were found, not {count}"
        elements += [element] * count
        places.append(found)
    offsets = np.indices((n, n, n)).reshape(3, -1).T
    framework = (np.concatenate(places)[None] + offsets[:, None]).reshape(-1, 3) / n
    lithium = fractions[symbols == "Li"] * n_whole / n
    inside = (lithium < 1.0).all(axis=1)
    others = lithium[~inside][np.random.default_rng(0).permutation(int((~inside).sum()))] % 1.0
    wanted = int((symbols == "Li").sum()) * n**3 // n_whole**3
    chosen = _apart(np.concatenate([lithium[inside], others]), framework, wanted, n * length)
    return ase.Atoms(
        ["Li"] * wanted + elements * n**3, np.concatenate([chosen, framework]) * n * length,
        cell=np.eye(3) * n * length, pbc=True,
    )  # fmt: skip


def _means(points: np.ndarray, length: float) -> np.ndarray:
    """Centres of the groups that points (fractions) come in."""
    means: list[np.ndarray] = []
    left = np.ones(len(points), dtype=bool)
    while left.any():
        centre = points[left][0]
        for _ in range(20):
            away = (points - centre + 0.5) % 1.0 - 0.5
            near = (np.linalg.norm(away, axis=1) * length < NEAR) & left
            centre = (centre + away[near].mean(axis=0)) % 1.0
        means.append(centre)
        left &= ~near
    return np.array(means)


def _apart(candidates: np.ndarray, framework: np.ndarray, wanted: int, length: float) -> np.ndarray:
    """The first candidates (fractions) that are 1.5 Å from the framework and 2 Å from each other, or a little less."""
    chosen: list[np.ndarray] = []

    def nearest(one: np.ndarray, others: np.ndarray) -> float:
        away = others - one
        return float(np.linalg.norm(away - np.rint(away), axis=1).min()) * length

    for to_framework, to_others in ((1.5, 2.0), (1.4, 1.8)):
        for one in candidates:
            if len(chosen) == wanted:
                break
            if nearest(one, framework) > to_framework and (not chosen or nearest(one, np.array(chosen)) > to_others):
                chosen.append(one)
    assert len(chosen) == wanted, f"{len(chosen)} lithium atoms found a place, not {wanted}"
    return np.array(chosen)


def main() -> None:
    """Make the structure, run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with nep.txt and 1000K/model.xyz.xz")
    parser.add_argument("--out", type=Path, default=Path("llzo"), help="folder for the runs")
    parser.add_argument("--processes", type=int, help="runs at a time")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    source = given.out / "llzo.toml"
    if not source.exists():
        with lzma.open(given.data / "1000K" / "model.xyz.xz", "rt") as file:
            whole = ase.io.read(io.StringIO(file.read()), format="extxyz")
        ase.io.write(given.out / "llzo.extxyz", smaller(whole))
        shutil.copy(given.data / "nep.txt", given.out)
        source.write_text(INPUT, encoding="utf-8")
    runs = given.out / "llzo.run"
    simulate_replicas(source, runs, n_processes=given.processes)
    found = arrhenius([runs], elements=["Li"], charges={"Li": 1.0}, drift=["La", "Zr", "O"])
    of = {one.quantity: one for one in found.activations}
    diffusion, conductivity = of["D(Li)"], of[CONDUCTIVITY]
    print("T (K)   D (cm²/s)       GPUMD      difference in standard errors")
    for point in sorted(diffusion.points, key=lambda one: one.temperature):
        reference = GPUMD[round(point.temperature)]
        off = (point.value.value - reference) / point.value.error
        print(f"{point.temperature:<7.0f} {point.value!s:15} {reference:.3g}   {off:+.1f}")
    print(f"conductivity: {conductivity.law.name}, {', '.join(told(conductivity.law))}; GPUMD {GPUMD_ENERGY} eV")


if __name__ == "__main__":
    main()
