"""The biases of an input file as a plumed.dat that a person can read: bias.dat.

PLUMED's units are nm, kJ/mol, ps and rad, and its atoms are counted from 1. A wall of PLUMED is κ (s - a)², where mlmd
says ½ k (s - a)².
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlmd import units
from mlmd.bias.bins import Dimension
from mlmd.bias.doubts import KERNELS_END
from mlmd.bias.extended import EXTENDED
from mlmd.bias.safety import refuse_unsafe
from mlmd.bias.script import before
from mlmd.bias.statement import Statement, split_statements
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
from mlmd.config.variables import (
    RMSD,
    Angle,
    Coordination,
    Distance,
    PlumedLine,
    Position,
    Torsion,
)
from mlmd.errors import InputError
from mlmd.units import parse

MOST_ATOMS = 99_999
"""Serial numbers that a PDB file has room for."""


@dataclass(frozen=True)
class Around:
    """What a stage knows that its biases need."""

    title: str
    """What the file is of, e.g. ``stage 1 (nvt)``."""
    timestep: float
    """fs."""
    temperature: float | None
    """K."""
    first_step: int
    """Global step at which the stage begins."""
    print_every: int
    """Steps between lines of COLVAR."""
    suffix: str = ""
    """Of all files, where another file of biases has their names already."""
    taken: frozenset[str] = frozenset()
    """Files that a PLUMED file of the user's own writes."""
    positions: Callable[[Path], np.ndarray] = field(default=lambda path: np.zeros((0, 3)))
    """(n_atoms, 3) Å of a structure file with as many atoms as the run has."""


@dataclass(frozen=True)
class BiasFile:
    """A bias.dat and what belongs to it."""

    name: str
    text: str
    variables: str
    """The lines that define variables, alone."""
    copies: dict[str, Path]
    """Files that its lines name -> where they are."""
    made: dict[str, str]
    """Files that its lines name and mlmd writes -> their text."""
    adaptive: tuple[Dimension, ...]
    """Variables of an ABF."""
    colvar: str


class _Writer:
    """Collects lines; the same variable in two biases is computed once."""

    def __init__(self, around: Around) -> None:
        self.around = around
        self.variables: list[str] = []
        self.lines: list[str] = []
        self.printed: list[str] = []
        self.copies: dict[str, Path] = {}
        self.made: dict[str, str] = {}
        self.adaptive: tuple[Dimension, ...] = ()
        self._labels: dict[str, Any] = {}

    def labels(self, variables: Sequence[Any]) -> list[str]:
        """The labels of variables, which are defined where they are new."""
        return [self._label(variable) for variable in variables]

    def _label(self, variable: Any) -> str:
        for label, known in self._labels.items():
            if known == variable:
                return label
        kind = "variable" if isinstance(variable, PlumedLine) else str(variable.kind)
        label = variable.name or _free(kind, self._labels)
        if label in self._labels:
            raise InputError(f"bias: two different variables are named {label!r}. Give one of them another name.")
        self._labels[label] = variable
        self.printed.insert(len(self._labels) - 1, label)
        self.variables += _define(variable, label, self)
        return label

    def file(self, name: str) -> str:
        """A file name that nobody else writes."""
        wanted = name + self.around.suffix
        return wanted if wanted not in self.around.taken else f"{wanted}.bias"

    def steps(self, time: float) -> int:
        """fs in whole steps, at least one."""
        return max(1, round(time / self.around.timestep))

    def name(self, kind: str) -> str:
        """A label for an action, e.g. ``umbrella1``."""
        label = _free(kind.replace("-", "_"), self._labels)
        self._labels[label] = None
        self.printed.append(f"{label}.bias")
        return label


def write_biases(biases: Sequence[Any], around: Around) -> BiasFile:
    """The text of bias.dat and what belongs to it.

    Raises:
        InputError: for names that two variables share, and lines of PLUMED that could execute code or leave the
            run folder.
    """
    writer = _Writer(around)
    for bias in biases:
        writer.lines += ["", *_WRITE[type(bias)](bias, writer)]
    name, colvar = f"bias{around.suffix}.dat", writer.file("COLVAR")
    head = [
        f"# The biases of {around.title}, written by mlmd from its input file.",
        "# Units of PLUMED: nm, kJ/mol, ps, rad. Atoms are counted from 1 here, from 0 in comments.",
        "",
    ]
    end = ["", "# Variables and biases, line by line.", _print(writer.printed, around.print_every, colvar)]
    text = "\n".join([*head, *writer.variables, *writer.lines, *end]) + "\n"
    return BiasFile(
        name, text, "\n".join(writer.variables) + "\n", writer.copies, writer.made, writer.adaptive, colvar,
    )  # fmt: skip


def statements_of(name: str, text: str) -> tuple[Statement, ...]:
    """The statements of a text that mlmd has written, or that stands in an input file."""
    return tuple(split_statements(Path(name), text))


def _print(arguments: Sequence[str], every: int, name: str) -> str:
    return f"PRINT ARG={','.join(arguments)} STRIDE={every} FILE={name}"


def _free(kind: str, taken: dict[str, Any]) -> str:
    return next(f"{kind}{n}" for n in range(1, len(taken) + 2) if f"{kind}{n}" not in taken)


def _n(value: float) -> str:
    """A number that reads back as the same float."""
    return repr(float(value))


def _list(values: Sequence[float]) -> str:
    return ",".join(map(_n, values))


# -- variables -------------------------------------------------------------------------------------------------------


def _define(variable: Any, label: str, writer: _Writer) -> Iterator[str]:
    yield f"# {_in_words(variable)}"
    if isinstance(variable, Distance | Angle | Torsion):
        sites = []
        for number, site in enumerate(variable.atoms, 1):
            lines, name = _site(site, f"{label}_{number}")
            yield from lines
            sites.append(name)
        yield f"{label}: {variable.kind.upper()} ATOMS={','.join(sites)}"
    elif isinstance(variable, Position):
        lines, site_name = _site(variable.atom, f"{label}_1")
        yield from lines
        yield f"{label}_xyz: POSITION ATOM={site_name} NOPBC"
        yield f"{label}: COMBINE ARG={label}_xyz.{variable.axis} PERIODIC=NO"
    elif isinstance(variable, Coordination):
        a, b = (",".join(str(atom + 1) for atom in group) for group in (variable.group_a, variable.group_b))
        radius = _n(parse(variable.radius, "length") / 10.0)
        yield f"{label}: COORDINATION GROUPA={a} GROUPB={b} R_0={radius} NN={variable.n} MM={variable.m}"
    elif isinstance(variable, RMSD):
        name = f"{label}.pdb"
        writer.made[name] = _pdb(variable, writer.around.positions(variable.reference))
        yield f"{label}: RMSD REFERENCE={name} TYPE=OPTIMAL"
    else:
        yield from _own_line(variable, label, writer)


def _own_line(variable: PlumedLine, label: str, writer: _Writer) -> Iterator[str]:
    first = f"{label}_all" if variable.component else label
    line = f"{first}: {' '.join(variable.plumed.split())}"
    refuse_unsafe(statements_of(f"bias: plumed = {variable.plumed!r}", line))
    for path in variable.files:
        if writer.copies.setdefault(path.name, path) != path:
            raise InputError(f"bias: two files are named {path.name}; both would be copied into the run folder.")
    yield line
    if variable.component:
        ends = "NO" if variable.between is None else _list(variable.between)
        yield f"{label}: COMBINE ARG={first}.{variable.component} PERIODIC={ends}"


def _site(site: int | tuple[int, ...], label: str) -> tuple[list[str], str]:
    """Lines that define a centre of mass, and how PLUMED names the site."""
    if isinstance(site, int):
        return [], str(site + 1)
    return [f"{label}: COM ATOMS={','.join(str(atom + 1) for atom in site)}"], label


def _in_words(variable: Any) -> str:
    if isinstance(variable, Distance | Angle | Torsion):
        return f"{variable.kind} of atoms {', '.join(map(_site_in_words, variable.atoms))}"
    if isinstance(variable, Position):
        return f"{variable.axis} of atom {_site_in_words(variable.atom)}, unwrapped"
    if isinstance(variable, Coordination):
        sizes = f"{len(variable.group_a)} and {len(variable.group_b)} atoms"
        return f"contacts between {sizes} within about {variable.radius}"
    if isinstance(variable, RMSD):
        return f"deviation of {len(variable.atoms)} atoms from {variable.reference.name}"
    return "a line of the input file"


def _site_in_words(site: int | tuple[int, ...]) -> str:
    return str(site) if isinstance(site, int) else "the centre of (" + ", ".join(map(str, site)) + ")"


def _pdb(variable: RMSD, positions: np.ndarray) -> str:
    """The reference as PLUMED reads it, in Å; its atoms weigh the same in fit and deviation."""
    if max(variable.atoms) >= min(len(positions), MOST_ATOMS):
        raise InputError(
            f"bias: rmsd: {variable.reference.name} has {len(positions)} atoms, and atom {max(variable.atoms)} "
            f"(counted from 0) is named; {MOST_ATOMS:,} can be."
        )
    rows = []
    for atom in variable.atoms:
        x, y, z = positions[atom]
        rows.append(f"ATOM  {atom + 1:5d}  X   ATM A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  1.00\n")
    return "".join(rows) + "END\n"


# -- biases ----------------------------------------------------------------------------------------------------------


def _metadynamics(bias: Metadynamics, writer: _Writer) -> Iterator[str]:
    labels, every = writer.labels(bias.cv), writer.steps(bias.every)
    name = writer.name("metad")
    tempered = bias.bias_factor != "off"
    yield f"# {'well-tempered ' if tempered else ''}metadynamics: a hill every {every} steps"
    words = [
        f"{name}: METAD ARG={','.join(labels)} SIGMA={_list(bias.each('width'))}",
        f"HEIGHT={_n(bias.height / units.EV_PER_KJMOL)} PACE={every} FILE={writer.file('HILLS')}",
    ]
    if tempered:
        words.append(f"BIASFACTOR={_n(float(bias.bias_factor))}")
    words += _grid(bias)
    if bias.walkers is not None:
        words += _walkers(bias.walkers, writer)
    yield " ".join(words)


def _grid(bias: Metadynamics) -> list[str]:
    """A grid where the range of every variable is known; periodic ones go all around."""
    known = bias.minimum is not None and bias.maximum is not None
    if not known and any(variable.period is None for variable in bias.cv):
        return []
    low, high = (bias.each(key) if known else (0.0,) * len(bias.cv) for key in ("minimum", "maximum"))
    ends = [
        ("-pi", "pi") if isinstance(one, Torsion) else tuple(map(_n, one.period or (low[number], high[number])))
        for number, one in enumerate(bias.cv)
    ]
    return [f"GRID_MIN={','.join(a for a, _ in ends)}", f"GRID_MAX={','.join(b for _, b in ends)}"]


def _walkers(walkers: Walkers, writer: _Writer) -> list[str]:
    if any(character.isspace() or character in ",{}" for character in str(walkers.folder)):
        raise InputError(
            f"bias: walkers: folder: PLUMED cannot read the name {walkers.folder}: it has spaces or signs."
        )
    return [
        f"WALKERS_ID={walkers.number} WALKERS_N={walkers.count} WALKERS_DIR={walkers.folder}",
        f"WALKERS_RSTRIDE={writer.steps(walkers.read_every)}",
    ]


def _opes(bias: OPES, writer: _Writer) -> Iterator[str]:
    labels, every = writer.labels(bias.cv), writer.steps(bias.every)
    name = writer.name("opes")
    action = "OPES_METAD_EXPLORE" if bias.explore else "OPES_METAD"
    yield f"# OPES: a kernel every {every} steps"
    sigma = "" if bias.width is None else f" SIGMA={_list(bias.each('width'))}"
    if (least := bias.min_widths) is not None:
        sigma += f" SIGMA_MIN={_list(least)}"
    barrier = _n(bias.barrier / units.EV_PER_KJMOL)
    yield (
        f"{name}: {action} ARG={','.join(labels)} BARRIER={barrier} PACE={every}{sigma} KERNEL_CUTOFF={KERNELS_END} "
        f"FILE={writer.file('KERNELS')}"
    )


def _expanded(bias: OPESExpanded, writer: _Writer) -> Iterator[str]:
    name = writer.name("expanded")
    yield f"# OPES: all temperatures from {bias.lowest:g} K to {bias.highest:g} K"
    yield f"{name}_energy: ENERGY"
    yield f"{name}_ecv: ECV_MULTITHERMAL ARG={name}_energy TEMP_MIN={_n(bias.lowest)} TEMP_MAX={_n(bias.highest)}"
    file = writer.file("DELTAFS")
    pace = writer.steps(bias.every)
    # every update is printed, as PLUMED goes on from what it has printed
    yield (
        f"{name}: OPES_EXPANDED ARG={name}_ecv.* PACE={pace} OBSERVATION_STEPS={bias.observe} PRINT_STRIDE=1 "
        f"FILE={file}"
    )
    writer.printed.insert(0, f"{name}_energy")


def _umbrella(bias: Umbrella, writer: _Writer) -> Iterator[str]:
    labels = writer.labels(bias.cv)
    yield "# umbrella: 1/2 k (s - s0)^2"
    at, spring = _list(bias.each("at")), _list(bias.each("spring"))
    yield f"{writer.name('umbrella')}: RESTRAINT ARG={','.join(labels)} AT={at} KAPPA={spring}"


def _wall(bias: UpperWall | LowerWall, writer: _Writer) -> Iterator[str]:
    labels, upper = writer.labels(bias.cv), isinstance(bias, UpperWall)
    yield f"# {bias.kind}: 1/2 k (s - s0)^2 {'above' if upper else 'below'} s0; KAPPA is k/2"
    at, half = _list(bias.each("at")), _list([0.5 * spring for spring in bias.each("spring")])
    action = "UPPER_WALLS" if upper else "LOWER_WALLS"
    yield f"{writer.name(bias.kind)}: {action} ARG={','.join(labels)} AT={at} KAPPA={half}"


def _steered(bias: Steered, writer: _Writer) -> Iterator[str]:
    (label,), (spring,) = writer.labels(bias.cv), bias.each("spring")
    name = writer.name("steered")
    writer.printed[-1] = f"{name}.*"
    yield "# steered: 1/2 k (s - s0)^2, where s0 moves from place to place; steps are those of the whole run"
    words = [f"{name}: MOVINGRESTRAINT ARG={label}"]
    for number, (time, place) in enumerate(zip(bias.times, bias.places(), strict=True)):
        step = writer.around.first_step + round(time / writer.around.timestep)
        words.append(f"STEP{number}={step} AT{number}={_n(place)} KAPPA{number}={_n(spring)}")
    yield " ".join(words)
    yield "# its work; what it did before the run was continued last, mlmd puts in the place of the constant"
    yield f"{before(name)}: CONSTANT VALUE=0.0"
    yield f"{name}_work: COMBINE ARG={name}.{label}_work,{before(name)} PERIODIC=NO"
    writer.printed.append(f"{name}_work")


def _abf(bias: ABF, writer: _Writer) -> Iterator[str]:
    labels = writer.labels(bias.cv)
    writer.adaptive = tuple(_dimensions(bias, labels, writer.around))
    if not bias.extended:
        yield f"# adaptive biasing force along {', '.join(labels)}: mlmd adds it to the forces of this file"
        return
    yield "# adaptive biasing force: mlmd moves an extended variable of each, which a spring ties to it, and adds the"
    yield "# force that the extended variable feels besides"
    for one, variable in zip(writer.adaptive, bias.cv, strict=True):
        ends = "-pi,pi" if isinstance(variable, Torsion) else _list(variable.period) if variable.period else "NO"
        label, extended = one.label, one.label + EXTENDED
        yield f"{extended}: PUT UNIT=number SHAPE=0 PERIODIC={ends} MUTABLE"
        yield f"{extended}_d: CUSTOM ARG={label},{extended} FUNC=x-y PERIODIC={_centred(one.period, ends)}"
        yield f"{extended}_spring: CUSTOM ARG={extended}_d FUNC={_n(0.5 * one.spring)}*x^2 PERIODIC=NO"
        yield f"{extended}_force: BIASVALUE ARG={extended}_spring"
        writer.printed += [extended, f"{extended}_force.bias"]


def _centred(period: float | None, ends: str) -> str:
    """The domain of a difference: that of the variable, moved to zero."""
    if period is None or ends == "-pi,pi":
        return ends
    return _list((-0.5 * period, 0.5 * period))


def _dimensions(bias: ABF, labels: Sequence[str], around: Around) -> Iterator[Dimension]:
    assert around.temperature is not None
    kt = units.KB * around.temperature / units.EV_PER_KJMOL
    given = {key: None if getattr(bias, key) is None else bias.each(key) for key in ("spring", "wall_spring")}
    for number, (variable, label) in enumerate(zip(bias.cv, labels, strict=True)):
        (low, high), width = bias.ranges()[number], bias.each("width")[number]
        usual = kt / width**2
        springs, walls = given["spring"], given["wall_spring"]
        yield Dimension(
            label, low, high, max(2, round((high - low) / width)),
            None if variable.period is None else variable.period[1] - variable.period[0],
            usual if springs is None else springs[number],
            usual if walls is None else walls[number], *variable.shown,
        )  # fmt: skip


_WRITE: dict[type, Callable[..., Iterator[str]]] = {
    Metadynamics: _metadynamics,
    OPES: _opes,
    OPESExpanded: _expanded,
    Umbrella: _umbrella,
    UpperWall: _wall,
    LowerWall: _wall,
    Steered: _steered,
    ABF: _abf,
}
