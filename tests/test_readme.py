"""The README cannot drift: what it shows is validated or run, and its lists and tables are the program's.

``python tests/test_readme.py`` writes the lists of options and the tables of potentials into the README; the table of
errors needs the reference data (``MLMD_DATA``).
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from ase.build import bulk, molecule
from ase.io import write
from command_line import mlmd

from mlmd import config, models
from mlmd.cli import COMMANDS
from mlmd.cli.show import facts_of_models
from mlmd.errors import InputError, MlmdError, ModelError, SimulationError, Stopped, StorageError

README = Path(__file__).parents[1] / "README.md"
DATA = Path(os.environ.get("MLMD_DATA", README.parents[1] / "shared" / "data"))

ROUGH = """structure = "copper.extxyz"
timestep = "3 fs"
seed = 1
velocities = "1200 K"

[potential]
kind = "morse"
depth = "0.343 eV"
width = "0.736 Å"
r0 = "2.866 Å"
cutoff = "5 Å"

[[stage]]
kind = "nvt"
temperature = "600 K"
duration = "3 ps"

[output]
trajectory_every = "30 fs"
log_every = "30 fs"
"""


def marked(name: str) -> str:
    """What stands in the README between the marks of a part that is written by the program."""
    (text,) = re.findall(f"<!-- {name} -->\n(.*)<!-- end of {name} -->", README.read_text(encoding="utf-8"), re.DOTALL)
    assert isinstance(text, str)
    return text


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def table_of_options() -> str:
    """The lists of options as the README shows them."""
    return (
        "".join(f"\n### `mlmd {name}`\n\n{config.option_table(name).strip()}\n" for name in ("simulate", "train"))
        + "\n"
    )


def table_of_models() -> str:
    """`mlmd models` as the README shows it."""
    rows = [{**facts, "elements": ", ".join(facts["elements"])} for facts in facts_of_models()]
    cells = [["–" if cell is None else shown(cell) if isinstance(cell, float) else str(cell) for cell in row.values()]
             for row in rows]  # fmt: skip
    rule = ["---"] * len(rows[0])
    return "".join(f"| {' | '.join(line)} |\n" for line in [list(rows[0]), rule, *cells])


def shown(number: float) -> str:
    """Three digits, all those before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:#.3g}".rstrip(".")


def list_of_notes() -> str:
    """What the potentials that come with mlmd are for."""
    from mlmd.potentials.modelfile import read_card

    return "".join(f"- **{name}**: {read_card(models.path(name))['notes'].rstrip('.')}.\n" for name in models.names())


def table_of_errors(data: Path) -> str:
    """What the benchmark prints."""
    command = [sys.executable, str(README.parent / "benchmarks" / "accuracy.py"), "--data", str(data / "mlearn")]
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


PARTS = {"options": table_of_options, "models": table_of_models, "notes": list_of_notes}
"""Mark in the README -> what must stand there."""


def rewrite() -> None:
    """Put everything that is written by the program into the README."""
    parts = dict(PARTS)
    if (DATA / "mlearn").is_dir():
        parts["accuracy"] = lambda: table_of_errors(DATA)
    for name, made in parts.items():
        text = README.read_text(encoding="utf-8")
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, after = text.index(start) + len(start), text.index(end)
        README.write_text(text[:before] + made() + text[after:], encoding="utf-8")


@pytest.mark.parametrize("name", PARTS)
def test_what_the_program_knows_is_not_written_twice(name: str) -> None:
    assert marked(name) == PARTS[name](), "run: python tests/test_readme.py"


def test_the_table_of_errors_is_what_the_benchmark_prints(shared: Path) -> None:
    shown, found = (
        [re.findall(r"[\d.]+|[A-Z][a-z]*", line) for line in text.splitlines()]
        for text in (marked("accuracy"), table_of_errors(shared))
    )
    assert len(shown) == len(found) == 6, "run: python tests/test_readme.py"
    for line, expected in zip(shown[2:], found[2:], strict=True):
        assert line[0] == expected[0]
        # other processors round other sums differently, which may change the last digit
        assert [float(one) for one in line[1:]] == pytest.approx([float(one) for one in expected[1:]], rel=0.02)


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


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's training and a run to sample; the current one."""
    text = next(block for block in blocks("toml") if block.startswith("data ="))
    (tmp_path / "fitted.toml").write_text(text, encoding="utf-8")
    swept = next(block for block in blocks("toml") if "[sweep]" in block)
    (tmp_path / "compared.toml").write_text(swept, encoding="utf-8")
    (tmp_path / "rough.toml").write_text(ROUGH, encoding="utf-8")
    bulk("Cu", cubic=True, a=3.62).repeat(2).write(tmp_path / "copper.extxyz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_training_says_nothing_but_defaults_and_what_it_must(training: Path) -> None:
    # the README explains what happens when nothing is said; only data, groups and card have no default to show
    shown = config.load_train(training / "fitted.toml")
    bare = training / "bare.toml"
    bare.write_text('data = "labelled.extxyz"\n', encoding="utf-8")
    default = config.load_train(bare)
    assert (shown.descriptor, shown.fit, shown.baseline) == (default.descriptor, default.fit, default.baseline)
    assert (shown.loss.energy, shown.loss.forces) == (default.loss.energy, default.loss.forces)


def test_the_commands_that_sample_label_and_train_work_one_after_the_other(training: Path) -> None:
    trained, swept, _, sampled, selected = blocks("console")  # the last but one makes the data of the first
    path = training / "fitted.toml"
    small = (
        path.read_text(encoding="utf-8").replace("level = 12", "level = 6").replace("iterations = 50", "iterations = 2")
    )
    assert small != path.read_text(encoding="utf-8")
    path.write_text(small, encoding="utf-8")
    for line in "".join([sampled, selected, trained, swept]).splitlines():
        command, *arguments = shlex.split(line)
        answer = mlmd(*arguments)
        assert command == "mlmd"
        assert answer.code == 0, (line, answer.err)
    assert (training / "compared.sweep" / "pareto.png").is_file()
    listed = re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| (.+?) \|", after("fitted.run"), re.MULTILINE)[2:]))
    assert {"fitted.mlmd", "parity_train.png"} <= set(listed)
    said = (training / "fitted.run" / "messages.log").exists()  # in this training there may be nothing to say
    assert "| `messages.log` | only where there was something to say: " in after("fitted.run")
    absent = [] if said else ["messages.log"]
    assert [name for name in listed if not (training / "fitted.run" / name).exists()] == absent


def test_the_commands_that_learn_and_predict_a_property_work_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = next(block for block in blocks("toml") if "[property]" in block)
    Path("gaps.toml").write_text(text, encoding="utf-8")
    names = ("CH4", "H2O", "NH3", "CO2", "C2H2", "C2H4", "C2H6", "CH3OH", "HCN", "H2CO")
    structures = [molecule(name) for name in names]
    for atoms in structures:
        atoms.info["gap"] = 30.0 / len(atoms)
    write("molecules.extxyz", structures)
    write("new.xyz", structures[:2])
    for line in blocks("console")[2].splitlines():
        command, *arguments = shlex.split(line)
        answer = mlmd(*arguments)
        assert command == "mlmd"
        assert answer.code == 0, (line, answer.err)
    assert len(Path("gaps.csv").read_text().splitlines()) == 3


def after(folder: str) -> str:
    """The table of the files in a folder."""
    text = README.read_text(encoding="utf-8").partition(f"| file of `{folder}/` |")
    return "| file |" + text[2].partition("\n\n")[0]


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
    tables += tuple(member for table in tables for member in table.options.get("members", ()))
    assert all(table.path is None or table.path.parent in (tmp_path, models.FOLDER) for table in tables)
    without_file = [table for table in tables if table.path is None and table.kind != "committee"]
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


def test_the_lines_that_load_files_in_python_are_calls_that_are_possible() -> None:
    calls = re.findall(r"`(\w+)\.load\((.+?)\)`", README.read_text(encoding="utf-8"))
    assert {"nep_file", "hdnnp"} < {module for module, _ in calls}
    for module, arguments in calls:
        call = ast.parse(f"load({arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        load = import_module(f"mlmd.potentials.{module}").load
        given = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        inspect.signature(load).bind(*map(ast.literal_eval, call.args), **given)
        with pytest.raises(MlmdError, match=f"{ast.literal_eval(call.args[0]).rstrip('/')}.*(not exist|no such)"):
            load(*map(ast.literal_eval, call.args), **given)


def test_every_command_is_listed() -> None:
    listed = set(re.findall(r"^\| `mlmd (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_input_is_listed() -> None:
    listed = re.findall(r"`(\w+\.toml)`", after("inputs"))
    assert sorted(listed) == sorted(path.name for path in (README.parent / "inputs").glob("*.toml"))


def test_errors_of_descriptors_and_fits_are_compared_with_those_of_snap() -> None:
    snap = {
        line.split(" | ")[0].strip("| "): float(line.split(" | ")[7]) for line in marked("accuracy").splitlines()[2:]
    }
    head, _, *lines = marked("matrix").splitlines()
    elements = re.findall(r"(\w+): forces", head)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({(row[0], row[1]) for row in cells}) == len(cells) == 16
    compared = 0
    for row in cells:
        assert len(row) == 2 + 2 * len(elements)
        for element, text in zip(elements, row[2::2], strict=True):
            if text != "–":
                forces, ratio = (float(one) for one in re.findall(r"[\d.]+", text))
                assert ratio == pytest.approx(forces / snap[element], abs=0.01)
                assert text.startswith("**") == (ratio > 1.5)
                compared += 1
    assert compared >= 16


def test_every_structure_format_is_listed() -> None:
    from mlmd.io.structures import FORMATS

    text = README.read_text(encoding="utf-8")
    assert [ending for ending in FORMATS if f"`{ending}`" not in text] == []


def test_every_file_of_ours_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:benchmarks|tests|inputs|examples|mlmd)/[\w./]*)`", README.read_text(encoding="utf-8"))
    assert len(named) > 5
    assert [name for name in named if not (README.parent / name).exists()] == []


def test_no_benchmark_looks_for_data_where_a_user_has_none() -> None:
    asking = [path for path in (README.parent / "benchmarks").glob("*.py") if '"--data"' in path.read_text("utf-8")]
    assert len(asking) > 8
    assert [path.name for path in asking if not re.search(r'"--data".*required=True', path.read_text("utf-8"))] == []


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
    rewrite()
