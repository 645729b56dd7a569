"""``mlmd elastic``: how crystals answer to strain, by any potential."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.energy import read_given, structure_options

if TYPE_CHECKING:
    from mlmd.sample.elastic import Elastic


@click.command()
@structure_options
@click.option("--strain", default=2e-3, show_default=True, help="Of the smaller of two differences.")
@click.option("--as-is", is_flag=True, help="Do not relax atoms and cell first.")
@click.option("--clamped", is_flag=True, help="Do not relax the atoms of strained cells.")
@click.option("--no-eos", is_flag=True, help="Leave out the equation of state.")
def elastic(
    structures: tuple[Path, ...], potential: str, elements: str | None, options: str, device: str, as_json: bool,
    trust: tuple[str, ...], strain: float, as_is: bool, clamped: bool, no_eos: bool,
) -> None:  # fmt: skip
    """Elastic constants, moduli and the equation of state of crystals in STRUCTURES, which are relaxed first.

    Errors are those of the differences, from two strains; the potential has its own.
    """
    method, frames = read_given(structures, potential, elements, options, device, trust)
    from mlmd.sample.elastic import elastic_constants

    found = []
    for frame in frames:
        one = elastic_constants(
            method, frame.atoms, frame.source, relax=not as_is, clamped=clamped, strain=strain,
            with_equation=not no_eos,
        )  # fmt: skip
        found.append(one.to_json())
        if not as_json:
            _print(one)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, allow_nan=False))


def _print(found: Elastic) -> None:
    from rich.table import Table

    from mlmd.analysis.estimate import Estimate
    from mlmd.cli.inspect import console

    table = Table(
        title=f"{found.structure}: elastic constants (GPa)", title_justify="left", box=None, pad_edge=False
    )  # fmt: skip
    for name in ("", "xx", "yy", "zz", "yz", "xz", "xy"):
        table.add_column(name, justify="right")
    unit = float("nan")
    tiny = 1e-4 * max(1.0, float(abs(found.tensor).max()))
    for row, name in enumerate(("xx", "yy", "zz", "yz", "xz", "xy")):
        cells = (
            "0" if max(abs(value), error) <= tiny else str(Estimate(value, error, "", unit))
            for value, error in zip(found.tensor[row], found.error[row], strict=True)
        )
        table.add_row(name, *cells)
    console().print(table)
    click.echo(f"{'stable' if found.stable else 'not stable'}: eigenvalues from {found.eigenvalues[0]:.4g} GPa")
    for name, one in (*found.moduli.items(), *found.equation_of_state.items()):
        click.echo(f"{name}: {one}")
    for note in found.notes:
        click.echo(note)
