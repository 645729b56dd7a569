"""``[replicas] slurm = { ... }``: what each job of a cluster asks Slurm for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from mlmd.config.quantities import Quantity, refuse, shorten
from mlmd.config.table import Table

TAKEN = {
    "account": "account", "cpus-per-task": "cpus", "gpus": "gpus", "gpus-per-node": "gpus", "gpus-per-task": "gpus",
    "mem": "memory", "partition": "partition", "time": "time",
}  # fmt: skip
"""Option of sbatch -> the key that stands for it."""
OURS = {"array", "error", "job-name", "nodes", "ntasks", "open-mode", "output", "requeue", "signal"}
"""Options of sbatch that follow from what a job is."""


def _line(value: object) -> str:
    """Text of one line, which a script of a shell can hold."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise refuse(f"{shorten(value)}: text in quotes is needed, on one line.")
    return value


def _extra(value: object) -> dict[str, str | int | bool]:
    """Options of sbatch, their dashes left out."""
    if not isinstance(value, dict):
        raise refuse(f'{shorten(value)}: a table is needed, for example {{ qos = "long" }}.')
    for key, given in value.items():
        name = str(key).replace("_", "-")
        if name in TAKEN:
            raise refuse(f"{key!r} has a key of its own: {TAKEN[name]}.")
        if name in OURS:
            raise refuse(f"{key!r} is set by mlmd, which restarts its jobs.")
        if not name.replace("-", "").isalnum() or not name.isascii():
            raise refuse(f"{key!r} is not an option of sbatch. Write it without its dashes.")
        if given is not True and type(given) is not int:
            _line(given)
    return dict(value)


Line = Annotated[str, BeforeValidator(_line)]


class Slurm(Table):
    """Jobs of Slurm, one for each replica."""

    time: Annotated[float, Quantity("wall time", least=120.0)] = Field(
        examples=["24 h"],
        description="limit of a job; before it a run makes a checkpoint, and its job goes back to the queue",
    )
    partition: Line | None = Field(default=None, examples=["gpu"], description="where jobs run; else Slurm chooses")
    cpus: Annotated[int, Field(ge=1)] = Field(default=1, description="cores of each run, and threads of its potential")
    gpus: Annotated[int, Field(ge=0)] = Field(default=0, description="graphics cards of each run")
    memory: Line | None = Field(default=None, examples=["16G"], description="of each run, as sbatch has it")
    account: Line | None = Field(default=None, description="what is charged")
    extra: Annotated[dict[str, str | int | bool], BeforeValidator(_extra)] = Field(
        default={}, description='more options of sbatch, without their dashes: { qos = "long" }'
    )
    setup: Annotated[tuple[Line, ...], Field(strict=False)] = Field(
        default=(), description='lines of the shell before each run: ["module load cuda"]'
    )
