"""For each row of the scorecard what would break it: each is done to mlmd in the test's process and in its children.

``python -m tests.reliability --mutations`` shows that the tests of a row fail then. Nothing of it is in the product.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "MLMD_TEST_MUTATION"
"""Environment variable with the name of the mutation that is done, which is that of its row."""


def apply(name: str | None) -> None:
    """Do a mutation, or nothing."""
    if name:
        MUTATIONS[name]()


def _single_precision_velocities() -> None:
    """R01: the velocities of a continued run have the precision of a trajectory."""
    import numpy as np

    from mlmd.engine import course
    from mlmd.engine.system import SPEED, velocities_of

    original = course.resume

    def resume(stage: Any, *arguments: Any, **options: Any) -> None:
        original(stage, *arguments, **options)
        stage.context.setVelocities(np.float32(velocities_of(stage.context)).astype(float) / SPEED)

    course.resume = resume


def _no_random_state() -> None:
    """R02: the random numbers of the thermostat begin anew."""
    from mlmd.engine.commit import Commit

    Commit.same_machine = lambda self, saved: False  # type: ignore[method-assign,assignment]


def _nothing_is_cut() -> None:
    """R03, R05: files go on behind what was written after the checkpoint."""
    from mlmd.engine import commit

    commit.rewind = lambda folder, recorded, names: []  # type: ignore[assignment]


def _bias_is_not_cut() -> None:
    """R04: only log and trajectory are cut back, PLUMED's files are not."""
    from mlmd.engine import commit
    from mlmd.rundir import LOG

    original = commit.rewind

    def rewind(folder: Path, recorded: Any, names: Any) -> Any:
        own = {name for name in names if name == LOG or name.startswith("trajectory.")}
        kept = [{name: entry for name, entry in one.items() if name in own} for one in (recorded, names)]
        return original(folder, *kept)

    commit.rewind = rewind


def _adaptive_force_forgets() -> None:
    """R04: what an adaptive force has collected is not given back to it."""
    from mlmd.bias import adaptive

    adaptive._Adaptive.restore = lambda self, state, *, same_stage: None  # type: ignore[method-assign]


def _no_checksum() -> None:
    """R06: a checkpoint is believed as it is."""
    from types import SimpleNamespace

    from mlmd.engine import checkpoint

    checkpoint.hashlib = SimpleNamespace(sha256=lambda content: SimpleNamespace(digest=lambda: bytes(32)))


def _no_fingerprint() -> None:
    """R07: of files only the size is compared."""
    from mlmd.engine import outputs

    outputs.fingerprint = lambda *arguments: ""  # type: ignore[assignment]


def _plumed_is_believed() -> None:
    """R08: nobody looks whether PLUMED could write its lines."""
    from mlmd.bias.written import Written

    Written.check = lambda self, step: None  # type: ignore[method-assign,assignment]


def _plain_errors() -> None:
    """R09: an error of the operating system at the run folder comes as it is."""
    from mlmd.engine import run

    original = run.reserved

    def reserved(folder: Path) -> Any:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeError(str(error)) from error
        return original(folder)

    run.reserved = reserved


def _no_checkpoint_at_signals() -> None:
    """R10: the first signal ends the run at once."""
    from mlmd.engine.stop import StopRequest

    def receive(self: Any, number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    StopRequest._receive = receive  # type: ignore[method-assign]


def _no_lock() -> None:
    """R11: nobody holds a folder."""
    from mlmd import rundir

    rundir._lock = lambda descriptor, folder: None  # type: ignore[assignment]


def _bare_parser() -> None:
    """R12: what the TOML parser says is not caught."""
    import tomllib

    original = tomllib.loads

    def loads(text: str, **options: Any) -> Any:
        try:
            return original(text, **options)
        except ValueError as error:
            raise KeyError(str(error)) from None

    tomllib.loads = loads  # type: ignore[assignment]


def _unsound_structures() -> None:
    """R13: a structure is taken as its reader gives it."""
    from mlmd.io import structures

    structures.check_structure = lambda *arguments, **options: None


def _any_element() -> None:
    """R14: nobody asks whether the potential knows the elements."""
    from mlmd.engine import job, preview

    for module in (job, preview):
        if hasattr(module, "check_elements"):
            module.check_elements = lambda *arguments: None


def _no_inspection() -> None:
    """R15: energy and forces go to OpenMM unseen."""
    from mlmd.engine.forces import Forces

    Forces._inspect = lambda self, answer: None  # type: ignore[method-assign,assignment]


def _no_guard() -> None:
    """R16: the guard is off."""
    from mlmd.engine import stage
    from mlmd.engine.forces import Forces
    from mlmd.engine.guard import Thermometer

    original = Forces.__init__

    def begin(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **{**options, "max_force": None, "max_displacement": None})

    Forces.__init__ = begin  # type: ignore[method-assign]
    Thermometer.look = lambda self, temperature, target, step, time: None  # type: ignore[method-assign,assignment]
    stage.check_distances = lambda *arguments: None


def _no_watch() -> None:
    """R17: nobody looks at what a potential says of its errors."""
    from mlmd.engine.watch import Watch

    Watch.check = lambda self, found, step, time: None  # type: ignore[method-assign,assignment]


def _friction_in_nve() -> None:
    """R18: NVE is coupled to a bath, weakly."""
    import openmm

    from mlmd.config import NVE
    from mlmd.engine import stage as stages
    from mlmd.engine.system import PS

    original = stages.make_integrator

    def make(stage: Any, timestep: float, seed: int) -> Any:
        if not isinstance(stage, NVE):
            return original(stage, timestep, seed)
        return openmm.LangevinMiddleIntegrator(30.0, 0.02, timestep / PS)

    stages.make_integrator = make


def _warmer() -> None:
    """R19: velocities at the start are a tenth too warm."""
    from mlmd.engine import course

    original = course.maxwell_boltzmann
    course.maxwell_boltzmann = lambda body, temperature, rng: original(body, 1.1 * temperature, rng)


def _scaled_answers(**factors: float) -> None:
    """Forces or virials of every potential are a little wrong."""
    from dataclasses import replace

    from mlmd.engine.forces import Forces

    original = Forces._evaluate

    def evaluate(self: Any, positions: Any, cell: Any, step: int) -> Any:
        answer = original(self, positions, cell, step)
        changed = replace(
            answer.evaluation, **{name: getattr(answer.evaluation, name) * factor for name, factor in factors.items()}
        )
        return replace(answer, evaluation=changed)

    Forces._evaluate = evaluate  # type: ignore[method-assign]


def _other_virial() -> None:
    """R20: the virial is off by 1e-4."""
    _scaled_answers(virial=1.0001)


def _other_forces() -> None:
    """R21: forces of models are off by 1e-3."""
    from mlmd.potentials import EnergyModel

    original = EnergyModel.predict

    def predict(self: Any, graph: Any) -> Any:
        from dataclasses import replace

        found = original(self, graph)
        return replace(found, forces=found.forces * 1.001)

    EnergyModel.predict = predict  # type: ignore[method-assign]


def _bias_without_forces() -> None:
    """R22: the bias pushes nothing."""
    from mlmd.bias.plumed import PlumedBias

    original = PlumedBias.compute

    def compute(self: Any, step: int, positions: Any, cell: Any, energy: float, forces: Any, virial: Any) -> float:
        return original(self, step, positions, cell, energy, forces.copy(), virial)

    PlumedBias.compute = compute  # type: ignore[method-assign]


def _no_seed() -> None:
    """R24: velocities are drawn from the clock."""
    import numpy as np

    from mlmd.engine import course

    original = course.maxwell_boltzmann
    course.maxwell_boltzmann = lambda body, temperature, rng: original(body, temperature, np.random.default_rng())


def _device_is_a_bug() -> None:
    """R25: what a graphics card says is taken for a bug."""
    from mlmd.engine import run

    run.device_error = lambda *arguments: None


def _everything_is_trusted() -> None:
    """R23: files that can execute code are opened without a digest."""
    from mlmd.potentials import trust
    from mlmd.pretrained import external

    for module in (trust, external):
        if hasattr(module, "check"):
            module.check = lambda *arguments: None


def _ten_digits() -> None:
    """R26: times have ten digits."""
    from mlmd.engine.outputs import Log

    original = Log.row

    def row(self: Any, step: int, stage: int, values: Any) -> None:
        time, *others = values
        original(self, step, stage, [float(f"{time:.10g}"), *others])

    Log.row = row  # type: ignore[method-assign]


def _newest_by_date() -> None:
    """R27: the checkpoint written last is taken."""
    from mlmd.engine import checkpoint

    def by_date(folder: Path) -> list[Path]:
        return sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True)

    checkpoint._by_age = by_date


MUTATIONS: dict[str, Callable[[], None]] = {
    "R01": _single_precision_velocities,
    "R02": _no_random_state,
    "R03": _nothing_is_cut,
    "R04": _bias_is_not_cut,
    "R04 adaptive": _adaptive_force_forgets,
    "R05": _nothing_is_cut,
    "R06": _no_checksum,
    "R07": _no_fingerprint,
    "R08": _plumed_is_believed,
    "R09": _plain_errors,
    "R10": _no_checkpoint_at_signals,
    "R11": _no_lock,
    "R12": _bare_parser,
    "R13": _unsound_structures,
    "R14": _any_element,
    "R15": _no_inspection,
    "R16": _no_guard,
    "R17": _no_watch,
    "R18": _friction_in_nve,
    "R19": _warmer,
    "R20": _other_virial,
    "R21": _other_forces,
    "R22": _bias_without_forces,
    "R23": _everything_is_trusted,
    "R24": _no_seed,
    "R25": _device_is_a_bug,
    "R26": _ten_digits,
    "R27": _newest_by_date,
}
"""What is broken for each row."""
