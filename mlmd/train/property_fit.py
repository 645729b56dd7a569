"""From the structures of a job to the model of their property, its errors and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.analysis.figures import save
from mlmd.descriptors.likeness import Likeness
from mlmd.errors import counted
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials.property import PropertyModel, composition_part, environments_of, rows_of
from mlmd.train.curve import errors_by_size
from mlmd.train.property_errors import SizeCurve, property_errors, property_figure, size_figure
from mlmd.train.property_job import FEWEST, PropertyJob
from mlmd.train.property_state import PropertyState
from mlmd.train.run import Progress, Step
from mlmd.train.structure_fit import Settings, fitted, settings_of

_FEW = 20
"""Structures whose atoms are compared with all others between two words about the progress."""
_AT_ONCE = 200
"""Structures that are described between two words about the progress."""


@dataclass(frozen=True)
class _Rows:
    """A set of structures as features."""

    rows: Tensor
    """(n_structures, n_draws, n_features)."""
    values: np.ndarray
    """(n_structures,) in the unit of the quantity."""
    parts: np.ndarray
    """(n_structures,) of the composition."""

    def __len__(self) -> int:
        return len(self.values)

    def part(self, chosen: np.ndarray) -> _Rows:
        """Some of them."""
        return _Rows(self.rows[chosen], self.values[chosen], self.parts[chosen])


def learn(job: PropertyJob, folder: Path, progress: Progress) -> tuple[PropertyModel, dict[str, Any], dict[str, Any]]:
    """Fit the model of a job, and draw its pictures into the folder of the training.

    Rows of structures, and the settings of the fit, are kept, and taken again after an interruption.

    Args:
        job: what is fitted to what.
        folder: of the training.
        progress: called with every step.

    Returns:
        The model; error tables of the training and the test set as JSON; facts for its card.

    Raises:
        InputError: where the descriptor refuses a structure, and as `fitted`.
        StorageError: when the state that was kept is damaged.
    """
    frames_of = {"train": job.train, "test": job.test}
    if isinstance(job.descriptor, Likeness):
        remember(job, job.descriptor, progress)
    n_features = job.descriptor.n_features
    state = PropertyState(
        folder, job.digest, {name: (len(frames), job.n_draws, n_features) for name, frames in frames_of.items()}
    )
    try:
        return _learned(job, frames_of, state, folder, progress)
    except BaseException:  # also when it is stopped by a signal
        state.keep()
        raise


def _learned(
    job: PropertyJob,
    frames_of: Mapping[str, tuple[LabelledFrame, ...]],
    state: PropertyState,
    folder: Path,
    progress: Progress,
) -> tuple[PropertyModel, dict[str, Any], dict[str, Any]]:
    """What `learn` gives, from what is done of it."""
    sets = {name: _described(job, frames, name, state, progress) for name, frames in frames_of.items()}
    training, seed = sets["train"], job.config.seed
    targets = torch.from_numpy(training.values - training.parts)
    if state.settings is None:
        state.settings = settings_of(
            job.fit,
            training.rows,
            targets,
            seed,
            lambda done, total: progress(Step("choosing the width", done, total)),
            job.shares,
        )
    settings = state.settings
    model, found = _model(job, settings, training.rows, targets)
    curve = _curve(job, settings, sets, targets, model, progress)
    tables: dict[str, Any] = {"train": None, "test": None}
    for name, frames in frames_of.items():
        if frames:
            predicted = model.values_of_rows(sets[name].rows) + sets[name].parts
            tables[name] = property_errors(frames, predicted, job.quantity).to_json()
            title = f"{job.name}: {name} set, {counted(len(frames), 'structure')}"
            save(property_figure(frames, predicted, job.quantity, title), folder / f"parity_{name}.png")
    if len(curve.n_frames) > 1:
        save(size_figure(curve, job.quantity), folder / "learning_curve.png")
    return model, tables, _facts(job, found, training.values)


def remember(job: PropertyJob, descriptor: Likeness, progress: Progress) -> None:
    """Give a kernel of atoms the surroundings of the atoms that are trained on."""
    rows = []
    for number, frame in enumerate(job.train):
        if number % _AT_ONCE == 0:
            progress(Step("surroundings of the atoms", number, len(job.train)))
        rows.append(environments_of(descriptor.local, frame.atoms, frame.source))
    descriptor.remember(rows)


def _described(
    job: PropertyJob, frames: tuple[LabelledFrame, ...], name: str, state: PropertyState, progress: Progress
) -> _Rows:
    """The features of a set: those that the state has, and the others."""
    at_once = _AT_ONCE
    if isinstance(job.descriptor, Likeness):
        at_once = _FEW
        if name == "train":  # with each other: half of the pairs are enough

            def through(n_done: int) -> None:
                state.reached(name, n_done)
                progress(Step("kernels of the training set", n_done, len(frames)))

            job.descriptor.among(_FEW, through, state.rows[name][:, 0], state.n_done[name])
    for start in range(state.n_done[name], len(frames), at_once):
        progress(Step(f"features of the {name} set", start, len(frames)))
        some = frames[start : start + at_once]
        names = [frame.source for frame in some]
        state.add(name, rows_of(job.descriptor, [frame.atoms for frame in some], job.n_draws, names))
    return _Rows(
        rows=state.rows[name],
        values=np.array([frame.value for frame in frames], dtype=float),
        parts=composition_part(
            [frame.atoms for frame in frames], job.descriptor.elements, torch.from_numpy(job.baseline)
        ),
    )


def _model(
    job: PropertyJob, settings: Settings, rows: Tensor, targets: Tensor, among: np.ndarray | None = None
) -> tuple[PropertyModel, Settings]:
    """A model fitted to some structures, `among` all where these are few."""
    regressor, found = fitted(job.fit, settings, rows, targets, job.config.seed, among, job.shares)
    model = PropertyModel(job.descriptor, regressor, job.quantity, job.n_draws)
    model.baseline.copy_(torch.from_numpy(job.baseline))
    return model, found


def _curve(
    job: PropertyJob,
    settings: Settings,
    sets: Mapping[str, _Rows],
    targets: Tensor,
    model: PropertyModel,
    progress: Progress,
) -> SizeCurve:
    """Errors of fits to an eighth, a quarter, a half and all of the structures, with the settings found for all."""
    training, n = sets["train"], len(targets)
    order = np.random.default_rng(job.config.seed).permutation(n)
    sizes = [*(size for size in (n // 8, n // 4, n // 2) if size >= 2 * FEWEST), n]

    def fit(size: int) -> Callable[[_Rows], tuple[float, ...]]:
        progress(Step("learning curve", sizes.index(size), len(sizes)))
        some = order[:size]
        one = model if size == n else _model(job, settings, training.rows[some], targets[some], some)[0]
        return lambda rows: (float(np.abs(one.values_of_rows(rows.rows) + rows.parts - rows.values).mean()),)

    found = errors_by_size(sizes, fit, lambda size: training.part(order[:size]), sets["test"])
    train, test = (tuple(error for (error,) in errors) for errors in found)
    return SizeCurve(tuple(sizes), train, test)


def _facts(job: PropertyJob, found: Settings, values: np.ndarray) -> dict[str, Any]:
    """What the fit found, and how large errors would be without it."""
    said = {
        "width": found.width if found.width is None or found.units is None else list(found.units),
        "regularisation": found.regularisation,
        "left out, RMSE": found.error,
        "mean absolute deviation of the training set": float(np.abs(values - values.mean()).mean()),
    }
    return {"property": job.quantity.title} | {key: value for key, value in said.items() if value is not None}
