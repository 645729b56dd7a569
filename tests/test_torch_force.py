"""TorchScript modules run by OpenMM-Torch where it works, and with the same numbers where it does not."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import mlmd
from runs import ARGON, fcc_argon, run_in_parts, write_input
from stand_in_plugin import WAYS, stand_in, working
from test_torchscript import Springs, digest, saved

from mlmd.engine.guard import LOOK_EVERY
from mlmd.engine.replicas import simulate_replicas
from mlmd.engine.run import simulate
from mlmd.errors import InputError, SimulationError
from mlmd.potentials.pair import LennardJones
from mlmd.potentials.scripted import save
from mlmd.rundir import Run, open_run

NVE = '[[stage]]\nkind = "nve"\nduration = "1 ps"\n'
NPT = '[[stage]]\nkind = "npt"\ntemperature = "40 K"\npressure = "100 bar"\nduration = "1 ps"\n'
WAYS_THAT_FAIL = ["crash", *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS if way != "crash")]
NVT = '[[stage]]\nkind = "nvt"\ntemperature = "40 K"\nduration = "100 fs"\n'
HOT = 'velocities = "60 K"'


@pytest.fixture(autouse=True)
def _forget_plugins() -> Iterator[None]:
    """Each test has a plugin of its own."""
    sys.modules.pop("openmmtorch", None)
    yield
    sys.modules.pop("openmmtorch", None)


def module_table(folder: Path, more: str = "") -> str:
    """A table of the argon of `ARGON`, exported for 32 atoms."""
    path = folder / "argon.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        argon = LennardJones(epsilon="0.0104 eV", sigma="3.4 Å", cutoff="6 Å")
        save(argon, fcc_argon(2), path)
    return f'{{ kind = "torchscript", path = "{path}", trust = "{digest(path)}"{more} }}'


def log_of(run: Run) -> np.ndarray:
    table: np.ndarray = np.genfromtxt(run.path / "log.csv", delimiter=",", skip_header=1)
    return table


def force_of(run: Run) -> dict[str, str]:
    found: dict[str, str] = json.loads((run.path / "run.json").read_text())["platform"]["force"]
    return found


@pytest.mark.parametrize("stages", [NVE, NPT], ids=["nve", "npt"])
def test_a_run_by_a_module_is_the_run_by_its_potential(stages: str, tmp_path: Path) -> None:
    own = simulate(write_input(tmp_path / "own", stages, potential=ARGON, options=HOT), tmp_path / "one")
    table = module_table(tmp_path, ', route = "python"')
    path = write_input(tmp_path / "its", stages, potential=table, options=HOT)
    its = simulate(path, tmp_path / "two")
    assert force_of(its) == {"name": "PythonForce", "why": 'route = "python" in the input'}
    assert "forces by PythonForce: route" in (its.path / "messages.log").read_text()
    # sums in another order, after 200 steps of a crystal
    np.testing.assert_allclose(log_of(its), log_of(own), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("stages", [NVE, NPT], ids=["nve", "npt"])
def test_openmm_asks_the_module_with_the_numbers_of_python(
    stages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_python = module_table(tmp_path, ', route = "python"')
    python = simulate(write_input(tmp_path / "a", stages, potential=by_python, options=HOT), tmp_path / "one")
    working(tmp_path / "plugin", monkeypatch)
    path = write_input(tmp_path / "b", stages, potential=module_table(tmp_path), options=HOT)
    plugin = simulate(path, tmp_path / "two")
    assert force_of(plugin)["name"] == "TorchForce"
    assert "forces by TorchForce: the plugin openmmtorch gives" in (plugin.path / "messages.log").read_text()
    np.testing.assert_allclose(log_of(plugin), log_of(python), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_run_by_the_plugin_goes_on_as_if_it_had_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working(tmp_path / "plugin", monkeypatch)
    path = write_input(tmp_path, NPT, potential=module_table(tmp_path), options=HOT)
    whole, parts = simulate(path, tmp_path / "one"), run_in_parts(path, tmp_path / "two", [50, 120])
    np.testing.assert_array_equal(log_of(parts), log_of(whole))
    assert "statistically" not in (parts.path / "messages.log").read_text()


@pytest.mark.slow
def test_a_run_may_go_on_by_another_route_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runs import stopping

    from mlmd.errors import Stopped

    out = tmp_path / "run"
    path = write_input(tmp_path, NVE, potential=module_table(tmp_path, ', route = "python"'), options=HOT)
    with pytest.raises(Stopped):
        simulate(path, out, progress=stopping(out, 100))
    working(tmp_path / "plugin", monkeypatch)
    path = write_input(tmp_path, NVE, potential=module_table(tmp_path, ', route = "torchforce"'), options=HOT)
    run = simulate(path, out)
    assert run.manifest["state"] == "done"
    assert run.manifest["continued"][-1]["platform"]["force"]["name"] == "TorchForce"
    told = (run.path / "messages.log").read_text()
    assert "continues statistically, not bit for bit: force: PythonForce before, TorchForce now" in told


@pytest.mark.parametrize("way", WAYS_THAT_FAIL)
def test_a_plugin_that_does_not_work_is_passed_by(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, said = WAYS[way]
    stand_in(source, tmp_path / "plugin", monkeypatch)
    stages = NVE.replace("1 ps", "50 fs")
    run = simulate(write_input(tmp_path, stages, potential=module_table(tmp_path), options=HOT), tmp_path / "run")
    assert force_of(run)["name"] == "PythonForce"
    assert "the plugin openmmtorch failed its self-test: " in force_of(run)["why"]
    assert said in force_of(run)["why"]
    assert "openmmtorch" not in sys.modules  # it was never let in


@pytest.mark.slow
def test_the_guard_looks_at_forces_that_openmm_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working(tmp_path / "plugin", monkeypatch)
    guard = '\n[guard]\nmax_force = "0.12 eV/Å"\n'
    path = write_input(
        tmp_path, NVE + guard, potential=module_table(tmp_path), options='velocities = "300 K"',
        output='log_every = "1 ps"\ntrajectory_every = "1 ps"',
    )  # fmt: skip
    with pytest.raises(SimulationError, match=r"the force on atom .* above \[guard\] max_force") as failure:
        simulate(path, tmp_path / "run")
    step = re.search(r"at step (\d+)", str(failure.value))
    # looked at after the first step and `LOOK_EVERY` steps later, not first in the line of the log, at step 200; in so
    # many steps atoms go farther than the 0.5 Å that they may go in one
    assert step is not None and int(step[1]) <= 1 + LOOK_EVERY


@pytest.mark.parametrize(
    ("more", "stages", "why"),
    [
        (f', python = "{sys.executable}"', NVE, "the module runs in another environment"),
        (', precision = "float32"', NVE, 'precision = "float32" is asked for, and OpenMM gives its own'),
        ("", NVE + 'plumed = "bias.dat"\n', "the bias of stage 1 is added in Python at every step"),
    ],
    ids=["another environment", "precision", "bias"],
)
def test_what_the_plugin_cannot_do_is_done_in_python(
    more: str, stages: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "plumed" in stages:
        pytest.importorskip("plumed")
    working(tmp_path / "plugin", monkeypatch)
    (tmp_path / "bias.dat").write_text("d: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=4.0 KAPPA=0.1\n")
    stages = stages.replace("1 ps", "50 fs")
    path = write_input(tmp_path, stages, potential=module_table(tmp_path, more), options=HOT)
    assert force_of(simulate(path, tmp_path / "run")) == {"name": "PythonForce", "why": why}
    forced = module_table(tmp_path, f'{more}, route = "torchforce"')
    with pytest.raises(InputError, match='route = "torchforce" cannot be taken: ') as refusal:
        simulate(write_input(tmp_path, stages, potential=forced, options=HOT), tmp_path / "other")
    assert why in str(refusal.value)
    assert not (tmp_path / "other" / "run.json").exists()


def test_of_replicas_that_exchange_only_those_without_a_factor_have_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working(tmp_path / "plugin", monkeypatch)
    path = write_input(
        tmp_path, '[replicas]\nscales = [1, 0.8]\nexchange_every = "20 fs"\n\n' + NVT, potential=module_table(tmp_path),
        options='scale = "replica"',
    )  # fmt: skip
    simulate_replicas(path, tmp_path / "out", threads=1)
    assert force_of(open_run(tmp_path / "out" / "scale1"))["name"] == "TorchForce"
    assert force_of(open_run(tmp_path / "out" / "scale0.8")) == {"name": "PythonForce", "why": "its energy is scaled"}


@pytest.mark.slow
def test_a_module_in_a_sum_is_asked_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working(tmp_path / "plugin", monkeypatch)
    path = write_input(tmp_path, NVE.replace("1 ps", "50 fs"), potential=f"[{module_table(tmp_path)}, {ARGON}]")
    text = path.read_text().replace("timestep", HOT + "\ntimestep", 1)
    path.write_text(text)
    assert force_of(simulate(path, tmp_path / "run"))["why"] == "the module is one part of a sum"


def test_check_tells_the_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_input(tmp_path, NVE, potential=module_table(tmp_path, ', route = "python"'), options=HOT)
    answer = mlmd("check", path)
    assert answer.code == 0, answer.err
    assert "forces by PythonForce" in answer.out


def test_a_wrong_route_is_one_message(tmp_path: Path) -> None:
    path = write_input(tmp_path, NVE, potential=module_table(tmp_path, ', route = "torchforces"'), options=HOT)
    answer = mlmd("simulate", path, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "route: 'torchforces' is not a route. Did you mean 'torchforce'?" in answer.err


def test_nothing_of_an_untrusted_module_reaches_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(f"open({str(tmp_path / 'canary')!r}, 'w')\n", tmp_path / "plugin", monkeypatch)
    saved(tmp_path / "springs.pt", Springs())
    path = write_input(tmp_path, NVE, potential='{ kind = "torchscript", path = "springs.pt" }', options=HOT)
    assert mlmd("simulate", path, "--out", tmp_path / "run").code == 6
    assert not (tmp_path / "canary").exists()
