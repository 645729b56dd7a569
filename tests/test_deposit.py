"""Atoms arrive at a slab: when, where and how fast; who is thermostatted; what is kept of it; and what is refused."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import openmm
import pytest
from command_line import mlmd
from lammps_oracle import require_lammps
from runs import assert_same_run, read_log, run_in_parts
from slabs import OFTEN, STAGE, argon_slab, book, deposit_input

from mlmd import units
from mlmd.ase import Calculator
from mlmd.config import Beam, Deposit
from mlmd.engine.arrivals import Plan, arrival, cluster_of, distances, leaving, surface_of, velocity_of
from mlmd.engine.layer import layer_integrator, set_layer, set_wall
from mlmd.engine.run import simulate
from mlmd.engine.slab import _interval
from mlmd.errors import InputError, SimulationError
from mlmd.io.trajectories import open_run
from mlmd.potentials.committee import Committee
from mlmd.potentials.modelfile import save
from mlmd.potentials.pair import LennardJones

COLD = 'frozen = { below = 2 }\nvelocities = "1 K"\n'
"""Of a slab that no bath holds at a temperature."""


def alone(every: str = "0.4 ps", duration: str = "2 ps", energy: str = "0.05 eV") -> str:
    """A stage whose arrivals begin beyond the cutoff of 6 Å, and in which nothing takes energy away."""
    return (
        f'[[stage]]\nkind = "deposit"\nspecies = "Ar"\nevery = "{every}"\nduration = "{duration}"\n'
        f'beam = {{ energy = "{energy}" }}\nheight = "9 Å"\ncontact = "5 Å"\n'
    )


def stage_of(**options: object) -> Deposit:
    """A stage as the input file gives it."""
    given = {"kind": "deposit", "species": "Ar", "every": "1 ps", "duration": "1 ns", "beam": {"energy": "0.1 eV"}}
    return Deposit.model_validate({**given, **options})


def plan_of(stage: Deposit, kinds: tuple[ase.Atoms, ...] = (ase.Atoms("Ar"),), interval: float = 10.0) -> Plan:
    """A stage above a square of 20 Å."""
    return Plan(stage, kinds, ("",) * len(kinds), interval, np.zeros(2), 20.0 * np.eye(2), 0.0, 6.0)


# -- when, where, how fast ---------------------------------------------------------------------------------------------


def test_arrivals_come_at_their_steps_and_a_fraction_of_a_step_is_not_lost(tmp_path: Path) -> None:
    simulate(deposit_input(tmp_path), tmp_path / "run", threads=1)
    rows = book(tmp_path / "run")
    steps = rows["step"][rows["what"] == "inserted"]
    assert steps.tolist() == [round(number * 133 / 5) for number in range(16)]  # one in 26.6 steps, 400 steps in all


def test_a_flux_in_layers_counts_the_atoms_of_the_top_layer(tmp_path: Path) -> None:
    # two atoms of a cell of 5.4 Å lie in a layer: 18 of 3 x 3 cells; a layer in 9 ps is one in 0.5 ps
    stage = STAGE.replace('every = "0.133 ps"', 'flux = "0.1111111111 ML/ps"')
    simulate(deposit_input(tmp_path, stage), tmp_path / "run", threads=1)
    rows = book(tmp_path / "run")
    assert rows["step"][rows["what"] == "inserted"].tolist() == [0, 100, 200, 300]


@pytest.mark.parametrize("face", ["100", "110", "111"])
def test_a_layer_of_flux_is_a_layer_of_bcc_iron_also_where_layers_are_close(face: str) -> None:
    atoms = getattr(ase.build, f"bcc{face}")("Fe", (4, 4, 9), a=2.87, vacuum=8)
    area = abs(np.linalg.det(atoms.cell.array[:2, :2]))
    stage = stage_of(every=None, flux="1 ML/ns")
    assert _interval(stage, atoms, area) == pytest.approx(1e6 / 16)  # as many as deposition counts: `top_layer`


def test_a_flux_per_area_is_that_of_the_region() -> None:
    stage = stage_of(every=None, flux="5 / nm^2 / ns")
    assert stage.flux == pytest.approx(5e-8)
    assert stage_of(every=None, flux="5e14 /cm²/s").flux == pytest.approx(5e-17, rel=1e-12)


def test_an_arrival_appears_above_the_surface_with_the_energy_of_the_beam(tmp_path: Path) -> None:
    simulate(deposit_input(tmp_path, alone(), options=COLD), tmp_path / "run", threads=1)
    rows = book(tmp_path / "run")
    first = rows[0]
    top = argon_slab().positions[:, 2].max()
    assert first["what"] == "inserted"
    assert abs(first["z"] - top - 9.0) < 1e-4
    mass = ase.Atoms("Ar").get_masses()[0]
    assert 0.5 * mass * units.KINETIC * (first["vz"] * 1e-3) ** 2 == pytest.approx(0.05, rel=1e-6)


def test_every_arrival_brings_its_energy_and_nothing_else_changes_the_total(tmp_path: Path) -> None:
    path = deposit_input(tmp_path, alone() + 'min_distance = "6 Å"\n', options=COLD)
    log = read_log(simulate(path, tmp_path / "run", threads=1))
    total = log["energy per atom"] * log["atoms"]
    brought = 0.05 * (log["atoms"] - len(argon_slab()))
    # leapfrog's error with a step of 5 fs: 0.5 % of what one arrival brings
    assert np.abs(total - brought - (total - brought)[0]).max() < 0.005 * 0.05
    assert log["atoms"].max() == len(argon_slab()) + 5


def test_the_gas_behind_a_hole_has_a_mean_energy_of_two_kt_and_a_cosine_law() -> None:
    beam, rng = Beam(temperature="1000 K", direction="cosine"), np.random.default_rng(1)
    velocities = np.array([velocity_of(beam, 40.0, rng) for _ in range(20_000)])
    speeds = np.linalg.norm(velocities, axis=1)
    energies = 0.5 * 40.0 * units.KINETIC * speeds**2 / (units.KB * 1000.0)
    cosines = -velocities[:, 2] / speeds
    # standard deviations of a gamma distribution of shape 2 and of a cosine with the density 2c: √2 and √(1/18)
    assert abs(energies.mean() - 2.0) < 4 * math.sqrt(2.0 / 20_000)
    assert abs(cosines.mean() - 2.0 / 3.0) < 4 * math.sqrt(1.0 / 18.0 / 20_000)
    assert np.abs(velocities[:, :2].mean(axis=0) / speeds.mean()).max() < 4 * math.sqrt(0.25 / 20_000)


def test_a_cone_is_filled_evenly_and_a_tilted_beam_has_one_direction() -> None:
    rng = np.random.default_rng(2)
    cone = Beam(speed="10 Å/ps", direction="cone", angle="30 deg")
    cosines = np.array([-velocity_of(cone, 40.0, rng)[2] for _ in range(5_000)]) / 0.01
    lowest = math.cos(math.radians(30))
    assert cosines.min() >= lowest
    assert abs(cosines.mean() - (1 + lowest) / 2) < 4 * (1 - lowest) / math.sqrt(12 * 5_000)
    tilted = velocity_of(Beam(speed="10 Å/ps", angle="60 deg", azimuth="90 deg"), 40.0, rng)
    assert tilted == pytest.approx([0.0, 0.01 * math.sin(math.radians(60)), -0.005], abs=1e-12)


def test_nothing_appears_nearer_than_allowed_and_all_free_places_are_found() -> None:
    there = np.array([[x, y, 0.0] for x in (0.0, 10.0) for y in (0.0, 10.0)])
    plan, cell, pbc = (
        plan_of(stage_of(min_distance="6 Å", height="7 Å", tries=500)),
        20.0 * np.eye(3),
        np.array([True, True, False]),
    )
    new = [arrival(plan, np.random.default_rng(n), 0.0, there, cell, pbc) for n in range(60)]
    places = np.array([one.positions[0] for one in new if one is not None])
    assert len(places) == 60
    assert distances(places, there, cell, pbc).min() >= 6.0
    # the free places are around the middles of four squares, also of those that lie across the border
    corners = np.unique(np.round((places[:, :2] - 5.0) / 10.0) % 2, axis=0)
    assert len(corners) == 4
    crowded = plan_of(stage_of(min_distance="7.5 Å", height="8 Å"))
    assert arrival(crowded, np.random.default_rng(1), 0.0, there, cell, pbc) is None


def test_a_molecule_keeps_its_shape_and_turns_every_way() -> None:
    molecule = ase.Atoms("CO", [[0, 0, -0.6], [0, 0, 0.53]])
    plan = plan_of(stage_of(), (molecule,))
    empty, cell, pbc = np.array([[0.0, 0.0, -50.0]]), 20.0 * np.eye(3), np.array([True, True, False])
    new = [arrival(plan, np.random.default_rng(n), 12.0, empty, cell, pbc) for n in range(2_000)]
    places = np.array([one.positions for one in new if one is not None])
    bonds = places[:, 1] - places[:, 0]
    assert np.allclose(np.linalg.norm(bonds, axis=1), 1.13, atol=1e-12)
    assert np.allclose(places[:, :, 2].min(axis=1), 12.0, atol=1e-12)  # its lowest atom is at the height
    # unit vectors of all directions: each component has the mean 0 and the variance 1/3
    assert np.abs(bonds.mean(axis=0) / 1.13).max() < 4 * math.sqrt(1 / 3 / 2_000)


def test_what_flies_is_no_surface() -> None:
    slab = argon_slab()
    flying = np.concatenate([slab.positions, [[5.0, 5.0, 30.0], [5.0, 8.0, 30.0]]])
    found = surface_of(flying, 5.0, slab.cell.array, slab.pbc)
    assert found == slab.positions[:, 2].max()


def test_what_holds_on_to_the_slab_belongs_to_it_and_what_flies_does_not() -> None:
    slab = argon_slab()
    top = slab.positions[:, 2].max()
    others = np.array([[5.0, 5.0, top + 3.0], [5.0, 5.0, top + 6.5], [9.0, 5.0, top + 20.0], [9.0, 8.5, top + 20.0]])
    positions, n_slab = np.concatenate([slab.positions, others]), len(slab)
    attached, flying = (cluster_of(n_slab + n, positions, 4.5, slab.cell.array, slab.pbc) for n in (1, 2))
    assert attached.tolist() == [True] * (n_slab + 2) + [False] * 2
    assert flying.tolist() == [False] * (n_slab + 2) + [True] * 2


def test_a_molecule_leaves_as_a_whole_and_nobody_who_passes_by_or_holds_on_to_the_slab_goes_with_it() -> None:
    slab = argon_slab()
    n_slab, top = len(slab), slab.positions[:, 2].max()
    ceiling = top + 12.0
    column = top + np.array([3.0, 6.0, 9.0, 12.5])  # holds on to the slab, its end above the ceiling
    others = [
        *([2.0, 2.0, z] for z in column),  # arrivals 0 to 3
        *([9.0, 9.0, ceiling + dz] for dz in (1.0, -2.0)),  # arrival 4: a molecule, half of it above the ceiling
        [11.0, 9.0, ceiling - 1.0],  # arrival 5: passes by on its way down
        [9.0, 12.0, ceiling + 2.0],  # arrival 6: above, near arrival 4
    ]
    positions = np.concatenate([slab.positions, others])
    of = np.array([-1] * n_slab + [0, 1, 2, 3, 4, 4, 5, 6])
    lost = leaving(positions[:, 2] > ceiling, of, 0, positions, 4.0, slab.cell.array, slab.pbc)
    assert set(of[lost].tolist()) == {4, 6}
    assert lost.sum() == 3


def test_the_height_follows_the_film(tmp_path: Path) -> None:
    stage = alone("0.2 ps", "6 ps")
    stage += 'bath = { temperature = "20 K", above = "2 Å", below = "9 Å", friction = "5 / ps" }\nsettle = "0.5 ps"\n'
    simulate(deposit_input(tmp_path, stage), tmp_path / "run", threads=1)
    rows = book(tmp_path / "run")
    inserted = rows[rows["what"] == "inserted"]
    assert np.all(np.diff(inserted["z"]) >= 0.0)
    # 30 arrivals on 18 places of a layer: one spacing, 2.7 Å, within vibrations, to three for a rough film
    assert 1.5 < inserted["z"][-1] - inserted["z"][0] < 8.5


# -- the layer and the wall --------------------------------------------------------------------------------------------


def springs(stage: Deposit, n_atoms: int, stiffness: float, seed: int = 1) -> openmm.Context:
    """Argon atoms on springs (kJ/mol/nm²), 5 fs a step."""
    system = openmm.System()
    force = openmm.CustomExternalForce(f"{stiffness / 2}*(x*x+y*y+z*z)")
    for atom in range(n_atoms):
        system.addParticle(39.948)
        force.addParticle(atom)
    system.addForce(force)
    context = openmm.Context(system, layer_integrator(stage, 5.0, seed), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.zeros((n_atoms, 3)))
    return context


def test_a_layer_is_at_equipartition_and_the_others_keep_their_energy() -> None:
    n_atoms, layer, stiffness = 200, np.arange(200) < 100, 2000.0
    context = springs(stage_of(bath={"temperature": "100 K", "below": "1 Å", "friction": "5 / ps"}), n_atoms, stiffness)
    set_layer(context.getIntegrator(), layer)
    context.setVelocities(np.where(layer[:, None], np.zeros(3), np.full(3, 0.3)))
    state = context.getState(energy=True)
    before = state.getKineticEnergy()._value
    kinetic, squares = [], []
    context.getIntegrator().step(400)
    for _ in range(200):
        context.getIntegrator().step(50)
        state = context.getState(positions=True, velocities=True, energy=True)
        positions, velocities = (
            np.array(get(asNumpy=True)._value) for get in (state.getPositions, state.getVelocities)
        )
        kinetic.append(39.948 * (velocities[layer] ** 2).mean())
        squares.append(stiffness * (positions[layer] ** 2).mean())
    kt = units.KB * 100.0 / units.EV_PER_KJMOL
    # 300 degrees of freedom, samples 0.25 ps apart that a friction of 5/ps decorrelates to e^-1.25: error 0.9 %
    assert np.mean(kinetic) == pytest.approx(kt, rel=0.04)
    assert np.mean(squares) == pytest.approx(kt, rel=0.04)
    free = velocities[~layer]
    # leapfrog's own energy, exact for springs: velocities are half a step behind
    half = free - 0.5 * 0.005 * stiffness / 39.948 * positions[~layer]
    energy = 0.5 * 39.948 * (half**2).sum() + 0.5 * stiffness * (positions[~layer] ** 2).sum()
    assert energy == pytest.approx(before, rel=2e-3)


def test_a_wall_throws_back_with_the_same_speed_and_lets_nothing_through() -> None:
    context = springs(stage_of(at_ceiling="reflect"), 50, 0.0)
    set_wall(context.getIntegrator(), 20.0, 50)
    velocities = np.random.default_rng(1).normal(size=(50, 3))
    context.setVelocities(velocities)
    for _ in range(40):
        context.getIntegrator().step(50)
        state = context.getState(positions=True, velocities=True)
        # half a step beyond it, as the wall is asked in the middle of a step
        assert state.getPositions(asNumpy=True)._value[:, 2].max() < 2.0 + 0.0025 * np.abs(velocities).max()
    after = state.getVelocities(asNumpy=True)._value
    assert np.allclose(np.abs(after), np.abs(velocities), rtol=1e-12)
    assert np.array_equal(after[:, :2], velocities[:, :2])
    assert after[:, 2].max() < 2.0 / 10.0  # whoever flies upwards has not come to the wall in 10 ps


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_frames_have_those_who_are_there_and_an_identity_is_given_once(tmp_path: Path) -> None:
    run = simulate(deposit_input(tmp_path), tmp_path / "run", threads=1)
    rows, n_start = book(run.path), len(argon_slab())
    frames = ase.io.read(run.trajectory, ":")
    for frame in frames:
        step = frame.info["step"]
        # a frame is written before what happens at its step, but for the first
        past = rows[(rows["step"] < step) | (rows["step"] == 0)]
        came = {int(one) for row in past[past["what"] == "inserted"] for one in row["atoms"].split()}
        went = {int(one) for row in past[past["what"] == "escaped"] for one in row["atoms"].split()}
        assert set(frame.arrays["id"].tolist()) == (set(range(n_start)) | came) - went
    ids = [row["atoms"] for row in rows if row["what"] == "inserted"]
    assert ids == [str(n_start + number) for number in range(16)]
    assert {"stuck", "reflected", "escaped"} <= set(rows["what"].tolist())
    assert np.array_equal(np.unique(ase.io.read(run.path / "final.extxyz").arrays["id"]), frames[-1].arrays["id"])


def test_only_those_who_fly_upwards_are_removed_however_near_others_are_on_their_way_down(tmp_path: Path) -> None:
    light = '[{ element = "Ar", fraction = 0.05 }, { element = "He", fraction = 0.95 }]'
    crowded = (
        STAGE.replace("0.133 ps", "0.05 ps")
        .replace(re.findall(r"species = (.*)", STAGE)[0], light)
        .replace('3 Å"\nmin', '0.5 Å"\nmin')
    )
    simulate(deposit_input(tmp_path, crowded), tmp_path / "run", threads=1)
    rows = book(tmp_path / "run")
    gone = rows[rows["what"] == "escaped"]
    assert len(gone) > 4
    assert gone["vz"].min() > 0.0


def test_the_summary_counts_what_the_book_tells(tmp_path: Path) -> None:
    run = simulate(deposit_input(tmp_path), tmp_path / "run", threads=1)
    rows = book(run.path)
    last = {number: rows["what"][rows["arrival"] == number][-1] for number in range(1, 17)}
    told = {what: sum(fate == what for fate in last.values()) for what in ("stuck", "reflected", "escaped")}
    flying = sum(fate == "inserted" for fate in last.values())
    expected = ", ".join(f"{n} {what}" for what, n in {**told, "flying": flying}.items())
    assert f"16 arrived: {expected};" in (run.path / "messages.log").read_text()


def test_a_stage_after_a_deposit_is_analysed_with_its_own_atoms(tmp_path: Path) -> None:
    later = STAGE + '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "1 ps"\n'
    run = simulate(deposit_input(tmp_path, later), tmp_path / "run", threads=1)
    n_left = int(read_log(run)["atoms"][-1])
    trajectory = open_run(run)
    assert trajectory.n_atoms == n_left != len(argon_slab())
    assert trajectory.provenance.kind == "nvt"
    assert sum(len(part.times) for part in trajectory.chunks()) == 10
    with pytest.raises(InputError, match=r"atoms come and go in stage 1 \(deposit\)"):
        open_run(run, 1)
    assert open_run(run, 1, 0.0, 100.0).n_atoms == len(argon_slab()) + 1  # until the second arrival


def test_the_guard_looks_at_distances_also_where_no_atom_is_thermostatted(tmp_path: Path) -> None:
    # neighbours in the slab are 3.8 Å from each other
    path = deposit_input(
        tmp_path, alone() + 'min_distance = "6 Å"\n', options=COLD, output='[guard]\nmin_distance = "4 Å"'
    )
    with pytest.raises(SimulationError, match=r"nearer than \[guard\] min_distance = 4 Å"):
        simulate(path, tmp_path / "run", threads=1)


def test_a_layer_that_all_have_left_has_no_temperature_and_ends_no_run(tmp_path: Path) -> None:
    slab = argon_slab()
    top = int(slab.positions[:, 2].argmax())
    # the repulsion of the atom below throws it out of its layer
    slab += ase.Atoms("He", [slab.positions[top] + [0.0, 0.0, 2.9]])
    below = slab.positions[-1, 2] + 0.5
    bath = f'bath = {{ temperature = "60 K", below = "{below:.3f} Å", elements = ["He"] }}\n'
    output = OFTEN + '\n[guard]\nmax_temperature = "5000 K"'
    run = simulate(deposit_input(tmp_path, alone() + bath, atoms=slab, output=output), tmp_path / "run", threads=1)
    temperature = read_log(run)["bath temperature"]
    assert np.isfinite(temperature[0]) and np.isnan(temperature).sum() > 10


def test_the_deviation_of_a_committee_is_told_of_those_who_are_there(tmp_path: Path) -> None:
    some = [LennardJones(epsilon=e, sigma=s, cutoff=6.0) for e, s in ((0.0104, 3.4), (0.0110, 3.38))]
    save(Committee(some), tmp_path / "two.mlmd")
    extra = '\nspread_every = "50 fs"\n[uncertainty]\nlow = "1e-6 eV/Å"\ncollect = true\nmax_candidates = 12\n'
    path = deposit_input(tmp_path, potential='"two.mlmd"', output=OFTEN + extra)
    one = simulate(path, tmp_path / "one", threads=1)
    rows, log = np.loadtxt(one.path / "model_devi.out"), read_log(one)
    assert np.array_equal(rows[:, 0], log["step"])
    candidates = ase.io.read(one.path / "candidates.extxyz", ":")
    sizes = [len(frame) for frame in candidates]
    assert len(sizes) == 12 and len(set(sizes)) > 3
    assert sizes == log["atoms"][:12].tolist()
    for frame, row in zip(candidates, rows, strict=False):
        of_members = []
        for member in some:
            frame.calc = Calculator(member)
            of_members.append(frame.get_forces())
        # positions in the file have eight digits, numbers of the table six
        largest = np.linalg.norm(np.std(of_members, axis=0), axis=1).max()
        assert row[4] == pytest.approx(largest, rel=1e-4)
    run_in_parts(path, tmp_path / "parts", [50, 130, 210], threads=1)
    assert_same_run(one.path, tmp_path / "parts", extra=("model_devi.out", "candidates.extxyz", "deposition.csv"))


def test_verify_knows_the_book_and_show_the_frames_of_different_sizes(tmp_path: Path) -> None:
    run = simulate(deposit_input(tmp_path), tmp_path / "run", threads=1)
    answer = mlmd("verify", run.path)
    assert answer.code == 0 and "deposition.csv" in answer.out
    sizes = read_log(run)["atoms"][::2]
    facts = json.loads(mlmd("show", run.trajectory, "--json").out)
    assert facts["atoms"] == [sizes.min(), sizes.max()]
    path = run.path / "deposition.csv"
    path.write_bytes(path.read_bytes()[:-9])
    answer = mlmd("verify", run.path)
    assert answer.code == 4 and "deposition.csv is missing or shorter" in answer.out


def test_a_full_place_is_left_out_and_counted_or_ends_the_run(tmp_path: Path) -> None:
    # slow ones stay where they appear, and the cell has room for few within 8 Å of each other
    crowded = alone("0.1 ps", energy="1e-9 eV") + 'min_distance = "8 Å"\ntries = 30\n'
    run = simulate(
        deposit_input(tmp_path, crowded, options=COLD),
        tmp_path / "run",
        threads=1,
    )
    absent = book(run.path)["what"].tolist().count("absent")
    messages = (run.path / "messages.log").read_text()
    assert absent > 10
    assert f"{20 - absent} arrived: 0 stuck" in messages and f"{absent} found no room" in messages
    assert messages.count("no place was found") == 1
    stop = deposit_input(tmp_path, crowded + 'when_full = "stop"\n', options=COLD)
    with pytest.raises(SimulationError, match=r'no place was found for arrival .* "stop"'):
        simulate(stop, tmp_path / "stopped", threads=1)


def test_a_film_that_uses_up_the_vacuum_ends_the_run(tmp_path: Path) -> None:
    slab = argon_slab(periodic=True)
    slab.cell[2, 2] = slab.positions[:, 2].max() + 9.0 + 5.0 + 6.2  # height, ceiling, cutoff, and hardly more
    stage = alone("0.2 ps", "6 ps")
    path = deposit_input(tmp_path, stage + 'settle = "0.3 ps"\n', atoms=slab, options=COLD)
    with pytest.raises(SimulationError, match="the film has used up the vacuum: the cell repeats along z"):
        simulate(path, tmp_path / "run", threads=1)


# -- what is refused ---------------------------------------------------------------------------------------------------

FROZEN = "frozen = { below = 2 }\n"
WRONG: dict[str, tuple[str, dict[str, object], str]] = {
    "element unknown to the potential": ('species = "Cu"', {"potential": '"Si"'}, "knows Si"),
    "no species": ("species = []", {}, "the list is empty"),
    "no such species": ('species = [{ fraction = 1 }]', {}, "a species is one of the two"),
    "fractions": ('species = [{ element = "Ar" }, { element = "He" }]', {}, "fractions add up to 2"),
    "no molecule file": ('species = "o2.xyz"', {}, "no such file"),
    "a molecule as long as the ceiling is high": (
        'species = "long.extxyz"', {}, "Ar2 is 3.8 Å long and would reach through the ceiling",
    ),
    "flux of zero": ('flux = "0 / nm^2 / ns"', {}, "above 0"),
    "no layers": ('flux = "0 ML/ns"', {}, "above 0"),
    "flux and every": ('flux = "1 ML/ns"\nevery = "1 ps"', {}, "one of the two is needed"),
    "flux beyond one in a step": ('flux = "1e6 / nm^2 / ns"', {}, "more than one in a step"),
    "no time for all": ("total = 50", {}, "need 6520"),
    "no arrivals": ("total = 0", {}, "at least 1 is needed"),
    "region outside of the cell": ('x = ["0 Å", "20 Å"]', {}, "is not within the cell"),
    "region upside down": ('x = ["5 Å", "2 Å"]', {}, "has to be below the second"),
    "never room": ('min_distance = "8 Å"', {}, "there would never be room"),
    "no room now": ('surface = "-2 Å"\nmin_distance = "5 Å"', {}, "were tried"),
    "nearer to its image": ('height = "17 Å"\nmin_distance = "16.9 Å"', {}, "nearer to its own image"),
    "no atom in the layer": ('bath = { temperature = "60 K", below = "1 Å" }', {}, "no atom that moves is below z"),
    "no such element in the layer": (
        'bath = { temperature = "60 K", below = "9 Å", elements = ["Kr"] }', {}, "there is no Kr",
    ),
    "layer upside down": ('bath = { temperature = "60 K", below = "3 Å", above = "5 Å" }', {}, "exchange them"),
    "no speed": ("beam = { }", {}, "none is given"),
    "two speeds": ('beam = { energy = "1 eV", speed = "1 Å/ps" }', {}, "energy and speed is given"),
    "cone without an angle": ('beam = { energy = "1 eV", direction = "cone" }', {}, "needs an angle"),
    "angle beyond the horizon": ('beam = { energy = "1 eV", angle = "95 deg" }', {}, "at most 89"),
    "temperature of the stage": ('temperature = "300 K"', {}, "Only a layer is thermostatted"),
    "pressure": ('pressure = "1 bar"', {}, "has no pressure to hold"),
    "script of PLUMED": ('plumed = "plumed.dat"', {}, "fixed number of atoms"),
    "bias": ("bias = []", {}, "fixed number of atoms"),
    "a guard that no arrival passes": ("", {"output": '[guard]\nmin_distance = "3.1 Å"'}, "would end the run"),
    "too fast for the guard": ('beam = { energy = "20 eV" }', {}, "He flies 1.55 Å in a step of 5 fs, above [guard]"),
    "a force field": (
        "", {"output": '[mlmm]\nregion = [0]\nforcefield = ["amber14-all.xml"]'}, "none for atoms that arrive",
    ),
    "no surface": ('contact = "2.5 Å"', {}, "there is no surface"),
    "nothing holds the slab": ("", {"options": ""}, "nothing holds the slab"),
    "a module of one system": (
        "", {"potential": '{ kind = "torchscript", path = "a.pt" }'}, "TorchScript module is made for one system",
    ),
    "a format of one size": ("", {"output": 'trajectory_format = "dcd"'}, "holds frames of one size"),
    "an analysis of it": ("", {"output": '[analysis]\nrun = ["rdf"]'}, "atoms come and go in the last stage"),
    "no velocities": ("bath = 0", {}, "needs them"),
}  # fmt: skip
"""What is written in place of the key in the stage, other options of the input, and words of the message."""


def with_keys(stage: str, keys: str) -> str:
    """A stage in which some keys say something else; `bath = 0` takes the key out."""
    names = {line.split(" = ")[0] for line in keys.splitlines()}
    names |= {"every"} if "flux" in names else set()
    lines = [line for line in stage.splitlines() if line.split(" = ")[0] not in names]
    return "\n".join([*lines, *(line for line in keys.splitlines() if line != "bath = 0"), ""])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_deposit_is_one_message_and_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    keys, options, said = WRONG[name]
    ase.io.write(tmp_path / "long.extxyz", ase.Atoms("Ar2", [[0, 0, 0], [3.8, 0, 0]]))
    path = deposit_input(tmp_path, with_keys(STAGE, keys), **options)
    for verb in ("check", "simulate"):
        answer = mlmd(verb, str(path), *(("--out", str(tmp_path / "run")) if verb == "simulate" else ()))
        assert answer.code == 2, answer.err
        assert said in answer.err
        assert "Traceback" not in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ('kind = "npt"\ntemperature = "60 K"\npressure = "1 bar"\nduration = "1 ps"', "the cell has to stay as it is"),
        ('kind = "minimize"\ncell = true', "the cell has to stay as it is"),
        ('kind = "nvt"\ntemperature = "60 K"\nduration = "1 ps"\nplumed = "plumed.dat"', "fixed number of atoms"),
        (
            'kind = "nvt"\ntemperature = "60 K"\nduration = "1 ps"\nbias = { kind = "umbrella", '
            'cv = { kind = "distance", atoms = [0, 60] }, at = "3 Å", spring = "1 eV/Å^2" }',
            "bias: PLUMED knows a fixed number of atoms",
        ),
    ],
)
def test_stages_that_need_another_cell_or_the_same_atoms_do_not_follow(later: str, said: str, tmp_path: Path) -> None:
    answer = mlmd("check", str(deposit_input(tmp_path, f"{STAGE}[[stage]]\n{later}\n")))
    assert answer.code == 2 and said in answer.err


def cells() -> dict[str, tuple[ase.Atoms, str]]:
    """Structures that are no slabs, and what is said of them."""
    thin, open_, turned, leaning = (argon_slab(periodic=True) for _ in range(4))
    thin.cell[2, 2] = 20.0
    open_.pbc = (True, False, False)
    turned.rotate(30, "x", rotate_cell=True)
    leaning.cell[2, 0] = 3.0
    return {
        "no vacuum": (thin, "would feel the bottom of the next slab"),
        "open to the side": (open_, "has to repeat along its first two cell vectors"),
        "turned": (turned, "have to lie in the plane of x and y"),
        "leaning": (leaning, "has to point along +z"),
    }


@pytest.mark.parametrize("name", cells())
def test_a_structure_that_is_no_slab_is_refused(name: str, tmp_path: Path) -> None:
    atoms, said = cells()[name]
    with pytest.raises(InputError, match="stage 1") as error:
        simulate(deposit_input(tmp_path, atoms=atoms), tmp_path / "run")
    assert said in str(error.value)


def test_a_check_tells_the_schedule(tmp_path: Path) -> None:
    answer = mlmd("check", str(deposit_input(tmp_path)))
    assert answer.code == 0
    assert "16 × Ar or He, one every 133.0 fs (26.6 steps)" in answer.out.replace("\n", " ")


# -- beside LAMMPS -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_as_many_stick_as_with_fix_deposit_of_lammps(tmp_path: Path) -> None:
    require_lammps()
    script, numbers = Path(__file__).parents[1] / "benchmarks" / "deposition.py", tmp_path / "rows.json"
    short = ["--runs", "2", "--arrivals", "20", "--cases", "1.5 eV", "0.03 eV", "--json", str(numbers)]
    done = subprocess.run([sys.executable, str(script), *short], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(numbers.read_text())
    assert len(rows) == 2
    for row in rows:
        assert 0 < row["mlmd"] < 100  # a case in which all or none stick would tell little
        difference = abs(row["mlmd"] - row["lammps"])
        assert difference < 3 * math.hypot(row["mlmd_error"], row["lammps_error"])
