"""The papers behind what mlmd does, and the words of other programs about papers of theirs: as text and as BibTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """A paper; of one that was only named, the words alone."""

    key: str
    """Of BibTeX."""
    words: str
    """As in a list of references."""
    authors: str = ""
    title: str = ""
    journal: str = ""
    volume: str = ""
    pages: str = ""
    year: str = ""
    doi: str = ""

    def bibtex(self) -> str:
        """An entry for a bibliography."""
        if not self.journal:
            return f"@misc{{{self.key},\n  note = {{{_escaped(self.words)}}},\n}}"
        fields = {
            "author": _escaped(self.authors),
            "title": self.title and f"{{{_escaped(self.title)}}}",
            "journal": _escaped(self.journal),
            "volume": self.volume,
            "pages": self.pages.replace("–", "--"),
            "year": self.year,
            "doi": re.sub(r"[{}]", "", self.doi),
        }
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
        return f"@article{{{self.key},\n{lines}}}"


def _read(text: str) -> dict[str, Reference]:
    """Entries of a BibTeX file as this module writes them, by key."""
    found = {}
    for key, body in re.findall(r"^@article\{([\w-]+),\n(.*?)\n\}$", text, re.M | re.S):
        fields = dict(re.findall(r"^  (\w+) = \{+(.*?)\}+,$", body, re.M))
        names = fields["author"].replace(" and others", " et al.").split(" and ")
        authors = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        pages = fields["pages"].replace("--", "–")
        words = f"{authors}, {fields['title']}. {fields['journal']} {fields['volume']}, {pages} ({fields['year']})"
        found[key] = Reference(
            key, words, fields["author"], fields["title"], fields["journal"], fields["volume"], pages, fields["year"],
            fields["doi"],
        )  # fmt: skip
    return found


PAPERS = _read((Path(__file__).parent / "papers.bib").read_text(encoding="utf-8"))
"""By key: what runs and analyses refer to."""

_PLACE = re.compile(r"(\d+),\s*([A-Z]?\d+)(?:[–-]\d+)?,?\s*\(?(\d{4})")
_TOLD = re.compile(r"(?P<authors>.+), (?P<journal>[^,]+?) (?P<volume>\d+), (?P<pages>\w+) \((?P<year>\d{4})\)\.?")
_SPELT = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"})
"""Letters that are not one of ASCII with a mark."""
_DOI = re.compile(r"10\.\d{4,9}/[^\s;,]*[^\s;,.)\]]")


def from_words(words: str) -> Reference:
    """The paper that PLUMED or a card names in words, which a list of references holds only once.

    It is known by its volume, first page and year, or by its DOI.
    """
    place, doi = _PLACE.search(words), _DOI.search(words)
    for one in PAPERS.values():
        if place is not None and (one.volume, re.split("[–-]", one.pages)[0], one.year) == place.groups():
            return one
        if doi is not None and one.doi == doi[0].rstrip("."):
            return one
    told = _TOLD.fullmatch(re.sub(r",?\s*(?:doi:|https://doi.org/)?10\.\d{4,9}/\S+", "", words).strip())
    key, found = _key(words), doi[0].rstrip(".") if doi is not None else ""
    if told is None:
        return Reference(key, words, doi=found)
    authors = re.sub(r",? and |, ", " and ", told["authors"].replace(" et al.", " and others"))
    return Reference(key, told[0], authors, "", told["journal"], told["volume"], told["pages"], told["year"], found)


def _key(words: str) -> str:
    """The first word and the year in letters and digits of ASCII, which are all that BibTeX knows in a key."""
    composed = unicodedata.normalize("NFKC", words)
    first, year = re.search(r"[^\W\d_]{2,}", composed), re.search(r"\b(?:19|20)[0-9]{2}\b", composed)
    spelt = unicodedata.normalize("NFKD", first[0].lower().translate(_SPELT)) if first else ""
    return (re.sub(r"[^a-z]", "", spelt) or "paper") + (year[0] if year else "")


def bibliography(references: Iterable[Reference]) -> str:
    """All of them as one BibTeX file; of entries with one key the second gets a letter."""
    entries, seen = [], dict[str, int]()
    for one in references:
        seen[one.key] = seen.get(one.key, 0) + 1
        letter = "" if seen[one.key] == 1 else chr(ord("a") + min(seen[one.key], 26) - 1)
        entries.append(one.bibtex().replace("{" + one.key, "{" + one.key + letter, 1))
    return "\n\n".join(entries) + "\n" if entries else ""


def numbered(texts: Sequence[tuple[str, tuple[Reference, ...]]]) -> tuple[str, tuple[Reference, ...]]:
    """Sentences with their references as one paragraph, numbers in brackets, and the list in order of appearance."""
    order: list[Reference] = []
    sentences = []
    for text, references in texts:
        order += [one for one in dict.fromkeys(references) if one not in order]
        marks = ", ".join(map(str, sorted({order.index(one) + 1 for one in references})))
        sentences.append(f"{text.removesuffix('.')} [{marks}]." if marks else text)
    return " ".join(sentences), tuple(order)


def _escaped(text: str) -> str:
    """Without what would end a field of BibTeX or begin a command."""
    return re.sub(r"([&%$#_])", r"\\\1", re.sub(r"[{}\\]", "", text))
