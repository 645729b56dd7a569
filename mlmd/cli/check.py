"""``mlmd check``: what an input would do, without doing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.inspect import console, print_facts
from mlmd.errors import MlmdError, counted, some_of

if TYPE_CHECKING:
    from mlmd.engine.preview import Preview
    from mlmd.train.preview import Preview as TrainingPreview
    from mlmd.train.property_preview import PropertyPreview
    from mlmd.train.sweep_preview import SweepPreview

    Result = Preview | TrainingPreview | PropertyPreview | SweepPreview | MlmdError


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="Where the potential computes: cpu, cuda, cuda:0.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.pass_context
def check(ctx: click.Context, inputs: tuple[Path, ...], device: str, as_json: bool) -> None:
    """Validate INPUTS of simulate, train or sweep, and all that they name; estimate memory and time. Writes nothing."""
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
        from mlmd.config import check_files, command_of, load_simulate, load_train, of_structures
        from mlmd.config.replicas import has_replicas, load_replicas

        # a mistake in the file itself is answered before torch is imported
        command = command_of(path)
        if command == "sweep":
            from mlmd.config.sweep import load_sweep

            load_sweep(path)
            from mlmd.train.sweep_preview import preview_sweep

            return preview_sweep(path)
        if command == "train":
            config = load_train(path)
            check_files(config, path)
            if of_structures(config.descriptor, config.fit):
                from mlmd.train.property_preview import preview_property

                return preview_property(path)
            from mlmd.train.preview import preview as preview_training

            return preview_training(path)
        if has_replicas(path):
            load_replicas(path)
            from mlmd.engine.preview import preview_replicas

            return preview_replicas(path, device)
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
    if result.command == "sweep":
        _print_sweep(result)
    else:
        print_facts(result.input, _facts(result))
    for note in result.notes:
        click.echo(f"Note: {note}" if note.endswith(("?", ".")) else f"Note: {note}.")
    click.echo("The input is valid.")


def _facts(result: Preview | TrainingPreview | PropertyPreview) -> dict[str, str]:
    """What would be done, in the order in which a person wants it."""
    if result.command == "simulate":
        return _facts_of_run(result)
    from mlmd.train.property_preview import PropertyPreview

    return _facts_of_property(result) if isinstance(result, PropertyPreview) else _facts_of_training(result)


def _print_sweep(result: SweepPreview) -> None:
    """What all trainings have in common, a line for each of them, and what they take together."""
    from rich.markup import escape
    from rich.table import Table

    from mlmd.train.property_preview import PropertyPreview

    first = result.known[0]
    facts = _facts(first)
    left = f", {result.n_left_out} of {len(result.trainings)} combinations left out" if result.n_left_out else ""
    common = {key: value for key, value in facts.items() if key in ("training", "property", "labels", "groups", "test")}
    processes = getattr(first, "n_processes", 1)  # what is learned of structures is fitted in one
    print_facts(
        result.input,
        {
            **common,
            "trainings": f"{result.n_possible}{left}",
            "time": f"about {_duration(result.hours)} for the fits with {processes} process{'es' * (processes > 1)}; "
            "learning curves and errors besides",
            "memory": f"about {result.memory:.0f} MB in each process",
        },
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("values", "model", "unknowns", "time"):
        table.add_column(heading, justify="right" if heading in ("unknowns", "time") else "left")
    for one in result.trainings:
        if one.training:
            given, hours = one.training, one.training.hours
            n_unknowns = given.n_unknowns if isinstance(given, PropertyPreview) else given.n_linear + given.n_radial
            row = (one.training.model, f"{n_unknowns:,}", _duration(hours))
        else:
            row = (f"left out: {one.problem}" if one.problem else "not looked at", "", "")
        table.add_row(escape(one.label), escape(row[0]), *row[1:])
    console().print(table)


def _facts_of_property(result: PropertyPreview) -> dict[str, str]:
    """What would be learned of which structures, and how long it would take."""
    return {
        "training": f"{counted(result.n_frames, 'structure')}, {counted(result.n_atoms, 'atom')}: "
        f"{', '.join(result.elements)}",
        "property": f"{result.property}: mean {result.mean:.6g}, mean absolute deviation {result.deviation:.4g}",
        "test": counted(result.n_test_frames, "structure"),
        "model": result.model,
        "unknowns": f"{result.n_unknowns:,}",
        "time": f"about {_duration(result.hours)}",
        "memory": f"about {result.memory:.0f} MB",
    }


def _facts_of_training(result: TrainingPreview) -> dict[str, str]:
    """What would be fitted to what, and how long it would take."""
    labels = ", ".join(f"{name} of {n:,}" for name, n in result.labels.items())
    unknowns = f"{result.n_linear:,}" + (f" + {result.n_radial:,} in the radial functions" if result.n_radial else "")
    processes = f"{result.n_processes} process{'es' * (result.n_processes > 1)}"
    length = f"about {_duration(result.hours)} for the fit with {processes}"
    if result.max_iterations > 1:
        each = _duration(result.seconds_per_iteration / 3600)
        of = f" of {result.n_members} networks" if result.n_members > 1 else ""
        length = f"{each} for each of at most {result.max_iterations} {result.step}s{of}, {length}"
    groups = [f"{name or '(none)'} {n:,}" for name, n in result.groups.items()] if any(result.groups) else []
    return {
        "training": f"{counted(result.n_frames, 'structure')}, {counted(result.n_atoms, 'atom')}: "
        f"{', '.join(result.elements)}",
        "labels": labels,
        **({"groups": ", ".join(groups)} if groups else {}),
        "test": counted(result.n_test_frames, "structure"),
        "model": f"{result.model}, from {result.min_distance:g} to {result.cutoff:g} Å"
        if result.min_distance
        else f"{result.model}, up to {result.cutoff:g} Å",
        "equations": f"{result.n_equations:,}",
        "unknowns": unknowns,
        "time": length,
        "memory": f"about {result.memory:.0f} MB in each process",
    }


def _facts_of_run(result: Preview) -> dict[str, str]:
    """What would be simulated, and how long it would take."""
    structure = f"{result.formula}, {result.n_atoms:,} atoms"
    if result.volume is not None:
        structure += f", {result.volume:.1f} Å³, {result.density:.4g} g/cm³"
    at_rest = "no energy" if result.energy is None else f"{result.energy:.5f} eV/atom"
    at_rest += f", largest force {result.max_force:.3g} eV/Å"
    if result.pressure is not None:
        at_rest += f", {result.pressure:.4g} bar"
    replicas = {}
    if result.replicas:
        at_once = f"{result.n_processes} at a time"
        if result.exchange_every is not None:
            at_once = f"in turn, with an exchange every {result.exchange_every:,} steps"
        replicas = {"replicas": f"{len(result.replicas)}, {at_once}: {some_of(result.replicas, 12)}"}
    steps = f"{result.n_steps:,} steps" + (" in each" if replicas else "")
    return {
        **replicas,
        "structure": structure,
        "potential": result.potential + (f", cutoff {result.cutoff:g} Å" if result.cutoff else ""),
        "as it is": at_rest,
        "stages": "\n".join(f"{number}  {stage}" for number, stage in enumerate(result.stages, 1)),
        **(
            {
                "speed": f"{1e3 * result.seconds_per_step:.3g} ms/step, {result.ns_per_day:.3g} ns/day",
                "dynamics": f"{steps}, about {_duration(result.hours)}{' for all' if replicas else ''}",
            }
            if result.moves
            else {"rerun": f"{result.n_steps:,} frames, about {_duration(result.hours)}"}
        ),
        "memory": f"{result.memory:.0f} MB, the most so far",
        "trajectory": f"{result.trajectory:.3g} MB",
    }


def _print_table(results: list[tuple[Path, Result]]) -> None:
    """Several inputs, one a line; what is wrong with them below, on standard error."""
    from rich.markup import escape
    from rich.table import Table

    headings = ("input", "atoms", "potential", "ms/step", "ns/day", "time", "MB so far")
    rows = [(escape(str(path)), *_cells(result)) for path, result in results]
    told = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in told:
        table.add_column(headings[column], justify="left" if headings[column] in ("input", "potential") else "right")
    for row in rows:
        table.add_row(*(row[column] for column in told))
    console().print(table)
    for _, result in results:
        if isinstance(result, MlmdError):
            click.echo(f"{type(result).__name__}: {result}", err=True)


def _cells(result: Result) -> tuple[str, str, str, str, str, str]:
    """The line of an input, without its name; empty where there is nothing to tell."""
    if isinstance(result, MlmdError):
        return "", f"[red]{type(result).__name__}[/red]", "", "", "", ""
    time, memory = _duration(result.hours), f"{result.memory:.0f}"
    if result.command == "simulate":
        speed = f"{1e3 * result.seconds_per_step:.3g}", f"{result.ns_per_day:.3g}" if result.moves else ""
        return f"{result.n_atoms:,}", result.potential, *speed, time, memory
    if result.command == "sweep":
        return f"{result.known[0].n_atoms:,}", f"{result.n_possible} trainings", "", "", time, memory
    return f"{result.n_atoms:,}", result.model, "", "", time, memory


def _duration(hours: float) -> str:
    """Hours in words, e.g. ``42 s``, ``3.5 h``, ``12 d``."""
    for limit, size, unit in ((1 / 60, 3600, "s"), (1, 60, "min"), (48, 1, "h")):
        if hours < limit:
            return f"{hours * size:.2g} {unit}"
    return f"{hours / 24:.3g} d"
