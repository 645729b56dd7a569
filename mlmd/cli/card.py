"""The card of a trained potential for a reader: what it was made from, how, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ORDER = ("name", "notes", "source", "licence", "citation", "data", "test", "command", "date", "versions")
"""What a reader asks first."""
_TABLES = {
    "train": "Errors for the structures it was trained on",
    "test": "Errors for structures it was not trained on",
}
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
    """A line about a set of structures; what is not known of it is left out."""
    files = data.get("files", [])
    texts = [", ".join(map(str, files)) if isinstance(files, list) else str(files)]
    texts += [
        f"{data[key]:,} {word}" for key, word in (("n_frames", "structures"), ("n_atoms", "atoms")) if key in data
    ]
    texts += [f"{label}: {data[label]}" for label in ("energy", "forces", "stress") if data.get(label)]
    if digest := data.get("digest"):
        texts.append(f"digest {str(digest).removeprefix('sha256:')[:_N_DIGITS]}")
    known = {"files", "n_frames", "n_atoms", "energy", "forces", "stress", "digest"}
    texts += [f"{key} {value}" for key, value in data.items() if key not in known and value]
    return ", ".join(text for text in texts if text)


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
    """Nested facts as indented lines; a table of plain values is one line."""
    for key, value in values.items():
        margin = "  " * depth
        if not isinstance(value, Mapping):
            yield f"{margin}{key}  {_plain(value)}"
        elif any(isinstance(one, Mapping) for one in value.values()):
            yield f"{margin}{key}"
            yield from _tree(value, depth + 1)
        else:
            yield f"{margin}{key}  " + ", ".join(f"{name} {_plain(one)}" for name, one in value.items())


def _plain(value: Any) -> str:
    """One value; lists without brackets."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(
            ", ".join(f"{name} {_plain(item)}" for name, item in one.items())
            if isinstance(one, Mapping)
            else _plain(one)
            for one in value
        )
    return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)
