"""Models in their environments against the numbers that are stored of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import mlmd
from elsewhere import python_of
from runs import write_input
from salts import sodium_chloride

from mlmd.config import PotentialTable
from mlmd.potentials.load import load_potential
from mlmd.pretrained import reference

SALT = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "2 fs"'


def made(kind: str, **table: Any) -> Any:
    return load_potential([PotentialTable.model_validate({"kind": kind, "python": python_of(kind), **table})])


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("chgnet", {"name": "0.3.0"}),
        ("chgnet", {"name": "r2scan"}),
        ("sevennet", {"name": "7net-0"}),
        ("sevennet", {"name": "7net-mf-0", "modal": "PBE"}),
        ("nequix", {"path": "models_nequix/nequix-mp-1.nqx"}),
        ("matgl", {"path": "models_matgl/TensorNet-MatPES-PBE-v2025.1-PES"}),
    ],
    ids=["chgnet", "chgnet-r2scan", "sevennet", "sevennet-mf", "nequix", "matgl"],
)
def test_models_give_the_numbers_that_are_stored_of_them(kind: str, table: dict[str, str], shared: Path) -> None:
    potential = made(kind, **{key: str(shared / value) if key == "path" else value for key, value in table.items()})
    (text,) = reference.compare(potential)
    assert f"the {kind} model gives NaCl the energy and forces that are known of" in text


def test_a_check_and_a_run_tell_it_and_refuse_a_model_that_is_not_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = f'{{ kind = "chgnet", python = "{python_of("chgnet")}" }}'
    source = write_input(tmp_path, SALT, atoms=sodium_chloride(), options='timestep = "1 fs"', potential=table)
    told = "the chgnet model gives NaCl the energy and forces that are known of chgnet"
    checked, run = mlmd("check", source), mlmd("simulate", source, "--out", tmp_path / "run")
    assert (checked.code, run.code) == (0, 0), checked.err + run.err
    assert told in checked.out.replace("\n", " ") or told in " ".join(checked.out.split())
    assert told in (tmp_path / "run" / "messages.log").read_text()
    wrong = [replace(one, energy=one.energy + 1.0) for one in reference.stored() if one.kind == "chgnet"]
    reference.store(wrong, tmp_path / "wrong.json")
    monkeypatch.setattr(reference, "FILE", tmp_path / "wrong.json")
    for command, more in (("check", ()), ("simulate", ("--out", tmp_path / "other"))):
        answer = mlmd(command, source, *more)
        assert answer.code == 6 and "computes something else here than chgnet" in answer.err, answer.err
    assert not (tmp_path / "other" / "run.json").exists()
