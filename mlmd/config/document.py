"""Documentation written from the models: the table of options and the input files to start from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.fields import FieldInfo

from mlmd.config.baseline import Baseline
from mlmd.config.bias import (
    ABF,
    OPES,
    LowerWall,
    Metadynamics,
    OPESExpanded,
    Steered,
    Umbrella,
    UpperWall,
    Walkers,
)
from mlmd.config.deposit import Bath, Beam, Deposit, Species
from mlmd.config.descriptors import ACSF, AGNI, MTP, NEP, SNAP, SOAP, Combination, DeepPotSE, Trained
from mlmd.config.fits import AGNIFit, GAPFit, KernelFit, KernelRidgeFit, LinearFit, NetworkFit, RandomFeaturesFit
from mlmd.config.heat import HeatExchange
from mlmd.config.hyperdynamics import Hyperdynamics
from mlmd.config.loss import Loss
from mlmd.config.mlmm import MLMM
from mlmd.config.potential import PotentialTable
from mlmd.config.quantities import Quantity
from mlmd.config.replicas import Ladder, Replicas
from mlmd.config.resolve import resolved
from mlmd.config.simulate import Analysis, Frozen, Guard, Output, Simulate, UncertaintyLimits
from mlmd.config.slurm import Slurm
from mlmd.config.stages import NPT, NVE, NVT, Barostat, Langevin, Minimize, NoseHoover, Plumed, Rerun, Schedule
from mlmd.config.structures import Average, CoulombMatrix, ManyBodyTensor, MBTRTerm, Property, StructureCombination
from mlmd.config.table import Table
from mlmd.config.toml import inline
from mlmd.config.train import Card, DataTable, Train, Uncertainty
from mlmd.config.variables import RMSD, Angle, Coordination, Distance, PlumedLine, Position, Torsion
from mlmd.errors import InputError, did_you_mean

TABLES: dict[str, dict[str, type[Table]]] = {
    "simulate": {
        "": Simulate,
        "potential = { ... }": PotentialTable,
        '[[stage]] kind = "minimize"': Minimize,
        '[[stage]] kind = "nve"': NVE,
        '[[stage]] kind = "nvt"': NVT,
        '[[stage]] kind = "npt"': NPT,
        "heat_exchange = { ... }": HeatExchange,
        "temperature = { ... }": Schedule,
        'thermostat = { kind = "langevin" }': Langevin,
        'thermostat = { kind = "nose-hoover" }': NoseHoover,
        "barostat = { ... }": Barostat,
        "plumed = { ... }": Plumed,
        'bias = [{ kind = "metadynamics" }]': Metadynamics,
        "walkers = { ... }": Walkers,
        'bias = [{ kind = "opes" }]': OPES,
        'bias = [{ kind = "opes-expanded" }]': OPESExpanded,
        'bias = [{ kind = "umbrella" }]': Umbrella,
        'bias = [{ kind = "upper-wall" }]': UpperWall,
        'bias = [{ kind = "lower-wall" }]': LowerWall,
        'bias = [{ kind = "steered" }]': Steered,
        'bias = [{ kind = "abf" }]': ABF,
        'bias = [{ kind = "hyperdynamics" }]': Hyperdynamics,
        'cv = { kind = "distance" }': Distance,
        'cv = { kind = "angle" }': Angle,
        'cv = { kind = "torsion" }': Torsion,
        'cv = { kind = "position" }': Position,
        'cv = { kind = "coordination" }': Coordination,
        'cv = { kind = "rmsd" }': RMSD,
        'cv = { plumed = "..." }': PlumedLine,
        '[[stage]] kind = "deposit"': Deposit,
        "species = [{ ... }]": Species,
        "beam = { ... }": Beam,
        "bath = { ... }": Bath,
        '[[stage]] kind = "rerun"': Rerun,
        "[frozen]": Frozen,
        "[mlmm]": MLMM,
        "[output]": Output,
        "[guard]": Guard,
        "[uncertainty]": UncertaintyLimits,
        "[analysis]": Analysis,
        "[replicas]": Replicas,
        "slurm = { ... }": Slurm,
        "temperatures = { ... }": Ladder,
    },
    "train": {
        "": Train,
        "data = { ... }, test = { ... }": DataTable,
        '[descriptor] kind = "mtp"': MTP,
        '[descriptor] kind = "acsf"': ACSF,
        '[descriptor] kind = "soap"': SOAP,
        '[descriptor] kind = "snap"': SNAP,
        '[descriptor] kind = "agni"': AGNI,
        '[descriptor] kind = "deeppot-se"': DeepPotSE,
        '[descriptor] kind = "nep"': NEP,
        'descriptor = { model = "..." }': Trained,
        "descriptor = [ ... ]": Combination,
        '[descriptor] kind = "coulomb"': CoulombMatrix,
        '[descriptor] kind = "mbtr"': ManyBodyTensor,
        "[[descriptor.terms]]": MBTRTerm,
        '[descriptor] kind = "average"': Average,
        "descriptor = [ ... ], of structures": StructureCombination,
        '[fit] kind = "linear"': LinearFit,
        '[fit] kind = "random-features"': RandomFeaturesFit,
        '[fit] kind = "gap"': GAPFit,
        '[fit] kind = "kernel"': KernelFit,
        '[fit] kind = "agni"': AGNIFit,
        '[fit] kind = "network"': NetworkFit,
        '[fit] kind = "kernel-ridge"': KernelRidgeFit,
        "[property]": Property,
        "[loss]": Loss,
        "[baseline]": Baseline,
        "[uncertainty]": Uncertainty,
        "[card]": Card,
    },
}
"""Command with an input file -> every table of it, as it is headed in the file."""

_SECTIONS: dict[str, dict[str, tuple[type[Table], ...]]] = {
    "simulate": {
        "stage": (Minimize, NVE, NVT, NPT, Deposit, Rerun),
        "output": (Output,),
        "guard": (Guard,),
        "uncertainty": (UncertaintyLimits,),
        "analysis": (Analysis,),
    },
    "train": {
        "descriptor": (MTP, ACSF, SOAP, SNAP, DeepPotSE, NEP, AGNI, CoulombMatrix, ManyBodyTensor, Average),
        "fit": (LinearFit, RandomFeaturesFit, GAPFit, KernelFit, AGNIFit, NetworkFit, KernelRidgeFit),
        "loss": (Loss,),
        "baseline": (Baseline,),
        "uncertainty": (Uncertainty,),
        "card": (Card,),
    },
}
"""Keys that are written as tables under their own heading, and the kinds of table that may stand there."""

_APART = ("property",)
"""Keys that have no meaning beside what the file to start from says."""

_INSTEAD: dict[str, list[tuple[str, dict[str, tuple[type[Table], dict[str, Any]]]]]] = {
    "train": [
        (
            "A property of whole structures, not a potential: instead of descriptor, fit, loss, baseline, uncertainty.",
            {
                "property": (Property, {"name": "gap"}),
                "descriptor": (CoulombMatrix, {"kind": "coulomb"}),
                "fit": (KernelRidgeFit, {"kind": "kernel-ridge"}),
            },
        )
    ],
}
"""Command -> what else its input can say in place of the tables above, which is shown as a comment: a sentence and the
tables, each with values that are written."""

_START: dict[str, dict[str, Any]] = {
    "simulate": {
        "structure": "structure.cif",
        "potential": "potential.mlmd",
        "timestep": "1 fs",
        "seed": 1,
        "stage": [
            {"kind": "minimize"},
            {"kind": "nvt", "temperature": "300 K", "duration": "10 ps"},
            {"kind": "npt", "temperature": "300 K", "pressure": "1 bar", "duration": "100 ps"},
        ],
        "output": {"trajectory_every": "500 fs", "log_every": "100 fs"},
    },
    "train": {
        "data": "data.extxyz",
        "test_fraction": 0.1,
        "descriptor": {"kind": "mtp", "level": 12, "cutoff": "5 Å"},
        "loss": {"energy": "1 meV", "forces": "50 meV/Å", "stress": "0.1 GPa"},
        "baseline": {"energies": "fit"},
    },
}
"""What the files to start from say."""


@dataclass(frozen=True)
class Option:
    """One key of an input file."""

    table: str
    """Heading of its table; empty at the top of the file."""
    key: str
    unit: str | None
    """Unit of a bare number; None for what is not a quantity."""
    required: bool
    default: str | None
    """As it is written in TOML; None when the key is required or not set by default."""
    description: str


def options(command: str = "simulate") -> tuple[Option, ...]:
    """Every option of the input of a command, in the order of the models."""
    tables = _of(command, TABLES)
    return tuple(_option(table, key, field) for table, model in tables.items() for key, field in _fields(model))


def option_table(command: str = "simulate") -> str:
    """The options of a command's input as Markdown, one table for each table of the file."""
    lines: list[str] = []
    for table in _of(command, TABLES):
        lines += [f"`{table}`" if table else "At the top of the file", ""]
        lines += ["| key | default | meaning |", "| --- | --- | --- |"]
        lines += [_row(option) for option in options(command) if option.table == table]
        lines.append("")
    return "\n".join(lines)


def template(command: str, full: bool = False) -> str:
    """A commented input file to start from.

    Args:
        command: ``"simulate"`` or ``"train"``.
        full: list every option with its default, as a comment.

    Raises:
        InputError: for a command without an input file.
    """
    start = _of(command, _START)
    title = "every option; those that are commented out show their defaults" if full else "a start"
    lines = [f"# mlmd {command}: {title}. Numbers carry units; paths count from this file.", ""]
    lines += _block(TABLES[command][""], start, {*_SECTIONS[command], *_APART}, full)
    for key, kinds in _SECTIONS[command].items():
        if key not in start and not full:
            continue
        written = start.get(key, {})
        for values in written if isinstance(written, list) else [written]:
            model = kinds[0] if len(kinds) == 1 else _of_kind(kinds, values)
            heading = f"[[{key}]]" if isinstance(written, list) else f"[{key}]"
            lines += ["", heading, *_block(model, values, (), full)]
    if full:
        for sentence, tables in _INSTEAD.get(command, ()):
            lines += ["", f"# {sentence}"]
            for key, (model, values) in tables.items():
                lines += [f"# {line}" for line in (f"[{key}]", *_block(model, values, (), full))]
    return "\n".join(lines) + "\n"


def _of(command: str, table: Mapping[str, Any]) -> Any:
    """What a table says about a command."""
    if command not in table:
        raise InputError(f"There is no input file for {command!r}. {did_you_mean(command, table)}")
    return table[command]


def _of_kind(kinds: tuple[type[Table], ...], values: Mapping[str, Any]) -> type[Table]:
    """The table whose kind some values name; the first where they name none."""
    return next((model for model in kinds if _kind(model) == values.get("kind")), kinds[0])


def _kind(model: type[Table]) -> str:
    """The kind of a table, e.g. ``nvt``."""
    return str(model.model_fields["kind"].default)


def _fields(model: type[Table]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model, its kind first."""
    yield from sorted(model.model_fields.items(), key=lambda item: item[0] != "kind")


def _option(table: str, key: str, field: FieldInfo) -> Option:
    """What a field of a model says about itself."""
    quantity = _quantity(field)
    return Option(
        table=table,
        key=key,
        unit=quantity.unit if quantity else None,
        required=field.is_required(),
        default=_default(field),
        description=field.description or "",
    )


def _row(option: Option) -> str:
    """A line of a Markdown table."""
    unit = f" (bare number: {option.unit})" if option.unit else ""
    default = "required" if option.required else f"`{option.default}`" if option.default else ""
    return f"| `{option.key}` | {default} | {option.description.replace('|', chr(92) + '|')}{unit} |"


def _block(model: type[Table], values: Mapping[str, Any], sections: Collection[str], full: bool) -> list[str]:
    """The keys of a table but for its sections, one a line, with their descriptions as comments in one column."""
    pairs: list[tuple[str, str]] = []
    for key, field in _fields(model):
        if key in sections:
            continue
        if key in values:
            pairs.append((f"{key} = {_toml(values[key])}", field.description or ""))
        elif full:
            shown = _default(field) or _toml((field.examples or [""])[0])
            pairs.append((f"# {key} = {shown}", field.description or ""))
    width = max((len(line) for line, _ in pairs), default=0)
    return [f"{line.ljust(width)}  # {comment}" for line, comment in pairs]


def _default(field: FieldInfo) -> str | None:
    """The default as it is written in TOML; None when there is none."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required() or value is None:
        return None
    quantity = _quantity(field)
    return _toml(quantity.write(value) if quantity else value)


def _quantity(field: FieldInfo) -> Quantity | None:
    """The unit annotation of a field, also within `| None`."""
    todo: list[Any] = [*field.metadata, field.annotation]
    while todo:
        item = todo.pop()
        if isinstance(item, Quantity):
            return item
        todo += [*get_args(item), *getattr(item, "__metadata__", ())]
    return None


def _toml(value: Any) -> str:
    """A value as TOML, its numbers as people write them."""
    return inline(_plain(resolved(value) if isinstance(value, Table) else value))


def _plain(value: Any) -> Any:
    """Values with units as people write them: ``5 Å`` and not ``5.0 Å``."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(resolved(item) if isinstance(item, Table) else item) for item in value]
    return value.replace(".0 ", " ").replace(" 1/ps", " ps^-1") if isinstance(value, str) else value
