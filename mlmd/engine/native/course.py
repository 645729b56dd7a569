"""The course of a run whose steps are made in the compiled library."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.engine.course import Course
from mlmd.engine.native.stage import NativeStage
from mlmd.engine.stage_maker import StageMaker
from mlmd.errors import InputError


class NativeMaker(StageMaker):
    """Makes stages that need no OpenMM."""

    stage_of = NativeStage


class NativeCourse(Course):
    """Runs the stages that are left, without OpenMM."""

    maker_of = NativeMaker


def hardware_of_native(platform: str, device: str) -> dict[str, Any]:
    """What run.json says about it.

    Raises:
        InputError: when another place is asked for.
    """
    if platform != "auto" or device not in ("auto", "cpu"):
        flag = f"--platform {platform}" if platform != "auto" else f"--device {device}"
        raise InputError(f'{flag}: with engine = "native" the processor computes, without OpenMM. Leave it out.')
    return {
        "openmm": "none", "device": "cpu", "properties": {}, "engine": "native",
        "threads": torch.get_num_threads(),
    }  # fmt: skip
