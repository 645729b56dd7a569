"""Replica exchange: every temperature, pressure, scale and umbrella keeps its own ensemble, whatever changes places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from averages import mean
from command_line import mlmd
from documentation import ROOT, blocks
from mdtraj.formats import DCDTrajectoryFile
from runs import assert_same_run, read_log, write_input

from mlmd.bias.plumed import PlumedBias
from mlmd.config import Simulate
from mlmd.config.replicas import Ladder, load_runs
from mlmd.engine.exchange_log import (
    ENOUGH,
    EXCHANGES,
    Exchanges,
    exchanges_in,
    expected_acceptance,
    read_exchanges,
)
from mlmd.engine.forces import NM, ForceFailure, Forces
from mlmd.engine.job import Job, prepare
from mlmd.engine.replicas import Moment, simulate_replicas
from mlmd.engine.swaps import neighbours, pairs_of
from mlmd.errors import InputError, SimulationError, Stopped, StorageError
from mlmd.potentials import POTENTIALS, Potential
from mlmd.rundir import STOP
from mlmd.units import BAR, KB

N_ATOMS = 6
FREE = 'remove_com_motion = false\ntimestep = "20 fs"\n[guard]\nenabled = false'
"""Options of a run whose atoms know nothing of each other, with steps that are short for a trap of 0.05 eV/Å²."""


@pytest.fixture(autouse=True)
def _trap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POTENTIALS, "trap", "trap:Trap")
    monkeypatch.setitem(POTENTIALS, "wells", "trap:Wells")


def trapped(positions: np.ndarray | None = None, pbc: bool = False, length: float = 20.0) -> ase.Atoms:
    """Argon atoms around the origin, or elsewhere."""
    corners = 0.6 * (np.indices((2, 2, 2)).reshape(3, -1).T - 0.5)[:N_ATOMS]
    where = corners if positions is None else positions
    return ase.Atoms(f"Ar{len(where)}", where, cell=[length] * 3 if pbc else None, pbc=pbc)


def stage(
    duration: str, more: str = "", kind: str = "nvt", temperature: str = '"replica"', friction: float = 0.4
) -> str:
    """At the temperature of the replica, with so little friction that velocities of another would be seen for long."""
    return (
        f'[[stage]]\nkind = "{kind}"\ntemperature = {temperature}\nduration = "{duration}"\n{more}\n'
        f'thermostat = {{ kind = "langevin", friction = "{friction} / ps" }}\n'
    )


def umbrella(variable: str, spring: str) -> str:
    """A bias whose place is that of the replica."""
    return f'bias = {{ kind = "umbrella", cv = {variable}, at = "replica", spring = "{spring}" }}'


def run(
    folder: Path, lists: str, stages: str, *, potential: str = '{ kind = "trap", stiffness = 0.05 }',
    atoms: ase.Atoms | None = None, options: str = FREE, every: str = "200 fs",
) -> tuple[Path, dict[str, dict[str, np.ndarray]]]:  # fmt: skip
    """Run an input with exchanges; the folder, and the log of each replica after a tenth for equilibration."""
    path = write_input(
        folder, f"[replicas]\n{lists}\n\n{stages}", atoms=trapped() if atoms is None else atoms, options=options,
        potential=potential, output=f'log_every = "{every}"\ntrajectory_every = "{every}"',
    )  # fmt: skip
    simulate_replicas(path, folder / "out", threads=1)
    logs = {}
    for one in load_runs(path).replicas:
        log = read_log(folder / "out" / one.name)
        logs[one.name] = {key: column[len(column) // 10 :] for key, column in log.items()}
    return folder / "out", logs


def exchanges(folder: Path) -> Exchanges:
    """What the exchange.csv of a finished run says."""
    found = exchanges_in(folder, json.loads((folder / "replicas.json").read_text()))
    assert found is not None
    return found[0]


def test_every_temperature_keeps_its_own_energies_and_velocities(tmp_path: Path) -> None:
    lists = 'temperatures = { lowest = "100 K", highest = "250 K", count = 4 }\nexchange_every = "100 fs"'
    folder, logs = run(tmp_path, lists, stage("200 ps"))
    heats = Ladder(lowest=100.0, highest=250.0, count=4).values()
    for temperature, log in zip(heats, logs.values(), strict=True):
        # a Gamma distribution of shape 3N/2: mean 3N/2 kT, variance 3N/2 (kT)²
        energies, shape = log["potential energy"] / (KB * temperature), 1.5 * N_ATOMS
        assert mean(energies).agrees_with(shape)
        assert mean((energies - shape) ** 2).agrees_with(shape)
        assert mean(log["temperature"]).agrees_with(temperature)
    found = exchanges(folder)
    for (one, other), accepted, tries in zip(found.pairs, found.accepted, found.tries, strict=True):
        share = expected_acceptance(3 * N_ATOMS, heats[one], heats[other])
        # exchanges are 0.2 ps apart for a pair, and energies are forgotten in 1 / friction = 2.5 ps
        error = np.sqrt(share * (1 - share) / (tries / 12.5))
        assert abs(accepted / tries - share) < 3.5 * error
    assert found.round_trips([0], [3]) > 20


@pytest.mark.slow
def test_a_cold_replica_is_in_both_wells_as_often_as_it_should_be(tmp_path: Path) -> None:
    # the barrier is 0.3 eV, 12 kT at 300 K: alone the atom of the cold replica would not cross it once in this time,
    # and all begin in the upper well
    height, tilt = 0.3, 0.01
    ladder = Ladder(lowest=300.0, highest=1500.0, count=4)
    folder, logs = run(
        tmp_path, f"temperatures = {list(ladder.values())}\nexchange_every = 100", stage("250 ps", friction=2.0),
        potential=f'{{ kind = "wells", stiffness = 1.0, height = {height}, tilt = {tilt} }}',
        atoms=trapped(np.array([[1.0, 0.0, 0.0]])), options=FREE.replace("20 fs", "10 fs"),
    )  # fmt: skip
    x = np.linspace(-3.0, 3.0, 20001)
    energy = height * (x**2 - 1.0) ** 2 + tilt * x
    for temperature, name in zip(ladder.values(), logs, strict=True):
        weights = np.exp(-energy / (KB * temperature))
        expected = float(weights[x > 0].sum() / weights.sum())
        with DCDTrajectoryFile(str(folder / name / "trajectory.dcd")) as file:
            right = file.read()[0][:, 0, 0] > 0
        assert mean(right[len(right) // 10 :]).agrees_with(expected), name


@pytest.mark.slow
def test_volumes_follow_from_temperature_and_pressure_on_a_grid_of_both(tmp_path: Path) -> None:
    # an ideal gas has U = 0, so that exchanges are decided by P V alone; V has a Gamma distribution of shape N + 1
    lists = 'temperatures = [100, 160]\npressures = [200, 300]\nseeds = 2\nexchange_every = "100 fs"'
    more = 'pressure = "replica"\nbarostat = { kind = "isotropic", every = 2 }'
    folder, logs = run(
        tmp_path, lists, stage("40 ps", more, kind="npt"), potential='{ kind = "trap", stiffness = 0.0 }',
        atoms=trapped(pbc=True, length=10.0), every="40 fs",
    )  # fmt: skip
    for name, log in logs.items():
        temperature, pressure = (float(word.strip("Kbar")) for word in name.split("-")[0].split("_"))
        reduced = pressure * BAR * log["volume"] / (KB * temperature)
        assert mean(reduced).agrees_with(N_ATOMS + 1), name
    found = exchanges(folder)
    # twins of other seeds never change places
    assert found.pairs == ((0, 4), (1, 5), (2, 6), (3, 7), (0, 2), (1, 3), (4, 6), (5, 7))
    assert (found.acceptance > 0.2).all()
    walkers = found.walkers
    assert all(set(walkers[:, replica] % 2) == {replica % 2} for replica in range(8))


def test_a_scaled_potential_is_sampled_as_at_a_higher_temperature(tmp_path: Path) -> None:
    lists = 'scales = [1.0, 0.7, 0.5]\nexchange_every = "100 fs"'
    folder, logs = run(
        tmp_path, lists, stage("120 ps", temperature='"150 K"'), options='scale = "replica"\n' + FREE,
    )  # fmt: skip
    assert list(logs) == ["scale1", "scale0.7", "scale0.5"]
    for log in logs.values():  # what acts is s U, which is 3N/2 kT on average for every s
        assert mean(log["potential energy"] / (KB * 150.0)).agrees_with(1.5 * N_ATOMS)
        assert mean(log["temperature"]).agrees_with(150.0)
    found = exchanges(folder)
    for n, (one, other) in enumerate(((1.0, 0.7), (0.7, 0.5))):
        share = expected_acceptance(3 * N_ATOMS, 150.0 / one, 150.0 / other)
        error = np.sqrt(share * (1 - share) / (found.tries[n] / 12.5))
        assert abs(found.acceptance[n] - share) < 3.5 * error


def test_umbrellas_change_places_and_each_keeps_its_own(tmp_path: Path) -> None:
    # in a trap k with an umbrella K at a, x has the mean K a / (k + K) and the variance kT / (k + K)
    lists = 'centres = ["0 Å", "1 Å", "2 Å"]\nexchange_every = "200 fs"'
    bias = umbrella('{ kind = "position", atom = 0, axis = "x" }', "0.05 eV/Å^2")
    folder, logs = run(tmp_path, lists, stage("120 ps", bias, temperature='"200 K"'))
    assert list(logs) == ["at0A", "at1A", "at2A"]
    for at, name in enumerate(logs):
        table = np.loadtxt(folder / name / "COLVAR", comments="#")
        assert np.array_equal(np.unique(table[:, 0]), table[:, 0]), "a line for every step, and none twice"
        x = 10.0 * table[len(table) // 10 :, 1]
        assert mean(x).agrees_with(0.5 * at)
        assert mean((x - 0.5 * at) ** 2).agrees_with(KB * 200.0 / 0.1)
    assert (exchanges(folder).acceptance > 0.2).all()


ARGON = (
    '[[stage]]\nkind = "minimize"\nmax_steps = 3\n\n'
    '[[stage]]\nkind = "nvt"\ntemperature = ["30 K", "replica"]\nduration = "100 fs"\n\n'
    '[[stage]]\nkind = "nvt"\ntemperature = "replica"\nthermostat = "nose-hoover"\nduration = "400 fs"\n\n'
    '[[stage]]\nkind = "npt"\ntemperature = "replica"\npressure = "1 bar"\nduration = "{0} fs"\n'
    'barostat = {{ kind = "flexible", every = 4 }}\n'
)
"""Neighbours that change places under both thermostats, and with cells that change their shape."""
THREE = 'temperatures = ["60 K", "70 K", "80 K"]\nexchange_every = "50 fs"'


def argon(folder: Path, duration: int = 600, lists: str = THREE) -> Path:
    """An input of 32 atoms of argon."""
    return write_input(folder, f"[replicas]\n{lists}\n\n" + ARGON.format(duration))


def assert_same_exchange(one: Path, other: Path) -> None:
    """Two finished runs are the same byte for byte, in every replica and in what changed places."""
    names = json.loads((one / "replicas.json").read_text())["replicas"]
    assert (one / EXCHANGES).read_bytes() == (other / EXCHANGES).read_bytes()
    for name in names:
        assert_same_run(one / name, other / name, tuple({"COLVAR"} & {path.name for path in (one / name).iterdir()}))


def in_parts(path: Path, out: Path, shares: dict[str, list[float]]) -> None:
    """Run an input, and stop it where a replica has done such a share of itself, until it is at its end."""
    left = [(name, share) for name, several in shares.items() for share in several]

    def look(moment: Moment) -> None:
        for name, share in left:
            if moment.running[name] >= share:
                left.remove((name, share))
                (out / STOP).touch()
                return

    n_stops = 0
    while left:
        with pytest.raises(Stopped):
            simulate_replicas(path, out, threads=1, progress=look)
        n_stops += 1
    assert n_stops == sum(map(len, shares.values()))
    simulate_replicas(path, out, threads=1)


def test_a_run_that_was_stopped_everywhere_is_the_run_in_one_piece(tmp_path: Path) -> None:
    path = argon(tmp_path)
    simulate_replicas(path, tmp_path / "one", threads=1)
    in_parts(path, tmp_path / "parts", {"60K": [0.1, 0.5, 1.0], "70K": [0.2, 0.7], "80K": [0.3, 0.95]})
    assert_same_exchange(tmp_path / "one", tmp_path / "parts")
    assert exchanges(tmp_path / "one").accepted.sum() > 5


def umbrellas(folder: Path, duration: str) -> Path:
    """An input of two umbrellas on a distance in argon."""
    bias = umbrella('{ kind = "distance", atoms = [0, 5] }', "0.3 eV/Å^2")
    lists = 'centres = ["4.0 Å", "4.2 Å"]\nexchange_every = "50 fs"'
    return write_input(folder, f"[replicas]\n{lists}\n\n" + stage(duration, bias, temperature='"80 K"'))


def test_umbrellas_that_were_stopped_print_and_exchange_as_in_one_piece(tmp_path: Path) -> None:
    path = umbrellas(tmp_path, "1 ps")
    simulate_replicas(path, tmp_path / "one", threads=1)
    in_parts(path, tmp_path / "parts", {"at4.0A": [0.1, 0.5], "at4.2A": [0.2, 0.75]})
    assert_same_exchange(tmp_path / "one", tmp_path / "parts")
    assert exchanges(tmp_path / "one").accepted.sum() > 2


def test_every_bias_ends_its_steps_in_the_folder_of_its_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, update = [], PlumedBias.update

    def watched(bias: PlumedBias) -> None:
        if bias.pending:
            ended.append(Path.cwd())
        update(bias)

    path = umbrellas(tmp_path, "200 fs")
    monkeypatch.setattr(PlumedBias, "update", watched)
    simulate_replicas(path, tmp_path / "out", threads=1)
    at_work = [tmp_path / "out" / name for name in ("at4.0A", "at4.2A")]
    assert len(exchanges(tmp_path / "out").walkers) == 3
    assert [ended.count(one) for one in at_work] == [len(ended) // 2] * 2


def test_a_configuration_that_a_bias_does_not_know_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outside(forces: Forces, positions: np.ndarray, cell: np.ndarray, energy: float, step: int) -> float:
        if forces.answer is None or not np.array_equal(positions, forces.answer.positions):
            raise SimulationError("the variable is outside the grid.")
        return 0.0

    monkeypatch.setattr(Forces, "bias_at", outside)
    path = write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NVT}")
    assert {one.state for one in simulate_replicas(path, tmp_path / "out", threads=1).statuses} == {"done"}
    found = exchanges(tmp_path / "out")
    assert (found.tries.tolist(), found.accepted.tolist()) == ([19], [0])


def test_a_replica_that_cannot_go_on_from_another_leaves_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(forces: Forces, positions: np.ndarray, cell: np.ndarray, step: int) -> None:
        raise ForceFailure("the force on atom 3 is above a limit.", positions * NM, None, 3)

    monkeypatch.setattr(Forces, "go_to", fail)
    path = write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NVT}")
    with pytest.raises(
        SimulationError, match=r"exchange \d+: 60K: at step \d+ .* The last good and the bad frame are in"
    ):
        simulate_replicas(path, tmp_path / "out", threads=1)
    assert len(ase.io.read(tmp_path / "out" / "60K" / "crash" / "last.extxyz", ":")) == 2


def test_replicas_do_not_begin_anew_where_exchange_json_is_lost(tmp_path: Path) -> None:
    simulate_replicas(write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NVT}"), tmp_path / "out", threads=1)
    (tmp_path / "out" / "exchange.json").unlink()
    before = (tmp_path / "out" / "60K" / "log.csv").read_bytes()
    path = write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NVT.replace('1 ps', '2 ps')}")
    with pytest.raises(StorageError, match=r"exchange.json is not there, which says .* and 60K, 70K went on before"):
        simulate_replicas(path, tmp_path / "out", threads=1)
    assert (tmp_path / "out" / "60K" / "log.csv").read_bytes() == before


def test_a_replica_that_exchanges_is_not_repaired_alone(tmp_path: Path) -> None:
    simulate_replicas(write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NVT}"), tmp_path / "out", threads=1)
    own = tmp_path / "out" / "60K"
    assert mlmd("repair", own).code == 0
    with (own / "log.csv").open("a") as log:
        log.write("of nobody\n")
    answer = mlmd("repair", own, "--yes")
    assert answer.code == 4 and "replicas that exchange, which go back together" in answer.err
    assert (own / "log.csv").read_text().endswith("of nobody\n")


def test_a_longer_last_stage_goes_on_as_if_it_had_been_longer_from_the_start(tmp_path: Path) -> None:
    path = argon(tmp_path, 300)
    simulate_replicas(path, tmp_path / "out", threads=1)
    before = (tmp_path / "out" / EXCHANGES).read_bytes()
    assert simulate_replicas(path, tmp_path / "out", threads=1).statuses[0].state == "done"
    assert (tmp_path / "out" / EXCHANGES).read_bytes() == before
    path = argon(tmp_path, 600)
    simulate_replicas(path, tmp_path / "out", threads=1)
    simulate_replicas(path, tmp_path / "one", threads=1)
    assert_same_exchange(tmp_path / "out", tmp_path / "one")


def test_neighbours_try_in_turn_along_each_list() -> None:
    assert [pairs_of((5, 1, 1), n) for n in range(3)] == [[(0, 1), (2, 3)], [(1, 2), (3, 4)], [(0, 1), (2, 3)]]
    assert [pairs_of((2, 1, 2), n) for n in range(2)] == [[(0, 2), (1, 3)]] * 2
    grid = [pairs_of((3, 3, 1), n) for n in range(4)]
    assert grid == [
        [(0, 3), (1, 4), (2, 5)],
        [(0, 1), (3, 4), (6, 7)],
        [(3, 6), (4, 7), (5, 8)],
        [(1, 2), (4, 5), (7, 8)],
    ]
    assert sorted(neighbours((3, 3, 1))) == sorted(pair for pairs in grid for pair in pairs)


def test_a_ladder_is_geometric_and_its_ends_are_exact() -> None:
    heats = Ladder(lowest=300.0, highest=600.0, count=5).values()
    assert (heats[0], heats[-1]) == (300.0, 600.0)
    assert np.allclose(np.diff(np.log(heats)), np.log(2.0) / 4, atol=1e-4)


def test_round_trips_are_from_one_end_to_the_other_and_back() -> None:
    walkers = np.array(
        [[0, 1, 2], [1, 0, 2], [1, 2, 0], [1, 0, 2], [0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0], [0, 1, 2]]
    )
    found = Exchanges(("a", "b", "c"), (), walkers, np.zeros((len(walkers), 0)))
    # walker 0 goes up and down twice; walker 1 up once; walker 2 begins at the top, and comes back to it
    assert found.round_trips([0], [2]) == 2


def test_where_a_walker_began_belongs_to_its_round_trip() -> None:
    found = Exchanges(("a", "b"), (), np.array([[1, 0], [0, 1]]), np.zeros((2, 0)))
    assert found.round_trips([0], [1]) == 1  # of walker 0; walker 1 has gone down and up


def test_what_was_accepted_is_counted_and_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlmd.engine import together

    asked: list[Path] = []

    def counted(folder: Path, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Exchanges:
        asked.append(folder)
        return read_exchanges(folder, names, pairs)

    monkeypatch.setattr(together, "read_exchanges", counted)
    path = write_input(tmp_path, f'[replicas]\ntemperatures = [20, 90]\nexchange_every = "10 fs"\n\n{stage("2 ps")}')
    simulate_replicas(path, tmp_path / "out", threads=1)
    found = exchanges(tmp_path / "out")
    assert len(found.walkers) > 3 * ENOUGH
    assert len(asked) == 2, "at the beginning and at the end"
    assert "none of 50 exchanges of 20K and 90K was accepted" in (tmp_path / "out" / "messages.log").read_text()


def test_temperatures_that_are_too_far_apart_are_told_of_before_and_while_they_do_not_exchange(tmp_path: Path) -> None:
    path = write_input(
        tmp_path, f'[replicas]\ntemperatures = [20, 90]\nexchange_every = "20 fs"\n\n{stage("2 ps")}', options="",
    )  # fmt: skip
    answer = mlmd("check", path)
    assert answer.code == 0 and "20K and 90K are far apart: of a harmonic system with 93 degrees" in answer.out
    assert "2, in turn, with an exchange every 4 steps: 20K, 90K" in answer.out
    answer = mlmd("simulate", path, "--out", tmp_path / "out", "--threads", 1)
    assert answer.code == 0 and "20K and 90K are far apart" in answer.err
    assert "exchanges of 20K and 90K" in answer.err and "Put others between them." in answer.err
    assert "exchanges: 99, round trips: 0" in answer.out
    told = json.loads(mlmd("status", tmp_path / "out", "--json").out)["exchange"]
    assert told["exchanges"] == 99 and told["pairs"][0]["tries"] == 99 and told["pairs"][0]["acceptance"] < 0.1


def test_each_replica_is_a_run_that_can_be_analysed_but_has_no_diffusion(tmp_path: Path) -> None:
    path = argon(tmp_path, 600)
    simulate_replicas(path, tmp_path / "out", threads=1)
    replica = tmp_path / "out" / "70K"
    assert mlmd("verify", replica).code == 0
    assert mlmd("analyze", "rdf", replica).code == 0
    answer = mlmd("analyze", "diffusion", replica)
    assert answer.code == 2 and "atoms jump where replicas exchange" in answer.err
    answer = mlmd("simulate", replica / "input.toml")
    assert answer.code == 4 and "cannot go on alone" in answer.err
    log = read_log(replica)
    assert np.array_equal(log["step"], np.arange(0, 221, 10))
    assert set(log["target temperature"][log["stage"] > 2]) == {70.0}


def test_verify_looks_at_all_replicas_and_at_what_holds_them_together(tmp_path: Path) -> None:
    path, out = argon(tmp_path, 600), tmp_path / "out"
    simulate_replicas(path, out, threads=1)
    answer = mlmd("verify", out)
    assert answer.code == 0, answer.out
    assert "60K: log.csv, " in answer.out and "exchanges that all replicas can go back to" in answer.out
    assert json.loads(mlmd("verify", out, "--json").out)["replicas"]["70K"]["ok"] is True
    commits, exchanges = out / "exchange.json", out / EXCHANGES
    kept = {one: one.read_bytes() for one in (commits, exchanges)}
    for damaged, content, said in (
        (exchanges, kept[exchanges][:-40], "exchange.csv is missing or shorter"),
        (commits, b"{", "exchange.json is damaged"),
        (commits, None, "exchange.json is not there, and"),
    ):
        damaged.unlink() if content is None else damaged.write_bytes(content)
        answer = mlmd("verify", out)
        assert answer.code == 4 and said in answer.out, answer.out
        assert not json.loads(mlmd("verify", out, "--json").out)["ok"]
        damaged.write_bytes(kept[damaged])
    manifest = out / "70K" / "run.json"
    manifest.rename(out / "kept")
    answer = mlmd("verify", out)
    assert answer.code == 4 and "70K has files of a run, and no run.json" in answer.out and "waits" not in answer.out
    (out / "kept").rename(manifest)
    newest = sorted((out / "60K" / "checkpoint").glob("*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    answer = mlmd("verify", out)
    assert answer.code == 4 and "cannot go back together" in answer.out and "WRONG     60K: " in answer.out


NVT = '[[stage]]\nkind = "nvt"\ntemperature = "replica"\nduration = "1 ps"\n'
NVE = NVT + '[[stage]]\nkind = "nve"\nduration = "1 ps"\n'
NPT = '[[stage]]\nkind = "npt"\ntemperature = "replica"\npressure = "1 bar"\nduration = "200 fs"\n'
CELL = '[[stage]]\nkind = "minimize"\ncell = true\nmax_steps = 3\n'
WINDOW = umbrella('{ kind = "distance", atoms = [0, 1] }', "0.1 eV/Å^2")
HILLS = 'bias = { kind = "metadynamics", cv = { kind = "distance", atoms = [0, 1] }, width = "0.1 Å" }\n'
TWO = 'temperatures = ["60 K", "70 K"]\nexchange_every = "50 fs"'
WRONG = {
    "one temperature": ('temperatures = ["60 K"]\nexchange_every = "50 fs"', NVT, "there is nothing to exchange"),
    "seeds alone": ('seeds = 2\nexchange_every = "50 fs"', NVT.replace("replica", "60 K"), "nothing to exchange"),
    "between steps": (TWO.replace("50", "52"), NVT, "52.0 fs is no whole number of timesteps of 5.0 fs. The nearest"),
    "shorter than a step": (TWO.replace("50", "1"), NVT, "1.0 fs is no whole number of timesteps"),
    "never": (TWO.replace("50 fs", "1 ps"), NVT, "is not shorter than any stage with exchanges: there would be none."),
    "no time": (TWO.replace('"50 fs"', '"50 K"'), NVT, "replicas: exchange_every: "),
    "nve": (TWO, NVE, "stage 2 (nve): replicas that exchange need a temperature in every stage of dynamics. Use nvt."),
    "ramps alone": (TWO, NVT.replace('"replica"', '["30 K", "replica"]'), "no stage has exchanges."),
    "hills": (TWO, NVT + HILLS, "stage 1 (nvt): bias: metadynamics changes with what its own replica has seen"),
    "volumes": (TWO, NPT + NVT, "stage 2 (nvt): replicas that exchange at constant volume need the same cell, and sta"),
    "minimized cells": (TWO, NVT + CELL + NVT, "stage 3 (nvt): replicas that exchange at constant volume need the"),
    "one folder": ('centres = ["3 Å", "3Å"]', NVT.replace('"replica"', "60") + WINDOW, "would have the folder at3A."),
    "diffusion": (TWO, NVT + '[analysis]\nrun = ["diffusion"]\n', "analysis: diffusion: atoms jump where replicas"),
    "ladder": (
        "temperatures = { lowest = 300, highest = 200, count = 3 }",
        NVT,
        "a temperature below highest is needed",
    ),
    "ladder of one": ("temperatures = { lowest = 30, highest = 60, count = 1 }", NVT, "count: 1: at least 2"),
    "ladder without end": ("temperatures = { lowest = 30, count = 2 }", NVT, "temperatures: 'highest' is missing"),
    "scale": ("scales = [1.0, 0.0]", NVT.replace("replica", "60 K"), "scales: item 2: 0.0: more than 0.0 is needed"),
    "scales not used": ("scales = [1.0, 0.9]", NVT.replace("replica", "60 K"), 'nothing takes them: write scale = "re'),
    "centres not used": ('centres = ["1 Å"]', NVT.replace("replica", "60 K"), 'no stage takes them: write at = "rep'),
    "centre": ("centres = [true, 1]", NVT, "True is not a place of an umbrella."),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_exchange_is_refused_in_one_message_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    table, stages, told = WRONG[name]
    path = write_input(tmp_path, f"[replicas]\n{table}\n\n{stages}")
    before = sorted(tmp_path.iterdir())
    for command in (("simulate", path, "--out", tmp_path / "out"), ("check", path)):
        answer = mlmd(*command)
        assert (answer.code, answer.out) == (2, "")
        assert told in answer.err and answer.err.count("InputError") == 1 and "Traceback" not in answer.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_cell_that_is_minimized_from_the_same_start_is_the_same_in_all(tmp_path: Path) -> None:
    path = write_input(tmp_path, f"[replicas]\n{TWO}\n\n{CELL}{NVT}")
    assert load_runs(path).exchange is not None
    scaled = TWO.replace("temperatures", "scales").replace('"60 K", "70 K"', "1, 0.8")
    path = write_input(
        tmp_path, f"[replicas]\n{scaled}\n\n{CELL}{NVT.replace('replica', '60 K')}", options='scale = "replica"'
    )
    with pytest.raises(InputError, match=r"stage 1 \(minimize\) leaves each in its own"):
        load_runs(path)


def test_cells_that_differ_do_not_change_places_at_constant_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlmd.config.exchange._cell_problems", lambda configs, exchanging: ())
    path = write_input(tmp_path, f"[replicas]\n{TWO}\n\n{NPT}{NVT}")
    with pytest.raises(SimulationError, match="replicas that exchange at constant volume need the same cell, and thes"):
        simulate_replicas(path, tmp_path / "out", threads=1)


METAD = "d: DISTANCE ATOMS=1,2\nMETAD ARG=d SIGMA=0.01 HEIGHT=1 PACE=10\n"
LISTS = "c: COORDINATION GROUPA=1 GROUPB=2-9 R_0=0.4 NLIST NL_CUTOFF=1 NL_STRIDE=10\nRESTRAINT ARG=c AT=1 KAPPA=1\n"
RESTING = "d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=0.4 KAPPA=1 STRIDE=2\nPRINT ARG=d FILE=COLVAR STRIDE=5\n"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (METAD, "line 2: METAD changes with"),
        (LISTS, "line 1: NLIST keeps a list"),
        (RESTING, "line 2: RESTRAINT acts every 2 steps alone"),
    ],
)
def test_scripts_of_plumed_with_a_memory_are_refused(script: str, told: str, tmp_path: Path) -> None:
    path = write_input(tmp_path, f'[replicas]\n{TWO}\n\n{NVT}plumed = "plumed.dat"\n')
    (tmp_path / "plumed.dat").write_text(script)
    for command in (("simulate", path, "--out", tmp_path / "out"), ("check", path)):
        answer = mlmd(*command)
        assert answer.code == 2 and told in answer.err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_replicas_is_left_alone(tmp_path: Path) -> None:
    path, out = argon(tmp_path), tmp_path / "out"
    assert mlmd("simulate", path, "--out", out, "--processes", 2).code == 2
    assert mlmd("simulate", path, "--out", out, "--max-hours", 0, "--quiet").code == 75
    for lists, told in (
        (THREE.partition("\n")[0], "its replicas are 3 that exchange every 10 steps, and are to be independent"),
        (THREE.replace("50 fs", "100 fs"), "are to be 3 that exchange every 20 steps"),
        (THREE.replace("80 K", "85 K"), "its replicas have other values"),
    ):
        answer = mlmd("simulate", argon(tmp_path, lists=lists), "--out", out)
        assert answer.code == 4 and told in answer.err


def test_processes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    answer = mlmd("simulate", argon(tmp_path), "--out", tmp_path / "out", "--processes", 2)
    assert answer.code == 2 and "replicas that exchange take turns in one process" in answer.err
    assert not (tmp_path / "out").exists()


def test_the_structure_of_each_replica_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def counted(config: Simulate, potential: Potential | None = None) -> Job:
        asked.append(config.structure)
        return prepare(config, potential)

    monkeypatch.setattr("mlmd.engine.exchange.prepare", counted)
    simulate_replicas(argon(tmp_path), tmp_path / "out", threads=1)
    assert len(asked) == 3


def test_the_example_of_the_docs_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "input.toml"
    path.write_text(next(block for block in blocks("toml") if "exchange_every" in block), encoding="utf-8")
    shutil.copy(ROOT / "inputs" / "li3ycl6.cif", tmp_path)
    runs = load_runs(path)
    assert [one.temperature for one in runs.replicas] == list(Ladder(lowest=300.0, highest=420.0, count=6).values())
    assert runs.exchange is not None and runs.exchange.every == 500
    job = prepare(runs.replicas[0].config)
    # a small cell of a solid: neighbours change places often enough
    heats = [one.temperature for one in runs.replicas if one.temperature is not None]
    shares = [expected_acceptance(job.body.n_dof, *pair) for pair in pairwise(heats)]
    assert min(shares) > 0.2
