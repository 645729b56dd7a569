"""Is an interval still one when the run ends because it has become short enough?

    python benchmarks/stopping.py [--draws 200] [--walkers 1] [--error 0.1] [--shaken 0]

Random walkers, whose D is known, are looked at as `[stop] quantity = "D:Li"` does it: by the analysis of
`mlmd analyze diffusion`, at the same moments, until two looks in a row find the error that is asked for. It prints in
how many draws the 95 % interval of that moment covers the truth, beside the same at a time that was chosen before; the
mean of D, which shows a bias; and the scatter of D about the truth beside the error that is told and the one that was
asked for. `--shaken` adds white noise (in units of a step) to every position, as vibrations are.
"""

from __future__ import annotations

import argparse
from itertools import takewhile

import ase
import numpy as np

from mlmd import units
from mlmd.analysis.precision import Known, of_frames
from mlmd.config.stop import Stop, looks
from mlmd.io.trajectories import from_arrays

TRUE = 0.5 * units.CM2_PER_S
"""cm²/s, of steps of 1 Å along each axis in 1 fs."""


def main() -> None:
    """Draw walks, and print what their ends are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--walkers", type=int, default=1)
    parser.add_argument("--error", type=float, default=0.1)
    parser.add_argument("--shaken", type=float, default=0.0)
    parser.add_argument("--frames", type=int, default=1200, help="the longest walk")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    courses = [_course(draw, given) for draw in range(given.draws)]
    ends = [end for course in courses if (end := _end(course, given.error)) is not None]
    print(f"{len(ends)} of {given.draws} walks of up to {given.frames:,} frames ended with an error of {given.error:g}")
    _tell("at their ends", [course[end] for course in courses if (end := _end(course, given.error)) is not None])
    middle = sorted(ends)[len(ends) // 2]
    frames = list(looks_until(given.frames))[middle]
    _tell(f"all after {frames:,} frames", [course[middle] for course in courses if len(course) > middle])


def looks_until(n_frames: int) -> list[int]:
    """Frames at which a walk is looked at."""
    return list(takewhile(lambda n: n <= n_frames, looks()))


def _course(draw: int, given: argparse.Namespace) -> list[Known]:
    """What is known at each look."""
    rng, shape = np.random.default_rng([given.seed, draw]), (given.frames, given.walkers, 3)
    positions = np.cumsum(rng.normal(size=shape), axis=0) + given.shaken * rng.normal(size=shape)
    atoms = ase.Atoms(["Li"] * given.walkers, cell=[50.0] * 3, pbc=True)
    stop = Stop(quantity="D:Li", relative_error=given.error)
    walks = (from_arrays(positions[:n], atoms, interval=1.0, unwrapped=True) for n in looks_until(given.frames))
    return [of_frames(walk, stop, charges={}, drift="none") for walk in walks]


def _end(course: list[Known], error: float) -> int | None:
    """The look at which it ends."""
    good = [known.good(error) for known in course]
    return next((n for n in range(1, len(good)) if good[n - 1] and good[n]), None)


def _tell(when: str, found: list[Known]) -> None:
    estimates = [known.estimate for known in found if known.estimate.determined]
    covered = [low <= TRUE <= high for low, high in (one.interval() for one in estimates)]
    values = np.array([one.value for one in estimates]) / TRUE
    told = np.sqrt(np.mean([(one.error / one.value) ** 2 for one in estimates]))
    print(
        f"{when}: the 95 % interval covers the truth in {np.mean(covered):.1%} "
        f"of {len(estimates)}; mean D {values.mean():.3f}, scatter {values.std():.3f}, error told {told:.3f}"
    )


if __name__ == "__main__":
    main()
