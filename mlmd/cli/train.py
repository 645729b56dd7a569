"""``mlmd train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.progress import near, shown, time_left

if TYPE_CHECKING:
    from mlmd.train.run import Step, Training


def training_options(folder: str, ending: str, printed: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The input and the options of a command that trains.

    Args:
        folder: what its folder is of.
        ending: of the name of that folder.
        printed: what --json prints.
    """
    options = (
        click.argument("input_file", type=click.Path(path_type=Path)),
        click.option(
            "--out", type=click.Path(path_type=Path), help=f"Folder of the {folder} [default: <input>.{ending}]."
        ),
        click.option("--processes", type=click.IntRange(min=1), help="Processes at work [default: one for each core]."),
        click.option("--json", "as_json", is_flag=True, help=f"Print the {printed} as JSON, and nothing else."),
        click.option("--quiet", is_flag=True, help="Print errors only."),
    )

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):  # click lists them from the last one added to the first
            command = option(command)
        return command

    return decorated


@click.command()
@training_options("training", "run", "errors")
def train(input_file: Path, out: Path | None, processes: int | None, as_json: bool, quiet: bool) -> None:
    """Fit a potential, or a property, to the structures that INPUT_FILE names. The same command again continues.

    Ctrl-C or SIGTERM end it with exit code 75; what was done is kept. In the end the folder holds the potential
    or the model of a property (.mlmd), its errors for training and test structures, and plots of both.
    """
    from mlmd.config import check_files, load_train

    check_files(load_train(input_file), input_file)  # a mistake in the file is answered before torch is imported
    from mlmd.train.run import train as train_input

    with shown(describe, hush=quiet or as_json) as (progress, tell):
        training = train_input(input_file, out, n_processes=processes, progress=progress, tell=tell)
    if as_json:
        click.echo(json.dumps(_as_json(training), ensure_ascii=False))
    elif not quiet:
        _tell(training)


def describe(step: Step) -> str:
    """One line: what is being done, how far it is, how long still, how good."""
    line = f"{step.what}  {step.done:,} of {step.total:,}"
    if step.seconds_left is not None:
        line += f"  {time_left(step.seconds_left)}"
    return line + (f"  loss {step.loss:.4g}" if step.loss is not None else "")


def _as_json(training: Training) -> dict[str, Any]:
    """What --json prints."""
    return {
        "run": str(training.path),
        "model": str(training.model),
        "errors": {name: None if table is None else table.to_json() for name, table in training.errors.items()},
        "findings": [{"severity": finding.severity, "text": finding.text} for finding in training.findings],
    }


def _to_trust(model: Path) -> str | None:
    """How to use a potential that has a model of others as a part; None for all others."""
    from mlmd.config.files import sha256
    from mlmd.potentials.modelfile import describe_external, externals, read_spec
    from mlmd.potentials.trust import PREFIX

    if not (foreign := externals(read_spec(model))):
        return None
    return (
        f"A part of it is {' and '.join(map(describe_external, foreign))}. Who uses it says that they trust it:\n"
        f'potential = {{ path = "{near(model)}", trust = "{PREFIX}{sha256(model)}" }}'
    )


def _tell(training: Training) -> None:
    """The errors for the test (or else the training) structures, and where everything is."""
    test = training.errors.get("test")
    table = training.errors["train"] if test is None else test
    if table is not None:
        click.echo(f"Errors for the {'training' if test is None else 'test'} structures")
        click.echo(table.text())
    click.echo(f"{'Potential' if training.is_potential else 'Model'}: {near(training.model)}")
    if training.is_potential and (trusted := _to_trust(training.model)):
        click.echo(trusted)
    plots = sorted(path.name for path in training.path.glob("*.png"))
    click.echo(f"In {near(training.path)}/: errors.json" + "".join(f", {name}" for name in plots))
