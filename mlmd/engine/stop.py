"""Requests to stop: signals, a time limit, a file named STOP. The run then makes a checkpoint and ends with code 75.

A scheduler repeats itself: Slurm sends SIGTERM at the end of a job's time to each process, after SIGUSR1 where it was
told to warn, and again when a job is cancelled meanwhile. However many of them come, the run makes its checkpoint; what
waits for nothing is SIGKILL, which follows by itself. Only a person at a terminal is taken at a second word: Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Knows whether somebody wants the run to stop, and why."""

    def __init__(self, stop_file: Path) -> None:
        """`stop_file` stops the run by existing."""
        self._file = stop_file
        self._deadline: float | None = None
        self._signal: str | None = None
        self.insisted = False
        """Whether Ctrl-C has come after another request, and waits for nothing."""

    def limit(self, max_hours: float | None) -> None:
        """Stop after so many hours from now."""
        self._deadline = None if max_hours is None else time.monotonic() + 3600.0 * max_hours

    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._signal:
            return f"signal {self._signal}"
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return "the time limit (--max-hours)"
        if self._file.exists():
            return f"the file {self._file.name} in the run folder"
        return None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:  # no more waiting for a step to end
            self.insisted = True
            raise KeyboardInterrupt
        self._signal = self._signal or signal.Signals(number).name


@contextmanager
def stop_requests(stop_file: Path) -> Iterator[StopRequest]:
    """Listen to signals while a run is going on (in the main thread; elsewhere only file and clock count)."""
    request = StopRequest(stop_file)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
