"""The card of a trained potential: what it was made of and how good it is, the same whenever it is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlmd
from mlmd.config import resolved
from mlmd.io.labelled import LabelledFrame
from mlmd.train.job import Job
from mlmd.train.property_job import PropertyJob


def card(job: Job | PropertyJob, errors: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a person should know about a potential.

    Args:
        job: the training.
        errors: tables of the training and the test set as JSON.
        facts: of the fit: its loss, and after how many steps.
    """
    written = resolved(job.config)
    for key in ("data", "test"):  # where the files lay says nothing
        written[key] = [{**table, "path": Path(table["path"]).name} for table in written.get(key) or []]
    for table in written.get("baseline", {}).get("potential") or []:
        if "path" in table:
            table["path"] = Path(table["path"]).name
    said = {key: value for key, value in written.pop("card").items() if value}
    sets = {}
    for name, frames in (("data", job.train), ("test", job.test)):
        sets[name] = _described(frames) | {"files": [table["path"] for table in written[name] or written["data"]]}
    return {
        **said,
        **sets,
        "digest": job.digest,
        "errors": dict(errors),
        **facts,
        "input": written,
        "command": f"mlmd train {job.source.name}",
        "versions": {"mlmd": mlmd.__version__, **{name: version(name) for name in ("torch", "numpy")}},
    }


def _described(frames: Sequence[LabelledFrame]) -> dict[str, Any]:
    """How much there is of what."""
    labels = {
        "energies": sum(frame.energy is not None for frame in frames),
        "forces": sum(frame.forces is not None for frame in frames),
        "stresses": sum(frame.stress is not None for frame in frames),
    }
    if any(frame.value is not None for frame in frames):
        labels = {"values": len(frames)}
    groups = Counter(frame.group for frame in frames)
    return {
        "n_frames": len(frames),
        "n_atoms": sum(len(frame.atoms) for frame in frames),
        **{f"frames with {name}": count or "no data" for name, count in labels.items()},
        "groups": dict(groups) if any(groups) else "no data",
    }
