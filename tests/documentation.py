"""What a user reads: README.md and the pages of docs/ in the order in which it names them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def pages() -> list[Path]:
    """The README and every page that it names."""
    named = re.findall(r"\]\((docs/[\w-]+\.md)", README.read_text(encoding="utf-8"))
    return [README, *(ROOT / name for name in dict.fromkeys(named))]


def whole_text() -> str:
    """All pages, one after the other."""
    return "\n".join(page.read_text(encoding="utf-8") for page in pages())


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", whole_text(), re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == language]
