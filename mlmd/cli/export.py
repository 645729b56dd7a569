"""``mlmd export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.evaluate import trust_option

if TYPE_CHECKING:
    from mlmd.potentials import Potential


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--elements", metavar="LIST", help="Elements in the order of an .mtp file, e.g. Li,Y,Cl.")
@trust_option
def export(model: str, out: Path, elements: str | None, trust: tuple[str, ...]) -> None:
    """Write the potential MODEL for other programs: OUT ends in .mtp (MLIP-2, MLIP-3) or .snapcoeff (LAMMPS).

    MODEL is a file, or the name of a potential that comes with mlmd. The parameters of a SNAP go beside its
    coefficients, as .snapparam; how to add the ZBL of a SNAP with ZBL in LAMMPS is printed. Files that exist are not
    replaced.
    """
    from mlmd.cli.evaluate import load_model
    from mlmd.potentials.export import export as write

    potential = load_model(model, elements, "{}", "cpu", trust)
    written = write(potential, out)
    click.echo(f"Written: {', '.join(map(str, written))}")
    for line in _usage(written, potential):
        click.echo(line)


def _usage(written: Sequence[Path], potential: Potential) -> tuple[str, ...]:
    """What a person needs to know to use the files."""
    from ase.data import atomic_numbers

    from mlmd.potentials.export import zbl_beside

    elements = potential.elements
    if written[0].suffix == ".mtp":
        return (f"Its species are {', '.join(elements)} in this order, which the file does not say.",)
    files = " ".join(str(path) for path in written)
    heading = f"In LAMMPS (units metal), with atom types in the order {', '.join(elements)}:"
    zbl = zbl_beside(potential)
    if zbl is None:
        return heading, "  pair_style snap", f"  pair_coeff * * {files} {' '.join(elements)}"
    numbered = list(enumerate(elements, 1))
    pairs = [(one, other) for one in numbered for other in numbered if one <= other]
    return (
        f"{heading[:-1]}; ZBL is not in the files:",
        f"  pair_style hybrid/overlay snap zbl {zbl.onset!r} {zbl.cutoff!r}",
        f"  pair_coeff * * snap {files} {' '.join(elements)}",
        *(f"  pair_coeff {i} {j} zbl {atomic_numbers[one]} {atomic_numbers[other]}" for (i, one), (j, other) in pairs),
    )
