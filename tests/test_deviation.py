"""What a run writes of a committee's disagreement: DeePMD's columns, candidates by DP-GEN's limits, a stop."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from runs import assert_same_run, fcc_argon, run_in_parts, write_input

from mlmd.ase import Calculator
from mlmd.engine.run import simulate
from mlmd.potentials.committee import Committee
from mlmd.potentials.modelfile import save
from mlmd.potentials.pair import LennardJones

STAGE = '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "400 K"]\nduration = "1 ps"\n'
OUTPUT = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\ntrajectory_format = "extxyz"\nspread_every = "50 fs"\n'
MEMBERS = [LennardJones(epsilon=e, sigma=s, cutoff=6.0) for e, s in ((0.0104, 3.4), (0.0110, 3.38), (0.0100, 3.42))]


def committee_input(folder: Path, extra: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    save(Committee(MEMBERS), folder / "three.mlmd")
    return write_input(folder, STAGE, potential='"three.mlmd"', output=OUTPUT + extra)


def table(run: Path) -> np.ndarray:
    found: np.ndarray = np.loadtxt(run / "model_devi.out", ndmin=2)
    return found


def by_the_book(atoms: ase.Atoms) -> list[float]:
    """max, min, avg of the virial and of the forces by the formulas of DeePMD-kit's manual (Model Deviation)."""
    forces, virials = [], []
    for member in MEMBERS:
        atoms.calc = Calculator(member)
        forces.append(atoms.get_forces())
        virials.append(-atoms.get_stress(voigt=False) * atoms.get_volume() / len(atoms))
    of_forces = np.linalg.norm(np.std(forces, axis=0), axis=1)
    of_virial = np.std(virials, axis=0).ravel()
    mean = np.linalg.norm(of_virial) / 3.0
    return [of_virial.max(), of_virial.min(), mean, of_forces.max(), of_forces.min(), of_forces.mean()]


def test_the_table_has_deepmds_columns_and_numbers(tmp_path: Path) -> None:
    run = simulate(committee_input(tmp_path), tmp_path / "run", threads=1)
    text = (run.path / "model_devi.out").read_text().splitlines()
    assert text[0].split() == [
        "#", "step", "max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f",
    ]  # fmt: skip
    rows = table(run.path)
    assert np.array_equal(rows[:, 0], np.arange(0, 201, 10))
    frames = ase.io.read(run.trajectory, index=":")
    for row, frame in zip(rows[::2], frames, strict=True):
        # positions in the file have eight digits, numbers of the table six
        assert row[1:] == pytest.approx(by_the_book(frame), rel=1e-4, abs=1e-7)


def test_candidates_are_the_frames_between_the_limits_and_a_run_in_parts_has_the_same(tmp_path: Path) -> None:
    deviations = table(simulate(committee_input(tmp_path / "free"), tmp_path / "free" / "run", threads=1).path)[:, 4]
    low, high = np.quantile(deviations, [0.4, 0.8])
    extra = f'[uncertainty]\nlow = "{low:.6f} eV/Å"\nhigh = "{high:.6f} eV/Å"\ncollect = true\nmax_candidates = 5\n'
    path = committee_input(tmp_path, extra)
    one = simulate(path, tmp_path / "one", threads=1)
    wanted = 10 * np.flatnonzero((deviations >= low) & (deviations < high))[:5]
    frames = ase.io.read(one.path / "candidates.extxyz", index=":")
    assert [frame.info["step"] for frame in frames] == wanted.tolist()
    assert all("spread" in frame.arrays for frame in frames)
    run_in_parts(path, tmp_path / "parts", [30, 90, 150], threads=1)
    assert_same_run(one.path, tmp_path / "parts", extra=("model_devi.out", "candidates.extxyz"))
    messages = (one.path / "messages.log").read_text()
    assert messages.count("above the lower limit of [uncertainty]") == 1
    assert messages.count("above the upper limit of [uncertainty]") == 1


@pytest.mark.row("R17")
def test_a_run_stops_at_the_first_structure_above_the_upper_limit(tmp_path: Path) -> None:
    deviations = table(simulate(committee_input(tmp_path / "free"), tmp_path / "free" / "run", threads=1).path)[:, 4]
    high = 0.5 * (deviations[0] + deviations.max())
    path = committee_input(tmp_path, f'[uncertainty]\nhigh = {high:.6f}\nabove = "stop"\n')
    answer = mlmd("simulate", path, "--out", tmp_path / "run")
    step = 10 * int(np.argmax(deviations >= high))
    assert answer.code == 3
    assert f"at step {step:,} " in answer.err and "upper limit of [uncertainty]" in answer.err
    assert table(tmp_path / "run")[-1, 0] == step
    path.write_text(path.read_text().replace('"stop"', '"warn"'))
    assert mlmd("simulate", path, "--out", tmp_path / "run", "--quiet").code == 0  # limits may change


def test_a_potential_that_knows_nothing_of_its_errors_writes_no_table(tmp_path: Path) -> None:
    run = simulate(write_input(tmp_path, STAGE, atoms=fcc_argon(2)), tmp_path / "run", threads=1)
    assert not (run.path / "model_devi.out").exists() and not (run.path / "candidates.extxyz").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('low = "0.3 eV/Å"\nhigh = "0.1 eV/Å"', "low must be below high"),
        ("low_grade = 10\nhigh_grade = 2", "low_grade must be below high_grade"),
        ("collect = true", "needs low or low_grade"),
        ('above = "stop"', "needs high or high_grade"),
        ("low = true", "low"),
        ('above = "ignore"', "above"),
    ],
)
def test_limits_that_make_no_sense_are_refused(table: str, said: str, tmp_path: Path) -> None:
    path = write_input(tmp_path, STAGE, output=OUTPUT + f"[uncertainty]\n{table}\n")
    answer = mlmd("check", path)
    assert answer.code == 2 and said in answer.err and "uncertainty" in answer.err, answer.err
