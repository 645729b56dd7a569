"""The potential that a training begins with: the descriptor of the input, and a regressor for its features."""

from __future__ import annotations

from collections.abc import Sequence

from mlmd.config import (
    AGNIFit,
    Train,
)
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials.force_field import ForceField
from mlmd.potentials.learned import LearnedPotential
from mlmd.train.atom_descriptor import make_descriptor
from mlmd.train.regressor import make_regressor


def start(
    config: Train,
    frames: Sequence[LabelledFrame],
    shortest: float,
    elements: Sequence[str],
    *,
    any_points: bool = False,
) -> LearnedPotential:
    """The potential that a training begins with; its coefficients are to be found.

    Args:
        config: the input.
        frames: to train on.
        shortest: Å, distance of the closest atoms of the data.
        elements: chemical symbols, in the order of the species.
        any_points: as for `mlmd.train.regressor.make_regressor`.

    Raises:
        InputError: when no atoms of the data are within the cutoff of each other, for impossible settings.
    """
    descriptor = make_descriptor(config, frames, shortest, elements)
    made = ForceField if isinstance(config.fit, AGNIFit) else LearnedPotential
    return made(descriptor, make_regressor(config, descriptor, frames, any_points=any_points))
