"""Free energies of biased runs, by whichever way their bias allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlmd.analysis.biased import Biased, biased_run, units_in
from mlmd.analysis.course import Course
from mlmd.analysis.free_energy import DEPTH, FreeEnergy, summarise
from mlmd.analysis.grid import Grid
from mlmd.analysis.history_fes import (
    from_forces,
    from_hills,
    from_kernels,
    from_state,
    of_other_temperatures,
    of_short_kernels,
)
from mlmd.analysis.landscape import apart
from mlmd.analysis.once import check_each_once
from mlmd.analysis.umbrella_fes import from_umbrellas
from mlmd.analysis.weighted_fes import can_be_weighed, colvar_of, from_weights, grows_alone, where_times_go_back
from mlmd.analysis.work_fes import from_work, is_steered
from mlmd.bias.script import read_script
from mlmd.errors import InputError, StorageError, did_you_mean
from mlmd.io.frames import Provenance
from mlmd.io.plumed_table import columns_of, read_plumed_table
from mlmd.rundir import MANIFEST, Run, open_run

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = {
    "hills": "the hills of metadynamics",
    "kernels": "the kernels of OPES",
    "state": "the state of OPES",
    "abf": "adaptive biasing forces",
    "reweight": "reweighted samples",
    "umbrella": "umbrella windows and MBAR",
    "work": "the work of steered runs",
}
"""Name -> what it is, in words."""


TOGETHER = ("umbrella", "abf", "work")
"""Methods that put several runs together."""


@dataclass(frozen=True)
class Files:
    """Files of a bias outside of a run folder."""

    hills: tuple[Path, ...] = ()
    kernels: Path | None = None
    state: Path | None = None
    abf: Path | None = None
    colvar: tuple[Path, ...] = ()
    plumed: Path | None = None
    """PLUMED's input, which tells the units and what the variables are."""


def biased_files(files: Files, temperature: float | None) -> Biased:
    """Files of another program as a biased run.

    Raises:
        InputError: without a temperature (but for abf.dat, which knows it) or a file, for a file given twice, and for
            another temperature than that of abf.dat.
    """
    from mlmd.analysis.abf import read_tables

    given = [*files.hills, *(one for one in (files.kernels, files.state, files.abf) if one), *files.colvar]
    if not given:
        raise InputError("a free energy of what? Give a run folder, or files: --hills, --kernels, --state, --colvar.")
    for option, several in (("--hills", files.hills), ("--colvar", files.colvar)):
        for path in several:
            if sum(path.resolve() == other.resolve() for other in several) > 1:
                raise InputError(f"{option} {path} is given twice, and would count twice. Give it once.")
    if files.abf is not None:
        kelvin = next(read_tables(files.abf)).temperature
        if temperature is not None and abs(temperature - kelvin) > 1e-6 * kelvin:
            raise InputError(f"{files.abf} is of {kelvin:g} K, and --temperature says {temperature:g} K. Leave it out.")
        temperature = kelvin
    if temperature is None:
        raise InputError(f'{given[0]} does not tell the temperature. Give it, e.g. --temperature "300 K".')
    statements = () if files.plumed is None else read_script(files.plumed, allow_unsafe=True).statements
    notes = () if files.plumed is not None or given == [files.abf] else (
        "the units are taken for PLUMED's own (kJ/mol, nm, ps): give the PLUMED input with --plumed if it says UNITS",
    )  # fmt: skip
    return Biased(
        str(given[0]), temperature, statements, units_in(statements), files.hills, files.kernels, files.state,
        files.abf, files.colvar, notes=notes,
    )  # fmt: skip


def fes(
    runs: Sequence[Run | Path | str],
    *,
    method: str | None = None,
    stage: int | None = None,
    variables: Sequence[str] = (),
    temperature: float | None = None,
    plumed: Path | None = None,
    grid: Grid | None = None,
    first_time: float | None = None,
    last_time: float | None = None,
) -> FreeEnergy:
    """The free energy of a run, of umbrella windows that are runs each, of walkers, or of steered runs.

    Args:
        runs: a run folder, or several windows, walkers or steered runs.
        method: one of `METHODS`; by default what the bias is made for.
        stage: number, from 1; by default the last one with a bias.
        variables: of COLVAR, for ``reweight``; by default those that are biased.
        temperature: K, where the run has no thermostat.
        plumed: its PLUMED input, where it is no longer where the input of the run says.
        grid: ends and bins.
        first_time, last_time: fs since the beginning of the run; adaptive forces and states of OPES have none.

    Raises:
        InputError: when no bias acted, its files are missing, empty or of another run, the temperature is unknown or
            another than that of the thermostat, or a run is given twice.
        StorageError: when files cannot be read.
    """
    check_each_once([(run.path if isinstance(run, Run) else Path(run)).resolve() for run in runs])
    cases = [
        biased_run(run if isinstance(run, Run) else _opened(run), stage, temperature=temperature, script=plumed)
        for run in runs
    ]
    return free_energy(
        cases, method=method, variables=variables, grid=grid or Grid(), first_time=first_time, last_time=last_time
    )


def _opened(folder: Path | str) -> Run:
    """A run folder; of another folder with PLUMED's files it is told how they are given."""
    files = [(f"--{name.lower()}", Path(folder) / name) for name in ("HILLS", "KERNELS", "COLVAR")]
    if Path(folder).is_file() and (columns := columns_of(Path(folder))):
        heights = "--kernels" if "logweight" in columns else "--hills"
        option = heights if "height" in columns else "--colvar"
        raise InputError(
            f'{folder} is a file, and no run folder. Give it with {option} {folder} --temperature "300 K", and its '
            "PLUMED input, --plumed FILE; or the folder of its run."
        )
    there = " ".join(f"{option} {path}" for option, path in files if path.is_file())
    if there and not (Path(folder) / MANIFEST).exists():
        raise InputError(
            f'{folder} is not a run folder of mlmd. Give its files: {there} --temperature "300 K", and its '
            "PLUMED input, --plumed FILE."
        )
    return open_run(folder)


def free_energy(
    cases: Sequence[Biased],
    *,
    method: str | None = None,
    variables: Sequence[str] = (),
    grid: Grid,
    first_time: float | None = None,
    last_time: float | None = None,
) -> FreeEnergy:
    """The free energy of biased runs or files; the arguments are those of `fes`."""
    if not cases:
        raise InputError("a free energy of what? Give a run folder.")
    method = method or _usual(cases, variables)
    if method not in METHODS:
        raise InputError(f"{method!r} is not a way to a free energy. {did_you_mean(method, METHODS)}")
    walkers = method == "hills" and len({(one.hills, one.temperature) for one in cases}) == 1
    if method not in TOGETHER and len(cases) > 1 and not walkers:
        raise InputError(
            f"{len(cases)} runs at once are windows of umbrellas, steered, or have adaptive forces, and {method!r} is "
            "of one run. The hills of walkers lie in one folder, which each of their runs knows: one of them will do."
        )
    if variables and method != "reweight":
        raise InputError(f"--cv chooses columns of COLVAR, and {METHODS[method]} are of what was biased. "
                         "Give --method reweight.")  # fmt: skip
    if method in ("abf", "state") and (first_time is not None or last_time is not None):
        raise InputError(f"--from and --to: no times are kept of {METHODS[method]}. Leave them out.")
    begin, end = first_time if first_time is not None else -math.inf, last_time if last_time is not None else math.inf
    case, notes = cases[0], [note for one in cases for note in one.notes]
    for path in _missing(case, method):
        raise StorageError(f"{path} does not exist yet, or no longer. Wait for the run, or look whether it was moved.")
    if method == "umbrella":
        course, count, more = from_umbrellas(cases, grid, begin, end)
        times, counted = _times(case, colvar_of(case).path), "lines"
    elif method == "work":
        course, count, more = from_work(cases, grid, begin, end)
        times, counted = _times(case, colvar_of(case).path), "lines"
    elif method == "reweight":
        course, lines, more = from_weights(case, grid, variables, begin, end)
        count, times, counted = len(lines), (float(lines.min()), float(lines.max()), []), "lines"
    elif method == "abf":
        course, table = from_forces(cases)
        count, more, times, counted = int(table.samples.sum()), _walkers(cases), (0.0, table.time, []), "samples"
        if grid != Grid():
            more += ["an adaptive biasing force has the grid that it was collected on"]
    else:
        course, count, path = _from_history(method, case, grid, begin, end)
        more, times, counted = [], _times(case, path), "kernels" if method != "hills" else "hills"
    start, stop, back = times
    notes += more + back + _remarks(course, case, method)
    origin = Provenance(
        ", ".join(one.path for one in cases), case.stage, case.kind, max(start, begin, case.since),
        min(stop, end, case.until), (stop - start) / max(count - 1, 1), count,
    )  # fmt: skip
    return summarise(course, case.temperature, METHODS[method], counted, list(dict.fromkeys(notes)), origin)


def _usual(cases: Sequence[Biased], variables: Sequence[str]) -> str:
    """What the bias is made for."""
    case = cases[0]
    if all(map(is_steered, cases)) and not variables:
        return "work"
    if len(cases) > 1:
        if all(one.abf is not None for one in cases):
            return "abf"
        return "hills" if all(one.hills for one in cases) else "umbrella"
    opes = case.kernels is not None or case.state is not None
    if variables or (opes and can_be_weighed(case)):
        return "reweight"  # kernels blur what they estimate by their width
    for name, there in (
        ("abf", case.abf), ("hills", case.hills), ("kernels", case.kernels), ("state", case.state),
        ("reweight", case.colvars),
    ):  # fmt: skip
        if there:
            return name
    if any(one.values("WALKERS_DIR") for one in case.statements):
        raise InputError(f"{case.path}: no walker has left hills yet. Wait for the runs.")
    raise InputError(f"{case.path}: its bias leaves no files that tell a free energy: no hills, kernels, or COLVAR.")


def _walkers(cases: Sequence[Biased]) -> list[str]:
    """Who has been left out."""
    count = max(case.walkers for case in cases)
    if count <= len(cases):
        return []
    what = "one walker" if len(cases) == 1 else f"{len(cases)} walkers"
    return [f"these are the samples of {what} of {count}: give the folders of all runs for those of all"]


def _missing(case: Biased, method: str) -> list[Path]:
    wanted: dict[str, Sequence[Path | None]] = {
        "hills": case.hills, "kernels": [case.kernels], "state": [case.state]
    }  # fmt: skip
    return [path for path in wanted.get(method, ()) if path is not None and not path.exists()]


def _from_history(method: str, case: Biased, grid: Grid, begin: float, end: float) -> tuple[Course, int, Path]:
    grows_alone(case)
    begin, end = max(begin, case.since), min(end, case.until)
    if method == "hills":
        return (*from_hills(case, grid, begin, end), case.hills[0] if case.hills else Path(case.path))
    from_file: Callable[[], tuple[Course, int]] = (
        (lambda: from_kernels(case, grid, begin, end)) if method == "kernels" else (lambda: from_state(case, grid))
    )
    course, count = from_file()
    path = case.kernels if method == "kernels" else case.state
    assert path is not None
    return course, count, path


def _times(case: Biased, path: Path) -> tuple[float, float, list[str]]:
    """fs, of the earliest and the latest line of a file, and a remark where times go back."""
    times = read_plumed_table(path)["time"] * case.units.time
    return float(times.min()), float(times.max()), where_times_go_back(path, times)


def _remarks(course: Course, case: Biased, method: str) -> list[str]:
    if not np.isfinite(course.values).any():
        raise InputError("no point of the grid was visited: look at --min and --max, which are in the units shown.")
    notes = [] if course.left_out is not None else ["there are no parts of this run to tell an error from"]
    for point in apart(course.values, [axis.periodic for axis in course.axes], DEPTH * case.kt):
        places = np.unravel_index(point, course.values.shape)
        where = ", ".join(
            f"{axis.name} {axis.centres[place]:.3g} {axis.unit}".rstrip()
            for axis, place in zip(course.axes, places, strict=True)
        )
        notes.append(
            f"a valley at {where} is not in the table: bins that say nothing lie before it, so its barrier is not "
            "known. Run longer, or take wider bins (--bins)"
        )
    if method in ("kernels", "state", "reweight"):
        notes += of_short_kernels(case)
    growing = {"METAD"} if method == "reweight" else {"METAD", "OPES_METAD", "OPES_METAD_EXPLORE"}
    return [*notes, *(of_other_temperatures(case, growing) if method not in TOGETHER else [])]
