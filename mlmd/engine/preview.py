"""What an input would do: everything checked, a few real force calls, nothing written."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mlmd.config import Minimize, Rerun, Simulate, check_files, load_simulate
from mlmd.config.bias import OPES, Metadynamics
from mlmd.config.ending import stop_of
from mlmd.config.replicas import load_runs, slurm_of
from mlmd.config.rerun import rerun_of
from mlmd.config.stages import Dynamics
from mlmd.config.stop import FIRST_LOOK
from mlmd.engine import slab
from mlmd.engine.early_end import strides_of
from mlmd.engine.guard import question
from mlmd.engine.job import Job, check_biases, doubtful_biases, models_of, potential_name, prepare, warnings_of
from mlmd.engine.mixed import field_platform
from mlmd.engine.replay import cell_notes
from mlmd.engine.replicas import shares
from mlmd.engine.schedule import stage_records
from mlmd.engine.selfcheck import self_check
from mlmd.engine.system import choose_platform
from mlmd.engine.torch_force import route_of
from mlmd.neighbors import build_graph
from mlmd.potentials import Evaluation, has_energy
from mlmd.potentials.device import choose_device
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.on_gpu import why_slow
from mlmd.pretrained.reference import compare
from mlmd.rundir import StageRecord, describe_targets
from mlmd.units import BAR, DENSITY, with_unit

BUDGET = 2.0
"""Seconds of force calls, unless a single call takes longer."""
UNUSUAL = {"torchscript": 3, "ase": 1}
"""Calls after the first that are slower than those that follow: TorchScript compiles a module for what it has seen, a
hundred times slower, and it is tried which lists a calculator of ASE may keep."""
DISPLACEMENT = 0.02
"""Å moved at random between calls: about one step of dynamics, so that pair lists are used as in a run."""
OVERHEAD = (60e-6, 5e-8)
"""Seconds per step, and per step and atom, of everything around the potential (``benchmarks/step.py``)."""
STRONG = 5.0
"""eV/Å: a force that no sound structure has at rest."""
SQUEEZED = 1e5
"""bar: a pressure that is rarely meant."""
TIMESTEP, TIMESTEP_WITH_HYDROGEN = 10.0, 2.0
"""fs: longer steps rarely conserve the energy."""
SHORT = 0.05
"""fs: a timestep that no atoms need; one of ps without its unit is shorter."""
UNITS = {
    "volume": "_A3", "density": "_g_per_cm3", "cutoff": "_A", "energy": "_eV_per_atom", "max_force": "_eV_per_A",
    "pressure": "_bar", "memory": "_MB", "trajectory": "_MB",
}  # fmt: skip
"""What follows a key in JSON."""
FRAME_BYTES = {"dcd": 12.0, "xtc": 5.0, "extxyz": 60.0}
"""Bytes of a trajectory per atom and frame, about."""


@dataclass(frozen=True)
class Preview:
    """What is known about a run before it begins."""

    input: str
    formula: str
    n_atoms: int
    volume: float | None
    """Å³; None without full periodicity."""
    density: float | None
    """g/cm³."""
    potential: str
    cutoff: float
    """Å."""
    stages: tuple[str, ...]
    n_steps: int
    """Steps of dynamics in all stages; frames of a rerun."""
    energy: float | None
    """eV per atom of the structure as it is; None where the potential has no energy."""
    max_force: float
    """eV/Å."""
    pressure: float | None
    """bar, of the structure at rest, where it is known."""
    seconds_per_step: float
    ns_per_day: float
    hours: float
    memory: float
    """MB, the most that this process has used so far: an upper limit when it checked other inputs before."""
    trajectory: float
    """MB that the trajectory will have."""
    notes: tuple[str, ...] = field(default=())
    replicas: tuple[str, ...] = field(default=())
    """Names of the runs that all numbers of time and trajectory are the sum of; empty for one run."""
    n_processes: int = 1
    """Runs at a time."""
    moves: bool = True
    """Whether there is dynamics, which a rerun has not."""
    exchange_every: int | None = None
    """Steps between exchanges of replicas; None for independent runs."""
    command: Literal["simulate"] = "simulate"

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        return {key + UNITS.get(key, ""): value for key, value in asdict(self).items()}


def preview(path: Path, device: str = "auto") -> Preview:
    """Check an input as `simulate` does and measure its forces.

    Args:
        path: input file.
        device: where the potential computes.

    Raises:
        InputError, ModelError: whatever `simulate` would refuse.
    """
    return _preview(load_simulate(path), path, device)


def preview_replicas(path: Path, device: str = "auto") -> Preview:
    """Check an input with ``[replicas]``, and measure the forces of one of them with the threads that each will have.

    The time is that of all, so many at a time as `mlmd simulate` takes by default.

    Raises:
        InputError, ModelError: whatever `simulate_replicas` would refuse.
    """
    runs = load_runs(path)
    replicas, exchange = runs.replicas, runs.exchange
    slurm, n_processes = slurm_of(path), len(replicas)
    notes: list[str] = []
    if slurm is None:
        n_processes, threads = shares(len(replicas), None if exchange is None else 1, None, device)
    else:
        threads = shares(1, None, slurm.cpus, device)[1]
        notes = [f"As jobs of Slurm all run at a time, if it lets them; the speed is that of {threads} threads here."]
    if exchange is not None:
        from mlmd.engine.exchange import doubts_of, prepared

        check_files(replicas[0].config, path)
        notes += doubts_of(runs, prepared(replicas)[0])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        one = _preview(replicas[0].config, path, device)
    finally:
        torch.set_num_threads(before)
    return replace(
        one,
        hours=one.hours * math.ceil(len(replicas) / n_processes),
        trajectory=one.trajectory * len(replicas),
        stages=tuple(
            _stage_of_all(records) for records in zip(*(stage_records(r.config) for r in replicas), strict=True)
        ),
        replicas=tuple(replica.name for replica in replicas),
        n_processes=n_processes,
        exchange_every=None if exchange is None else exchange.every,
        notes=(*notes, *one.notes),
    )


def _stage_of_all(records: Sequence[StageRecord]) -> str:
    """A stage of the first replica, with what the last has instead."""
    first, last = _stage(records[0]), _stage(records[-1])
    return first if first == last else f"{first} … {last}"


def _preview(config: Simulate, path: Path, device: str) -> Preview:
    check_files(config, path)
    job = prepare(config)
    said = check_biases(job)
    where = choose_device(device, job.potential)
    first, seconds = _measure(job, where)
    warnings = [f"PLUMED warns: {warning}" for one in said for warning in one.warnings]
    summary = _summary(path, job, first, seconds, where)
    return replace(summary, notes=(*dict.fromkeys(warnings), *summary.notes))


def _measure(job: Job, device: str) -> tuple[Evaluation, float]:
    """Forces of the structure as it is, and seconds per call while atoms jitter."""
    positions, cell = job.atoms.get_positions(), job.atoms.cell.array
    name, properties = field_platform("auto", device, None)
    engine = job.evaluator(device, {"force field": {"openmm": name, "properties": properties}})
    first = engine.evaluate(positions, cell)
    random = np.random.default_rng(0)
    times: list[float] = []
    for _ in range(max((UNUSUAL.get(table.kind or "", 0) for table in job.config.potential), default=0)):
        engine.evaluate(positions + random.normal(0.0, DISPLACEMENT, positions.shape), cell)
    while sum(times) < BUDGET and len(times) < 20:
        moved = positions + random.normal(0.0, DISPLACEMENT, positions.shape)
        start = time.perf_counter()
        engine.evaluate(moved, cell)
        times.append(time.perf_counter() - start)
    return first, float(np.median(times))


def _summary(path: Path, job: Job, first: Evaluation, seconds: float, device: str) -> Preview:
    """Everything in one record."""
    n_atoms, config = job.body.n_atoms, job.config
    step = seconds + OVERHEAD[0] + OVERHEAD[1] * n_atoms
    n_steps = sum(stage.n_steps for stage in job.stages) if job.replay is None else job.replay.n_frames
    volume = job.atoms.get_volume() if job.body.pbc.all() else None
    return Preview(
        input=str(path),
        formula=job.atoms.get_chemical_formula("metal"),
        n_atoms=n_atoms,
        volume=volume,
        density=float(job.body.masses.sum()) / volume * DENSITY if volume else None,
        potential=_potential(job),
        cutoff=float(job.potential.cutoff),
        stages=tuple(_stage(stage) for stage in job.stages),
        n_steps=n_steps,
        energy=first.energy / n_atoms if has_energy(job.potential) else None,
        max_force=float(np.linalg.norm(first.forces, axis=1).max()),
        pressure=_pressure(job, first),
        seconds_per_step=step,
        ns_per_day=86400 / step * config.timestep * 1e-6 if job.replay is None else 0.0,
        hours=n_steps * step / 3600,
        memory=_memory(),
        trajectory=_atoms_in_frames(job) * FRAME_BYTES[config.output.trajectory_format] / 1e6,
        notes=_notes(job, first, device),
        moves=job.replay is None,
    )  # fmt: skip


def _potential(job: Job) -> str:
    """What acts on the atoms, e.g. ``ani of 22 atoms in amber14-all.xml``."""
    config = job.config
    named = potential_name(config)
    if job.mixed is None or config.mlmm is None:
        return named
    fields = " + ".join(Path(name).name for name in config.mlmm.forcefield)
    return f"{named} of {len(job.mixed.region)} atoms in {fields}"


def _atoms_in_frames(job: Job) -> float:
    """Atoms in all frames that will be written, those that arrive counted."""
    n_atoms, total = float(job.body.n_atoms), 0.0
    if (again := rerun_of(job.config)) is not None and job.replay is not None:
        return n_atoms * job.replay.n_frames if again.forces else 0.0
    for record in job.stages:
        arriving = 0.0
        if (plan := job.deposits.get(record.index)) is not None:
            arriving = plan.n_events(record.n_steps) * plan.mean_size
        total += record.n_steps // record.trajectory_every * (n_atoms + arriving / 2)
        n_atoms += arriving
    return total


def _stage(stage: StageRecord) -> str:
    """A stage in a few words, e.g. ``nvt 300→600 K 20 ps``."""
    words = [stage.kind]
    for ends, unit in ((stage.temperature, "K"), (stage.pressure, "bar")):
        if ends is not None:
            words.append(f"{describe_targets(ends)} {unit}")
    if stage.frames:
        (begin, *_), n_frames = stage.frames[0], sum(number for _, _, number in stage.frames)
        words.append(f"{n_frames:,} frames, steps {begin:,} to {stage.n_steps:,},")
        words.append(f"{begin * stage.timestep / 1e3:g} to {stage.n_steps * stage.timestep / 1e3:g} ps")
    elif stage.n_steps:
        words.append(f"{stage.n_steps * stage.timestep / 1e3:g} ps")
    return " ".join(words)


def _memory() -> float:
    """MB, the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts bytes, Linux kB


def _notes(job: Job, first: Evaluation, device: str) -> tuple[str, ...]:
    """What is allowed and may still surprise."""
    notes = [*warnings_of(job.potential), *_suspicions(job, first), *_doubtful_steps(job), *_idle_biases(job)]
    if job.replay is not None:
        notes += [*job.replay.notes, *(one for script in job.scripts.values() for one in cell_notes(script, job.atoms))]
    platform, properties = choose_platform("auto", None, device)
    if job.replay is None and (route := route_of(job, platform, properties, device)) is not None:
        notes.append(str(route))
    if models_of(job.potential):
        notes += compare(job.potential, device)
        own = job.atoms if job.mixed is None else job.atoms[job.mixed.region]
        notes += self_check(predictor(job.potential, device), own)
    slow = why_slow(job.potential, device)
    if slow:
        notes.append(slow)
    limit, largest = job.config.guard.max_force, float(np.linalg.norm(first.forces, axis=1).max())
    starts_with_dynamics = job.stages[0].n_steps > 0 and job.replay is None
    if limit is not None and largest > limit and starts_with_dynamics and job.config.guard.enabled:
        notes.append(f"the largest force, {largest:.3g} eV/Å, is above guard.max_force: begin with a minimize stage")
    constrained = job.atoms.info.get("constrained")
    if constrained and job.config.frozen is None and job.replay is None:
        notes.append(f"the structure file fixes {len(constrained)} atoms; here they move, unless [frozen] names them")
    for record in job.stages:
        if (plan := job.deposits.get(record.index)) is not None:
            place = f"stage {record.index + 1} (deposit)"
            notes.append(f"{place}: {slab.describe(plan, record.n_steps, record.timestep)}")
            if plan.stage.height < plan.cutoff:
                notes.append(
                    f"{place}: height, {plan.stage.height:g} Å, is less than the cutoff of the potential, "
                    f"{plan.cutoff:g} Å: what arrives feels the surface as it appears"
                )
    notes += [*dict.fromkeys(doubtful_biases(job)), *_early_ends(job)]
    if job.config.seed is None and job.replay is None:
        notes.append("no seed: it will be drawn and written to run.json")
    return tuple(notes)


def _early_ends(job: Job) -> Iterator[str]:
    """Stages that may be shorter than they are said to be."""
    for record in job.stages:
        place = f"stage {record.index + 1} ({record.kind})"
        if (stop := stop_of(job.config, record.index)) is not None:
            every = (record.log_every if stop.in_log else record.trajectory_every) * record.timestep
            yield (
                f"{place} ends before, when {stop.quantity} has a relative error of {stop.relative_error:g}: it is "
                f"looked at after {FIRST_LOOK * every / 1e3:g} ps, and whenever the stage is a quarter longer"
            )
        if (script := job.scripts.get(record.index)) is not None and strides_of(script):
            yield f"{place} ends before, where COMMITTOR of {script.path.name} finds a basin"


def _suspicions(job: Job, first: Evaluation) -> Iterator[str]:
    """Forces, pressures and distances of what was read with the wrong elements or in other units."""
    found = []
    largest = float(np.linalg.norm(first.forces, axis=1).max())
    if largest > STRONG:
        found.append(f"the largest force is {largest:.3g} eV/Å")
    pressure = _pressure(job, first)
    if pressure is not None and abs(pressure) > SQUEEZED:
        found.append(f"the pressure is {pressure:.3g} bar")
    if found:
        yield f"{' and '.join(found)}: {question(job.config)}"
    cutoff = float(job.potential.cutoff)
    if cutoff and job.mixed is None and job.body.n_atoms > 1 and not build_graph(job.atoms, cutoff).pairs.numel():
        yield f"no atom has another within the cutoff, {cutoff:g} Å: are the lengths of the structure in Å?"


def _doubtful_steps(job: Job) -> Iterator[str]:
    """Long timesteps, and durations that are no whole number of steps."""
    timestep, config = job.config.timestep, job.config
    if config.dynamics and timestep > TIMESTEP:
        yield f"the timestep, {timestep:g} fs, is long: does nve conserve the energy with it?"
    elif config.dynamics and 1 in job.body.numbers and timestep > TIMESTEP_WITH_HYDROGEN and not config.hydrogen_mass:
        yield f'the timestep, {timestep:g} fs, is long for hydrogen: take 1 fs, or set hydrogen_mass = "3 amu"'
    elif config.dynamics and timestep < SHORT:
        yield f"the timestep, {timestep:g} fs, is very short: was it meant in ps?"
    for stage, record in zip(config.stage, job.stages, strict=True):
        if isinstance(stage, Minimize | Rerun):
            continue
        length = record.n_steps * timestep
        if abs(length - stage.duration) > 1e-6 * timestep:
            yield (
                f"stage {record.index + 1} ({stage.kind}): {stage.duration:.12g} fs is no whole number of steps; "
                f"it will be {record.n_steps:,} steps, {length:.12g} fs"
            )


def _idle_biases(job: Job) -> Iterator[str]:
    """Biases that would never act, and that the speed does not count them."""
    for number, stage in enumerate(job.config.stage, 1):
        if isinstance(stage, Dynamics):
            place = f"stage {number} ({stage.kind})"
            for bias in stage.bias:
                if isinstance(bias, Metadynamics | OPES) and bias.every > stage.duration:
                    every, length = (with_unit(value, "time") for value in (bias.every, stage.duration))
                    yield f"{place}: {bias.kind}: every, {every}, is longer than the stage, {length}: nothing is added"
            if stage.bias or stage.plumed is not None:
                yield f"{place}: the speed leaves out the bias; PLUMED takes some 0.1 to 0.4 ms a step"


def _pressure(job: Job, first: Evaluation) -> float | None:
    """bar, of the structure at rest; None without full periodicity, and where the potential has no stress."""
    if not job.body.pbc.all() or not has_energy(job.potential) or job.mixed is not None:
        return None
    return -float(np.trace(first.virial)) / (3 * job.atoms.get_volume()) / BAR
