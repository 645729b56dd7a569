"""exchange.csv: which walker is where after every exchange, and what can be read off it.

A walker is a configuration that goes from replica to replica; it has the number of the replica that it began in,
counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betainc

from mlmd.engine.outputs import AppendOnly
from mlmd.engine.swaps import Tried, neighbours
from mlmd.errors import StorageError

EXCHANGES = "exchange.csv"
COLUMNS = ("exchange", "stage", "step", "time [ps]")
FEW = 0.1
"""Acceptance below which a pair is told of: temperatures are too far apart to help each other."""
ENOUGH = 50
"""Tries of a pair after which its acceptance is known well enough."""


class ExchangeLog(AppendOnly):
    """Adds a line for every exchange: walkers, and the probabilities of the pairs that tried, nan for the others."""

    def __init__(self, path: Path, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> None:
        """Take the names of replicas and all pairs of neighbours."""
        self._names, self._pairs = names, pairs
        super().__init__(path)

    def header(self) -> bytes:
        """Names of the columns."""
        walkers = [f"walker at {name}" for name in self._names]
        chances = [f"probability {self._names[one]}/{self._names[other]}" for one, other in self._pairs]
        return (",".join([*COLUMNS, *walkers, *chances]) + "\n").encode()

    def row(
        self, number: int, stage: int, step: int, time: float, walkers: Sequence[int], tried: Sequence[Tried]
    ) -> None:
        """Add an exchange, counted from 1, at a global step and time (ps); stages are counted from 1."""
        chances = dict.fromkeys(self._pairs, "nan") | {one.pair: f"{one.probability:.6g}" for one in tried}
        words = [str(number), str(stage), str(step), f"{time:.15g}", *map(str, walkers), *chances.values()]
        self.append((",".join(words) + "\n").encode())
        self._file.flush()


@dataclass(frozen=True)
class Exchanges:
    """What an exchange.csv says."""

    names: tuple[str, ...]
    """Of the replicas."""
    pairs: tuple[tuple[int, int], ...]
    walkers: np.ndarray
    """(n_exchanges, n_replicas) after each exchange."""
    probabilities: np.ndarray
    """(n_exchanges, n_pairs), nan where a pair did not try."""

    @property
    def tries(self) -> np.ndarray:
        """(n_pairs,) how often each pair has tried."""
        counts: np.ndarray = np.isfinite(self.probabilities).sum(axis=0)
        return counts

    @property
    def course(self) -> np.ndarray:
        """(n_exchanges + 1, n_replicas) walkers, from where they began."""
        return np.concatenate([np.arange(len(self.names))[None], self.walkers])

    @cached_property
    def accepted(self) -> np.ndarray:
        """(n_pairs,) how often each pair has changed places."""
        moved = np.diff(self.course, axis=0) != 0
        tried = np.isfinite(self.probabilities)
        found = [int((moved[:, one] & tried[:, n]).sum()) for n, (one, _) in enumerate(self.pairs)]
        return np.array(found, dtype=int)

    @property
    def acceptance(self) -> np.ndarray:
        """(n_pairs,) share of accepted tries, nan without any."""
        tries = self.tries
        return np.where(tries > 0, self.accepted / np.maximum(tries, 1), np.nan)

    def round_trips(self, bottom: Sequence[int], top: Sequence[int]) -> int:
        """How often walkers have gone from the first replicas (`bottom`) to the last ones (`top`) and back, in all."""
        course = self.course
        return sum(_round_trips(course == walker, bottom, top) for walker in range(len(self.names)))


def _round_trips(here: np.ndarray, bottom: Sequence[int], top: Sequence[int]) -> int:
    """Of one walker, `here` (n_moments, n_replicas) bool."""
    ends = np.zeros(len(here), dtype=int)
    ends[here[:, list(bottom)].any(axis=1)] = 1
    ends[here[:, list(top)].any(axis=1)] = 2
    visited = ends[ends > 0]
    if not len(visited):
        return 0
    changes = visited[np.concatenate([[True], np.diff(visited) != 0])]
    first = np.flatnonzero(changes == 1)
    return max(0, (len(changes) - int(first[0]) - 1) // 2) if len(first) else 0


def ends_of(shape: Sequence[int]) -> tuple[list[int], list[int]]:
    """Numbers of the replicas at the beginning and at the end of all lists, one for each seed."""
    n_seeds, n_all = shape[-1], math.prod(shape)
    return list(range(n_seeds)), list(range(n_all - n_seeds, n_all))


def read_exchanges(folder: Path, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Exchanges:
    """Read the exchange.csv of a folder, whole lines only; none where there is no such file yet.

    Raises:
        StorageError: when it is no such table.
    """
    path = folder / EXCHANGES
    width = len(COLUMNS) + len(names) + len(pairs)
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.rpartition("\n")[0].splitlines()[1:]
    try:
        table = np.array([[float(word) for word in line.split(",")] for line in lines]).reshape(-1, width)
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}.") from None
    n_first = len(COLUMNS) + len(names)
    walkers = table[:, len(COLUMNS) : n_first].astype(int)
    return Exchanges(tuple(names), tuple(pairs), walkers, table[:, n_first:])


def expected_acceptance(n_dof: int, first: float, second: float) -> float:
    """Accepted share of exchanges of a harmonic system between two temperatures (K), in equilibrium.

    Its energies are Gamma distributed with the shape a = n_dof / 2, and for T₁ < T₂ the mean of min(1, exp Δ) is twice
    the probability that the colder one has the higher energy: 2 I_x(a, a), x = T₁ / (T₁ + T₂), with the regularised
    incomplete beta function (Kofke, J. Chem. Phys. 117, 6911 (2002)). A solid is nearly that, and a liquid not far
    from it.

    Args:
        n_dof: degrees of freedom.
        first, second: temperatures, each divided by the factor on its potential.
    """
    colder, hotter = sorted((first, second))
    return float(2.0 * betainc(0.5 * n_dof, 0.5 * n_dof, colder / (colder + hotter)))


def exchanges_in(folder: Path, listed: Mapping[str, Any]) -> tuple[Exchanges, int] | None:
    """What has been exchanged in a folder of replicas, and how many round trips there were; None for independent ones.

    Args:
        folder: of the replicas.
        listed: what its replicas.json says.

    Raises:
        StorageError: when exchange.csv is damaged.
    """
    if "exchange" not in listed:
        return None
    shape = [int(length) for length in listed["exchange"]["shape"]]
    found = read_exchanges(folder, listed["replicas"], neighbours(shape))
    return found, found.round_trips(*ends_of(shape))


def to_json(found: Exchanges, round_trips: int) -> dict[str, Any]:
    """What is told of exchanges, JSON-able."""
    pairs = [
        {
            "replicas": [found.names[one], found.names[other]], "tries": int(tries), "accepted": int(accepted),
            "acceptance": float(share) if tries else None,
        }
        for (one, other), tries, accepted, share in zip(
            found.pairs, found.tries, found.accepted, found.acceptance, strict=True
        )
    ]  # fmt: skip
    walkers = found.walkers[-1] if len(found.walkers) else np.arange(len(found.names))
    return {
        "exchanges": len(found.walkers), "round_trips": round_trips, "pairs": pairs,
        "walkers": dict(zip(found.names, walkers.tolist(), strict=True)),
    }  # fmt: skip
