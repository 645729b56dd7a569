"""``mlmd sweep``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.progress import near, shown
from mlmd.cli.train import describe as describe_training
from mlmd.cli.train import training_options

if TYPE_CHECKING:
    from mlmd.train.sweep import Outcome, Sweep, SweepStep


_POTENTIALS = ("energy [meV/atom]", "forces [meV/Å]", "stress [MPa]")


@click.command()
@training_options("sweep", "sweep", "results")
def sweep(input_file: Path, out: Path | None, processes: int | None, as_json: bool, quiet: bool) -> None:
    """Train one model for every combination of the lists in [sweep] of INPUT_FILE, and compare them.

    The rest of the file is an input of `mlmd train`, of potentials or of a property. A table and a plot show the errors
    for the test structures beside the time of an evaluation; * marks models that no other beats in both. The same
    command again continues, and more values in the lists are added to what is there.
    """
    from mlmd.train.sweep import sweep as sweep_input

    with shown(describe, hush=quiet or as_json) as (progress, tell):
        result = sweep_input(input_file, out, n_processes=processes, progress=progress, tell=tell)
    if as_json or not quiet:
        tell_sweep(result, as_json)


def describe(step: SweepStep) -> str:
    """One line: which training of how many, and how far it is."""
    return f"{step.number} of {step.total}: {step.label}: {describe_training(step.step)}"


def tell_sweep(result: Sweep, as_json: bool) -> None:
    """The table, the most accurate first, and where everything is; or all of it as JSON."""
    if as_json:
        outcomes = [asdict(one) for one in result.outcomes]
        click.echo(json.dumps({"sweep": str(result.path), "outcomes": outcomes}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mlmd.train.sweep import error_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    quantity = next((one.quantity for one in result.outcomes if one.quantity), "")
    errors = [f"{word}, {quantity}" for word in ("MAE", "RMSE")] if quantity else _POTENTIALS
    columns = (*errors, "training [s]", "evaluation [µs/atom]")
    for heading in ("", "values", *columns):
        table.add_column(escape(heading), justify="right" if heading in columns else "left")
    trained = [one for one in result.outcomes if one.model]
    for one in sorted(trained, key=lambda one: (error_of(one) is None, error_of(one) or 0.0)):
        table.add_row("*" if one.best else "", escape(one.label), *_numbers(one))
    console = Console(highlight=False)
    if trained:
        (console if console.is_terminal else Console(highlight=False, width=200)).print(table)
    else:
        click.echo("No training is done yet; the command that began them continues.")
    if any(one.best for one in trained):
        click.echo("* no other is both more accurate and faster")
    if left := len(result.outcomes) - len(trained):
        click.echo(f"{left} of {len(result.outcomes)} combinations were left out; sweep.csv says why.")
    files = [name for name in ("sweep.json", "sweep.csv", "pareto.png", "inputs/") if (result.path / name).exists()]
    click.echo(f"In {near(result.path)}/: {', '.join(files)} and a folder for each training")


def _numbers(one: Outcome) -> list[str]:
    """Errors and times in three digits."""
    errors = (one.mae, one.rmse) if one.quantity else (one.energy, one.forces, one.stress)
    values = (*errors, one.seconds, one.microseconds)
    return ["–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values]
