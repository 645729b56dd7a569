"""pydantic's errors in the words of the input file: place, what was got, what was needed, what to try."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlmd.config.fits import OF_ENVIRONMENTS
from mlmd.config.pairs import OF_STRUCTURES, WHY_ALONE
from mlmd.config.quantities import shorten
from mlmd.errors import did_you_mean

_NEEDED = {
    "bool_type": "true or false is needed.",
    "int_type": "a whole number is needed.",
    "int_from_float": "a whole number is needed.",
    "float_type": "a number is needed.",
    "float_parsing": "a number is needed.",
    "finite_number": "a finite number is needed.",
    "string_type": "text in quotes is needed.",
    "tuple_type": "a list is needed.",
    "dict_type": "a table is needed.",
    "model_type": "a table is needed.",
    "model_attributes_type": "a table is needed.",
    "greater_than": "more than {gt} is needed.",
    "greater_than_equal": "at least {ge} is needed.",
    "less_than_equal": "at most {le} is needed.",
    "less_than": "less than {lt} is needed.",
    "too_short": "at least {min_length} in the list is needed.",
    "too_long": "at most {max_length} in the list are possible.",
}

_UNTOLD = ("[key]", "[ramp]", "[schedule]", "[list]", "[ladder]")
"""Parts of places that stand in no file."""
_ALTERNATIVE = re.compile(r"str|bool|constrained-\w+|(literal|tuple|function-\w+)\[.*\]")
"""What pydantic calls the ways of writing a value that has several; they stand in no file either."""
_OF_A_LIST = ("combined", "combined-structures", "parts")
"""Where descriptors stand that are written as a list."""
_NOUNS = {"of": "descriptor of atoms", "functions": "symmetry function"}
"""What is chosen, where its key does not say so."""


def explain(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[str]:
    """One line for each mistake, in the order of the model's keys."""
    lines: dict[str, None] = {}  # a set that keeps its order
    for details in _joined(error.errors(include_url=False)):
        for line in _lines(details, model, data):
            lines[line] = None
    return [line for line in lines if not _is_misspelt(line, lines)]


def _joined(errors: Iterable[Any]) -> Iterator[Any]:
    """The mistakes, where the alternatives of one value are one mistake that names them.

    What is wrong within a list that is one of them says more than that the list is none of the others.
    """
    joined: dict[tuple[Any, ...], list[Any]] = {}
    for details in errors:
        place = tuple(p for p in details["loc"] if not (isinstance(p, str) and _ALTERNATIVE.fullmatch(p)))
        joined.setdefault(place, []).append(details)
    for place, several in joined.items():
        if all(details["loc"] == place for details in several):
            yield from several
        elif not any(len(other) > len(place) and other[: len(place)] == place for other in joined):
            first, *others = (_needed(details).removesuffix(" is needed.") for details in several)
            message = f"{shorten(several[0]['input'])}: {', or '.join([f'{first} is needed', *others])}."
            yield {**several[0], "loc": place, "type": "mlmd", "ctx": {"message": message}}


def _needed(details: Any) -> str:
    """What a place takes, in words."""
    if details["type"] == "literal_error":
        return details["ctx"]["expected"].replace("'", '"') + " is needed."
    return _NEEDED[details["type"]].format(**details.get("ctx", {})) if details["type"] in _NEEDED else details["msg"]


def _is_misspelt(line: str, lines: Iterable[str]) -> bool:
    """Whether a missing key stands in the file under a wrong name, which another line says already."""
    place, missing, _ = line.partition(" is missing")
    start, _, key = place.rpartition(": ")
    hint = f"Did you mean {key}?"
    return bool(missing) and any(other.startswith(start) and other.endswith(hint) for other in lines)


def _lines(details: Any, model: type[BaseModel], data: Mapping[str, Any]) -> Iterator[str]:
    """One mistake; checks of the whole file bring several lines with their places."""
    location, kind, context = details["loc"], details["type"], details.get("ctx", {})
    if not location:
        yield from str(context.get("message", details["msg"])).split("\n")
        return
    if kind == "extra_forbidden":
        place = place_of(location[:-1], data)
        yield f"{place}{_unknown(str(location[-1]), _model_at(model, location[:-1]), model)}"
    elif kind == "missing":
        place, key = place_of(location[:-1], data), str(location[-1])
        owner = _model_at(model, location[:-1])
        meaning = owner.model_fields[key].description if owner and key in owner.model_fields else None
        yield f"{place}{key!r} is missing" + (f" ({meaning})." if meaning else ".")
    else:
        yield f"{place_of(location, data)}{_wrong(details, location, context)}"


def _wrong(details: Any, location: tuple[Any, ...], context: Mapping[str, Any]) -> str:
    """What is wrong with a value."""
    kind, value = details["type"], details["input"]
    if kind == "mlmd":
        return str(context["message"])
    if kind == "union_tag_not_found":
        return "'kind' is missing."
    if kind == "union_tag_invalid":
        return _unknown_kind(str(context["tag"]), context["expected_tags"].replace("'", "").split(", "), location)
    if kind == "literal_error":
        known = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{shorten(value)} is not known here. {did_you_mean(str(value), known)}"
    if location[-1] == "stage" and isinstance(value, Mapping):
        return "stages are a list; write [[stage]] with double brackets."
    needed = _needed(details)
    if kind == "tuple_type" and isinstance(value, str):
        needed = f"a list is needed, [{shorten(value)}]."
    elif needed == _NEEDED["model_type"] and isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        needed = f"one table is needed; write [{location[-1]}] with single brackets."
    return f"{shorten(value)}: {needed}"


def _unknown_kind(tag: str, known: list[str], location: tuple[Any, ...]) -> str:
    """A word that is no kind of what is chosen: why not here, what it is, or the closest known one."""
    untold = (*_OF_A_LIST, *_UNTOLD)
    noun = next(part for part in reversed(location) if isinstance(part, str) and part not in untold)
    why = "it describes whole structures" if tag in OF_STRUCTURES else WHY_ALONE.get(tag)
    if "parts" in location and why:
        alone = "" if noun == "of" else "Give it alone and without a list. "
        if alone and tag in OF_STRUCTURES:
            average = '{ kind = "average", of = "acsf" }'
            alone = (
                f"Give it alone, or with others of whole structures, such as the average of one of atoms, {average}. "
            )
        several = f"Several can be {', '.join(known[:-1])} and {known[-1]}."
        return f"{tag!r} cannot be one of several descriptors: {why}. {alone}{several}"
    if noun == "fit" and tag in OF_ENVIRONMENTS:
        table = f'fit = {{ kind = "kernel-ridge", kernel = "{tag}" }}'
        return f"{tag!r} is a kernel, not a kind of fit: {table}, with a descriptor of atoms such as soap."
    return f"{tag!r} is not a kind of {_NOUNS.get(noun, noun)}. {did_you_mean(tag, known)}"


def _unknown(key: str, owner: type[BaseModel] | None, top: type[BaseModel]) -> str:
    """An unknown key of a table, `owner`: what to do instead, or the closest known one.

    What is known at the `top` of the file stands in TOML above all tables, and is easily written below one.
    """
    if owner is None:
        return f"{key!r} is not an option."
    refused: dict[str, str] = getattr(owner, "refused", {})
    if key not in refused and owner is not top and key in top.model_fields:
        return f"{key!r} is not an option here. It belongs to the top of the file, above all tables."
    if owner is top and key not in refused and (tables := [name for name in top.model_fields if _has(top, name, key)]):
        named = " or ".join(f"[{name}]" for name in tables)
        return f"{key!r} is not an option here. It belongs to the table {named}."
    hint = refused.get(key) or did_you_mean(key, owner.model_fields)
    return f"{key!r} is not an option{' here' if key in refused else ''}. {hint}"


def _has(top: type[BaseModel], name: str, key: str) -> bool:
    """Whether a table of a file, of whatever kind, has an option of this name."""
    members = _members(top.model_fields[name].annotation)
    tables = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    return any(key in table.model_fields for table in tables)


def place_of(location: tuple[Any, ...], data: Any) -> str:
    """Where a key stands, e.g. ``stage 2 (npt): thermostat: `` (tags of unions are left out)."""
    words: list[str] = []
    for part in location:
        if isinstance(part, int):
            if not isinstance(data, list):  # one entry written without a list
                continue
            data = data[part] if part < len(data) else None
            kind = data.get("kind") if isinstance(data, Mapping) else None
            number = str(part + 1) + (f" ({kind})" if isinstance(kind, str) else "")
            if words and words[-1] in ("stage", "potential", "data", "test", "descriptor", "functions", "bias", "cv"):
                words[-1] += f" {number}"
            else:
                words.append(f"item {part + 1}")
        elif isinstance(data, list) and part in _OF_A_LIST:
            continue
        elif isinstance(data, Mapping) and part in data:
            words.append(part)
            data = data[part]
        elif not (isinstance(data, Mapping) and data.get("kind", part) == part) and part not in _UNTOLD:
            words.append(part)
    return "".join(f"{word}: " for word in words)


def _model_at(model: Any, location: tuple[Any, ...]) -> type[BaseModel] | None:
    """The model that a location leads to, through lists and tagged unions."""
    current: Any = model
    for part in location:
        if part in _UNTOLD[1:]:
            continue
        members = _members(current)
        tables = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        if isinstance(part, int):
            current = next((get_args(m)[0] for m in members if get_origin(m) is tuple), None)
            continue
        tagged = [m for m in tables if "kind" in m.model_fields and m.model_fields["kind"].default == part]
        owner = next((m for m in tables if part in m.model_fields), None)
        current = tagged[0] if tagged else owner.model_fields[part].annotation if owner else None
    found = [m for m in _members(current) if isinstance(m, type) and issubclass(m, BaseModel)]
    return found[0] if len(found) == 1 else None


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without its decorations."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation]
