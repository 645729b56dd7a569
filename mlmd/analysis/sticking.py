"""How many of those that arrive at a surface stay: sticking coefficients from the book that a deposition keeps."""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import beta

from mlmd.analysis.estimate import Estimate
from mlmd.errors import StorageError


@dataclass(frozen=True)
class Sticking:
    """What became of the arrivals of one kind."""

    species: str
    coefficient: Estimate
    """Stuck / (stuck + gone without having stuck)."""
    interval: tuple[float, float]
    """In which it is with 95 % probability."""
    stuck: int
    """Arrivals that have ever stuck."""
    lost: int
    """Removed without having stuck."""
    undecided: int
    """On their way, or bounced and still there: these do not count."""
    desorbed: int
    """Of those that had stuck, removed later."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "species": self.species, "sticking": self.coefficient.to_dict(), "interval_95": list(self.interval),
            "stuck": self.stuck, "lost": self.lost, "undecided": self.undecided, "desorbed": self.desorbed,
        }  # fmt: skip


def sticking(book: Path, first_time: float, last_time: float) -> tuple[Sticking, ...]:
    """The coefficient of each species, and of all together where there are several.

    An arrival sticks or not, so of n decided ones k stick by a binomial law. The interval holds 95 % of what the law of
    the coefficient, Beta(k + 1/2, n - k + 1/2), says of it after that (Jeffreys; Brown, Cai and DasGupta, Statist. Sci.
    16, 101 (2001)), the error is that law's standard deviation: none of 20 lost means 1.00(3), not 1 exactly.

    Args:
        book: deposition.csv of a run.
        first_time, last_time: fs; arrivals that appear before are left out, and what happens later is not looked at.
            A number that is inserted again, by a later stage, is another arrival.

    Raises:
        StorageError: when the file is damaged.
    """
    opened: dict[int, list[str]] = {}
    arrivals: list[tuple[str, list[str]]] = []
    try:
        with book.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                time, number, what = 1e3 * float(row["time [ps]"]), int(row["arrival"]), row["what"]
                if not number or time > last_time + 1e-6:
                    continue
                if what in ("inserted", "absent"):  # every stage counts its arrivals from 1
                    opened[number] = []
                    if what == "inserted" and time >= first_time - 1e-6:
                        arrivals.append((row["species"], opened[number]))
                opened.setdefault(number, []).append(what)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{book} cannot be read as the table of a deposition: {error}.") from None
    names = tuple(dict.fromkeys(kind for kind, _ in arrivals))
    found = [_of(name, [fate for kind, fate in arrivals if kind == name]) for name in names]
    return (*found, _of("all", [fate for _, fate in arrivals])) if len(found) > 1 else tuple(found)


def _of(species: str, fates: list[list[str]]) -> Sticking:
    count = Counter(
        ("stuck", "escaped" in fate) if "stuck" in fate else ("lost", True) if "escaped" in fate else ("open", False)
        for fate in fates
    )
    desorbed = count["stuck", True]
    stuck, lost = desorbed + count["stuck", False], count["lost", True]
    law = beta(stuck + 0.5, lost + 0.5)
    value = stuck / (stuck + lost) if stuck + lost else math.nan
    # with all or none the interval ends at what was seen
    low, high = 0.0 if not stuck else float(law.ppf(0.025)), 1.0 if not lost else float(law.ppf(0.975))
    coefficient = Estimate(value, float(law.std()), "", float(stuck + lost))
    return Sticking(species, coefficient, (low, high), stuck, lost, count["open", False], desorbed)
