"""Tables of runs: ``mlmd status``, and what ``mlmd simulate`` says of the replicas of an input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.inspect import console
from mlmd.cli.progress import near, shown
from mlmd.errors import InputError, MlmdError

if TYPE_CHECKING:
    from mlmd.config.slurm import Slurm
    from mlmd.engine.replicas import Moment
    from mlmd.engine.status import Status

_COLOURS = {
    "done": "green",
    "running": "cyan",
    "queued": "blue",
    "failed": "red",
    "killed": "red",
    "interrupted": "yellow",
}
_LONGEST = 70
"""Letters of a message in the table."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
def status(folder: Path, as_json: bool) -> None:
    """How far the run in FOLDER is, or each run of a folder of replicas: state, step, speed, mean temperature.

    Of replicas that exchange it tells which share of the exchanges of each pair was accepted, and the round trips.
    """
    from mlmd.engine.status import status as statuses_of

    found = statuses_of(folder)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "runs": [one.to_json() for one in found], **_exchanges(folder)}))
    else:
        print_table(found)
        print_exchanges(folder)


def print_table(found: Sequence[Status]) -> None:
    """A line for each run."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "state", "step", "of", "ns", "ns/day", "mean T [K]", "last message"):
        left = heading in ("run", "state", "last message")
        table.add_column(escape(heading), justify="left" if left else "right", no_wrap=True)
    for one in found:
        colour = _COLOURS.get(one.state, "default")
        message = one.message if len(one.message) <= _LONGEST else one.message[: _LONGEST - 1] + "…"
        table.add_row(
            escape(one.name), f"[{colour}]{one.state}[/]", f"{one.step:,}", f"{one.n_steps:,}" if one.n_steps else "–",
            f"{one.nanoseconds:.4g}", _number(one.ns_per_day), _number(one.temperature), escape(message),
        )  # fmt: skip
    console().print(table)


def _exchanges(folder: Path) -> dict[str, Any]:
    """What has been exchanged in a folder, where its replicas do that."""
    from mlmd.engine.exchange_log import exchanges_in, to_json
    from mlmd.engine.status import read_list
    from mlmd.rundir import REPLICAS

    found = exchanges_in(folder, read_list(folder)) if (folder / REPLICAS).exists() else None
    return {} if found is None else {"exchange": to_json(*found)}


def print_exchanges(folder: Path) -> None:
    """How many exchanges there were, and a line for each pair of neighbours; nothing for independent runs."""
    from rich.markup import escape
    from rich.table import Table

    from mlmd.engine.exchange_log import FEW

    found = _exchanges(folder).get("exchange")
    if found is None:
        return
    click.echo(f"\nexchanges: {found['exchanges']:,}, round trips: {found['round_trips']:,}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("pair", "tries", "accepted"):
        table.add_column(heading, justify="left" if heading == "pair" else "right", no_wrap=True)
    for one in found["pairs"]:
        share = one["acceptance"]
        shown = "–" if share is None else f"[red]{share:.0%}[/]" if share < FEW else f"{share:.0%}"
        table.add_row(escape(" – ".join(one["replicas"])), f"{one['tries']:,}", shown)
    console().print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def describe(moment: Moment) -> str:
    """One line: how many are done, and how far those are that run."""
    running = ", ".join(f"{name} {share:.0%}" for name, share in moment.running.items())
    failed = f", {moment.n_failed} failed" if moment.n_failed else ""
    return f"{moment.n_done} of {moment.n_replicas} done{failed}; {running}"


def simulate_all(
    input_file: Path,
    out: Path | None,
    *,
    here: bool,
    max_hours: float | None,
    as_json: bool,
    quiet: bool,
    **hardware: Any,
) -> None:
    """Run the replicas of an input, or submit them, and show the table, also of what has failed or stopped."""
    from mlmd.config.replicas import slurm_of

    slurm = None if here else slurm_of(input_file)
    if slurm is not None:
        if max_hours is not None:
            raise InputError(
                "--max-hours is for runs on this machine; the limit of a job is replicas: slurm: time. With --here too "
                "they run on this machine."
            )
        _submit(input_file, out, slurm, as_json=as_json, quiet=quiet, **hardware)
        return
    from mlmd.engine.replicas import simulate_replicas
    from mlmd.engine.status import status as statuses_of
    from mlmd.rundir import REPLICAS, default_folder

    try:
        with shown(describe, hush=quiet or as_json) as (progress, tell):
            simulate_replicas(input_file, out, max_hours=max_hours, progress=progress, tell=tell, **hardware)
    except MlmdError as error:
        folder = out or default_folder(input_file)
        if error.exit_code in (3, 75) and (folder / REPLICAS).exists() and not quiet:
            _tell(folder, statuses_of(folder), as_json=as_json)
        raise
    folder = out or default_folder(input_file)
    if not quiet:
        _tell(folder, statuses_of(folder), as_json=as_json)
        if not as_json:
            click.echo(f"All replicas are complete: {near(folder.absolute())}/")


def _submit(input_file: Path, out: Path | None, slurm: Slurm, *, as_json: bool, quiet: bool, **hardware: Any) -> None:
    from mlmd.engine.slurm import submit_replicas

    with shown(describe, hush=quiet or as_json) as (_, tell):
        runs = submit_replicas(input_file, slurm, out, tell=tell, **hardware)
    if quiet:
        return
    _tell(runs.path, runs.statuses, as_json=as_json)
    if not as_json:
        done = all(one.state == "done" for one in runs.statuses)
        said = "All replicas are complete: {0}/" if done else "mlmd status {0} tells how far they are."
        click.echo(said.format(near(runs.path)))


def _tell(folder: Path, found: Sequence[Status], *, as_json: bool) -> None:
    if as_json:
        runs = [one.to_json() for one in found]
        click.echo(json.dumps({"replicas": str(folder.absolute()), "runs": runs, **_exchanges(folder)}))
    else:
        print_table(found)
        print_exchanges(folder)
