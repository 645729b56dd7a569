"""``mlmd export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlmd.cli.evaluate import trust_option

if TYPE_CHECKING:
    from ase import Atoms

    from mlmd.potentials import Potential


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("out", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--to",
    metavar="FORMAT",
    type=click.Choice(("mtp", "snapcoeff", "nep", "torchscript", "metatomic", "mliap")),
    help="Where OUT does not say it.",
)
@click.option(
    "--structure",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="That a TorchScript module is for, or an input of LAMMPS.",
)
@click.option("--elements", metavar="LIST", help="Elements in the order of an .mtp file, e.g. Li,Y,Cl.")
@click.option("--options", default="{}", metavar="JSON", help="Of a kind of potential, as in an input's table.")
@trust_option
def export(
    model: str, out: Path | None, to: str | None, structure: Path | None, elements: str | None, options: str,
    trust: tuple[str, ...],
) -> None:  # fmt: skip
    """Write the potential MODEL for other programs.

    OUT ends in .mtp (MLIP-2, MLIP-3), .snapcoeff (LAMMPS), .txt (NEP for GPUMD), .pt or .ts (TorchScript for
    OpenMM-Torch; .pt with --to metatomic is a model of metatomic) or .mliap (for the Python of LAMMPS' ML-IAP, with an
    input beside it that runs --structure, where that is given); with --to it may be left out. MODEL is a file, the
    name of a potential that comes with mlmd, or a kind (with --options). Files that exist are not replaced.

    The parameters of a SNAP go beside its coefficients, as .snapparam; how to add the ZBL of a SNAP with ZBL in LAMMPS
    is printed.

    A TorchScript module is forward(positions[, box]) in nm and kJ/mol. It is for the atoms of --structure in their
    order, finds their neighbours itself, and is compared with the potential before it is written. A model of metatomic
    is for any structure of the elements that the potential knows, and is compared in the same way.
    """
    from mlmd.cli.evaluate import load_model
    from mlmd.errors import InputError
    from mlmd.io.structures import read_structure
    from mlmd.potentials.export import export as write
    from mlmd.potentials.export import named

    path = named(model, out, to)
    atoms = None if structure is None else read_structure(structure)
    potential = load_model(model, elements, options, "cpu", trust)
    if to == "metatomic":
        from mlmd.pretrained.metatomic_save import save

        if atoms is not None:
            raise InputError("--structure: a model of metatomic holds for any structure. Leave it out.")
        save(potential, path)
        click.echo(f"Written: {path}\nWith metatomic-ase: MetatomicCalculator({str(path)!r}).")
        return
    written = write(potential, path, atoms)
    click.echo(f"Written: {', '.join(map(str, written))}")
    module = atoms is not None and written[0].suffix != ".mliap"
    for line in _module(written[0], atoms) if module and atoms is not None else _usage(written, potential):
        click.echo(line)


def _module(path: Path, atoms: Atoms) -> tuple[str, ...]:
    """How a TorchScript module is used."""
    from mlmd.config.files import sha256

    periodic = bool(atoms.pbc.all())
    uses = ", with setUsesPeriodicBoundaryConditions(True)" if periodic else ""
    arguments = "positions, box" if periodic else "positions"
    return (
        f"It is forward({arguments}) in nm and kJ/mol for {len(atoms)} atoms, {atoms.get_chemical_formula('metal')}, "
        "in their order.",
        f'In OpenMM: openmmtorch.TorchForce("{path}"){uses}. In an input of mlmd:',
        f'  potential = {{ kind = "torchscript", path = "{path}", trust = "sha256:{sha256(path)}" }}',
    )


def _usage(written: Sequence[Path], potential: Potential) -> tuple[str, ...]:
    """What a person needs to know to use the files."""
    from ase.data import atomic_numbers

    from mlmd.potentials.export import zbl_beside

    elements = potential.elements
    if written[0].suffix == ".mliap":
        return (
            "LAMMPS needs its packages ML-IAP (with MLIAP_ENABLE_PYTHON) and PYTHON, and mlmd in its Python. Then:",
            f"  lmp -in {written[1]}   # or, with KOKKOS: lmp -k on g 1 -sf kk -pk kokkos newton on neigh half -in ...",
        )
    if written[0].suffix == ".mtp":
        return (f"Its species are {', '.join(elements)} in this order, which the file does not say.",)
    if written[0].suffix == ".txt":
        return ("GPUMD reads it as `potential nep.txt`, with the elements that structures name.",)
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
