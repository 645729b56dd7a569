"""How often the 95 % intervals of D and of the collective conductivity hold the truth, and how wide they are.

    python benchmarks/diffusion_calibration.py [--trajectories 1000] [--kind KIND ...] [--json rows.json]
    python benchmarks/diffusion_calibration.py --kinisi ENVIRONMENT/bin/python --compared 100
    python benchmarks/diffusion_calibration.py --show rows.json ...     # the table again

Trajectories of known diffusion, each for another reason hard: random walks; hops that are taken back; inertia with a
memory of 50 frames; ions that hop in groups; few ions that rattle about their sites; a host whose gate opens and
closes for all of them; a crowded lattice. D is what `mlmd analyze diffusion` gives, with its own choice of where the
diffusive regime begins. Beside it: an ordinary fit of a line to the same MSD (the naive error), and, with the Python of
an environment that has kinisi, its interval for the same trajectories from the same beginning.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import ase
import numpy as np
from scipy.signal import lfilter

from mlmd import units
from mlmd.analysis.diffusion import DiffusionResult, diffusion
from mlmd.analysis.estimate import Estimate
from mlmd.io.trajectories import from_arrays

INTERVAL, CELL, TEMPERATURE = 1000.0, 30.0, 600.0
"""fs between frames, Å, K."""
STEPS = np.concatenate([np.eye(3), -np.eye(3)])
"""Å, of a hop."""


@dataclass(frozen=True)
class Kind:
    """Trajectories of one kind."""

    make: Callable[[np.random.Generator, int], Iterator[np.ndarray]]
    """Of a generator and a number: so many trajectories, (n_frames, n_ions, 3) Å."""
    slope: float
    """Of the MSD, Å² per frame: 6 D; nan where it is taken from a large sample."""
    together: float
    """Of |Σ Δr|² over the number of ions, Å² per frame."""


def rattling(rng: np.random.Generator, shape: tuple[int, ...], size: float, memory: float) -> np.ndarray:
    """A Gaussian process of this standard deviation that forgets itself in so many frames."""
    decay, burn = np.exp(-1.0 / memory), int(20 * memory)
    kicks = rng.normal(scale=size * np.sqrt(1.0 - decay**2), size=(shape[0] + burn, *shape[1:]))
    path: np.ndarray = lfilter([1.0], [1.0, -decay], kicks, axis=0)[burn:]
    return path


def hopping(rng: np.random.Generator, n_frames: int, n_ions: int, rate: float | np.ndarray) -> np.ndarray:
    """Hops in six directions at so many per frame."""
    hops = rng.random((n_frames, n_ions)) < rate
    path: np.ndarray = np.cumsum(STEPS[rng.integers(0, 6, hops.shape)] * hops[..., None], axis=0)
    return path


def brownian(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Random walks."""
    for _ in range(number):
        yield np.cumsum(rng.normal(size=(500, 27, 3)), axis=0)


def taken_back(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Half of all hops lead back to where the last came from: D is a third of what hops alone would give."""
    n_frames, n_ions = 1000, 24
    for _ in range(number):
        hops, back = rng.random((n_frames, n_ions)) < 0.2, rng.random((n_frames, n_ions)) < 0.5
        steps = STEPS[rng.integers(0, 6, hops.shape)]
        path = np.zeros((n_frames, n_ions, 3))
        for ion in range(n_ions):
            frames = np.flatnonzero(hops[:, ion])
            order = np.arange(len(frames))
            fresh = np.maximum.accumulate(np.where(back[frames, ion], 0, order))
            path[frames, ion] = steps[frames[fresh], ion] * ((-1.0) ** (order - fresh))[:, None]
        yield np.cumsum(path, axis=0)


def inertial(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Langevin's velocities with a memory of 50 frames."""
    for _ in range(number):
        yield np.cumsum(rattling(rng, (4000, 32, 3), 0.1, 50.0), axis=0)


def grouped(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Groups of four ions that hop together."""
    for _ in range(number):
        yield np.repeat(hopping(rng, 1000, 6, 0.1), 4, axis=1)


def few(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Eight ions that rattle, and hop rarely."""
    for _ in range(number):
        yield hopping(rng, 1000, 8, 0.06) + rattling(rng, (1000, 8, 3), 0.3, 2.0)


def gated(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """Ions that hop nine times as fast while the host is open, for about 20 frames at a time."""
    for _ in range(number):
        shut = (np.cumsum(rng.random(1000) < 1 / 20) + rng.integers(2)) % 2 == 1
        rates = np.where(shut, 0.02, 0.18)[:, None]
        yield hopping(rng, 1000, 18, rates) + rattling(rng, (1000, 18, 3), 0.3, 1.0)


CROWD, SIDE, TRIES = 48, 4, 10
"""Ions on a cubic lattice of so many sites along each side, and attempts to hop of any of them in a frame."""


def crowded(rng: np.random.Generator, number: int) -> Iterator[np.ndarray]:
    """A lattice three quarters full: ions hop to empty neighbours only, and an empty site invites back."""
    n_frames, batch = 1000, 50
    for first in range(0, number, batch):
        n = min(batch, number - first)
        sites = np.argsort(rng.random((n, SIDE**3)), axis=1)[:, :CROWD]
        places = np.stack(np.unravel_index(sites, (SIDE,) * 3), axis=-1)
        taken = np.zeros((n, SIDE, SIDE, SIDE), dtype=bool)
        rows = np.arange(n)
        for ion in range(CROWD):
            taken[rows, *places[:, ion].T] = True
        paths = np.empty((n_frames, n, CROWD, 3), dtype=np.int16)
        for frame in range(n_frames):
            for _ in range(TRIES):
                ions, steps = rng.integers(0, CROWD, n), STEPS[rng.integers(0, 6, n)].astype(int)
                old, new = places[rows, ions] % SIDE, (places[rows, ions] + steps) % SIDE
                free = ~taken[rows, *new.T]
                taken[rows[free], *old[free].T], taken[rows[free], *new[free].T] = False, True
                places[rows[free], ions[free]] += steps[free]
            paths[frame] = places
        yield from (paths[:, one].astype(float) for one in range(n))


_DECAY = np.exp(-1.0 / 50.0)
_LANGEVIN = 3 * 0.01 * (1 + _DECAY) / (1 - _DECAY)
# All displacements of a symmetric exclusion process add up to one that forgets itself at once (the current is a
# gradient), so that its rate is that of attempts that find an empty site (Spohn, Large Scale Dynamics, 1991).
_EXCLUSION = TRIES / CROWD * (1 - (CROWD - 1) / (SIDE**3 - 1))
KINDS = {
    "brownian": Kind(brownian, 3.0, 3.0),
    "taken_back": Kind(taken_back, 0.2 / 3, 0.2 / 3),
    "inertial": Kind(inertial, _LANGEVIN, _LANGEVIN),
    "grouped": Kind(grouped, 0.1, 0.4),
    "few": Kind(few, 0.06, 0.06),
    "gated": Kind(gated, 0.1, 0.1),
    "crowded": Kind(crowded, float("nan"), _EXCLUSION),
}


WORDS = {
    "brownian": "random walks",
    "taken_back": "hops, half of them taken back",
    "inertial": "Langevin, memory of 50 frames",
    "grouped": "ions that hop in groups of four",
    "few": "8 ions that rattle and hop",
    "gated": "a gate that opens for all ions",
    "crowded": "a lattice three quarters full",
}


@dataclass(frozen=True)
class Row:
    """One interval: of what, and how far from the truth, in units of the truth."""

    kind: str
    quantity: str
    value: float
    low: float
    high: float
    """Bounds of the interval of 95 %."""


def analysed(positions: np.ndarray) -> DiffusionResult:
    """As of lithium in a cubic cell, with charge 1."""
    atoms = ase.Atoms(f"Li{positions.shape[1]}", cell=[CELL] * 3, pbc=True)
    trajectory = from_arrays(positions, atoms, interval=INTERVAL, unwrapped=True, temperature=TEMPERATURE)
    return diffusion(trajectory, charges={"Li": 1.0}, drift="none")


def exact_slope(kind: Kind, rng: np.random.Generator) -> float:
    """6 D in Å² per frame; of a large sample between lags of 100 and 200 frames, where it is not known."""
    if np.isfinite(kind.slope):
        return kind.slope
    msd = np.zeros(2)
    for path in kind.make(rng, 500):
        msd += [np.mean(np.sum((path[lag:] - path[:-lag]) ** 2, axis=2)) for lag in (100, 200)]
    return float((msd[1] - msd[0]) / 500 / 100)


def row(kind: str, quantity: str, estimate: Estimate, exact: float) -> Row:
    """An estimate over the truth."""
    return Row(kind, quantity, *(number / exact for number in (estimate.value, *estimate.interval())))


def naive(result: DiffusionResult) -> Estimate:
    """Slope, Å² per frame, from an ordinary fit of a line to all lags of the same window."""
    one = result.species[0]
    assert one.line is not None
    lags = np.arange(one.line.first_lag, one.line.last_lag + 1)
    (slope, _), covariance = np.polyfit(lags, one.msd.total[lags], 1, cov=True)
    return Estimate(float(slope), float(np.sqrt(covariance[0, 0])), "Å²", len(lags))


def rows_of(name: str, number: int, seed: int = 1) -> tuple[list[Row], list[tuple[np.ndarray, int]], float]:
    """The intervals for one kind, trajectories with the beginnings of their diffusive regimes, and 6 D."""
    kind = KINDS[name]
    truth = exact_slope(kind, np.random.default_rng(seed + 1000))
    per_slope = units.CM2_PER_S / (6 * INTERVAL)
    factor = units.S_PER_CM / (6 * INTERVAL * CELL**3 * units.KB * TEMPERATURE)
    rows, kept = [], []
    for path in kind.make(np.random.default_rng(seed), number):
        result = analysed(path)
        d = result.species[0]
        if d.line is None or result.collective is None:
            continue
        rows += [
            row(name, "D", d.coefficient, truth * per_slope),
            row(name, "D, naive", naive(result), truth),
        ]
        if result.collective.conductivity.determined:
            rows.append(row(name, "sigma", result.collective.conductivity, factor * path.shape[1] * kind.together))
        kept.append((path, d.line.first_lag))
    return rows, kept, truth


def with_kinisi(name: str, kept: list[tuple[np.ndarray, int]], truth: float, python: str) -> list[Row]:
    """kinisi's interval for the same trajectories."""
    script = Path(__file__).with_name("diffusion_in_kinisi.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "paths.npz"
        starts = np.array([start for _, start in kept])
        np.savez(file, paths=np.array([path for path, _ in kept]), starts=starts)
        answer = subprocess.run([python, str(script), str(file)], check=True, capture_output=True, text=True)
    bounds = np.array(json.loads(answer.stdout.splitlines()[-1])) / truth
    return [Row(name, "D, kinisi", float((low + high) / 2), float(low), float(high)) for low, high in bounds]


def table(rows: list[Row]) -> str:
    """How often each interval holds the truth, and its mean width over the truth, a line for each kind, and for all."""
    quantities = ("D", "D, naive", "D, kinisi", "sigma")
    lines = [
        "| trajectories | mlmd's D | ordinary fit | kinisi | mlmd's σ of all ions |",
        "| --- | --- | --- | --- | --- |",
    ]
    widths: dict[str, list[float]] = {one: [] for one in quantities}
    for kind in dict.fromkeys(row.kind for row in rows):
        cells = []
        for one in quantities:
            found = [row for row in rows if (row.kind, row.quantity) == (kind, one)]
            cells.append(_held(found))
            widths[one].append(_width(found))
        lines.append(f"| {WORDS[kind]} | {' | '.join(cells)} |")
    means = [f"width {np.mean(several):.2g}" if np.isfinite(several).all() else "–" for several in widths.values()]
    lines.append(f"| mean of all kinds | {' | '.join(means)} |")
    return "\n".join(lines)


def _width(rows: list[Row]) -> float:
    """Mean width over the truth; nan of none."""
    return float(np.mean([row.high - row.low for row in rows])) if rows else float("nan")


def _held(rows: list[Row]) -> str:
    """Share of the intervals that hold the truth, of how many, and their mean width."""
    if not rows:
        return "–"
    held = np.mean([row.low < 1.0 < row.high for row in rows])
    return f"{100 * held:.1f} % of {len(rows)}, width {_width(rows):.2g}"


def main() -> None:
    """Make, analyse, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=1000)
    parser.add_argument("--kind", choices=KINDS, action="append", default=None)
    parser.add_argument("--kinisi", metavar="PYTHON", help="of an environment with kinisi")
    parser.add_argument("--compared", type=int, default=100, help="trajectories that kinisi is given")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--show", type=Path, nargs="+", help="files of rows to print instead")
    options = parser.parse_args()
    if options.show:
        print(table([Row(**row) for path in options.show for row in json.loads(path.read_text(encoding="utf-8"))]))
        return
    rows: list[Row] = []
    for name in options.kind or KINDS:
        found, kept, truth = rows_of(name, options.trajectories)
        rows += found
        if options.kinisi:
            rows += with_kinisi(name, kept[: options.compared], truth, options.kinisi)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
