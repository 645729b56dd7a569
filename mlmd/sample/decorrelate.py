"""Frames of runs that know nothing of each other: labelling more of them than that is a waste of labels."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.analysis.estimate import average
from mlmd.errors import InputError, StorageError
from mlmd.io.labelled import LabelledFrame, write_labelled
from mlmd.rundir import sync_folder
from mlmd.sample.perturb import check_amounts, rattled, strained
from mlmd.sample.sources import Series, Source, open_source

MIN_ENERGIES = 20
"""Fewer energies tell no autocorrelation time."""
MIN_INDEPENDENT = 10
"""With fewer independent energies the autocorrelation time itself is a guess."""
_N_STARTS = 40
"""Beginnings of the equilibrated part that are tried."""
_ENDINGS = (".extxyz", ".xyz")


@dataclass(frozen=True)
class Correlation:
    """What the energies of a run say about its memory."""

    start: float
    """Where the equilibrated part begins, in the unit of the times."""
    tau: float
    """Integrated autocorrelation time of the potential energy, in the unit of the times."""
    n_independent: float
    """Independent energies of the equilibrated part."""


@dataclass(frozen=True)
class Part:
    """What was taken from one run."""

    name: str
    group: str
    temperature: float | None
    """K."""
    unit: str
    """Of the times below: fs, or frames where the times are not known."""
    n_frames: int
    """In the stage, or in the file."""
    n_taken: int
    discarded: float
    """Time before the equilibrated part."""
    interval: float
    """Least time between two of the frames; of a single one, the time that the next would have needed."""
    tau: float | None
    """Integrated autocorrelation time of the potential energy; None where there are no energies."""
    n_independent: float | None
    """Independent energies of the equilibrated part; None where there are no energies."""


@dataclass(frozen=True)
class Sample:
    """Frames without labels."""

    frames: tuple[LabelledFrame, ...]
    parts: tuple[Part, ...]
    """One for each run."""
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What was taken from where (JSON-able), without the frames."""
        return {"n_frames": len(self.frames), "runs": [asdict(part) for part in self.parts], "notes": list(self.notes)}


def sample(
    runs: Sequence[Path | str],
    *,
    n: int | None = None,
    interval: float | None = None,
    every: int | None = None,
    stage: int | None = None,
    first_time: float | None = None,
    last_time: float | None = None,
    structure: Path | None = None,
    strain: float = 0.0,
    rattle: float = 0.0,
    seed: int = 1,
) -> Sample:
    """Evenly spaced frames of runs, two integrated autocorrelation times of the potential energy apart or more.

    Each run's beginning is left out up to the time after which it holds the most independent energies, unless
    `first_time` says where to begin. Runs are pooled in proportion to the frames that they can give.

    Args:
        runs: run folders of `mlmd simulate`, or trajectory files (see `open_source`).
        n: frames in all; by default all that are far enough apart.
        interval: fs between frames, in place of what the energies say.
        every: the same in frames.
        stage, first_time, last_time, structure: see `open_source`.
        strain: largest component of a random strain of each frame's cell.
        rattle: Å, standard deviation of random displacements of each frame's atoms.
        seed: of strains and displacements.

    Raises:
        InputError: when options do not fit each other or the runs, or no interval is given and no energies tell one.
        StorageError: when files cannot be read.
    """
    _check_options(n, interval, every)
    check_amounts(strain, rattle)
    if not runs:
        raise InputError("from which runs? Give at least one run folder or trajectory file.")
    sources = [open_source(Path(run), stage, first_time, last_time, structure) for run in runs]
    memories = [_memory(source, given=interval is not None or every is not None) for source in sources]
    choices, parts, notes = [], [], []
    for source, memory, group in zip(sources, memories, _groups(sources, runs), strict=True):
        start = source.times[0] if memory is None or first_time is not None else memory.start
        step = _step(source, memory, interval, every)
        choice = _evenly(source.times, start, step)
        choices.append(choice)
        parts.append(_part(source, group, memory, start, step))
        notes += _notes(source, memory, step)
    counts = _shares([len(choice) for choice in choices], n)
    if n is not None and sum(counts) < n:
        notes.append(f"{sum(counts)} frames instead of {n}: there are no more that far apart; run longer")
    rng = np.random.default_rng(seed)
    frames, taken = [], []
    for source, part, choice, count in zip(sources, parts, choices, counts, strict=True):
        few = _thinned(choice, count)
        gaps = np.diff(source.times[few]) if len(few) > 1 else [part.interval]
        taken.append(replace(part, n_taken=len(few), interval=float(np.min(gaps))))
        frames += [_frame(source, part.group, number, strain, rattle, rng) for number in few]
    return Sample(tuple(frames), tuple(taken), tuple(dict.fromkeys(notes)))


def write_sample(out: Path | str, result: Sample) -> Path:
    """Write the frames of a sample; see `write_frames`."""
    return write_frames(out, result.frames)


def write_frames(out: Path | str, frames: Sequence[LabelledFrame]) -> Path:
    """Write frames as extended XYZ, to a new file, whole or not at all.

    Raises:
        InputError: when the name has another ending.
        StorageError: when the file exists or cannot be written.
    """
    path = Path(out)
    check_output(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        write_labelled(partial, frames)
        partial.replace(path)
        sync_folder(path.parent)
    except (OSError, InputError) as error:
        raise StorageError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_output(path: Path) -> None:
    """Refuse a name that cannot be written to, before anything is read.

    Raises:
        InputError: when the name has another ending than extended XYZ.
        StorageError: when it exists, or its folder does not.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"--out {path}: frames are written as extended XYZ. Give a name with the ending .extxyz.")
    if path.exists():
        raise StorageError(f"{path} exists already; nothing was written. Give another --out.")
    if not path.parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no folder {path.parent}.")


def correlation(series: Series) -> Correlation:
    """The equilibrated part of a series of energies and its integrated autocorrelation time τ = ½ + Σ ρ(t).

    Of all beginnings t₀ the one is taken that leaves the most independent energies, (n - t₀) / (2τ(t₀))
    (Chodera, J. Chem. Theory Comput. 2016, 12, 1799); τ is estimated as in `mlmd.analysis.estimate.average`.
    """
    n = len(series.energies)
    starts = np.unique(np.linspace(0, n - MIN_ENERGIES // 2, _N_STARTS).astype(int)) if n else np.zeros(1, int)
    counts = [average(series.energies[start:], "eV").n_independent for start in starts]
    best = int(np.argmax(counts))
    start, n_independent = int(starts[best]), float(counts[best])
    spacing = float(series.times[-1] - series.times[0]) / max(n - 1, 1)
    return Correlation(float(series.times[start]), 0.5 * (n - start) / n_independent * spacing, n_independent)


def amount(time: float, unit: str) -> str:
    """A time (fs) in ps, or a number of frames, in words."""
    return f"{time / 1e3:.4g} ps" if unit == "fs" else f"{time:.4g} frames"


def _check_options(n: int | None, interval: float | None, every: int | None) -> None:
    if n is not None and n < 1:
        raise InputError(f"--n {n}: at least one frame is needed.")
    if interval is not None and every is not None:
        raise InputError("--interval and --every say the same thing. Give one of them.")
    if interval is not None and not (math.isfinite(interval) and interval > 0):
        raise InputError(f"--interval {interval:g} fs: a time above 0 is needed.")
    if every is not None and every < 1:
        raise InputError(f"--every {every}: at least 1 is needed.")


def _memory(source: Source, *, given: bool) -> Correlation | None:
    """What the energies of a source say; None where they say nothing and an interval is given."""
    n = 0 if source.series is None else len(source.series.energies)
    if source.series is not None and n >= MIN_ENERGIES:
        return correlation(source.series)
    if given:
        return None
    why = f"has {n} energies" if n else "has no energies"
    raise InputError(
        f"{source.name} {why}, which does not tell how long its memory is ({MIN_ENERGIES} are needed). Give the time "
        'between frames, e.g. --interval "1 ps", or --every 10 (frames).'
    )


def _step(source: Source, memory: Correlation | None, interval: float | None, every: int | None) -> float:
    """Least time between frames, in the unit of the source's times."""
    spacing = float(source.times[1] - source.times[0]) if len(source.times) > 1 else 1.0
    if every is not None:
        return every * spacing
    if interval is not None:
        if not source.timed:
            raise InputError(f"{source.name} does not tell the time between its frames. Use --every N (frames).")
        return interval
    assert memory is not None
    return max(2.0 * memory.tau, spacing)


def _evenly(times: np.ndarray, start: float, step: float) -> range:
    """Frames from a time on, at least a step apart."""
    spacing = float(times[1] - times[0]) if len(times) > 1 else 1.0
    first = min(int(np.searchsorted(times, start - 1e-6 * spacing)), len(times) - 1)
    return range(first, len(times), max(1, math.ceil(step / spacing - 1e-6)))


def _shares(available: Sequence[int], n: int | None) -> list[int]:
    """How many frames of each run: in proportion to what there is, the largest remainders rounded up."""
    total = sum(available)
    if n is None or n >= total:
        return list(available)
    exact = [n * one / total for one in available]
    counts = [int(one) for one in exact]
    order = sorted(range(len(exact)), key=lambda k: counts[k] - exact[k])
    for k in order[: n - sum(counts)]:
        counts[k] += 1
    return counts


def _thinned(choice: range, count: int) -> list[int]:
    """So many frames from the first to the last that can be taken; one alone is the last."""
    if count == len(choice):
        return list(choice)
    if count < 2:
        return [choice[-1]][:count]
    # floor keeps steps of k or more at k or more
    return [choice[0] + int(k) for k in np.floor(np.linspace(0, choice[-1] - choice[0], count) + 1e-9)]


def _groups(sources: Sequence[Source], runs: Sequence[Path | str]) -> list[str]:
    """Names of groups: run and temperature, with the folder before it where two would be the same."""
    heat = ["" if one.temperature is None else f" {one.temperature:.0f} K" for one in sources]
    names = [source.name + text for source, text in zip(sources, heat, strict=True)]
    often = Counter(names)
    places = [Path(run).resolve().parent.name for run in runs]
    return [f"{place}/{name}" if often[name] > 1 else name for place, name in zip(places, names, strict=True)]


def _part(source: Source, group: str, memory: Correlation | None, start: float, step: float) -> Part:
    return Part(
        source.name, group, source.temperature, "fs" if source.timed else "frames", len(source.times), 0,
        max(0.0, float(start - source.times[0])), step, None if memory is None else memory.tau,
        None if memory is None else memory.n_independent,
    )  # fmt: skip


def _notes(source: Source, memory: Correlation | None, step: float) -> list[str]:
    notes = [f"{source.name}: {note}" for note in source.notes]
    if memory is None:
        return notes
    unit = "fs" if source.timed else "frames"
    if step < 2.0 * memory.tau * (1.0 - 1e-9):
        notes.append(
            f"{source.name}: frames may be {amount(step, unit)} apart, but the energy needs "
            f"{amount(2.0 * memory.tau, unit)} (2τ) to forget: neighbouring frames tell much the same"
        )
    if memory.n_independent < MIN_INDEPENDENT:
        notes.append(
            f"{source.name}: it holds only {memory.n_independent:.1f} independent energies, too few to know how long "
            "its memory is; run longer"
        )
    return notes


def _frame(
    source: Source, group: str, number: int, strain: float, rattle: float, rng: np.random.Generator
) -> LabelledFrame:
    atoms, name = source.frame(number), f"{source.name}@{number}"
    if strain:
        atoms = strained(atoms, strain, rng)
    if rattle:
        atoms = rattled(atoms, rattle, rng, name)
    return LabelledFrame(atoms, None, None, None, group, name)
