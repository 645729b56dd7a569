"""PLUMED as a bias: forces, virial, once-per-step updates, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlmd.bias.plumed import PlumedBias, check, working_in
from mlmd.bias.script import read_script
from mlmd.errors import InputError

METAD = """
# a comment
d: DISTANCE ATOMS=1,2
METAD ...
  ARG=d PACE=5 HEIGHT=1.0 SIGMA=0.05 FILE=HILLS
  BIASFACTOR=10 TEMP=300 LABEL=m
... METAD
r: RESTRAINT ARG=d AT=0.3 KAPPA=20000
PRINT ARG=d,m.bias,r.bias STRIDE=1 FILE=COLVAR
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plumed.dat"
    path.write_text(text)
    return path


@pytest.fixture
def bias(tmp_path):
    script = read_script(write(tmp_path, METAD))
    with working_in(tmp_path):
        yield PlumedBias(script, masses=np.full(3, 40.0), timestep=2.0, temperature=300.0)


CELL = np.array([[20.0, 0, 0], [3.0, 21.0, 0], [1.0, 2.0, 22.0]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [2.4, 1.1, 0.9], [9.0, 9.0, 9.0]])


def run(bias, positions, cell=CELL, step=0):
    forces, virial = np.zeros((3, 3)), np.zeros((3, 3))
    energy = bias.compute(step, np.ascontiguousarray(positions), np.ascontiguousarray(cell), 0.0, forces, virial)
    return energy, forces, virial


def deposit(bias):
    for step in range(12):
        run(bias, POSITIONS * (1 + 0.01 * step), step=step)
        bias.update()


def test_bias_forces_are_the_gradient_of_the_bias_energy(bias):
    deposit(bias)
    _, forces, _ = run(bias, POSITIONS, step=12)
    assert abs(forces).max() > 0.01
    h = 1e-4
    for atom in range(3):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = POSITIONS.copy()
                moved[atom, axis] += sign * h
                energies.append(run(bias, moved, step=12)[0])
            assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_bias_virial_is_the_strain_derivative_of_the_bias_energy(bias):
    deposit(bias)
    _, _, virial = run(bias, POSITIONS, step=12)
    h = 1e-5
    for a in range(3):
        for b in range(a + 1):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h / 2
                strain[b, a] += sign * h / 2
                energies.append(run(bias, POSITIONS @ strain, CELL @ strain, step=12)[0])
            assert virial[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_trial_evaluations_neither_print_nor_deposit(bias, tmp_path):
    for step in range(11):
        run(bias, POSITIONS * 1.1, step=step)
        run(bias, POSITIONS, step=step)
        bias.update()
        bias.update()  # a second update of the same step does nothing
    rows = [line for line in (tmp_path / "COLVAR").read_text().splitlines() if not line.startswith("#")]
    hills = [line for line in (tmp_path / "HILLS").read_text().splitlines() if not line.startswith("#")]
    assert [float(row.split()[0]) for row in rows] == pytest.approx([0.002 * step for step in range(11)])
    assert len(hills) == 2
    distance = np.linalg.norm(POSITIONS[1] - POSITIONS[0]) / 10
    assert float(hills[0].split()[1]) == pytest.approx(distance, abs=1e-12)


def test_steps_beyond_32_bits_keep_their_time(bias, tmp_path):
    run(bias, POSITIONS, step=3_000_000_001)
    bias.update()
    last = (tmp_path / "COLVAR").read_text().splitlines()[-1]
    assert float(last.split()[0]) == pytest.approx(3_000_000_001 * 0.002, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("d: DISTANC ATOMS=1,2", 1, "DISTANC"),
        ("d: DISTANCE ATOMS=1,2\n\nPRINT ARG=e FILE=COLVAR", 3, "e"),
        ("d: DISTANCE ATOMS=1,9", 1, "atom"),
        ("LOAD FILE=evil.so", 1, "executes code"),
        ("x: LOAD FILE=evil.so", 1, "executes code"),
        ("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=/etc/passwd", 2, "leaves the run folder"),
        ("d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=../COLVAR", 2, "leaves the run folder"),
        ("METAD ...\nARG=d", 1, "never closed"),
    ],
)
def test_errors_name_the_line(tmp_path, text, line, words):
    with pytest.raises(InputError) as caught:
        check(write(tmp_path, text), n_atoms=3)
    assert f"line {line}:" in str(caught.value)
    assert words in str(caught.value)


def test_a_script_says_which_files_it_reads_and_writes(tmp_path):
    (tmp_path / "ref.pdb").write_text("END\n")
    script = read_script(
        write(
            tmp_path,
            METAD + "s: RMSD REFERENCE=ref.pdb\nOPES_METAD ARG=d PACE=7 STATE_WFILE=STATE STATE_WSTRIDE=70",
        )
    )
    assert script.reads == ("ref.pdb",)
    assert script.prints == ("COLVAR",)
    assert script.histories == ("HILLS", "KERNELS")
    assert script.rewrites == ("STATE",)


def test_check_leaves_nothing_behind(tmp_path):
    check(write(tmp_path, METAD), n_atoms=3)
    assert [path.name for path in tmp_path.iterdir()] == ["plumed.dat"]
