"""What the import of somebody else's code may not leave behind, with code that does what frameworks do."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from in_process import SWITCH, harmful, trusted

from mlmd.errors import InputError
from mlmd.potentials.load import build
from mlmd.pretrained.ase import load

FRAMEWORK = f"""
import logging, os, warnings
os.environ["{SWITCH}"] = "1"
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "0"
from ase.calculators.emt import EMT

def calculator(fails=False):
    warnings.warn("this calculator is a toy", UserWarning)
    logging.warning("it was made")
    print("hello")
    if fails:
        raise ValueError("no such model")
    return EMT()
"""


@pytest.fixture
def framework(tmp_path: Path) -> dict[str, object]:
    file = tmp_path / "toy.py"
    file.write_text(FRAMEWORK)
    return {"calculator": f"{file}:calculator", "trust": [trusted(file)]}


@pytest.mark.parametrize("before", [None, "0"])
@pytest.mark.parametrize("fails", [False, True])
def test_torch_opens_files_as_safely_as_before(
    framework: dict[str, object], before: str | None, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    if before is not None:
        monkeypatch.setenv(SWITCH, before)
    if fails:
        with pytest.raises(InputError, match="no such model"):
            load(**framework, arguments={"fails": True})  # type: ignore[arg-type]
    else:
        load(**framework)  # type: ignore[arg-type]
    assert os.environ.get(SWITCH) == before
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    with pytest.raises(pickle.UnpicklingError):
        torch.load(harmful(tmp_path / "harmful.pt", tmp_path / "canary"))
    assert not (tmp_path / "canary").exists()


def test_what_it_says_while_it_is_made_is_not_passed_on(
    framework: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [*logging.getLogger().handlers]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        load(**framework)  # type: ignore[arg-type]
    assert not warned
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize(
    ("kind", "file", "package"),
    [
        ("mace", "a.model", "mace-torch"),
        ("nequip", "a.nequip.zip", "nequip"),
        ("metatomic", "a.pt", "metatomic-torch metatomic-ase ase"),
    ],
)
def test_a_framework_that_is_not_there_is_asked_for(
    kind: str, file: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)  # as if it were not installed
    path = tmp_path / file
    path.write_bytes(b"PK\x03\x04")
    told = rf"{kind}: there is no module '{kind}[.a-z]*' in .*Install it: pip install {package}\.$"
    with pytest.raises(InputError, match=told):
        build(kind, {"path": path, "trust": [trusted(path)], "precision": "float64"})
