"""Programs timed in turn and shown in one table, after they have given the same forces."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from peers import Program

TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
"""Of forces, of the largest one or of 1 eV/Å where that is more."""
MOST_STEPS = 500


@dataclass(frozen=True)
class Seen:
    """A line of the summary."""

    what: str
    seen: str
    aimed: str


@dataclass(frozen=True)
class Row:
    """A program of a table and how many times as fast as the first program it is meant to be."""

    program: Program
    aim: str = ""


def compare(
    given: argparse.Namespace, title: str, atoms: Atoms, rows: Sequence[Row], *, same: bool = True
) -> tuple[list[Seen], dict[Program, float]]:
    """Check forces, time in turn, print; lines of the summary, and µs per atom and step of every program.

    Args:
        given: the command line.
        title, atoms: of the table.
        rows: the first is the one that others are compared with.
        same: whether all have the same potential.
    """
    print(f"\n**{title}**, {len(atoms)} atoms\n")
    programs = [row.program for row in rows]
    first = programs[0]
    largest = max(1.0, float(np.abs(first.forces).max()))
    off = {one: float(np.abs(one.forces - first.forces).max()) for one in programs}
    wrong = [one for one in programs if same and not off[one] < TOLERANCE[one.precision] * largest]
    took, lists = in_turn(programs, given.rounds, given.seconds)
    print("| program | threads | precision | list | µs/atom | of it list | times as fast | aimed | forces off |")
    print("| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    lines = []
    for row in rows:
        one, us = row.program, 1e6 * took[row.program] / len(atoms)
        share = "" if np.isnan(lists[one]) else f"{100 * lists[one] / took[one]:.0f} %"
        ratio = took[first] / took[one]
        shown = "different physics" if one in wrong else f"{ratio:.{1 if ratio > 9.95 else 2}f}"
        differ = f"{off[one]:.0e} eV/Å" if same else "another potential"
        columns = [one.name, str(one.threads), one.precision, one.pairs, f"{us:.3f}", share, shown, row.aim]
        print(f"| {' | '.join([*columns, '' if one is first else differ])} |", flush=True)
        if row.aim:
            threads = f"{one.threads} thread{'s' * (one.threads > 1)}"
            which = "" if same else f"{one.name}, "
            lines.append(Seen(f"{title}: {which}{one.precision}, {threads}", shown, row.aim))
    return lines, {one: 1e6 * took[one] / len(atoms) for one in programs}


def in_turn(
    programs: Sequence[Program], rounds: int, seconds: float
) -> tuple[dict[Program, float], dict[Program, float]]:
    """Seconds per step, and those of them for the list, the medians of the rounds.

    In every round each program moves the atoms for about so many seconds, or for as long as the slowest takes for a
    step: turns of the same length meet as much of what else the machine does.
    """
    once = {one: min(one.advance(1)[0], one.advance(1)[0]) for one in programs}
    turn = max(seconds, *once.values())
    steps = {one: int(np.clip(round(turn / once[one]), 1, MOST_STEPS)) for one in programs}
    taken: dict[Program, list[tuple[float, float]]] = {one: [] for one in programs}
    for _ in range(rounds):
        for one in programs:
            taken[one].append(one.advance(steps[one]))
    medians = {one: np.median(times, axis=0) for one, times in taken.items()}
    return {one: float(total) for one, (total, _) in medians.items()}, {
        one: float(x) for one, (_, x) in medians.items()
    }


def left_out(section: str, how: str) -> list[Seen]:
    """Say that a section is left out."""
    print(f"\n({section} is left out: {how})")
    return []
