"""README and docs/ cannot drift: what they show is validated or run, and their lists and tables are the program's.

``python tests/test_readme.py`` writes the lists of options and the tables of potentials into their pages; the table of
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
from documentation import README, ROOT, blocks, pages, whole_text

from mlmd import config, models
from mlmd.cli import COMMANDS
from mlmd.cli.show import facts_of_models
from mlmd.config.replicas import load_runs
from mlmd.errors import InputError, MlmdError, ModelError, SimulationError, Stopped, StorageError

DATA = Path(os.environ.get("MLMD_DATA", ROOT.parent / "shared" / "data"))

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
    """What stands between the marks of a part that is written by the program."""
    (part,) = re.findall(f"<!-- {name} -->\n(.*)<!-- end of {name} -->", whole_text(), re.DOTALL)
    assert isinstance(part, str)
    return part


def lists_of_options(command: str) -> str:
    """The options of a command's input, each table of the file below a heading that links can name."""
    lines = config.option_table(command).strip().splitlines()
    return "\n" + "".join(f"{line}\n" if not line or line.startswith("|") else f"## {line}\n" for line in lines) + "\n"


def table_of_models() -> str:
    """`mlmd models` as the page of these potentials shows it."""
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
    command = [sys.executable, str(ROOT / "benchmarks" / "accuracy.py"), "--data", str(data / "mlearn")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


PARTS = {
    "options of simulate": lambda: lists_of_options("simulate"),
    "options of train": lambda: lists_of_options("train"),
    "models": table_of_models,
    "notes": list_of_notes,
}
"""Mark in a page -> what must stand there."""


def rewrite() -> None:
    """Put everything that is written by the program into its page."""
    parts = dict(PARTS)
    if (DATA / "mlearn").is_dir():
        parts["accuracy"] = lambda: table_of_errors(DATA)
    for name, made in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        (page,) = (one for one in pages() if start in one.read_text(encoding="utf-8"))
        old = page.read_text(encoding="utf-8")
        before, after = old.index(start) + len(start), old.index(end)
        page.write_text(old[:before] + made() + old[after:], encoding="utf-8")


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


def test_the_readme_can_be_read_in_one_go_and_names_every_page() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 350
    assert sorted(page for page in pages() if page != README) == sorted((ROOT / "docs").rglob("*.md"))


def test_the_speeds_in_the_readme_are_those_of_their_page() -> None:
    words = " ".join(README.read_text(encoding="utf-8").split())
    section = README.read_text(encoding="utf-8").partition("\n## Speed\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) > 5
    measured = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8").splitlines()
    assert set(rows) <= set(measured)
    for program, potential in (("calorine", "NEP"), ("LAMMPS", "SNAP")):
        times = [
            int(ratio)
            for line in measured
            if re.match(rf"\| U?{potential}.*\| {program}", line)
            for ratio in re.findall(r"\((\d+)\)", line.split(program)[1])
        ]
        assert f"{potential} is {min(times)} to {max(times)} times as fast as in {program}" in words


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


# ways to name a potential and sweeps have tests of their own
@pytest.mark.parametrize("shown", [b for b in blocks("toml") if not b.startswith("potential =") and "[sweep]" not in b])
def test_every_input_that_is_shown_is_understood(shown: str, tmp_path: Path) -> None:
    path = tmp_path / "input.toml"
    tables = tomllib.loads(shown)
    if "data" in tables:
        path.write_text(shown, encoding="utf-8")
        assert config.load_train(path).data
        return
    # what a part of an input leaves out
    stage = '[[stage]]\nkind = "nvt"\ntemperature = "300 K"\nduration = "1 ns"\n'
    before = "" if "structure" in tables else 'structure = "a.cif"\ntimestep = "1 fs"\n'
    before += "" if {"structure", "potential"} & set(tables) else 'potential = "Cu"\n'
    before += stage if "bias" in tables else ""
    behind = "" if {"stage", "bias"} & set(tables) else stage
    path.write_text(before + shown + behind, encoding="utf-8")
    runs = [one.config for one in load_runs(path).replicas] if "replicas" in tables else [config.load_simulate(path)]
    assert runs and all(run.stage for run in runs)


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the training of the docs and a run to sample; the current one."""
    fitted = next(block for block in blocks("toml") if block.startswith("data ="))
    (tmp_path / "fitted.toml").write_text(fitted, encoding="utf-8")
    swept = next(block for block in blocks("toml") if "[sweep]" in block)
    (tmp_path / "compared.toml").write_text(swept, encoding="utf-8")
    (tmp_path / "rough.toml").write_text(ROUGH, encoding="utf-8")
    bulk("Cu", cubic=True, a=3.62).repeat(2).write(tmp_path / "copper.extxyz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_training_says_nothing_but_defaults_and_what_it_must(training: Path) -> None:
    # the page explains what happens when nothing is said; only data, groups and card have no default to show
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
    gaps = next(block for block in blocks("toml") if "[property]" in block)
    Path("gaps.toml").write_text(gaps, encoding="utf-8")
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
    table = whole_text().partition(f"| file of `{folder}/` |")[2]
    return "| file |" + table.partition("\n\n")[0]


def potentials() -> list[str]:
    """The lines that show how a potential is named."""
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
    exec(compile(code, "docs", "exec"), {})
    assert capsys.readouterr().out


def test_the_lines_that_load_files_in_python_are_calls_that_are_possible() -> None:
    calls = re.findall(r"`(\w+)\.load\((.+?)\)`", whole_text())
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
    assert sorted(listed) == sorted(path.name for path in (ROOT / "inputs").glob("*.toml"))


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

    shown = whole_text()
    assert [ending for ending in FORMATS if f"`{ending}`" not in shown] == []


def test_every_file_of_ours_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:benchmarks|tests|inputs|examples|docs|mlmd)/[\w./]*)`", whole_text())
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_no_benchmark_looks_for_data_where_a_user_has_none() -> None:
    asking = [path for path in (ROOT / "benchmarks").glob("*.py") if '"--data"' in path.read_text("utf-8")]
    assert len(asking) > 8
    assert [path.name for path in asking if not re.search(r'"--data".*required=True', path.read_text("utf-8"))] == []


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", whole_text(), re.MULTILINE)}
    errors: list[type[MlmdError]] = [MlmdError, *MlmdError.__subclasses__()]
    assert {InputError, SimulationError, StorageError, ModelError, Stopped} <= set(errors)
    assert listed == {0, *(error.exit_code for error in errors)}


def test_the_map_shows_every_part_of_the_package() -> None:
    package = ROOT / "mlmd"
    drawn = next(block for block in blocks("") if block.startswith("mlmd/"))
    parts = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    shown = set(re.findall(r"\b(\w+\.py|\w+(?=/ ))", drawn))
    assert {part for part in parts if not part.startswith("__")} - shown == set()


if __name__ == "__main__":
    rewrite()
