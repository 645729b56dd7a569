"""Files of other frameworks are known by what is in them, and nothing in them is executed to know it."""

from __future__ import annotations

import inspect
import json
import pickle
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import mlmd
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import write_input

from mlmd.config import PotentialTable
from mlmd.config.files import sha256
from mlmd.errors import InputError, ModelError
from mlmd.potentials import POTENTIALS
from mlmd.potentials.foreign import EXECUTED, framework_of
from mlmd.potentials.load import load_potential, recognise
from mlmd.registry import find

SCRIPTS = {
    "deepmd": "code/__torch__/deepmd/pt/model/model/ener_model.py",
    "nequip": "code/__torch__/nequip/nn/graph_model.py",
    "metatomic": "code/__torch__/metatomic/torch/model.py",
}


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.canary,)


def archive(path: Path, **parts: bytes) -> Path:
    """A zip file as torch writes them: all in a folder."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(f"model/{name}", content)
    return path


def script(path: Path, *kinds: str) -> Path:
    return archive(path, **{"data.pkl": b"\x80\x02}."}, **{SCRIPTS[kind]: b"pass" for kind in kinds})


def of_mace(path: Path, canary: Path) -> Path:
    """A pickle of a class of MACE that executes something too."""
    harm = pickle.dumps(Trap(canary), protocol=2)[2:-1]
    return archive(path, **{"data.pkl": b"\x80\x02" + harm + b"0cmace.modules.models\nScaleShiftMACE\n."})


def of_nequix(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(json.dumps({"cutoff": 6.0, "atomic_numbers": [3, 17]}).encode() + b"\n")
        np.save(file, np.zeros(3))
    return path


@pytest.mark.parametrize("kind", SCRIPTS)
def test_torchscript_is_of_the_package_whose_code_it_holds(kind: str, tmp_path: Path) -> None:
    assert framework_of(script(tmp_path / "a.pt", kind)) == kind


def test_a_model_of_metatomic_holds_the_network_of_any(tmp_path: Path) -> None:
    assert framework_of(script(tmp_path / "a.pt", "nequip", "metatomic")) == "metatomic"


def test_torchscript_of_nobody_in_particular_is_not_recognised_and_asks_for_a_kind(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.pt", **{"data.pkl": b"\x80\x02}.", "code/__torch__/springs.py": b"pass"})
    assert framework_of(file) is None
    with pytest.raises(ModelError, match='kind = "torchscript"') as caught:
        recognise(file)
    assert f'path = "{file}", trust = "sha256:{sha256(file)}"' in str(caught.value)  # what a user copies


def test_a_pickle_is_read_and_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    file = of_mace(tmp_path / "a.model", canary)
    assert recognise(file) == "mace"
    with pytest.raises(ModelError, match=r"executes code when it is opened.* trust = \"sha256:"):
        load_potential([PotentialTable.model_validate({"path": str(file)})])
    assert not canary.exists()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("chgnet", {"model": {"state_dict": {"composition_model.fc.weight": torch.zeros(2)}}}),
        ("sevennet", {"model_state_dict": {"onehot_to_feature_x.linear.weight": torch.zeros(2)}, "config": {}}),
        ("mattersim", {"model_name": "m3gnet", "model_args": {"cutoff": 5.0}, "model": {}}),
        (None, {"state_dict": {"weight": torch.zeros(2)}}),
    ],
)
def test_a_checkpoint_is_of_the_network_whose_parameters_it_names(
    kind: str | None, content: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "a.pth")
    assert framework_of(tmp_path / "a.pth") == kind


def test_files_that_hold_numbers_are_recognised(tmp_path: Path) -> None:
    assert recognise(of_nequix(tmp_path / "a.nqx")) == "nequix"
    ani = tmp_path / "a.info"
    ani.write_text("ani/a.params\nani/sae.dat\nani/train\n8\n")
    assert recognise(ani) == "ani"
    folder = tmp_path / "tensornet"
    folder.mkdir()
    (folder / "model.json").write_text('{\n    "@class": "Potential",\n    "@module": "matgl.apps._pes_pyg"\n}')
    assert recognise(folder) == "matgl"


def test_published_files_are_recognised(shared: Path) -> None:
    assert recognise(shared / "models_nequix" / "nequix-mp-1.nqx") == "nequix"
    assert recognise(shared / "models_matgl" / "TensorNet-MatPES-PBE-v2025.1-PES") == "matgl"
    assert recognise(shared / "ref_deepmd" / "deeppot_sea.pth") == "deepmd"


def test_every_kind_that_executes_code_asks_for_its_digest() -> None:
    """Those that were recognised are loaded without a word, unless their loader asks."""
    for kind in ("mace", "sevennet", "chgnet", "nequip", "deepmd", "metatomic", "nequix", "matgl", "ani", "mattersim"):
        asks = "trust" in inspect.signature(find("mlmd.potentials", kind, POTENTIALS)).parameters
        assert asks == (kind in EXECUTED)


def test_a_file_of_one_framework_under_the_kind_of_another_is_refused_before_trust_is_asked_for(tmp_path: Path) -> None:
    path = of_mace(tmp_path / "x.model", tmp_path / "canary")
    for kind in ("sevennet", "chgnet", "nequix"):
        with pytest.raises(ModelError, match='of kind "mace"') as refused:
            load_potential([PotentialTable(kind=kind, path=path)])
        assert "sha256" not in str(refused.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", ["mace", "sevennet", "metatomic"])
def test_what_cannot_be_weights_is_refused_before_trust_is_asked_for(kind: str, tmp_path: Path) -> None:
    """A page in the place of a download, and an archive that was cut off."""
    page = tmp_path / "a.model"
    page.write_text("<!DOCTYPE html><p>Not found")
    with pytest.raises(ModelError, match="no archive of PyTorch and no pickle") as refused:
        load_potential([PotentialTable(kind=kind, path=page)])
    assert "sha256" not in str(refused.value) and "<!DOCTYPE html>" in str(refused.value)
    whole = of_mace(tmp_path / "x.model", tmp_path / "canary").read_bytes()
    page.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"has no end\. Was a download or a copy cut off"):
        load_potential([PotentialTable(kind=kind, path=page)])


@pytest.mark.parametrize(
    ("called", "kind"),
    [("7net-0", "sevennet"), ("mace-mp-0", "mace"), ("m3gnet", "matgl"), ("allegro", "nequip"), ("n2p2", "hdnnp"),
     ("chgnet", "chgnet"), ("ANI2x", "ani"), ("quip", "gap"), ("pet-mad", "metatomic"), ("zbl", "zbl"),
     ("lj", "lennard-jones"), ("dftd3", "d3")],
)  # fmt: skip
def test_what_other_programs_call_their_potentials_is_told_as_an_input_writes_it(
    called: str, kind: str, tmp_path: Path
) -> None:
    """Named alone, or, of those that are no kinds, as a kind."""
    path = write_input(tmp_path, '[[stage]]\nkind = "minimize"\n', potential=f'"{called}"')
    answer = mlmd("check", path)
    assert answer.code == InputError.exit_code
    assert f'For {called} write for example potential = {{ kind = "{kind}"' in answer.err
    if called not in POTENTIALS:
        with pytest.raises(InputError, match=f'is not a kind of potential. For {called} write .*kind = "{kind}"'):
            load_potential([PotentialTable(kind=called)])


def test_show_tells_what_a_file_would_execute_and_opens_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    file = of_mace(tmp_path / "a.model", canary)
    answer = mlmd("show", str(file), "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["kind"] == "mace"
    assert "executes code" in told["executes"]
    assert f'trust = "sha256:{sha256(file)}"' in told["to use it"]
    assert not canary.exists()


@pytest.mark.parametrize(
    ("kind", "missing"), [("mace", 'either path = "FILE" or name = "MODEL"'), ("d3", "method must be given")]
)
def test_show_of_a_kind_says_which_options_it_needs(kind: str, missing: str) -> None:
    answer = mlmd("show", kind)
    assert answer.code == 2
    assert missing in answer.err


def test_show_describes_a_table_as_an_input_has_it() -> None:
    table = '{ kind = "ase", calculator = "ase.calculators.emt:EMT" }'
    answer = mlmd("show", table, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["calculator"] == "ase.calculators.emt.EMT"
    assert json.loads(mlmd("show", "zbl", "--options", '{"cutoff": "2 Å"}', "--json").out)["kind"] == "zbl"
    assert json.loads(mlmd("show", '{ kind = "zbl", cutoff = "2 Å" }', "--json").out)["kind"] == "zbl"


def test_a_framework_that_is_not_there_is_told_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nequix", None)
    monkeypatch.setitem(sys.modules, "nequix.calculator", None)
    table = PotentialTable.model_validate({"path": str(of_nequix(tmp_path / "a.nqx"))})
    with pytest.raises(InputError, match=r'python = "env/bin/python".* Install it: pip install nequix\.$'):
        load_potential([table])


def _whole(folder: Path) -> bytes:
    return of_mace(folder / "whole.model", folder / "canary").read_bytes()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_is_recognised_or_not_and_never_a_traceback(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(_whole(folder))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(2, len(content)))
    (folder / "damaged.model").write_bytes(bytes(content[:end]))
    assert framework_of(folder / "damaged.model") in (None, "mace")
    assert not (folder / "canary").exists()


def test_only_the_beginning_of_a_huge_pickle_is_read(tmp_path: Path) -> None:
    """As a zip of zeros that would fill the memory: what comes after some megabytes is not known, and no harm."""
    own = b"cmace.modules.models\nScaleShiftMACE\n"
    for size, found in ((1_000, ("mace", "mace")), (5_000_000, ("mace", None))):
        long = b"X" + size.to_bytes(4, "little") + b"x" * size
        for parts, kind in zip((own + long, long + own), found, strict=True):
            assert framework_of(archive(tmp_path / "a.model", **{"data.pkl": b"\x80\x02" + parts + b"."})) == kind


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_pickle_is_not_unpacked_where_its_first_bytes_cannot_be_had_alone(packed: int, tmp_path: Path) -> None:
    """Some hundred bytes of bzip2 are some hundred million zeros."""
    own = b"\x80\x02cmace.modules.models\nScaleShiftMACE\n."
    with zipfile.ZipFile(tmp_path / "a.model", "w", packed) as file, file.open("model/data.pkl", "w") as part:
        for piece in (own, *[bytes(1_000_000)] * 30):
            part.write(piece)
    tracemalloc.start()
    found, most = framework_of(tmp_path / "a.model"), tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is None and most < 10e6
