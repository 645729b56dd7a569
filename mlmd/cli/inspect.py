"""``mlmd new``, ``check``, ``show`` and ``doctor``: to look at things without running them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli import Group
from mlmd.errors import MlmdError, StorageError

if TYPE_CHECKING:
    from mlmd.engine.preview import Preview
    from mlmd.train.preview import Preview as TrainingPreview

    Result = Preview | TrainingPreview | MlmdError

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
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="Where the potential computes: cpu, cuda, cuda:0.")
@_JSON
@click.pass_context
def check(ctx: click.Context, inputs: tuple[Path, ...], device: str, as_json: bool) -> None:
    """Validate INPUTS of simulate or train, with all that they name, and estimate memory and time. Writes nothing."""
    results: list[tuple[Path, Result]] = [(path, _preview(path, device)) for path in inputs]
    errors = [result for _, result in results if isinstance(result, MlmdError)]
    if as_json:
        click.echo(json.dumps({"inputs": [_as_json(path, result) for path, result in results]}))
    elif len(results) == 1:
        if errors:
            raise errors[0]
        _print_result(results[0][1])
    else:
        _print_table(results)
    if errors:
        ctx.exit(errors[0].exit_code)


def _preview(path: Path, device: str) -> Result:
    """What an input would do, or why it is wrong."""
    try:
        from mlmd.config import check_files, command_of, load_simulate, load_train

        # a mistake in the file itself is answered before torch is imported
        if command_of(path) == "train":
            check_files(load_train(path), path)
            from mlmd.train.preview import preview as preview_training

            return preview_training(path)
        load_simulate(path)
        from mlmd.engine.preview import preview

        return preview(path, device)
    except MlmdError as error:
        return error


def _as_json(path: Path, result: Result) -> dict[str, Any]:
    """An entry of the list that --json prints."""
    if isinstance(result, MlmdError):
        return {
            "input": str(path), "ok": False, "error": type(result).__name__, "message": str(result),
            "exit_code": result.exit_code,
        }  # fmt: skip
    return {"ok": True, **result.to_json()}


def _print_result(result: Result) -> None:
    """One input as a list of facts."""
    if isinstance(result, MlmdError):
        raise result
    facts = _facts_of_run(result) if hasattr(result, "stages") else _facts_of_training(result)
    _print_facts(result.input, facts)
    for note in result.notes:
        click.echo(f"Note: {note.removesuffix('.')}.")
    click.echo("The input is valid.")


def _facts_of_training(result: TrainingPreview) -> dict[str, str]:
    """What would be fitted to what, and how long it would take."""
    labels = ", ".join(f"{name} of {n:,}" for name, n in result.labels.items())
    unknowns = f"{result.n_linear:,}" + (f" + {result.n_radial:,} in the radial functions" if result.n_radial else "")
    length = f"{_duration(result.hours)}, {result.n_processes} processes"
    if result.max_iterations > 1:
        each = _duration(result.seconds_per_iteration / 3600)
        length = f"{each} for each of at most {result.max_iterations} iterations, {length}"
    return {
        "training": f"{result.n_frames:,} structures, {result.n_atoms:,} atoms: {', '.join(result.elements)}",
        "labels": labels,
        "groups": ", ".join(f"{name or '(none)'} {n:,}" for name, n in result.groups.items() if any(result.groups)),
        "test": f"{result.n_test_frames:,} structures",
        "model": f"{result.model}, from {result.min_distance:g} to {result.cutoff:g} Å",
        "equations": f"{result.n_equations:,}",
        "unknowns": unknowns,
        "time": f"about {length}",
        "memory": f"about {result.memory:.0f} MB in each process",
    }


def _facts_of_run(result: Preview) -> dict[str, str]:
    """What would be simulated, and how long it would take."""
    structure = f"{result.formula}, {result.n_atoms:,} atoms"
    if result.volume is not None:
        structure += f", {result.volume:.1f} Å³, {result.density:.4g} g/cm³"
    at_rest = f"{result.energy:.5f} eV/atom, largest force {result.max_force:.3g} eV/Å"
    if result.pressure is not None:
        at_rest += f", {result.pressure:.4g} bar"
    return {
        "structure": structure,
        "potential": f"{result.potential}, cutoff {result.cutoff:g} Å",
        "as it is": at_rest,
        "stages": "\n".join(f"{number}  {stage}" for number, stage in enumerate(result.stages, 1)),
        "speed": f"{1e3 * result.seconds_per_step:.3g} ms/step, {result.ns_per_day:.3g} ns/day",
        "dynamics": f"{result.n_steps:,} steps, about {_duration(result.hours)}",
        "memory": f"{result.memory:.0f} MB, the most so far",
        "trajectory": f"{result.trajectory:.3g} MB",
    }


def _print_table(results: list[tuple[Path, Result]]) -> None:
    """Several inputs, one a line; what is wrong with them below, on standard error."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("input", "atoms", "potential", "ms/step", "ns/day", "time", "MB so far"):
        table.add_column(heading, justify="left" if heading in ("input", "potential") else "right")
    for path, result in results:
        if isinstance(result, MlmdError):
            table.add_row(escape(str(path)), "", f"[red]{type(result).__name__}[/red]")
        elif hasattr(result, "stages"):
            table.add_row(
                escape(str(path)), f"{result.n_atoms:,}", result.potential, f"{1e3 * result.seconds_per_step:.3g}",
                f"{result.ns_per_day:.3g}", _duration(result.hours), f"{result.memory:.0f}",
            )  # fmt: skip
        else:
            row = (f"{result.n_atoms:,}", result.model, "", "", _duration(result.hours), f"{result.memory:.0f}")
            table.add_row(escape(str(path)), *row)
    _console().print(table)
    for _, result in results:
        if isinstance(result, MlmdError):
            click.echo(f"{type(result).__name__}: {result}", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_JSON
def show(file: Path, as_json: bool) -> None:
    """Describe FILE: a potential, a structure or a run folder, or the name of a potential of `mlmd models`."""
    from mlmd.cli.describe import describe

    facts = describe(file)
    if as_json:
        click.echo(json.dumps(facts))
        return
    from mlmd.cli.card import readable

    card, paragraphs = readable(facts.pop("card", {}))
    facts |= {"card": card}
    _print_facts(str(file), {key: _text(value) for key, value in facts.items() if not _is_empty(value)})
    for paragraph in paragraphs:
        click.echo(f"\n{paragraph}")


@click.command("models")
@_JSON
def list_models(as_json: bool) -> None:
    """The potentials that come with mlmd: `potential = "NAME"` in an input, `mlmd show NAME` for all about one."""
    from mlmd.cli.describe import describe_models

    facts = describe_models()
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
        table.add_row(*("–" if _is_empty(value) else escape(_line(value)) for value in one.values()))
    _console().print(table)
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
        _console().print(table)
    if any(finding.state in ("missing", "broken") for finding in findings):
        ctx.exit(2)


def _print_facts(title: str, facts: dict[str, str]) -> None:
    """Two columns under a title."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for key, value in facts.items():
        table.add_row(escape(key), escape(value))
    click.echo(title)
    _console().print(table)


def _console() -> Any:
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


def _duration(hours: float) -> str:
    """Hours in words, e.g. ``42 s``, ``3.5 h``, ``12 d``."""
    for limit, size, unit in ((1 / 60, 3600, "s"), (1, 60, "min"), (48, 1, "h")):
        if hours < limit:
            return f"{hours * size:.2g} {unit}"
    return f"{hours / 24:.3g} d"
