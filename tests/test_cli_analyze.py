"""``mlmd analyze`` and ``mlmd report`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from command_line import mlmd
from made_runs import stage, walk, write_run

from mlmd.io.trajectories import open_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    atoms = ase.Atoms("Li8Cl8", positions=12.0 * rng.random((16, 3)), cell=[12.0] * 3, pbc=True)
    stages = (stage(0, 0, 1000), stage(1, 1000, 2000, temperature=(500.0, 500.0)))
    return write_run(tmp_path / "made.run", atoms, stages, atoms.positions + walk(rng, 301, 16))


def test_diffusion_prints_a_table_and_writes_its_files(run: Path) -> None:
    answer = mlmd("analyze", "diffusion", run, "--charges", "Li=1", "--charges", "Cl=-1")
    assert answer.code == 0, answer.err
    data = json.loads((run / "analysis" / "diffusion.json").read_text())
    assert set(data["elements"]) == {"Li", "Cl"} and data["temperature_K"] == 500.0
    for word in ("Stage 2 (nvt)", "200 frames", "Li", "Nernst–Einstein conductivity", "S/cm at 500 K", "diffusion"):
        assert word in answer.out
    assert (run / "analysis" / "diffusion.csv").exists() and (run / "analysis" / "diffusion.png").exists()


@pytest.mark.parametrize("name", ["diffusion", "rdf"])
def test_json_is_all_that_json_prints(run: Path, name: str) -> None:
    answer = mlmd("analyze", name, run, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out) == json.loads((run / "analysis" / f"{name}.json").read_text())


def test_columns_and_figure_go_where_they_are_asked_for(run: Path, tmp_path: Path) -> None:
    columns = tmp_path / "msd.csv"
    for ending, begin in ((".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")):
        figures = [tmp_path / f"{name}{ending}" for name in "ab"]
        for figure in figures:
            answer = mlmd("analyze", "diffusion", run, "--csv", columns, "--figure", figure)
            assert answer.code == 0 and f"{{json,csv,png}}, {columns}, {figure}\n" in answer.out
        assert figures[0].read_bytes().startswith(begin)
        assert figures[0].read_bytes() == figures[1].read_bytes()
    assert columns.read_text() == (run / "analysis" / "diffusion.csv").read_text()
    answer = mlmd("analyze", "diffusion", run, "--figure", tmp_path / "c.PNG")
    assert answer.code == 0 and (tmp_path / "c.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--figure", "msd.jpeg"), 2, "ends with .png, .pdf, .svg"),
        (("--csv", "absent/msd.csv"), 2, "there is no folder absent"),
        (("--csv", "-"), 2, "--csv -: a file is needed"),
        (("--csv", "."), 2, "--csv .: this is a folder"),
        (("--csv", "a.svg", "--figure", "../{here}/a.svg"), 2, "--csv and --figure are both a.svg"),
        (("--csv", "{run}/../made.run/log.csv"), 2, "the run wrote this file"),
        (("--csv", "{run}/run.json"), 2, "the run wrote this file"),
        (("--csv", "/dev/full"), 4, "/dev/full cannot be written: No space left"),
    ],
)
def test_a_file_that_cannot_be_is_told(
    run: Path, options: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (run / "log.csv").write_text("step,stage\n")
    before = sorted(tmp_path.rglob("*"))
    answer = mlmd("analyze", "diffusion", run, *(one.format(run=run, here=tmp_path.name) for one in options))
    assert answer.code == code and message in answer.err, answer
    assert (run / "analysis" / "diffusion.json").exists() == (code == 4)  # what was worked out is not lost
    assert code == 4 or sorted(tmp_path.rglob("*")) == before
    assert (run / "log.csv").read_text() == "step,stage\n" and json.loads((run / "run.json").read_text())


def test_a_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    frames = tmp_path / "frames.extxyz"
    ase.io.write(frames, 2 * [ase.Atoms("Ar2", [[0, 0, 0], [3, 0, 0]], cell=[12.0] * 3, pbc=True)])
    text = frames.read_bytes()
    answer = mlmd("analyze", "rdf", frames, "--csv", tmp_path / "." / "frames.extxyz", "--out", tmp_path)
    assert answer.code == 2 and "reads this file, which would be lost" in answer.err
    assert frames.read_bytes() == text and not (tmp_path / "rdf.json").exists()


def test_one_file_that_fails_does_not_keep_the_other_from_being_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    figure = tmp_path / "msd.svg"
    answer = mlmd(
        "analyze", "diffusion", run, "--csv", "/dev/full", "--figure", figure, "--out", tmp_path / "taken"
    )  # fmt: skip
    assert answer.code == 4 and "/dev/full cannot be written" in answer.err and "Not written: " in answer.err
    assert f"Written: {figure}\n" in answer.out and figure.read_bytes().startswith(b"<?xml")


def test_options_choose_the_frames_and_the_elements(run: Path) -> None:
    options = ("--stage", 1, "--from", "0.5 ps", "--to", "1500", "--element", "Li", "--drift", "Cl", "--json")
    data = json.loads(mlmd("analyze", "diffusion", run, *options).out)
    assert list(data["elements"]) == ["Li"] and data["drift"] == ["Cl"]
    origin = data["provenance"]
    assert (origin["stage"], origin["first_time"], origin["last_time"]) == (1, 500.0, 1500.0)


def test_rdf_takes_its_range(run: Path) -> None:
    data = json.loads(mlmd("analyze", "rdf", run, "--r-max", 8, "--bin", 0.2, "--element", "Li", "--json").out)
    assert (list(data["pairs"]), data["r_max_A"], data["bin_A"]) == (["Li-Li"], 8.0, pytest.approx(0.2))
    assert "half of the cell" in mlmd("analyze", "rdf", run).out


def test_drift_may_be_repeated(run: Path) -> None:
    answers = [
        json.loads(mlmd("analyze", "diffusion", run, *options, "--json").out)
        for options in (("--drift", "Li", "--drift", "Cl"), ("--drift", "Li,Cl"), ())
    ]
    assert [one["drift"] for one in answers] == [["Li", "Cl"], ["Li", "Cl"], "cell"]


def test_a_range_with_too_many_pairs_is_refused_at_once(run: Path) -> None:
    answer = mlmd("analyze", "rdf", run, "--r-max", 3000)
    assert answer.code == 2 and "pairs in every frame" in answer.err and "r_max up to" in answer.err


def test_numbers_are_printed_where_files_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (run / "analysis").write_text("in the way")
    for name in ("diffusion", "rdf"):
        answer = mlmd("analyze", name, run)
        assert answer.code == 0 and "Stage 2 (nvt)" in answer.out and "Written" not in answer.out
        assert "Not written" in answer.err and "--out" in answer.err
        assert json.loads(mlmd("analyze", name, run, "--json").out)["analysis"] == name
    assert mlmd("analyze", "rdf", run, "--out", tmp_path / "elsewhere").err == ""
    assert (tmp_path / "elsewhere" / "rdf.json").exists()
    assert mlmd("report", run, "--out", tmp_path / "elsewhere").code == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()


def test_a_coefficient_that_was_not_determined_is_a_dash_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    atoms = ase.Atoms("Ar8", positions=12.0 * rng.random((8, 3)), cell=[12.0] * 3, pbc=True)
    ballistic = rng.normal(size=(8, 3)) * np.arange(301.0)[:, None, None]
    run = write_run(tmp_path / "a.run", atoms, (stage(0, 0, 3000),), ballistic)
    out = mlmd("analyze", "diffusion", run, "--charges", "Ar=1").out
    assert "nan" not in out and "Ar: D is not determined: no diffusive regime" in out
    assert "no conductivity: Ar left out: no diffusion coefficient" in out


def test_a_table_is_complete_in_a_narrow_terminal(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in mlmd("analyze", "diffusion", run).out


def test_report_says_where_the_page_is(run: Path) -> None:
    answer = mlmd("report", run)
    assert (answer.code, answer.out) == (0, f"Report: {run / 'report.html'}\n")
    assert json.loads(mlmd("report", run, "--json").out) == {"report": str(run / "report.html")}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--stage", 7), 2, "no frames of a stage 7"),
        (("--element", "Na"), 2, "no 'Na'"),
        (("--charges", "Li"), 2, "ELEMENT=CHARGE"),
        (("--charges", "Li=nan"), 2, "finite"),
        (("--charges", "Na=1"), 2, "no 'Na'"),
        (("--charges", "Ar=nan"), 2, "finite"),
        (("--charges", "Li=1,Cl=inf"), 2, "finite"),
        (("--drift", "P,S"), 2, "no 'P'"),
        (("--drift", "Li", "--drift", "cell"), 2, "stand alone"),
        (("--from", "5 parsec"), 2, "not a unit of time"),
        (("--from", "1 ns"), 2, "no frame lies between"),
        (("--stage", 0), 2, "0 is not in the range"),
    ],
)
def test_a_wrong_option_is_answered_in_one_message(
    run: Path, options: tuple[object, ...], code: int, message: str
) -> None:
    answer = mlmd("analyze", "diffusion", run, *options)
    assert answer.code == code and message in answer.err and "Traceback" not in answer.err
    assert answer.out == "" and not (run / "analysis").exists()


def test_a_file_of_another_program_is_analysed_as_a_run_is(run: Path, tmp_path: Path) -> None:
    trajectory = open_run(run)
    frames = [
        ase.Atoms(trajectory.numbers, one, cell=trajectory.cells[0], pbc=True)
        for one in next(trajectory.chunks()).positions
    ]
    ase.io.write(tmp_path / "foreign.extxyz", frames)
    options = ("--unwrapped", "--interval", f"{trajectory.provenance.interval} fs", "--out", tmp_path / "results")
    answer = mlmd("analyze", "diffusion", tmp_path / "foreign.extxyz", *options, "--json")
    ours = json.loads(mlmd("analyze", "diffusion", run, "--json").out)
    assert answer.code == 0, answer.err
    theirs = json.loads(answer.out)
    for element in ("Li", "Cl"):  # the text of the file has eight digits
        assert theirs["elements"][element]["D"]["value"] == pytest.approx(ours["elements"][element]["D"]["value"], 1e-5)
    assert (tmp_path / "results" / "diffusion.json").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("coordination", ("--pair", "Li-Cl", "--cutoff", "Li-Cl=4.1 Å")),
        ("rings", ("--pair", "Li-Cl", "--cutoff", "Li-Cl=4.1 Å")),
        ("bonds", ("--pair", "Li-Cl", "--cutoff", "Li-Cl=4.1 Å")),
    ],
)
def test_who_is_near_whom_does_not_ask_which_way_atoms_went(
    run: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    trajectory = open_run(run)
    frames = [
        ase.Atoms(trajectory.numbers, one, cell=trajectory.cells[0], pbc=True)
        for one in next(trajectory.chunks()).positions[:30]
    ]
    told = []
    for file in ("went.extxyz", "inside.extxyz"):
        ase.io.write(tmp_path / file, frames)
        for one in frames:
            one.wrap()
        answer = mlmd("analyze", name, tmp_path / file, *options, "--interval", "10 fs", "--json", "--out", tmp_path)
        assert answer.code == 0, answer.err
        told.append({key: value for key, value in json.loads(answer.out).items() if key != "provenance"})
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--interval", "1 fs"), "--wrapped: they come back"),
        (("--unwrapped",), '--interval "10 fs"'),
        (("--unwrapped", "--interval", "1 fs", "--stage", 1), "is a file"),
        (("--unwrapped", "--interval", "1 fs", "--from", "1 ns"), "no frame lies between"),
    ],
)
def test_what_a_file_of_another_program_does_not_tell_is_asked_for(
    tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    ase.io.write(tmp_path / "a.extxyz", [ase.Atoms("Ar4", np.eye(4)[:, :3], cell=[9.0] * 3, pbc=True)] * 20)
    answer = mlmd("analyze", "diffusion", tmp_path / "a.extxyz", *options)
    assert answer.code == 2 and message in answer.err
    assert "for files of other programs" in mlmd("analyze", "diffusion", tmp_path, "--unwrapped").err


def test_a_file_without_elements_needs_a_structure(run: Path) -> None:
    answer = mlmd("analyze", "rdf", run / "trajectory.dcd", "--wrapped", "--interval", "1 fs")
    assert answer.code == 2 and "--structure FILE" in answer.err


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    for command in (("analyze", "diffusion"), ("analyze", "rdf"), ("report",)):
        answer = mlmd(*command, tmp_path / "nothing")
        assert answer.code == 4 and "is not a run folder" in answer.err
