"""What a benchmark was run on, in one line."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

from mlmd.kernels import describe


def machine() -> str:
    """Date, processor and kernels."""
    return f"{datetime.date.today()}, {processor()}, kernels: {describe()}"


def processor() -> str:
    """Name of the processor where the system tells it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
