"""A bias that is computed while the potential is: the same run to the last byte, and failures as without that."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import assert_same_run, run_in_parts, write_input

from mlmd.bias.hyperdynamics import BondBoost
from mlmd.bias.plumed import PlumedBias, working_in
from mlmd.bias.script import read_script
from mlmd.engine import beside as beside_of
from mlmd.engine import forces as engine_forces
from mlmd.engine.beside import Beside, leaves_core
from mlmd.engine.forces import Forces
from mlmd.engine.hyperdynamics import StageBoost
from mlmd.engine.run import simulate
from mlmd.errors import SimulationError
from mlmd.potentials import Evaluation

STAGE = '[[stage]]\nkind = "nvt"\ntemperature = "60 K"\nduration = "0.5 ps"\nplumed = "bias.dat"\n'
NPT = STAGE.replace("nvt", "npt").replace(
    '60 K"\n', '60 K"\npressure = "1 bar"\nbarostat = { kind = "anisotropic", every = 4 }\n'
)
METAD = (
    "d: DISTANCE ATOMS=1,2\nv: VOLUME\n"
    "metad: METAD ARG=d SIGMA=0.02 HEIGHT=0.1 PACE=7 BIASFACTOR=8 TEMP=60 GRID_MIN=0 GRID_MAX=3\n"
    "PRINT ARG=d,v,metad.bias FILE=COLVAR STRIDE=3\n"
)
ENERGY = "e: ENERGY\nr: RESTRAINT ARG=e AT=-100 KAPPA=0.001\nPRINT ARG=e,r.bias FILE=COLVAR STRIDE=3\n"
ABF = STAGE.replace(
    'plumed = "bias.dat"',
    'bias = [{ kind = "abf", cv = [{ kind = "distance", atoms = [0, 1] }], minimum = "2 Å", maximum = "8 Å", '
    'width = "0.5 Å" }]',
)
CHANGES_FOLDER = """
import os
import time
from pathlib import Path
from ase.calculators.lj import LennardJones


class Own(LennardJones):
    def calculate(self, *arguments):
        before = os.getcwd()
        os.chdir(Path(__file__).with_name("elsewhere"))
        super().calculate(*arguments)
        time.sleep(0.01)
        os.chdir(before)
"""
CELL = 20.0 * np.eye(3)


@pytest.fixture
def threads_of_biases(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the threads in which PLUMED computed; every potential counts as slow."""
    seen: set[str] = set()
    compute = PlumedBias.compute

    def watched(self: PlumedBias, *arguments: Any) -> float:
        seen.add(threading.current_thread().name.partition("_")[0])
        return compute(self, *arguments)

    monkeypatch.setattr(PlumedBias, "compute", watched)
    monkeypatch.setattr(engine_forces, "SLOW", -1.0)
    return seen


def biased(folder: Path, script: str, stage: str = STAGE) -> Path:
    """An input with a script."""
    path = write_input(
        folder, stage, output='log_every = "50 fs"\ntrajectory_every = "100 fs"\ncheckpoint_every = 60.0'
    )
    (folder / "bias.dat").write_text(script)
    return path


@pytest.mark.parametrize("stage", [STAGE, NPT, ABF], ids=["nvt", "npt", "abf"])
def test_the_run_is_the_same_to_the_last_byte(stage: str, tmp_path: Path, threads_of_biases: set[str]) -> None:
    path, plumed = biased(tmp_path, METAD, stage), ("HILLS", "COLVAR") if "plumed" in stage else ()
    simulate(path, tmp_path / "after", threads=1, cores=1)
    assert threads_of_biases == {"MainThread"}
    simulate(path, tmp_path / "beside", threads=1, cores=2)
    assert "beside" in threads_of_biases
    assert_same_run(tmp_path / "after", tmp_path / "beside", plumed)
    run_in_parts(path, tmp_path / "parts", [30], threads=1, cores=2)
    for name in plumed:  # continued, PLUMED reads its hills with the digits that it has written
        wanted, found = (np.loadtxt(tmp_path / run / name) for run in ("after", "parts"))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
    if not plumed:
        assert_same_run(tmp_path / "after", tmp_path / "parts")


def test_a_bias_of_the_energy_waits_for_the_potential(tmp_path: Path, threads_of_biases: set[str]) -> None:
    path = biased(tmp_path, ENERGY)
    simulate(path, tmp_path / "run", threads=1, cores=2)
    assert threads_of_biases == {"MainThread"}
    energies = np.loadtxt(tmp_path / "run" / "COLVAR")[:, 1]
    assert (energies < -1.0).all()  # kJ/mol, and not the zero that a bias gets to which energies do not matter


@pytest.mark.parametrize(
    ("script", "uses"),
    [
        (METAD, False),
        (ENERGY, True),
        (ENERGY.replace("e: ENERGY", "ENERGY LABEL=e"), True),
        ("e: ENERGY\necv: ECV_MULTITHERMAL ARG=e TEMP_MAX=100 TEMP=60\nOPES_EXPANDED ARG=ecv.* PACE=10\n", True),
    ],
)
def test_words_tell_what_plumed_needs(script: str, uses: bool, tmp_path: Path) -> None:
    (tmp_path / "bias.dat").write_text(script)
    read = read_script(tmp_path / "bias.dat")
    assert read.uses_energy == uses
    with working_in(tmp_path):
        bias = PlumedBias(read, masses=np.full(32, 40.0), timestep=5.0, temperature=60.0)
        assert bias.independent != uses
        bias.compute(0, np.arange(96.0).reshape(32, 3), CELL, -1.0, np.zeros((32, 3)), np.zeros((3, 3)))
        needed = np.zeros(1, dtype=np.intc)
        bias._plumed.cmd("isEnergyNeeded", needed)
        assert bool(needed[0]) == uses
        bias.close()


def test_an_energy_that_words_hide_is_asked_for(tmp_path: Path) -> None:
    path = biased(tmp_path, ENERGY.replace("ENERGY", "ENER{G}Y"))
    with pytest.raises(SimulationError, match=r"bias\.dat: PLUMED needs the energy .* write the action as ENERGY"):
        simulate(path, tmp_path / "run", threads=1, cores=2)
    why = (tmp_path / "run" / "crash" / "why.txt").read_text()
    assert why.endswith("write the action as ENERGY.\n")  # there is no frame yet, and no other potential would help


@pytest.mark.parametrize(("python", "where"), [("", {"MainThread"}), (sys.executable, {"MainThread", "beside"})])
def test_a_calculator_that_may_change_the_folder_in_which_plumed_writes_is_waited_for(
    python: str, where: set[str], tmp_path: Path, threads_of_biases: set[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "own.py").write_text(CHANGES_FOLDER)
    path = biased(tmp_path, METAD, STAGE.replace("0.5 ps", "0.1 ps"))
    other = f', python = "{python}"' if python else ""
    digest = sha256((tmp_path / "own.py").read_bytes()).hexdigest()
    table = f'{{ kind = "ase", calculator = "own.py:Own", trust = "sha256:{digest}"{other} }}'
    path.write_text(re.sub("potential = .*", f"potential = {table}", path.read_text()))
    simulate(path, tmp_path / "run", threads=1, cores=2)
    assert threads_of_biases == where
    assert not list((tmp_path / "elsewhere").iterdir())


def test_hyperdynamics_asks_the_same_potential_and_waits() -> None:
    assert not StageBoost.independent
    assert issubclass(StageBoost, BondBoost)


class Slowly:
    """A potential that does something before it answers."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """A constant pull."""
        self.act()
        return Evaluation(1.0, np.ones_like(positions), np.zeros((3, 3)))


class Push:
    """A bias that says when it was computed."""

    name, restarted, independent = "push", False, True

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act, self.pending = act, False
        self.calls: list[str] = []

    def compute(self, step: int, positions: Any, cell: Any, energy: float, forces: Any, virial: Any) -> float:
        """Two for each atom."""
        self.act()
        self.calls.append(f"compute {step}")
        self.pending = True
        forces += 2.0
        virial += 3.0
        return 0.5

    def update(self) -> None:
        """Noted, where there is anything to update."""
        if self.pending:
            self.calls.append("update")
        self.pending = False


def of(potential: Callable[[], None], bias: Push) -> Forces:
    """Their sum, as where a core is free; the potential was slow before."""
    forces = Forces(Slowly(potential), CELL, bias=bias, free_core=True)  # type: ignore[arg-type]
    forces._slow = True
    return forces


def test_both_go_on_at_the_same_time() -> None:
    meet = threading.Barrier(2, timeout=20.0)  # broken, an error, where one follows the other
    answer = of(meet.wait, Push(meet.wait)).at(np.zeros((2, 3)), 0)
    assert answer.evaluation.energy == 1.5 and answer.potential.energy == 1.0
    assert (answer.evaluation.forces == 3.0).all() and (answer.potential.forces == 1.0).all()
    assert (answer.evaluation.virial == 3.0).all()


def test_a_step_is_updated_before_the_next_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_forces, "SLOW", -1.0)
    bias = Push()
    forces = of(lambda: None, bias)
    for step in (0, 0, 1):
        forces.at(np.full((2, 3), 0.1 * len(bias.calls)), step)
    forces.at(forces.answer.positions, 2)  # type: ignore[union-attr]
    assert bias.calls == ["compute 0", "compute 0", "update", "compute 1", "update", "compute 2"]


def test_a_fast_potential_is_not_kept_waiting_for_a_thread() -> None:
    names: list[str] = []
    bias = Push(lambda: names.append(threading.current_thread().name))
    forces = Forces(Slowly(lambda: None), CELL, bias=bias, free_core=True)  # type: ignore[arg-type]
    for step in range(3):
        forces.at(np.full((2, 3), 0.1 * step), step)
    assert set(names) == {"MainThread"}


def test_a_failing_bias_is_told_as_without_a_thread() -> None:
    def fail() -> None:
        raise SimulationError("PLUMED stopped")

    for beside in (True, False):
        forces = of(lambda: None, Push(fail))
        forces.beside = forces.beside if beside else None
        with pytest.raises(SimulationError, match="PLUMED stopped"):
            forces.at(np.zeros((2, 3)), 0)


def test_where_both_fail_the_same_is_told_with_and_without_a_thread() -> None:
    def stop() -> None:
        raise SimulationError("PLUMED stopped")

    def fail() -> None:
        raise RuntimeError("no convergence")

    for beside in (True, False):
        forces = of(fail, Push(stop))
        forces.beside = forces.beside if beside else None
        with pytest.raises(SimulationError, match="PLUMED stopped"):
            forces.at(np.zeros((2, 3)), 0)


def test_an_interrupt_is_no_failure_that_another_may_hide() -> None:
    def stop() -> None:
        raise SimulationError("PLUMED stopped")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(interrupt, Push(stop)).at(np.zeros((2, 3)), 0)


def test_a_failing_potential_leaves_no_bias_at_work() -> None:
    begun, done = threading.Event(), threading.Event()

    def slowly() -> None:
        begun.set()
        threading.Event().wait(0.3)
        done.set()

    def fail() -> None:
        begun.wait(20.0)
        raise RuntimeError("no convergence")

    with pytest.raises(RuntimeError, match="no convergence"):
        of(fail, Push(slowly)).at(np.zeros((2, 3)), 0)
    assert done.is_set()


def test_an_impatient_interrupt_is_heard_when_nothing_is_at_work_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, done, wait = threading.Event(), threading.Event(), beside_of.wait
    times: list[int] = []

    def interrupted(futures: Any) -> Any:
        times.append(len(times))
        if len(times) == 1:
            raise KeyboardInterrupt  # as from a signal while it waits
        go_on.set()
        return wait(futures)

    def slowly() -> None:
        go_on.wait(20.0)
        done.set()

    monkeypatch.setattr(beside_of, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        of(lambda: None, Push(slowly)).at(np.zeros((2, 3)), 0)
    assert done.is_set() and len(times) == 2


def test_a_jump_ends_the_step_before() -> None:
    bias = Push()
    forces = Forces(Slowly(lambda: None), CELL, bias=bias, max_displacement=1.0, free_core=True)  # type: ignore[arg-type]
    forces.at(np.zeros((2, 3)), 0)
    with pytest.raises(SimulationError):
        forces.at(np.ones((2, 3)), 1)
    assert bias.calls == ["compute 0", "update"]


@pytest.mark.parametrize(
    ("hardware", "free"),
    [
        ({"threads": 1, "device": "cpu", "cores": 2}, True),
        ({"threads": 2, "device": "cpu", "cores": 2}, False),
        ({"threads": 2, "device": "cuda:0", "cores": 2}, True),
        ({"threads": 2, "device": "cuda", "cores": 1}, False),
        ({"threads": 1, "device": "cpu"}, False),
    ],
)
def test_whether_a_core_is_free(hardware: dict[str, Any], free: bool) -> None:
    assert leaves_core(hardware) == free


def test_the_thread_ends_with_its_owner() -> None:
    beside = Beside()
    thread, here = beside.both(threading.current_thread, threading.current_thread)
    assert thread is not here is threading.main_thread()
    del beside
    thread.join(20.0)
    assert not thread.is_alive()
