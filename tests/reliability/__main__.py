"""``python -m tests.reliability``: the scorecard, each row a group of tests, and the score out of 100.

With ``--mutations`` each row is run once more with something of mlmd broken on purpose, and has to fail.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import mutations  # noqa: E402
from rows import ROWS  # noqa: E402


@dataclass
class Outcome:
    """What the tests of a row did."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: int = 0
    """Slow ones."""
    seconds: float = 0.0
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """A row has passed when something was tested, nothing failed and nothing was skipped."""
        if self.failed:
            return "FAIL"
        return "PASS" if self.passed and not self.skipped else "----"


class Card:
    """Selects the tests of some rows and keeps what they did."""

    def __init__(self, wanted: set[str]) -> None:
        self.wanted, self.outcomes = wanted, {name: Outcome() for name in ROWS}
        self._rows: dict[str, set[str]] = defaultdict(set)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what belongs to no row that is wanted."""
        kept = []
        for item in items:
            rows = {name for mark in item.iter_markers("row") for name in mark.args} & self.wanted
            self._rows[item.nodeid] = rows
            if rows:
                kept.append(item)
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Count what is slow."""
        for item in items:
            for name in self._rows[item.nodeid]:
                self.outcomes[name].left_out += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test ended."""
        for name in self._rows[report.nodeid]:
            outcome = self.outcomes[name]
            outcome.seconds += report.duration
            if report.failed:
                outcome.failed.append(report.nodeid)
            elif report.skipped:
                outcome.skipped.append(f"{report.nodeid}: {report.longrepr[2] if report.longrepr else ''}")  # type: ignore[index]
            elif report.when == "call":
                outcome.passed += 1
                outcome.numbers.update(report.user_properties)  # type: ignore[arg-type]


def files_of(wanted: set[str]) -> list[str]:
    """Test files that hold a test of some rows."""
    texts = {path: path.read_text(encoding="utf-8") for path in HERE.parent.rglob("test_*.py")}
    marks = {
        path: set(re.findall(r'"(R\d\d)"', " ".join(re.findall(r"mark\.row\((.*)\)", text))))
        for path, text in texts.items()
    }
    return sorted(str(path) for path, rows in marks.items() if rows & wanted)


def score(wanted: set[str], *, long: bool, more: list[str]) -> int:
    """Run rows, print them and the score; the exit code."""
    card = Card(wanted)
    marks = ["-m", "slow or not slow"] if long else []
    code = pytest.main(["-q", "--no-header", "--tb=short", *marks, *more, *files_of(wanted)], plugins=[card])
    print()
    total, entries = 0, {}
    for name, row in ROWS.items():
        if name not in wanted:
            continue
        outcome = card.outcomes[name]
        points = row.weight if outcome.state == "PASS" else 0
        total += points
        numbers = ", ".join(f"{what} {value}" for what, value in outcome.numbers.items())
        left = f"; {outcome.left_out} longer ones with --long" if outcome.left_out else ""
        tests = f"{outcome.passed} tests" + (f", {len(outcome.failed)} failed" if outcome.failed else "") + left
        why = f" [skipped: {outcome.skipped[0]}]" if outcome.skipped else ""
        print(f"{name}  {outcome.state}  {points:2d}/{row.weight:<2d}  {row.title}: {numbers or tests}{why}", end="")
        print(f"  ({tests}, {outcome.seconds:.0f} s)" if numbers else f"  ({outcome.seconds:.0f} s)")
        entries[name] = {
            "title": row.title, "state": outcome.state, "points": points, "weight": row.weight, "note": row.note,
            "passed": outcome.passed, "failed": outcome.failed, "skipped": outcome.skipped,
            "left out": outcome.left_out, "seconds": round(outcome.seconds, 1), "numbers": outcome.numbers,
        }  # fmt: skip
    for name in sorted(wanted):
        if ROWS[name].note:
            print(f"{name}: {ROWS[name].note}")
    most = sum(ROWS[name].weight for name in wanted)
    print(f"Score: {total} of {most}")
    if wanted == set(ROWS):
        Path("scorecard.json").write_text(
            json.dumps({"score": total, "of": most, "rows": entries}, indent=1, default=str) + "\n"
        )
    return int(code != 0 or total < most)


def show_mutations(wanted: set[str]) -> int:
    """Break something for each row and see its tests fail; the exit code."""
    survived, every = [], {one: row for row in sorted(wanted) for one in ROWS[row].mutations(row)}
    for name, row in every.items():
        began = time.monotonic()
        command = [sys.executable, str(HERE), "--row", row, "--mutated", name]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        seen = answer.returncode == 1 and re.search(r"^\d+ failed", answer.stdout, re.MULTILINE) is not None
        survived += [] if seen else [name]
        what = (mutations.MUTATIONS[name].__doc__ or "").partition(": ")[2].rstrip(".")
        last = next((line for line in reversed(answer.stdout.splitlines()) if " in " in line and "=" not in line), "")
        print(f"{name}  {'fails' if seen else 'SURVIVES'}  when {what}  ({last.strip()}, "
              f"{time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
        if not seen:
            print(answer.stdout[-3000:], answer.stderr[-2000:])
    print(f"{len(every) - len(survived)} of {len(every)} mutations are seen")
    return int(bool(survived))


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; may be repeated")
    parser.add_argument("--long", action="store_true", help="the slow tests too")
    parser.add_argument("--mutations", action="store_true", help="show that each row fails when it should")
    parser.add_argument("--mutated", choices=list(mutations.MUTATIONS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    wanted = set(given.row or ROWS)
    if given.mutations:
        return show_mutations(wanted)
    more = []
    if given.mutated:
        (row,) = wanted
        os.environ[mutations.VARIABLE] = given.mutated
        mutations.apply(given.mutated)
        more = ["-x", "-k", ROWS[row].mutations(row)[given.mutated]]
    return score(wanted, long=given.long, more=more)


if __name__ == "__main__":
    sys.exit(main())
