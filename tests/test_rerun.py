"""A rerun: frames of a trajectory through potential and PLUMED, compared with `plumed driver` of the same kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from lammps_oracle import require_lammps
from made_runs import stage, write_run, write_trajectory
from runs import ARGON, BREATHING, fcc_argon, read_log, run_in_parts, skewed, write_input

from mlmd.ase import Calculator
from mlmd.engine.observe import Moment
from mlmd.engine.preview import preview
from mlmd.engine.run import simulate
from mlmd.engine.verify import verify
from mlmd.errors import InputError, SimulationError, StorageError
from mlmd.potentials.pair import LennardJones
from mlmd.units import BAR, EV_PER_KJMOL, KB

plumed = pytest.importorskip("plumed")

TIMESTEP, FIRST, EVERY, N_FRAMES = 2.0, 1000, 50, 24
"""fs, and steps of the frames: the first, and from one to the next."""
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}
"""In PLUMED's units; frames and results are handed on with twelve decimals."""
DRIVER = "import sys; from plumed import cli; sys.exit(cli())"


def frames_of(atoms: ase.Atoms, rng: np.random.Generator, step: float) -> list[ase.Atoms]:
    """A random walk of atoms with charges, and of the cell where there is one."""
    atoms = atoms.copy()
    atoms.set_initial_charges(rng.normal(size=len(atoms)).round(4))
    found = []
    for number in range(N_FRAMES):
        if atoms.pbc.all():
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.tril(rng.normal(scale=0.004, size=(3, 3)))), True)
        atoms.positions += rng.normal(scale=step, size=(len(atoms), 3))
        frame = atoms.copy()
        frame.info.update(step=FIRST + EVERY * number, time_fs=TIMESTEP * (FIRST + EVERY * number))
        found.append(frame)
    return found


def crystal() -> list[ase.Atoms]:
    """Argon in a triclinic cell that breathes."""
    atoms = fcc_argon(2)
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [1.0, 0, 0], [-0.7, 0.9, 0]]), True)
    return frames_of(atoms, np.random.default_rng(1), 0.05)


def butane() -> list[ase.Atoms]:
    """A molecule that changes its shape, without a cell."""
    return frames_of(ase.build.molecule("trans-butane"), np.random.default_rng(2), 0.04)


def pdb(frames: list[ase.Atoms]) -> str:
    """Carbon atoms of frames as PLUMED reads references: one model after the other, nm in PDB's Å."""
    lines = []
    for frame in frames:
        carbon = np.flatnonzero(frame.numbers == 6)
        lines += [
            f"ATOM  {atom + 1:5d}  C   BUT A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00"
            for atom, (x, y, z) in zip(carbon, frame.positions[carbon], strict=True)
        ]
        lines.append("END")
    return "\n".join(lines) + "\n"


PRINT = "PRINT ARG={} STRIDE=50 FILE=COLVAR FMT=%.12f\n"
AR_COORDINATION = "c: COORDINATION GROUPA=1-8 GROUPB=9-32 SWITCH={RATIONAL R_0=0.4 D_MAX=0.7}\n"
TORSION = "t: TORSION ATOMS=1,2,3,4\n"
CASES = {
    "distances": (
        crystal,
        "d: DISTANCE ATOMS=1,20 COMPONENTS\ns: DISTANCE ATOMS=3,30 SCALED_COMPONENTS\ne: DISTANCE ATOMS=1,9 NOPBC\n"
        "RESTRAINT ARG=d.x,s.b,e AT=0.1,0.2,0.3 KAPPA=50,60,70\n" + PRINT.format("*"),
    ),
    "torsions": (butane, TORSION + "RESTRAINT ARG=t AT=1.0 KAPPA=20\n" + PRINT.format("*")),
    "angles": (
        crystal,
        "a: ANGLE ATOMS=1,2,3\nb: ANGLE ATOMS=1,5,9,14\nRESTRAINT ARG=a,b AT=1,1 KAPPA=9,8\n" + PRINT.format("*"),
    ),
    "coordination": (crystal, AR_COORDINATION + "RESTRAINT ARG=c AT=9 KAPPA=1\n" + PRINT.format("*")),
    "rmsd": (butane, "r: RMSD REFERENCE=one.pdb TYPE=OPTIMAL\nRESTRAINT ARG=r AT=0 KAPPA=900\n" + PRINT.format("*")),
    "path": (
        butane,
        "p: PATHMSD REFERENCE=path.pdb LAMBDA=5000\nRESTRAINT ARG=p.sss,p.zzz AT=2,0 KAPPA=5,900\n" + PRINT.format("*"),
    ),
    "well-tempered metadynamics on a grid": (
        butane,
        TORSION
        + "m: METAD ARG=t PACE=100 HEIGHT=1.2 SIGMA=0.3 BIASFACTOR=6 FILE=HILLS GRID_MIN=-pi GRID_MAX=pi\n"
        + PRINT.format("t,m.*"),
    ),
    "metadynamics in two variables": (
        crystal,
        "d: DISTANCE ATOMS=1,20\n"
        + AR_COORDINATION
        + "m: METAD ARG=d,c PACE=50 HEIGHT=1 SIGMA=0.02,0.3 FILE=HILLS\n"
        + PRINT.format("*"),
    ),
    "opes": (
        butane,
        TORSION
        + "o: OPES_METAD ARG=t PACE=50 BARRIER=20 SIGMA=0.2 STATE_WFILE=STATE STATE_WSTRIDE=200\n"
        + PRINT.format("t,o.*"),
    ),
    "walls": (
        crystal,
        "d: DISTANCE ATOMS=1,20\nu: UPPER_WALLS ARG=d AT=0.4 KAPPA=90 EXP=4\nl: LOWER_WALLS ARG=d AT=0.9 KAPPA=80\n"
        + PRINT.format("*"),
    ),
    "moving restraint": (
        crystal,
        "d: DISTANCE ATOMS=1,20\n"
        "MOVINGRESTRAINT ARG=d LABEL=r STEP0=1000 AT0=0.5 KAPPA0=100 STEP1=2000 AT1=0.9 KAPPA1=300\n"
        + PRINT.format("*"),
    ),
    "gyration and masses": (
        butane,
        "g: GYRATION ATOMS=1-14 MASS_WEIGHTED\nc: COM ATOMS=1-7\ne: COM ATOMS=8-14\nd: DISTANCE ATOMS=c,e\n"
        "RESTRAINT ARG=g,d AT=0.1,0.2 KAPPA=700,300\n" + PRINT.format("g,d"),
    ),
    "parallel-bias metadynamics": (
        butane,
        TORSION
        + "a: ANGLE ATOMS=1,2,3\nb: PBMETAD ARG=t,a PACE=100 HEIGHT=1 SIGMA=0.3,0.1 BIASFACTOR=8 FILE=HT,HA\n"
        + PRINT.format("t,a,b.*"),
    ),
    "a ratchet": (
        butane,
        TORSION + "a: ABMD ARG=t TO=1 KAPPA=90 NOISE=0.1 SEED=7\n" + PRINT.format("t,a.*"),
    ),
    "expanded umbrellas": (
        butane,
        TORSION + "e: ECV_UMBRELLAS_LINE ARG=t SIGMA=0.5 CV_MIN=-1 CV_MAX=1 BARRIER=20\n"
        "o: OPES_EXPANDED ARG=e.* PACE=100 OBSERVATION_STEPS=2 FILE=DELTAFS STATE_WFILE=STATE STATE_WSTRIDE=200\n"
        + PRINT.format("t,o.bias"),
    ),
    "committor": (
        butane,
        "d: DISTANCE ATOMS=1,4\nRESTRAINT ARG=d AT=0.3 KAPPA=900\n"
        "COMMITTOR ARG=d STRIDE=50 BASIN_LL1=0.42 BASIN_UL1=9 FILE=BASIN FMT=%.12f\n" + PRINT.format("*"),
    ),
    "cell and charges": (
        crystal,
        "k: CELL\nv: VOLUME\nd: DIPOLE GROUP=1-12 COMPONENTS\nRESTRAINT ARG=v,d.x,k.bx AT=1,0,0 KAPPA=20,30,40\n"
        + PRINT.format("*"),
    ),
}
"""Trajectory and PLUMED input of each comparison."""


def write_case(folder: Path, frames: list[ase.Atoms], script: str, more: str = "") -> Path:
    """An input that reruns frames without a potential, and the files of its script."""
    ase.io.write(folder / "frames.extxyz", frames, format="extxyz", columns=["symbols", "positions"])
    rewrite(folder / "frames.extxyz", frames)
    (folder / "plumed.dat").write_text(script)
    (folder / "one.pdb").write_text(pdb(frames[:1]))
    (folder / "path.pdb").write_text(pdb(frames[:9:4]))
    stage = (
        '[[stage]]\nkind = "rerun"\ntrajectory = "frames.extxyz"\nplumed = "plumed.dat"\ntemperature = "300 K"\n'
        f"forces = true\n{more}"
    )
    path = write_input(folder, stage, atoms=frames[0], output="", options='timestep = "2 fs"')
    path.write_text(path.read_text().replace(f"potential = {ARGON}\n", ""))
    return path


def rewrite(path: Path, frames: list[ase.Atoms]) -> None:
    """Frames with all decimals, as ASE does not write them."""
    lines = path.read_text().splitlines()
    n_atoms = len(frames[0])
    for number, frame in enumerate(frames):
        begin = number * (n_atoms + 2) + 2
        for atom, (symbol, place) in enumerate(zip(frame.symbols, frame.positions, strict=True)):
            lines[begin + atom] = f"{symbol} " + " ".join(f"{x:.14f}" for x in place)
    path.write_text("\n".join(lines) + "\n")


def drive(folder: Path, source: Path, frames: list[ase.Atoms]) -> None:
    """`plumed driver` on the same frames, in a folder of its own."""
    folder.mkdir()
    for name in ("plumed.dat", "one.pdb", "path.pdb"):
        (folder / name).write_bytes((source / name).read_bytes())
    with (folder / "frames.xyz").open("w") as file:
        for frame in frames:
            box = " ".join(f"{x:.14f}" for x in frame.cell.array.ravel()) if frame.pbc.all() else "0 0 0"
            file.write(f"{len(frame)}\n{box}\n")
            for symbol, place in zip(frame.symbols, frame.positions, strict=True):
                file.write(f"{symbol} " + " ".join(f"{x:.14f}" for x in place) + "\n")
    first, charges = frames[0], frames[0].get_initial_charges()
    rows = "".join(f"{n} {m:.12f} {q:.12f}\n" for n, (m, q) in enumerate(zip(first.get_masses(), charges, strict=True)))
    (folder / "charges").write_text("#! FIELDS index mass charge\n" + rows)
    options = {
        "plumed": "plumed.dat", "ixyz": "frames.xyz", "length-units": "A", "mc": "charges",
        "timestep": TIMESTEP / 1e3, "trajectory-stride": EVERY, "initial-step": FIRST,
        "kt": KB * 300.0 / EV_PER_KJMOL, "dump-forces": "forces", "dump-forces-fmt": "%.12f",
    }  # fmt: skip
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, "driver", *words, "--dump-full-virial"], cwd=folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def numbers(path: Path) -> list[np.ndarray]:
    """The lines of numbers of one of PLUMED's files."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert rows, f"{path} has no line"
    return [np.array([float(word) for word in row]) for row in rows]


def assert_same_file(mine: Path, theirs: Path, **tolerance: float) -> None:
    one, other = numbers(mine), numbers(theirs)
    assert len(one) == len(other), f"{mine.name}: {len(one)} lines, not {len(other)}"
    for first, second in zip(one, other, strict=True):
        np.testing.assert_allclose(first, second, **(tolerance or TOLERANCE), err_msg=mine.name)


@pytest.mark.parametrize("name", CASES)
def test_a_rerun_is_what_plumed_driver_makes_of_the_same_frames(name: str, tmp_path: Path) -> None:
    if not hasattr(plumed, "cli"):
        pytest.skip("the installed PLUMED has no driver")
    make, script = CASES[name]
    frames = make()
    run = simulate(write_case(tmp_path, frames, script), tmp_path / "run", threads=1)
    drive(tmp_path / "driver", tmp_path, frames)
    given = {"plumed.dat", "one.pdb", "path.pdb", "frames.xyz", "charges", "forces"}
    written = {path.name for path in (tmp_path / "driver").iterdir()} - given
    assert "COLVAR" in written
    for file in sorted(written):
        assert_same_file(run.path / file, tmp_path / "driver" / file)
    # blocks of the number of atoms, the virial, and a line for each atom: kJ/mol and Å
    lines, size = (tmp_path / "driver" / "forces").read_text().splitlines(), len(frames[0]) + 2
    seen = ase.io.read(run.trajectory, index=":")
    assert len(lines) == size * len(seen)
    for number, frame in enumerate(seen):
        virial, *rows = lines[number * size + 1 : (number + 1) * size]
        forces = np.array([row.split()[1:] for row in rows], dtype=float)
        # ASE writes eight decimals of eV/Å
        np.testing.assert_allclose(frame.arrays["bias_forces"] / EV_PER_KJMOL, forces, rtol=1e-6, atol=2e-6)
        if frame.pbc.all():
            mine = np.array(frame.info["bias_stress"]).ravel() * frame.get_volume() / EV_PER_KJMOL
            np.testing.assert_allclose(mine, np.array(virial.split(), dtype=float), **TOLERANCE)
    assert np.abs([frame.arrays["bias_forces"] for frame in seen]).max() > 1e-3


def test_lines_of_a_bias_are_there_with_those_of_the_log(tmp_path: Path) -> None:
    path = write_case(tmp_path, crystal(), f"d: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR STRIDE={EVERY}\n")
    folder, seen = tmp_path / "run", []

    def look(moment: Moment) -> None:
        seen.append((len(read_log(folder)["step"]), len(numbers(folder / "COLVAR"))))

    simulate(path, folder, threads=1, progress=look)
    assert seen == [(n, n) for n in range(1, N_FRAMES + 1)]


# -- trajectories --------------------------------------------------------------------------------------------------


def rerun_input(
    folder: Path, trajectory: Path | str, atoms: ase.Atoms, more: str = "", potential: str = ARGON, options: str = ""
) -> Path:
    """An input that reruns a trajectory through a potential."""
    stage = f'[[stage]]\nkind = "rerun"\ntrajectory = "{trajectory}"\n{more}'
    return write_input(folder, stage, atoms=atoms, output="", potential=potential, options=options)


COLVAR = "d: DISTANCE ATOMS=1,20\nv: VOLUME\nRESTRAINT ARG=d,v AT=0.5,1.2 KAPPA=20,3\n" + PRINT.format("*")


@pytest.mark.parametrize("kind", ["dcd", "extxyz"])
def test_a_rerun_of_a_run_folder_is_what_the_run_saw(kind: str, tmp_path: Path) -> None:
    """A turned crystal under pressure: cell and axes of each frame have to be right for its energy to be."""
    stages = f'[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.5 ps"\n{BREATHING}\nplumed = "plumed.dat"'
    output = f'log_every = "50 fs"\ntrajectory_every = "50 fs"\ntrajectory_format = "{kind}"'
    atoms = skewed(fcc_argon(2))[0]
    path = write_input(tmp_path, stages.replace("anisotropic", "flexible"), atoms=atoms, output=output)
    (tmp_path / "plumed.dat").write_text(COLVAR.replace("STRIDE=50", "STRIDE=10"))
    run = simulate(path, tmp_path / "run", threads=1)
    again = rerun_input(tmp_path / "again", run.path, atoms, 'plumed = "../plumed.dat"')
    seen = read_log(simulate(again, tmp_path / "again.run", threads=1))
    wanted = read_log(run)
    assert np.array_equal(seen["step"], wanted["step"]) and np.array_equal(seen["time"], wanted["time"])
    # DCD keeps positions as float32, 1e-6 Å at 10 Å, extended XYZ eight decimals; forces are below 0.1 eV/Å
    for column, error in (("potential energy", 2e-6), ("volume", 1e-3)):
        np.testing.assert_allclose(seen[column], wanted[column], rtol=0, atol=error)
    first, second = (np.array(numbers(folder / "COLVAR")) for folder in (run.path, tmp_path / "again.run"))
    biased = second[second[:, 0] > 0.5 + 1e-9]  # the run was biased in its second stage
    np.testing.assert_allclose(biased, first[-len(biased) :], rtol=0, atol=2e-6)
    assert len(biased) == 20 and np.ptp(wanted["volume"]) > 1.0


def dump(path: Path, frames: list[ase.Atoms]) -> None:
    """A text dump as LAMMPS writes it, atoms in disorder."""
    lines = []
    for frame in frames:
        (ax, _, _), (bx, by, _), (cx, cy, cz) = frame.cell.array
        low, high = min(0.0, bx, cx, bx + cx), max(0.0, bx, cx, bx + cx)
        bounds = ((low, ax + high, bx), (min(0.0, cy), by + max(0.0, cy), cx), (0.0, cz, cy))
        lines += ["ITEM: TIMESTEP", str(frame.info["step"]), "ITEM: NUMBER OF ATOMS", str(len(frame))]
        lines.append("ITEM: BOX BOUNDS xy xz yz pp pp pp")
        lines += [" ".join(f"{x:.12e}" for x in row) for row in bounds]
        lines.append("ITEM: ATOMS id type element xu yu zu")
        order = np.random.default_rng(3).permutation(len(frame))
        lines += [f"{n + 1} 1 {frame.symbols[n]} " + " ".join(f"{x:.10f}" for x in frame.positions[n]) for n in order]
    path.write_text("\n".join(lines) + "\n")


def write_frames(path: Path, frames: list[ase.Atoms]) -> None:
    """Frames in a format of others."""
    if path.suffix == ".lammpstrj":
        dump(path, frames)
    elif path.suffix in (".dcd", ".xtc"):
        positions, cells = (np.array([getattr(f, k) for f in frames]) for k in ("positions", "cell"))
        write_trajectory(path, frames[0], positions, cells)
    else:
        ase.io.write(path, frames, format={".traj": "traj", ".xyz": "extxyz"}.get(path.suffix, "vasp-xdatcar"))


@pytest.mark.parametrize(
    ("name", "steps", "error"),
    [
        ("frames.xyz", FIRST + EVERY * np.arange(N_FRAMES), 1e-6),
        ("frames.lammpstrj", FIRST + EVERY * np.arange(N_FRAMES), 1e-6),
        ("frames.traj", np.arange(N_FRAMES), 1e-6),
        ("XDATCAR", np.arange(N_FRAMES), 1e-5),
        ("frames.dcd", np.arange(N_FRAMES), 1e-5),  # MDTraj counts frames
        ("frames.xtc", 10 * np.arange(N_FRAMES), 0.02),  # and gives times of 20 fs; positions are rounded to 0.01 Å
    ],
)
def test_every_format_gives_the_same_energies_at_the_steps_it_tells(
    name: str, steps: np.ndarray, error: float, tmp_path: Path
) -> None:
    frames = crystal()
    write_frames(tmp_path / name, frames)
    ase.io.write(tmp_path / "exact.extxyz", frames, format="extxyz")
    options = {"options": 'timestep = "2 fs"', "more": "temperature = '60 K'"}
    log = read_log(simulate(rerun_input(tmp_path, name, frames[0], **options), tmp_path / "run", threads=1))
    exact = rerun_input(tmp_path, "exact.extxyz", frames[0], **options)
    wanted = read_log(simulate(exact, tmp_path / "exact", threads=1))
    assert np.array_equal(log["step"], steps)
    np.testing.assert_allclose(log["time"], steps * TIMESTEP / 1e3, rtol=1e-12)
    np.testing.assert_allclose(log["potential energy"], wanted["potential energy"], rtol=0, atol=error)
    assert np.ptp(wanted["potential energy"]) > 0.5
    assert (log["target temperature"] == 60.0).all() and np.isnan(log["temperature"]).all()


LAMMPS = """units metal
lattice fcc 5.4
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 39.95
pair_style lj/cut 6
pair_coeff 1 1 0.0104 3.4
velocity all create 60 1
fix 1 all nve
timestep 0.002
dump 1 all extxyz 10 {0}/frames.xyz
dump 2 all dcd 10 {0}/frames.dcd
dump 3 all custom 10 {0}/frames.lammpstrj id type element xu yu zu
dump_modify 1 element Ar
dump_modify 3 element Ar
run 60
undump 1
undump 2
undump 3"""


def test_what_lammps_writes_keeps_its_steps(tmp_path: Path) -> None:
    lammps = require_lammps().lammps(cmdargs=["-screen", "none", "-log", "none"])
    lammps.commands_string(LAMMPS.format(tmp_path))
    lammps.close()
    logs = {}
    for name in ("frames.xyz", "frames.dcd", "frames.lammpstrj"):
        path = rerun_input(tmp_path, name, fcc_argon(2), options='timestep = "2 fs"')
        logs[name] = read_log(simulate(path, tmp_path / f"run of {name}", threads=1))
        assert logs[name]["step"].tolist() == [*range(0, 61, 10)]
        energies = logs["frames.xyz"]["potential energy"]
        # float32 in DCD, six digits in both texts; no force is above 0.05 eV/Å
        np.testing.assert_allclose(logs[name]["potential energy"], energies, rtol=0, atol=2e-4)
    assert np.ptp(energies) > 0.05


def test_frames_are_chosen_and_counted_anew_where_the_input_says_so(tmp_path: Path) -> None:
    frames = crystal()
    write_frames(tmp_path / "frames.xyz", frames)
    more = 'first = 3\nlast = 20\nevery = 4\ninterval = "100 fs"\n'
    run = simulate(rerun_input(tmp_path, "frames.xyz", frames[0], more), tmp_path / "run", threads=1)
    assert read_log(run)["step"].tolist() == [60, 140, 220, 300, 380]
    whole = simulate(rerun_input(tmp_path, "frames.xyz", frames[0]), tmp_path / "whole", threads=1)
    np.testing.assert_array_equal(
        read_log(run)["potential energy"], read_log(whole)["potential energy"][[3, 7, 11, 15, 19]]
    )


def test_frames_at_any_steps_keep_them(tmp_path: Path) -> None:
    frames = [frame for number, frame in enumerate(crystal()) if number in (0, 1, 2, 3, 7, 9, 20)]
    write_frames(tmp_path / "frames.xyz", frames)
    path = rerun_input(tmp_path, "frames.xyz", frames[0], "forces = true\n", options='timestep = "2 fs"')
    run = simulate(path, tmp_path / "run", threads=1)
    wanted = [frame.info["step"] for frame in frames]
    assert read_log(run)["step"].tolist() == wanted
    assert run.frame_table()[1].tolist() == wanted
    assert [frame.info["step"] for frame in ase.io.read(run.trajectory, index=":")] == wanted
    assert verify(run.path).problems == ()


# -- what is written -------------------------------------------------------------------------------------------------


def test_energy_forces_and_stress_of_a_frame_are_those_of_the_calculator(tmp_path: Path) -> None:
    frames = crystal()[:4]
    write_frames(tmp_path / "frames.xyz", frames)
    path = rerun_input(tmp_path, "frames.xyz", frames[0], "forces = true\n", options='timestep = "2 fs"')
    run = simulate(path, tmp_path / "run", threads=1)
    log = read_log(run)
    for number, seen in enumerate(ase.io.read(run.trajectory, index=":")):
        frame = frames[number].copy()
        frame.calc = Calculator(LennardJones(epsilon=0.0104, sigma=3.4, cutoff=6.0))
        assert log["potential energy"][number] == pytest.approx(frame.get_potential_energy(), abs=1e-7)
        assert seen.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(seen.get_forces(), frame.get_forces(), rtol=0, atol=1e-7)
        np.testing.assert_allclose(seen.get_stress(), frame.get_stress(), rtol=0, atol=1e-9)
        pressure = -frame.get_stress()[:3].mean() / BAR
        assert log["pressure"][number] == pytest.approx(pressure, rel=1e-5, abs=1e-3)


def test_biases_of_the_input_are_written_and_deposited(tmp_path: Path) -> None:
    frames = crystal()
    write_frames(tmp_path / "frames.xyz", frames)
    cv = 'cv = { kind = "distance", atoms = [0, 19] }'
    bias = (
        f'bias = [{{ kind = "metadynamics", {cv}, width = "0.2 Å", height = "0.01 eV", every = "200 fs" }}, '
        f'{{ kind = "steered", {cv}, at = ["4 Å", "8 Å"], times = ["2 ps", "4.4 ps"], spring = "0.3 eV/Å^2" }}]'
    )
    path = rerun_input(
        tmp_path, "frames.xyz", frames[0], f"{bias}\ntemperature = '60 K'\n", options='timestep = "2 fs"'
    )
    run = simulate(path, tmp_path / "run", threads=1)
    hills, colvar = numbers(run.path / "HILLS"), np.array(numbers(run.path / "COLVAR"))
    assert [row[0] for row in hills] == pytest.approx(np.arange(2.2, 4.3, 0.2))  # none at the first step, as ever
    assert len(colvar) == N_FRAMES
    energies = read_log(run)["bias energy"]
    np.testing.assert_allclose(energies, (colvar[:, 2] + colvar[:, 3]) * EV_PER_KJMOL, rtol=0, atol=1e-6)
    place = 4.0 + 4.0 * (np.arange(N_FRAMES) * EVERY * TIMESTEP) / 2400.0
    moved = 0.15 * (10 * colvar[:, 1] - place) ** 2
    np.testing.assert_allclose(colvar[:, 3] * EV_PER_KJMOL, moved, rtol=0, atol=1e-5)


def test_frames_that_no_dynamics_would_survive_are_told_of_all_the_same(tmp_path: Path) -> None:
    frames = crystal()[:3]
    frames[1].positions[0] = frames[1].positions[20] + [0.4, 0.0, 0.0]  # far above all limits of [guard]
    write_frames(tmp_path / "frames.xyz", frames)
    log = read_log(simulate(rerun_input(tmp_path, "frames.xyz", frames[0]), tmp_path / "run", threads=1))
    assert log["potential energy"][1] > 1e6 and log["potential energy"][2] < 0.0


def test_a_frame_without_a_finite_energy_is_named(tmp_path: Path) -> None:
    frames = crystal()[:3]
    frames[1].positions[0] = frames[1].positions[20]
    write_frames(tmp_path / "frames.xyz", frames)
    with pytest.raises(SimulationError, match=r"frame 1 \(counted from 0\) of frames\.xyz: .* not finite"):
        simulate(rerun_input(tmp_path, "frames.xyz", frames[0]), tmp_path / "run", threads=1)


def test_what_a_committee_says_of_each_frame_is_in_the_files(tmp_path: Path) -> None:
    frames = crystal()[:12]
    write_frames(tmp_path / "frames.xyz", frames)
    members = ", ".join(ARGON.replace("0.0104", value) for value in ("0.0100", "0.0104", "0.0108"))
    path = rerun_input(
        tmp_path, "frames.xyz", frames[0], potential=f'{{ kind = "committee", members = [{members}] }}',
        options='timestep = "2 fs"',
    )  # fmt: skip
    with path.open("a") as file:
        file.write("[uncertainty]\nlow = 1e-5\ncollect = true\n")
    run = simulate(path, tmp_path / "run", threads=1)
    rows, steps = np.loadtxt(run.path / "model_devi.out"), [frame.info["step"] for frame in frames]
    assert rows[:, 0].tolist() == steps
    log = read_log(run)
    assert (log["max spread"] > 1e-5).all()
    assert [frame.info["step"] for frame in ase.io.read(run.path / "candidates.extxyz", index=":")] == steps


def test_check_tells_what_a_rerun_would_do(tmp_path: Path) -> None:
    path = write_case(tmp_path, crystal(), COLVAR)
    seen = preview(path)
    assert seen.stages == ("rerun 300 K 24 frames, steps 1,000 to 2,150, 2 to 4.3 ps",)
    assert (seen.n_steps, seen.moves, seen.potential) == (24, False, "none")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
        ["atoms.extxyz", "frames.extxyz", "input.toml", "one.pdb", "path.pdb", "plumed.dat"]
    )
    answer = mlmd("check", path)
    assert answer.code == 0 and "24 frames, about" in answer.out and "ns/day" not in answer.out


# -- continuing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["well-tempered metadynamics on a grid", "opes", "parallel-bias metadynamics", "walls", "committor"]
)
def test_a_stopped_rerun_goes_on_as_if_never_stopped(name: str, tmp_path: Path) -> None:
    make, script = CASES[name]
    path = write_case(tmp_path, make(), script)
    one = simulate(path, tmp_path / "one", threads=1).path
    at = [FIRST, FIRST + EVERY, FIRST + 7 * EVERY, FIRST + 10 * EVERY]
    parts = run_in_parts(path, tmp_path / "parts", at, threads=1).path
    for file in ("log.csv", "final.extxyz"):
        assert (one / file).read_bytes() == (parts / file).read_bytes(), file
    for first, second in zip(*(ase.io.read(out / "trajectory.extxyz", index=":") for out in (one, parts)), strict=True):
        assert first.info["step"] == second.info["step"]
        # hills that are read again are the same to the last digits alone
        assert first.info["bias_energy"] == pytest.approx(second.info["bias_energy"], rel=1e-12)
        np.testing.assert_allclose(first.arrays["bias_forces"], second.arrays["bias_forces"], rtol=0, atol=1e-8)
    for file in ("COLVAR", "HILLS", "KERNELS", "HT", "HA"):
        if (one / file).exists():
            assert_same_file(parts / file, one / file, rtol=1e-10, atol=1e-10)
    assert verify(parts).problems == ()


# -- wrong inputs ------------------------------------------------------------------------------------------------------

RERUN, NPT = 'kind = "rerun"', '[[stage]]\nkind = "npt"\n'
WRONG = {
    "no such file": ('"frames.extxyz"', '"frame.extxyz"', "trajectory: .*frame.extxyz: no such file. Did you mean"),
    "a structure": ('"frames.extxyz"', '"one.pdb"', "one.pdb: not a trajectory format"),
    "a folder": ('"frames.extxyz"', '"."', "is a folder, and not one of a run"),
    "a frame that is not there": ("forces", "last = 24\nforces", "24 frames, counted from 0, and last = 24 is none"),
    "last before first": ("forces", "first = 5\nlast = 4\nforces", "last: 4 is before first, 5"),
    "every 0": ("forces", "every = 0\nforces", "every: 0: at least 1 is needed"),
    "odd interval": ("forces", 'interval = "3 fs"\nforces', "interval: 3 fs are no whole steps of 2 fs"),
    "another timestep": ('"2 fs"', '"3 fs"', "frame 0 is at 2000 fs, which is no whole number of timesteps of 3 fs"),
    "before dynamics": ("[output]", '[[stage]]\nkind = "nve"\nduration = "1 ps"\n[output]', "a rerun stands alone"),
    "after a minimization": (
        "[[stage]]", '[[stage]]\nkind = "minimize"\n[[stage]]', "a rerun stands alone in its input"
    ),
    "velocities": ("seed = 1", 'velocities = "300 K"', "velocities: nothing moves in a rerun"),
    "frozen atoms": ("[output]", "[frozen]\nindices = [0]\n[output]", "frozen: nothing moves in a rerun"),
    "a duration": ("forces", 'duration = "1 ps"\nforces', "'duration' is not an option here. A rerun has the frames"),
    "a thermostat": ("forces", "thermostat = 1\nforces", "'thermostat' is not an option here. A rerun moves no atom"),
    "an interval of the log": ("[output]", '[output]\nlog_every = "1 ps"', "log_every: a rerun writes a line for"),
    "a format without forces": ("[output]", '[output]\ntrajectory_format = "dcd"', "dcd has no room for forces"),
    "adaptive forces": (
        'plumed = "plumed.dat"',
        'bias = { kind = "abf", cv = { kind = "distance", atoms = [0, 3] }, width = 0.1, minimum = 2, maximum = 5 }',
        "abf acts on atoms that move",
    ),
    "hyperdynamics": (
        'plumed = "plumed.dat"',
        'bias = { kind = "hyperdynamics", cutbond = "3 Å", q = 0.3, vmax = "0.4 eV" }',
        "hyperdynamics acts on atoms that move",
    ),
    "opes without a temperature": (
        'plumed = "plumed.dat"\ntemperature = "300 K"',
        'bias = { kind = "opes", cv = { kind = "distance", atoms = [0, 3] }, barrier = "0.3 eV" }',
        'opes needs the temperature that the frames are of: temperature = "300 K"',
    ),
    "nothing to do": ('plumed = "plumed.dat"', "", "'potential' is missing"),
    "nothing to do, and said so": (
        'plumed = "plumed.dat"\ntemperature = "300 K"\nforces = true\n', "[[potential]]\nkind = 'none'\n",
        "without a potential and without plumed or bias there is nothing to do",
    ),
    "no potential in a sum": (
        "[output]", '[[potential]]\nkind = "none"\n[[potential]]\nkind = "zbl"\n[output]', "no part of a sum"
    ),
    "an analysis of frames": (
        "forces = true\n", "[analysis]\nrun = ['rdf']\n", "rdf needs frames in the run folder: set forces = true"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rerun_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    old, new, words = WRONG[name]
    path = write_case(tmp_path, butane(), TORSION + PRINT.format("t"))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=words):
        simulate(path, tmp_path / "run", threads=1)
    assert not (tmp_path / "run").exists()


def test_no_potential_is_for_a_rerun_alone(tmp_path: Path) -> None:
    path = write_input(tmp_path, '[[stage]]\nkind = "nve"\nduration = "1 ps"', potential='{ kind = "none" }')
    with pytest.raises(InputError, match='kind = "none" is for a rerun alone'):
        simulate(path, tmp_path / "run", threads=1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("v: VOLUME\n", "line 1: VOLUME needs a cell, and the structure is not periodic"),
        ("e: ENERGY\n", "ENERGY in plumed.dat is the potential energy; leave it out, or give a potential"),
        ("d: DISTANC ATOMS=1,2\n", "line 1: .*Did you mean 'DISTANCE'"),
    ],
)
def test_a_script_that_asks_for_what_is_not_there_is_refused(script: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        simulate(write_case(tmp_path, butane(), script), tmp_path / "run", threads=1)


def swapped(frames: list[ase.Atoms]) -> list[ase.Atoms]:
    for frame in frames[2:]:
        frame.symbols[:] = frame.symbols[::-1]
    return frames


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frames: [frame[:5] for frame in frames], "has 5 atoms, the structure 14"),
        (lambda frames: swapped(frames)[2:], "frame 0 .counted from 0.: atom 0 is H, in the structure C"),
        (swapped, "frame 2 .counted from 0.: atom 0 is H, in the structure C"),
        (lambda frames: [*frames[:3], *frames[1:]], "frame 3 is at step 1,050, and frame 2 before it at 1,100"),
    ],
)
def test_frames_of_something_else_are_refused(change: object, words: str, tmp_path: Path) -> None:
    path = write_case(tmp_path, butane(), TORSION + PRINT.format("t"))
    (tmp_path / "frames.extxyz").unlink()
    ase.io.write(tmp_path / "frames.extxyz", change(butane()), format="extxyz")
    with pytest.raises(InputError, match=words):
        simulate(path, tmp_path / "run", threads=1)


@pytest.mark.parametrize(
    ("n_lines", "error", "words"),
    [(5, InputError, "has no complete frame"), (0, StorageError, "is empty: it has no frames")],
)
def test_a_file_without_a_frame_is_refused(n_lines: int, error: type[Exception], words: str, tmp_path: Path) -> None:
    path = write_case(tmp_path, butane(), TORSION + PRINT.format("t"))
    lines = (tmp_path / "frames.extxyz").read_text().splitlines(keepends=True)
    (tmp_path / "frames.extxyz").write_text("".join(lines[:n_lines]))
    with pytest.raises(error, match=words):
        simulate(path, tmp_path / "run", threads=1)


def test_a_run_in_which_atoms_arrived_is_no_trajectory(tmp_path: Path) -> None:
    record = stage(0, 0, 100, kind="deposit")
    atoms = crystal()[0]
    write_run(tmp_path / "grown", atoms, (record,), np.array([atoms.positions] * 3), kind="extxyz")
    with pytest.raises(InputError, match="atoms came and went in this run"):
        simulate(rerun_input(tmp_path, "grown", atoms), tmp_path / "run", threads=1)
