"""The methods paragraph: what a paper says about a run, from its resolved input, with what is to be cited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from mlmd.report.formulas import meaning
from mlmd.report.origin import text_of
from mlmd.report.potential import potential_sentences
from mlmd.report.references import PAPERS, Reference, bibliography, from_words, numbered
from mlmd.rundir import MESSAGES, Run, StageRecord, describe_targets

Sentence = tuple[str, tuple[Reference, ...]]
_THOUSANDS = {"fs": ("fs", "ps", "ns", "µs"), "bar": ("bar", "kbar")}
_BIASES = {
    "metadynamics": ("metadynamics", ("metadynamics",)),
    "opes": ("on-the-fly probability enhanced sampling", ("opes",)),
    "opes-expanded": ("OPES in an expanded ensemble", ("opes-expanded",)),
    "umbrella": ("a harmonic restraint", ("umbrella",)),
    "upper-wall": ("an upper wall", ()),
    "lower-wall": ("a lower wall", ()),
    "steered": ("a moving restraint", ("jarzynski",)),
    "abf": ("an adaptive biasing force", ("abf",)),
    "hyperdynamics": ("bond-boost hyperdynamics", ("hyperdynamics", "bond-boost")),
}
"""Kind -> in words, papers."""
_BEAMS = {"energy": "an energy of", "speed": "a speed of", "temperature": "speeds of a source at"}
_HIDDEN = {"kind", "cv", "walkers", "file", "kernel"}
"""Keys of a bias that say nothing in a sentence."""
_WHERE = "{where}"
"""Where temperature, pressure and duration of a stage are put into its words."""


@dataclass(frozen=True)
class Methods:
    """A paragraph, the list its numbers refer to, and the same list as BibTeX."""

    text: str
    references: tuple[Reference, ...]
    bibtex: str


def methods(run: Run, analyses: Sequence[str] = ()) -> Methods:
    """The paragraph about a run.

    Args:
        run: an open run folder, of which only run.json and the structure are read.
        analyses: names of those that have been done.
    """
    sentences = [
        *_system(run), *potential_sentences(run), *_dynamics(run), *_stages(run), *_asked_for(run), *_output(run),
        *_results(analyses),
    ]  # fmt: skip
    text, references = numbered(sentences)
    return Methods(text, references, bibliography(references))


def neat(value: Any) -> str:
    """A quantity of a resolved input as a person writes it: ``"3000.0 fs"`` is 3 ps, ``"1.0 1/ps"`` 1 per ps."""
    found = re.fullmatch(r"(-?[\d.]+(?:e[+-]?\d+)?)\s*(\S.*)?", str(value))
    if found is None:
        return str(value)
    number, unit = float(found[1]), found[2] or ""
    ladder = _THOUSANDS.get(unit, ())
    while ladder and abs(number) >= 1e3 and ladder[1:]:
        number, ladder = number / 1e3, ladder[1:]
    unit = ladder[0] if ladder else unit.replace("1/", "per ").replace("^2", "²").replace("^3", "³")
    return f"{number:.6g} {unit}".strip()


def _is_dynamics(record: StageRecord) -> bool:
    """Whether atoms move in time: steps of a rerun are those of its frames."""
    return bool(record.n_steps) and record.kind != "rerun"


def _moves(run: Run) -> bool:
    return any(map(_is_dynamics, run.stages))


def _papers(*keys: str) -> tuple[Reference, ...]:
    return tuple(PAPERS[key] for key in keys)


def _system(run: Run) -> Iterator[Sentence]:
    """What was simulated, and by what."""
    atoms, versions = run.atoms, run.manifest.get("versions") or {}
    given = run.manifest.get("input") or {}
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    n_periodic = int(np.sum(atoms.pbc))
    cell = ""
    if n_periodic and (lengths > 0.0).all():
        sides = " × ".join(f"{length:.4g}" for length in lengths)
        turned = "" if np.allclose(angles, 90.0, atol=0.01) else f", angles {', '.join(f'{a:.4g}' for a in angles)}°"
        cell = f", in a cell of {sides} Å{turned}, periodic in {('one', 'two', 'three')[n_periodic - 1]} directions"
    repeats = given.get("supercell") or (1, 1, 1)
    source = PurePath(str(given.get("structure", ""))).name
    origin = ""
    if source:
        many = " × ".join(map(str, repeats)) + " supercell of " if tuple(repeats) != (1, 1, 1) else ""
        origin = f", from {'a ' if many else ''}{many}{source}"
    version = run.manifest.get("mlmd", "of unknown version")
    moves = _moves(run)
    what, were = ("Molecular dynamics", "was") if moves else ("Calculations", "were")
    count = f"{len(atoms):,} atom{'' if len(atoms) == 1 else 's'}"
    engine, papers = _engine(run.manifest.get("platform") or {}, versions)
    yield (
        f"{what} of {atoms.get_chemical_formula('metal')} ({count}{origin}{cell}) {were} run with mlmd "
        f"{version}{engine}.",
        papers,
    )


def _engine(platform: Mapping[str, Any], versions: Mapping[str, Any]) -> Sentence:
    """What moved the atoms."""
    kind = platform.get("engine")
    if kind == "native":
        return " by its own compiled steps", ()
    name = "LAMMPS" if kind == "lammps" else "OpenMM"
    number = (platform if kind == "lammps" else versions).get(name.lower(), "")
    n_ranks = platform.get("ranks", 1)
    many = f", on {n_ranks} processes" if n_ranks > 1 else ""
    return f" on {name} {number}".rstrip() + many, _papers("lammps" if kind == "lammps" else "openmm8")


def _dynamics(run: Run) -> Iterator[Sentence]:
    """Time step, velocities, seed, and what was held."""
    given = run.manifest.get("input") or {}
    parts = []
    if given.get("timestep") and _moves(run):
        parts.append(f"The time step was {neat(given['timestep'])}")
        velocities = given.get("velocities")
        if velocities == "file":
            parts.append("velocities were read with the structure")
        else:
            first = next(one for one in run.stages if _is_dynamics(one))
            drawn = neat(velocities) if velocities else f"{first.temperature[0]:g} K" if first.temperature else ""
            parts += [f"velocities were drawn at {drawn}"] if drawn else []
    seed = run.manifest.get("seed")
    if seed is not None:
        parts.append(f"{'the' if parts else 'The'} random seed was {seed}")
    if parts:
        yield f"{', '.join(parts[:-1])}{' and ' if parts[1:] else ''}{parts[-1]}.", ()
    if isinstance(held := given.get("frozen"), Mapping):
        which = [f"{len(held['indices']):,} chosen atoms"] if held.get("indices") else []
        which += [f"all {', '.join(held['elements'])}"] if held.get("elements") else []
        which += [f"all below z = {neat(held['below'])}"] if held.get("below") else []
        yield f"Held at rest were {' and '.join(which)}.", ()
    if given.get("hydrogen_mass"):
        yield f"Hydrogen had a mass of {neat(given['hydrogen_mass'])}.", ()
    if given.get("scale"):
        yield f"The potential acted {given['scale']:g} times as strongly.", ()


def _stages(run: Run) -> Iterator[Sentence]:
    """One sentence for each stage, and one for its biases."""
    tables = (run.manifest.get("input") or {}).get("stage") or []
    told = re.search(r"by PLUMED (\S+?),", text_of(run.path / MESSAGES))
    version = f" {told[1]}" if told else ""
    for number, record in enumerate(run.stages, 1):
        table = tables[number - 1] if number <= len(tables) and isinstance(tables[number - 1], Mapping) else {}
        head = f"Stage {number}: " if len(run.stages) > 1 else ""
        time = f" for {neat(f'{record.n_steps * record.timestep} fs')}" if _is_dynamics(record) else ""
        kelvin = (
            ""
            if record.temperature is None or record.kind == "deposit"
            else f" at {describe_targets(record.temperature, ' → ')} K"
        )
        text, papers = _STAGES.get(record.kind, _other)(table)
        pressure = "" if record.pressure is None else f" and {describe_targets(record.pressure, ' → ')} bar"
        # not `format`: the text has names of files, in which braces may stand
        words = text.replace("{where}", f"{kelvin}{pressure}{time}").replace("{kind}", record.kind)
        yield f"{head}{words if head else words[:1].upper() + words[1:]}.", papers
        if record.end is not None and record.end.early:
            yield f"It ended before the {neat(f'{record.planned * record.timestep} fs')} planned: {record.end.why}.", ()
        yield from _biases(table, f"In stage {number}" if head else "In this stage", version)


def _minimize(table: Mapping[str, Any]) -> Sentence:
    cell = " of atoms and cell" if table.get("cell") else ""
    pressed = f" at {neat(table['pressure'])}" if table.get("cell") and table.get("pressure") else ""
    limit = f", to forces below {neat(table['max_force'])}" if table.get("max_force") else ""
    most = f" or for {table['max_steps']:,} steps" if limit and table.get("max_steps") else ""
    return f"energy minimization{cell}{pressed} by FIRE in ASE{limit}{most}", _papers("fire", "ase")


def _nve(table: Mapping[str, Any]) -> Sentence:
    flow = table.get("heat_exchange") or {}
    if not flow:
        return f"constant energy (NVE){_WHERE} by leapfrog Verlet", ()
    return (
        f"constant energy (NVE){_WHERE} by leapfrog Verlet, with {neat(flow.get('power', '?'))} taken from a slab of "
        f"atoms across {flow.get('axis', '?')} and given to another half a cell away, by scaling of velocities that "
        f"leaves momenta, every {flow.get('every', '?')} steps",
        _papers("hex"),
    )


def _nvt(table: Mapping[str, Any]) -> Sentence:
    text, papers = _thermostat(table)
    return f"constant volume (NVT){_WHERE}{text}", papers


def _npt(table: Mapping[str, Any]) -> Sentence:
    text, papers = _thermostat(table)
    barostat = table.get("barostat") or {}
    every = f", a trial move every {barostat['every']} steps" if barostat.get("every") else ""
    kind = f"{barostat['kind']} " if barostat.get("kind") else ""
    text += f" and an {kind}Monte Carlo barostat{every}".replace("an flex", "a flex").replace("an Monte", "a Monte")
    return f"constant pressure (NPT){_WHERE}{text}", (*papers, *_papers("barostat"))


def _thermostat(table: Mapping[str, Any]) -> Sentence:
    thermostat = table.get("thermostat") or {}
    if thermostat.get("kind") == "nose-hoover":
        told = f"{thermostat.get('chain_length', 3)} thermostats, {neat(thermostat.get('frequency', '?'))}"
        return f" with a Nosé–Hoover chain ({told})", _papers("chains", "middle")
    if thermostat.get("kind") == "langevin":
        told = f"middle scheme, friction {neat(thermostat.get('friction', '?'))}"
        return f" with a Langevin thermostat ({told})", _papers("middle")
    return "", ()


def _deposit(table: Mapping[str, Any]) -> Sentence:
    species = [
        str(one.get("element") or PurePath(str(one.get("file", "a molecule"))).name)
        for one in table.get("species") or ()
    ]
    rate = f", one every {neat(table['every'])}" if table.get("every") else ""
    rate = f", {table['flux']}" if table.get("flux") else rate
    total = f", {table['total']} in all" if table.get("total") else ""
    beam = table.get("beam") or {}
    speed = next((f" with {phrase} {neat(beam[key])}" for key, phrase in _BEAMS.items() if beam.get(key)), "")
    direction = f", direction {_direction(beam)}" if beam.get("direction") else ""
    bath = table.get("bath") or {}
    held, papers = _bath(bath) if {"below", "temperature"} <= bath.keys() else (", all atoms moving freely", ())
    return (
        f"deposition of {' and '.join(species) or 'atoms'}{_WHERE}{speed}{direction}{rate}{total}{held}", papers
    )  # fmt: skip


def _direction(beam: Mapping[str, Any]) -> str:
    """Of arrivals: an angle says how far from the normal, for a cone at most."""
    angle = beam.get("angle")
    if not angle or float(str(angle).split()[0]) == 0.0 or beam["direction"] == "cosine":
        return str(beam["direction"])
    if beam["direction"] == "cone":
        return f"in a cone of {neat(angle)} about the normal"
    return f"{neat(angle)} from the normal, azimuth {neat(beam.get('azimuth', '0 deg'))}"


def _bath(bath: Mapping[str, Any]) -> Sentence:
    above = f" and above {neat(bath['above'])}" if bath.get("above") else ""
    elements = f" of {', '.join(bath['elements'])}" if bath.get("elements") else ""
    friction = f", friction {neat(bath['friction'])}" if bath.get("friction") else ""
    return (
        f"; atoms{elements} below {neat(bath['below'])}{above} were kept at {neat(bath['temperature'])} by Langevin "
        f"dynamics (middle scheme{friction}), the others moved freely",
        _papers("middle"),
    )


def _rerun(table: Mapping[str, Any]) -> Sentence:
    which = f"every {table['every']}th" if table.get("every", 1) > 1 else "all"
    ends = [f"{word} {table[key]}" for word, key in (("from number", "first"), ("to number", "last")) if table.get(key)]
    between = f" {' '.join(ends)} (counted from 0)" if ends else ""
    name = PurePath(str(table.get("trajectory", "a trajectory"))).name
    return f"energies and forces of {which} of the frames{between} of {name}", ()


def _other(table: Mapping[str, Any]) -> Sentence:
    return f"{{kind}}{_WHERE}", ()


_STAGES = {"minimize": _minimize, "nve": _nve, "nvt": _nvt, "npt": _npt, "deposit": _deposit, "rerun": _rerun}


def _biases(table: Mapping[str, Any], where: str, version: str) -> Iterator[Sentence]:
    if isinstance(plumed := table.get("plumed"), Mapping):
        name = PurePath(str(plumed.get("file", "an input"))).name
        yield f"{where} PLUMED{version} acted as told by {name}.", _papers("plumed", "plumed2")
    for bias in table.get("bias") or ():
        kind = str(bias.get("kind", "bias"))
        words, keys = _BIASES.get(kind, (kind, ()))
        if kind == "metadynamics" and bias.get("bias_factor") not in (None, "off"):
            words, keys = "well-tempered metadynamics", (*keys, "well-tempered")
        if kind == "abf" and bias.get("extended"):
            keys = (*keys, "czar")
        told = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in bias.items() if key not in _HIDDEN]
        cvs = bias.get("cv") or ()
        names = [str(one.get("name") or one.get("kind")) for one in cvs if isinstance(one, Mapping)]
        on = f" on {', '.join(names)}" if names else ""
        details = f" ({', '.join(told)})" if told else ""
        yield f"{where} {words} acted{on}{details}.", _papers(*keys)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(map(neat, value))
    return (
        neat(value) if not isinstance(value, Mapping) else ", ".join(f"{key} {neat(one)}" for key, one in value.items())
    )


def _asked_for(run: Run) -> Iterator[Sentence]:
    """What PLUMED and other programs ask to be cited."""
    asked = tuple(from_words(str(words)) for words in run.manifest.get("citations") or ())
    if asked:
        yield "The biases ask that these be cited.", asked
    if run.manifest.get("exchange"):
        yield "Replicas exchanged their configurations.", _papers("exchange")


def _output(run: Run) -> Iterator[Sentence]:
    state = str(run.manifest.get("state", "unknown"))
    if state != "done":
        yield f"The run has not finished ({state}): what is said of its stages is as planned.", ()
    given = (run.manifest.get("input") or {}).get("output") or {}
    if given.get("trajectory_every") and _moves(run):
        yield f"Frames were kept every {neat(given['trajectory_every'])}.", ()


def _results(names: Sequence[str]) -> Iterator[Sentence]:
    for name in names:
        papers = _papers(*meaning(name).papers)
        if papers:
            yield f"{meaning(name).title} followed the method of the reference.", papers
    yield (
        "Errors of means are one standard error, with the correlation of successive values taken into account.",
        _papers("geyer"),
    )
