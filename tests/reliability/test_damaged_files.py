"""What a disk, a person or another program does to a run folder is noticed, and never continued from silently."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import mlmd
from runs import BREATHING, assert_same_run, run_in_parts, write_input

from mlmd.engine import checkpoint
from mlmd.engine.outputs import last_step
from mlmd.errors import StorageError
from mlmd.rundir import CHECKPOINTS

DAMAGED = 4


def checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted((folder / "part" / CHECKPOINTS).glob("*.ckpt"))


def contents(folder: Path) -> dict[str, str]:
    """Fingerprints of all files of the stopped run, what says who runs or stops it left out."""
    files = sorted(
        path for path in (folder / "part").rglob("*") if path.is_file() and path.name not in {"lock", "STOP"}
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def go_on(folder: Path) -> tuple[int, str]:
    """Continue the stopped run; exit code and messages."""
    answer = mlmd("simulate", folder / "input.toml", "--out", folder / "part", "--threads", 1)
    return answer.code, answer.err


@pytest.mark.row("R06")
def test_every_damage_to_a_checkpoint_is_detected(folder: Path) -> None:
    path, rng = checkpoints(folder)[-1], random.Random(1)
    good = path.read_bytes()
    for n in range(200):
        bad = bytearray(good)
        if n % 2:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        else:
            del bad[rng.randrange(len(bad)) :]
        path.write_bytes(bad)
        with pytest.raises(StorageError, match="damaged"):
            checkpoint.read(path)
    path.write_bytes(bytes(len(good)))
    with pytest.raises(StorageError, match="damaged"):
        checkpoint.read(path)


@pytest.mark.row("R06")
def test_a_damaged_newest_checkpoint_is_replaced_by_the_one_before(folder: Path) -> None:
    newest = checkpoints(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    code, messages = go_on(folder)
    assert code == 0
    assert f"{newest.name} is damaged" in messages and "continues at step 100" in messages
    assert_same_run(folder / "one", folder / "part")


@pytest.mark.row("R05")
def test_without_the_newest_checkpoint_the_files_are_cut_back_to_the_one_before(folder: Path) -> None:
    checkpoints(folder)[-1].unlink()
    code, messages = go_on(folder)
    assert code == 0
    assert "log.csv" in messages and "trajectory.dcd" in messages and "bytes after the checkpoint removed" in messages
    assert "the checkpoint is of step 100, and the log went on to step 150: 50 steps or more are done again" in messages
    assert_same_run(folder / "one", folder / "part")


@pytest.mark.row("R05")
def test_a_run_that_was_stopped_does_no_step_again_and_says_nothing_of_it(folder: Path) -> None:
    code, messages = go_on(folder)
    assert code == 0
    assert "continues at step 150" in messages and "again" not in messages


def test_a_row_that_was_not_finished_does_not_count_as_a_step(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    assert last_step(log) is None
    for text, step in (
        ("", None),
        ("step,stage\n", None),
        ("step,stage\n0,1\n250,1\n30", 250),
        ("a\n250,1\n300,1", 250),
    ):
        log.write_text(text)
        assert last_step(log) == step


@pytest.mark.row("R06")
def test_without_a_sound_checkpoint_nothing_is_touched(folder: Path) -> None:
    for path in checkpoints(folder):
        path.write_bytes(b"MLMDCKP1" + bytes(1000))
    before = contents(folder)
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert "no checkpoint can be used" in messages
    after = contents(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"messages.log", "run.json"}


@pytest.mark.row("R06")
def test_a_checkpoint_of_another_run_is_not_used(folder: Path) -> None:
    other = folder / "other"
    run_in_parts(write_input(other, BREATHING, options="seed = 2"), other / "run", [170], threads=1)
    stranger = sorted((other / "run" / CHECKPOINTS).glob("*.ckpt"))[-2]
    assert stranger.name.endswith("170.ckpt")
    shutil.copy(stranger, folder / "part" / CHECKPOINTS)
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert "log.csv" in messages


@pytest.mark.parametrize("name", ["log.csv", "trajectory.dcd"])
@pytest.mark.row("R07")
def test_a_file_edited_before_the_checkpoint_is_refused_by_name(name: str, folder: Path) -> None:
    path = folder / "part" / name
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    before = contents(folder)
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert f"{name} was changed since the last checkpoint" in messages
    assert {n for n, h in contents(folder).items() if h != before[n]} <= {"messages.log", "run.json"}


@pytest.mark.parametrize("name", ["log.csv", "trajectory.dcd"])
@pytest.mark.row("R07")
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / "part" / name).unlink()
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert f"{name} is missing or shorter" in messages


@pytest.mark.row("R07")
def test_torn_ends_of_files_are_cut_and_written_anew(folder: Path) -> None:
    for name, torn in (("log.csv", b"160,0,0.8,-1.2"), ("trajectory.dcd", bytes(333))):
        with (folder / "part" / name).open("ab") as file:
            file.write(torn)
    code, messages = go_on(folder)
    assert code == 0
    assert "log.csv: 14 bytes" in messages and "trajectory.dcd: 333 bytes" in messages
    assert_same_run(folder / "one", folder / "part")


@pytest.mark.row("R27")
def test_the_right_checkpoint_is_chosen_by_its_step_not_by_its_date(folder: Path) -> None:
    for path in reversed(checkpoints(folder)):
        path.touch()  # as after copying: the oldest looks newest
    code, messages = go_on(folder)
    assert code == 0
    assert "continues at step 150" in messages


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('temperature = "60 K"', 'temperature = "61 K"', "temperature"),
        ('timestep = "5 fs"', 'timestep = "4 fs"', "timestep"),
        ("every = 4", "every = 5", "barostat.every"),
        ('sigma = "3.4 Å"', 'sigma = "3.5 Å"', "sigma"),
    ],
)
@pytest.mark.row("R07")
def test_a_folder_of_other_physics_is_refused_naming_the_difference(
    old: str, new: str, named: str, folder: Path
) -> None:
    path = folder / "input.toml"
    path.write_text(path.read_text().replace(old, new))
    tomllib.loads(path.read_text())
    before = contents(folder)
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert named in messages and "belongs to another input" in messages
    assert contents(folder) == before


@pytest.mark.row("R07")
def test_a_changed_structure_is_refused(folder: Path) -> None:
    path = folder / "atoms.extxyz"
    path.write_text(path.read_text().replace("Ar ", "Kr ", 1))
    code, messages = go_on(folder)
    assert code == DAMAGED
    assert "atoms.extxyz" in messages


@pytest.mark.row("R27")
def test_of_shuffled_copies_the_right_checkpoint_is_chosen(
    folder: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(3)
    for n in range(20):
        for path in checkpoints(folder):
            when = rng.randrange(10**9)
            os.utime(path, (when, when))
        saved, problems = checkpoint.newest(folder / "part" / CHECKPOINTS)
        assert saved is not None and saved.position == (0, 150) and not problems, n
    record_property("shuffles", 20)


@pytest.mark.row("R27")
def test_a_folder_of_an_earlier_version_goes_on(folder: Path) -> None:
    # what this version has added: names in the checkpoint, options of the guard, and the guard's part in the hash
    for path in checkpoints(folder):
        saved = checkpoint.read(path)
        header = {key: value for key, value in saved.header.items() if key != "appended"}
        header["machine"] = {**header["machine"], "mlmd": "0.0.9"}
        path.unlink()
        checkpoint.write(path.parent, checkpoint.Checkpoint(header, saved.arrays))
    manifest = json.loads((folder / "part" / "run.json").read_text())
    manifest["physics_hash"], manifest["mlmd"] = "0" * 64, "0.0.9"
    manifest["input"].pop("uncertainty")
    for name in ("max_displacement", "min_distance"):
        manifest["input"]["guard"].pop(name)
    (folder / "part" / "run.json").write_text(json.dumps(manifest))
    assert mlmd("verify", folder / "part").code == 0
    code, messages = go_on(folder)
    assert code == 0 and "mlmd: 0.0.9 before" in messages
    assert_same_run(folder / "one", folder / "part")
