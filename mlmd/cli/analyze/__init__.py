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
    "van-hove": ("mlmd.cli.analyze.van_hove:van_hove", "Van Hove functions, and how far from Gaussian they are."),
    "density": ("mlmd.cli.analyze.density:density", "Probability densities on a grid, as cube files."),
    "sites": ("mlmd.cli.analyze.sites:sites", "Sites, their occupancies, jumps between them, residence times."),
    "rotation": ("mlmd.cli.analyze.rotation:rotation", "How groups of atoms (polyanions) turn."),
    "structure-factor": (
        "mlmd.cli.analyze.structure_factor:structure_factor",
        "S(q) and its partials, for neutrons or X-rays, beside a measured one.",
    ),
    "profile": ("mlmd.cli.analyze.profile:profile", "Density, charge and composition along an axis, and interfaces."),
    "deposition": (
        "mlmd.cli.analyze.deposition:deposition",
        "Layers, growth, sticking, roughness and structure of a film.",
    ),
    "adatoms": ("mlmd.cli.analyze.adatoms:adatoms", "Adatoms of a surface: hops and diffusion in the plane."),
    "vacf": ("mlmd.cli.analyze.vacf:vacf", "Velocity autocorrelation and vibrational density of states."),
    "elastic": ("mlmd.cli.analyze.elastic:elastic", "Elastic constants from the fluctuations of the cell."),
    "infrared": ("mlmd.cli.analyze.infrared:infrared", "Infrared spectrum from the current of charges."),
    "viscosity": ("mlmd.cli.analyze.green_kubo:viscosity", "Shear viscosity, from fluxes that a run wrote."),
    "thermal-conductivity": (
        "mlmd.cli.analyze.green_kubo:thermal_conductivity",
        "Thermal conductivity, from fluxes that a run wrote.",
    ),
    "conductivity": (
        "mlmd.cli.analyze.green_kubo:conductivity",
        "Ionic conductivity with the correlation of ions, from fluxes that a run wrote.",
    ),
    "nemd": ("mlmd.cli.analyze.nemd:nemd", "Thermal conductivity from the gradient that a flow of heat makes."),
    "adf": ("mlmd.cli.analyze.adf:adf", "Distributions of the angles between neighbours."),
    "coordination": ("mlmd.cli.analyze.coordination:coordination", "Numbers of neighbours, and their distribution."),
    "order": ("mlmd.cli.analyze.order:order", "Bond-orientational order of atoms (Steinhardt)."),
    "bonds": ("mlmd.cli.analyze.bonds:bonds", "How long bonds last."),
    "rings": ("mlmd.cli.analyze.rings:rings", "Rings of a network (silicon, silica, glasses), by size."),
    "dynamic-structure-factor": (
        "mlmd.cli.analyze.dynamic_structure_factor:dynamic_structure_factor",
        "F(q, t) and S(q, ω): how densities and atoms lose their memory.",
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
