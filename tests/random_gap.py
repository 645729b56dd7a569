"""A file of a Gaussian approximation potential with random points and coefficients in the place of fitted ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mlmd.potentials import Potential
from mlmd.potentials.gap import load

SOAP = "soap l_max=2 n_max=3 atom_sigma=0.5 cutoff=4.0 cutoff_transition_width=0.8 central_weight=0.9"
PAIRS = "distance_2b cutoff=3.5 cutoff_transition_width=1.0"
N_FEATURES = 3 * 6 * 7 // 2 + 1
"""Of the power spectra of two elements, and a constant."""


def gap_file(folder: Path, *, sigma0: float = 0.0, name: str = "gap.xml") -> Path:
    """A file of silicon and oxygen: power spectra for each, and distances of each pair; everything in one file."""
    rng = np.random.default_rng(5)
    terms = []
    for n, (first, second) in enumerate(((14, 14), (14, 8), (8, 8)), 1):
        points = [f"{value:.16e}" for value in np.linspace(1.2, 3.4, 5)]
        terms.append(_term(n, f"{PAIRS} Z1={first} Z2={second}", points, rng.normal(size=5), rng.uniform(size=5)))
    for n, number in enumerate((14, 8), 4):
        rows = rng.uniform(0.0, 1.0, (6, N_FEATURES - 1))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        texts = [" ".join(f"{value:.16e}" for value in (*row, sigma0)) for row in rows]
        line = f"{SOAP} covariance_sigma0={sigma0} n_species=2 Z={number} species_Z={{{{14 8 }}}}"
        terms.append(_term(n, line, texts, 5 * rng.normal(size=6), np.ones(6)))
    path = folder / name
    path.write_text(
        '<GAP_made>\n<Potential label="GAP_made" init_args="IP GAP label=GAP_made"/>\n'
        '<GAP_params label="GAP_made" gap_version="1769700636">\n<GAP_data do_core="F">\n'
        '<e0 Z="8" value="-1.5"/>\n<e0 Z="14" value="-.75000000000000000"/>\n</GAP_data>\n'
        f'<gpSparse label="GAP_made" n_coordinate="{len(terms)}" fitted="T">\n{"".join(terms)}</gpSparse>\n'
        "<command_line><![CDATA[ at_file=train.xyz ]]></command_line>\n</GAP_params>\n</GAP_made>\n"
    )
    return path


def _term(n: int, line: str, points: list[str], coefficients: np.ndarray, cutoffs: np.ndarray) -> str:
    """One `gpCoordinates`."""
    pairs = line.startswith("distance")
    kernel = 'covariance_type="1"' if pairs else 'covariance_type="2" zeta="3.0000000000000000"'
    width = "<theta>  0.60000000000000000E+000 </theta>\n" if pairs else ""
    rows = "".join(
        f'<sparseX i="{i}" alpha="{alpha:.16e}" sparseCutoff="{cutoff:.16e}">  {point}  </sparseX>\n'
        for i, (point, alpha, cutoff) in enumerate(zip(points, coefficients, cutoffs, strict=True), 1)
    )
    return (
        f'<gpCoordinates label="GAP_made{n}" dimensions="{len(points[0].split())}" signal_variance="0.7" '
        f'signal_mean=".10000000000000001" sparsified="T" n_permutations="1" {kernel} n_sparseX="{len(points)}">\n'
        f'{width}<descriptor>{line}</descriptor>\n<permutation i="1">1  </permutation>\n{rows}</gpCoordinates>\n'
    )


def random_gap(precision: str = "float64") -> Potential:
    """The potential of such a file."""
    with tempfile.TemporaryDirectory() as folder:
        return load(gap_file(Path(folder)), precision=precision)
