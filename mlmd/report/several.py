"""One page about several runs: a table of what came out of each, their courses together, and a chapter for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlmd.errors import MlmdError, StorageError
from mlmd.io.log import read_log
from mlmd.report.course import course_figure, n_atoms, parts_of
from mlmd.report.curves import MAX_CURVES, MAX_POINTS, Curve, Panel, Plot, names_of, running_mean
from mlmd.report.page import Chapter, Picture, chapter, shown_section, uri, write_page, write_report
from mlmd.report.results import of_folder
from mlmd.report.stages import Table, target_of
from mlmd.rundir import MANIFEST, REPLICAS, Run, open_run

_COMPARED = {"temperature (K)": "temperature [K]", "potential energy (eV/atom)": "potential energy [eV]"}
_PARTS = 50


@dataclass(frozen=True)
class Overview:
    """What is said of all runs together."""

    subtitle: str
    table: Table
    notes: tuple[str, ...]
    course: Picture | None


def write_report_of(paths: Sequence[Path], folder: Path | None = None) -> Path:
    """Write report.html about runs, and folders of runs.

    Args:
        paths: run folders, and folders of replicas or of runs.
        folder: for the page, and for analyses that are done now; by default that of the only path, else where one is.

    Returns:
        The path of the page.

    Raises:
        StorageError: when a path is neither, or the page cannot be written.
    """
    found = list({one.resolve(): one for path in paths for one in runs_in(path)}.values())
    if len(paths) == 1 and found == [paths[0]]:
        return write_report(open_run(found[0]), folder)
    opened, notes = _opened(_named(found))
    chapters = [
        chapter(run, run.path if folder is None else folder / name, key=f"run{number}", title=name)
        for number, (name, run) in enumerate(opened.items(), 1)
    ]
    shared = of_folder(paths[0]) if len(paths) == 1 else ()
    title = paths[0].resolve().name if len(paths) == 1 else f"{len(chapters)} runs"
    notes += _waiting(paths)
    states = [one.state for one in chapters]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    plot = _together(opened)
    overview = Overview(
        f"{len(chapters)} runs: {told}", _table(opened, chapters), tuple(notes),
        None if plot is None else Picture(uri(course_figure(plot)), names_of(plot), plot.packed(), plot.notes),
    )  # fmt: skip
    where = folder or (paths[0] if len(paths) == 1 else Path())
    return write_page(
        where, title=title, chapters=tuple(chapters), overview=overview, shared=tuple(map(shown_section, shared))
    )


def runs_in(path: Path) -> list[Path]:
    """A run folder itself, or the runs of a folder, in the order of its input where they are replicas.

    Raises:
        StorageError: when it is neither.
    """
    if (path / MANIFEST).exists():
        return [path]
    if (path / REPLICAS).exists():
        from mlmd.engine.status import names_in

        found = [path / name for name in names_in(path) if (path / name / MANIFEST).exists()]
    else:
        found = sorted(one.parent for one in path.glob(f"*/{MANIFEST}"))
    if not found and (path / REPLICAS).exists():
        raise StorageError(f"{path} has replicas, and none of them has begun: there is nothing to show yet.")
    return found or [open_run(path).path]  # which says why it is none


def _named(found: Sequence[Path]) -> dict[str, Path]:
    """Runs by their folders' names, with as many of the folders above as tell all of them apart."""
    places = [path.resolve().parts for path in found]
    depth = next(n for n in range(1, 1 + max(map(len, places))) if len({place[-n:] for place in places}) == len(places))
    return {"/".join(place[-depth:]).lstrip("/"): path for place, path in zip(places, found, strict=True)}


def _opened(paths: dict[str, Path]) -> tuple[dict[str, Run], list[str]]:
    """The runs that can be read, and what to say of the others."""
    opened, notes = {}, []
    for name, path in paths.items():
        try:
            run = open_run(path)
            if run.log.exists():
                read_log(run.log)
            opened[name] = run
        except MlmdError as error:
            notes.append(f"{name} is not shown: {error}")
    return opened, notes


def _waiting(paths: Sequence[Path]) -> list[str]:
    from mlmd.engine.status import names_in

    names = [
        name
        for path in paths
        if (path / REPLICAS).exists()
        for name in names_in(path)
        if not (path / name / MANIFEST).exists()
    ]
    return [f"Not begun: {', '.join(names)}."] if names else []


def _table(opened: dict[str, Run], chapters: Sequence[Chapter]) -> Table:
    """A line for each run with its headlines; the first of them is how long it ran."""
    heads = list(dict.fromkeys(name for one in chapters for _, name in one.tiles[1:]))
    rows = []
    for run, one in zip(opened.values(), chapters, strict=True):
        values = {name: value for value, name in one.tiles}
        target = target_of(run.stages[-1]) if run.stages else "–"
        rows.append((one.title, one.state, target, one.tiles[0][0], *(values.get(head, "–") for head in heads)))
    return Table(("run", "state", "last target", "simulated", *heads), tuple(rows))


def _together(opened: dict[str, Run]) -> Plot | None:
    """Running means of all runs in the same axes."""
    logs = {name: read_log(run.log) for name, run in opened.items() if run.log.exists()}
    logs = {name: log for name, log in logs.items() if len(log["step"]) > 1}
    panels = []
    for label, key in _COMPARED.items():
        curves = []
        for name, log in list(logs.items())[:MAX_CURVES]:
            if key in log:
                column = log[key] / n_atoms(opened[name], log) if label.endswith("(eV/atom)") else log[key]
                curves.append(_mean(name, log, column))
        if curves:
            panels.append(Panel(label, tuple(curves)))
    return Plot("time (ps)", tuple(panels), notes=("Running means.",)) if panels else None


def _mean(name: str, log: dict[str, np.ndarray], column: np.ndarray) -> Curve:
    n = len(column)
    few = np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS // 4)).astype(int))
    mean = running_mean(column, parts_of(log["stage"]), max(1, n // _PARTS))
    return Curve(name, log["time [ps]"][few], mean[few])
