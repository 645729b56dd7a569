"""The analyses of a run as sections of the page: any that left a JSON file, and those that the input asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmd import analysis
from mlmd.analysis.biased import has_free_energy
from mlmd.analysis.estimate import from_dict
from mlmd.errors import InputError, StorageError
from mlmd.io.frames import biased
from mlmd.report.curves import Plot, from_table
from mlmd.report.formulas import meaning
from mlmd.report.references import PAPERS, Reference
from mlmd.report.stages import Table
from mlmd.rundir import Run

_MAX_ROWS = 200
"""Of a table in the page."""
_UNITS = {
    "K": "K", "A": "Å", "A2": "Å²", "A3": "Å³", "ps": "ps", "fs": "fs", "ns": "ns", "eV": "eV", "e": "e", "bar": "bar",
    "deg": "°", "g_cm3": "g/cm³", "per_A": "1/Å", "per_A3": "1/Å³", "1/A": "1/Å", "1/A3": "1/Å³", "per_ps": "1/ps",
    "eV_A": "eV/Å", "GPa": "GPa",
}  # fmt: skip
"""Endings of keys -> units as they are written."""
_TOLD = ("formula", "definition", "normalisation", "method")
"""Keys of a result that say in words what its numbers are."""


@dataclass(frozen=True)
class Section:
    """One analysis."""

    name: str
    title: str
    formula: str
    references: tuple[Reference, ...]
    origin: str
    picture: bytes | None
    """PNG."""
    plots: tuple[Plot, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    headlines: tuple[tuple[str, str], ...]
    """Names and values worth the top of the page."""


def sections(run: Run, folder: Path) -> Iterator[Section]:
    """The analyses that were asked for or done, in the order of their table, then what else stands there.

    Those that the input asks for and that have not been done are done first, unless the run failed.

    Args:
        run: an open run folder.
        folder: in whose `analysis.FOLDER` results are looked for first, and new ones are written.

    Raises:
        StorageError: when results cannot be written.
    """
    done = _found(run.path) | _found(folder)
    wanted: Mapping[str, Any] = run.manifest.get("input", {}).get("analysis") or {}
    asked = [*wanted.get("run", ())]
    if "fes" not in asked and "fes" not in done and has_free_energy(run):
        asked.append("fes")
    failed = _do(run, [name for name in asked if name not in done], wanted, folder / analysis.FOLDER)
    for name in in_order({*done, *asked}):
        if name in failed:
            yield _empty(name, failed[name])
        else:
            yield section(name, done.get(name, folder / analysis.FOLDER), run)


def of_folder(folder: Path) -> tuple[Section, ...]:
    """The analyses that stand in a folder of several runs."""
    done = _found(folder)
    return tuple(section(name, done[name]) for name in in_order(set(done)))


def in_order(names: set[str]) -> list[str]:
    """Names of analyses in the order of their table, then others by the alphabet."""
    known = [name for name in analysis.ANALYSES if name in names]
    return [*known, *sorted(names - set(known))]


def _found(folder: Path) -> dict[str, Path]:
    """The results in a folder, by name."""
    return {path.stem: path.parent for path in (folder / analysis.FOLDER).glob("*.json")}


def _empty(name: str, note: str) -> Section:
    told = meaning(name)
    return Section(name, told.title, told.formula, (), "", None, (), (), (note,), ())


def not_writable(folder: Path, error: OSError) -> StorageError:
    """What to tell a person whose folder cannot be written."""
    return StorageError(f"{folder} cannot be written: {error.strerror}. Give another folder with --out.")


def _do(run: Run, names: Sequence[str], wanted: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Do analyses; what could not be done, by name, and why."""
    if run.manifest.get("state") == "failed":
        return dict.fromkeys(names, "Not done: the run failed.")
    options = {key: wanted[key] for key in ("charges", "drift") if key in wanted}
    try:
        results = analysis.run_all(run, names, **options, folder=folder)
    except OSError as error:
        raise not_writable(folder, error) from None
    return {one.name: str(one) for one in results if isinstance(one, analysis.Unavailable)}


def section(name: str, folder: Path, run: Run | None = None) -> Section:
    """What stands in NAME.json, NAME.csv and NAME.png; of a run also whether it has gone on since."""
    told = meaning(name)
    try:
        data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        provenance = data.get("provenance") or {}
        notes = [*map(str, data.get("notes", [])), *_notes_of(data)]
        bias = provenance.get("bias")
        if bias is not None and biased(str(bias)) not in notes:
            notes.insert(0, biased(str(bias)))
        if run is not None and provenance:
            notes += _stale(run, provenance)
        picture = folder / f"{name}.png"
        return Section(
            name, told.title, told.formula,
            tuple(PAPERS[key] for key in told.papers), " ".join(filter(None, [_origin(provenance), *_words_of(data)])),
            picture.read_bytes() if picture.exists() else None, from_table(folder / f"{name}.csv"),
            tuple(_tables(data)), tuple(_once(notes)), _headlines(data),
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return _empty(name, f"{folder / name}.json is damaged: {error!r}. Analyse again.")


def _is_estimate(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= {"value", "error", "unit"}


@dataclass(frozen=True)
class _Group:
    """Entries by name, e.g. elements, of which at least one has an estimate."""

    title: str
    entries: Mapping[str, Mapping[str, Any]]
    listed: bool
    """Whether it was a list, whose entries are told apart by their plain numbers too."""


def _groups(data: Mapping[str, Any], title: str = "", depth: int = 4) -> Iterator[_Group]:
    """The groups of a result, however deep they lie."""
    for key, value in data.items():
        listed, here = isinstance(value, list), f"{title} · {_words(str(key))}".removeprefix(" · ")
        found = _named(value) if isinstance(value, list) else value
        if not isinstance(found, dict) or _is_estimate(found) or key == "provenance":
            continue
        entries = {str(name): one for name, one in found.items() if isinstance(one, dict) and not _is_estimate(one)}
        if any(_is_estimate(number) for one in entries.values() for number in one.values()):
            yield _Group(here, entries, listed)
        elif depth and not listed:
            yield from _groups(found, here, depth - 1)


def _named(entries: list[Any]) -> dict[str, Any]:
    """A list of entries by what they are called, else by number."""
    keys = ("name", "quantity", "element", "species", "pair", "layer", "number", "label", "run", "temperature_K")
    return {
        str(next((entry[key] for key in keys if key in entry), number)): entry
        for number, entry in enumerate(entries, 1)
        if isinstance(entry, dict)
    }


def _notes_of(data: Mapping[str, Any], name: str = "") -> Iterator[str]:
    """Notes at any depth, with the name of what they are about."""
    for key, value in data.items():
        found = _named(value) if isinstance(value, list) and key != "notes" else value
        if key == "notes" and name:
            yield from (f"{name}: {note}" for note in value or ())
        elif isinstance(found, dict) and key != "provenance":
            yield from _notes_of(found, name if isinstance(value, list) else str(key))


def _once(notes: Sequence[str]) -> list[str]:
    """Without those that another one repeats, with more of where it belongs."""
    bodies = {note: note.partition(": ")[2] or note for note in notes}
    return [
        note
        for note, body in bodies.items()
        if not any(len(other) > len(note) and other.endswith(body) for other in bodies)
    ]


def _words_of(data: Mapping[str, Any]) -> list[str]:
    return [f"{key.capitalize()}: {data[key]}." for key in _TOLD if isinstance(data.get(key), str) and data[key]]


def _tables(data: Mapping[str, Any]) -> Iterator[Table]:
    """One table for each group, and one of single numbers."""
    for group in _groups(data):
        yield _table(group)
    single = [
        (_words(key), _cell(value))
        for key, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    single += [(_words(key), text) for key, value in data.items() if (text := _number(value)) is not None]
    if single:
        yield Table(("quantity", "value"), tuple(single))


def _table(group: _Group) -> Table:
    columns = list(
        dict.fromkeys(
            key
            for name, entry in group.entries.items()
            for key, value in entry.items()
            if _is_told(value, group.listed) and str(value) != name
        )
    )
    rows = [(name, *(_cell(entry.get(column)) for column in columns)) for name, entry in group.entries.items()]
    more = ((f"… {len(rows) - _MAX_ROWS:,} more", *[""] * len(columns)),) if len(rows) > _MAX_ROWS else ()
    return Table((group.title, *map(_words, columns)), (*rows[:_MAX_ROWS], *more))


def _is_told(value: Any, listed: bool) -> bool:
    plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return _is_estimate(value) or (listed and plain)


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
    return _number(value) or (value if isinstance(value, str) else "–")


def _number(value: Any) -> str | None:
    """An estimate as text; None where there is no value."""
    estimate = from_dict({"n_independent": None} | value) if _is_estimate(value) else None
    return str(estimate) if estimate is not None and estimate.determined else None


def _words(key: str) -> str:
    """``first_peak`` as words, ``temperature_K`` with its unit in brackets; an index, as in ``D_x``, stays one."""
    found = re.fullmatch(r"(.*\w)_(" + "|".join(map(re.escape, _UNITS)) + ")", key)
    if found is not None:
        return f"{_words(found[1])} ({_UNITS[found[2]]})"
    return re.sub(r"_(?=\w\w)", " ", key).replace("haven", "Haven")


def _headlines(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Diffusion coefficients and numbers about the whole system, where they were determined."""
    elements = data.get("elements") or {}
    values = (
        [(f"D of {name}", entry.get("D")) for name, entry in elements.items()] if isinstance(elements, dict) else []
    )
    values += [(_words(key), value) for key, value in data.items()]
    return tuple((name, text) for name, value in values if (text := _number(value)) is not None)


def _origin(provenance: Mapping[str, Any]) -> str:
    if not provenance.get("n_frames"):
        return ""
    stage = f"Stage {provenance['stage']} ({provenance['kind']}), " if provenance.get("stage") else ""
    return (
        f"{stage}{provenance['first_time'] / 1e3:g} to {provenance['last_time'] / 1e3:g} ps, "
        f"{provenance['n_frames']:,} {provenance.get('counted', 'frames')}."
    )


def _stale(run: Run, seen: Mapping[str, Any]) -> list[str]:
    """A remark where the run has gone on in the analysed stage since."""
    from mlmd.io.trajectories import open_run

    try:
        now = open_run(run, seen.get("stage")).provenance.last_time
    except (InputError, StorageError):
        return []
    last = seen.get("last_time", now)
    if "counted" in seen:  # no frames, so that the last of them may lie an interval before
        last += seen["interval"]
    return [f"The stage now reaches {now / 1e3:g} ps: analyse again."] if now > last + 1e-6 else []
