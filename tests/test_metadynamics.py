"""Biased runs give free energies that are known in closed form."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from averages import mean
from runs import read_log, write_input

from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS
from mlmd.rundir import Run
from mlmd.units import BAR, EV_PER_KJMOL, KB

T = 300.0
KT = KB * T / EV_PER_KJMOL
"""kJ/mol."""
WELL = (
    "p: POSITION ATOM=1 NOPBC\n"
    "well: CUSTOM ARG=p.x FUNC=10*((x/0.1)^2-1)^2 PERIODIC=NO\n"
    "tube: CUSTOM ARG=p.y,p.z VAR=y,z FUNC=2000*(y^2+z^2) PERIODIC=NO\n"
    "field: BIASVALUE ARG=well,tube\n"
)
METAD = (
    "metad: METAD ARG=p.x SIGMA=0.015 HEIGHT=0.1 PACE=20 BIASFACTOR=4 TEMP=300 GRID_MIN=-0.4 GRID_MAX=0.4 FILE=HILLS\n"
)


@pytest.fixture(autouse=True)
def _trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")


def run_biased(folder: Path, script: str, stage: str, atoms: ase.Atoms, *, every: str = "200 fs") -> Run:
    """A run in which atoms feel nothing but the script."""
    path = write_input(
        folder, stage + 'plumed = "bias.dat"\n', atoms=atoms, potential='{ kind = "trap", stiffness = 0.0 }',
        options='remove_com_motion = false\ntimestep = "20 fs"\n[guard]\nenabled = false',
        output=f'log_every = "{every}"\ntrajectory_every = "{every}"\ntrajectory_format = "extxyz"',
    )  # fmt: skip
    (folder / "bias.dat").write_text(script)
    return simulate(path, folder / "run", threads=1)


def nvt(duration: str) -> str:
    """At 300 K, with little friction so that a particle crosses often."""
    return (
        f'[[stage]]\nkind = "nvt"\ntemperature = {T}\nthermostat = {{ kind = "langevin", friction = "2 / ps" }}\n'
        f'duration = "{duration}"\n'
    )


def npt(duration: str, pressure: float, every: int = 10) -> str:
    """Isotropic; pressure in bar."""
    barostat = f'pressure = {pressure}\nbarostat = {{ kind = "isotropic", every = {every} }}\n'
    return nvt(duration).replace('"nvt"', '"npt"') + barostat


PARTICLE = ase.Atoms("Ar", [[-1.0, 0.0, 0.0]])
BOX = 30.0  # Å


def particle_in_a_gas(n_others: int) -> ase.Atoms:
    """A particle at the origin of a periodic cell with others that nobody sees."""
    others = np.random.default_rng(1).uniform(4.0, BOX, (n_others, 3))
    return ase.Atoms(f"Ar{n_others + 1}", np.vstack([[-2.0, 0.0, 0.0], others]), cell=[BOX] * 3, pbc=True)


def table(path: Path) -> np.ndarray:
    """The numbers of one of PLUMED's files."""
    return np.loadtxt(path, comments="#", ndmin=2)


def double_well(x: np.ndarray) -> np.ndarray:
    """kJ/mol at x (nm)."""
    return 10.0 * ((x / 0.1) ** 2 - 1.0) ** 2


X = np.linspace(-0.12, 0.12, 49)
"""nm: both wells and the barrier; beyond, the walls are steep on the scale of a hill."""


def from_hills(hills: np.ndarray) -> np.ndarray:
    """Free energy (kJ/mol) at X: minus the sum of the hills, whose heights PLUMED writes rescaled by γ / (γ - 1).

    The average over the run, its beginning left out, takes away the noise of the last hills
    (Bussi and Laio, Nat. Rev. Phys. 2, 200 (2020)).
    """
    shapes = hills[:, 3] * np.exp(-0.5 * ((X[:, None] - hills[:, 1]) / hills[:, 2]) ** 2)
    sums = np.cumsum(shapes, axis=1)[:, len(hills) // 4 :]
    return -sums.mean(axis=1)


def deviation(free_energy: np.ndarray) -> np.ndarray:
    """Difference from the double well, the constant between them taken out."""
    difference = free_energy - double_well(X)
    return np.asarray(difference - difference.mean())


@pytest.mark.row("R22")
def test_metadynamics_recovers_the_double_well(tmp_path: Path) -> None:
    run = run_biased(tmp_path, WELL + METAD, nvt("2 ns"), PARTICLE, every="10 ps")
    hills = table(run.path / "HILLS")
    assert len(hills) == 100_000 // 20
    off = deviation(from_hills(hills))
    print("largest deviation", np.abs(off).max(), "kJ/mol")
    assert np.abs(off).max() < 0.5


@pytest.mark.slow
@pytest.mark.row("R22")
def test_metadynamics_recovers_the_double_well_under_pressure(tmp_path: Path) -> None:
    # the others are an ideal gas: p(V) ∝ V^n exp(-PV/kT), whatever the particle in its well does
    n_others, pressure = 8, 9 * KB * T / BOX**3 / BAR
    run = run_biased(tmp_path, WELL + METAD, npt("2 ns", pressure, every=5), particle_in_a_gas(n_others), every="2 ps")
    hills = table(run.path / "HILLS")
    assert len(hills) == 100_000 // 20  # trial volumes deposit nothing
    off = deviation(from_hills(hills))
    print("largest deviation", np.abs(off).max(), "kJ/mol")
    assert np.abs(off).max() < 0.5
    volume = read_log(run)["volume"]
    print(mean(volume), BOX**3)
    assert mean(volume).error < 0.05 * BOX**3
    assert mean(volume).agrees_with(BOX**3)


@pytest.mark.row("R22")
def test_opes_recovers_the_double_well(tmp_path: Path) -> None:
    script = (
        WELL + "opes: OPES_METAD ARG=p.x PACE=50 BARRIER=25 TEMP=300\nPRINT ARG=p.x,opes.bias STRIDE=10 FILE=COLVAR\n"
    )
    run = run_biased(tmp_path, script, nvt("1 ns"), PARTICLE, every="10 ps")
    assert len(table(run.path / "KERNELS")) > 20
    colvar = table(run.path / "COLVAR")
    colvar = colvar[len(colvar) // 4 :]
    edges = np.append(X - 0.0025, X[-1] + 0.0025)
    weights, _ = np.histogram(colvar[:, 1], edges, weights=np.exp(colvar[:, 2] / KT))
    off = deviation(-KT * np.log(weights))
    print("rms deviation", off.std(), "largest", np.abs(off).max(), "kJ/mol")
    assert off.std() < 0.5


@pytest.mark.row("R22")
def test_a_restraint_holds_a_particle_with_the_spread_of_its_spring(tmp_path: Path) -> None:
    script = (
        "p: POSITION ATOM=1 NOPBC\nr: RESTRAINT ARG=p.x,p.y,p.z AT=0.1,0.2,-0.1 KAPPA=500,500,2000\n"
        "PRINT ARG=p.x,p.y,p.z,r.bias STRIDE=5 FILE=COLVAR\n"
    )
    run = run_biased(tmp_path, script, nvt("400 ps"), PARTICLE, every="1 ps")
    colvar = table(run.path / "COLVAR")
    assert np.allclose(colvar[:, 0], 0.1 * np.arange(4001))  # ps: every fifth step, the first and the last
    settled = colvar[100:]
    for column, (centre, stiffness) in enumerate(((0.1, 500.0), (0.2, 500.0), (-0.1, 2000.0)), 1):
        assert mean(settled[:, column]).agrees_with(centre)
        assert mean((settled[:, column] - centre) ** 2).error < 0.1 * KT / stiffness
        assert mean((settled[:, column] - centre) ** 2).agrees_with(KT / stiffness)
    # the same moments in the trajectory and the log: every fiftieth step
    positions = np.array([frame.positions[0] for frame in ase.io.read(run.trajectory, index=":")])
    assert np.allclose(10 * colvar[::10, 1:4], positions, atol=1e-4)
    assert np.allclose(colvar[::10, 4] * EV_PER_KJMOL, read_log(run)["bias energy"], atol=1e-6)


def test_walls_keep_a_free_particle_between_them(tmp_path: Path) -> None:
    script = (
        "p: POSITION ATOM=1 NOPBC\n"
        "upper: UPPER_WALLS ARG=p.x,p.y,p.z AT=0.3,0.3,0.3 KAPPA=2000,2000,2000\n"
        "lower: LOWER_WALLS ARG=p.x,p.y,p.z AT=-0.3,-0.3,-0.3 KAPPA=2000,2000,2000\n"
        "PRINT ARG=p.x,p.y,p.z STRIDE=10 FILE=COLVAR\n"
    )
    run = run_biased(tmp_path, script, nvt("600 ps"), PARTICLE, every="10 ps")
    positions = table(run.path / "COLVAR")[50:, 1:]
    x = np.linspace(-0.6, 0.6, 4001)
    weight = np.exp(-2000.0 * np.maximum(abs(x) - 0.3, 0.0) ** 2 / KT)  # PLUMED's walls have no factor ½
    expected = float(weight @ x**2 / weight.sum())
    squares = (positions**2).mean(axis=1)
    assert mean(squares).error < 0.05 * expected
    assert mean(squares).agrees_with(expected)


def test_the_bias_enters_the_pressure(tmp_path: Path) -> None:
    atoms = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 2.0, 3.0]], cell=[20.0] * 3, pbc=True)
    script = "d: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=0.30 KAPPA=300\n"
    run = run_biased(tmp_path, script, nvt("4 ps"), atoms)
    log, seen = read_log(run), ase.io.read(run.trajectory, index=":")
    for frame, pressure, temperature, energy in zip(
        seen, log["pressure"], log["temperature"], log["bias energy"], strict=True
    ):
        distance = frame.get_distance(0, 1) / 10
        assert energy == pytest.approx(150 * (distance - 0.3) ** 2 * EV_PER_KJMOL, abs=1e-7)
        virial = 300 * (distance - 0.3) * distance * EV_PER_KJMOL  # r dE/dr
        assert pressure * BAR == pytest.approx((2 * KB * temperature - virial / 3) / 20.0**3, rel=1e-5)


def test_a_restraint_on_the_volume_moves_the_barostat(tmp_path: Path) -> None:
    # p(V) ∝ V^N exp(-(PV + κ (V - V0)² / 2) / kT): the barostat must see the bias of its trial volumes
    n_atoms, stiffness, rest, pressure = 9, 0.05, 40.0, 9 * KB * T / BOX**3 / BAR  # kJ/mol/nm⁶, nm³, bar
    script = f"v: VOLUME\nr: RESTRAINT ARG=v AT={rest} KAPPA={stiffness}\nPRINT ARG=v STRIDE=10 FILE=COLVAR\n"
    run = run_biased(tmp_path, script, npt("250 ps", pressure, every=2), particle_in_a_gas(n_atoms - 1))
    v = np.linspace(0.01, 200.0, 20001)
    work = pressure * BAR * 1e3 / EV_PER_KJMOL * v + 0.5 * stiffness * (v - rest) ** 2
    weight = v**n_atoms * np.exp(-(work - work.min()) / KT)
    expected = float(weight @ v / weight.sum())
    volume = read_log(run)["volume"][100:] / 1e3
    print(mean(volume), expected)
    assert mean(volume).error < 0.02 * expected
    assert mean(volume).agrees_with(expected)
    colvar = table(run.path / "COLVAR")
    assert np.allclose(colvar[:, 1], read_log(run)["volume"] / 1e3, rtol=1e-5)
