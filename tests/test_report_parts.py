"""What the report is made of: curves of few points, methods and their references, the structure, several runs."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
import pytest
from made_runs import stage, walk, write_log, write_run

from mlmd.config import load_simulate
from mlmd.config.resolve import resolved
from mlmd.errors import StorageError
from mlmd.report import write_report, write_report_of
from mlmd.report.course import parts_of
from mlmd.report.curves import from_table, packed, running_mean, thinned
from mlmd.report.formulas import MEANINGS
from mlmd.report.methods import methods, neat
from mlmd.report.references import PAPERS, bibliography, from_words
from mlmd.report.results import section
from mlmd.report.structure import MAX_ATOMS, view, views
from mlmd.rundir import Run, open_run

INPUTS = Path(__file__).parents[1] / "inputs"
SAID_BY_PLUMED = (  # as PLUMED 2.11 prints them
    "The PLUMED consortium, Nat. Methods 16, 670 (2019)",
    "Tribello, Bonomi, Branduardi, Camilloni, and Bussi, Comput. Phys. Commun. 185, 604 (2014)",
    "Laio and Parrinello, PNAS 99, 12562 (2002)",
    "Barducci, Bussi, and Parrinello, Phys. Rev. Lett. 100, 020603 (2008)",
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_thinned_curve_keeps_its_ends_and_every_spike(rng: np.random.Generator) -> None:
    y = rng.normal(size=100_000)
    y[[31_415, 77_777]] = 50.0, -60.0
    x, few = thinned(np.arange(len(y)) / 10.0, y)
    assert len(few) <= 2002 and (np.diff(x) > 0.0).all()
    assert {50.0, -60.0, y[0], y[-1]} <= set(few) and (y[np.rint(10.0 * x).astype(int)] == few).all()


def test_a_running_mean_does_not_look_beyond_its_stage() -> None:
    y = np.array([0.0, 3.0, 6.0, 100.0, 100.0, 106.0])
    parts = parts_of(np.array([1, 1, 1, 3, 3, 3]))
    mean = running_mean(y, parts, 3)
    assert mean.tolist() == [1.5, 3.0, 4.5, 100.0, 102.0, 103.0]  # by hand; shorter at the borders


def test_small_changes_of_large_energies_survive_the_packing() -> None:
    energies = -54_321.0 + 1e-5 * np.sin(np.arange(500))
    told = packed(energies)
    back = told["from"] + np.frombuffer(base64.b64decode(told["data"]), "<f4").astype(float)
    assert np.abs(back - energies).max() < 2e-11  # as a sum in 64 bits is rounded; in 32 bits without the offset 2e-3


def test_curves_come_with_their_errors_and_over_their_own_axis(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(
        "q [1/Å],S Li,S Li error,S Cl,S Cl error,n scatter,r [Å],g\n"
        + "".join(f"{q},{q},0.1,{2 * q},0.2,5,{10 - 0 * q + q / 2},1\n" for q in range(4))
        + ",,,,,,20,2\n"
    )
    over_q, over_r = from_table(table)
    assert (over_q.x_label, over_r.x_label) == ("q (1/Å)", "r (Å)")
    assert [[one.name for one in panel.curves] for panel in over_q.panels] == [["Li", "Cl"]]
    assert over_q.panels[0].curves[1].error is not None and (over_q.panels[0].curves[1].error == 0.2).all()
    assert over_q.panels[0].curves[0].y.tolist() == [0, 1, 2, 3] and len(over_r.panels[0].curves[0].y) == 5


@pytest.mark.parametrize(
    "text", ["x,y,F\n0,0,1\n0,1,2\n1,0,3\n", "site,class\n0,A\n1,B\n2,C\n", "", "a,b\n1,2\n3\n", "a\n1\n2\n3\n"]
)
def test_tables_that_are_no_curves_are_not_drawn(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert from_table(tmp_path / "a.csv") == ()


def test_numbers_and_notes_of_a_result_are_found_however_deep_they_lie(tmp_path: Path) -> None:
    energy = {"value": 0.25, "error": 0.01, "low": 0.23, "high": 0.27, "unit": "eV"}
    points = [
        {"temperature_K": kelvin, "value": {"value": 1e-5, "error": 1e-6, "unit": "cm²/s", "n_independent": 9},
         "notes": ["slow"] * (kelvin == 300.0)}
        for kelvin in (300.0, 400.0)
    ]  # fmt: skip
    one = {
        "laws": {"one line": {"parameters": {"E": energy}}},
        "points": points,
        "notes": ["300 K (a.run): slow", "few"],
    }
    (tmp_path / "odd.json").write_text(json.dumps({"quantities": {"D": one}, "notes": ["of all"], "n_runs": 2}))
    found = section("odd", tmp_path)
    assert [table.heads[0] for table in found.tables] == [
        "quantities · D · laws · one line", "quantities · D · points", "quantity",
    ]  # fmt: skip
    assert found.tables[0].rows == (("parameters", "0.250(10) eV"),)
    assert found.tables[1].rows == (("300.0", "1.00(10)e-05 cm²/s"), ("400.0", "1.00(10)e-05 cm²/s"))
    assert found.notes == ("of all", "D: 300 K (a.run): slow", "D: few") and found.title == "Odd"


def run_of(folder: Path, name: str, atoms: ase.Atoms, **manifest: Any) -> Run:
    """A run that has just begun with an input of the project."""
    config = load_simulate(INPUTS / name)
    timestep = config.timestep
    records, begin = [], 0
    for index, one in enumerate(config.stage):
        steps = one.n_steps(timestep)
        kelvin = (300.0, 300.0) if one.kind in ("nvt", "npt") else None
        bars = (1.0, 1.0) if one.kind == "npt" else None
        record = stage(index, begin, steps, kind=one.kind, temperature=kelvin, pressure=bars)
        records.append(replace(record, timestep=timestep))
        begin += steps
    versions = {"openmm": "8.6.1"}
    write_run(
        folder, atoms, tuple(records), atoms.positions[None], input=resolved(config), versions=versions, **manifest
    )
    return open_run(folder)


@pytest.fixture
def salt() -> ase.Atoms:
    return ase.Atoms("Li3YCl6", positions=np.arange(30.0).reshape(10, 3), cell=[8.0, 8.0, 9.0, 90, 90, 120], pbc=True)


def test_the_methods_name_what_was_set_and_every_number_leads_to_a_paper(tmp_path: Path, salt: ase.Atoms) -> None:
    found = methods(run_of(tmp_path / "a.run", "quickstart.toml", salt), ["diffusion"])
    for words in (
        "10 atoms, from a 2 × 1 × 2 supercell of li3ycl6.cif", "angles 90, 90, 120°", "OpenMM 8.6.1", "Li3YCl6.mlmd",
        "cutoff 5.0 Å", "errors (RMSE) for its test set: energy 0.566 meV/atom", "time step was 3 fs",
        "drawn at 2000 K", "seed was 1", "by FIRE in ASE, to forces below 0.05 eV/Å or for", "for 3 ps",
        "Langevin thermostat (middle scheme, friction 1 per ps)", "for 48 ps",
        "Nosé–Hoover chain (3 thermostats, 10 per ps)", "every 60 fs",
    ):  # fmt: skip
        assert words in found.text
    marks = [int(mark) for group in re.findall(r"\[([\d, ]+)\]", found.text) for mark in group.split(", ")]
    assert set(marks) == set(range(1, len(found.references) + 1)) and marks[0] == 1
    shown = {one.key for one in found.references}
    assert {"openmm8", "middle", "chains", "fire", "ase", "mtp", "bayesian-msd", "geyer", "qi2021"} == shown
    assert found.bibtex.count("@article{") == len(shown) and found.bibtex.count("{") == found.bibtex.count("}")


@pytest.mark.parametrize(
    ("platform", "words", "paper"),
    [
        ({"openmm": "Reference"}, "on OpenMM 8.6.1.", "openmm8"),
        ({"engine": "native"}, "by its own compiled steps.", None),
        ({"engine": "lammps", "lammps": "2025.7.22", "ranks": 4}, "on LAMMPS 2025.7.22, on 4 processes.", "lammps"),
    ],
)
def test_the_methods_name_what_moved_the_atoms(
    platform: dict[str, Any], words: str, paper: str | None, tmp_path: Path, salt: ase.Atoms
) -> None:
    found = methods(run_of(tmp_path / "a.run", "quickstart.toml", salt, platform=platform))
    sentence = found.text.partition(" The time step")[0]
    assert words in re.sub(r" \[[\d, ]+\]", "", sentence)
    assert {one.key for one in found.references} & {"openmm8", "lammps"} == ({paper} if paper else set())


def test_the_methods_do_not_claim_what_has_not_been_run(tmp_path: Path, salt: ase.Atoms) -> None:
    plan = "has not finished (stopped): what is said of its stages is as planned"
    assert plan in methods(run_of(tmp_path / "a.run", "quickstart.toml", salt, state="stopped")).text
    assert "not finished" not in methods(run_of(tmp_path / "b.run", "quickstart.toml", salt)).text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deposit_copper.toml", "deposition of Cu for 44 ps with speeds of a source at 1500 K, direction cosine"),
        ("metadynamics.toml", "PLUMED 2.11.0 acted as told by metadynamics.dat"),
        ("eabf.toml", "an adaptive biasing force acted on"),
        ("argon.toml", "a Lennard-Jones potential"),
        ("li3ycl6.toml", "a moment tensor potential"),
    ],
)
def test_the_methods_know_every_kind_of_input(tmp_path: Path, salt: ase.Atoms, name: str, words: str) -> None:
    run = run_of(tmp_path / "a.run", name, salt, citations=list(SAID_BY_PLUMED))
    (run.path / "messages.log").write_text("bias of x.dat by PLUMED 2.11.0, kernel /somewhere\n")
    found = methods(run)
    assert words in found.text and not re.search(r"None|nan|[{}?]|\[\]", found.text)
    marks = [int(mark) for group in re.findall(r"\[([\d, ]+)\]", found.text) for mark in group.split(", ")]
    assert list(dict.fromkeys(marks)) == list(range(1, len(found.references) + 1))


def described(folder: Path, kind: str, atoms: ase.Atoms, table: dict[str, Any]) -> str:
    """What is said of a run of one stage with such a table in its input."""
    record = stage(0, 0, 30, kind=kind)
    given = {"stage": [{"kind": kind, **table}], "timestep": "2.0 fs", "output": {"trajectory_every": "20.0 fs"}}
    write_run(folder, atoms, (record,), atoms.positions[None], input=given)
    return methods(open_run(folder)).text


def test_the_methods_of_a_rerun_do_not_say_that_atoms_moved(tmp_path: Path, salt: ase.Atoms) -> None:
    table = {"trajectory": "/somewhere/odd{1}.xyz", "first": 3, "last": 20, "every": 4}
    text = described(tmp_path / "a.run", "rerun", salt, table)
    assert "every 4th of the frames from number 3 to number 20 (counted from 0) of odd{1}.xyz" in text
    assert not re.search("dynamics|velocities|time step|Frames were kept| ps", text)


def test_the_methods_of_a_deposition_tell_its_beam_and_its_bath(tmp_path: Path, salt: ase.Atoms) -> None:
    beam = {"energy": "0.2 eV", "direction": "normal", "angle": "45.0 deg", "azimuth": "10.0 deg"}
    bath = {"temperature": "300.0 K", "below": "6.2 Å", "above": "2.5 Å", "elements": ["Cu"], "friction": "1.0 1/ps"}
    table = {"species": [{"file": "o2{a}.xyz"}], "every": "1000.0 fs", "beam": beam, "bath": bath}
    text = described(tmp_path / "a.run", "deposit", salt, table)
    assert "Deposition of o2{a}.xyz" in text and "direction 45 deg from the normal, azimuth 10 deg" in text
    assert "atoms of Cu below 6.2 Å and above 2.5 Å were kept at 300 K by Langevin dynamics" in text
    assert "friction 1 per ps" in text


@pytest.mark.parametrize(("factor", "tempered"), [("off", False), (10.0, True)])
def test_metadynamics_with_hills_of_one_height_is_not_called_well_tempered(
    tmp_path: Path, salt: ase.Atoms, factor: object, tempered: bool
) -> None:
    bias = {"kind": "metadynamics", "cv": [{"kind": "distance"}], "bias_factor": factor}
    text = described(tmp_path / "a.run", "nvt", salt, {"bias": [bias]})
    assert ("well-tempered" in text) == tempered and "metadynamics acted on distance" in text


def test_a_paper_that_is_named_in_words_is_known_and_listed_once() -> None:
    keys = [from_words(words).key for words in SAID_BY_PLUMED]
    assert keys == ["plumed", "plumed2", "metadynamics", "well-tempered"]
    other = from_words("J. Qi et al., Mater. Today Phys. 21, 100463 (2021), doi:10.1016/j.mtphys.2021.100463")
    assert (other.authors, other.journal, other.volume, other.doi) == (
        "J. Qi and others", "Mater. Today Phys.", "21", "10.1016/j.mtphys.2021.100463",
    )  # fmt: skip
    odd = from_words("in preparation } \\input{secrets}")
    assert odd.words == "in preparation } \\input{secrets}" and "\\" not in odd.bibtex()
    keys = re.findall(r"@\w+\{([^,]+),", bibliography([other, other, odd]))
    assert len(keys) == len(set(keys)) == 3


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("Müller, Z. Phys. 12, 3 (1999)", "muller1999"),
        ("Mu\u0308ller, Z. Phys. 12, 3 (1999)", "muller1999"),
        ("Øksendal and Łoś, J. Test 1, 2 (2001)", "oksendal2001"),
        ("Иванов, Ж. эксп. теор. физ. 5, 10 (1980)", "paper1980"),
        ("in preparation", "in"),
        ("2019", "paper2019"),
    ],
)
def test_keys_of_bibtex_are_of_letters_that_bibtex_knows(words: str, key: str) -> None:
    assert from_words(words).key == key
    assert f"{{{key}," in bibliography([from_words(words)])


def test_every_paper_is_complete_and_every_analysis_names_papers_that_are_there() -> None:
    for one in PAPERS.values():
        assert re.fullmatch(r"10\.\d{4,9}/\S+", one.doi) and 1900 < int(one.year) < 2100 and one.pages and one.volume
        assert from_words(one.words) == one == from_words(f"somebody, doi:{one.doi}")
    assert len({one.doi for one in PAPERS.values()}) == len(PAPERS)
    assert {key for one in MEANINGS.values() for key in one.papers} <= PAPERS.keys()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("3000.0 fs", "3 ps"), ("2.5e6 fs", "2.5 ns"), ("60.0 fs", "60 fs"), ("1.0 1/ps", "1 per ps"),
        ("20 eV/Å^2", "20 eV/Å²"), (10.0, "10"), ("auto", "auto"), ("-1.6 Å", "-1.6 Å"),
    ],
)  # fmt: skip
def test_quantities_are_written_as_people_write_them(given: object, shown: str) -> None:
    assert neat(given) == shown


def test_atoms_are_shown_in_the_cell_with_the_bonds_of_molecules() -> None:
    methane = ase.Atoms(
        "CH4", [[0, 0, 0], [0.63] * 3, [-0.63, -0.63, 0.63], [0.63, -0.63, -0.63], [-0.63, 0.63, -0.63]]
    )
    assert sorted(map(tuple, view("", methane).bonds.tolist())) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    far = ase.Atoms("Cu2", [[-7.0, 1.0, 1.0], [23.5, 1.0, 1.0]], cell=[5.0] * 3, pbc=True)
    shown = view("", far)
    assert shown.positions == pytest.approx(np.array([[3.0, 1.0, 1.0], [3.5, 1.0, 1.0]])) and len(shown.bonds) == 0


def test_of_a_large_structure_a_slice_is_shown_and_told(rng: np.random.Generator) -> None:
    shown = view("", ase.Atoms("Cu20000", 100.0 * rng.random((20_000, 3)), cell=[100.0] * 3, pbc=True))
    assert len(shown.numbers) == MAX_ATOMS and "Of 20,000 atoms" in shown.note
    assert np.ptp(shown.positions[:, 1]) == pytest.approx(100.0 * MAX_ATOMS / 20_000, rel=0.05)


def test_the_last_frame_is_that_of_the_crash_or_of_the_end_or_the_last_so_far(tmp_path: Path) -> None:
    atoms = ase.Atoms("Ar2", [[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]], cell=[9.0] * 3, pbc=True)
    folder = write_run(
        tmp_path / "a.run", atoms, (stage(0, 0, 20),), atoms.positions + np.arange(3.0)[:, None, None], state="running"
    )
    assert [(one.name, float(one.positions[0, 0])) for one in views(open_run(folder))] == [
        ("first frame", 1.0), ("last frame so far", 3.0),
    ]  # fmt: skip
    ase.io.write(folder / "final.extxyz", ase.Atoms("Ar3", np.full((3, 3), 5.0), cell=[9.0] * 3, pbc=True))
    assert [len(one.numbers) for one in views(open_run(folder))] == [2, 3]  # as after a deposition
    (folder / "crash").mkdir()
    ase.io.write(folder / "crash" / "last.extxyz", [atoms, atoms])
    (folder / "run.json").write_text((folder / "run.json").read_text().replace('"running"', '"failed"'))
    assert views(open_run(folder))[1].name == "where it failed"
    atoms.positions[:] = np.nan
    ase.io.write(folder / "crash" / "last.extxyz", [atoms, atoms])
    assert [one.name for one in views(open_run(folder))] == ["first frame"]  # of what failed there is nothing to show
    (folder / "crash" / "last.extxyz").write_text("2\ntorn")
    assert [one.name for one in views(open_run(folder))] == ["first frame"]


def argon(folder: Path, rng: np.random.Generator, *, n_steps: int = 3000, **manifest: Any) -> Path:
    atoms = ase.Atoms("Ar8", positions=12.0 * rng.random((8, 3)), cell=[12.0] * 3, pbc=True)
    stages = (stage(0, 0, n_steps),)
    write_run(folder, atoms, stages, walk(rng, 51, 8), **manifest)
    write_log(folder, stages, rng)
    return folder


def test_a_log_of_a_hundred_thousand_lines_makes_a_small_page(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = argon(tmp_path / "a.run", rng, n_steps=1_000_000)
    (folder / "messages.log").write_text("\n".join(f"message {number} of many" for number in range(100_000)))
    page = write_report(open_run(folder)).read_text(encoding="utf-8")
    assert len(page) < 400_000
    assert "Of 100,000 lines of the log the lowest and highest of every 100" in page
    assert "99,800 earlier ones are in messages.log" in page and "message 99999 of many" in page


def test_runs_come_beside_each_other_and_those_that_cannot_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    result = {"value": 2.5, "error": 0.1, "unit": "mPa s", "n_independent": 9}
    for name in ("300K", "400K", "500K"):
        folder = argon(tmp_path / "all.run" / name, rng, state="stopped" if name == "400K" else "done")
        if name == "400K":
            (folder / "analysis").mkdir()
            (folder / "analysis" / "stickiness.json").write_text(
                json.dumps({"stickiness": result, "notes": ["sticky"]})
            )
    (tmp_path / "all.run" / "500K" / "log.csv").write_text("step,stage\n1,2,3\n")
    replicas = {"format": "mlmd-replicas", "version": 1, "replicas": ["400K", "300K", "500K", "600K"]}
    (tmp_path / "all.run" / "replicas.json").write_text(json.dumps(replicas))
    path = write_report_of([tmp_path / "all.run"])
    page = path.read_text(encoding="utf-8")
    assert path == tmp_path / "all.run" / "report.html" and "2 runs: 1 stopped, 1 done" in page
    assert page.index(">400K<") < page.index(">300K<") and "2.50(10) mPa s" in page and "sticky" in page
    assert "500K is not shown" in page and "Not begun: 600K." in page
    assert page.count('<details class="run"') == 2


def test_runs_with_the_same_name_are_told_apart(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [argon(tmp_path / place / "a.run", rng) for place in ("here", "there")]
    (tmp_path / "now").mkdir()
    monkeypatch.chdir(tmp_path / "now")
    page = write_report_of([*paths, paths[0]]).read_text(encoding="utf-8")
    assert "here/a.run" in page and "there/a.run" in page and "2 runs: 2 done" in page
    assert (tmp_path / "now" / "report.html").exists()
    with pytest.raises(StorageError, match="is not a run folder"):
        write_report_of([paths[0], tmp_path / "now"])
