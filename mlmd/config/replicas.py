"""``[replicas]`` in the input of ``mlmd simulate``: one input, a run for every structure, temperature, pressure and
seed.

Where the input says ``"replica"`` (``structure``, a temperature or a pressure of a stage, an end of a ramp,
``velocities``, ``scale``, the centre of an umbrella, or the number of a walker), each run has its own value. Everything
else is the same for all, but for the seed. With ``exchange_every`` the runs are one: replica exchange.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from mlmd.config.exchange import Exchange, exchange_of
from mlmd.config.explain import explain
from mlmd.config.quantities import Pressure, Quantity, Time, refuse, shorten
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
_WORDS = {
    "structures": "structure", "temperatures": "temperature", "pressures": "pressure", "scales": "scale",
    "centres": "at", "walkers": "number",
}  # fmt: skip
"""Lists, and the key that takes each of their values."""
_EXAMPLES = {
    "structures": '["x0.cif", "x1.cif"]',
    "temperatures": '["300 K", "600 K"]',
    "pressures": '["1 bar", "1 kbar"]',
    "scales": "[1, 0.8]",
    "centres": '["3 Å", "4 Å"]',
}


class Ladder(Table):
    """Temperatures of which each is the one before times the same factor."""

    lowest: Annotated[float, Quantity("temperature", above=0.0)] = Field(
        examples=["300 K"], description="first temperature"
    )
    highest: Annotated[float, Quantity("temperature", above=0.0)] = Field(
        examples=["600 K"], description="last temperature"
    )
    count: Annotated[int, Field(ge=2, le=MOST)] = Field(description="how many there are, both ends included")

    @model_validator(mode="after")
    def _goes_up(self) -> Ladder:
        """From low to high, in steps that a name can show."""
        if self.lowest >= self.highest:
            raise refuse("lowest: a temperature below highest is needed.")
        if len(set(self.values())) < self.count:
            raise refuse(f"count: {self.count} temperatures are less than 0.01 K apart.")
        return self

    def values(self) -> tuple[float, ...]:
        """K, those between the ends rounded to 0.01 K: folders are named by them."""
        ratio = self.highest / self.lowest
        between = (self.lowest * ratio ** (n / (self.count - 1)) for n in range(1, self.count - 1))
        return (self.lowest, *(round(one, 2) for one in between), self.highest)


def _centre(value: object) -> object:
    """A place of an umbrella as people write it; what it means is known by the variable."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse(f'{shorten(value)} is not a place of an umbrella. Write for example "3.5 Å".')
    return value


class Replicas(Table):
    """Runs of one input, independent or with exchanges: one for each combination of what is listed here."""

    structures: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], NONEMPTY, Field(strict=False)] | None = (
        Field(
            default=None,
            examples=[["x0.cif", "x1.cif"]],
            description="structure files, e.g. of several compositions: each is what "
            'structure = "replica" at the top of the file means',
        )
    )
    temperatures: (
        Annotated[
            Annotated[
                tuple[Annotated[float, Quantity("temperature", above=0.0)], ...],
                NONEMPTY,
                Field(strict=False),
                Tag("[list]"),
            ]
            | Annotated[Ladder, Tag("[ladder]")],
            Discriminator(lambda value: "[ladder]" if isinstance(value, Mapping | Ladder) else "[list]"),
        ]
        | None
    ) = Field(
        default=None,
        examples=[["300 K", "600 K"]],
        description='temperatures: each is what "replica" means as a temperature of a stage, or an end of its ramp, '
        "or as velocities; in a geometric series { lowest, highest, count }",
    )
    pressures: Annotated[tuple[Pressure, ...], NONEMPTY, Field(strict=False)] | None = Field(
        default=None,
        examples=[["1 bar", "1 kbar"]],
        description='pressures: each is what "replica" means as a pressure of a stage',
    )
    scales: (
        Annotated[
            tuple[Annotated[float, Field(strict=False, gt=0.0, allow_inf_nan=False)], ...],
            NONEMPTY,
            Field(strict=False),
        ]
        | None
    ) = Field(
        default=None,
        examples=[[1.0, 0.8, 0.6]],
        description='factors on the potential: each is what scale = "replica" at the top of the file means',
    )
    centres: Annotated[tuple[Annotated[Any, BeforeValidator(_centre)], ...], NONEMPTY, Field(strict=False)] | None = (
        Field(
            default=None,
            examples=[["3 Å", "3.5 Å", "4 Å"]],
            description='places of umbrellas: each is what at = "replica" of a bias of kind umbrella means',
        )
    )
    walkers: Annotated[int, Field(ge=2, le=MOST)] | None = Field(
        default=None,
        examples=[4],
        description="runs that fill one free energy together: each is what number means in "
        'walkers = { folder = ..., number = "replica" } of a bias, and count is how many they are',
    )
    exchange_every: Time | None = Field(
        default=None,
        examples=["1 ps"],
        description="simulated time between exchanges of neighbours; without it the runs are independent",
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
        for key, values in self.lists.items():
            twice = next((value for n, value in enumerate(values) if value in values[:n]), None)
            if twice is not None:
                plain = key not in ("temperatures", "pressures")
                shown = str(twice) if plain else with_unit(twice, key.removesuffix("s"))
                example = _EXAMPLES[key]
                raise refuse(f"{key}: {shown} stands there twice; seeds = 2 makes two runs of each, e.g. of {example}.")
        if not self.lists and self.seeds == 1:
            raise refuse(
                "nothing is listed: give structures, temperatures, pressures or seeds. Scales, centres and walkers "
                "count too."
            )
        if self.structures is not None and self.exchange_every is not None:
            raise refuse(
                "structures: replicas that exchange are one system. Leave structures out, and give each an input."
            )
        if self.walkers is not None and (len(self.lists) > 1 or self.seeds > 1 or self.exchange_every is not None):
            raise refuse(
                "walkers: all walkers fill one free energy, of one temperature: they stand alone, without other lists, "
                "seeds or exchange_every. Each has its own seed already."
            )
        n = math.prod(self.shape)
        if n > MOST:
            raise refuse(f"these are {n:,} runs; {MOST:,} are possible.")
        if self.slurm is not None and self.exchange_every is not None:
            raise refuse(
                "slurm: replicas that exchange take turns in one process. Leave slurm out, and submit the command "
                "itself as one job."
            )
        return self

    @property
    def lists(self) -> dict[str, tuple[Any, ...]]:
        """What is listed, by its key."""
        given = {key: getattr(self, key) for key in _WORDS}
        return {key: _listed(values) for key, values in given.items() if values is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of all lists, one where there is none, and the number of seeds."""
        return (*(len(self.lists.get(key, (None,))) for key in _WORDS), self.seeds)


def _listed(values: Ladder | int | tuple[Any, ...]) -> tuple[Any, ...]:
    """All values of a list, however it is written: walkers are counted from 0."""
    if isinstance(values, Ladder):
        return values.values()
    return tuple(range(values)) if isinstance(values, int) else values


@dataclass(frozen=True)
class Replica:
    """One of the runs."""

    name: str
    """Of its folder, e.g. ``600K``, ``600K_1bar-2``."""
    values: Mapping[str, Any]
    """Its own value of each list."""
    config: Simulate

    @property
    def temperature(self) -> float | None:
        """K, where temperatures are listed."""
        return self.values.get("temperatures")

    @property
    def pressure(self) -> float | None:
        """bar, where pressures are listed."""
        return self.values.get("pressures")

    def text(self) -> str:
        """Its input, complete in itself: every option, paths from the root."""
        data = resolved(self.config)
        if len(data["potential"]) == 1:
            (data["potential"],) = data["potential"]
        return document(data)


@dataclass(frozen=True)
class Runs:
    """All runs of an input."""

    replicas: tuple[Replica, ...]
    """In the order of the lists, seeds changing fastest."""
    exchange: Exchange | None
    """How they exchange; None where they are independent."""


def has_replicas(path: str | Path) -> bool:
    """Whether an input describes several runs.

    Raises:
        InputError: the file cannot be read, or is not TOML.
    """
    return "replicas" in read_toml(Path(path))


def load_replicas(path: str | Path, seed: int = 0) -> tuple[Replica, ...]:
    """All runs of an input, in the order of its lists; arguments and errors are those of `load_runs`."""
    return load_runs(path, seed).replicas


def load_runs(path: str | Path, seed: int = 0) -> Runs:
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
    found: list[Replica] = []
    for *values, number in itertools.product(*table.lists.values(), range(1, table.seeds + 1)):
        own = dict(zip(table.lists, values, strict=True))
        name = _name(own, number)
        if name in {one.name for one in found}:
            raise InputError(
                f"{path.name}: replicas: two runs would have the folder {name}. Write their values so that "
                "they differ in letters and digits, or leave one out."
            )
        try:
            config = Simulate.model_validate(
                _filled(data, name, seed, own, table.walkers), context={"folder": path.absolute().parent}
            )
        except ValidationError as error:
            lines = explain(error, Simulate, data)
            raise InputError("\n".join(f"{path.name}: {line}" for line in lines)) from None
        found.append(Replica(name, own, config))
    if table.exchange_every is None:
        return Runs(tuple(found), None)
    try:
        exchange = exchange_of(table.exchange_every, table.shape, [one.config for one in found])
    except InputError as error:
        raise InputError("\n".join(f"{path.name}: replicas: {line}" for line in str(error).splitlines())) from None
    return Runs(tuple(found), exchange)


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


def _name(own: Mapping[str, Any], number: int) -> str:
    """What a person calls the replica."""
    shown = {
        "structures": "{}",
        "temperatures": "{:.12g}K",
        "pressures": "{:.12g}bar",
        "scales": "scale{:.12g}",
        "centres": "at{}",
        "walkers": "walker-{}",
    }
    plain = {"centres": _plain, "structures": _called}
    values = [shown[key].format(plain.get(key, lambda value: value)(value)) for key, value in own.items()]
    if not values:
        return f"replica-{number}"
    return "_".join(values) + (f"-{number}" if number > 1 else "")


def _plain(value: object) -> str:
    """A place of an umbrella in letters that every file system takes."""
    text = str(value).replace("Å", "A").replace("°", "deg")
    return re.sub(r"[^0-9A-Za-z.+-]", "", text)


def _called(file: str) -> str:
    """A structure by the name of its file, and of its folder where all files are called alike (``x0/POSCAR``)."""
    path = Path(file)
    named = [path.parent.name, path.name] if not path.suffix and path.parent.name else [path.stem]
    return _plain("-".join(named)) or "structure"


def _words(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every place of the word in an input, with the kind of value that is meant."""
    if data.get("structure") == WORD:
        yield "structure", "structures"
    if data.get("velocities") == WORD:
        yield "velocities", "temperatures"
    if data.get("scale") == WORD:
        yield "scale", "scales"
    stages = data.get("stage")
    for number, stage in enumerate(stages if isinstance(stages, list) else (), 1):
        if not isinstance(stage, Mapping):
            continue
        for key in ("temperature", "pressure"):
            if _says(stage.get(key)):
                yield f"stage {number}: {key}", f"{key}s"
        biases = [bias for bias in _biases(stage) if isinstance(bias, Mapping)]
        if any(_says(bias.get("at")) for bias in biases):
            yield f"stage {number}: bias: at", "centres"
        if any(_says(_walkers(bias).get("number")) for bias in biases):
            yield f"stage {number}: bias: walkers: number", "walkers"


def _biases(stage: Mapping[str, Any]) -> list[Any]:
    """What stands under ``bias``, which may be one table."""
    given = stage.get("bias")
    return given if isinstance(given, list) else [given]


def _walkers(bias: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a bias says of walkers."""
    given = bias.get("walkers")
    return given if isinstance(given, Mapping) else {}


def _says(value: Any) -> bool:
    """Whether a value is the word, or a list or table with it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return any(map(_says, value)) if isinstance(value, list) else bool(value == WORD)


def _misplaced(table: Replicas, words: Mapping[str, str]) -> Iterator[str]:
    """Values that no stage takes, and stages that ask for values that are not listed."""
    for place, listed in words.items():
        if listed not in table.lists:
            yield f'{place}: "{WORD}" stands here, and [replicas] lists no {listed}.'
    for key in table.lists:
        if key not in words.values():
            what = "nothing takes them" if key in ("scales", "structures") else "no stage takes them"
            word = f'{_WORDS[key]} = "{WORD}"'
            word = f"walkers = {{ folder = ..., {word} }} in a bias" if key == "walkers" else word
            yield f"replicas: {key}: {what}: write {word} where they belong."


def _filled(data: Mapping[str, Any], name: str, seed: int, own: Mapping[str, Any], count: int | None) -> dict[str, Any]:
    """The input of one replica, one of `count` walkers where they are."""
    written = {
        _WORDS[key]: with_unit(value, _WORDS[key]) if key in ("temperatures", "pressures") else value
        for key, value in own.items()
    }
    filled = dict(data)
    at_the_top = {"structure": "structure", "velocities": "temperature", "scale": "scale"}
    for key, value in ((key, written.get(one)) for key, one in at_the_top.items()):
        if key in data:
            filled[key] = _put(data[key], value)
    if isinstance(data.get("stage"), list):
        filled["stage"] = [_stage(stage, written, count) for stage in data["stage"]]
    given = data.get("seed", seed)
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:  # what is wrong is told by the model
        filled["seed"] = seed_of(given, name)
    return filled


def _stage(stage: Any, own: Mapping[str, Any], count: int | None) -> Any:
    """A table with its own values in it; the biases of a stage are such tables."""
    if not isinstance(stage, Mapping):
        return stage
    filled = {
        key: _put(value, own.get(key)) if key in ("temperature", "pressure", "at") else value
        for key, value in stage.items()
    }
    if "bias" in stage:
        filled["bias"] = [
            _stage(one, {"at": own.get("at"), "number": own.get("number")}, count) for one in _biases(stage)
        ]
    if count is not None and (given := _walkers(stage)).get("number") == WORD:
        filled["walkers"] = {**given, "count": _count(given, count), "number": own.get("number")}
    return filled


def _count(given: Mapping[str, Any], count: int) -> Any:
    """How many walkers there are: others beside those of this input are waited for by nobody."""
    if given.get("count", count) != count:
        raise InputError(
            f"walkers: count = {given['count']} in the bias, and [replicas] walkers = {count}. Leave count out."
        )
    return count


def _put(value: Any, own: Any) -> Any:
    """A value with the word replaced, also within lists and tables."""
    if isinstance(value, Mapping):
        return {key: _put(item, own) for key, item in value.items()}
    if isinstance(value, list):
        return [_put(item, own) for item in value]
    return own if value == WORD and own is not None else value
