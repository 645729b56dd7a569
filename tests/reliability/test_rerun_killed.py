"""A rerun that was killed has every frame once, and PLUMED has every hill and line once."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from processes import killed_at_every_write, mlmd
from runs import fcc_argon, write_input

from mlmd.rundir import FINAL, LOG

SCRIPT = (
    "d: DISTANCE ATOMS=1,20\nm: METAD ARG=d PACE=20 HEIGHT=1 SIGMA=0.02 BIASFACTOR=5 TEMP=60 FILE=HILLS\n"
    "o: OPES_METAD ARG=d PACE=30 BARRIER=9 SIGMA=0.02 TEMP=60 FILE=KERNELS STATE_WFILE=STATE STATE_WSTRIDE=50\n"
    "PRINT ARG=d,m.bias,o.bias STRIDE=10 FILE=COLVAR FMT=%.9f\n"
)


def walk(n_frames: int) -> list[ase.Atoms]:
    """Argon whose atoms and cell walk at random, a frame each ten steps."""
    rng, atoms, frames = np.random.default_rng(4), fcc_argon(2), []
    for number in range(n_frames):
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
        atoms.set_cell(atoms.cell.array * (1 + rng.normal(scale=0.002)), True)
        atoms.info["step"] = 10 * number
        frames.append(atoms.copy())
    return frames


@pytest.mark.row("R04")
def test_a_rerun_killed_at_every_write_is_whole(tmp_path: Path) -> None:
    frames = walk(6)
    ase.io.write(tmp_path / "frames.extxyz", frames, format="extxyz")
    (tmp_path / "plumed.dat").write_text(SCRIPT)
    stage = '[[stage]]\nkind = "rerun"\ntrajectory = "frames.extxyz"\nplumed = "plumed.dat"\nforces = true\n'
    path = write_input(tmp_path, stage, atoms=frames[0], output="checkpoint_every = 0.005")
    errors, one, killed = tmp_path / "errors", tmp_path / "one", tmp_path / "killed"
    assert mlmd(["simulate", path, "--out", one, "--threads", 1], errors) == 0, errors.read_text()
    assert killed_at_every_write(path, killed, errors, first=2) > 8
    for name in (LOG, FINAL):
        assert (one / name).read_bytes() == (killed / name).read_bytes(), name
    for name in ("COLVAR", "HILLS", "KERNELS"):
        wanted, found = (np.loadtxt(folder / name) for folder in (one, killed))
        # hills that are read again are the same to the last digits alone
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9, err_msg=name)
    for first, second in zip(
        *(ase.io.read(out / "trajectory.extxyz", index=":") for out in (one, killed)), strict=True
    ):
        assert first.info["step"] == second.info["step"]
        np.testing.assert_array_equal(first.positions, second.positions)
        np.testing.assert_array_equal(first.get_forces(), second.get_forces())
        np.testing.assert_allclose(first.arrays["bias_forces"], second.arrays["bias_forces"], rtol=0, atol=1e-8)
