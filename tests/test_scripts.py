"""Trainings from scripts of a user, which every process that helps imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_data import thermal

import mlmd
from mlmd.io.labelled import write_labelled

CALL = 'train("in.toml", n_processes=2)\n'
IMPORT = "from mlmd.train.run import train\n\n"


HINT = 'Each process imports script.py first: put what it does under `if __name__ == "__main__":`'


@pytest.mark.parametrize(
    ("text", "n_frames", "hint"),
    [
        (CALL, 4, HINT),
        (CALL, 400, HINT),  # more data than a pipe holds, of which a process that ends at once reads nothing
        (f'if __name__ == "__main__":\n    {CALL}', 4, ""),
    ],
    ids=["plain", "plain, large", "guarded"],
)
def test_a_script_that_every_process_would_run_again_is_told_how_to_call(
    tmp_path: Path, text: str, n_frames: int, hint: str
) -> None:
    write_labelled(tmp_path / "cu.extxyz", thermal(n_frames, repeat=1))
    descriptor = '{ kind = "acsf", n_radial = 3, n_angular = 0, cutoff = "4 Å" }'
    (tmp_path / "in.toml").write_text(
        f'data = "cu.extxyz"\ntest_fraction = 0\ndescriptor = {descriptor}\nfit = "linear"\n', encoding="utf-8"
    )
    (tmp_path / "script.py").write_text(IMPORT + text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(mlmd.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert (found.returncode == 0) == (not hint), found.stderr
    assert hint in found.stderr
