"""``mlmd new``, ``show``, ``models`` and ``doctor``: to look at things without running them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlmd.cli.evaluate import trust_option
from mlmd.cli.groups import Group
from mlmd.config.files import SWEEP
from mlmd.errors import StorageError

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def new() -> None:
    """Write a commented input file to start from."""


def _template_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where the file goes, and how much it says."""
    command = click.option("--full", is_flag=True, help="List every option with its default.")(command)
    return click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: print it].")(
        command
    )


@new.command("simulate")
@_template_options
def new_simulate(output: Path | None, full: bool) -> None:
    """A commented input file of `mlmd simulate`, printed, or written to a new file with -o."""
    _hand_out_template("simulate", output, full)


@new.command("train")
@_template_options
def new_train(output: Path | None, full: bool) -> None:
    """A commented input file of `mlmd train`, printed, or written to a new file with -o."""
    _hand_out_template("train", output, full)


def _hand_out_template(command: str, output: Path | None, full: bool) -> None:
    """Print an input file to start from, or write it to a new file."""
    from mlmd.config import template

    text = template(command, full=full)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise StorageError(f"{output} exists already; nothing was written. Give another name.") from None
    except OSError as error:
        raise StorageError(f"{output} cannot be written: {error.strerror}.") from None
    click.echo(f"Wrote {output}. Edit it, then: mlmd check {output}", err=True)


@click.command()
@click.argument("file")
@click.option("--options", metavar="JSON", help="Of a kind of potential, as in an input's table: FILE may be a kind.")
@trust_option
@_JSON
def show(file: str, options: str | None, trust: tuple[str, ...], as_json: bool) -> None:
    """Describe FILE: a potential, a structure, a trajectory, a checkpoint, features, or the folder of a run, a training
    or a sweep, or a name of `mlmd models`.

    A model of another program is described by its kind, with --options or as a table, e.g. mlmd show chgnet, or mlmd
    show '{ kind = "ase", calculator = "ase.calculators.emt:EMT" }'. A potential with a model of another program in it
    is built with --trust only.
    """
    if (Path(file) / SWEEP).is_file():
        from mlmd.cli.sweep import tell_sweep
        from mlmd.train.sweep import read_sweep

        tell_sweep(read_sweep(Path(file)), as_json)
        return
    from mlmd.cli.inline import is_table
    from mlmd.cli.show import facts_of, facts_of_kind, is_kind

    is_built = options is not None or trust or is_table(file) or is_kind(file)
    facts = facts_of_kind(file, options or "{}", trust) if is_built else facts_of(Path(file))
    if as_json:
        click.echo(json.dumps(facts))
        return
    from mlmd.cli.card import readable

    card, paragraphs = readable(facts.pop("card", {}))
    facts |= {"card": card}
    print_facts(file, {key: _text(value) for key, value in facts.items() if not _is_empty(value)})
    for paragraph in paragraphs:
        click.echo(f"\n{paragraph}")


@click.command("models")
@_JSON
def list_models(as_json: bool) -> None:
    """The potentials that come with mlmd: `potential = "NAME"` in an input, `mlmd show NAME` for all about one."""
    from mlmd.cli.show import facts_of_models

    facts = facts_of_models()
    if as_json:
        click.echo(json.dumps({"models": facts}))
        return
    if not facts:
        click.echo("No potentials come with this installation of mlmd.")
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in facts[0]:
        table.add_column(escape(heading))
    for one in facts:
        # errors of potentials are known to three digits at best
        cells = (f"{value:.3g}" if isinstance(value, float) else _line(value) for value in one.values())
        table.add_row(
            *("–" if _is_empty(value) else escape(cell) for value, cell in zip(one.values(), cells, strict=True))
        )
    console().print(table)
    click.echo("Errors are root mean squares for structures that the potential was not trained on.")


@click.command()
@_JSON
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """The state of the installation: packages, OpenMM platforms, GPU, PLUMED kernel."""
    from mlmd.cli.surroundings import survey

    findings = survey()
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings]))
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("", "state", "version", "what to know"):
            table.add_column(heading)
        colours = {"ok": "green", "missing": "red", "broken": "red", "optional": "yellow"}
        for finding in findings:
            state = f"[{colours[finding.state]}]{finding.state}[/]"
            table.add_row(finding.name, state, finding.version or "", escape(finding.note))
        console().print(table)
    if any(finding.state in ("missing", "broken") for finding in findings):
        ctx.exit(2)


def print_facts(title: str, facts: dict[str, str]) -> None:
    """Two columns under a title."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for key, value in facts.items():
        table.add_row(escape(key), escape(value))
    click.echo(title)
    console().print(table)


def console() -> Any:
    """Standard output; wide when it is not a terminal, so that nothing is folded in a file."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def _text(value: Any) -> str:
    """A fact as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_line(item)}" for key, item in value.items() if not _is_empty(item))
    if isinstance(value, list | tuple):
        lines = [_line(item) for item in value]
        return ("\n" if any(" " in line for line in lines) else ", ").join(lines)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(value: Any) -> str:
    """A fact within another one, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_line(item)}" for key, item in value.items() if not _is_empty(item))
    return _text(value).replace("\n", "; ")


def _is_empty(value: Any) -> bool:
    """Whether there is nothing to print."""
    return value is None or value in ("", [], {}, ())
