"""How often another law than one line is seen where there is none, and how often intervals hold the truth.

    python benchmarks/arrhenius.py [--sets 1000] [--error 0.03] [--temperatures 13]
    python benchmarks/arrhenius.py --walks brownian --sets 200 --temperatures 5

Sets of diffusion coefficients at equal steps from 300 to 900 K with errors that are known: of one activation energy
(0.3 eV), of two (0.25 eV above 450 K, 0.35 eV below), and of a glass (B = 0.06 eV, T_0 = 150 K). Beside the choice of
`mlmd.analysis.temperature_laws` stands that of the Bayesian information criterion alone.

With `--walks`, D and the conductivity of all ions together are measured with their errors: of trajectories of
`diffusion_calibration.py`, whose steps are shorter in the cold, from 600 to 1000 K.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from diffusion_calibration import KINDS, analysed

from mlmd import units
from mlmd.analysis.activation import Activation, Point, activation, divided, kelvins_of
from mlmd.analysis.temperature_laws import ONE, TWO, VTF, Choice, choose

BREAK, HOT, COLD, ENERGY, B, FROZEN = 450.0, 0.25, 0.35, 0.3, 0.06, 150.0
TRUTH = {ONE: {"E": ENERGY}, TWO: {"E_hot": HOT, "E_cold": COLD, "T_break": BREAK}, VTF: {"B": B, "T_0": FROZEN}}


def line(temperatures: np.ndarray) -> np.ndarray:
    """ln D of one activation energy."""
    return -5.0 - ENERGY / (units.KB * temperatures)


def broken(temperatures: np.ndarray) -> np.ndarray:
    """ln D of two."""
    x, at = 1.0 / (units.KB * temperatures), 1.0 / (units.KB * BREAK)
    return -5.0 - HOT * np.minimum(x, at) - COLD * np.maximum(x - at, 0.0)


def glass(temperatures: np.ndarray) -> np.ndarray:
    """ln D of a glass."""
    return -5.0 - B / (units.KB * (temperatures - FROZEN))


LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {ONE: line, TWO: broken, VTF: glass}


def drawn(name: str, seed: int, temperatures: np.ndarray, error: float) -> Choice:
    """The choice for one set."""
    y = LAWS[name](temperatures) + np.random.default_rng(seed).normal(0.0, error, len(temperatures))
    return choose(temperatures, y, np.full(len(temperatures), error), seed=seed)


def held(choices: list[Choice], name: str, key: str, truth: float) -> tuple[float, float]:
    """Per cent of the intervals that hold the truth, and their mean width."""
    found = [next(law for law in one.laws if law.name == name).parameters[key] for one in choices]
    inside = [not (one.low > truth or one.high < truth) for one in found]  # an open end holds everything
    return 100.0 * float(np.mean(inside)), float(np.nanmean([one.high - one.low for one in found]))


def walked(kind: str, rng: np.random.Generator, temperatures: np.ndarray) -> dict[str, Activation]:
    """What is said of one trajectory at each temperature, of walkers with an activation energy of `ENERGY`.

    Quantities that fewer than two temperatures have are not there.
    """
    points: dict[str, list[Point]] = {"D": [], "σ of all ions": []}
    for kelvin, path in zip(temperatures.tolist(), KINDS[kind].make(rng, len(temperatures)), strict=True):
        slower = np.exp(-0.5 * ENERGY / units.KB * (1.0 / kelvin - 1.0 / temperatures[-1]))
        found = analysed(path * slower)  # at one and the same temperature, so that σ goes with D
        points["D"].append(Point(kelvin, found.species[0].coefficient, kind))
        if found.collective is not None:
            points["σ of all ions"].append(Point(kelvin, found.collective.conductivity, kind))
    return {name: activation(name, own, ()) for name, own in points.items() if len(kelvins_of(divided(own)[0])) > 1}


def show_walks(kind: str, n_sets: int, n_temperatures: int) -> None:
    """Print how often the intervals of activation energies hold the truth, and another law is seen."""
    rng, temperatures = np.random.default_rng(5), np.linspace(600.0, 1000.0, n_temperatures)
    sets = [walked(kind, rng, temperatures) for _ in range(n_sets)]
    for quantity in dict.fromkeys(name for one in sets for name in one):
        choices = [one[quantity].choice for one in sets if quantity in one]
        inside, width = held(choices, ONE, "E", ENERGY)
        split = 100.0 * float(np.mean([one.chosen.name != ONE for one in choices]))
        print(
            f"{kind}, {quantity}: of {len(choices)} of {n_sets} sets of {n_temperatures} trajectories the interval of "
            f"E_a holds the truth in {inside:.1f} %, mean width {width:.3g} eV; another law in {split:.1f} %"
        )


def main() -> None:
    """Print two tables, or a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--error", type=float, default=0.03, help="relative, of every D")
    parser.add_argument("--temperatures", type=int, default=13)
    parser.add_argument("--walks", choices=KINDS, help="measure D and σ of trajectories of this kind")
    options = parser.parse_args()
    if options.walks:
        show_walks(options.walks, options.sets, options.temperatures)
        return
    temperatures = np.linspace(300.0, 900.0, options.temperatures)
    print(f"{options.sets} sets each, {options.temperatures} temperatures, errors of {100 * options.error:g} %\n")
    print("| truth | one line | two lines | VTF | by BIC alone: one line |\n|---|---|---|---|---|")
    intervals = []
    for name in LAWS:
        choices = [drawn(name, seed, temperatures, options.error) for seed in range(options.sets)]
        chosen = Counter(one.chosen.name for one in choices)
        plain = Counter(min(one.laws, key=lambda law: law.bic).name for one in choices)
        share = [f"{100 * chosen[one] / options.sets:.1f} %" for one in LAWS]
        print(f"| {name} | {' | '.join(share)} | {100 * plain[ONE] / options.sets:.1f} % |", flush=True)
        for key, truth in TRUTH[name].items():
            intervals.append((name, key, truth, *held(choices, name, key, truth)))
    print("\n| law | parameter | truth | intervals of 95 % that hold it | mean width |\n|---|---|---|---|---|")
    for name, key, truth, inside, width in intervals:
        print(f"| {name} | {key} | {truth:g} | {inside:.1f} % | {width:.3g} |")


if __name__ == "__main__":
    main()
