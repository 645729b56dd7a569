"""``mlmd committee``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("models", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The file to write, .mlmd.")
@click.option("--elements", metavar="LIST", help="Elements in the order of .mtp files, e.g. Li,Y,Cl.")
def committee(models: tuple[str, ...], out: Path, elements: str | None) -> None:
    """Write one potential that is the mean of several; where they disagree it has a spread.

    MODEL is a file, or the name of a potential that comes with mlmd: of any kinds, fitted to the same labels. The file
    holds all members, and evaluating it takes as long as all of them. A file that exists is not replaced.
    """
    from mlmd.cli.evaluate import load_model
    from mlmd.potentials.committee import write

    facts = write({model: load_model(model, elements, "{}", "cpu") for model in models}, out)
    click.echo(f"Potential: {out}: the mean of {len(models)}, for {', '.join(facts.elements)}")
