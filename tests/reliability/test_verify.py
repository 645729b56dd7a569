"""`mlmd verify` finds damage to a run folder, `mlmd repair` says what a way back costs, and the run ends the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import mlmd
from runs import assert_same_run
from test_damaged_files import checkpoints, contents, go_on

from mlmd.engine.run import simulate
from mlmd.errors import StorageError
from mlmd.rundir import CHECKPOINTS


def shorten(name: str, size: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size - size])

    return damage


def flip(name: str, at: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        path = run / name
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    return damage


def flip_checkpoint(run: Path) -> None:
    flip(f"{CHECKPOINTS}/{sorted((run / CHECKPOINTS).glob('*.ckpt'))[-1].name}", 300)(run)


DAMAGE: dict[str, tuple[Callable[[Path], None], str, int | None]] = {
    "a short log": (shorten("log.csv", 20), "log.csv is missing or shorter", 100),
    "a short trajectory": (shorten("trajectory.dcd", 400), "trajectory.dcd is missing or shorter", 100),
    "a changed row at the end": (flip("log.csv", -30), "log.csv was changed", 100),
    "a changed row at the beginning": (flip("log.csv", 300), "log.csv was changed", None),
    "a damaged checkpoint": (flip_checkpoint, "damaged: its checksum", 100),
    "a lost structure": (shorten("structure.extxyz", 500), "structure.extxyz cannot be read", 150),
}
"""How a folder is damaged, what verify says, and the step of the checkpoint that a repair goes back to."""


@pytest.mark.row("R05", "R07")
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damage_is_found_and_repaired_as_far_as_possible(name: str, folder: Path) -> None:
    damage, said, step = DAMAGE[name]
    run = folder / "part"
    assert mlmd("verify", run).code == 0
    damage(run)
    before = contents(folder)
    answer = mlmd("verify", run)
    assert answer.code == 4 and said in answer.out
    assert contents(folder) == before
    asked = mlmd("repair", run)
    assert contents(folder) == before  # without --yes nothing is touched
    if step is None:
        assert asked.code == 4 and "cannot be repaired" in asked.err and "log.csv was changed" in asked.err
        return
    if step == 150:  # no checkpoint helps against that
        assert "needs no repair" in asked.out
        return
    assert f"go back to the checkpoint of step {step}" in asked.out and "Nothing was changed" in asked.out
    assert mlmd("repair", run, "--yes").code == 0
    assert mlmd("verify", run).code == 0
    assert mlmd("repair", run).out.endswith("needs no repair.\n")
    assert go_on(folder)[0] == 0
    assert_same_run(folder / "one", run)


def test_a_finished_run_that_lost_its_end_is_finished_again(folder: Path) -> None:
    run = folder / "one"
    shutil.copytree(run, folder / "again")
    shorten("log.csv", 20)(folder / "again")
    with pytest.raises(
        StorageError, match=r"is complete, but log\.csv has [\d,]+ bytes, and had [\d,]+\. `mlmd repair"
    ):
        simulate(folder / "input.toml", folder / "again", threads=1)
    if len(checkpoints(folder)) < 2:
        pytest.fail("a repair needs an older checkpoint")
    answer = mlmd("repair", folder / "again", "--yes")
    # a short run has one checkpoint at its beginning and one at its end
    assert answer.code == 0 and "the checkpoint of step 0; " in answer.out
    assert not (folder / "again" / "final.extxyz").exists()
    simulate(folder / "input.toml", folder / "again", threads=1)
    assert_same_run(run, folder / "again")


def test_what_a_killed_run_wrote_after_its_checkpoint_is_no_damage(folder: Path) -> None:
    with (folder / "part" / "log.csv").open("a") as file:
        file.write("160,1,0.8,")
    answer = mlmd("verify", folder / "part", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["excess"] == {"log.csv": 10}


def test_a_run_that_goes_on_is_not_repaired(folder: Path) -> None:
    from mlmd.rundir import reserved

    with reserved(folder / "part"):
        assert mlmd("repair", folder / "part").code == 5
        assert mlmd("verify", folder / "part").code == 0


def test_show_tells_what_a_checkpoint_and_a_trajectory_are(folder: Path) -> None:
    facts = json.loads(mlmd("show", checkpoints(folder)[-1], "--json").out)
    assert (facts["what"], facts["step"], facts["atoms"]) == ("checkpoint", 150, 32)
    facts = json.loads(mlmd("show", folder / "part" / "trajectory.dcd", "--json").out)
    assert (facts["frames"], facts["atoms"], facts["last step"], facts["last [ps]"]) == (8, 32, 140, 0.7)
    lonely = shutil.copy(folder / "part" / "trajectory.dcd", folder / "lonely.dcd")
    facts = json.loads(mlmd("show", lonely, "--json").out)
    assert facts["frames"] == 8 and "run" not in facts
    flip_checkpoint(folder / "part")
    answer = mlmd("show", checkpoints(folder)[-1])
    assert answer.code == 4 and "damaged" in answer.err
    assert "Did you mean 'show'?" in mlmd("info", lonely).err
