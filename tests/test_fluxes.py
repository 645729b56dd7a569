"""What a run writes for Green-Kubo integrals: the numbers of fluxes.csv, its continuation, and what is refused."""

from __future__ import annotations

from pathlib import Path

import ase
import ase.units
import numpy as np
import pytest
from classical import silicon
from runs import assert_same_run, fcc_argon, run_in_parts, skewed, stopping, write_input

from mlmd import units
from mlmd.config import load_simulate
from mlmd.engine.flux_needs import charges_for_current
from mlmd.engine.run import simulate
from mlmd.engine.schedule import stage_records
from mlmd.engine.verify import verify
from mlmd.errors import InputError, Stopped, StorageError
from mlmd.io.log import read_log
from mlmd.potentials.modelfile import save
from mlmd.rundir import FLUXES, LOG

NVE = 'velocities = "90 K"\n[[stage]]\nkind = "nve"\nduration = "1000 fs"'
NVT = '[[stage]]\nkind = "nvt"\ntemperature = ["60 K", "120 K"]\nduration = "500 fs"'
NPT = (
    '[[stage]]\nkind = "npt"\ntemperature = "60 K"\npressure = "1 kbar"\nduration = "500 fs"\n'
    'barostat = { kind = "flexible", every = 4 }'
)
OUTPUT = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\nfluxes = ["stress", "heat", "current"]\nevery = "15 fs"'
WALL = 'bias = [{ kind = "upper-wall", cv = { kind = "distance", atoms = [0, 1] }, at = "4 Å", spring = "1 eV/Å^2" }]'
CHARGES = "[analysis]\ncharges = { Ar = 0.5 }\n"


def fluxes_of(folder: Path) -> dict[str, np.ndarray]:
    return read_log(folder / FLUXES)


@pytest.mark.parametrize("stages", [NVE, NVT, NPT], ids=["nve", "nvt", "npt"])
def test_fluxes_of_a_stopped_and_continued_run_are_those_of_one_run(stages: str, tmp_path: Path) -> None:
    # the pieces end on and off the grid of the fluxes (3 steps), and of the barostat (4)
    path = write_input(tmp_path, stages, output=f"{OUTPUT}\n{CHARGES}")
    simulate(path, tmp_path / "one", threads=1)
    run_in_parts(path, tmp_path / "parts", [10, 30, 80], threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts", (FLUXES,))
    steps = fluxes_of(tmp_path / "one")["step"]
    assert steps[0] == 0 and np.all(np.diff(steps) == 3)


def test_fluxes_come_every_5_fs_or_every_longer_step_where_nothing_is_said(tmp_path: Path) -> None:
    for timestep, every in (("1 fs", 5), ("2 fs", 2), ("5 fs", 1), ("10 fs", 1)):
        options = f'timestep = "{timestep}"'
        config = load_simulate(write_input(tmp_path, NVT, options=options, output='fluxes = ["stress"]'))
        assert stage_records(config)[0].fluxes_every == every


def test_fluxes_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    path = write_input(tmp_path, NVT, output=f"{OUTPUT}\n{CHARGES}")
    simulate(path, tmp_path / "one", threads=1)
    with pytest.raises(Stopped):
        simulate(path, tmp_path / "parts", progress=stopping(tmp_path / "parts", 30), threads=1)
    with (tmp_path / "parts" / FLUXES).open("a") as file:  # as a run does that is killed before its next checkpoint
        file.write("33,1,0.165,60,5000")
    simulate(path, tmp_path / "parts", threads=1)
    assert_same_run(tmp_path / "one", tmp_path / "parts", (FLUXES,))


def test_writing_the_stress_moves_no_atom(tmp_path: Path) -> None:
    with_fluxes = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\nfluxes = ["stress"]\nevery = "15 fs"'
    for name, output in (("with", with_fluxes), ("without", with_fluxes.split("\nfluxes", maxsplit=1)[0])):
        simulate(write_input(tmp_path / name, NVT, output=output), tmp_path / name / "run", threads=1)
    assert_same_run(tmp_path / "with" / "run", tmp_path / "without" / "run")


def test_the_trace_of_the_pressure_tensor_is_the_pressure_of_the_log(tmp_path: Path) -> None:
    output = 'log_every = "50 fs"\ntrajectory_every = "100 fs"\nfluxes = ["stress"]\nevery = "50 fs"'
    run = simulate(write_input(tmp_path, NVE, output=output), tmp_path / "run", threads=1)
    log, fluxes = read_log(run.path / LOG), fluxes_of(run.path)
    trace = sum(fluxes[f"pressure {axes} [bar]"] for axes in ("xx", "yy", "zz")) / 3.0
    # the log gives the kinetic part of N atoms to the 3N - 3 degrees of freedom that the velocities have
    held = units.KB * log["temperature [K]"] / log["volume [Å^3]"] / units.BAR
    assert np.array_equal(log["step"], fluxes["step"])
    assert np.abs(trace + held - log["pressure [bar]"]).max() < 1e-5 * np.abs(log["pressure [bar]"]).max()


def test_fluxes_turn_with_the_crystal(tmp_path: Path) -> None:
    # one free flight of the same motion, seen from elsewhere: a tensor turns twice, a vector once
    atoms = fcc_argon(2)
    atoms.set_velocities(0.01 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    atoms.set_initial_charges(np.where(np.arange(len(atoms)) % 2, 0.5, -0.5))
    turned, rotation = skewed(atoms)
    turned.set_velocities(atoms.get_velocities() @ rotation)
    found = []
    for name, structure in (("straight", atoms), ("turned", turned)):
        stage = NVE.replace("90 K", "file").replace("1000 fs", "15 fs")
        path = write_input(tmp_path / name, stage, atoms=structure, output=OUTPUT)
        found.append(fluxes_of(simulate(path, tmp_path / name / "run", threads=1).path))
    for kind, unit in (("heat flux", "eV Å/fs"), ("current", "e Å/fs")):
        one, other = (np.stack([each[f"{kind} {axis} [{unit}]"] for axis in "xyz"], axis=1) for each in found)
        # the file keeps eight decimals of positions and velocities
        assert np.abs(one @ rotation - other).max() < 1e-6 * np.abs(one).max()
    one, other = (
        np.stack([[each[f"pressure {''.join(sorted(a + b))} [bar]"] for a in "xyz"] for b in "xyz"]) for each in found
    )
    assert np.abs(np.einsum("ab,act,cd->bdt", rotation, one, rotation) - other).max() < 1e-8 * np.abs(one).max()


def mixed() -> ase.Atoms:
    """Argon with krypton."""
    atoms = fcc_argon(2)
    atoms.symbols[::3] = "Kr"
    return atoms


HEAT = OUTPUT.replace('["stress", "heat", "current"]', '["heat"]')


def test_number_fluxes_of_a_mixture_stand_beside_its_heat_and_add_up_to_no_momentum(tmp_path: Path) -> None:
    atoms = mixed()
    atoms.set_velocities(0.01 * np.random.default_rng(0).standard_normal((len(atoms), 3)))
    given = atoms.get_velocities() - atoms.get_momenta().sum(axis=0) / atoms.get_masses().sum()
    stage = NVE.replace("90 K", "file")
    found = fluxes_of(simulate(write_input(tmp_path, stage, atoms=atoms, output=HEAT), tmp_path / "run").path)
    ar, kr = (np.stack([found[f"number flux {one} {axis} [Å/fs]"] for axis in "xyz"], axis=1) for one in ("Ar", "Kr"))
    # ASE's velocities are in its own unit of time; those of the first line are half a step later than in the file
    first = given[atoms.symbols == "Ar"].sum(axis=0) * ase.units.fs
    assert np.abs(ar[0] - first).max() < 1e-2 * np.abs(ar).max()
    momentum = 39.948 * ar + 83.798 * kr
    assert np.abs(momentum).max() < 1e-6 * np.abs(39.948 * ar).max()
    alone = write_input(tmp_path / "alone", NVE, output=HEAT)
    assert not any("number" in name for name in fluxes_of(simulate(alone, tmp_path / "alone" / "run").path))


def test_a_run_that_was_begun_without_number_fluxes_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_input(tmp_path, NVE, atoms=mixed(), output=HEAT)
    whole = fluxes_of(simulate(path, tmp_path / "one", threads=1).path)
    with monkeypatch.context() as before, pytest.raises(Stopped):
        before.setattr("mlmd.engine.fluxes.Fluxes._counts", lambda *_: False)
        simulate(path, tmp_path / "parts", progress=stopping(tmp_path / "parts", 30), threads=1)
    parts = fluxes_of(simulate(path, tmp_path / "parts", threads=1).path)
    assert set(whole) - set(parts) == {name for name in whole if name.startswith("number flux")} != set()
    assert all(np.array_equal(values, whole[name]) for name, values in parts.items())


def test_heat_flows_through_a_potential_without_a_kernel_as_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch's graph and the compiled kernel, each in a run of its own
    import ase.build

    save(silicon(), tmp_path / "si.mlmd")
    crystal = ase.build.bulk("Si", cubic=True)
    crystal.rattle(0.05, seed=1)
    output = 'log_every = "10 fs"\ntrajectory_every = "100 fs"\nfluxes = ["heat"]\nevery = "2 fs"'
    stage = 'timestep = "1 fs"\nvelocities = "300 K"\n[[stage]]\nkind = "nve"\nduration = "20 fs"'
    path = write_input(tmp_path, stage, atoms=crystal, output=output, potential='"si.mlmd"', options="timestep_")
    path.write_text(path.read_text().replace("timestep_\n", ""))
    runs = []
    for kernels in ("on", "off"):
        monkeypatch.setenv("MLMD_KERNELS", kernels)
        runs.append(fluxes_of(simulate(path, tmp_path / kernels, threads=1).path))
    for axis in "xyz":
        one, other = (each[f"heat flux {axis} [eV Å/fs]"] for each in runs)
        assert np.abs(one - other).max() < 1e-8 * np.abs(one).max()


@pytest.mark.row("R28")
def test_a_changed_file_of_fluxes_is_found(tmp_path: Path) -> None:
    run = simulate(write_input(tmp_path, NVT, output=f"{OUTPUT}\n{CHARGES}"), tmp_path / "run", threads=1)
    verdict = verify(run.path)
    assert not verdict.problems and any(line.startswith(FLUXES) for line in verdict.checked)
    content = run.path / FLUXES
    content.write_bytes(content.read_bytes().replace(b"15,", b"16,", 1))
    assert any(FLUXES in problem for problem in verify(run.path).problems)


@pytest.mark.parametrize(
    ("output", "stages", "says"),
    [
        ("fluxes = []", NVT, "fluxes"),
        ('every = "5 fs"', NVT, "Say which"),
        ('fluxes = ["stress"]\nevery = "1 fs"', NVT, "shorter than the timestep"),
        ('fluxes = ["strain"]\nevery = "5 fs"', NVT, "strain"),
        ('fluxes = ["current"]\nevery = "5 fs"', NVT, "no charges are known, and they are not guessed"),
        ('fluxes = ["current"]\nevery = "5 fs"\n[analysis]\ncharges = { Ar = 0 }', NVT, r"\(Ar\) has the charge 0"),
        (
            'fluxes = ["heat"]\nevery = "5 fs"',
            f"{NVT}\n{WALL}",
            "the bias of stage 1",
        ),
    ],
)
def test_fluxes_that_mean_nothing_are_refused(output: str, stages: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        simulate(write_input(tmp_path, stages, output=output), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_heat_flux_that_reaches_far_is_refused(tmp_path: Path) -> None:
    import ase.build

    salt = ase.build.bulk("NaCl", "rocksalt", 5.64, cubic=True)
    coulomb = '{ kind = "coulomb", charges = { Na = 1, Cl = -1 } }'
    born = '{ kind = "lennard-jones", epsilon = "0.1 eV", sigma = "2.3 Å", cutoff = "5 Å" }'
    path = write_input(
        tmp_path, NVT, atoms=salt, potential=f"[{born}, {coulomb}]", output='fluxes = ["heat"]\nevery = "5 fs"'
    )
    with pytest.raises(InputError, match="neighbours of neighbours carry heat too"):
        simulate(path, tmp_path / "run")


def test_a_current_is_relative_to_the_elements_without_a_charge(tmp_path: Path) -> None:
    config = load_simulate(write_input(tmp_path, NVE, output=f"{OUTPUT}\n[analysis]\ncharges = {{ Li = 1 }}\n"))
    salt = ase.Atoms("Li2Cl3", positions=np.arange(15.0).reshape(5, 3))
    charges = charges_for_current(config, salt)
    assert charges is not None and charges[:2].tolist() == [1.0, 1.0] and charges.sum() == pytest.approx(0.0, abs=1e-12)
    velocities = np.random.default_rng(0).normal(size=(5, 3))
    at_rest = velocities[2:].mean(axis=0)
    assert np.allclose(charges @ velocities, (velocities[:2] - at_rest).sum(axis=0))


def test_charges_do_not_change_in_the_middle_of_a_current(tmp_path: Path) -> None:
    path = write_input(tmp_path, NVT, output=f"{OUTPUT}\n{CHARGES}")
    simulate(path, tmp_path / "run", threads=1)
    path.write_text(path.read_text().replace("Ar = 0.5", "Ar = 1.5").replace("500 fs", "900 fs"))
    with pytest.raises(StorageError, match=r"analysis\.charges\.Ar: was 0\.5, is 1\.5"):
        simulate(path, tmp_path / "run", threads=1)


def test_an_integral_without_its_flux_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'viscosity: it is made of a flux.*fluxes = \["stress"\]'):
        load_simulate(write_input(tmp_path, NVE, output='[analysis]\nrun = ["viscosity"]'))
