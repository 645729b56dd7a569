"""Layers of a slab, where the density along its normal has minima, and its top layer, of which a monolayer has as many
atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from mlmd.errors import InputError

STEP = 0.02
"""Å between points of the density."""
DEPTH = 0.5
"""A minimum between two layers is lower than this part of the lower of the maxima on its sides."""
NARROW = 0.1
"""Å, kernel by which a slab at rest is cut: layers are 0.8 Å apart in (111) of bcc iron."""
WIDEST = 0.3
"""Å, kernel for layers that are far enough apart for it."""
SCATTER = 0.2
"""Å: layers whose atoms scatter by as much along z are told apart by `kernel_for`."""
_APART = 0.3
"""Of the distance of layers: the width of theirs with which Gaussians have minima of `DEPTH` between them.

Equal ones of width v at a distance d add up to 1 + 2 exp(-2π²v²/d²) cos(2πz/d) and what is smaller, whose minimum is
half of its maximum at v = d √(ln 6 / 2π²).
"""
_THIN = 1.0
"""Å: what is thinner is one layer, as graphene is."""


@dataclass(frozen=True)
class Layers:
    """A density along z, and the layers it falls into."""

    heights: np.ndarray
    """(n_points,) Å."""
    density: np.ndarray
    """(n_points,) atoms per Å, mean over frames."""
    edges: np.ndarray
    """(n_layers + 1,) Å: between two of them is a layer, from below."""
    peaks: np.ndarray
    """(n_layers,) Å, where the density of each is highest."""

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.peaks)

    def of(self, heights: np.ndarray) -> np.ndarray:
        """Layers (n_atoms,) of atoms at heights in Å; -1 below all, and `n_layers` above all."""
        return np.searchsorted(self.edges, heights, side="right") - 1


def layers_along(heights: np.ndarray, n_frames: int, kernel: float) -> Layers:
    """Cut a slab where the Gaussian-kernel density of its atoms, ρ(z) = Σ_i exp(-(z - z_i)²/2w²)/(w √2π), is lowest.

    Two layers at a distance d, in which atoms scatter by s, have a minimum between them as long as d is more than about
    2 √(s² + w²); those whose minimum is not below `DEPTH` of the lower maximum count as one.

    Args:
        heights: (n,) Å, of all atoms in all frames.
        n_frames: that they come from.
        kernel: w, Å.
    """
    low, high = heights.min() - 5.0 * kernel, heights.max() + 5.0 * kernel
    n_points = int(np.ceil((high - low) / STEP)) + 1
    points = low + STEP * np.arange(n_points)
    density = density_along(heights, points, kernel) / n_frames
    peaks, valleys = _separate(density)
    edges = np.concatenate([[points[0]], points[valleys], [points[-1]]])
    return Layers(points, density, edges, points[peaks])


def top_layer(heights: np.ndarray) -> np.ndarray:
    """Which atoms (n_atoms,) are of the top layer of a slab at one moment: one monolayer, ML, is as many.

    The slab is cut with a kernel of `NARROW`. The top layer is the highest with at least half as many atoms as the
    median of the layers, so that no adatom is a layer; an atom nearer to it than half the distance of such layers is
    one of it that moves.

    Args:
        heights: (n_atoms,) Å.

    Raises:
        InputError: where the atoms of something thick are in no layers, as in a glass.
    """
    cut = layers_along(heights, 1, NARROW)
    full = _full(cut, heights)
    if cut.n_layers == 1 and np.ptp(heights) > _THIN:
        raise InputError(
            f"the atoms of the slab, {np.ptp(heights):.3g} Å thick, are in no layers along z, so that ML means "
            "nothing: it has to be a crystal with a face at right angles to z, at rest."
        )
    near = np.abs(cut.peaks - cut.peaks[full[-1]]) < 0.5 * _spacing(cut, full)
    near[full[-1]] = True
    return np.asarray(near[cut.of(heights)])


def layer_spacing(heights: np.ndarray) -> float:
    """Å between the layers of a slab at one moment, cut as by `top_layer`, of atoms at heights (n_atoms,); 0 of one."""
    cut = layers_along(heights, 1, NARROW)
    return _spacing(cut, _full(cut, heights))


def kernel_for(spacing: float) -> float:
    """Å, the widest kernel up to `WIDEST` that tells apart layers at a distance whose atoms scatter by `SCATTER`.

    Layers of (111) of bcc iron are 0.83 Å apart, and need 0.15 Å. It is never below `NARROW`.
    """
    if spacing == 0.0:
        return WIDEST
    return float(np.sqrt(np.clip((_APART * spacing) ** 2 - SCATTER**2, NARROW**2, WIDEST**2)))


def _full(cut: Layers, heights: np.ndarray) -> np.ndarray:
    """Those of the layers of a slab, indices, that have at least half as many atoms as their median."""
    sizes = np.bincount(cut.of(heights), minlength=cut.n_layers)
    return np.flatnonzero(sizes >= 0.5 * np.median(sizes))


def _spacing(cut: Layers, full: np.ndarray) -> float:
    """Å between layers with these indices; 0 of one."""
    return float(np.median(np.diff(cut.peaks[full]))) if len(full) > 1 else 0.0


def density_along(heights: np.ndarray, points: np.ndarray, kernel: float) -> np.ndarray:
    """ρ (n_points,) 1/Å at points at equal distances, of atoms at heights (n,) between them, Å."""
    step = float(points[1] - points[0])
    counts = np.bincount(np.rint((heights - points[0]) / step).astype(int), minlength=len(points))
    density: np.ndarray = gaussian_filter1d(counts / step, kernel / step, mode="constant", truncate=5.0)
    return density


def _separate(density: np.ndarray) -> tuple[list[int], list[int]]:
    """Indices of the maxima of layers, and of the minima between them."""
    inner = np.arange(1, len(density) - 1)
    tops = inner[(density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])].tolist()
    peaks, valleys = [tops[0]], []
    for top in tops[1:]:
        valley = peaks[-1] + int(np.argmin(density[peaks[-1] : top + 1]))
        if density[valley] < DEPTH * min(density[peaks[-1]], density[top]):
            peaks.append(top)
            valleys.append(valley)
        elif density[top] > density[peaks[-1]]:
            # The deeper of the two minima on the sides of what is too low to be a layer is the one that counts.
            peaks[-1] = top
            if valleys:
                valleys[-1] = peaks[-2] + int(np.argmin(density[peaks[-2] : top + 1]))
    return peaks, valleys
