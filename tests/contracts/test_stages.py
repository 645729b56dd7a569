"""What every kind of stage leaves in the run folder, in every trajectory format."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from mdtraj.formats import DCDTrajectoryFile, XTCTrajectoryFile
from runs import fcc_argon, read_log, skewed, write_input

from mlmd.engine.run import simulate
from mlmd.rundir import FINAL, Run, open_run

NPT = 'kind = "npt"\ntemperature = "60 K"\n'
STAGES = {
    "nve": 'kind = "nve"',
    "langevin": 'kind = "nvt"\ntemperature = ["20 K", "60 K"]',
    "nose-hoover": 'kind = "nvt"\ntemperature = "60 K"\nthermostat = { kind = "nose-hoover" }',
    "isotropic": NPT + 'pressure = "1 bar"\nbarostat = { kind = "isotropic", every = 4 }',
    "anisotropic": NPT + 'pressure = "1 bar"\nbarostat = { kind = "anisotropic", every = 4 }',
    "flexible": NPT + 'pressure = ["1 bar", "1 kbar"]\nbarostat = { kind = "flexible", every = 4 }',
}
FORMATS = {"nve": "extxyz", "langevin": "xtc", "nose-hoover": "dcd", "isotropic": "extxyz", "anisotropic": "dcd"}
"""Each kind of stage with one format; the flexible one with all."""
CASES = [*FORMATS.items(), *(("flexible", kind) for kind in ("dcd", "xtc", "extxyz"))]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A minimization, the stage, and the stage again, of a turned crystal; no interval divides a duration."""
    stage, kind = request.param
    folder = tmp_path_factory.mktemp("stages")
    body = STAGES[stage]
    stages = (
        '[[stage]]\nkind = "minimize"\nmax_force = "0.02 eV/Å"\n'
        f'[[stage]]\n{body}\nduration = "265 fs"\n[[stage]]\n{body}\nduration = "250 fs"'
    )
    output = f'log_every = "20 fs"\ntrajectory_every = "40 fs"\ntrajectory_format = "{kind}"'
    options = 'velocities = "60 K"' if stage == "nve" else ""
    path = write_input(folder, stages, atoms=skewed(fcc_argon(2))[0], options=options, output=output)
    return simulate(path, folder / "run", threads=1)


def frames(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n_frames, n_atoms, 3) Å and cell lengths (n_frames, 3) Å, by readers of others."""
    kind = run.manifest["trajectory"]["format"]
    if kind == "extxyz":
        seen = ase.io.read(run.trajectory, index=":")
        return np.array([frame.positions for frame in seen]), np.array([frame.cell.lengths() for frame in seen])
    if kind == "xtc":
        with XTCTrajectoryFile(str(run.trajectory)) as file:
            positions, _, _, vectors = file.read()
        return 10 * positions, 10 * np.linalg.norm(vectors, axis=2)
    with DCDTrajectoryFile(str(run.trajectory)) as file:
        positions, lengths, _ = file.read()
    return positions, lengths


def test_the_run_is_done_and_can_be_opened(run: Run) -> None:
    assert open_run(run.path).manifest["state"] == "done"
    assert [stage.n_steps for stage in run.stages] == [0, 53, 50]
    assert (run.path / "messages.log").read_text().rstrip().endswith("finished: 103 steps, 0.515 ps")


def test_the_log_has_every_planned_row_once(run: Run) -> None:
    log = read_log(run)
    first, second = np.arange(0, 53, 4), 53 + np.arange(4, 51, 4)
    assert np.array_equal(log["step"], np.concatenate([first, second]))
    assert np.array_equal(log["stage"], [2] * len(first) + [3] * len(second))
    np.testing.assert_allclose(log["time"], 0.005 * log["step"], rtol=1e-9)
    needed = ("potential energy", "kinetic energy", "energy per atom", "temperature", "pressure", "volume", "density")
    assert all(np.isfinite(log[name]).all() for name in needed)
    assert not log["bias energy"].any()


def test_the_trajectory_has_every_planned_frame_once(run: Run) -> None:
    stages, steps, times = run.frame_table()
    positions, lengths = frames(run)
    assert len(positions) == len(lengths) == len(steps) == 7 + 6
    assert np.array_equal(steps, [*range(0, 53, 8), *range(61, 104, 8)])
    assert np.array_equal(np.unique(stages), [1, 2])
    np.testing.assert_allclose(times, 5.0 * steps)
    turned = skewed(fcc_argon(2))[0].cell.lengths()
    np.testing.assert_allclose(lengths, np.tile(turned, (13, 1)), rtol=0.05 if run.stages[1].barostat else 1e-4)


def test_positions_are_whole_paths_in_the_axes_of_the_structure(run: Run) -> None:
    positions, _ = frames(run)
    # minimizing a crystal moves atoms by less than 0.2 Å, eight steps at 60 K too; wrapping would move by a cell
    assert np.abs(positions[0] - run.atoms.positions).max() < 0.2
    assert np.abs(np.diff(positions, axis=0)).max() < 0.5


def test_the_final_structure_can_begin_another_run(run: Run, tmp_path: Path) -> None:
    last = ase.io.read(run.path / FINAL)
    assert last.info["step"] == 103
    assert last.info["time_fs"] == 515.0
    assert last.pbc.all() and np.array_equal(last.numbers, run.atoms.numbers)
    path = write_input(
        tmp_path, '[[stage]]\nkind = "nve"\nduration = "5 fs"', atoms=last, options='velocities = "file"',
        output='log_every = "5 fs"',
    )  # fmt: skip
    log = read_log(simulate(path, tmp_path / "run", threads=1))
    assert log["volume"][0] == pytest.approx(last.get_volume(), rel=1e-8)
    # leapfrog takes the velocities for those of half a step earlier
    assert log["kinetic energy"][0] == pytest.approx(last.get_kinetic_energy(), rel=0.1)
