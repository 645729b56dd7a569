"""The README cannot drift: what it shows is validated or run, and its list of options is the program's.

``python tests/test_readme.py`` writes the list of options into the README.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from mlmd import config
from mlmd.cli import COMMANDS
from mlmd.errors import InputError, MlmdError, ModelError, SimulationError, Stopped, StorageError

README = Path(__file__).parents[1] / "README.md"
OPTIONS = re.compile(r"(?<=<!-- options -->\n)(.*)(?=<!-- end of options -->)", re.DOTALL)


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def written_options() -> str:
    """The lists of options as the README shows them."""
    return (
        "".join(f"\n### `mlmd {name}`\n\n{config.option_table(name).strip()}\n" for name in ("simulate", "train"))
        + "\n"
    )


def write_options() -> None:
    """Put the list of options into the README."""
    text = README.read_text(encoding="utf-8")
    README.write_text(OPTIONS.sub(lambda match: written_options(), text), encoding="utf-8")


def test_the_list_of_options_is_the_programs() -> None:
    (shown,) = OPTIONS.findall(README.read_text(encoding="utf-8"))
    assert shown == written_options(), "run: python tests/test_readme.py"


def test_there_are_two_commands() -> None:
    first, second = blocks("sh")
    assert first.count("\n") == second.count("\n") == 1
    assert first.endswith("mlmd simulate inputs/quickstart.toml\n")
    assert second.endswith("python -m pytest\n")


def test_the_example_input_is_valid(tmp_path: Path) -> None:
    whole = next(block for block in blocks("toml") if "structure =" in block)
    path = tmp_path / "input.toml"
    path.write_text(whole, encoding="utf-8")
    run = config.load_simulate(path)
    assert [stage.kind for stage in run.stage] == ["minimize", "nvt", "npt", "nvt"]


def potentials() -> list[str]:
    """The lines of the README that show how a potential is named."""
    lines = next(block for block in blocks("toml") if block.startswith("potential =")).splitlines()
    assert len(lines) > 3
    return lines


@pytest.mark.parametrize("line", potentials())
def test_every_way_to_name_a_potential_is_understood(line: str, tmp_path: Path) -> None:
    from mlmd.potentials.load import load_potential

    path = tmp_path / "input.toml"
    stage = '\n[[stage]]\nkind = "minimize"\n'
    path.write_text(f'structure = "a.cif"\ntimestep = "1 fs"\n{line}\n{stage}', encoding="utf-8")
    tables = config.load_simulate(path).potential
    assert all(table.path is None or table.path.parent == tmp_path for table in tables)
    without_file = [table for table in tables if table.path is None]
    if without_file:
        load_potential(without_file)


def test_the_stage_with_plumed_is_valid(tmp_path: Path) -> None:
    stage = next(block for block in blocks("toml") if block.startswith("[[stage]]"))
    assert tomllib.loads(stage)["stage"][0]["plumed"] == "metadynamics.dat"
    path = tmp_path / "input.toml"
    path.write_text(f'structure = "a.cif"\ntimestep = "1 fs"\npotential = "a.mlmd"\n{stage}', encoding="utf-8")
    config.load_simulate(path)


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlmd.descriptors.moments import Moments
    from mlmd.fitting.linear import Linear
    from mlmd.potentials import mtp
    from mlmd.potentials.learned import LearnedPotential

    moments = Moments(elements=("Cu",), cutoff=5.0, min_distance=1.5, level=8, scaling=0.1)
    mtp.save(LearnedPotential(moments, Linear(n_features=moments.n_features, n_kinds=1)), tmp_path / "fitted.mtp")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"^\| `mlmd (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_structure_format_is_listed() -> None:
    from mlmd.io.structures import FORMATS

    text = README.read_text(encoding="utf-8")
    assert [ending for ending in FORMATS if f"`{ending}`" not in text] == []


def test_every_file_of_ours_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:benchmarks|tests|inputs|examples|mlmd)/[\w./]*)`", README.read_text(encoding="utf-8"))
    assert len(named) > 5
    assert [name for name in named if not (README.parent / name).exists()] == []


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)}
    errors: list[type[MlmdError]] = [MlmdError, *MlmdError.__subclasses__()]
    assert {InputError, SimulationError, StorageError, ModelError, Stopped} <= set(errors)
    assert listed == {0, *(error.exit_code for error in errors)}


def test_the_map_shows_every_part_of_the_package() -> None:
    package = README.parent / "mlmd"
    drawn = next(block for block in blocks("") if block.startswith("mlmd/"))
    parts = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    shown = set(re.findall(r"\b(\w+\.py|\w+(?=/ ))", drawn))
    assert {part for part in parts if not part.startswith("__")} - shown == set()


if __name__ == "__main__":
    write_options()
