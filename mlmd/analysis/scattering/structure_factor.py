"""Structure factors of a trajectory: partials, the total that neutrons or X-rays see, and functions of distance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlmd.analysis.blocks import N_BLOCKS
from mlmd.analysis.rdf import block_counts
from mlmd.analysis.scattering import partials
from mlmd.analysis.scattering.curves import Curve, curve_of, find
from mlmd.analysis.scattering.density import Density
from mlmd.analysis.scattering.experiment import NORMALISATIONS, match, read_experiment
from mlmd.analysis.scattering.result import StructureFactor
from mlmd.analysis.scattering.transforms import to_pair_function, to_structure_factor, window
from mlmd.analysis.scattering.wavevectors import Wavevectors, wavevectors
from mlmd.analysis.scattering.weights import Weights, weights_of
from mlmd.errors import InputError
from mlmd.io.frames import Trajectory

R_BIN = 0.02
"""Å, bins of g(r) that is transformed, and steps of what is transformed to r."""
STATIC = 3.0
"""Ratio of the scatter over wavevectors to that over time from which on frames are said to be alike."""


def structure_factor(
    trajectory: Trajectory,
    *,
    method: str = "direct",
    radiation: str = "neutron",
    q_max: float = 20.0,
    bin_width: float = 0.05,
    points_per_bin: int | None = 300,
    r_max: float | None = None,
    end: str = "lorch",
    lengths: Mapping[str, float] | None = None,
    experiment: Path | None = None,
    normalisation: str | None = None,
    max_frames: int = 100,
    seed: int = 1,
) -> StructureFactor:
    """Static structure factors, directly at the wavevectors that the cell allows, or from g(r).

    Directly, S_ab(q) = ⟨Re ρ_a(q) ρ_b(q)*⟩ / √(N_a N_b) at points of the reciprocal lattice, averaged over those in a
    bin of |q|; where the cell changes each frame has its own lattice, and bins are those of the mean cell. From g(r),
    A_ab(q) = 1 + 4πρ ∫ r² (g_ab - 1) sin(qr)/(qr) W(r) dr with g normalised by N_a (N_b - δ_ab), so that a gas has
    none. The definitions are `curves.DEFINITIONS`.

    Args:
        trajectory: periodic in all three directions.
        method: "direct" or "rdf".
        radiation: "neutron" or "x-ray", of the total.
        q_max, bin_width: 1/Å.
        points_per_bin: directly, at most so many wavevectors (of half of the space) in a bin; None for all.
        r_max: Å, the end of g(r), and of what is transformed to r; by default half of the smallest height of the cell.
        end: "lorch" or "none", the window at the end of both transforms.
        lengths: fm, scattering lengths in the place of those of the natural elements.
        experiment: a file of q, value and perhaps error.
        normalisation: of the experiment, one of `experiment.NORMALISATIONS`.
        max_frames: at most so many frames, at equal distances in time, are used.
        seed: of the draw of wavevectors.

    Raises:
        InputError: without three periodic directions, for ranges that make no sense, an unknown method, window or
            radiation, or an experiment whose normalisation is not said or whose range is another.
        StorageError: when the experiment cannot be read.
    """
    _check(trajectory, method, q_max, bin_width, points_per_bin, r_max)
    window(np.ones(1), end)
    measured = None if experiment is None else read_experiment(experiment, normalisation)
    frames = np.unique(np.linspace(0, trajectory.n_frames - 1, min(max_frames, trajectory.n_frames)).astype(int))
    blocks = np.array_split(frames, min(N_BLOCKS, len(frames)))
    furthest = r_max or _half_height(trajectory)
    points, edges, g = None, None, None
    if method == "direct":
        points = wavevectors(trajectory.cells[frames].mean(axis=0), q_max, bin_width, points_per_bin, seed)
        q = points.q
        fz, at_points = _at_points(trajectory, blocks, points)
        spread = points.spread(at_points)
    else:
        q = bin_width * np.arange(1, 1 + math.floor(q_max / bin_width + 1e-9))
        edges = np.linspace(0.0, furthest, 1 + max(1, round(furthest / R_BIN)))
        g, density = _pair_functions(trajectory, blocks, edges)
        fz = to_structure_factor(g, edges, q, density, end)
        other = to_structure_factor(g.mean(axis=0), edges, q, density, "none" if end == "lorch" else "lorch")
        at_points, spread = None, np.abs(other - fz.mean(axis=0))
    weights = weights_of(radiation, trajectory.elements, q, lengths)
    shares = _concentrations(trajectory)
    curves = [
        *_partial_curves(trajectory.elements, fz, spread, shares),
        *_totals(fz, q, weights, shares, at_points, points, spread),
    ]
    r, real = _real_space(trajectory, curves, fz, q, weights, shares, (edges, g), furthest, end)
    compared = None
    if measured is not None:
        curve = find(curves, NORMALISATIONS[measured.normalisation])
        assert curve is not None
        compared = match(measured, q, curve.values, curve.error)
    return StructureFactor(
        method, weights, q, None if points is None else points.n_points, tuple(curves), r, tuple(real), end,
        trajectory.n_atoms / trajectory.volume(), len(frames), compared,
        _notes(trajectory, method, points, q, furthest, curves, weights), trajectory.provenance,
    )  # fmt: skip


def _check(
    trajectory: Trajectory, method: str, q_max: float, bin_width: float, points_per_bin: int | None,
    r_max: float | None,
) -> None:  # fmt: skip
    if not trajectory.pbc.all():
        raise InputError("A structure factor needs a density: a cell periodic in all three directions.")
    if method not in ("direct", "rdf"):
        raise InputError(f'method {method!r} is not known. Needed is "direct" or "rdf".')
    if not 0.0 < bin_width < q_max < math.inf:
        raise InputError(f"q_max = {q_max:g} 1/Å and bin_width = {bin_width:g} 1/Å: needed 0 < bin_width < q_max.")
    if points_per_bin is not None and points_per_bin < 1:
        raise InputError(f"{points_per_bin} wavevectors in a bin: at least one is needed.")
    if r_max is not None and not 10 * R_BIN <= r_max < math.inf:
        raise InputError(f"r_max = {r_max:g} Å: needed are at least {10 * R_BIN:g} Å.")


def _concentrations(trajectory: Trajectory) -> np.ndarray:
    return np.array([len(trajectory.atoms_of([one])) for one in trajectory.elements]) / trajectory.n_atoms


def _half_height(trajectory: Trajectory) -> float:
    return float(0.5 / np.linalg.norm(np.linalg.inv(trajectory.cells.mean(axis=0)), axis=0).max())


def _at_points(trajectory: Trajectory, blocks: list[np.ndarray], points: Wavevectors) -> tuple[np.ndarray, np.ndarray]:
    """Faber–Ziman partials: powder averages of each block (n_blocks, n_pairs, n_q), means at points (n_pairs, n)."""
    density = Density(points.indices)
    members = [trajectory.atoms_of([one]) for one in trajectory.elements]
    pairs = partials.pairs_of(trajectory.elements)
    averages, total = [], np.zeros((len(pairs), len(points.indices)))
    for block in blocks:
        found = np.zeros_like(total)
        for frame in block.tolist():
            frames = next(trajectory.chunks(frame, frame + 1))
            fractional = frames.positions[0] @ np.linalg.inv(frames.cells[0])
            parts = [density(fractional[atoms]) / math.sqrt(len(atoms)) for atoms in members]
            for index, (a, b) in enumerate(pairs):
                found[index] += parts[a].real * parts[b].real + parts[a].imag * parts[b].imag
        averages.append(points.average(found / len(block)))
        total += found / len(block) / len(blocks)
    shares = _concentrations(trajectory)
    return partials.faber_ziman(np.array(averages), shares), partials.faber_ziman(total, shares)


def _pair_functions(trajectory: Trajectory, blocks: list[np.ndarray], edges: np.ndarray) -> tuple[np.ndarray, float]:
    """g_ab of each block, (n_blocks, n_pairs, n_bins), 1 for a gas of as many atoms; and the density, 1/Å³."""
    counts, volumes = block_counts(trajectory, trajectory.elements, blocks, edges)
    n = [len(trajectory.atoms_of([one])) for one in trajectory.elements]
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    for index, (a, b) in enumerate(partials.pairs_of(trajectory.elements)):
        n_pairs = n[a] * (n[b] - (a == b))
        counts[:, index] = counts[:, index] * volumes[:, None] / (n_pairs * shells) if n_pairs else 1.0
    return counts, trajectory.n_atoms / float(volumes.mean())


def _partial_curves(elements: tuple[str, ...], fz: np.ndarray, spread: np.ndarray, shares: np.ndarray) -> list[Curve]:
    labels = [f"{elements[a]}-{elements[b]}" for a, b in partials.pairs_of(elements)]
    al = partials.ashcroft_langreth(fz, shares)
    al_spread = partials.ashcroft_langreth(spread, shares) - partials.ashcroft_langreth(np.zeros_like(spread), shares)
    found = [curve_of(fz[:, i], f"A {label}", spread=spread[i]) for i, label in enumerate(labels)]
    found += [curve_of(al[:, i], f"S_ab {label}", spread=al_spread[i]) for i, label in enumerate(labels)]
    if len(elements) == 2:
        bt = partials.bhatia_thornton(al, shares)
        found += [curve_of(bt[:, i], name) for i, name in enumerate(("S_NN", "S_NC", "S_CC"))]
    return found


def _totals(
    fz: np.ndarray, q: np.ndarray, weights: Weights, shares: np.ndarray, at_points: np.ndarray | None,
    points: Wavevectors | None, spread: np.ndarray,
) -> list[Curve]:  # fmt: skip
    total = partials.distinct(fz, shares, weights.amplitudes)
    if points is None or at_points is None:
        scatter = np.abs(partials.distinct(1.0 + spread, shares, np.abs(weights.amplitudes)))
    else:
        each = partials.distinct(at_points, shares, weights.amplitudes[:, points.bins])
        scatter = points.spread(each)
    mean = (shares @ weights.amplitudes) ** 2
    square = shares @ weights.amplitudes**2
    return [
        curve_of(total, "F(q)", weights.unit, scatter),
        curve_of(1.0 + total / mean, "S(q)", "", scatter / mean),
        curve_of(1.0 + total / square, "S_self(q)", "", scatter / square),
        curve_of(q * total / mean, "q[S(q)-1]", "1/Å", q * scatter / mean),
    ]


def _real_space(
    trajectory: Trajectory, curves: list[Curve], fz: np.ndarray, q: np.ndarray, weights: Weights, shares: np.ndarray,
    pair_functions: tuple[np.ndarray | None, np.ndarray | None], furthest: float, end: str,
) -> tuple[np.ndarray, list[Curve]]:  # fmt: skip
    """Total functions of r; from g(r) itself with neutrons, else from S(q) up to its end."""
    density = trajectory.n_atoms / trajectory.volume()
    mean = (shares @ weights.amplitudes) ** 2
    edges, g = pair_functions
    if edges is not None and g is not None and weights.radiation == "neutron":
        r = 0.5 * (edges[1:] + edges[:-1])
        total = 1.0 + partials.distinct(g, shares, weights.amplitudes[:, :1]) / mean[0]
        pdf = 4.0 * np.pi * density * r * (total - 1.0)
    else:
        r = R_BIN * np.arange(1, 1 + math.floor(furthest / R_BIN))
        s = 1.0 + partials.distinct(fz, shares, weights.amplitudes) / mean
        pdf = to_pair_function(s, q, r, float(q[-1]), end)
        total = 1.0 + pdf / (4.0 * np.pi * density * r)
    found = [curve_of(total, "g(r)"), curve_of(pdf, "G_PDF(r)", "1/Å²")]
    if weights.radiation == "neutron":
        found += [
            curve_of(mean[0] * (total - 1.0), "G(r)", "barn"),
            curve_of(mean[0] * pdf, "D(r)", "barn/Å²"),
            curve_of(mean[0] * (pdf + 4.0 * np.pi * density * r), "T(r)", "barn/Å²"),
        ]
    return r, found


def _notes(
    trajectory: Trajectory, method: str, points: Wavevectors | None, q: np.ndarray, furthest: float,
    curves: list[Curve], weights: Weights,
) -> tuple[str, ...]:  # fmt: skip
    notes = [*trajectory.provenance.notes, *weights.notes]
    if points is None:
        notes.append(
            f"g(r) ends at {furthest:.4g} Å: below about {2 * math.pi / furthest:.2g} 1/Å, and in narrower peaks, "
            "its end decides; the column of truncation is what another window would change"
        )
        if furthest > _half_height(trajectory) * (1 + 1e-9):
            notes.append(f"beyond {_half_height(trajectory):.4g} Å atoms see their periodic images")
        return tuple(notes)
    drawn = int((points.n_points < points.n_all).sum())
    if drawn:
        notes.append(
            f"{points.n_points.sum():,} of {points.n_all.sum():,} wavevectors (of half of the space) are used: in "
            f"{drawn} bins they are drawn at random"
        )
    notes.append(
        f"the smallest wavevector of the cell is {points.lengths.min():.3g} 1/Å: the limit at q = 0, ρ kT κ_T of one "
        "component, is not reached, and the value nearest to it is of one or a few directions"
    )
    total = find(curves, "S(q)")
    if total is not None and total.spread is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = total.spread / total.error
        if np.isfinite(ratio).any() and np.nanmedian(ratio[np.isfinite(ratio)]) > STATIC:
            notes.append(
                "frames are alike, as in a solid or a run that is short: errors tell of these atoms and not of another "
                "sample; the column of scatter over wavevectors does that for a glass"
            )
    return tuple(notes)
