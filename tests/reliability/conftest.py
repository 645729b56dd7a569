"""A run that was stopped several times, to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from runs import BREATHING, stopping, write_input

from mlmd.engine.run import simulate
from mlmd.errors import Stopped


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input, its finished run `one`, and `part`: stopped at steps 50, 100 and 150 of 200."""
    folder = tmp_path_factory.mktemp("original")
    path = write_input(folder, BREATHING)
    simulate(path, folder / "one", threads=1)
    for step in (50, 100, 150):
        with pytest.raises(Stopped):
            simulate(path, folder / "part", threads=1, progress=stopping(folder / "part", step))
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path
