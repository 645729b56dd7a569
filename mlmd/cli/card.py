"""The card of a trained potential for a reader: what it was made from, how, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlmd.errors import counted

_ORDER = ("name", "notes", "source", "licence", "citation", "data", "test", "command", "date", "versions")
"""What a reader asks first."""
_TABLES = {
    "train": "Errors for the structures it was trained on",
    "test": "Errors for structures it was not trained on",
}
_COUNTED = {"files", "n_frames", "n_atoms", "digest"}
_N_DIGITS = 12
"""Of a digest, enough to tell two sets of data apart."""


def readable(card: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A card as facts in the order of a reader's questions, and paragraphs to stand below them.

    Returns:
        The facts, those of unknown keys unchanged and last; tables of errors, properties and the input as text.
    """
    facts = {key: card[key] for key in _ORDER if key in card} | dict(card)
    paragraphs = []
    for key in ("data", "test"):
        if isinstance(facts.get(key), Mapping):
            facts[key] = _data(facts[key])
    if (tables := _error_tables(facts.get("errors"))) is not None:
        del facts["errors"]
        paragraphs += tables
    for key, heading in (("properties", "Properties"), ("input", "Trained with")):
        if facts.get(key) and isinstance(facts[key], Mapping):
            paragraphs.append("\n".join([heading, *_tree(facts.pop(key), 1)]))
    return facts, paragraphs


def _data(data: Mapping[str, Any]) -> str:
    """A line about a set of structures. What all of them have is not said, nor what is not known."""
    n_frames = data.get("n_frames")
    if n_frames == 0:
        return "no data"
    texts = [_plain(data.get("files", []), ", ")]
    texts += [counted(data[key], word) for key, word in (("n_frames", "structure"), ("n_atoms", "atom")) if key in data]
    for key, value in data.items():
        if key == "digest" and value:
            texts.append(f"digest {str(value).removeprefix('sha256:')[:_N_DIGITS]}")
        elif key not in _COUNTED and value and value != n_frames and (key, value) != ("groups", "no data"):
            texts.append(f"{key}: {_plain(value)}")
    return "; ".join(text for text in texts if text)


def _error_tables(tables: Any) -> list[str] | None:
    """Tables of errors as text, or None when this is something else."""
    from mlmd.train.error_table import from_json

    if not isinstance(tables, Mapping):
        return None
    try:
        return [
            f"{_TABLES.get(name, f'Errors, {name}')}\n{from_json(table).text()}"
            for name, table in tables.items()
            if table is not None
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _tree(values: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Nested facts as indented lines; a table of plain values is one line, and what is empty is not said."""
    for key, value in _told(values).items():
        if isinstance(value, Mapping) and any(isinstance(one, Mapping) for one in value.values()):
            yield f"{'  ' * depth}{key}"
            yield from _tree(value, depth + 1)
        else:
            yield f"{'  ' * depth}{key}  {_plain(value)}"


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not empty, of a table and of those within it."""
    told = {key: _told(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in told.items() if value not in ({}, [])}


def _plain(value: Any, comma: str = "; ") -> str:
    """A value without brackets; numbers with unit, reference and its source as one writes them."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return comma.join(_plain(one) for one in value)
    if not isinstance(value, Mapping):
        return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)
    rest = {key: one for key, one in value.items() if one is not None}
    if "value" not in rest:
        return ", ".join(f"{key} {_plain(one)}" for key, one in rest.items())
    error = f" ± {rest.pop('error'):.2g}" if isinstance(rest.get("error"), float) else ""
    number = f"{_plain(rest.pop('value'))}{error} {rest.pop('unit', '')}".rstrip()
    source = f" ({rest.pop('source')})" if "source" in rest else ""
    if "reference" not in rest:
        return number + source + (f", {_plain(rest)}" if rest else "")
    reference = f", reference {_plain(rest.pop('reference'))}{source}"
    return number + reference + (f", {_plain(rest)}" if rest else "")
