"""What is run to make the environments of other frameworks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from environments import ENVIRONMENTS, OF_PLUGINS, commands, python_in

from mlmd.potentials import POTENTIALS


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_belongs_to_a_kind_of_potential_and_says_versions(name: str) -> None:
    assert name in POTENTIALS or name in OF_PLUGINS
    assert all("==" in one for one in ENVIRONMENTS[name])


def test_torch_is_there_before_what_needs_it_and_stays(tmp_path: Path) -> None:
    venv, first, second, *_, mlmd = commands("ani", tmp_path, with_mlmd=True)
    python = str(python_in(tmp_path, "ani"))
    assert venv[1:] == ["-m", "venv", str(tmp_path / "ani")]
    assert first == [python, "-m", "pip", "install", "torch==2.13.0"]
    assert second == [*first, "torchani==2.9.0"]
    assert mlmd[-2] == "-e" and {"torch==2.13.0", "torchani==2.9.0"} < {*mlmd}


def test_what_comes_alone_is_installed_alone(tmp_path: Path) -> None:
    _, first, alone, then, *_, last = commands("matgl", tmp_path, with_mlmd=True)
    pip = [str(python_in(tmp_path, "matgl")), "-m", "pip", "install"]
    assert first == [*pip, "torch==2.13.0"]
    assert alone == [*pip, "--no-deps", "matgl==2.0.4"]
    assert then[: len(pip) + 1] == first and len(then) == len(first) + 1
    assert "--no-deps" not in last and "matgl==2.0.4" not in last


def test_an_environment_with_another_torch_keeps_it(tmp_path: Path) -> None:
    *_, mlmd = commands("torchforce", tmp_path, with_mlmd=True)
    assert "torch==2.12.0" in mlmd and "-c" not in mlmd  # the constraints name another


def test_a_name_that_there_is_not(tmp_path: Path) -> None:
    script = Path(__file__).with_name("environments.py")
    done = subprocess.run(
        [sys.executable, str(script), "ani2", "--folder", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "invalid choice: 'ani2'" in done.stderr
    assert not [*tmp_path.iterdir()]
