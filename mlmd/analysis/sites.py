"""Sites, how atoms occupy them, and how they jump: rates, residence times, jump diffusion and its correlation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from mlmd.analysis.blocks import block_of
from mlmd.analysis.density import counted, framework
from mlmd.analysis.diffusion import D_UNIT, coefficient_of, diffusion
from mlmd.analysis.einstein import MIN_WINDOWS, fit_diffusive, same_line
from mlmd.analysis.estimate import Estimate
from mlmd.analysis.jumps import (
    by_block,
    correlation,
    jump_diffusion,
    jump_length,
    jump_rate,
    ratio,
    residence,
    returns,
    survival,
)
from mlmd.analysis.paths import check_path, mean_cell, still
from mlmd.analysis.places import GRID, LEAST, MOST_POINTS, Places, from_density, from_structure
from mlmd.analysis.visits import Visits, follow
from mlmd.errors import InputError
from mlmd.io.frames import Provenance, Trajectory
from mlmd.io.structures import read_reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

APART = 1.0
"""Å: maxima of a density that are closer are one site."""
CORE = 0.3
"""Of the shortest distance between sites: the radius of cores."""
LARGEST_CORE = 1.0
"""Å."""
HISTORY = 3.0
"""Jumps of an atom after which a displacement is one of diffusion."""
_SHORT = 5
"""Frames: shorter residence times are not resolved."""


@dataclass(frozen=True)
class SiteClass:
    """Sites of one kind."""

    label: str
    n_sites: int
    occupancy: Estimate
    """Mean number of atoms on a site."""
    residence: Estimate
    """ps, mean time on a site."""
    survival: np.ndarray
    """(n, 2) ps and probability that a stay lasts longer, of stays whose beginning was seen (Kaplan and Meier)."""


@dataclass(frozen=True)
class Transition:
    """Jumps from sites of one class to those of another, or of the same."""

    origin: str
    target: str
    count: int
    rate: Estimate
    """1/ps, of an atom on a site of the first class."""
    length: Estimate
    """Å, mean distance of the sites."""

    @property
    def pair(self) -> str:
        """As in ``A→B``."""
        return f"{self.origin}→{self.target}"


@dataclass(frozen=True)
class SitesResult:
    """Occupancies and jumps of the atoms of one element."""

    element: str
    n_atoms: int
    places: Places
    core: float
    """Å, radius of the cores."""
    occupancy: np.ndarray
    """(n_sites,) mean number of atoms on each site."""
    occupancy_error: np.ndarray
    """(n_sites,)."""
    residence: tuple[Estimate, ...]
    """(n_sites,) ps, mean time of a stay on each site."""
    classes: tuple[SiteClass, ...]
    transitions: tuple[Transition, ...]
    visits: Visits
    rate: Estimate
    """1/ps, jumps of an atom."""
    length: Estimate
    """Å, mean length of a jump."""
    returns: Estimate
    """Part of the jumps that take the last one back."""
    jump_diffusion: Estimate
    """D_J = Σ l² / (6 N t), cm²/s: of jumps that know nothing of each other."""
    tracer_diffusion: Estimate
    """D, cm²/s, of `mlmd.analysis.diffusion`, from lags in which an atom has jumped several times."""
    tracer_along: Mapping[str, Estimate]
    """The same along x, y and z, from the same lags: D is their mean."""
    correlation: Estimate
    """f = D / D_J: 1 for jumps that know nothing of each other, less when they are taken back."""
    drift: str | tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Provenance

    name = "sites"

    def __str__(self) -> str:
        """The classes, the jumps between them, and what follows."""
        lines = [
            f"{one.n_sites} sites {one.label}: {one.occupancy} {self.element} each, for {one.residence} at a time"
            for one in self.classes
        ]
        lines += [f"{one.pair}: {one.count} jumps, {one.rate}, {one.length}" for one in self.transitions]
        lines.append(f"jump diffusion D_J = {self.jump_diffusion}, correlation factor {self.correlation}")
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Numbers with errors, units and provenance; sites and jumps are in CSV files."""
        return {
            "analysis": self.name,
            "element": self.element,
            "n_atoms": self.n_atoms,
            "sites_from": self.places.source,
            "core_A": self.core,
            "classes": {
                one.label: {
                    "n_sites": one.n_sites,
                    "occupancy": one.occupancy.to_dict(),
                    "residence_time": one.residence.to_dict(),
                }
                for one in self.classes
            },
            "transitions": {
                one.pair: {"count": one.count, "rate": one.rate.to_dict(), "length": one.length.to_dict()}
                for one in self.transitions
            },
            "n_jumps": len(self.visits.atom),
            "jump_rate": self.rate.to_dict(),
            "jump_length": self.length.to_dict(),
            "returns": self.returns.to_dict(),
            "jump_diffusion": self.jump_diffusion.to_dict(),
            "tracer_diffusion": self.tracer_diffusion.to_dict(),
            **{f"tracer_diffusion_{axis}": value.to_dict() for axis, value in self.tracer_along.items()},
            "correlation_factor": self.correlation.to_dict(),
            "time_in_cores": self.visits.in_cores,
            "drift": self.drift if isinstance(self.drift, str) else list(self.drift),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }

    def to_csv(self) -> str:
        """A line for each site."""
        lines = ["site,class,a,b,c,x [Å],y [Å],z [Å],occupancy,occupancy error,residence [ps],residence error"]
        positions = self.places.reduced @ self.places.cell
        for index, label in enumerate(self.places.classes):
            stay = self.residence[index]
            numbers = (
                *self.places.reduced[index], *positions[index], self.occupancy[index], self.occupancy_error[index],
                stay.value, stay.error,
            )  # fmt: skip
            lines.append(",".join([str(index), label, *(f"{x:.8g}" for x in numbers)]))
        return "\n".join(lines) + "\n"

    def more_files(self) -> dict[str, str]:
        """Every jump, the survival of stays, and the sites as a structure that can be given to other runs."""
        from io import StringIO

        from ase.io import write

        sites = StringIO()
        write(sites, self.places.atoms(self.element), format="extxyz")
        begin, interval = self.provenance.first_time, self.provenance.interval
        jumps = ["time [ps],atom,from,to,dx [Å],dy [Å],dz [Å]"]
        for atom, frame, origin, target, vector in zip(
            self.visits.atom.tolist(), self.visits.frame.tolist(), self.visits.origin.tolist(),
            self.visits.target.tolist(), self.visits.vector.tolist(), strict=True,
        ):  # fmt: skip
            moved = ",".join(f"{x:.6g}" for x in vector)
            jumps.append(f"{(begin + frame * interval) / 1e3:.8g},{atom},{origin},{target},{moved}")
        survival = ["class,time [ps],survival"]
        survival += [f"{one.label},{t:.8g},{p:.8g}" for one in self.classes for t, p in one.survival.tolist()]
        return {
            f"{self.name}.extxyz": sites.getvalue(),
            f"{self.name}-jumps.csv": "\n".join(jumps) + "\n",
            f"{self.name}-survival.csv": "\n".join(survival) + "\n",
        }

    def figure(self) -> Figure:
        """Occupancies, survival of stays, lengths of jumps."""
        from mlmd.analysis.sites_figure import sites_figure

        return sites_figure(self)


def sites(
    trajectory: Trajectory,
    *,
    element: str,
    reference: ase.Atoms | Path | None = None,
    core: float | None = None,
    apart: float = APART,
    least: float = LEAST,
    drift: str | Sequence[str] = "cell",
) -> SitesResult:
    """Sites of an element, their occupancies, and the jumps between them.

    Sites are the maxima of the element's density, or its places in a reference. An atom belongs to the site whose core
    it was in last (`mlmd.analysis.visits`). The mean residence time of sites is the time that atoms have belonged to
    them over the number of times that they have left: stays that were cut off by the beginning or the end of the
    trajectory count with the time that was seen, which makes this right for any distribution of stays in a stationary
    run. The survival curve is Kaplan and Meier's (J. Am. Stat. Assoc. 1958, 53, 457), of the stays whose beginning was
    seen, those cut off by the end being censored. Rates are jumps over the time that atoms have been on the class they
    come from. D_J = Σ l² / (6 N t) with the distances l of the sites, and f = D / D_J with D of
    `mlmd.analysis.diffusion`, from lags of at least `HISTORY` jumps, where that is determined. Errors are the larger of
    a jackknife over ten parts of time and of √n of the n jumps.

    Args:
        trajectory: periodic in all three directions, frames at equal intervals.
        element: whose atoms hop.
        reference: a structure with the sites, or its file; by default they are maxima of the density.
        core: Å, radius of the cores; by default `CORE` of the shortest distance between sites, at most `LARGEST_CORE`.
        apart: Å; of maxima of the density that are closer, the higher one is a site.
        least: of the highest maximum; lower ones are no sites.
        drift: what is at rest: ``"cell"``, ``"none"``, or elements of a framework.

    Raises:
        InputError: for unknown elements, references that do not fit, cores that overlap, without three periodic
            directions, and for what has no path (`check_path`).
    """
    check_path(trajectory, "An analysis of sites")
    if not trajectory.pbc.all():
        raise InputError("Sites are looked for in a cell that is periodic in all three directions.")
    if not (apart > 0.0 and 0.0 < least <= 1.0):
        raise InputError(f"apart = {apart:g} Å, least = {least:g}: needed apart > 0 and 0 < least <= 1.")
    atoms, rest = trajectory.atoms_of([element]), still(trajectory, drift)
    places = _places(trajectory, element, atoms, rest, reference, apart, least)
    shortest = places.nearest_distance()
    core = min(CORE * shortest, LARGEST_CORE) if core is None else core
    if not 0.0 < core < 0.5 * shortest:
        raise InputError(
            f"core = {core:g} Å: two sites are {shortest:.2f} Å apart, so cores of 0 to {0.5 * shortest:.2f} Å "
            "(--core) do not overlap."
        )
    visits = follow(trajectory, atoms, places, core, rest)
    return _result(trajectory, element, places, core, visits, drift)


def _places(
    trajectory: Trajectory, element: str, atoms: np.ndarray, rest: np.ndarray,
    reference: ase.Atoms | Path | None, apart: float, least: float,
) -> Places:  # fmt: skip
    cell, others = mean_cell(trajectory), framework(trajectory, rest, without=[element])
    if reference is not None:
        known = reference if isinstance(reference, ase.Atoms) else read_reference(reference)
        source = "the reference structure" if isinstance(reference, ase.Atoms) else str(reference)
        return from_structure(known, element, cell, others, source)
    spacing = max(GRID, (abs(float(np.linalg.det(cell))) / MOST_POINTS) ** (1 / 3))
    a, b, c = (max(1, math.ceil(length / spacing)) for length in np.linalg.norm(cell, axis=1))
    total, n_parts = np.zeros((a, b, c)), 0
    for part in counted(trajectory, atoms, cell, (a, b, c), rest):
        total += part
        n_parts += 1
    return from_density(total / n_parts, cell, apart, others, least)


def _result(
    trajectory: Trajectory, element: str, places: Places, core: float, visits: Visits,
    drift: str | Sequence[str],
) -> SitesResult:  # fmt: skip
    interval = trajectory.provenance.interval / 1e3
    n_atoms, n_blocks = len(visits.first_site), len(visits.held)
    block = block_of(visits.n_frames, n_blocks)
    frames = np.bincount(block)
    n_sites = len(places.reduced)
    occupied, occupied_error = ratio(visits.held, np.broadcast_to(frames[:, None], visits.held.shape))
    left = by_block(visits, block, visits.origin, n_sites)
    stays = tuple(residence(visits.held[:, [site]], left[:, [site]], interval) for site in range(n_sites))
    kinds = np.array([places.names.index(label) for label in places.classes])
    member = np.eye(len(places.names))[kinds]  # (n_sites, n_classes)
    present, rate_all = visits.held.sum(axis=1), by_block(visits, block, np.zeros_like(visits.frame), 1)[:, 0]
    squares = np.bincount(block[visits.frame], np.sum(visits.vector**2, axis=1), n_blocks)
    rate = jump_rate(present, rate_all, interval)
    jump = jump_diffusion(present, squares, rate_all, interval)
    tracer, along = _tracer(trajectory, element, rate, drift)
    return SitesResult(
        element, n_atoms, places, core, occupied, occupied_error, stays,
        tuple(_class(visits, places, member, index, left, frames, interval) for index in range(len(places.names))),
        _transitions(visits, places, kinds, member, block, interval), visits, rate, jump_length(visits.vector),
        returns(visits, block), jump, tracer, along, correlation(tracer, jump),
        drift if isinstance(drift, str) else tuple(drift),
        (*_notes(visits, rate, interval), *trajectory.provenance.notes), trajectory.provenance,
    )  # fmt: skip


def _tracer(
    trajectory: Trajectory, element: str, rate: Estimate, drift: str | Sequence[str]
) -> tuple[Estimate, Mapping[str, Estimate]]:
    """D, and D along each axis, from lags in which an atom jumps `HISTORY` times at least.

    They are not determined where the run is too short for that.

    A mean squared displacement may look straight already while atoms still go back and forth between two sites.
    """
    found = diffusion(trajectory, elements=[element], drift="none" if trajectory.n_atoms == 1 else drift).species[0]
    interval, n_frames = trajectory.provenance.interval, trajectory.n_frames
    if found.line is None or not rate.value > 0.0:
        return found.coefficient, found.along
    first = math.ceil(HISTORY / (rate.value * interval / 1e3))
    if first <= found.line.first_lag:
        return found.coefficient, found.along
    windows = found.msd.windows
    line = fit_diffusive(windows["xyz"], found.msd.total, n_frames, first) if first <= n_frames // MIN_WINDOWS else None
    if line is None:
        unknown = Estimate(math.nan, math.nan, D_UNIT, 0.0)
        return unknown, dict.fromkeys(found.along, unknown)
    along = {axis: coefficient_of(same_line(windows[axis], line, n_frames), 1, interval) for axis in found.along}
    return coefficient_of(line, 3, interval), along


def _class(
    visits: Visits, places: Places, member: np.ndarray, index: int, left: np.ndarray, frames: np.ndarray,
    interval: float,
) -> SiteClass:  # fmt: skip
    its = member[:, index] > 0.0
    held = visits.held[:, its].sum(axis=1)
    value, error = ratio(held / its.sum(), frames)
    return SiteClass(
        places.names[index], int(its.sum()), Estimate(float(value), float(error), "", float(len(frames))),
        residence(visits.held[:, its], left[:, its], interval), survival(visits, np.flatnonzero(its), interval),
    )  # fmt: skip


def _transitions(
    visits: Visits, places: Places, kinds: np.ndarray, member: np.ndarray, block: np.ndarray, interval: float
) -> tuple[Transition, ...]:
    """Between all classes that atoms have jumped between."""
    held = visits.held @ member
    found = []
    for (a, first), (b, second) in product(enumerate(places.names), repeat=2):
        those = (kinds[visits.origin] == a) & (kinds[visits.target] == b)
        if those.any():
            jumps = np.bincount(block[visits.frame[those]], minlength=len(held))
            rate = jump_rate(held[:, a], jumps, interval)
            found.append(Transition(first, second, int(those.sum()), rate, jump_length(visits.vector[those])))
    return tuple(found)


def _notes(visits: Visits, rate: Estimate, interval: float) -> tuple[str, ...]:
    notes = []
    never = int(np.count_nonzero(visits.first_site < 0))
    if never:
        notes.append(f"{never} atoms were never within a core: sites are missing, or the cores are too small (--core)")
    if visits.in_cores < 0.3:
        notes.append(f"atoms are within a core only {visits.in_cores:.0%} of the time: are these the sites?")
    known = visits.held.sum()
    if known and visits.n_crowded > 0.02 * known:
        notes.append(
            f"in {visits.n_crowded / known:.0%} of the time an atom shares its site with another one: sites are missing"
        )
    if rate.value > 0.0 and 1.0 / (rate.value * interval) < _SHORT:
        notes.append(
            f"an atom jumps every {1.0 / (rate.value * interval):.1f} frames: jumps are missed. Write frames more often"
        )
    if not len(visits.atom):
        time = known * interval
        notes.append(
            f"no jumps in {time:.4g} ps of an atom: fewer than {3.0 / time:.2g} per ps, at 95 %" if time else ""
        )
    return tuple(filter(None, notes))
