"""Biases that the input file describes: they act as the PLUMED lines do that a person would write for them."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from runs import read_log, run_in_parts, write_input

from mlmd.bias.plumed import PlumedBias, working_in
from mlmd.bias.script import read_script
from mlmd.engine.preview import preview
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError
from mlmd.rundir import FINAL, LOG, Run
from mlmd.units import EV_PER_KJMOL

ATOMS = ase.Atoms(
    "Ar6",
    [[1.0, 1.0, 1.0], [4.6, 1.6, 1.3], [5.5, 5.0, 2.0], [3.0, 5.4, 5.2], [9.0, 9.0, 9.0], [9.0, 13.0, 9.5]],
    cell=[20.0] * 3, pbc=True,
)  # fmt: skip
STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "80 K"\nduration = "500 fs"\n'
OUTPUT = 'log_every = "50 fs"\ntrajectory_every = "100 fs"'
ANGLE_170, ANGLE_10 = (float(np.radians(angle)) for angle in (170, 10))
EV = 100 / EV_PER_KJMOL
"""One eV/Å² in kJ/mol/nm²."""
DISTANCE = '{ kind = "distance", atoms = [0, 1] }'
TORSION = '{ kind = "torsion", atoms = [0, 1, 2, 3] }'

CASES = {
    "umbrella": (
        f'kind = "umbrella", cv = {DISTANCE}, at = "3.5 Å", spring = "5 kJ/mol/Å^2"',
        "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.35 KAPPA=500",
    ),
    "umbrella of two": (
        f'kind = "umbrella", cv = [{DISTANCE}, {TORSION}], at = ["3.5 Å", "60 deg"], '
        'spring = ["500 kJ/mol/nm^2", "20 kJ/mol/rad²"]',
        "d: DISTANCE ATOMS=1,2\nt: TORSION ATOMS=1,2,3,4\nRESTRAINT ARG=d,t AT=0.35,1.0471975511965976 KAPPA=500,20",
    ),
    "upper wall": (
        f'kind = "upper-wall", cv = {DISTANCE}, at = "3 Å", spring = "500 kJ/mol/nm^2"',
        "d: DISTANCE ATOMS=1,2\nUPPER_WALLS ARG=d AT=0.3 KAPPA=250",
    ),
    "lower wall": (
        'kind = "lower-wall", cv = { kind = "angle", atoms = [0, 1, 2] }, at = "170 deg", spring = "50 kJ/mol/rad^2"',
        f"a: ANGLE ATOMS=1,2,3\nLOWER_WALLS ARG=a AT={ANGLE_170!r} KAPPA=25",
    ),
    "centres of mass": (
        'kind = "umbrella", cv = { kind = "distance", atoms = [[0, 1], [2, 3, 4]] }, at = "2 Å", spring = "1 eV/Å^2"',
        f"a: COM ATOMS=1,2\nb: COM ATOMS=3,4,5\nd: DISTANCE ATOMS=a,b\nRESTRAINT ARG=d AT=0.2 KAPPA={EV!r}",
    ),
    "coordination": (
        'kind = "umbrella", cv = { kind = "coordination", group_a = [0], group_b = [1, 2, 3], radius = "4 Å" }, '
        'at = 3, spring = "30 kJ/mol"',
        "c: COORDINATION GROUPA=1 GROUPB=2,3,4 R_0=0.4 NN=6 MM=12\nRESTRAINT ARG=c AT=3 KAPPA=30",
    ),
    "position": (
        'kind = "umbrella", cv = { kind = "position", atom = 4, axis = "z" }, at = "8 Å", spring = "500 kJ/mol/nm^2"',
        "p: POSITION ATOM=5 NOPBC\nRESTRAINT ARG=p.z AT=0.8 KAPPA=500",
    ),
    "line of plumed": (
        'kind = "umbrella", cv = { plumed = "DISTANCE ATOMS=1,2 COMPONENTS", component = "y" }, at = 0.1, '
        'spring = "500 kJ/mol"',
        "d: DISTANCE ATOMS=1,2 COMPONENTS\nRESTRAINT ARG=d.y AT=0.1 KAPPA=500",
    ),
    "steered": (
        f'kind = "steered", cv = {DISTANCE}, at = ["3.6 Å", "5 Å", "4.5 Å"], times = ["0 fs", "300 fs", "500 fs"], '
        'spring = "500 kJ/mol/nm^2"',
        "d: DISTANCE ATOMS=1,2\nMOVINGRESTRAINT ARG=d STEP0=0 AT0=0.36 KAPPA0=500 STEP1=60 AT1=0.5 KAPPA1=500 "
        "STEP2=100 AT2=0.45 KAPPA2=500",
    ),
    "metadynamics": (
        f'kind = "metadynamics", cv = [{DISTANCE}, {TORSION}], width = ["0.2 Å", "10 deg"], height = "1 kJ/mol", '
        'every = "50 fs", bias_factor = 5, minimum = ["1 Å", "-180 deg"], maximum = ["12 Å", "180 deg"]',
        f"d: DISTANCE ATOMS=1,2\nt: TORSION ATOMS=1,2,3,4\nMETAD ARG=d,t SIGMA=0.02,{ANGLE_10!r} "
        "HEIGHT=1 PACE=10 BIASFACTOR=5 GRID_MIN=0.1,-pi GRID_MAX=1.2,pi",
    ),
    "opes": (
        f'kind = "opes", cv = {DISTANCE}, barrier = "10 kJ/mol", every = "50 fs", width = "0.2 Å"',
        "d: DISTANCE ATOMS=1,2\nOPES_METAD ARG=d BARRIER=10 PACE=10 SIGMA=0.02 SIGMA_MIN=0.01 KERNEL_CUTOFF=10",
    ),
    "opes-expanded": (
        'kind = "opes-expanded", lowest = "60 K", highest = "200 K", every = "50 fs", observe = 2',
        "e: ENERGY\necv: ECV_MULTITHERMAL ARG=e TEMP_MIN=60 TEMP_MAX=200\nOPES_EXPANDED ARG=ecv.* PACE=10 "
        "OBSERVATION_STEPS=2",
    ),
}  # fmt: skip


def biased(folder: Path, stage: str, *, atoms: ase.Atoms = ATOMS) -> Path:
    return write_input(folder, STAGE + stage, atoms=atoms, output=OUTPUT + "\n[guard]\nenabled = false")


@pytest.mark.parametrize("name", CASES)
def test_a_bias_acts_as_the_lines_of_plumed_that_it_stands_for(name: str, tmp_path: Path) -> None:
    table, lines = CASES[name]
    described = simulate(biased(tmp_path / "table", f"bias = [{{ {table} }}]\n"), tmp_path / "table" / "run", threads=1)
    path = biased(tmp_path / "lines", 'plumed = "mine.dat"\n')
    (tmp_path / "lines" / "mine.dat").write_text(lines)
    written = simulate(path, tmp_path / "lines" / "run", threads=1)
    for file in (LOG, FINAL):
        assert (described.path / file).read_bytes() == (written.path / file).read_bytes(), file
    assert np.abs(read_log(described)["bias energy"][1:]).max() > 1e-6
    colvar = (described.path / "COLVAR").read_text().splitlines()
    assert len([line for line in colvar if not line.startswith("#")]) == 11


def test_the_force_of_opes_is_the_slope_of_its_bias(tmp_path: Path) -> None:
    opes = f'kind = "opes", cv = {DISTANCE}, barrier = "12 kJ/mol", every = "50 fs", width = "0.2 Å"'
    run = simulate(biased(tmp_path, f"bias = [{{ {opes} }}]\n"), tmp_path / "run", threads=1)
    (tmp_path / "again").mkdir()
    script = tmp_path / "again" / "bias.dat"
    script.write_text((run.path / "bias.dat").read_text())
    n, cell, rng = len(ATOMS), np.zeros((3, 3)), np.random.default_rng(1)
    with working_in(tmp_path / "again"):
        bias = PlumedBias(read_script(script), masses=np.full(n, 40.0), timestep=5.0, temperature=300.0)

        def at(distance: float, step: int) -> tuple[float, float]:
            positions, forces = np.zeros((n, 3)), np.zeros((n, 3))
            positions[1, 0] = distance
            energy = bias.compute(step, positions, cell, 0.0, forces, np.zeros((3, 3)))
            return energy, float(forces[1, 0])

        for step, distance in enumerate(rng.normal(3.0, 0.25, 3000).tolist(), 1):
            at(distance, 10 * step)
            bias.update()
        # below the middle of the valley, where it is steep: kernels that end at 3.5 widths are 5 % off there
        for distance in np.linspace(2.3, 2.8, 11).tolist():
            (above, _), (below, _), (_, force) = (at(distance + h, 30_010) for h in (1e-4, -1e-4, 0.0))
            assert force == pytest.approx(-(above - below) / 2e-4, rel=2e-3)


def test_targeted_dynamics_goes_to_the_reference(tmp_path: Path) -> None:
    goal = ATOMS.copy()
    goal.positions[:4] += [[0.0, 0, 0], [0.6, 0.3, 0], [0, 0.5, 0.4], [0.3, 0, 0.8]]
    table = (
        'kind = "steered", cv = { kind = "rmsd", reference = "goal.extxyz", atoms = [0, 1, 2, 3] }, '
        'at = ["0.4 Å", "0 Å"], times = ["0 fs", "400 fs"], spring = "200 eV/Å^2"'
    )
    path = biased(tmp_path, f"bias = [{{ {table} }}]\n")
    ase.io.write(tmp_path / "goal.extxyz", goal, format="extxyz")
    run = simulate(path, tmp_path / "run", threads=1)
    deviation = np.loadtxt(run.path / "COLVAR")[:, 1]
    assert deviation[0] > 0.03  # nm
    assert deviation[-1] < 0.005


def colvar_of(run: Run) -> str:
    return (run.path / "COLVAR").read_text().splitlines()[0]


def test_a_file_of_the_user_and_biases_of_the_input_act_together(tmp_path: Path) -> None:
    table, lines = CASES["umbrella"]
    wall = CASES["lower wall"][1]
    path = biased(tmp_path / "both", f'plumed = "mine.dat"\nbias = [{{ {table} }}]\n')
    (tmp_path / "both" / "mine.dat").write_text(wall + "\nPRINT ARG=a FILE=COLVAR STRIDE=10\n")
    both = simulate(path, tmp_path / "both" / "run", threads=1)
    path = biased(tmp_path / "lines", 'plumed = "mine.dat"\n')
    (tmp_path / "lines" / "mine.dat").write_text(wall + "\n" + lines)
    written = simulate(path, tmp_path / "lines" / "run", threads=1)
    assert (both.path / FINAL).read_bytes() == (written.path / FINAL).read_bytes()
    # each has its own table
    assert colvar_of(both) == "#! FIELDS time a"
    assert "distance1 umbrella1.bias" in (both.path / "COLVAR.bias").read_text()


def test_bias_dat_can_be_read_and_runs_by_itself(tmp_path: Path) -> None:
    run = simulate(
        biased(tmp_path, f"bias = [{{ {CASES['steered'][0]} }}, {{ {CASES['umbrella'][0]} }}]\n"),
        tmp_path / "run",
        threads=1,
    )
    text = (run.path / "bias.dat").read_text()
    assert text.count("DISTANCE ATOMS=1,2") == 1  # one variable, two biases
    assert "# distance of atoms 0, 1" in text
    path = biased(tmp_path / "again", 'plumed = "bias.dat"\n')
    (tmp_path / "again" / "bias.dat").write_text(text)
    again = simulate(path, tmp_path / "again" / "run", threads=1)
    assert (run.path / "COLVAR").read_bytes() == (again.path / "COLVAR").read_bytes()
    assert (run.path / FINAL).read_bytes() == (again.path / FINAL).read_bytes()


def of(variable: str) -> str:
    """A restraint of a variable."""
    return f'{{ kind = "umbrella", cv = {{ {variable} }}, at = 1, spring = 1 }}'


ABF = f'kind = "abf", cv = {DISTANCE}, minimum = "2 Å", maximum = "6 Å", width = "0.1 Å"'


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        ('{ kind = "abff" }', ("'abff' is not a kind of bias", "Did you mean 'abf'?")),
        (f'{{ kind = "umbrella", cv = {DISTANCE}, at = "3 Å" }}', ("bias 1 (umbrella): 'spring' is missing",)),
        (
            f'{{ kind = "umbrella", cv = {DISTANCE}, at = "3 Å", spring = "5 eV/Å" }}',
            ("spring: '5 eV/Å': 'eV/Å' is not a unit of this spring constant", "eV/Å^2"),
        ),
        (f'{{ kind = "umbrella", cv = {DISTANCE}, at = "3 deg", spring = 1 }}', ("at: '3 deg': 'deg' is not a unit",)),
        (f'{{ kind = "umbrella", cv = {DISTANCE}, at = [1, 2], spring = 1 }}', ("at: 2 given for 1 variables",)),
        (f'{{ kind = "umbrella", cv = {DISTANCE}, at = 1, spring = -1 }}', ("spring: -1: a spring constant above 0",)),
        (of('kind = "distance", atoms = [0]'), ("cv: atoms: 2 are",)),
        (of('kind = "distance", atoms = [0, 0]'), ("named twice",)),
        (of('kind = "distance", atoms = [0, 9]'), ("no atom 9", "has 6")),
        (of('kind = "distanc", atoms = [0, 9]'), ("'distanc' is not a",)),
        (of('plumed = "LOAD FILE=x.so"'), ("LOAD executes code",)),
        (of('plumed = "d: DISTANCE"'), ("without a label",)),
        (of('plumed = "DISTANC ATOMS=1,2"'), ("bias.dat: line 5", "DISTANCE")),
        (
            of('kind = "rmsd", reference = "no.pdb", atoms = [0, 1]'),
            ("no.pdb: no such file",),
        ),
        (
            f'{{ kind = "steered", cv = {DISTANCE}, at = [1, 2], times = [0, "1 ps"], spring = 1 }}',
            ("the last one is later than the end of the stage",),
        ),
        (f'{{ kind = "steered", cv = {DISTANCE}, at = [1, 2], times = [0], spring = 1 }}', ("times",)),
        (
            f'{{ kind = "metadynamics", cv = {DISTANCE}, width = "0.1 Å", minimum = 1 }}',
            ("minimum and maximum: a grid needs both",),
        ),
        (
            f'{{ kind = "metadynamics", cv = {DISTANCE}, width = 1, '
            'walkers = { folder = "w", number = 2, count = 2 } }',
            ("number: 2 of 2 walkers",),
        ),
        (f'{{ {ABF}, walkers = {{ number = 0, count = 1 }} }}', ("walkers: 'folder' is missing", "walkers: count: 1")),
        (
            f'{{ kind = "opes", cv = {DISTANCE}, barrier = "10 kJ/mol", width = "0.1 Å", min_width = "0.2 Å" }}',
            ("min_width: it is above width",),
        ),
        ('{ kind = "opes-expanded", lowest = "300 K", highest = "200 K" }', ("a temperature below highest",)),
        (f'{{ {ABF.replace(chr(34) + "6 Å" + chr(34), "1")} }}', ("minimum: a value below maximum",)),
        (f'{{ kind = "abf", cv = {DISTANCE}, width = "0.1 Å" }}', ("minimum: is needed",)),
        (f'{{ {ABF}, extended = false, spring = 1 }}', ("spring: belongs to an extended variable",)),
        (f'{{ {ABF}, extended = false, boundary = "reflect" }}', ("only an extended variable can be reflected",)),
        (f'{{ {ABF}, extended_period = "20 fs" }}', ("extended_period", "shorter than ten timesteps")),
        (f'{{ {ABF} }}, {{ {ABF} }}', ("one abf for a stage",)),
        (f'{{ {ABF.replace("0.1 Å", "1e-9 Å")} }}', ("4e+09 bins",)),
        (f'{{ {ABF}, write_every = "1 fs" }}', ("shorter than the timestep",)),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_bias_is_said_with_its_place(bias: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = biased(tmp_path, f"bias = [{bias}]\n")
    with pytest.raises(InputError) as caught:
        preview(path)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ('kind = "nve"\n', "abf needs a temperature"),
        ('kind = "nvt"\ntemperature = ["80 K", "90 K"]\n', "abf needs one temperature, not a ramp"),
    ],
)
def test_an_adaptive_force_needs_one_temperature(stage: str, words: str, tmp_path: Path) -> None:
    path = biased(tmp_path, f"bias = [{{ {ABF} }}]\n")
    text = path.read_text().replace('kind = "nvt"\ntemperature = "80 K"\n', stage)
    path.write_text(text.replace("seed = 1\n", 'seed = 1\nvelocities = "80 K"\n'))
    with pytest.raises(InputError, match=words):
        preview(path)


def test_units_of_a_file_beside_biases_are_refused(tmp_path: Path) -> None:
    path = biased(tmp_path, f'plumed = "mine.dat"\nbias = [{{ {ABF} }}]\n')
    (tmp_path / "mine.dat").write_text("UNITS LENGTH=A\nd: DISTANCE ATOMS=1,2\n")
    with pytest.raises(InputError, match="line 1: UNITS would change those of the biases"):
        preview(path)


def test_plumed_is_quoted_with_the_line_its_reason_and_what_to_cite(tmp_path: Path) -> None:
    table = (
        f'kind = "metadynamics", cv = {DISTANCE}, width = "0.1 Å", every = "50 fs", '
        'minimum = "1 Å", maximum = "3 Å"'  # the atoms are 3.7 Å apart
    )
    with pytest.raises(SimulationError) as caught:
        simulate(biased(tmp_path, f"bias = [{{ {table} }}]\n"), tmp_path / "run", threads=1)
    assert "bias.dat: line 8" in str(caught.value)
    assert "outside the grid" in str(caught.value)
    assert (tmp_path / "run" / "bias.dat").read_text().splitlines()[7].startswith("metad1: METAD")
    citations = json.loads((tmp_path / "run" / "run.json").read_text())["citations"]
    assert any("Barducci" in one for one in citations)
    assert "ask to be cited" in (tmp_path / "run" / "messages.log").read_text()


@pytest.mark.parametrize("name", ["steered", "opes-expanded", "metadynamics", "opes"])
def test_a_bias_of_the_input_goes_on_as_if_never_stopped(name: str, tmp_path: Path) -> None:
    path = biased(tmp_path, f"bias = [{{ {CASES[name][0]} }}]\n")
    one = simulate(path, tmp_path / "one", threads=1)
    parts = run_in_parts(path, tmp_path / "parts", [30, 70], threads=1)
    for file in (LOG, FINAL):
        assert (one.path / file).read_bytes() == (parts.path / file).read_bytes(), file


def test_widths_that_opes_measures_are_named_when_the_run_continues(tmp_path: Path) -> None:
    path = biased(tmp_path, f'bias = [{{ kind = "opes", cv = {DISTANCE}, barrier = "10 kJ/mol", every = "50 fs" }}]\n')
    run = run_in_parts(path, tmp_path / "run", [30], threads=1)
    assert "memory of the adaptive SIGMA of OPES_METAD" in (run.path / "messages.log").read_text()
