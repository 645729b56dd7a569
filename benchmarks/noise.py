"""How often intervals of 95 % from a spectrum at zero frequency hold the truth: noise with a known integral.

    python benchmarks/noise.py [--draws 400] [--times 500 100]

Noise that relaxes in one time, in two of which one is 20 times as long, and a damped vibration with slow noise below,
in three and in five components (heat fluxes, stresses), as many longest times long as is said. The interval is that of
`mlmd.analysis.cepstrum.zero_frequency`, of which transport coefficients are made; series that it refuses as too short
are counted apart.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

from mlmd.analysis.cepstrum import zero_frequency
from mlmd.errors import InputError


def relaxing(rng: np.random.Generator, tau: float, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Ornstein-Uhlenbeck noise of variance 1 that relaxes in `tau` intervals, and Σ ⟨x(0) x(t)⟩ over all t."""
    a, early = math.exp(-1.0 / tau), int(20 * tau)
    kicks = rng.standard_normal((*shape[:-1], shape[-1] + early)) * math.sqrt(1.0 - a * a)
    return lfilter([1.0], [1.0, -a], kicks)[..., early:], (1.0 + a) / (1.0 - a)


def ringing(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """A damped vibration with slow noise below, as optical phonons are in a heat flux."""
    r, angle = 0.97, 0.6
    drive = rng.standard_normal((*shape[:-1], shape[-1] + 1000))
    vibration = lfilter([1.0], [1.0, -2.0 * r * math.cos(angle), r * r], drive)[..., 1000:]
    slow, integral = relaxing(rng, 30.0, shape)
    return vibration + 0.8 * slow, 1.0 / (1.0 - 2.0 * r * math.cos(angle) + r * r) ** 2 + 0.64 * integral


def of_two_times(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Noise of a short and a 20 times longer time, which has half of the integral."""
    fast, one = relaxing(rng, 2.0, shape)
    slow, other = relaxing(rng, 40.0, shape)
    return fast + 0.4 * slow, one + 0.16 * other


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], tuple[np.ndarray, float]]] = {
    "one time": lambda rng, shape: relaxing(rng, 10.0, shape),
    "two times": of_two_times,
    "vibration": ringing,
}
"""Name -> series and Σ ⟨x(0) x(t)⟩."""
LONGEST = {"one time": 10.0, "two times": 40.0, "vibration": 30.0}
"""Intervals: the longest correlation time of each."""
FEW = 50
"""Series of which a part means little."""


def held(noise: str, n_components: int, n_times: int, n_draws: int) -> tuple[float, float, int]:
    """Part of the intervals that hold the truth, the mean relative error, and how many series are too short."""
    rng, misses, errors = np.random.default_rng(1), [], []
    for _ in range(n_draws):
        series, truth = NOISE[noise](rng, (n_components, n_times))
        try:
            found = zero_frequency(series[None], 1.0)
        except InputError:
            continue
        misses.append(math.log(found.value / truth) / found.relative_error)
        errors.append(found.relative_error)
    if not misses:
        return math.nan, math.nan, n_draws
    return float(np.mean(np.abs(misses) < 1.96)), float(np.mean(errors)), n_draws - len(misses)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--times", type=int, nargs="+", default=[500, 100], help="longest times in a series")
    options = parser.parse_args()
    print("| noise | components | longest times | intervals that hold the truth | mean error | too short |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for many in options.times:
        for noise, longest in LONGEST.items():
            for n_components in (3, 5):
                part, error, short = held(noise, n_components, round(many * longest), options.draws)
                told = "– | –" if options.draws - short < FEW else f"{100 * part:.1f} % | {100 * error:.1f} %"
                print(f"| {noise} | {n_components} | {many} | {told} | {short} |", flush=True)


if __name__ == "__main__":
    main()
