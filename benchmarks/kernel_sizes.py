"""Time per atom and memory per atom against the number of atoms, each program and size in a process of its own.

`kernels.py` calls it for its section ``size``; alone it makes the table and the plot again:

    python benchmarks/kernel_sizes.py --plot speed.png [--nep nep.txt] [--only mlmd] [--largest 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from machine import processor
from one_process import by_mlmd, measure

from mlmd.kernels import describe

SIZES = (500, 2_000, 8_000, 32_000, 64_000, 256_000, 1_000_000)


@dataclass(frozen=True)
class Curve:
    """A program with a potential."""

    label: str
    program: str
    potential: str
    element: str
    largest: int
    """Atoms; beyond that the program would take minutes, or gigabytes."""
    precision: str = "float64"
    style: tuple[str, str] = ("grey", "o")
    """Colour and marker."""


def curves(nep: Path | None, wanted: Sequence[str] = ("",)) -> list[Curve]:
    """Those whose labels have one of the words wanted; those of NEP where there is a file, for silicon."""
    found = [
        Curve("mlmd MTP Cu, f64", "mlmd", "Cu", "Cu", 1_000_000, "float64", ("#0b5fa5", "o")),
        Curve("mlmd MTP Cu, f32", "mlmd", "Cu", "Cu", 1_000_000, "float32", ("#4ba3e3", "o")),
    ]
    if nep is not None:
        found += [
            Curve("mlmd NEP Si, f64", "mlmd", str(nep), "Si", 1_000_000, "float64", ("#1b7f3b", "s")),
            Curve("mlmd NEP Si, f32", "mlmd", str(nep), "Si", 1_000_000, "float32", ("#63c07f", "s")),
            Curve("calorine NEP Si", "calorine", str(nep), "Si", 64_000, style=("#c1272d", "s")),
        ]
    snap = "snap: * * Cu_Zuo_JPCA2020.snapcoeff Cu_Zuo_JPCA2020.snapparam Cu"
    found += [
        Curve("LAMMPS SNAP Cu", "lammps", snap, "Cu", 8_000, style=("#e08214", "^")),
        Curve("LAMMPS Stillinger–Weber Si", "lammps", "sw: * * Si.sw Si", "Si", 1_000_000, style=("#6b6b6b", "v")),
        Curve("LAMMPS EAM Cu", "lammps", "eam: * * Cu_u3.eam", "Cu", 1_000_000, style=("#a6a6a6", "D")),
    ]
    return [one for one in found if any(word in one.label for word in wanted)]


def table(chosen: Sequence[Curve], largest: int, seconds: float, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measure and print; by label: "n_atoms", "us" (µs per atom and step), "bytes" (of the process, per atom).

    All sizes of all programs are measured once in every round, so that a slow minute of the machine falls on one round
    of a few; medians are kept.
    """
    wanted = [(one, size) for size in SIZES for one in chosen if size <= min(largest, one.largest)]
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {(one.label, size): [] for one, size in wanted}
    for _ in range(rounds):
        for one, size in wanted:
            precision = one.precision if one.program == "mlmd" else None
            got = measure(one.program, one.potential, size, element=one.element, precision=precision, seconds=seconds)
            seen[one.label, size].append(got)
    found: dict[str, dict[str, list[float]]] = {one.label: {"n_atoms": [], "us": [], "bytes": []} for one in chosen}
    print("| program, potential | atoms | µs/atom | kB/atom of the process | MB of the process |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for one, size in wanted:
        taken = seen[one.label, size]
        n, peak = taken[0]["n_atoms"], median(got["peak"] for got in taken)
        us = 1e6 * median(got["seconds"] for got in taken) / n
        for name, value in (("n_atoms", n), ("us", us), ("bytes", peak / n)):
            found[one.label][name].append(value)
        print(f"| {one.label} | {n} | {us:.2f} | {peak / n / 1e3:.2f} | {peak / 1e6:.0f} |", flush=True)
    return found


def flatness(one: Curve, rounds: int = 9, sizes: Sequence[int] = (8_000, 64_000, 256_000, 1_000_000)) -> list[float]:
    """µs per atom of some sizes of mlmd's, all in one process by turns, each turn about a million atoms' forces.

    Processes that follow one another do not tell: the machine's pace changes more from one to the next than the cost.
    """
    made = [by_mlmd(one.potential, one.element, size, one.precision) for size in sizes]
    taken: list[list[float]] = [[] for _ in made]
    for turn in range(rounds + 1):
        for k, (n, once) in enumerate(made):
            times = [once() for _ in range(max(1, round(sizes[-1] / n)))]
            if turn:  # the first of all makes the lists
                taken[k].append(1e6 * sum(times) / len(times) / n)
    return [median(one) for one in taken]


def told(us: Sequence[float]) -> str:
    """How far some numbers are from their mean, in words."""
    mean = sum(us) / len(us)
    spread = max(abs(one / mean - 1) for one in us)
    return f"{', '.join(f'{one:.2f}' for one in us)} µs/atom: ± {100 * spread:.0f} %"


def plot(found: dict[str, dict[str, list[float]]], chosen: Sequence[Curve], file: Path, caption: str) -> None:
    """µs per atom and step against atoms, both logarithmic, every curve named at its end."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure, axes = plt.subplots(figsize=(8.2, 5.0), dpi=160)
    ends = []
    for one in chosen:
        rows = found.get(one.label, {})
        if not rows.get("n_atoms"):
            continue
        colour, marker = one.style
        ours = one.program == "mlmd"
        axes.plot(
            rows["n_atoms"], rows["us"], color=colour, marker=marker, markersize=5.5 if ours else 4.5,
            linewidth=2.4 if ours else 1.3, linestyle="-" if ours else "--",
        )  # fmt: skip
        ends.append((rows["us"][-1], rows["n_atoms"][-1], one.label, colour, ours))
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="µs per atom and step, one core")
    axes.set_xlim(350, 4.2e7)
    heights = [us for rows in found.values() for us in rows["us"]]
    low, high = math.floor(math.log10(min(heights))), math.ceil(math.log10(max(heights)))
    axes.set_ylim(10**low, 10**high)
    apart = 10 ** (0.045 * (high - low))  # names do not lie on one another
    axes.set_xticks([10**k for k in range(3, 7)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.spines["bottom"].set_bounds(350, 1_200_000)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    last = 0.0
    for height, n, label, colour, ours in sorted(ends):
        place = max(height, last * apart)
        last = place
        weight = "bold" if ours else "normal"
        axes.annotate(
            label, (n, height), xytext=(n * 1.25, place), color=colour, fontsize=9, fontweight=weight, va="center"
        )
    figure.suptitle("Forces, with lists of neighbours kept: time by number of atoms", fontsize=12, x=0.08, ha="left")
    figure.text(0.08, 0.005, caption, fontsize=7, color="#666666")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(file)
    plt.close(figure)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, default=Path("speed.png"))
    parser.add_argument("--nep", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="curves with such words in their names")
    parser.add_argument("--largest", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON: curves that it has are not measured again, others added")
    given = parser.parse_args()
    there = given.results is not None and given.results.is_file()
    found = json.loads(given.results.read_text()) if there else {}
    wanted = [one for one in curves(given.nep, given.only) if one.label not in found]
    found |= table(wanted, given.largest, given.seconds, given.rounds)
    if given.results:
        given.results.write_text(json.dumps(found))
    caption = f"{processor()}, {datetime.date.today()}, kernels: {describe()}"
    plot(found, curves(given.nep), given.plot, caption)


if __name__ == "__main__":
    main()
