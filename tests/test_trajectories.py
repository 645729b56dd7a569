"""Trajectories: the frames that are there, in the user's orientation, never more in memory than asked."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.io
import mdtraj
import numpy as np
import pytest
from made_runs import EVERY, TIMESTEP, stage, walk, write_log, write_run, write_trajectory
from runs import fcc_argon, skewed, write_input

from mlmd.engine.run import simulate
from mlmd.errors import InputError, StorageError
from mlmd.io.dcd import open_dcd
from mlmd.io.frames import Trajectory
from mlmd.io.trajectories import from_arrays, open_run, open_trajectory

N_FRAMES, N_ATOMS = 25, 12
INTERVAL = TIMESTEP * EVERY
PRECISION = {"dcd": 1e-5, "xtc": 6e-3, "extxyz": 1e-7}
"""Å: float32 of positions below 100 Å, half of XTC's 0.01 Å (and its float32), the digits of ASE's text."""
FORMATS = tuple(PRECISION)
TRICLINIC = np.array([[11.0, 0.0, 0.0], [3.0, 10.0, 0.0], [-2.0, 4.0, 12.0]])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def atoms() -> ase.Atoms:
    return ase.Atoms("Li4Cl8", cell=TRICLINIC, pbc=True)


@pytest.fixture
def positions(rng: np.random.Generator) -> np.ndarray:
    """Unwrapped positions, some of them far outside the cell."""
    return walk(rng, N_FRAMES, N_ATOMS, step=1.0) + rng.uniform(-30, 30, size=(N_ATOMS, 3))


def one_stage(n_frames: int = N_FRAMES) -> tuple:
    return (stage(0, 0, (n_frames - 1) * EVERY),)


def all_positions(trajectory: Trajectory, **options: int) -> np.ndarray:
    return np.concatenate([frames.positions for frames in trajectory.chunks(**options)])


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_positions_that_were_written(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, kind: str
) -> None:
    run = write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind=kind)
    trajectory = open_run(run)
    assert trajectory.n_frames == N_FRAMES
    assert np.abs(all_positions(trajectory) - positions).max() < PRECISION[kind]
    assert np.array_equal(trajectory.times, INTERVAL * np.arange(N_FRAMES))


def test_dcd_is_read_as_mdtraj_reads_it(tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray) -> None:
    path = tmp_path / "a.dcd"
    write_trajectory(path, atoms, positions, np.broadcast_to(TRICLINIC, (N_FRAMES, 3, 3)))
    expected = mdtraj.load(str(path), top=mdtraj.Trajectory(positions[:1] / 10, _topology()).topology)
    reader = open_dcd(path)
    assert np.abs(reader.read(range(N_FRAMES)) - 10.0 * expected.xyz).max() < 1e-5
    assert np.abs(reader.cells(range(N_FRAMES)) - 10.0 * expected.unitcell_vectors).max() < 1e-4


def _topology() -> mdtraj.Topology:
    topology = mdtraj.Topology()
    residue = topology.add_residue("X", topology.add_chain())
    for _ in range(N_ATOMS):
        topology.add_atom("Ar", mdtraj.element.argon, residue)
    return topology


def test_a_dcd_cell_may_be_written_in_degrees_or_in_cosines(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    path = tmp_path / "a.dcd"
    write_trajectory(path, atoms, positions, np.broadcast_to(TRICLINIC, (N_FRAMES, 3, 3)))
    content, reader = bytearray(path.read_bytes()), open_dcd(path)
    size = 8 + 48 + 3 * (8 + 4 * N_ATOMS)
    for frame in range(N_FRAMES):
        start = len(content) - (N_FRAMES - frame) * size + 4
        cell = np.frombuffer(bytes(content[start : start + 48])).copy()
        cell[[1, 3, 4]] = np.degrees(np.arccos(cell[[1, 3, 4]]))  # MDTraj writes cosines
        content[start : start + 48] = cell.tobytes()
    (tmp_path / "b.dcd").write_bytes(content)
    assert np.abs(open_dcd(tmp_path / "b.dcd").cells(range(N_FRAMES)) - reader.cells(range(N_FRAMES))).max() < 1e-12


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_torn_last_frame_is_left_out(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, kind: str, cut: int
) -> None:
    run = write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind=kind)
    path = run / f"trajectory.{kind}"
    path.write_bytes(path.read_bytes()[:-cut])
    trajectory = open_run(run)
    assert trajectory.n_frames == N_FRAMES - 1
    assert np.abs(all_positions(trajectory) - positions[:-1]).max() < PRECISION[kind]


def test_few_atoms_are_not_compressed_in_xtc(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms, positions = ase.Atoms("Ar3", cell=[10.0] * 3, pbc=True), walk(rng, N_FRAMES, 3)
    run = write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind="xtc")
    assert np.abs(all_positions(open_run(run)) - positions).max() < 1e-5


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("n_per_chunk", [1, 7, N_FRAMES, 1000])
def test_chunks_of_any_size_give_the_same_frames(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, kind: str, n_per_chunk: int
) -> None:
    trajectory = open_run(write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind=kind))
    chunks = list(trajectory.chunks(3, 20, 4, n_per_chunk=n_per_chunk))
    assert max(len(chunk.positions) for chunk in chunks) <= n_per_chunk
    assert np.abs(np.concatenate([chunk.positions for chunk in chunks]) - positions[3:20:4]).max() < PRECISION[kind]
    assert np.array_equal(np.concatenate([chunk.times for chunk in chunks]), trajectory.times[3:20:4])


@pytest.mark.parametrize("kind", FORMATS)
def test_some_atoms_can_be_read_alone(tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, kind: str) -> None:
    trajectory = open_run(write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind=kind))
    lithium = trajectory.atoms_of(["Li"])
    assert lithium.tolist() == [0, 1, 2, 3]
    read = next(trajectory.chunks(atoms=lithium[::2])).positions
    assert np.abs(read - positions[:, [0, 2]]).max() < PRECISION[kind]
    for some in ([0, 1, 2], [1, 2], [2, 1], [3], [-2, -1], []):  # next to each other in the file, and not
        read = next(trajectory.chunks(atoms=np.array(some, dtype=int))).positions
        assert np.abs(read - positions[:, some]).max(initial=0.0) < PRECISION[kind]
        assert read.shape == (N_FRAMES, len(some), 3)


def test_an_unfinished_run_has_the_frames_written_by_now(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    stages = (stage(0, 0, 100), stage(1, 100, 10_000))
    trajectory = open_run(write_run(tmp_path / "a.run", atoms, stages, positions))
    assert trajectory.provenance.stage == 2
    assert trajectory.n_frames == N_FRAMES - 11
    assert trajectory.times[0] == 110 * TIMESTEP


def test_the_last_stage_with_frames_is_read_and_no_other(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    stages = (
        stage(0, 0, 0, kind="minimize", temperature=None),
        stage(1, 0, 100),
        stage(2, 100, 140),
        stage(3, 240, 50),
    )
    run = write_run(tmp_path / "a.run", atoms, stages, positions)
    assert np.abs(all_positions(open_run(run)) - positions[11:]).max() < 1e-5
    assert np.abs(all_positions(open_run(run, stage=2)) - positions[:11]).max() < 1e-5
    with pytest.raises(InputError, match=r"no frames of a stage 4\. Stages with frames: 2 \(nvt\), 3 \(nvt\)"):
        open_run(run, stage=4)
    with pytest.raises(InputError, match="no frames of a stage 1"):
        open_run(run, stage=1)


def test_times_are_counted_from_the_beginning_of_the_run(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    run = write_run(tmp_path / "a.run", atoms, (stage(0, 0, 100), stage(1, 100, 140)), positions)
    part = open_run(run, first_time=300.0, last_time=400.0)
    assert part.times.tolist() == [300.0, 320.0, 340.0, 360.0, 380.0, 400.0]
    assert np.abs(all_positions(part) - positions[15:21]).max() < 1e-5
    with pytest.raises(InputError, match=r"no frame lies between --from and --to.*from 0\.22 ps to 0\.48 ps"):
        open_run(run, first_time=1e4)


def test_a_stage_that_changes_its_temperature_is_refused(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    stages = (stage(0, 0, 100), stage(1, 100, 140, temperature=(300.0, 600.0)))
    run = write_run(tmp_path / "a.run", atoms, stages, positions)
    with pytest.raises(InputError, match=r"stage 2 goes from 300 to 600 K.*--stage"):
        open_run(run)
    assert open_run(run, stage=1).temperature == 300.0


def test_without_a_thermostat_the_temperature_is_the_mean_of_the_log(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, rng: np.random.Generator
) -> None:
    stages = (stage(0, 0, 240, kind="nve", temperature=None),)
    run = write_run(tmp_path / "a.run", atoms, stages, positions)
    assert open_run(run).temperature is None
    write_log(run, stages, rng, temperature=512.0)
    assert open_run(run).temperature == pytest.approx(512.0, abs=1.0)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_constant_cell_is_exactly_that_of_the_structure(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray, kind: str
) -> None:
    trajectory = open_run(write_run(tmp_path / "a.run", atoms, one_stage(), positions, kind=kind))
    assert trajectory.constant_cell
    assert np.array_equal(trajectory.cells[5], TRICLINIC)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_turned_slab_keeps_the_cell_of_its_structure(
    tmp_path: Path, positions: np.ndarray, rng: np.random.Generator, kind: str
) -> None:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    slab = ase.Atoms("Li4Cl8", cell=TRICLINIC @ rotation, pbc=[True, True, False])
    closed = np.broadcast_to(np.diag([11.0, 10.0, 30.0]), (N_FRAMES, 3, 3))  # what a program may put into its file
    run = write_run(tmp_path / "a.run", slab, one_stage(), positions, cells=closed, orientation=rotation, kind=kind)
    assert np.abs(open_run(run).cells - slab.cell.array).max() < 1e-6  # the digits of structure.extxyz
    assert open_run(run).constant_cell


def test_a_minimization_alone_has_no_frames(tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray) -> None:
    run = write_run(tmp_path / "a.run", atoms, (stage(0, 0, 0, kind="minimize", temperature=None),), positions)
    (run / "trajectory.dcd").unlink()
    with pytest.raises(InputError, match="has no frames: a minimization writes none"):
        open_run(run)


@pytest.mark.parametrize("kind", FORMATS)
def test_changing_cells_come_in_the_orientation_of_the_positions(
    tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    standard = TRICLINIC * (1.0 + 0.01 * rng.normal(size=(N_FRAMES, 3, 3)))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    atoms = ase.Atoms("Ar12", cell=standard[0] @ rotation, pbc=True)
    stages = (stage(0, 0, (N_FRAMES - 1) * EVERY, kind="npt", pressure=(1.0, 1.0), barostat="flexible"),)
    cells = standard @ rotation
    run = write_run(
        tmp_path / "a.run", atoms, stages, walk(rng, N_FRAMES, 12), cells=cells, orientation=rotation, kind=kind
    )
    trajectory = open_run(run)
    assert not trajectory.constant_cell
    assert np.abs(trajectory.cells - cells).max() < 1e-5
    assert trajectory.volume() == pytest.approx(np.linalg.det(cells).mean(), rel=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_real_run_in_a_skewed_cell_under_pressure_is_read_back(tmp_path: Path, kind: str) -> None:
    stages = """
[[stage]]
kind = "npt"
temperature = "80 K"
pressure = "1 bar"
thermostat = { kind = "langevin", friction = "1 / ps" }
barostat = { kind = "flexible", every = 5 }
duration = "1 ps"
"""
    atoms, _ = skewed(fcc_argon(2))
    output = f'log_every = "100 fs"\ntrajectory_every = "100 fs"\ntrajectory_format = "{kind}"'
    run = simulate(write_input(tmp_path, stages, atoms=atoms, output=output), tmp_path / "a.run")
    trajectory = open_run(run)
    final = ase.io.read(run.path / "final.extxyz")
    assert trajectory.n_frames == 11
    assert not trajectory.constant_cell
    assert np.abs(trajectory.cells[-1] - final.cell.array).max() < 1e-5
    assert np.abs(all_positions(trajectory)[-1] - final.positions).max() < PRECISION[kind]


def test_a_foreign_file_must_be_said_to_be_wrapped_or_not(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    write_trajectory(tmp_path / "a.dcd", atoms, positions, np.broadcast_to(TRICLINIC, (N_FRAMES, 3, 3)))
    with pytest.raises(InputError, match="unwrapped=True"):
        open_trajectory(tmp_path / "a.dcd", atoms, interval=1.0)
    with pytest.raises(InputError, match="interval"):
        open_trajectory(tmp_path / "a.dcd", atoms, unwrapped=True)
    trajectory = open_trajectory(tmp_path / "a.dcd", atoms, unwrapped=False, interval=5.0)
    assert (trajectory.unwrapped, trajectory.provenance.interval) == (False, 5.0)


def test_xtc_knows_its_own_times(tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray) -> None:
    write_trajectory(tmp_path / "a.xtc", atoms, positions, np.broadcast_to(TRICLINIC, (N_FRAMES, 3, 3)))
    trajectory = open_trajectory(tmp_path / "a.xtc", atoms, unwrapped=True)
    assert np.allclose(trajectory.times, INTERVAL * np.arange(N_FRAMES), rtol=1e-6)


def test_vasp_trajectories_are_read(tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray) -> None:
    frames = [ase.Atoms(atoms.numbers, x, cell=TRICLINIC, pbc=True) for x in positions[:3]]
    ase.io.write(tmp_path / "XDATCAR", frames, format="vasp-xdatcar")
    trajectory = open_trajectory(tmp_path / "XDATCAR", atoms, unwrapped=False, interval=1.0)
    moved = (all_positions(trajectory) - positions[:3]) @ np.linalg.inv(TRICLINIC)
    assert np.abs(moved - np.rint(moved)).max() < 1e-7


def test_other_atoms_than_the_structure_has_are_refused(
    tmp_path: Path, atoms: ase.Atoms, positions: np.ndarray
) -> None:
    write_trajectory(tmp_path / "a.dcd", atoms, positions, np.broadcast_to(TRICLINIC, (N_FRAMES, 3, 3)))
    with pytest.raises(InputError, match="has 12 atoms, its structure 3"):
        open_trajectory(tmp_path / "a.dcd", ase.Atoms("Ar3"), unwrapped=True, interval=1.0)


@pytest.mark.parametrize("name", ["a.dcd", "a.xtc", "a.extxyz", "XDATCAR"])
def test_what_is_no_trajectory_is_refused_with_its_name(tmp_path: Path, atoms: ase.Atoms, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises((StorageError, InputError), match=name):
        open_trajectory(tmp_path / name, atoms, unwrapped=True, interval=1.0)
    with pytest.raises(StorageError, match=r"missing\.dcd"):
        open_trajectory(tmp_path / "missing.dcd", atoms, unwrapped=True, interval=1.0)
    with pytest.raises(InputError, match=r"not a trajectory format.*\.xtc"):
        open_trajectory(tmp_path / "a.nc", atoms, unwrapped=True, interval=1.0)


def test_an_element_that_is_not_there_is_named(atoms: ase.Atoms, positions: np.ndarray) -> None:
    with pytest.raises(InputError, match="no 'Na'"):
        from_arrays(positions, atoms, interval=1.0, unwrapped=True).atoms_of(["Na"])
