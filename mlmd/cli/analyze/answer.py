"""What a person or a program gets to see of a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.errors import StorageError

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis import Result
    from mlmd.analysis.estimate import Estimate
    from mlmd.io.frames import Provenance


@dataclass(frozen=True)
class Answer:
    """Where results go: files in a folder and others that are asked for, and the terminal as a table or as JSON."""

    folder: Path
    as_json: bool
    csv: Path | None = None
    figure: Path | None = None

    def give(self, result: Result, table: Callable[[], Table], notes: Sequence[str]) -> None:
        """Write NAME.json, NAME.csv and NAME.png, and print the table and notes, or the JSON and nothing else.

        Raises:
            StorageError: when a file that was asked for by its name cannot be written.
        """
        import json

        from mlmd.analysis import write

        try:
            paths = write(result, self.folder)
        except OSError as error:  # e.g. the run of somebody else: the numbers count more than the files
            paths = None
            click.echo(f"Not written: {self.folder} ({error.strerror}). Give --out FOLDER.", err=True)
        if self.as_json:
            click.echo(json.dumps(result.to_json(), ensure_ascii=False))
        else:
            _print(table())
            for note in notes:
                click.echo(note)
        named, failures = self._named(result)
        if paths is not None:
            named.insert(0, f"{paths[0].with_suffix('')}.{{{','.join(path.suffix[1:] for path in paths)}}}")
        if named and not self.as_json:
            click.echo(f"Written: {', '.join(named)}")
        if failures:  # which come last, and lose nothing
            raise StorageError(f"{' '.join(failures)} Give another file.")

    def _named(self, result: Result) -> tuple[list[str], list[str]]:
        """What was written where it was asked for, and what could not be."""
        from mlmd.analysis.figures import save

        written, failures = [], []
        for path, write in (
            (self.csv, lambda path: path.write_text(result.to_csv(), encoding="utf-8")),
            (self.figure, lambda path: save(result.figure(), path)),
        ):
            if path is None:
                continue
            try:
                write(path)
            except OSError as error:
                failures.append(f"{path} cannot be written: {error.strerror}.")
            else:
                written.append(str(path))
        return written, failures


@dataclass(frozen=True)
class Asked:
    """What options say of where results go."""

    out: Path | None
    as_json: bool
    csv: Path | None
    figure: Path | None

    def answer(self, folder: Path) -> Answer:
        """In this folder where `--out` says no other."""
        return Answer(self.out or folder, self.as_json, self.csv, self.figure)


def new_table(title: str, *columns: str) -> Table:
    """An empty table in mlmd's style."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def which_frames(origin: Provenance) -> str:
    """The title of a table: which frames of what."""
    stage = "" if origin.stage is None else f"Stage {origin.stage} ({origin.kind}), "
    times = f"{origin.first_time / 1e3:g} to {origin.last_time / 1e3:g} ps, "
    return f"{stage}{'' if math.isnan(origin.first_time) else times}{origin.n_frames:,} frames"


def bare(estimate: Estimate) -> str:
    """The number without its unit, for a column that says it; a dash when it is not determined."""
    return str(estimate).removesuffix(f" {estimate.unit}") if estimate.determined else "–"


def _print(table: Table) -> None:
    """A table in full: in a narrow terminal its lines wrap, because digits that are left out help nobody."""
    from rich.console import Console

    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)
