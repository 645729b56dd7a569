"""What an input says in steps and files, known without loading anything heavy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlmd.config import NPT, NVT, Deposit, Dynamics, Rerun, Schedule, Simulate, Stage
from mlmd.config.bias import files_of_biases
from mlmd.config.files import structure_file
from mlmd.config.fluxes import flux_steps
from mlmd.config.needed import files_of_table
from mlmd.config.stages import temperatures_of
from mlmd.rundir import StageRecord, open_run


def stage_records(config: Simulate, steps: Sequence[int] = ()) -> tuple[StageRecord, ...]:
    """Steps, intervals and targets of all stages; `steps` are those of a rerun's frames, which only its file tells."""
    records, first_step = [], 0
    for index, stage in enumerate(config.stage):
        if isinstance(stage, Rerun):
            records.append(_of_rerun(index, stage, config.timestep, steps))
            continue
        n_steps = stage.n_steps(config.timestep)
        records.append(
            StageRecord(
                index, stage.kind, first_step, n_steps, config.timestep,
                temperature=_temperature(stage),
                pressure=stage.pressure if isinstance(stage, NPT) else None,
                log_every=max(1, round(config.output.log_every / config.timestep)),
                trajectory_every=max(1, round(config.output.trajectory_every / config.timestep)),
                barostat=stage.barostat.kind if isinstance(stage, NPT) else None,
                shape=_shape(stage),
                fluxes_every=flux_steps(config),
            )
        )  # fmt: skip
        first_step += n_steps
    return tuple(records)


def _of_rerun(index: int, stage: Rerun, timestep: float, steps: Sequence[int]) -> StageRecord:
    """A rerun, whose steps are those of the dynamics that its frames are of."""
    temperature = None if stage.temperature is None else (stage.temperature, stage.temperature)
    return StageRecord(
        index, stage.kind, 0, int(steps[-1]) if len(steps) else 0, timestep, temperature=temperature, pressure=None,
        log_every=1, trajectory_every=1, barostat=None, frames=tuple(_ranges(steps)),
    )  # fmt: skip


def _ranges(steps: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Growing numbers as ranges: the first of each, the distance from one to the next, and how many."""
    first = 0
    while first < len(steps):
        last, distance = first, int(steps[first + 1] - steps[first]) if first + 1 < len(steps) else 1
        while last + 1 < len(steps) and int(steps[last + 1] - steps[last]) == distance:
            last += 1
        yield int(steps[first]), distance, last - first + 1
        first = last + 1


def _shape(stage: Stage) -> str:
    """How the temperature goes from one point to the next."""
    if isinstance(stage, NVT | NPT) and isinstance(stage.temperature, Schedule):
        return stage.temperature.shape
    return "linear"


def files_of(config: Simulate) -> dict[str, Path]:
    """All files an input names, by what they are."""
    files = {"structure": structure_file(config.structure)}
    for number, table in enumerate(config.potential, 1):
        name = "potential" if len(config.potential) == 1 else f"potential {number}"
        files |= files_of_table(name, table)
    if config.mlmm is not None:
        own = [Path(name) for name in config.mlmm.forcefield if Path(name).is_absolute()]
        files |= {f"force field {number}": path for number, path in enumerate(own, 1)}
    for number, stage in enumerate(config.stage, 1):
        if isinstance(stage, Rerun):
            files[f"trajectory of stage {number}"] = trajectory_file(stage.trajectory)
        if isinstance(stage, Dynamics | Rerun) and stage.plumed is not None:
            files[f"plumed of stage {number}"] = stage.plumed.file
        if isinstance(stage, Dynamics | Rerun):
            files |= {f"{what} of stage {number}": structure_file(path) for what, path in files_of_biases(stage.bias)}
        if isinstance(stage, Deposit):
            named = [one.file for one in stage.species if one.file is not None]
            files |= {f"species of stage {number}: {path.name}": structure_file(path) for path in named}
    return files


def trajectory_file(path: Path) -> Path:
    """The file of frames that a path means, which may be a run folder."""
    return open_run(path).trajectory if path.is_dir() else path


def _temperature(stage: Stage) -> tuple[float, ...] | None:
    """Targets of a stage, K: at its start, where the way to the next one changes, and at its end."""
    if isinstance(stage, Deposit):
        return None if stage.bath is None else (stage.bath.temperature, stage.bath.temperature)
    return temperatures_of(stage) if isinstance(stage, NVT | NPT) else None


def usual_temperature(record: StageRecord, config: Simulate, earlier: Sequence[StageRecord]) -> float | None:
    """K: what a stage without a thermostat is measured by: the last target before it, or how the run began.

    What arrives heats a slab without a bath, for which there is no measure then.
    """
    if record.kind == "deposit":
        return None
    targets = [one.target_temperature(one.n_steps / one.planned) for one in earlier if one.temperature is not None]
    return targets[-1] if targets else config.start_temperature
