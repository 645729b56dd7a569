"""The report: one page that needs nothing else, says what ran, and trusts no name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import ase
import numpy as np
import pytest
from made_runs import stage, walk, write_log, write_run

from mlmd import analysis
from mlmd.errors import StorageError
from mlmd.report import write_report
from mlmd.rundir import StageRecord, open_run

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Tags with their attributes, and text; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.fixture
def stages() -> tuple[StageRecord, ...]:
    return (
        stage(0, 0, 0, kind="minimize", temperature=None),
        stage(1, 0, 500, temperature=(900.0, 300.0)),
        stage(2, 500, 3000),
    )


@pytest.fixture
def run(tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]) -> Path:
    atoms = ase.Atoms("Li8Cl8", positions=12.0 * rng.random((16, 3)), cell=[12.0] * 3, pbc=True)
    positions = atoms.positions + np.concatenate([walk(rng, 351, 8, 0.3), walk(rng, 351, 8, 0.05)], axis=1)
    wanted = {"analysis": {"run": ["diffusion", "rdf"], "charges": {"Li": 1.0}, "drift": "cell"}}
    folder = write_run(tmp_path / "made.run", atoms, stages, positions, input=wanted, versions={"openmm": "8.6.1"})
    write_log(folder, stages, rng)
    return folder


def page_of(folder: Path) -> Page:
    return Page(write_report(open_run(folder)).read_text(encoding="utf-8"))


def digest(text: str) -> str:
    """As a policy for content names an inline script or style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_the_page_needs_no_other_file(run: Path) -> None:
    page = page_of(run)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or tag != "img"
        assert tag != "script" or not attributes
        assert tag == "a" or "href" not in attributes
    text = (run / "report.html").read_text()
    assert "url(" not in text
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 4


def test_the_browser_is_told_to_load_nothing_and_to_run_our_script_alone(run: Path) -> None:
    page = page_of(run)
    text = (run / "report.html").read_text()
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    scripts, styles = (re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S) for tag in ("script", "style"))
    assert policy is not None and policy.split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src {digest(styles[0])}", f"script-src {digest(scripts[0])}",
        "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert len(scripts) == len(styles) == 1 and text.count("<script") == 1
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon|eval|innerHTML)\b", scripts[0])


def test_links_lead_within_the_page_or_to_papers(run: Path) -> None:
    page = page_of(run)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and len(links) > 5
    assert not [link for link in links if link and not link.startswith("https://doi.org/10.") and link[1:] not in ids]


def test_the_page_says_what_ran_and_what_came_out(run: Path) -> None:
    text = page_of(run).text
    assert "made.run" in text and "done" in text and "16 atoms" in text
    assert "900 → 300 K" in text and "1 minimize" in text
    assert re.search(r"D of Li", text)
    data = json.loads((run / "analysis" / "diffusion.json").read_text())
    shown = str(analysis.estimate.from_dict(data["elements"]["Li"]["D"]))
    assert shown in text
    assert str(analysis.estimate.from_dict(data["conductivity"])) in text
    assert "Radial distribution functions" in text and "Li-Cl" in text
    assert "openmm 8.6.1" in text and "0" * 64 in text


def test_means_are_of_stages_whose_target_is_constant(run: Path) -> None:
    log = (run / "log.csv").read_text().splitlines()
    (run / "log.csv").write_text("\n".join(row for row in log if row.split(",")[1] != "2") + "\n")
    text = page_of(run).text
    ramp, constant = text.split("2 nvt")[1].split("3 nvt")
    assert "(" not in ramp.split("K", 1)[1]
    mean, digits = re.search(r"(\d+\.\d+)\((\d+)\)", constant).groups()  # type: ignore[union-attr]
    assert abs(float(mean) - 300.0) < 5 * int(digits) * 10 ** -len(mean.split(".")[1])


def test_names_from_files_cannot_become_part_of_the_page(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    atoms = ase.Atoms("Ar4", positions=12.0 * rng.random((4, 3)), cell=[12.0] * 3, pbc=True)
    folder = write_run(
        tmp_path / "<b>bold<b>.run", atoms, stages, walk(rng, 351, 4), state=EVIL, seed=EVIL, created=EVIL,
        files={EVIL: {"path": EVIL, "sha256": EVIL}}, versions={EVIL: EVIL}, platform={EVIL: {EVIL: EVIL}},
        input={EVIL: EVIL},
    )  # fmt: skip
    (folder / "input.toml").write_text(EVIL)
    (folder / "messages.log").write_text(EVIL)
    (folder / "analysis").mkdir()
    other = {
        "analysis": EVIL, "notes": [EVIL], "provenance": {},
        EVIL: {EVIL: {EVIL: {"value": 1.0, "error": 0.1, "unit": EVIL, "n_independent": 1}, "notes": [EVIL]}},
    }  # fmt: skip
    (folder / "analysis" / "<i>.json").write_text(json.dumps(other))
    page = page_of(folder)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [
        {}
    ]  # ours, whose digest is in the policy
    assert "i" not in {tag for tag, _ in page.tags}
    assert all(attributes.get("src", "data:").startswith("data:") for _, attributes in page.tags)
    assert page.text.count("alert('x')") >= 10


def test_a_run_that_has_just_begun_has_a_page(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    atoms = ase.Atoms("Ar4", positions=12.0 * rng.random((4, 3)), cell=[12.0] * 3, pbc=True)
    wanted = {"analysis": {"run": ["rdf"]}}
    folder = write_run(tmp_path / "a.run", atoms, stages, walk(rng, 3, 4), state="running", input=wanted)
    text = page_of(folder).text
    assert "running" in text and "simulated, of 7 ps planned" in text
    assert "goes from 900 to 300 K" in text  # why there is no analysis yet
    (folder / "trajectory.dcd").write_bytes((folder / "trajectory.dcd").read_bytes()[:276])
    assert "no frames" in page_of(folder).text


def test_a_torn_log_is_shown_as_far_as_it_goes(run: Path) -> None:
    log = run / "log.csv"
    log.write_bytes(log.read_bytes()[:-9])
    assert "6.96 ps" in page_of(run).text  # the last of 350 rows every 20 fs is torn


def test_a_damaged_result_is_named_and_the_rest_is_shown(run: Path) -> None:
    write_report(open_run(run))
    (run / "analysis" / "diffusion.json").write_text('{"elements": {"Li": {"D": ')
    text = page_of(run).text
    assert "diffusion.json is damaged" in text and "Li-Cl" in text


def test_results_of_a_run_that_has_gone_on_are_marked(
    run: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    assert "analyse again" not in page_of(run).text
    path = run / "analysis" / "diffusion.json"
    data = json.loads(path.read_text())
    data["provenance"]["last_time"] = 5000.0
    path.write_text(json.dumps(data))
    assert "The stage now reaches 7 ps: analyse again." in page_of(run).text


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    first = write_report(open_run(run)).read_bytes()
    assert write_report(open_run(run)).read_bytes() == first


def test_an_analysis_that_cannot_be_done_does_not_stop_the_others(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Ar4", positions=12.0 * rng.random((4, 3)), cell=[12.0] * 3, pbc=True)
    short = write_run(tmp_path / "a.run", atoms, (stage(0, 0, 50),), walk(rng, 6, 4))
    results = analysis.run_all(open_run(short), ["diffusion", "rdf"])
    assert isinstance(results[0], analysis.Unavailable) and "at least 10" in results[0].reason
    assert [one.name for one in results] == ["diffusion", "rdf"]
    assert json.loads(json.dumps([one.to_json() for one in results]))[0]["error"]
    assert not (short / "analysis" / "diffusion.json").exists()
    assert (short / "analysis" / "rdf.json").exists()


def argon_run(folder: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...], **manifest: object) -> Path:
    atoms = ase.Atoms("Ar8", positions=12.0 * rng.random((8, 3)), cell=[12.0] * 3, pbc=True)
    return write_run(folder, atoms, stages, walk(rng, 351, 8), **manifest)


def test_only_analyses_that_were_asked_for_or_done_are_shown(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    folder = argon_run(tmp_path / "a.run", rng, stages)
    text = page_of(folder).text
    assert "Diffusion" not in text and "Radial" not in text and "D of" not in text
    assert not (folder / "analysis").exists()
    analysis.run_all(open_run(folder), ["rdf"])
    text = page_of(folder).text
    assert "Radial" in text and "Diffusion" not in text


def test_a_failed_run_says_why_at_the_top_and_is_not_analysed(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    folder = argon_run(
        tmp_path / "a.run", rng, stages, state="failed", input={"analysis": {"run": ["diffusion"]}}
    )  # fmt: skip
    (folder / "messages.log").write_text("begun\nthe disk is full\n")
    text = page_of(folder).text
    assert "This run failed. the disk is full" in text
    (folder / "crash").mkdir()
    (folder / "crash" / "why.txt").write_text("temperature 9e9 K at step 70 <b>\n")
    text = page_of(folder).text
    assert text.index("temperature 9e9 K at step 70 <b>") < text.index("Stages")
    assert "the run failed" in text and not (folder / "analysis").exists()
    assert "This run failed" not in page_of(argon_run(tmp_path / "b.run", rng, stages)).text


def test_a_biased_stage_is_marked_on_the_page_and_in_its_analyses(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    wanted = {"stage": [{}, {}, {"plumed": {"file": "/a/pull.dat"}}], "analysis": {"run": ["diffusion", "rdf"]}}
    folder = argon_run(tmp_path / "a.run", rng, stages, input=wanted)
    text = page_of(folder).text
    assert "Stage 3: this stage was biased: pull.dat" in text
    for name in ("diffusion", "rdf"):
        data = json.loads((folder / "analysis" / f"{name}.json").read_text())
        assert any("this stage was biased: pull.dat" in note for note in data["notes"])
    write_log(folder, stages, rng)  # whose bias energy is zero throughout: PLUMED only watched
    assert analysis.run_all(open_run(folder), ["rdf"])[0].provenance.bias is None  # type: ignore[union-attr]
    assert "Stage 3: this stage was biased" not in page_of(folder).text


def test_biases_of_the_input_are_told_as_those_of_a_file_are(
    tmp_path: Path, rng: np.random.Generator, stages: tuple[StageRecord, ...]
) -> None:
    bias = [{"kind": "metadynamics"}, {"kind": "upper-wall"}, {"kind": "upper-wall"}]
    tables = [{"kind": "minimize"}, {"kind": "nvt", "bias": []}, {"kind": "nvt", "bias": bias}]
    folder = argon_run(tmp_path / "a.run", rng, stages, input={"stage": tables})
    text = page_of(folder).text
    assert "Stage 3: this stage was biased: metadynamics, upper-wall acted" in text and "Stage 2: this" not in text
    result = analysis.run_all(open_run(folder), ["rdf"])[0]
    assert any("this stage was biased: metadynamics" in note for note in result.to_json()["notes"])


def test_what_was_not_determined_is_neither_a_headline_nor_a_number(tmp_path: Path, rng: np.random.Generator) -> None:
    atoms = ase.Atoms("Li4Y4", positions=12.0 * rng.random((8, 3)), cell=[12.0] * 3, pbc=True)
    ballistic = rng.normal(size=(4, 3)) * np.arange(351.0)[:, None, None]
    positions = np.concatenate([walk(rng, 351, 4), ballistic], axis=1)
    wanted = {"analysis": {"run": ["diffusion"], "charges": {"Li": 1.0, "Y": 3.0}, "drift": "none"}}
    folder = write_run(tmp_path / "a.run", atoms, (stage(0, 0, 3500),), positions, input=wanted)
    text = page_of(folder).text
    assert "D of Li" in text and "D of Y" not in text
    assert "Y – – – –" in text and not re.search(r"\bnan\b|not determined", text)
    assert "conductivity: Y left out: no diffusion coefficient" in text


def test_a_run_of_a_minimization_alone_has_a_page(tmp_path: Path, rng: np.random.Generator) -> None:
    minimize = (stage(0, 0, 0, kind="minimize", temperature=None),)
    folder = argon_run(tmp_path / "a.run", rng, minimize, input={"analysis": {"run": ["diffusion"]}})
    (folder / "trajectory.dcd").unlink()
    assert "has no frames: a minimization writes none" in page_of(folder).text


def test_a_page_can_be_written_beside_a_run_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (run / "analysis").write_text("in the way")
    with pytest.raises(StorageError, match="--out"):
        write_report(open_run(run))
    (run / "analysis").unlink()
    path = write_report(open_run(run), tmp_path / "pages")
    assert path == tmp_path / "pages" / "report.html" and "D of Li" in Page(path.read_text()).text
    assert not (run / "analysis").exists() and not (run / "report.html").exists()
