"""Adaptive biasing forces give free energies that are known in closed form.

Statistical errors: the largest deviations of these runs are 0.09 kT (extended) and 0.12 kT (plain) in the double well,
0.19 and 0.10 kT around the torsion, of which 0.2 kT are allowed; in two dimensions 0.11 and 0.08 kT (rms).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import ase
import numpy as np
import pytest
from lammps_oracle import require_lammps
from runs import write_input

from mlmd.analysis.abf import AdaptiveForces, read_tables
from mlmd.bias.bins import Bins, Dimension, Ramp
from mlmd.bias.plain import PlainABF
from mlmd.engine.run import simulate
from mlmd.potentials import POTENTIALS
from mlmd.units import EV_PER_KJMOL, KB

KT = KB * 300.0 / EV_PER_KJMOL
"""kJ/mol."""
PARTICLE = ase.Atoms("Ar", [[-1.0, 0.0, 0.0]])
X = '{ kind = "position", atom = 0, axis = "x" }'
Y = '{ kind = "position", atom = 0, axis = "y" }'
TUBE = (
    "p: POSITION ATOM=1 NOPBC\n"
    "well: CUSTOM ARG=p.x FUNC=10*((x/0.1)^2-1)^2 PERIODIC=NO\n"
    "tube: CUSTOM ARG=p.y,p.z VAR=y,z FUNC=2000*(y^2+z^2) PERIODIC=NO\nfield: BIASVALUE ARG=well,tube\n"
)


@pytest.fixture(autouse=True)
def _trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")


def adaptive_run(folder: Path, field: str, bias: str, atoms: ase.Atoms, duration: str, step: str) -> AdaptiveForces:
    """What an adaptive force has collected at the end of a run in which atoms feel nothing but a field of PLUMED."""
    thermostat = '{ kind = "langevin", friction = "2 / ps" }'
    stage = (
        f'[[stage]]\nkind = "nvt"\ntemperature = 300\nthermostat = {thermostat}\n'
        f'duration = "{duration}"\nplumed = "field.dat"\nbias = {{ kind = "abf", {bias} }}\n'
    )
    path = write_input(
        folder, stage, atoms=atoms, potential='{ kind = "trap", stiffness = 0.0 }',
        options=f'remove_com_motion = false\ntimestep = "{step}"\n[guard]\nenabled = false',
        output='log_every = "20 ps"\ntrajectory_every = "20 ps"',
    )  # fmt: skip
    (folder / "field.dat").write_text(field)
    run = simulate(path, folder / "run", threads=1)
    (table,) = read_tables(run.path / "abf.dat")
    return table


def deviation(found: AdaptiveForces, exact: Callable[..., np.ndarray], inside: Callable[..., np.ndarray]) -> np.ndarray:
    """In kT, from a free energy (kJ/mol at values in the table's units), the constant between them taken out."""
    values = np.meshgrid(*(axis.centres for axis in found.axes), indexing="ij")
    seen = inside(*values)
    assert np.isfinite(found.free_energy[seen]).all()
    difference = (found.free_energy[seen] / EV_PER_KJMOL - exact(*(one[seen] for one in values))) / KT
    off = np.asarray(difference - difference.mean())
    print("largest deviation", np.abs(off).max(), "rms", off.std(), "kT")
    return off


def double_well(x: np.ndarray) -> np.ndarray:
    return 10.0 * (x**2 - 1.0) ** 2


WELL = f'cv = {X}, minimum = "-1.4 Å", maximum = "1.4 Å", width = "0.1 Å"'


@pytest.mark.row("R22")
def test_plain_abf_recovers_the_double_well(tmp_path: Path) -> None:
    found = adaptive_run(tmp_path, TUBE, f"{WELL}, extended = false", PARTICLE, "500 ps", "20 fs")
    off = deviation(found, double_well, lambda x: np.abs(x) < 1.3)
    assert np.abs(off).max() < 0.2


@pytest.mark.row("R22")
@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["wall", "reflect"])
def test_extended_abf_recovers_the_double_well(boundary: str, tmp_path: Path) -> None:
    found = adaptive_run(tmp_path, TUBE, f'{WELL}, boundary = "{boundary}"', PARTICLE, "1 ns", "10 fs")
    off = deviation(found, double_well, lambda x: np.abs(x) < 1.3)
    assert np.abs(off).max() < 0.2
    assert found.extended is not None
    if boundary == "reflect":  # it never was outside
        assert found.extended.sum() == 100_001


def test_a_way_around_the_rim_of_the_range_costs_no_work() -> None:
    # the same mean force in all bins is the slope of a plane; else the bias is no potential, and drives λ in circles
    dimensions = [Dimension(name, -1.0, 1.0, 4, None, 0.0, 0.0, "", 1.0) for name in "xy"]
    bins = Bins(dimensions)
    for number in range(16):
        for _ in range(10):
            bins.add(number, np.array([3.0, -2.0]))
    ramp, half, points = Ramp(bins, full_samples=10), 0.3, (np.arange(40) + 0.5) / 40
    assert ramp.at(np.array([0.3, 0.3])) == pytest.approx([3.0, -2.0])
    for centre in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 0)):
        corners = np.array(centre) + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
        work = 0.0
        for start, end in pairwise(corners):
            work += sum(ramp.at(start + share * (end - start)) @ (end - start) for share in points) / len(points)
        assert work == pytest.approx(0.0, abs=1e-9), f"around {centre}"


@pytest.mark.slow
@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_abf_recovers_a_free_energy_in_two_dimensions(extended: bool, tmp_path: Path) -> None:
    # two valleys that do not lie along an axis: 8 ((x/Å)² - 1)² + 15 (y/Å - x/2Å)²
    field = (
        "p: POSITION ATOM=1 NOPBC\n"
        "u: CUSTOM ARG=p.x,p.y,p.z VAR=x,y,z FUNC=8*(100*x^2-1)^2+1500*(y-0.5*x)^2+2000*z^2 PERIODIC=NO\n"
        "field: BIASVALUE ARG=u\n"
    )
    ranges = 'minimum = ["-1.4 Å", "-1 Å"], maximum = ["1.4 Å", "1 Å"], width = ["0.2 Å", "0.2 Å"]'
    # a light extended variable runs away from the particle where its bias is no slope of anything
    kind = 'extended_period = "200 fs"' if extended else "extended = false"
    bias = f"cv = [{X}, {Y}], {ranges}, full_samples = 100, {kind}"

    def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 8 * (x**2 - 1) ** 2 + 15 * (y - 0.5 * x) ** 2

    found = adaptive_run(tmp_path, field, bias, PARTICLE, "3 ns" if extended else "1 ns", "20 fs")
    off = deviation(found, exact, lambda x, y: exact(x, y) < 4 * KT)
    # of single bins at the rim, which are seldom visited; the means over such wide bins are off by 0.06 kT (rms)
    assert np.abs(off).max() < (0.5 if extended else 0.3)
    assert off.std() < (0.18 if extended else 0.12)  # extended, of 30 seeds: 0.10 to 0.14


@pytest.mark.slow
@pytest.mark.parametrize("extended", [True, False], ids=["extended", "plain"])
def test_abf_recovers_a_torsion_all_around(extended: bool, tmp_path: Path) -> None:
    # with springs on lengths and angles only, the density of a torsion is exp(-V/kT) exactly: ∏ r² dr sin θ dθ dφ
    atoms = ase.Atoms("Ar4", [[1.5, 0.3, 0], [0, 0, 0], [0, 0, 1.6], [1.4, 0.5, 1.9]])
    bonds = "".join(f"r{n}: DISTANCE ATOMS={n},{n + 1} NOPBC\n" for n in (1, 2, 3))
    bends = "".join(f"a{n}: ANGLE ATOMS={n},{n + 1},{n + 2} NOPBC\n" for n in (1, 2))
    field = (
        f"{bonds}{bends}t: TORSION ATOMS=1,2,3,4 NOPBC\n"
        "RESTRAINT ARG=r1,r2,r3 AT=0.16,0.16,0.16 KAPPA=10000,10000,10000\n"
        "RESTRAINT ARG=a1,a2 AT=1.8,1.8 KAPPA=200,200\n"
        "v: CUSTOM ARG=t FUNC=5*cos(x)+6*cos(3*x+1) PERIODIC=NO\nfield: BIASVALUE ARG=v\n"
    )
    bias = (
        f'cv = {{ kind = "torsion", atoms = [0, 1, 2, 3] }}, width = "{10 if extended else 5} deg", '
        f"extended = {str(extended).lower()}"
    )
    found = adaptive_run(
        tmp_path, field, bias, atoms, "3 ns" if extended else "800 ps", "20 fs" if extended else "10 fs"
    )
    assert found.axes[0].periodic

    def exact(degrees: np.ndarray) -> np.ndarray:
        return 5 * np.cos(np.radians(degrees)) + 6 * np.cos(3 * np.radians(degrees) + 1)

    off = deviation(found, exact, lambda degrees: degrees < 360)
    assert np.abs(off).max() < 0.2


@pytest.mark.slow
def test_the_torsion_of_butane_has_the_free_energy_that_colvars_gives_it_in_lammps(tmp_path: Path) -> None:
    require_lammps()
    script, numbers = Path(__file__).parents[1] / "benchmarks" / "butane.py", tmp_path / "rows.json"
    short = ["--seeds", "2", "--time", "0.3", "--json", str(numbers)]
    done = subprocess.run([sys.executable, str(script), *short], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert numbers.exists(), done.stderr
    assert float(done.stdout.partition("force: ")[2].split()[0]) < 1e-9  # kcal/mol/Å: it is the same potential
    rows = {row["name"]: row for row in json.loads(numbers.read_text())}
    # the free energy rises by 4.6 kcal/mol
    assert rows["mlmd - exact"]["rms"] < 0.12
    assert rows["mlmd - Colvars"]["rms"] < 0.15
    assert rows["mlmd - Colvars"]["largest"] < 0.3


def test_plain_abf_knows_the_entropy_of_a_distance(tmp_path: Path) -> None:
    # two particles on a weak spring: A(r) = U(r) - 2 kT ln r, whose second part no force between them tells
    atoms = ase.Atoms("Ar2", [[0.0, 0, 0], [3.0, 0.5, 0.2]])
    field = "d: DISTANCE ATOMS=1,2 NOPBC\nu: CUSTOM ARG=d FUNC=300*(x-0.3)^2 PERIODIC=NO\nf: BIASVALUE ARG=u\n"
    variable = 'cv = { kind = "distance", atoms = [0, 1] }'
    bias = f'{variable}, minimum = "1 Å", maximum = "5 Å", width = "0.2 Å", extended = false'
    found = adaptive_run(tmp_path, field, bias, atoms, "400 ps", "20 fs")
    off = deviation(found, lambda r: 3 * (r - 3) ** 2 - 2 * KT * np.log(r), lambda r: r > 1.2)
    assert np.abs(off).max() < 0.2  # without the entropy it would be 1.4


def test_time_derivatives_give_the_force_under_strong_friction() -> None:
    # a particle on a spring, moved by the middle scheme, without a bias: uncorrected the force is a fifth too small,
    # and its noise, 310 kJ/mol/nm a step, leaves an error of a hundredth
    mass, spring, friction, step, rng = 40.0, 10_000.0, 0.025, 20.0, np.random.default_rng(3)
    one = Dimension("x", -0.04, 0.04, 16, None, 0.0, 0.0, "", 1.0)
    abf = PlainABF(
        [one], timestep=step, temperature=300.0, friction=friction, full_samples=10**9,
        inverse_masses=np.array([1 / mass]), remove_com=False,
    )  # fmt: skip
    gradient = np.array([[[0.1, 0.0, 0.0]]])  # nm per Å
    x, v, dt, keep = 0.0, 0.0, step * 1e-3, float(np.exp(-friction * step))
    noise = np.sqrt((1 - keep**2) * KT / mass) * rng.standard_normal(40_000)
    for number, kick in enumerate(noise):
        abf.xi[0] = x
        abf.look(gradient)
        abf.update(number)
        v -= dt * spring * x / mass
        x += 0.5 * dt * v
        v = keep * v + kick
        x += 0.5 * dt * v
    counts, centres = abf.bins.counts, -0.04 + 0.005 * (np.arange(16) + 0.5)
    slope = (counts * centres) @ abf.bins.means()[0] / (counts @ centres**2)
    assert slope == pytest.approx(spring, rel=0.04)
