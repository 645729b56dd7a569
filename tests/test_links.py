"""Links lead somewhere: files and headings that pages of the repository name exist, as GitHub shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from documentation import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def prose(page: Path) -> str:
    """A page without its blocks of code, in which a bracket is no link and # no heading."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: Path) -> list[str]:
    """What links call the headings: small letters without punctuation, hyphens for blanks, numbered where alike."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading)
        name = re.sub(r"[^\w -]", "", shown.strip().lower()).replace(" ", "-")
        number = len([one for one in found if re.fullmatch(re.escape(name) + r"(-\d+)?", one)])
        found.append(f"{name}-{number}" if number else name)
    return found


def links(page: Path) -> Iterator[str]:
    """Where the links and pictures of a page lead, inside the repository."""
    # a link in `code` is none
    for target in re.findall(r"(?:\]\(|src=\")([^)\s\"]+)[)\"]", re.sub(r"`[^`]*`", "", prose(page))):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        there = not name or (target.is_relative_to(ROOT.resolve()) and target.exists())
        if not there or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    assert broken(page) == []


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# One: `a_b`!\n\n# One a_b\n\n```\n# two\n```\n\n[x](#one-a_b) [x](#one-a_b-1) [x](#two) `[x](y)` [x](https://a.b)\n"
    page.write_text(
        f'{text}[x](none.md) <img src="none.png"> [x]({ROOT / "README.md"}#none)\n[x]({ROOT / "README.md"}#an-input)',
        encoding="utf-8",
    )
    assert broken(page) == ["#two", "none.md", "none.png", f"{ROOT / 'README.md'}#none"]


def test_pages_are_joined_by_links() -> None:
    assert sum(len(list(links(page))) for page in PAGES) > 80
