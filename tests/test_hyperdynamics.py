"""Hyperdynamics: the boost is what its formula says, its clock is right about how often things happen, and resumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.build
import lammps_oracle
import numpy as np
import pytest
from runs import assert_same_run, fcc_argon, read_log, run_in_parts, skewed, write_input

from mlmd.bias.hyperdynamics import BondBoost, Event
from mlmd.config.read import load_simulate
from mlmd.config.stages import hyperdynamics_of
from mlmd.engine import checkpoint
from mlmd.engine.hyperdynamics import start_boost
from mlmd.engine.job import prepare
from mlmd.engine.preview import preview
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError
from mlmd.rundir import CHECKPOINTS, HYPER
from mlmd.units import KB

Q, VMAX = 0.2, 0.3


def boost_of(
    atoms: ase.Atoms,
    cutbond: float,
    quench: Callable[[np.ndarray], np.ndarray],
    *,
    boosted: np.ndarray | None = None,
    q: float = Q,
    vmax: float = VMAX,
    temperature: float = 300.0,
    every: int = 10**9,
    record: Callable[[Event], None] = lambda event: None,
) -> BondBoost:
    """A boost by itself, with steps of 1 fs."""
    return BondBoost(
        cutbond=cutbond, q=q, vmax=vmax, temperature=temperature, timestep=1.0,
        boosted=np.ones(len(atoms), bool) if boosted is None else boosted, quench=quench, quench_every=every,
        event_distance=1.0, record=record,
    )  # fmt: skip


def acting(boost: BondBoost, atoms: ase.Atoms, step: int = 0) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy, forces and virial of the boost alone."""
    forces, virial = np.zeros((len(atoms), 3)), np.zeros((3, 3))
    cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    return boost.compute(step, atoms.positions, cell, 0.0, forces, virial), forces, virial


# -- the bias -----------------------------------------------------------------------------------------------------


def crystal() -> ase.Atoms:
    """Argon in a skewed cell that is narrower than two bonds, so that atoms are bound to several images of one."""
    return skewed(fcc_argon(1))[0]


@pytest.mark.parametrize("only", [None, 2], ids=["all", "of one atom"])
def test_the_boost_is_that_of_the_most_strained_bond(only: int | None) -> None:
    """ASE's own search for pairs tells lengths before and after, image by image."""
    from ase.neighborlist import neighbor_list

    quiet = crystal()
    boosted = None if only is None else np.arange(len(quiet)) == only
    boost = boost_of(quiet, 4.2, lambda positions: quiet.positions, boosted=boosted)
    i, j, crossed, lengths = neighbor_list("ijSd", quiet, 4.2)
    chosen = np.ones(len(i), bool) if only is None else (i == only) | (j == only)
    signs = set()
    for seed in range(6):
        moved = quiet.copy()
        moved.rattle(0.1, seed=seed)
        ends = moved.positions[j] + crossed @ moved.cell.array - moved.positions[i]
        strains = (np.linalg.norm(ends, axis=1) / lengths - 1)[chosen]
        most = strains[np.abs(strains).argmax()]
        signs.add(np.sign(most))
        assert acting(boost, moved)[0] == pytest.approx(VMAX * (1 - (most / Q) ** 2), rel=1e-12)
    assert signs == {-1, 1}
    assert boost.n_bonds == chosen.sum() // 2  # each stands there in both directions


def test_forces_are_the_gradient_of_the_boost() -> None:
    quiet = crystal()
    boost = boost_of(quiet, 4.2, lambda positions: quiet.positions)
    checked = 0
    for seed in range(5):
        moved = quiet.copy()
        moved.rattle(0.1, seed=seed)
        energy, forces, _ = acting(boost, moved)
        assert 0 < energy < VMAX
        for atom, axis in np.argwhere(np.abs(forces) > 0)[:6]:
            ends = []
            for sign in (1, -1):
                there = moved.copy()
                there.positions[atom, axis] += sign * 1e-5
                ends.append(acting(boost, there)[0])
            # the error of the difference is 1e-10 eV/Å, of forces of some eV/Å
            assert forces[atom, axis] == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5, abs=1e-8)
            checked += 1
        assert np.abs(forces.sum(axis=0)).max() < 1e-14
    assert checked == 30


def test_the_virial_is_the_derivative_with_strain() -> None:
    cluster = ase.Atoms("Ar4", [[0, 0, 0], [3.7, 0.1, 0], [0.2, 3.8, 0.3], [1.8, 1.9, 2.9]])
    boost = boost_of(cluster, 4.5, lambda positions: cluster.positions)
    moved = cluster.copy()
    moved.rattle(0.1, seed=1)
    virial = acting(boost, moved)[2]
    for row, column in np.ndindex(3, 3):
        ends = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[row, column] += sign * 1e-6
            there = moved.copy()
            there.positions = moved.positions @ strain
            ends.append(acting(boost, there)[0])
        assert virial[row, column] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("strain", [-0.201, 0.201, 1.0])
def test_nothing_acts_where_a_bond_is_about_to_break(strain: float) -> None:
    dimer = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 3.0]])
    boost = boost_of(dimer, 3.5, lambda positions: dimer.positions)
    stretched = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 3.0 * (1 + strain)]])
    energy, forces, virial = acting(boost, stretched)
    assert energy == 0
    assert not forces.any()
    assert not virial.any()


def test_a_state_without_bonds_is_told() -> None:
    far = ase.Atoms("Ar2", [[0, 0, 0], [0, 0, 6.0]])
    with pytest.raises(SimulationError, match=r"closer than cutbond = 3.5 Å"):
        acting(boost_of(far, 3.5, lambda positions: positions), far)


# -- the clock is right -------------------------------------------------------------------------------------------

SIDE, BARRIER, MASS = 2.8, 0.2, 40.0
ANCHORS = SIDE * np.array([[i + 0.5, j + 0.5, 0] for i in range(3) for j in range(3)])
"""Å, atoms that do not move, at the corners of squares; a lattice of them in a periodic cell."""
KT = 0.05
LOOK = 25
"""Steps between looks for events, of both."""


def slope(x: np.ndarray) -> np.ndarray:
    """Of V(x, y) = -½ E (cos 2πx/a + cos 2πy/a), whose wells are the middles of the squares, with barriers of E."""
    wave = 2 * np.pi / SIDE
    gradient: np.ndarray = 0.5 * BARRIER * wave * np.sin(wave * x)
    return gradient


@dataclass
class Middle:
    """Langevin's middle scheme for particles in a plane, steps of 10 fs and a friction of 1/100 fs."""

    x: np.ndarray
    v: np.ndarray
    rng: np.random.Generator
    step = 10.0

    def advance(self, forces: np.ndarray) -> None:
        """One step, under forces (n, 2) eV/Å."""
        unit = 1.0 / 103.642697  # eV/Å/amu in Å/fs²
        keep, hot = np.exp(-0.1), np.sqrt(KT / MASS * unit)
        self.v += self.step * forces / MASS * unit
        half = self.x + 0.5 * self.step * self.v
        self.v = keep * self.v + np.sqrt(1 - keep**2) * hot * self.rng.standard_normal(self.v.shape)
        self.x = half + 0.5 * self.step * self.v


def test_hops_are_as_often_by_the_fast_clock_as_without_a_boost() -> None:
    # unboosted: a thousand particles at once, each looked at as often as the one that is boosted
    free = Middle(np.zeros((1000, 2)), np.zeros((1000, 2)), np.random.default_rng(1))
    hops, well, n_free = 0, np.zeros((1000, 2)), 6000
    for step in range(1, n_free + 1):
        free.advance(-slope(free.x))
        if step % LOOK == 0:
            now = np.round(free.x / SIDE)
            hops += int((now != well).any(axis=1).sum())
            well = now
    rate = hops / (n_free * len(free.x))

    # boosted: one particle among anchors, bound to the four around it; a quench leads to the middle of its square
    atoms = ase.Atoms(f"Ar{len(ANCHORS) + 1}", np.vstack([[[0, 0, 0]], ANCHORS]))
    where, events = atoms.positions, list[Event]()

    def quench(positions: np.ndarray) -> np.ndarray:
        bottom = positions.copy()
        bottom[0] = SIDE * np.round(positions[0] / SIDE)
        return bottom

    boost = boost_of(
        atoms, 2.2, quench, boosted=np.arange(len(atoms)) == 0, q=0.3, vmax=0.12, temperature=KT / KB, every=LOOK,
        record=events.append,
    )  # fmt: skip
    one, forces = Middle(np.zeros((1, 2)), np.zeros((1, 2)), np.random.default_rng(2)), np.zeros_like(where)
    cell = np.diag([3 * SIDE, 3 * SIDE, 0.0])
    n_steps = 60_000
    for step in range(n_steps):
        where[0, :2] = one.x[0]
        forces[:] = 0.0
        boost.compute(step, where, cell, 0.0, forces, np.zeros((3, 3)))
        boost.update()
        one.advance(forces[:1, :2] - slope(one.x))
    mean = boost.mean_boost(n_steps)
    boosted = len(events) / boost.hypertime(n_steps)  # its steps are of 1 fs
    print(f"hops {hops} and {len(events)}, boost {mean:.3f}, rates {rate:.3e} {boosted:.3e} a step")
    assert mean > 2
    assert len(events) / n_steps > 1.5 * rate  # sooner by the slow clock
    error = np.sqrt(1 / hops + 1 / len(events))
    assert abs(np.log(boosted / rate)) < 2 * error


# -- in a run -----------------------------------------------------------------------------------------------------

BOOST = (
    'kind = "hyperdynamics", cutbond = "4.4 Å", q = 0.2, vmax = "0.02 eV", quench_every = "0.5 ps", '
    'event_distance = "2 Å", quench_force = "0.003 eV/Å"'
)


def slab() -> ase.Atoms:
    """An argon atom on a (100) surface, of which the upper layer moves; and which z is below that layer."""
    atoms = ase.build.fcc100("Ar", (3, 3, 2), a=5.3, vacuum=7.0)
    atoms.info.clear()
    top = atoms.positions[9:12].mean(axis=0)
    atoms.append(ase.Atom("Ar", [atoms.positions[9:, 0].mean() + 1.87, top[1] + 1.87, top[2] + 2.5]))
    atoms.pbc = True
    return atoms


def boosted_input(folder: Path, more: str = ", atoms = [18]", *, stage: str = "", log: str = "50 fs") -> Path:
    stage = stage or 'kind = "nvt"\ntemperature = "55 K"\n'
    text = f'[[stage]]\n{stage}duration = "5 ps"\nbias = [{{ {BOOST}{more} }}]\n'
    return write_input(
        folder, text, atoms=slab(), options='velocities = "55 K"\n[frozen]\nbelow = "8 Å"',
        output=f'log_every = "{log}"\ntrajectory_every = "100 fs"',
    )  # fmt: skip


def test_a_continued_run_has_the_same_clock_and_events_byte_for_byte(tmp_path: Path) -> None:
    path = boosted_input(tmp_path)
    whole = simulate(path, tmp_path / "whole", threads=1)
    # at step 400 the state has been quenched, and an event seen; step 650 lies between quenches
    parts = run_in_parts(path, tmp_path / "parts", [400, 650], threads=1)
    assert_same_run(whole.path, parts.path, (HYPER,))
    steps = np.loadtxt(whole.path / HYPER, delimiter=",", skiprows=1, usecols=0, ndmin=1)
    assert (steps <= 400).any()
    assert (steps > 400).any()
    ends = [checkpoint.newest(run.path / CHECKPOINTS)[0] for run in (whole, parts)]
    for name, array in ends[0].arrays.items():  # type: ignore[union-attr]
        if name.startswith("bias/"):
            assert np.array_equal(array, ends[1].arrays[name]), name  # type: ignore[union-attr]
    assert HYPER in ends[0].header["files"]  # type: ignore[union-attr]


def test_the_clock_is_the_sum_over_steps(tmp_path: Path) -> None:
    run = simulate(boosted_input(tmp_path, log="5 fs"), tmp_path / "run", threads=1)
    log = read_log(run)
    passed = 5e-3 * np.exp(log["bias energy"] / (KB * 55.0))
    # the log has ten digits of the bias, which is up to 4 kT
    assert log["hypertime"] == pytest.approx(np.concatenate([[0.0], np.cumsum(passed)[:-1]]), rel=1e-7)
    assert log["boost"][1:] == pytest.approx(log["hypertime"][1:] / log["time"][1:], rel=1e-7)
    events = np.genfromtxt(run.path / HYPER, delimiter=",", names=True, dtype=None, encoding="utf-8", deletechars="")
    for event in np.atleast_1d(events):
        row = log["step"] == event["step"]
        assert event["hypertime_[ps]"] == pytest.approx(log["hypertime"][row][0], rel=1e-7)
        assert event["time_[ps]"] == log["time"][row][0]


def test_a_second_stage_goes_on_with_the_clock_from_a_state_of_its_own(tmp_path: Path) -> None:
    path = boosted_input(tmp_path, log="5 fs")
    text = path.read_text()
    half = text.replace('duration = "5 ps"', 'duration = "2.5 ps"')
    stage = half[half.index("[[stage]]") : half.index("[output]")]
    path.write_text(half.replace(stage, stage + stage.replace("4.4 Å", "5.6 Å")))
    run = simulate(path, tmp_path / "run", threads=1)
    found = re.findall(r"hyperdynamics: (\d+) bonds", (run.path / "messages.log").read_text())
    assert len(found) == 2
    assert int(found[0]) < int(found[1])
    log = read_log(run)
    passed = 5e-3 * np.exp(log["bias energy"] / (KB * 55.0))
    # of the step between the stages the log has the boost of the first, and the clock that of the second
    differs = np.abs(np.diff(log["hypertime"]) / passed[:-1] - 1) > 1e-3
    assert set(np.flatnonzero(differs)) <= {500}
    assert run_in_parts(path, tmp_path / "parts", [300, 700], threads=1).path
    assert_same_run(run.path, tmp_path / "parts", (HYPER,))


def test_quenches_leave_the_run_alone(tmp_path: Path) -> None:
    """Without events to be seen, runs that quench often and seldom are the same."""
    logs = []
    for often in ("0.25 ps", "5 ps"):
        path = boosted_input(tmp_path / often)
        text = path.read_text().replace('"0.5 ps"', f'"{often}"').replace('"2 Å"', '"50 Å"')
        path.write_text(text)
        logs.append(simulate(path, tmp_path / often / "run", threads=1).log.read_bytes())
    assert logs[0] == logs[1]


def test_a_quench_leaves_the_pair_list_as_it_was(tmp_path: Path) -> None:
    job = prepare(load_simulate(boosted_input(tmp_path)))
    evaluator, table = job.evaluator("cpu", {}), hyperdynamics_of(job.config.stage[0])
    assert table is not None
    positions = job.frame.to_engine(job.atoms.positions)
    positions[job.boosts[0]] += 0.9  # up and aside, so that on its way down it is nowhere near to where it was
    evaluator.evaluate(positions, job.cell)
    before = {name: array.copy() for name, array in evaluator.state().items()}
    boost = start_boost(table, job.boosts[0], job.stages[0], job.body, evaluator, job.cell, tell=lambda text: None)
    boost.compute(0, positions, job.cell, 0.0, np.zeros_like(positions), np.zeros((3, 3)))
    after = evaluator.state()
    assert before
    assert all(np.array_equal(array, after[name]) for name, array in before.items())


NVT = 'kind = "nvt"\ntemperature = '


@pytest.mark.parametrize(
    ("stage", "more", "words"),
    [
        ("", ", atoms = [19]", "there is no atom 19: the structure has 19"),
        ("", ', elements = ["Cu"]', "the structure has no Cu"),
        ("", ", atoms = [0, 1]", "every atom it selects is frozen"),
        ("", ', atoms = [18], elements = ["Ar"]', "elements and atoms: give one"),
        ("", ", q = 1.5", "q"),
        ("", ', vmax = "-1 eV"', "vmax"),
        ("", ', quench_every = "1 fs"', "quench_every: 1.0 fs is shorter than the timestep"),
        ('kind = "nve"\n', "", "this is nve. Use nvt"),
        ('kind = "npt"\ntemperature = "55 K"\npressure = 0\n', "", "this is npt. Use nvt"),
        (f'{NVT}["55 K", "60 K"]\n', "", "one temperature, not a ramp"),
        (f'{NVT}"55 K"\nplumed = "x.dat"\n', "", "the only bias of its stage"),
        ("", ' }, { kind = "hyperdynamics", cutbond = 4, q = 0.1, vmax = 0.1', "the only bias of its stage"),
        ("", ', vmx = "1 eV"', "Did you mean 'vmax'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_boost_is_said(stage: str, more: str, words: str, tmp_path: Path) -> None:
    path = boosted_input(tmp_path, more, stage=stage)
    for key in ("q", "vmax", "quench_every"):
        if f", {key} =" in more and more.startswith(f", {key}"):
            first, _, rest = path.read_text().partition(f", {key} = ")
            path.write_text(first + rest[rest.index(",") :])
    (tmp_path / "x.dat").write_text("")
    with pytest.raises(InputError) as caught:
        preview(path)
    assert words in str(caught.value)


def test_a_boosted_stage_needs_bonds_that_can_be_found(tmp_path: Path) -> None:
    path = boosted_input(tmp_path)
    path.write_text(path.read_text().replace("4.4 Å", "2 Å"))
    with pytest.raises(SimulationError, match="nothing to boost"):
        simulate(path, tmp_path / "run", threads=1)


# -- beside LAMMPS ------------------------------------------------------------------------------------------------

PT = 3.92


def by_lammps(n_steps: int) -> tuple[float, float]:
    """Mean boost, and events per ns of hypertime, of LAMMPS' own deck with `fix hyper/global`."""
    module = lammps_oracle.require_lammps()
    lmp = module.lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_string(f"""
        units metal
        atom_style atomic
        atom_modify map array
        boundary p p p
        lattice fcc {PT}
        region box block 0 6 0 6 0 4
        create_box 3 box
        create_atoms 1 box
        change_box all z final -0.1 5.0 boundary p p f
        create_atoms 2 single 3.5 3.5 4
        region base block INF INF INF INF 0 1.8
        set region base type 3
        group base type 3
        group mobile type 1 2
        pair_style eam
        pair_coeff * * {lammps_oracle.potentials() / "Pt_u3.eam"}
        neigh_modify every 1 delay 5 check yes
        fix 1 mobile nve
        fix 2 mobile langevin 500 500 1.0 101 zero yes
        timestep 0.005
        velocity mobile create 500 101
        run 1000
        reset_timestep 0
        fix freeze base setforce 0 0 0
        compute event all event/displace 1.1
        fix HG mobile hyper/global 3.2 0.3 0.5 500
        thermo 1000
        hyper {n_steps} 1000 HG event min 1.0e-6 1.0e-6 100 100
    """)
    hypertime, n_events = (lmp.extract_fix("HG", 0, 1, number) for number in (9, 10))
    lmp.close()
    return hypertime / (5e-3 * n_steps), n_events / hypertime * 1e3


@pytest.mark.slow
def test_boost_and_rate_of_a_metal_surface_are_those_of_lammps(tmp_path: Path) -> None:
    """An adatom and three layers of Pt(100) at 500 K, where exchange with the surface is what happens.

    A dozen events over 100 ps here, and 40 over 300 ps there: rates within 30 %. Boosts over 100 ps have been between
    10 and 20.
    """
    boost, rate = by_lammps(60_000)
    atoms = ase.build.bulk("Pt", "fcc", PT, cubic=True).repeat((6, 6, 4))
    atoms.append(ase.Atom("Pt", [3.5 * PT, 3.5 * PT, 4 * PT]))
    atoms.cell[2, 2] = 40.0
    stage = '[[stage]]\nkind = "nvt"\ntemperature = "500 K"\nduration = '
    table = (
        'kind = "hyperdynamics", cutbond = "3.2 Å", q = 0.3, vmax = "0.5 eV", quench_every = "5 ps", '
        'event_distance = "1.1 Å"'
    )
    path = write_input(
        tmp_path, f'{stage}"5 ps"\n{stage}"100 ps"\nbias = [{{ {table} }}]\n', atoms=atoms,
        potential=f'{{ kind = "eam", path = "{lammps_oracle.potentials() / "Pt_u3.eam"}" }}',
        options='[frozen]\nbelow = "7 Å"', output='log_every = "1 ps"\ntrajectory_every = "50 ps"',
    )  # fmt: skip
    run = simulate(path, tmp_path / "run", threads=1)
    log = read_log(run)
    n_events = len((run.path / HYPER).read_text().splitlines()) - 1
    own = n_events / log["hypertime"][-1] * 1e3
    print(f"boosts {log['boost'][-1]:.2f} and {boost:.2f}, events per ns {own:.2f} and {rate:.2f}")
    assert boost / 2 < log["boost"][-1] < boost * 2
    assert rate / 2 < own < rate * 2
