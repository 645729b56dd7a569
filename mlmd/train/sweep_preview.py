"""What a sweep would do: each of its trainings looked at as a training is, nothing written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from mlmd.config import check_files, naming, of_structures, resolved, unnamed
from mlmd.config.sweep import Choice, load_sweep
from mlmd.config.toml import document
from mlmd.errors import InputError
from mlmd.train.preview import Preview, preview
from mlmd.train.property_preview import PropertyPreview, preview_property
from mlmd.train.sweep import check_test

BUDGET = 120.0
"""Seconds after which no further training is looked at."""


@dataclass(frozen=True)
class Planned:
    """One combination of the values."""

    label: str
    """The values that were chosen."""
    training: Preview | PropertyPreview | None = None
    """None where it is impossible, or was not looked at for lack of time."""
    problem: str = ""
    """Why it would be left out."""


@dataclass(frozen=True)
class SweepPreview:
    """What is known about a sweep before it begins."""

    input: str
    trainings: tuple[Planned, ...]
    """In the order in which they would be run; at least one is possible."""
    command: Literal["sweep"] = "sweep"

    @property
    def known(self) -> tuple[Preview | PropertyPreview, ...]:
        """Those that were looked at and are possible."""
        return tuple(one.training for one in self.trainings if one.training)

    @property
    def n_left_out(self) -> int:
        """Combinations whose values do not go together, or with the data."""
        return sum(bool(one.problem) for one in self.trainings)

    @property
    def n_possible(self) -> int:
        """Trainings that would be run, as far as is known."""
        return len(self.trainings) - self.n_left_out

    @property
    def hours(self) -> float:
        """Of all trainings, at most; those that were not looked at count as the mean of the others."""
        return sum(one.hours for one in self.known) * self.n_possible / len(self.known)

    @property
    def memory(self) -> float:
        """MB in each process, about, of the largest training."""
        return max(one.memory for one in self.known)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of the data and of single trainings, each once."""
        told = dict.fromkeys(note for one in self.known for note in one.notes)
        if left := self.n_possible - len(self.known):
            told[f"{left} trainings were not looked at for lack of time; the time of all counts them as the others"] = (
                None
            )
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        """JSON-able; keys of quantities end in their unit."""
        return {
            "input": self.input,
            "command": self.command,
            "n_trainings": self.n_possible,
            "n_left_out": self.n_left_out,
            "hours": self.hours,
            "memory_MB": self.memory,
            "notes": list(self.notes),
            "trainings": [
                {
                    "label": one.label,
                    "problem": one.problem,
                    "training": None if one.training is None else one.training.to_json() | {"input": self.input},
                }
                for one in self.trainings
            ],
        }


def preview_sweep(path: Path) -> SweepPreview:
    """Check every combination and the data as `mlmd.train.sweep.sweep` does, and time a few equations of each.

    Raises:
        InputError: whatever a sweep would refuse: a wrong input, no test, or no combination that can be trained.
    """
    combinations = load_sweep(path)
    with naming(path):
        check_test(combinations)
    begin = time.monotonic()
    found: list[Planned] = []
    for one in combinations:
        in_time = time.monotonic() - begin < BUDGET or not any(other.training for other in found)
        found.append(_planned(one, path) if in_time or one.config is None else Planned(one.label))
    if not any(one.training for one in found):
        with naming(path):
            raise InputError("\n".join(f"{one.label}: {one.problem}" for one in found))
    return SweepPreview(str(path), tuple(found))


def _planned(one: Choice, path: Path) -> Planned:
    """One combination, by the input that its training would have."""
    if one.config is None:
        return Planned(one.label, problem=one.problem.replace("\n", " "))
    check_files(one.config, path)  # what is missing is missing in all of them
    with TemporaryDirectory() as folder:
        source = Path(folder) / path.name
        source.write_text(document(resolved(one.config)), encoding="utf-8")
        try:
            whole = of_structures(one.config.descriptor, one.config.fit)
            return Planned(one.label, preview_property(source) if whole else preview(source))
        except InputError as error:
            return Planned(one.label, problem=unnamed(error, source))
