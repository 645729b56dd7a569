"""The mean of several potentials as one file, its spread calibrated by labelled structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.potentials import Potential, modelfile
from mlmd.potentials.committee import Committee
from mlmd.train.evaluate import predict
from mlmd.train.uncertainty import calibrate_by, facts_of

_NO_DATA = "nothing: not calibrated, no labelled structures were given"


def write(
    members: Mapping[str, Potential],
    path: Path,
    frames: Sequence[LabelledFrame] | None = None,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> Committee:
    """Store a committee with a card that names its members and says what its spread was calibrated with.

    Args:
        members: by the names that the card has for them: files, or tables as they were written.
        path: a new file.
        frames: with forces that no member has learned from, whose errors the spread is made as large as; without them
            it stays the standard deviation of the members.
        told: called with the number of structures done and of all.

    Returns:
        The committee.

    Raises:
        InputError: as `Committee`; for a file that exists, one that is not named .mlmd, members that cannot be
            stored, and frames that nothing can be calibrated with.
    """
    if path.suffix != ".mlmd":
        raise InputError(f"{path}: a committee is stored as .mlmd; give such a name.")
    if path.exists():
        raise InputError(f"{path} exists already. Give another name, or remove it.")
    for name, member in members.items():
        if not isinstance(member, torch.nn.Module) or not hasattr(type(member), "restore"):
            raise InputError(f"{name}: a {type(member).__name__} cannot be stored as .mlmd, and so in no committee.")
    made = Committee(tuple(members.values()))
    if frames is None:
        of_spread = {"factor": 1.0, "calibrated with": _NO_DATA}
    else:
        files = ", ".join(dict.fromkeys(Path(frame.source.rpartition("@")[0]).name for frame in frames))
        found = calibrate_by(made, frames, predict(made, frames), told, of=files)
        if found is None:
            raise InputError(
                f"{files}: nothing to calibrate the spread with: no structure has forces, or the members agree about "
                "all of them. Give other data, or none."
            )
        of_spread = found
    names = [name if name.lstrip().startswith("{") else Path(name).name for name in members]
    modelfile.save(made, path, {"name": path.stem, "made of": names, **facts_of(of_spread, None)})
    return made
