"""What is opened and started for the models of others: the files that were read, real interpreters, as many threads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

from mlmd.config import PotentialTable
from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.potentials import trust
from mlmd.potentials.evaluate import predictor
from mlmd.potentials.load import load_potential
from mlmd.pretrained.external import External
from mlmd.pretrained.recipe import interpreter
from mlmd.sample.method import PotentialMethod

WHERE = [pytest.param({}, id="here"), pytest.param({"python": sys.executable}, id="elsewhere")]
CALCULATORS = """
import os
from pathlib import Path
from ase.calculators.emt import EMT


class Careful(EMT):
    def __init__(self, label=None, text=None):
        super().__init__()


class Swaps(EMT):
    def __init__(self, label):
        super().__init__()
        Path(label).write_text("something else")


class Threads(EMT):
    def __init__(self):
        super().__init__()
        import torch
        self.torch = torch

    def calculate(self, *arguments):
        super().calculate(*arguments)
        told = 100 * int(os.environ["OMP_NUM_THREADS"]) + self.torch.get_num_threads()
        self.results["energy"] = self.results["free_energy"] = told
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file beside a file of calculators."""
    (tmp_path / "own.py").write_text(CALCULATORS)
    (tmp_path / "w.bin").write_text("numbers")
    return tmp_path / "w.bin"


def digest(path: Path) -> str:
    return f"sha256:{sha256(path.read_bytes()).hexdigest()}"


def load(weights: Path, name: str, where: dict[str, str], *, with_weights: bool = True) -> Any:
    module = weights.with_name("own.py")
    table: dict[str, Any] = {"kind": "ase", "calculator": f"{module}:{name}", "trust": [digest(module)], **where}
    if with_weights:
        table |= {"arguments": {"label": str(weights)}, "trust": [digest(module), digest(weights)]}
    return load_potential([PotentialTable.model_validate(table)])


def copper() -> Atoms:
    return ase.build.bulk("Cu", cubic=True)


def test_every_file_is_read_once_for_its_digest(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is compared, recorded, and looked at again by what the file system tells."""
    read: list[str] = []
    file_digest = hashlib.file_digest

    def counted(file: Any, name: Any) -> Any:
        read.append(Path(file.name).name)
        return file_digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    potential = load(weights, "Careful", {})
    assert sorted(read) == ["own.py", "w.bin"]
    assert [f"sha256:{one}" for one in potential.files.values()] == [
        digest(weights.with_name("own.py")),
        digest(weights),
    ]
    read.clear()
    with trust.comparing():
        trust.check_unused(weights, [digest(weights)])
        trust.check(weights, [digest(weights)], "why")
    assert read == ["w.bin"]
    with trust.comparing(), pytest.raises(ModelError, match="not the file that is trusted"):
        trust.check(weights, ["sha256:" + 64 * "0"], "why")
    assert read == ["w.bin"] * 2  # another load reads again


@pytest.mark.parametrize("where", WHERE)
def test_a_file_that_changes_while_it_is_opened_is_told(weights: Path, where: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"w\.bin is not the file any more that was read"):
        load(weights, "Swaps", where)


def test_a_model_that_is_made_again_is_made_of_the_same_files(weights: Path) -> None:
    """As after an interrupt, when its process has to be another one."""
    potential = load(weights, "Careful", {"python": sys.executable})
    answer, worker = predictor(potential), potential._workers[potential.device]
    energy = answer(copper()).energy
    os.utime(weights)  # another time, and the same content
    worker._asking = True
    assert answer(copper()).energy == energy
    weights.write_text("another")
    assert answer(copper()).energy == energy  # nothing is opened
    worker._asking = True
    with pytest.raises(ModelError, match=r"w\.bin is not the file any more that was read"):
        answer(copper())
    weights.unlink()
    with pytest.raises(ModelError, match=r"w\.bin is not there any more"):
        answer(copper())


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_another_process_has_as_many_threads(weights: Path) -> None:
    """Those of its libraries when it begins, and those of torch always."""
    answer = predictor(load(weights, "Threads", {"python": sys.executable}, with_weights=False))
    assert answer(copper()).energy == 202
    torch.set_num_threads(1)
    assert answer(copper()).energy == 201


def test_what_is_periodic_in_some_directions_is_not_asked_about_where_it_would_be_taken_for_something_else() -> None:
    table = PotentialTable.model_validate({"kind": "ase", "calculator": "ase.calculators.emt:EMT"})
    recipe = load_potential([table]).recipe
    slab = ase.build.fcc111("Cu", (2, 2, 3), vacuum=8.0)
    assert np.isfinite(predictor(External(recipe))(slab).energy)
    picky = predictor(External(replace(recipe, partly_periodic=False)))
    with pytest.raises(SimulationError, match="it computes what is periodic in all directions, or in none"):
        picky(slab)
    for pbc in (True, False):
        slab.pbc = pbc
        assert np.isfinite(picky(slab).energy)


def program(path: Path, source: str) -> str:
    """A copy of a program of the system."""
    shutil.copy(str(shutil.which(source)), path)
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_is_called_and_answers_as_one(tmp_path: Path) -> None:
    assert interpreter(sys.executable) == sys.executable
    link = tmp_path / "python"
    link.symlink_to(str(shutil.which("touch")))
    with pytest.raises(InputError, match=r"is the program .*, which is not called as an interpreter"):
        interpreter(str(link))
    with pytest.raises(
        InputError, match="is no interpreter: asked for its version it said 'nothing, with exit code 0'"
    ):
        interpreter(program(tmp_path / "python3", "true"))
    everybody = program(tmp_path / "python3.11", "true")
    Path(everybody).chmod(0o777)
    with pytest.raises(InputError, match=r"may be changed by everybody, so it is not started\. Run: chmod o-w"):
        interpreter(everybody)


def test_a_module_that_lies_in_the_present_folder_is_not_found_by_its_bare_name(tmp_path: Path) -> None:
    """However mlmd is started; nor does one take the place of a package."""
    for name in ("evil", "ase"):
        (tmp_path / f"{name}.py").write_text("from pathlib import Path\nPath('canary').touch()\n")
    place = str(Path(trust.__file__).parents[2])
    command = ["show", "ase", "--options", json.dumps({"calculator": "evil:Calc"})]
    done = subprocess.run(
        [sys.executable, "-m", "mlmd", *command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": place},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "there is no module 'evil'" in done.stderr, done.stderr
    assert not (tmp_path / "canary").exists()


def test_paths_among_the_options_of_a_method_hold_in_any_folder(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "calculator": "./own.py:Careful", "arguments": {"label": "./w.bin", "text": "a/b"},
        "trust": [digest(weights.with_name("own.py")), digest(weights)],
    }  # fmt: skip
    method = PotentialMethod("ase", options=options)
    committee = PotentialMethod("committee", options={"members": ["own.mlmd", {"kind": "ase", **options}]})
    (tmp_path / "elsewhere").mkdir()
    rooted = [method.rooted(), committee.rooted()]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert rooted[0].options["calculator"] == f"{tmp_path}/own.py:Careful"
    assert rooted[0].options["arguments"] == {"label": str(weights), "text": "a/b"}
    assert rooted[0].load(()).files == {str(weights.with_name("own.py")): digest(weights.with_name("own.py"))[7:],
                                        str(weights): digest(weights)[7:]}  # fmt: skip
    first, second = rooted[1].options["members"]
    assert first["path"] == str(tmp_path / "own.mlmd") and second["arguments"]["label"] == str(weights)
    assert PotentialMethod("lennard-jones", options={"epsilon": "1 eV"}).rooted().options == {"epsilon": "1 eV"}
