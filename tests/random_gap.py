"""A file of a Gaussian approximation potential with random points and coefficients in the place of fitted ones."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlmd.potentials import Potential
from mlmd.potentials.gap import load

SOAP = "soap l_max=2 n_max=3 atom_sigma=0.5 cutoff=4.0 cutoff_transition_width=0.8 central_weight=0.9"
PAIRS = "distance_2b cutoff=3.5 cutoff_transition_width=1.0"
N_FEATURES = 3 * 6 * 7 // 2 + 1
"""Of the power spectra of two elements, and a constant."""


def gap_file(
    folder: Path,
    *,
    sigma0: float = 0.0,
    mean: float = 0.1,
    kinds: Sequence[str] = ("distance_2b", "soap"),
    beside: bool = False,
    name: str = "gap.xml",
) -> Path:
    """A file of silicon and oxygen: power spectra for each, and distances of each pair.

    Args:
        folder: where it is written.
        sigma0: the constant of power spectra.
        mean: f0 of all terms, eV.
        kinds: descriptors that it has.
        beside: whether the points lie in files of their own, as gap_fit writes them.
        name: of the file.
    """
    rng = np.random.default_rng(5)
    terms = []
    for first, second in ((14, 14), (14, 8), (8, 8)):
        points = [[f"{value:.16e}"] for value in np.linspace(1.2, 3.4, 5)]
        terms.append((f"{PAIRS} Z1={first} Z2={second}", points, rng.normal(size=5), rng.uniform(size=5)))
    for number in (14, 8):
        rows = rng.uniform(0.0, 1.0, (6, N_FEATURES - 1))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        texts = [[f"{value:.16e}" for value in (*row, sigma0)] for row in rows]
        line = f"{SOAP} covariance_sigma0={sigma0} n_species=2 Z={number} species_Z={{14 8 }}"
        terms.append((line, texts, 5 * rng.normal(size=6), np.ones(6)))
    path = folder / name
    own = [one for one in terms if one[0].startswith(tuple(kinds))]
    written = [_term(f"GAP_made{n}", *one, mean, path if beside else None) for n, one in enumerate(own, 1)]
    path.write_text(
        '<GAP_made>\n<Potential label="GAP_made" init_args="IP GAP label=GAP_made"/>\n'
        '<GAP_params label="GAP_made" gap_version="1769700636">\n<GAP_data do_core="F">\n'
        '<e0 Z="8" value="-1.5"/>\n<e0 Z="14" value="-.75000000000000000"/>\n</GAP_data>\n'
        f'<gpSparse label="GAP_made" n_coordinate="{len(written)}" fitted="T">\n{"".join(written)}</gpSparse>\n'
        "<command_line><![CDATA[ at_file=train.xyz ]]></command_line>\n</GAP_params>\n</GAP_made>\n"
    )
    return path


def _term(
    label: str,
    line: str,
    points: list[list[str]],
    coefficients: np.ndarray,
    cutoffs: np.ndarray,
    mean: float,
    beside: Path | None,
) -> str:
    """One `gpCoordinates`; its points go into a file beside another one, where that is given."""
    pairs = line.startswith("distance")
    kernel = 'covariance_type="1"' if pairs else 'covariance_type="2" zeta="3.0000000000000000"'
    width = "<theta>  0.60000000000000000E+000 </theta>\n" if pairs else ""
    named = "" if beside is None else _file_of_points(label, points, beside)
    rows = ""
    for i, (point, alpha, cutoff) in enumerate(zip(points, coefficients, cutoffs, strict=True), 1):
        text = "/>" if named else f">  {' '.join(point)}  </sparseX>"
        rows += f'<sparseX i="{i}" alpha="{alpha:.16e}" sparseCutoff="{cutoff:.16e}"{text}\n'
    return (
        f'<gpCoordinates label="{label}" dimensions="{len(points[0])}" signal_variance="0.7" '
        f'signal_mean="{mean:.16e}" sparsified="T" n_permutations="1" {kernel} n_sparseX="{len(points)}"{named}>\n'
        f'{width}<descriptor>{line}</descriptor>\n<permutation i="1">1  </permutation>\n{rows}</gpCoordinates>\n'
    )


def _file_of_points(label: str, points: list[list[str]], beside: Path) -> str:
    """Write one number a line, and say in two attributes where they are."""
    file = beside.with_name(f"{beside.name}.sparseX.{label}")
    content = "".join(f"{value}\n" for point in points for value in point).encode()
    file.write_bytes(content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return f' sparseX_filename="{file.name}" sparseX_md5sum="{digest}"'


def random_gap(precision: str = "float64", kinds: Sequence[str] = ("distance_2b", "soap")) -> Potential:
    """The potential of such a file."""
    with tempfile.TemporaryDirectory() as folder:
        return load(gap_file(Path(folder), kinds=kinds), precision=precision)
