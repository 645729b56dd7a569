"""Programs for a GPU, put together from the files of `src`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "src"


def program(name: str, macros: Mapping[str, object], beginning: str) -> str:
    """The text of a program, with no include left.

    Args:
        name: of a file in `src`.
        macros: sizes and choices that its text leaves open, by name; "real" is the type of its numbers.
        beginning: the file that says what threads are, "device.cuh" or "host.cuh".
    """
    defined = "".join(
        f"typedef {value} {macro};\n" if macro == "real" else f"#define {macro} {value}\n"
        for macro, value in macros.items()
    )
    included: set[str] = set()
    return defined + _text(beginning, included) + _text(name, included)


def _text(name: str, included: set[str]) -> str:
    """A file with those that it includes, each the first time; pragmas are in the words of NVRTC."""
    if name in included:
        return ""
    included.add(name)
    text = (FOLDER / name).read_text(encoding="utf-8")
    text = text.replace("#pragma once\n", "").replace("#pragma GCC unroll", "#pragma unroll")
    return re.sub(r'^#include "(.*)"\n', lambda found: _text(found[1], included), text, flags=re.MULTILINE)
