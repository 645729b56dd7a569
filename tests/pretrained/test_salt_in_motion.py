"""SevenNet and CHGNet move 64 ions of rock salt on mlmd's pairs as their own calculators would."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from elsewhere import python_of
from in_process import ROOT, need_mlmd

GRAPHS = {"sevennet": "SevenNetGraph", "chgnet": "CHGNetGraph"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GRAPHS)
def test_nve_and_npt_of_64_ions_end_with_what_the_own_calculator_says(kind: str, tmp_path: Path) -> None:
    """Both in double precision: in single precision energies of 64 ions come in steps of 1.5e-5 eV."""
    python = python_of(kind)
    need_mlmd(python, kind)
    done = subprocess.run(
        [python, str(ROOT / "tests" / "pretrained" / "salt_in_motion.py"), kind, "double", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["class"], told["dtype"]) == (GRAPHS[kind], "torch.float64")
    nve, npt = told["ends"]
    assert nve["volume"] == pytest.approx(1.0) and abs(npt["volume"] - 1) > 1e-6  # the cell was moved
    for end in (nve, npt):
        assert end["largest"] > 0.1 and 0.5 > end["moved"] > 1e-4  # or there is nothing to compare
        assert end["energy"] < 1e-5 and end["forces"] < 1e-4
