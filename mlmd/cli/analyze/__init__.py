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
    "profile": ("mlmd.cli.analyze.profile:profile", "Density, charge and composition along an axis, and interfaces."),
    "deposition": (
        "mlmd.cli.analyze.deposition:deposition",
        "Layers, growth, sticking, roughness and structure of a film.",
    ),
    "protein": (
        "mlmd.cli.analyze.protein:protein",
        "RMSD, mobility, folding, hydrogen bonds and contacts of a protein.",
    ),
    "fes": ("mlmd.cli.analyze.fes:fes", "Free energy along what was biased."),
}
"""Name -> where the command is, and a line of help."""


@click.group(cls=LazyGroup, commands=ANALYSES)
def analyze() -> None:
    """Properties of a run, with error bars. Results are written into RUN/analysis."""
