"""Where an atom, and where the others, are after a time: the van Hove functions, and how far from Gaussian they are.

L. van Hove, Phys. Rev. 1954, 95, 249; A. Rahman, Phys. Rev. 1964, 136, A405 (the non-Gaussian parameter).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.analysis.blocks import block_of, jackknife, mean_and_error, n_blocks
from mlmd.analysis.columns import csv_of
from mlmd.analysis.einstein import sampled_lags
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.pair_counts import bins_of, check_pairs, pair_counter
from mlmd.analysis.paths import check_path, mean_cell, paths_at_rest, still
from mlmd.analysis.unwrap import unwrapped
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT_BYTES = 256e6
"""Frames that wait in memory for their partner at another time."""
N_LAGS = 4
"""Lags that are shown when none are given."""


@dataclass(frozen=True)
class SelfPart:
    """Displacements of the atoms of one element."""

    element: str
    n_atoms: int
    density: np.ndarray
    """(n_lags, n_bins) 1/Å³: G_s, whose integral ∫ 4πr² G_s dr over all r is 1."""
    density_error: np.ndarray
    """(n_lags, n_bins)."""
    within: np.ndarray
    """(n_lags,) part of the displacements that is within r_max."""
    msd: np.ndarray
    """(n_lags,) Å²."""
    times: np.ndarray
    """(n_times,) fs, lags of the non-Gaussian parameter."""
    non_gaussian: np.ndarray
    """(n_times,) α₂."""
    non_gaussian_error: np.ndarray
    """(n_times,) nan where there are too few windows."""
    peak: Estimate | None
    """Largest α₂; None where it is nowhere known to be above zero."""
    peak_time: float | None
    """fs, its lag."""


@dataclass(frozen=True)
class DistinctPart:
    """Atoms b at a time t around where an atom a was at time 0."""

    a: str
    b: str
    g: np.ndarray
    """(n_lags, n_bins) G_d over the density of b: g(r) at lag 0, 1 without correlation."""
    g_error: np.ndarray
    """(n_lags, n_bins)."""

    @property
    def pair(self) -> str:
        """As in ``Li–Cl``."""
        return f"{self.a}–{self.b}"


@dataclass(frozen=True)
class VanHoveResult:
    """Van Hove functions of a trajectory."""

    lags: np.ndarray
    """(n_lags,) fs."""
    distances: np.ndarray
    """(n_bins,) Å, middles of the bins."""
    edges: np.ndarray
    """(n_bins + 1,) Å."""
    selves: tuple[SelfPart, ...]
    distincts: tuple[DistinctPart, ...]
    drift: str | tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    name = "van-hove"

    def __str__(self) -> str:
        """The peak of the non-Gaussian parameter of each element."""
        return "\n".join([*(f"{one.element}: {_summary(one)}" for one in self.selves), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """The non-Gaussian parameters, with provenance; the functions are in the CSV file."""
        return {
            "analysis": self.name,
            "elements": {one.element: _self_json(one) for one in self.selves},
            "pairs": [one.pair for one in self.distincts],
            "lags_ps": [float(lag) / 1e3 for lag in self.lags],
            "r_max_A": float(self.edges[-1]),
            "bin_A": float(self.edges[1] - self.edges[0]),
            "drift": self.drift if isinstance(self.drift, str) else list(self.drift),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """G_s of every element and G_d of every pair at each lag, with errors."""
        names, columns = ["r [Å]"], [self.distances]
        for number, lag in enumerate(self.lags):
            at = f"{lag / 1e3:g} ps"
            for one in self.selves:
                names += [f"Gs {one.element} {at} [1/Å^3]", f"Gs {one.element} {at} error"]
                columns += [one.density[number], one.density_error[number]]
            for pair in self.distincts:
                names += [f"Gd {pair.a}-{pair.b} {at}", f"Gd {pair.a}-{pair.b} {at} error"]
                columns += [pair.g[number], pair.g_error[number]]
        return csv_of(names, columns)

    def figure(self) -> Figure:
        """G_s beside its Gaussian, G_d, and the non-Gaussian parameter."""
        from mlmd.analysis.van_hove_figure import van_hove_figure

        return van_hove_figure(self)


def van_hove(
    trajectory: Trajectory,
    *,
    elements: Sequence[str] | None = None,
    lags: Sequence[float] = (),
    r_max: float = 10.0,
    bin_width: float = 0.1,
    drift: str | Sequence[str] = "cell",
    max_origins: int = 50,
) -> VanHoveResult:
    """Van Hove functions G_s(r, t) and G_d(r, t), and the non-Gaussian parameter α₂(t).

    G_s(r, t) = ⟨δ(r - |r_i(s + t) - r_i(s)|)⟩ / 4πr² over atoms i of an element and origins s;
    G_d(r, t) = ⟨Σ_{j≠i} δ(r - |r_j(s + t) - r_i(s)|)⟩ / (4πr² ρ_b), over atoms i of a and j of b with all images, where
    ρ_b = N_b / V as for `mlmd.analysis.rdf`: G_d(r, 0) is g(r), and a gas of N atoms has G_d = 1 - 1/N between like
    ones. α₂(t) = 3⟨Δr⁴⟩ / 5⟨Δr²⟩² - 1 vanishes for Brownian motion. At changing volume positions are those in the mean
    cell. Errors come from blocks of origins that are at least as long as the lag.

    Args:
        trajectory: frames at equal intervals.
        elements: by default all; pairs of them are looked at where the cell is periodic in three directions.
        lags: fs, taken to the nearest frame; by default four between one frame and a quarter of the trajectory, in
            equal ratios.
        r_max, bin_width: Å.
        drift: what is at rest: ``"cell"``, ``"none"``, or elements of a framework.
        max_origins: of G_d, at equal distances in time; G_s takes as many as there are.

    Raises:
        InputError: for unknown elements, lags shorter than a frame or longer than half the trajectory, a bin that is
            not smaller than r_max, too many pairs, and what has no path (`check_path`).
    """
    check_path(trajectory, "The van Hove function")
    if not 0.0 < bin_width < r_max < math.inf:
        raise InputError(f"r_max = {r_max:g} Å and bin_width = {bin_width:g} Å: needed 0 < bin_width < r_max.")
    chosen = tuple(dict.fromkeys(elements)) if elements else trajectory.elements
    steps = _frames_of(trajectory, lags)
    edges = np.linspace(0.0, r_max, 1 + max(1, round(r_max / bin_width)))
    rest = still(trajectory, drift)
    selves = tuple(_self_part(trajectory, element, steps, edges, rest) for element in chosen)
    periodic = bool(trajectory.pbc.all())
    distincts = _distinct_parts(trajectory, chosen, steps, edges, rest, max_origins) if periodic else ()
    notes = () if periodic else ("no distinct part: it needs a density, a cell periodic in all three directions",)
    return VanHoveResult(
        steps * trajectory.provenance.interval, 0.5 * (edges[1:] + edges[:-1]), edges, selves, distincts,
        drift if isinstance(drift, str) else tuple(drift), (*notes, *trajectory.provenance.notes),
        trajectory.provenance,
    )  # fmt: skip


def _frames_of(trajectory: Trajectory, lags: Sequence[float]) -> np.ndarray:
    """Lags in frames, (n_lags,) increasing."""
    interval, longest = trajectory.provenance.interval, (trajectory.n_frames - 1) // 2
    if not lags:
        return np.unique(np.rint(np.geomspace(1, max(1, longest // 2), N_LAGS)).astype(int))
    steps = np.unique(np.rint(np.array(lags) / interval).astype(int))
    if steps[0] < 1 or steps[-1] > longest:
        raise InputError(
            f"Lags of {', '.join(f'{lag / 1e3:g}' for lag in lags)} ps: those between one frame and half of the "
            f"trajectory can be looked at, {interval / 1e3:g} to {longest * interval / 1e3:g} ps."
        )
    return steps


def _self_part(
    trajectory: Trajectory, element: str, steps: np.ndarray, edges: np.ndarray, rest: np.ndarray
) -> SelfPart:
    """Histograms at some lags, and moments at many."""
    atoms = trajectory.atoms_of([element])
    many = np.union1d(sampled_lags(trajectory.n_frames), steps)
    moments = [np.zeros((n_blocks(trajectory.n_frames - lag, lag), 3)) for lag in many]  # windows, Σ r², Σ r⁴
    counts = {lag: np.zeros((n_blocks(trajectory.n_frames - lag, lag), len(edges) - 1)) for lag in steps.tolist()}
    for paths in paths_at_rest(trajectory, atoms, rest):
        for sums, lag in zip(moments, many.tolist(), strict=True):
            stride = max(1, lag // 16)  # windows of a long lag differ little from one frame to the next
            squares = np.sum((paths[lag::stride] - paths[:-lag:stride]) ** 2, axis=2)
            block = block_of(len(squares), len(sums))
            terms = np.stack([np.full(len(squares), len(paths[0])), squares.sum(1), (squares**2).sum(1)], axis=1)
            np.add.at(sums, block, terms)
            if lag in counts:
                counts[lag] += _histograms(np.sqrt(squares), block, len(sums), edges)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    density, error, within = [], [], []
    for lag in steps.tolist():
        windows = moments[int(np.searchsorted(many, lag))][:, :1]
        mean, spread = mean_and_error(counts[lag] / windows / shells)
        density.append(mean)
        error.append(spread)
        within.append(counts[lag].sum() / windows.sum())
    alpha, alpha_error = np.array([[float(x) for x in jackknife(sums, _alpha)] for sums in moments]).T
    msd = np.array([sums[:, 1].sum() / sums[:, 0].sum() for sums in moments])
    parts = np.array([len(sums) for sums in moments])
    peak, peak_time = _peak(alpha, alpha_error, parts, many * trajectory.provenance.interval)
    return SelfPart(
        element, len(atoms), np.array(density), np.array(error), np.array(within), msd[np.searchsorted(many, steps)],
        many * trajectory.provenance.interval, alpha, alpha_error, peak, peak_time,
    )  # fmt: skip


def _histograms(distances: np.ndarray, block: np.ndarray, count: int, edges: np.ndarray) -> np.ndarray:
    """Displacements (n_windows, n_atoms) by block and distance, (n_blocks, n_bins)."""
    n_bins = len(edges) - 1
    bins = (distances * (n_bins / edges[-1])).astype(np.int64)
    inside = bins < n_bins
    index = (block[:, None] * n_bins + bins)[inside]
    return np.bincount(index, minlength=count * n_bins).reshape(count, n_bins)


def _alpha(sums: np.ndarray) -> np.ndarray:
    """α₂ from the number of windows, Σ r² and Σ r⁴; nan for atoms that do not move."""
    n, second, fourth = sums
    return np.array(0.6 * n * fourth / second**2 - 1.0 if second > 0.0 else math.nan)


def _peak(
    alpha: np.ndarray, error: np.ndarray, parts: np.ndarray, times: np.ndarray
) -> tuple[Estimate | None, float | None]:
    """The largest of the values that are above zero with a confidence of 99.9 %, by Student's t of the blocks."""
    from scipy.stats import t

    above = t.ppf(0.999, np.maximum(parts - 1, 1)) * error
    known = np.where(alpha > above, alpha, -math.inf)  # nan compares as false
    best = int(np.argmax(known))
    if not math.isfinite(known[best]):
        return None, None
    return Estimate(float(alpha[best]), float(error[best]), "", float(parts[best])), float(times[best])


def _distinct_parts(
    trajectory: Trajectory, elements: Sequence[str], steps: np.ndarray, edges: np.ndarray, rest: np.ndarray,
    max_origins: int,
) -> tuple[DistinctPart, ...]:  # fmt: skip
    """All pairs between two frames, without those of an atom with itself."""
    atoms = trajectory.atoms_of(elements)
    both = 2.0 * len(atoms) ** 2  # of two frames seen as one
    check_pairs(both, trajectory.volume(), float(edges[-1]), "between two frames")
    cell, n_kinds = mean_cell(trajectory), len(elements)
    kinds = np.array([list(elements).index(symbol) for symbol in trajectory.symbols[atoms]])
    max_origins = max(2, min(max_origins, int(KEPT_BYTES / (48 * len(atoms) * len(steps)))))
    origins = {
        lag: np.unique(np.linspace(0, trajectory.n_frames - 1 - lag, max_origins).astype(int)) for lag in steps.tolist()
    }
    needed = np.unique(np.concatenate([np.concatenate([start, start + lag]) for lag, start in origins.items()]))
    kept = _keep(trajectory, atoms, needed, rest)
    count = _CrossCounter(kinds, n_kinds, edges, cell)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    n_of = np.bincount(kinds, minlength=n_kinds)
    normal = np.multiply.outer(n_of, n_of)[..., None] * shells / abs(float(np.linalg.det(cell)))
    curves = []
    for lag, starts in origins.items():
        sums = np.zeros((n_blocks(trajectory.n_frames - lag, lag), n_kinds, n_kinds, len(edges) - 1))
        block = starts * len(sums) // (trajectory.n_frames - lag)
        for start, number in zip(starts.tolist(), block, strict=True):
            sums[number] += count(kept[start], kept[start + lag])
        filled = np.bincount(block, minlength=len(sums))
        curves.append(mean_and_error(sums[filled > 0] / filled[filled > 0][:, None, None, None] / normal))
    return tuple(
        DistinctPart(a, b, np.array([mean[i, j] for mean, _ in curves]), np.array([error[i, j] for _, error in curves]))
        for (i, a), (j, b) in product(enumerate(elements), enumerate(elements))
        if i <= j  # time is reversible: a around b is b around a
    )


def _keep(trajectory: Trajectory, atoms: np.ndarray, needed: np.ndarray, rest: np.ndarray) -> dict[int, np.ndarray]:
    """Some frames of a trajectory, by number."""
    kept, first = {}, 0
    for positions in unwrapped(trajectory, atoms):
        stop = first + len(positions)
        for frame in needed[(needed >= first) & (needed < stop)].tolist():
            kept[frame] = positions[frame - first] - rest[frame]
        first = stop
    return kept


class _CrossCounter:
    """Histograms of distances from atoms of one frame to atoms of another."""

    def __init__(self, kinds: np.ndarray, n_kinds: int, edges: np.ndarray, cell: np.ndarray) -> None:
        self._kinds, self._shape, self._edges = kinds, (n_kinds, n_kinds, len(edges) - 1), edges
        self._cell = cell
        # Both frames are one system of twice the atoms, of which only pairs across are wanted.
        across = np.kron([[0, 1], [1, 0]], np.ones((n_kinds, n_kinds))) > 0
        self._count = pair_counter(np.concatenate([kinds, n_kinds + kinds]), 2 * n_kinds, edges, across)

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Pairs of different atoms, symmetrised in their order, (n_kinds, n_kinds, n_bins)."""
        n_kinds, _, n_bins = self._shape
        counts = self._count(np.concatenate([before, after]), self._cell)[:n_kinds, n_kinds:].copy()
        # An atom and its own images are among the pairs; the one image that it has really become is the self part.
        own = bins_of(np.linalg.norm(after - before, axis=1), self._edges)
        inside = own < n_bins
        itself = np.bincount(self._kinds[inside] * n_bins + own[inside], minlength=n_kinds * n_bins)
        counts[range(n_kinds), range(n_kinds)] -= itself.reshape(n_kinds, n_bins)
        return 0.5 * (counts + counts.transpose(1, 0, 2))


def _summary(one: SelfPart) -> str:
    if one.peak is None or one.peak_time is None:
        return "non-Gaussian parameter consistent with zero at all lags"
    return f"non-Gaussian parameter up to {one.peak} at {one.peak_time / 1e3:g} ps"


def _self_json(one: SelfPart) -> dict[str, Any]:
    return {
        "n_atoms": one.n_atoms,
        "largest_non_gaussian": None if one.peak is None else one.peak.to_dict(),
        "largest_at_ps": None if one.peak_time is None else one.peak_time / 1e3,
        "msd_A2": one.msd.tolist(),
        "within_r_max": one.within.tolist(),
        "non_gaussian": [
            {"lag_ps": float(t) / 1e3, "value": _known(a), "error": _known(e)}
            for t, a, e in zip(one.times, one.non_gaussian, one.non_gaussian_error, strict=True)
        ],
    }


def _known(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
