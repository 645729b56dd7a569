"""``[replicas]`` in the input of ``mlmd simulate``: one input, a run for every temperature, pressure and seed.

Where the input says ``"replica"`` (a temperature or a pressure of a stage, an end of a ramp, or ``velocities``), each
run has its own value. Everything else is the same for all, but for the seed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from mlmd.config.explain import explain
from mlmd.config.quantities import Pressure, Quantity, refuse
from mlmd.config.read import read_toml
from mlmd.config.resolve import resolved
from mlmd.config.simulate import Simulate
from mlmd.config.slurm import Slurm
from mlmd.config.table import NONEMPTY, Table
from mlmd.config.toml import document
from mlmd.errors import InputError
from mlmd.units import with_unit

WORD = "replica"
"""What stands in an input where each replica has a value of its own."""
MOST = 1000
"""Runs; more are a mistake in the lists."""


class Replicas(Table):
    """Independent runs of one input: one for each combination of what is listed here."""

    temperatures: (
        Annotated[tuple[Annotated[float, Quantity("temperature", above=0.0)], ...], NONEMPTY, Field(strict=False)]
        | None
    ) = Field(
        default=None,
        examples=[["300 K", "600 K"]],
        description='temperatures: each is what "replica" means as a temperature of a stage, or an end of its ramp, '
        "or as velocities",
    )
    pressures: Annotated[tuple[Pressure, ...], NONEMPTY, Field(strict=False)] | None = Field(
        default=None,
        examples=[["1 bar", "1 kbar"]],
        description='pressures: each is what "replica" means as a pressure of a stage',
    )
    seeds: Annotated[int, Field(ge=1)] = Field(
        default=1, description="runs of each combination, which differ in their seeds; all seeds follow from that above"
    )

    slurm: Slurm | None = Field(
        default=None, description="submit a job of Slurm for each run, with a table; without it runs are processes here"
    )

    @model_validator(mode="after")
    def _several(self) -> Replicas:
        """Something has to differ, and no two runs may be the same."""
        for key, example in (("temperatures", '["300 K", "600 K"]'), ("pressures", '["1 bar", "1 kbar"]')):
            values = getattr(self, key) or ()
            twice = next((value for n, value in enumerate(values) if value in values[:n]), None)
            if twice is not None:
                shown = with_unit(twice, key.removesuffix("s"))
                raise refuse(f"{key}: {shown} stands there twice; seeds = 2 makes two runs of each, e.g. of {example}.")
        if self.temperatures is None and self.pressures is None and self.seeds == 1:
            raise refuse("nothing is listed: give temperatures, pressures or seeds.")
        n = len(self.temperatures or (0,)) * len(self.pressures or (0,)) * self.seeds
        if n > MOST:
            raise refuse(f"these are {n:,} runs; {MOST:,} are possible.")
        return self


@dataclass(frozen=True)
class Replica:
    """One of the runs."""

    name: str
    """Of its folder, e.g. ``600K``, ``600K_1bar-2``."""
    temperature: float | None
    """K, where temperatures are listed."""
    pressure: float | None
    """bar, where pressures are listed."""
    config: Simulate

    def text(self) -> str:
        """Its input, complete in itself: every option, paths from the root."""
        data = resolved(self.config)
        if len(data["potential"]) == 1:
            (data["potential"],) = data["potential"]
        return document(data)


def has_replicas(path: str | Path) -> bool:
    """Whether an input describes several runs.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    return "replicas" in read_toml(Path(path))


def load_replicas(path: str | Path, seed: int = 0) -> tuple[Replica, ...]:
    """All runs of an input, in the order of its lists, seeds changing fastest; paths count from its folder.

    Args:
        path: of an input with ``[replicas]``.
        seed: what the seeds follow from where the input has none.

    Raises:
        InputError: with one line for each thing that is wrong.
    """
    path = Path(path)
    data = read_toml(path)
    table = _table(path, data.pop("replicas"))
    problems = [*_misplaced(table, dict(_words(data)))]
    stages = data.get("stage")
    if isinstance(stages, list) and any(isinstance(one, Mapping) and one.get("kind") == "rerun" for one in stages):
        problems = ["replicas: a rerun has nothing in which runs could differ. Give each trajectory an input."]
    if problems:
        raise InputError("\n".join(f"{path.name}: {line}" for line in problems))
    found = []
    for temperature, pressure, number in itertools.product(
        table.temperatures or (None,), table.pressures or (None,), range(1, table.seeds + 1)
    ):
        name = _name(temperature, pressure, number)
        try:
            config = Simulate.model_validate(
                _filled(data, name, seed, temperature, pressure), context={"folder": path.absolute().parent}
            )
        except ValidationError as error:
            lines = explain(error, Simulate, data)
            raise InputError("\n".join(f"{path.name}: {line}" for line in lines)) from None
        found.append(Replica(name, temperature, pressure, config))
    return tuple(found)


def slurm_of(path: str | Path) -> Slurm | None:
    """What the jobs of an input with ``[replicas]`` ask Slurm for; None where it has processes.

    Raises:
        InputError: with one line for each thing that is wrong in that table.
    """
    path = Path(path)
    return _table(path, read_toml(path)["replicas"]).slurm


def _table(path: Path, given: Any) -> Replicas:
    try:
        return Replicas.model_validate(given)
    except ValidationError as error:
        lines = explain(error, Replicas, given if isinstance(given, Mapping) else {})
        raise InputError("\n".join(f"{path.name}: replicas: {line}" for line in lines)) from None


def base_seed(path: str | Path) -> int | None:
    """The seed at the top of an input, which all seeds of its replicas follow from; None where there is none."""
    seed = read_toml(Path(path)).get("seed")
    return seed if isinstance(seed, int) else None


def seed_of(seed: int, name: str) -> int:
    """The seed of a replica: another for each name, so that no two feel the same random forces.

    Equal random numbers would pull trajectories of neighbouring temperatures together (Uberuaga et al., J. Chem. Phys.
    120, 6363, 2004). It depends on nothing else, so that the others stay what they are when the lists grow.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big") >> 1


def _name(temperature: float | None, pressure: float | None, number: int) -> str:
    """What a person calls the replica."""
    values = [f"{value:.12g}{unit}" for value, unit in ((temperature, "K"), (pressure, "bar")) if value is not None]
    if not values:
        return f"replica-{number}"
    return "_".join(values) + (f"-{number}" if number > 1 else "")


def _words(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every place of the word in an input, with the kind of value that is meant."""
    if data.get("velocities") == WORD:
        yield "velocities", "temperatures"
    stages = data.get("stage")
    for number, stage in enumerate(stages if isinstance(stages, list) else (), 1):
        for key in ("temperature", "pressure"):
            value = stage.get(key) if isinstance(stage, Mapping) else None
            if _says(value):
                yield f"stage {number}: {key}", f"{key}s"


def _says(value: Any) -> bool:
    """Whether a value is the word, or a list or table with it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return any(map(_says, value)) if isinstance(value, list) else bool(value == WORD)


def _misplaced(table: Replicas, words: Mapping[str, str]) -> Iterator[str]:
    """Values that no stage takes, and stages that ask for values that are not listed."""
    for place, listed in words.items():
        if getattr(table, listed) is None:
            yield f'{place}: "{WORD}" stands here, and [replicas] lists no {listed}.'
    for key in ("temperatures", "pressures"):
        if getattr(table, key) is not None and key not in words.values():
            yield f'replicas: {key}: no stage takes them: write {key.removesuffix("s")} = "{WORD}" where they belong.'


def _filled(
    data: Mapping[str, Any], name: str, seed: int, temperature: float | None, pressure: float | None
) -> dict[str, Any]:
    """The input of one replica."""
    warm = None if temperature is None else with_unit(temperature, "temperature")
    squeezed = None if pressure is None else with_unit(pressure, "pressure")
    filled = dict(data)
    if "velocities" in data:
        filled["velocities"] = _put(data["velocities"], warm)
    if isinstance(data.get("stage"), list):
        filled["stage"] = [_stage(stage, warm, squeezed) for stage in data["stage"]]
    given = data.get("seed", seed)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:  # what is wrong is told by the model
        filled["seed"] = seed_of(given, name)
    return filled


def _stage(stage: Any, temperature: str | None, pressure: str | None) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    own = {"temperature": temperature, "pressure": pressure}
    return {key: _put(value, own[key]) if key in own else value for key, value in stage.items()}


def _put(value: Any, own: str | None) -> Any:
    """A value with the word replaced, also within lists and tables."""
    if isinstance(value, Mapping):
        return {key: _put(item, own) for key, item in value.items()}
    if isinstance(value, list):
        return [_put(item, own) for item in value]
    return own if value == WORD and own is not None else value
