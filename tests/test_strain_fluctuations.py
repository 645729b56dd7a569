"""Elastic constants from fluctuations of the cell: planted ones, those of a crystal at rest, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.build
import numpy as np
import pytest
from command_line import mlmd
from runs import fcc_argon, write_input
from scipy.spatial.transform import Rotation

from mlmd import units
from mlmd.analysis import write
from mlmd.analysis.strain_fluctuations import GPA, strain_fluctuations, strains_of
from mlmd.engine.run import simulate
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory
from mlmd.io.trajectories import from_arrays, open_run
from mlmd.potentials.pair import LennardJones
from mlmd.sample.elastic import elastic

TEMPERATURE = 300.0


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    tensor = np.diag([c11] * 3 + [c44] * 3)
    tensor[:3, :3] += c12 * (1.0 - np.eye(3))
    return tensor


def breathing(rng: np.random.Generator, tensor: np.ndarray, n_frames: int, memory: float = 0.0) -> Trajectory:
    """Cells whose strains fluctuate as those of a crystal with constants (6, 6) GPa, one remembering the one before."""
    cell = np.array([[14.0, 0.0, 0.0], [0.0, 15.0, 0.0], [1.0, 0.5, 16.0]])
    spread = np.linalg.cholesky(units.KB * TEMPERATURE / np.linalg.det(cell) * np.linalg.inv(tensor * GPA))
    noise = rng.standard_normal((n_frames, 6))
    for frame in range(1, n_frames):
        noise[frame] = memory * noise[frame - 1] + np.sqrt(1.0 - memory**2) * noise[frame]
    strains = np.zeros((n_frames, 3, 3))
    for number, (i, j) in enumerate(zip(*([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]), strict=True)):
        half = 1.0 if i == j else 0.5
        strains[:, i, j] = strains[:, j, i] = half * (noise @ spread.T)[:, number]
    atoms = ase.Atoms("Ar", positions=[[1.0, 1.0, 1.0]], cell=cell, pbc=True)
    cells = cell @ (np.eye(3) + strains)
    positions = np.ones((n_frames, 1, 3))
    return from_arrays(positions, atoms, interval=100.0, unwrapped=True, cells=cells, temperature=TEMPERATURE)


def test_intervals_of_95_percent_hold_planted_constants() -> None:
    rng, tensor = np.random.default_rng(1), cubic(170.0, 120.0, 75.0)
    misses = []
    for _ in range(100):
        found = strain_fluctuations(breathing(rng, tensor, 1000, memory=0.5))
        misses.append((found.tensor - tensor) / found.error)
    share = np.mean(np.abs(misses) < 2.26, axis=0)  # Student's of nine degrees of freedom, those of ten blocks
    # 100 draws tell 95 % to 2.2 %, and there are 21 constants
    assert share.min() >= 0.86 and 0.92 <= share.mean() <= 0.98
    # without the jackknife's correction the mean would be too large by 7 / 300, a third of an error
    assert np.abs(np.mean(misses, axis=0)).max() < 0.4 and abs(np.mean(np.array(misses)[:, range(6), range(6)])) < 0.15


def test_a_strain_does_not_see_how_the_cell_is_turned() -> None:
    cells = breathing(np.random.default_rng(2), cubic(170.0, 120.0, 75.0), 50).cells
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle), 0.0], [-np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    one, other = strains_of(cells), strains_of(cells @ turn)
    tensors = [np.array([[s[0], s[5] / 2, s[4] / 2], [s[5] / 2, s[1], s[3] / 2], [s[4] / 2, s[3] / 2, s[2]]])
               for s in (one[7], other[7])]  # fmt: skip
    assert np.abs(turn.T @ tensors[0] @ turn - tensors[1]).max() < 1e-12
    # a small strain, against the mean, is what was put in
    stretched = np.diag([10.0, 10.0, 10.0]) @ np.stack([np.eye(3) * (1.0 + e) for e in (-1e-6, 1e-6)])
    assert strains_of(stretched)[1] == pytest.approx([1e-6, 1e-6, 1e-6, 0.0, 0.0, 0.0], rel=1e-5)


def test_strains_of_a_cell_that_turns_are_those_of_the_crystal() -> None:
    rng = np.random.default_rng(5)
    cells = breathing(rng, cubic(17.0, 12.0, 7.5), 500).cells
    turns = Rotation.from_rotvec(0.05 * rng.standard_normal((500, 3))).as_matrix()
    still, turned = (one - one.mean(axis=0) for one in (strains_of(cells), strains_of(cells @ turns)))
    # the mean of cells that turn by 0.05 is smaller by 2.5e-3, about 1 % of strains; hᵀh in the place of hhᵀ makes 10 %
    assert (turned - still).std() < 0.02 * still.std()


def test_few_independent_strains_have_no_error_and_are_told() -> None:
    found = strain_fluctuations(breathing(np.random.default_rng(3), cubic(170.0, 120.0, 75.0), 400, memory=0.97))
    assert not np.isfinite(found.error).any() and any("independent values" in note for note in found.notes)
    assert found.to_json()["error_GPa"] is None and "C11" in str(found)


def test_results_are_written_with_the_course_of_the_constants(tmp_path: Path) -> None:
    tensor = cubic(170.0, 120.0, 75.0)
    found = strain_fluctuations(breathing(np.random.default_rng(4), tensor, 2000))
    _, csv, _ = write(found, tmp_path)
    table = np.loadtxt(csv, delimiter=",", skiprows=1)
    assert table.shape == (60, 10) and table[-1, 0] == pytest.approx(199.9)
    assert np.abs(table[-1, 1:4] - 170.0).max() < 30.0
    bulk = found.moduli["bulk (Hill)"]
    assert abs(bulk.value - (170.0 + 240.0) / 3.0) < 4.0 * bulk.error


ARGON = '{ kind = "lennard-jones", epsilon = "0.0104 eV", sigma = "3.4 Å", cutoff = "6 Å", onset = "4.5 Å" }'


def crystal(kind: str, duration: str, temperature: str = "2 K") -> str:
    return (
        '[[stage]]\nkind = "minimize"\ncell = true\nmax_force = "1e-4 eV/Å"\n'
        f'[[stage]]\nkind = "npt"\ntemperature = "{temperature}"\npressure = "1 bar"\nduration = "{duration}"\n'
        f'barostat = {{ kind = "{kind}", every = 2 }}'
    )


OUTPUT = 'log_every = "5 ps"\ntrajectory_every = "50 fs"'


def test_cells_that_do_not_change_in_all_ways_are_refused(tmp_path: Path) -> None:
    path = write_input(tmp_path, crystal("anisotropic", "6 ps", "40 K"), potential=ARGON, output=OUTPUT)
    run = simulate(path, tmp_path / "run", threads=1)
    with pytest.raises(InputError, match=r"does not fluctuate in yz, xz, xy.*flexible"):
        strain_fluctuations(open_run(run))
    with pytest.raises(InputError, match="cells at least are needed"):
        strain_fluctuations(open_run(run, last_time=1000.0))


def test_a_run_is_analysed_by_a_command(tmp_path: Path) -> None:
    path = write_input(tmp_path, crystal("flexible", "8 ps", "40 K"), potential=ARGON, output=OUTPUT)
    run = simulate(path, tmp_path / "run", threads=1)
    answer = mlmd("analyze", "elastic", run.path, "--json")
    assert answer.code == 0, answer.err
    result = json.loads(answer.out)
    assert np.shape(result["elastic_constants_GPa"]) == (6, 6) and result["temperature_K"] == 40.0
    shown = mlmd("analyze", "elastic", run.path)
    assert shown.code == 0 and "bulk (Hill)" in shown.out
    assert all((run.path / "analysis" / f"elastic.{ending}").stat().st_size for ending in ("json", "csv", "png"))


@pytest.mark.slow
def test_near_absolute_zero_the_constants_are_those_of_the_crystal_at_rest(tmp_path: Path) -> None:
    # strains of a harmonic crystal of any size fluctuate by its constants; those at rest are by finite strains
    potential = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="6 Å", onset="4.5 Å")
    rest = elastic(potential, fcc_argon(2), with_equation=False).tensor
    path = write_input(tmp_path, crystal("flexible", "150 ps"), potential=ARGON, output=OUTPUT)
    trajectory = open_run(simulate(path, tmp_path / "run", threads=1), first_time=5000.0)
    found = strain_fluctuations(trajectory)
    assert found.error[0, 0] < 0.2 * rest[0, 0]
    misses = (found.tensor - rest) / found.error
    # Student's of nine degrees of freedom, 21 constants: 4.8 in one of a hundred runs
    assert np.abs(misses).max() < 4.8
