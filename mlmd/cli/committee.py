"""``mlmd committee``."""

from __future__ import annotations

from pathlib import Path

import click

from mlmd.cli.evaluate import bar, key_options, keys_of, trust_option
from mlmd.cli.inline import is_table, table_of


@click.command()
@click.argument("models", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The file to write, .mlmd.")
@click.option("--elements", metavar="LIST", help="Elements in the order of .mtp files, e.g. Li,Y,Cl.")
@click.option(
    "--data", multiple=True, type=click.Path(path_type=Path),
    help="Structures with forces, unknown to the members, to calibrate the spread with; may be given again.",
)  # fmt: skip
@trust_option
@key_options
def committee(
    models: tuple[str, ...], out: Path, elements: str | None, data: tuple[Path, ...], trust: tuple[str, ...],
    energy_key: str | None, forces_key: str | None, stress_key: str | None, virial_key: str | None,
    group_key: str | None,
    type_map: str | None,
) -> None:  # fmt: skip
    """Write one potential that is the mean of several; where they disagree it has a spread.

    MODEL is a file, the name of a potential that comes with mlmd, or a table as an input would have it, such as
    '{ kind = "sevennet", name = "7net-0" }': of any kinds, fitted to the same labels. The file holds all members (of
    models of other programs how they are made), and evaluating it takes as long as all of them. A file that exists is
    not replaced.

    The spread is the standard deviation of the members' forces. With --data it is multiplied by a factor with which the
    errors of these forces are as large as it says; without, it is not calibrated, and mostly too small.
    """
    from mlmd.cli.evaluate import load_model, load_table, trust_of_each
    from mlmd.io.labelled import read_labelled
    from mlmd.train.mean import write

    keys = keys_of((energy_key, forces_key, stress_key, virial_key, group_key), type_map)
    frames = [frame for path in data for frame in read_labelled(path, keys=keys)] if data else None
    shares = trust_of_each([model for model in models if not is_table(model)], trust)
    members = {
        model: load_table(table_of(model), model, "cpu")
        if is_table(model)
        else load_model(model, elements, "{}", "cpu", shares[model])
        for model in models
    }
    with bar(hush=frames is None) as progress:
        made = write(members, out, frames, progress)
    factor = "not calibrated: give --data" if frames is None else f"calibrated by a factor of {made.calibration:.3g}"
    click.echo(f"Potential: {out}: the mean of {len(models)}, for {', '.join(made.elements)}")
    click.echo(f"Spread of forces: {factor}")
