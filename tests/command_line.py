"""The real command line, run within the test's process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from mlmd.cli import main


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


def mlmd(*arguments: object) -> Answer:
    """Run ``mlmd ARGUMENTS`` as a shell would, but faster."""
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["mlmd", *map(str, arguments)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
    assert isinstance(code, int)
    return Answer(code, out.getvalue(), err.getvalue())
