"""The report as a browser shows it: nothing to complain of, everything drawn, and no request to a network."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import ase.build
import numpy as np
import pytest
from chromium import PROGRAM, Chromium
from made_runs import stage, walk, write_log, write_run

from mlmd.report import write_report, write_report_of
from mlmd.rundir import open_run

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here (Debian: apt-get install chromium)")

EVIL = "<script>document.title = 'broken into'</script><img src=x onerror=\"document.title = 'broken into'\">"
DRAWN = """[...document.querySelectorAll("canvas")].filter(one => one.clientWidth && one.getContext("2d")
    .getImageData(0, 0, one.width, one.height).data.some(value => value)).length"""
CONTRAST = """(() => {
  const light = (text) => {
    const shares = text.match(/[\\d.]+/g).map(x => Number(x) / 255);
    const [r, g, b] = shares.map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  return Math.min(...["body", ".soft", "a", ".state", "thead th"].map(one => {
    const ink = light(getComputedStyle(document.querySelector(one)).color);
    return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
  }));
})()"""
"""The lowest contrast of text to the page, as WCAG 2 defines it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a salt with diffusion and rdf, a bad name in its messages, and an analysis that nobody knows."""
    rng = np.random.default_rng(4)
    atoms = ase.build.bulk("LiCl", "rocksalt", a=5.1, cubic=True) * (2, 2, 2)
    stages = (stage(0, 0, 500, temperature=(900.0, 300.0)), stage(1, 500, 3000))
    path = tmp_path_factory.mktemp("browser") / "salt.run"
    moves = np.where(atoms.numbers[:, None] == 3, 0.3, 0.05) * walk(rng, 351, len(atoms), 1.0)
    wanted = {"analysis": {"run": ["diffusion", "rdf"], "charges": {"Li": 1.0}}, "structure": EVIL}
    write_run(path, atoms, stages, atoms.positions + moves, input=wanted, versions={"openmm": EVIL})
    write_log(path, stages, rng)
    (path / "messages.log").write_text(EVIL)
    (path / "analysis").mkdir()
    (path / "analysis" / "rings.json").write_text(
        json.dumps({"notes": [EVIL], "size": {"value": 6.0, "error": 0.1, "unit": "", "n_independent": 9}})
    )
    (path / "analysis" / "rings.csv").write_text(f"n,share {EVIL}\n" + "\n".join(f"{n},{n / 9}" for n in range(9)))
    write_report(open_run(path))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_page_is_drawn_without_a_complaint_a_request_or_a_sideways_scroll(
    browser: Chromium, folder: Path, width: int, dark: bool
) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    page = folder / "report.html"
    browser.open(page, width, dark=dark)
    browser.value("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.settle()
    n_plots = browser.value("document.querySelectorAll('.panel').length")
    assert n_plots >= 3 + 1 + 2 + 1  # course, MSD, g and n, rings
    assert browser.value(DRAWN) == n_plots + 1  # and the structure
    assert browser.value("[...document.images].every(one => one.complete && one.naturalWidth > 100)")
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value(CONTRAST) >= 4.5  # of WCAG 2, level AA
    assert browser.complaints == [] and browser.value("document.title") == "salt.run – mlmd"
    assert [one for one in browser.requests if not one.startswith("data:image/png")] == [page.resolve().as_uri()]


def test_what_forbids_the_network_does_so(browser: Chromium, folder: Path) -> None:
    browser.open(folder / "report.html")
    asked = browser.value("fetch('https://example.org/').then(() => 'sent', () => 'refused')")
    ran = browser.value(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.ran = true'; "
        "document.body.append(one); return window.ran === true; })()"
    )
    assert (asked, ran) == ("refused", False)
    assert any("Content Security Policy" in one for one in browser.complaints)


def test_dragging_over_a_plot_zooms_all_panels_and_a_double_click_shows_all(browser: Chromium, folder: Path) -> None:
    browser.open(folder / "report.html")
    pixels = "[...document.querySelectorAll('.panel canvas')].slice(0, 3).map(one => one.toDataURL())"
    place = browser.value(
        "(() => { const one = document.querySelector('.panel canvas'); one.scrollIntoView(); "
        "const box = one.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
    )
    browser.settle()
    left, top, wide, high = place
    mouse = {"y": top + high / 2, "button": "left", "clickCount": 1}
    before = browser.value(pixels)
    for kind, share, buttons in (("mousePressed", 0.4, 1), ("mouseMoved", 0.6, 1), ("mouseReleased", 0.6, 0)):
        browser.ask("Input.dispatchMouseEvent", type=kind, x=left + share * wide, buttons=buttons, **mouse)
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=1.0, y=1.0)
    browser.settle()
    zoomed = browser.value(pixels)
    assert all(one != other for one, other in zip(before, zoomed, strict=True))
    browser.value("document.querySelector('.panel canvas').dispatchEvent(new MouseEvent('dblclick'))")
    browser.settle()
    assert browser.value(pixels) == before


def test_the_structure_turns_and_the_theme_changes(browser: Chromium, folder: Path) -> None:
    browser.open(folder / "report.html")
    browser.value("document.querySelector('.structure canvas').scrollIntoView()")
    browser.settle()
    pixels = "document.querySelector('.structure canvas').toDataURL()"
    before = browser.value(pixels)
    press = (
        "document.querySelector('.structure canvas').dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }))"
    )
    browser.value(press)
    browser.settle()
    assert browser.value(pixels) != before
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.value(ground)
    browser.value("document.getElementById('theme').click()")
    assert browser.value(ground) != light
    browser.value("document.getElementById('theme').click(); localStorage.clear()")


def test_without_scripts_and_on_paper_there_are_pictures_and_no_buttons(browser: Chromium, folder: Path) -> None:
    seen = "[...document.querySelectorAll('{}')].filter(one => one.getClientRects().length).length"
    text = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "silent.html").write_text(re.sub("<script>.*</script>", "", text, flags=re.S), encoding="utf-8")
    browser.open(folder / "silent.html", 390)
    assert browser.value(seen.format("img")) == 4 and browser.value(seen.format("button, canvas")) == 0
    browser.open(folder / "report.html")
    browser.ask("Emulation.setEmulatedMedia", media="print")
    browser.settle()
    assert browser.value(seen.format("img")) == 4 and browser.value(seen.format("button, canvas, nav")) == 0
    browser.ask("Emulation.setEmulatedMedia", media="")


def test_several_runs_come_on_one_page(browser: Chromium, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other" / "salt.run")
    page = write_report_of([folder, tmp_path / "other"], tmp_path)
    browser.complaints.clear()
    browser.open(page, 390)
    browser.value("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.settle()
    assert browser.value("document.documentElement.scrollWidth") == 390
    assert browser.value("document.querySelectorAll('details.run').length") == 2 and browser.complaints == []
