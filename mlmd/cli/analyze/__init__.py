"""``mlmd analyze NAME``: a module for each analysis, which parses, calls one library function and shows the result."""

from __future__ import annotations

import click

from mlmd.cli.groups import LazyGroup

ANALYSES: dict[str, tuple[str, str]] = {
    "diffusion": (
        "mlmd.cli.analyze.diffusion:diffusion",
        "Diffusion coefficients, and the conductivity where charges are given.",
    ),
    "arrhenius": (
        "mlmd.cli.analyze.arrhenius:arrhenius",
        "Activation energies of diffusion and conductivity, from several temperatures.",
    ),
    "rdf": ("mlmd.cli.analyze.rdf:rdf", "Radial distribution functions of every pair of elements."),
    "structure-factor": (
        "mlmd.cli.analyze.structure_factor:structure_factor",
        "S(q) and its partials, for neutrons or X-rays, beside a measured one.",
    ),
    "dynamic-structure-factor": (
        "mlmd.cli.analyze.dynamic_structure_factor:dynamic_structure_factor",
        "F(q, t) and S(q, ω): how densities and atoms lose their memory.",
    ),
    "fes": ("mlmd.cli.analyze.fes:fes", "Free energy along what was biased."),
}
"""Name -> where the command is, and a line of help."""


@click.group(cls=LazyGroup, commands=ANALYSES)
def analyze() -> None:
    """Properties of a run, with error bars. Results are written into RUN/analysis."""
