"""One run in a process of its own: ``mlmd simulate``, asked to stop by a signal, and what it said when it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlmd.errors import InputError, ModelError

GRACE = 60.0
"""Seconds that a process has to end after a request to stop."""
HOPELESS = (InputError.exit_code, ModelError.exit_code, 5)
"""Exit codes after which a second try would end the same: input, model, and a folder that is in use."""


@dataclass
class RunProcess:
    """A run that goes on in another process."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    tries: int
    asked: bool = False
    """Whether it was asked to stop."""

    def stop(self) -> None:
        """Ask it to end after a checkpoint; asked twice, at once."""
        number, self.asked = signal.SIGINT if self.asked else signal.SIGTERM, True
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def last_words(self) -> str:
        """Why it ended: what it said, else how it was ended."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        said = next((line for line in lines if line.partition(": ")[0].endswith("Error")), "")
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"the process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return said or (lines[-1] if lines else f"the process ended with exit code {code}")

    def close(self) -> None:
        """Close its files, after its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.errors.close()


def simulation(folder: Path, flags: Sequence[str]) -> list[str]:
    """The command that runs the input in a run folder, and stops when the other end of its standard input has gone."""
    command = [sys.executable, "-m", "mlmd", "simulate", str(folder / "input.toml"), "--out", str(folder)]
    return [*command, *flags, "--quiet", "--tethered"]


def start_run(name: str, command: Sequence[str], tries: int) -> RunProcess:
    """A process of its own group, which Ctrl-C at the terminal does not reach; it stops when our end of its pipe goes.

    What it says goes to a file without a name: a pipe that nobody reads would fill and hold it up.
    """
    errors = tempfile.TemporaryFile()  # noqa: SIM115  closed when the process has ended
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, process_group=0
    )
    return RunProcess(name, process, errors, tries)
