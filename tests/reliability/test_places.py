"""Where a run folder can stand and where it cannot: one message with the path, never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import mlmd
from runs import assert_same_run, write_input

from mlmd.rundir import open_run

STAGE = 'velocities = "60 K"\n[[stage]]\nkind = "nve"\nduration = "100 fs"\n'
NOBODY = 65534


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "run"


def a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file"


def a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "run")
    return folder / "link"


def a_loop_of_links(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "run"


def strangers(folder: Path) -> Path:
    (folder / "run").mkdir()
    (folder / "run" / "thesis.tex").write_text("x")
    return folder / "run"


def a_file_for_checkpoints(folder: Path) -> Path:
    (folder / "run").mkdir()
    (folder / "run" / "checkpoint").write_text("x")
    return folder / "run"


IMPOSSIBLE: dict[str, Callable[[Path], Path]] = {
    "below a file": below_a_file,
    "a file": a_file,
    "a link to nowhere": a_dangling_link,
    "a loop of links": a_loop_of_links,
    "somebody else's folder": strangers,
    "a file where the checkpoints go": a_file_for_checkpoints,
    "a name that is too long": lambda folder: folder / ("x" * 256),
    "a path that is too long": lambda folder: folder.joinpath(*["x" * 200] * 25),
    "a file system of the kernel": lambda folder: Path("/proc/mlmd.run"),
}


@pytest.mark.row("R09")
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_a_run_folder_is_refused_with_its_path(name: str, tmp_path: Path) -> None:
    path, out = write_input(tmp_path, STAGE), IMPOSSIBLE[name](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    answer = mlmd("simulate", path, "--out", out)
    assert answer.code in (2, 4), answer.err
    assert str(out)[:60] in answer.err and "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """A folder that others may look into; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.row("R09")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody, and nobody needs no test of this kind")
@pytest.mark.parametrize("what", ["folder", "run"])
def test_a_folder_without_permission_is_refused(what: str, seen_by_all: Path) -> None:
    path = write_input(seen_by_all, STAGE)
    out = seen_by_all / "run"
    if what == "run":
        assert mlmd("simulate", path, "--out", out, "--quiet").code == 0
        path.write_text(path.read_text().replace('duration = "100 fs"', 'duration = "200 fs"'))
    code = (
        f"import os, sys; sys.path[:0] = {sys.path!r}; import mlmd.engine.run, mlmd.cli.simulate\n"
        "b'x'.decode('utf-8-sig')  # before this user loses sight of Python's library\n"
        f"os.setuid({NOBODY}); sys.argv = ['mlmd', 'simulate', {str(path)!r}, '--out', {str(out)!r}]\n"
        "from mlmd.cli import main; main()"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=seen_by_all)
    assert answer.returncode == 4, answer.stderr
    assert str(out) in answer.stderr and "Permission denied" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.row("R09")
@pytest.mark.parametrize("name", ["with spaces & 'quotes'", "日本語 Å γ", "x" * 240, "-o.run", "a\nb"])
def test_odd_names_are_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    path = write_input(place, STAGE)
    monkeypatch.chdir(place)
    assert mlmd("simulate", "input.toml", "--out", "plain").code == 0
    assert mlmd("simulate", path, f"--out={place / name}").code == 0  # and from elsewhere
    assert open_run(place / name).manifest["state"] == "done"
    assert_same_run(place / "plain", place / name)


@pytest.mark.row("R09")
def test_a_run_folder_that_was_moved_with_its_input_goes_on(tmp_path: Path) -> None:
    path = write_input(tmp_path / "here", STAGE)
    assert mlmd("simulate", path, "--out", tmp_path / "here" / "run").code == 0
    shutil.move(tmp_path / "here", tmp_path / "there")
    longer = tmp_path / "there" / "input.toml"
    longer.write_text(longer.read_text().replace('duration = "100 fs"', 'duration = "200 fs"'))
    assert mlmd("simulate", longer, "--out", tmp_path / "there" / "run").code == 0
    assert mlmd("simulate", longer, "--out", tmp_path / "one").code == 0
    assert_same_run(tmp_path / "one", tmp_path / "there" / "run")
