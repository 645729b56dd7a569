"""``mlmd analyze viscosity``, ``thermal-conductivity`` and ``conductivity``: Green-Kubo integrals of fluxes.csv."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.analysis import FOLDER
from mlmd.cli.analyze.answer import Asked, bare, new_table
from mlmd.cli.analyze.options import FILE, Options, Time, with_asked, with_options

if TYPE_CHECKING:
    from rich.table import Table

    from mlmd.analysis.green_kubo import GreenKubo

_OPTIONS: Options = (
    click.argument("runs", nargs=-1, required=True, type=FILE, metavar="RUN..."),
    click.option("--stage", type=click.IntRange(min=1), help="Number of the stage [default: the last with fluxes]."),
    click.option("--from", "first_time", type=Time(), help='Leave out what was before, e.g. "20 ps" of each run.'),
    click.option("--to", "last_time", type=Time(), help="Leave out what was after."),
    click.option(
        "--cutoff", type=click.FloatRange(min=0.0, min_open=True),
        help="THz, highest frequency of the spectrum that is used [default: where it has fallen].",
    ),
    with_asked(f"{FOLDER} in the RUN that is given alone"),
)  # fmt: skip


def _command(name: str, function: str, text: str) -> click.Command:
    def command(runs: tuple[Path, ...], asked: Asked, **options: Any) -> None:
        from mlmd.analysis import green_kubo

        compute: Callable[..., GreenKubo] = getattr(green_kubo, function)
        result = compute(runs, **options)
        folder = runs[0] / FOLDER if len(runs) == 1 and runs[0].is_dir() else Path(FOLDER)
        asked.answer(folder).give(result, lambda: _table(result), result.notes)

    command.__doc__ = text
    return click.command(name)(with_options(_OPTIONS, command))


viscosity = _command(
    "viscosity", "viscosity",
    """Shear viscosity of RUNs that wrote their stress, from its fluctuations.

    The runs have [output] fluxes = ["stress"]. Several are averaged. The error is that of the spectrum at zero
    frequency by cepstral analysis.
    """,
)  # fmt: skip
thermal_conductivity = _command(
    "thermal-conductivity", "thermal_conductivity",
    """Thermal conductivity of RUNs that wrote their heat flux, from its fluctuations.

    The runs have [output] fluxes = ["heat"]. The heat flux is freed of the number fluxes of elements, which are
    written beside it, and of a "current". Several are averaged.
    """,
)  # fmt: skip
conductivity = _command(
    "conductivity", "conductivity",
    """Ionic conductivity of RUNs that wrote their current, from its fluctuations.

    The runs have [output] fluxes = ["current"]. Unlike the Nernst–Einstein conductivity of `diffusion` it has the
    correlation between ions. Several are averaged.
    """,
)  # fmt: skip


def _table(result: GreenKubo) -> Table:
    table = new_table(
        f"{', '.join(one.path for one in result.provenance)}, {result.temperature:.4g} K",
        f"{result.symbol} ({result.coefficient.unit})", "running integral", "until (ps)", "used up to (THz)",
    )  # fmt: skip
    until = f"{result.cutoff_time / 1e3:.3g}" if result.running.determined else "–"
    table.add_row(bare(result.coefficient), bare(result.running), until, f"{1e3 * result.spectrum.cutoff:.3g}")
    return table
