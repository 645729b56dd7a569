"""The XML of Gaussian approximation potentials, as far as an input needs it: which files belong to it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from xml.parsers import expat

MAGIC = b"<GAP_params"
_BEGINNING = 4096
"""Bytes that tell what a file is."""


def is_gap(start: bytes) -> bool:
    """Whether a file that begins with these bytes is the XML of a Gaussian approximation potential."""
    return start.lstrip()[:1] == b"<" and (MAGIC in start or b"IP GAP" in start)


def in_folder(name: str) -> bool:
    """Whether a name of points is that of a file in the folder of the XML: points are read from nowhere else."""
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def points_of(path: Path) -> list[Path]:
    """The files of points that lie beside an XML and that it names (`sparseX_filename`), in its order.

    None for other files. Of a file that is damaged, or has a document type, they are those named before: whoever loads
    it will say so.
    """
    names: dict[str, None] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "gpCoordinates" and in_folder(given := attributes.get("sparseX_filename", "")):
            names[given] = None

    def refuse(*_: object) -> None:
        raise ValueError

    if not path.is_file():
        return []
    with path.open("rb") as stream:
        if not is_gap(stream.read(_BEGINNING)):
            return []
        stream.seek(0)
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, refuse
        with suppress(expat.ExpatError, ValueError):
            parser.ParseFile(stream)
    return [file for name in names if (file := path.parent / name).is_file()]
