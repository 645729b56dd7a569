"""The structure at the beginning and at the end of a run: as a picture, and packed for the viewer of the page."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from mlmd.errors import MlmdError
from mlmd.pairs import find_pairs
from mlmd.rundir import CRASH, FINAL, Run

if TYPE_CHECKING:
    import ase
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_ATOMS = 8000
"""Of a frame in the viewer; of a larger one a slice through the middle is shown."""
MAX_BONDS = 12000
AZIMUTH, ELEVATION = math.radians(24.0), math.radians(14.0)
"""From where one looks at first: from the front, z upwards."""
_SIZE = 0.62
"""Of the drawn radius to the covalent one; smaller with bonds."""
_BONDED = 1.2
"""Of a bond to the sum of covalent radii, at most."""
_NONMETALS = frozenset((1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53))


@dataclass(frozen=True)
class View:
    """A frame as it is shown."""

    name: str
    numbers: np.ndarray
    """(n,) atomic numbers."""
    positions: np.ndarray
    """(n, 3) Å."""
    cell: np.ndarray | None
    """(3, 3) Å, rows are vectors; None without a cell."""
    bulk: bool
    """Whether the cell is periodic in all directions, so that all of it is to be seen."""
    bonds: np.ndarray
    """(n_bonds, 2) indices."""
    note: str = ""


def views(run: Run) -> tuple[View, ...]:
    """The first frame and the last, as far as they can be read."""
    found = [("first frame", run.atoms)]
    last = _last(run)
    if last is not None:
        found.append(last)
    shown = (view(name, atoms) for name, atoms in found)
    return tuple(one for one in shown if len(one.numbers))  # of a crash there may be no atom with a finite position


def view(name: str, atoms: ase.Atoms) -> View:
    """A frame with its atoms in the cell, or the slice of a large one, and with its bonds."""
    atoms = atoms.copy()
    atoms.calc = None
    atoms = atoms[np.isfinite(atoms.positions).all(axis=1)]
    if not len(atoms):
        return View(name, atoms.numbers, atoms.positions, None, False, np.zeros((0, 2), dtype=int), "")
    if atoms.pbc.any():
        atoms.wrap(eps=1e-3)
    note = ""
    if len(atoms) > MAX_ATOMS:
        distance = np.abs(atoms.positions[:, 1] - np.median(atoms.positions[:, 1]))
        chosen = np.sort(np.argsort(distance, kind="stable")[:MAX_ATOMS])
        note = f"Of {len(atoms):,} atoms those within {distance[chosen].max():.3g} Å of the middle along y."
        atoms = atoms[chosen]
    cell = atoms.cell.array if atoms.pbc.any() and abs(atoms.cell.volume) > 0.0 else None
    return View(name, atoms.numbers, atoms.positions, cell, bool(atoms.pbc.all()), _bonds(atoms), note)


def _last(run: Run) -> tuple[str, ase.Atoms] | None:
    """What stands at the end: the crash of a failed run, the final structure, or the last frame so far."""
    import ase.io

    final, crash = run.path / FINAL, run.path / CRASH / "last.extxyz"
    try:
        if run.manifest.get("state") == "failed" and crash.exists():
            return "where it failed", ase.io.read(crash, index=-1)  # type: ignore[return-value]
        if final.exists():
            return "last frame", ase.io.read(final, index=-1)  # type: ignore[return-value]
        return _last_of_trajectory(run)
    except (MlmdError, OSError, ValueError, KeyError, IndexError, StopIteration):
        return None  # half written, or gone: the page has the first frame


def _last_of_trajectory(run: Run) -> tuple[str, ase.Atoms] | None:
    import ase.io

    from mlmd.io.trajectories import cells_of, open_frames

    name = "last frame" if run.manifest.get("state") == "done" else "last frame so far"
    if not run.trajectory.exists():
        return None
    if run.trajectory.suffix == ".extxyz":
        return name, ase.io.read(run.trajectory, index=-1)  # type: ignore[return-value]
    reader = open_frames(run.trajectory)
    rows = range(max(0, reader.n_frames - 1), reader.n_frames)
    if not rows or reader.n_atoms != len(run.atoms):
        return None
    atoms = run.atoms.copy()
    orientation = np.array(run.manifest.get("orientation", np.eye(3)), dtype=float)
    atoms.set_cell(cells_of(reader, rows, atoms, orientation)[0])
    atoms.positions[:] = reader.read(rows)[0]
    return name, atoms


def _bonds(atoms: ase.Atoms) -> np.ndarray:
    """Pairs inside the cell closer than `_BONDED` covalent radii, of which at least one is of a nonmetal."""
    from ase.data import covalent_radii

    none = np.zeros((0, 2), dtype=int)
    radii = covalent_radii[atoms.numbers]
    nonmetal = np.isin(atoms.numbers, list(_NONMETALS))
    if not nonmetal.any() or len(atoms) < 2:
        return none
    none_periodic = np.zeros(3, dtype=bool)
    (i, j), _ = find_pairs(atoms.positions, np.zeros((3, 3)), none_periodic, float(2.0 * _BONDED * radii.max()))
    distances = np.linalg.norm(atoms.positions[j] - atoms.positions[i], axis=1)
    near = (i < j) & (distances < _BONDED * (radii[i] + radii[j])) & (nonmetal[i] | nonmetal[j])
    found = np.stack([i[near], j[near]], axis=1)
    return found if len(found) <= MAX_BONDS else none


def packed(shown: Sequence[View]) -> str:
    """JSON for the viewer: elements with colours and radii, frames with positions as 16-bit numbers in their box."""
    kinds = sorted({int(number) for one in shown for number in one.numbers})
    frames = []
    for one in shown:
        low, span = one.positions.min(axis=0), max(float(np.ptp(one.positions, axis=0).max()), 1e-6)
        scaled = np.rint((one.positions - low) / span * 65535.0).astype("<u2")
        frames.append(
            {
                "name": one.name, "note": one.note, "low": [round(float(x), 4) for x in low], "span": span,
                "positions": _base64(scaled), "kinds": _base64(np.searchsorted(kinds, one.numbers).astype("u1")),
                "bonds": _base64(one.bonds.astype("<u2")), "bulk": one.bulk,
                "cell": None if one.cell is None else [[round(float(x), 4) for x in row] for row in one.cell],
            }
        )  # fmt: skip
    elements = [{"symbol": symbol, "color": color, "radius": radius} for symbol, color, radius in map(_look, kinds)]
    told = {"elements": elements, "frames": frames, "azimuth": AZIMUTH, "elevation": ELEVATION}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def legend_of(shown: Sequence[View]) -> tuple[tuple[str, str], ...]:
    """Symbols and colours of the elements that occur."""
    kinds = sorted({int(number) for one in shown for number in one.numbers})
    return tuple(_look(number)[:2] for number in kinds)


def structure_figure(shown: Sequence[View]) -> Figure:
    """The frames beside each other, for paper and where no script runs."""
    from matplotlib.figure import Figure

    extents = [np.ptp(_projected(_outline(one))[:, :2], axis=0) for one in shown]
    ratio = max(extent[1] / max(extent[0], 1e-9) for extent in extents)
    height = min(max(9.0 / len(shown) * ratio, 2.2), 6.5)
    figure = Figure(figsize=(9.0, height), dpi=110, layout="constrained", facecolor="white")
    for axes, one in zip(figure.subplots(1, len(shown), squeeze=False).flat, shown, strict=True):
        _draw(axes, one)
    return figure


def _draw(axes: Axes, one: View) -> None:
    from matplotlib.collections import EllipseCollection, LineCollection

    place = _projected(one.positions)
    order = np.argsort(place[:, 2], kind="stable")
    looks = {int(number): _look(int(number)) for number in np.unique(one.numbers)}
    scale = 0.6 if len(one.bonds) else 1.0
    sizes = np.array([2.0 * scale * looks[int(number)][2] for number in one.numbers])[order]
    colors = [looks[int(number)][1] for number in one.numbers[order]]
    if one.cell is not None:
        edges = [_projected(np.array(edge))[:, :2] for edge in _edges(one.cell)]
        axes.add_collection(LineCollection(edges, colors="#777777", linewidths=0.8, zorder=1))
    if len(one.bonds):
        axes.add_collection(
            LineCollection(list(place[one.bonds][:, :, :2]), colors="#999999", linewidths=1.0, zorder=2)
        )
    axes.add_collection(
        EllipseCollection(
            sizes, sizes, np.zeros(len(order)), units="xy", offsets=place[order, :2], transOffset=axes.transData,
            facecolors=colors, edgecolors="#333333", linewidths=0.4, zorder=3,
        )
    )  # fmt: skip
    around = _projected(_outline(one))[:, :2]
    room = 0.03 * max(float(np.ptp(around, axis=0).max()), 4.0) + 1.0
    axes.set_xlim(around[:, 0].min() - room, around[:, 0].max() + room)
    axes.set_ylim(around[:, 1].min() - room, around[:, 1].max() + room)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(one.name, fontsize=10, color="#333333")


def _outline(one: View) -> np.ndarray:
    """Points that must be seen: atoms and corners of the cell."""
    corners = np.zeros((0, 3)) if one.cell is None else np.array(list(product((0, 1), repeat=3))) @ one.cell
    return np.concatenate([one.positions, corners])


def _edges(cell: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The twelve edges of a cell."""
    for axis in range(3):
        others = [row for row in range(3) if row != axis]
        for first, second in product((0, 1), repeat=2):
            begin = first * cell[others[0]] + second * cell[others[1]]
            yield begin, begin + cell[axis]


def _projected(points: np.ndarray) -> np.ndarray:
    """(n, 3): to the right, upwards, and towards the reader."""
    right = np.array([math.cos(AZIMUTH), math.sin(AZIMUTH), 0.0])
    ahead = np.array(
        [-math.sin(AZIMUTH) * math.cos(ELEVATION), math.cos(AZIMUTH) * math.cos(ELEVATION), -math.sin(ELEVATION)]
    )
    return points @ np.array([right, np.cross(right, ahead), -ahead]).T


def _look(number: int) -> tuple[str, str, float]:
    """Symbol, colour (Jmol's) and drawn radius in Å of an element."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    known = 0 < number < len(jmol_colors)
    color = "#" + "".join(f"{round(255 * x):02x}" for x in jmol_colors[number]) if known else "#ff69b4"
    return chemical_symbols[number], color, round(float(covalent_radii[number]) * _SIZE, 3)


def _base64(numbers: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
