"""The input of ``mlmd sweep``: that of a training, and a table of values to be tried in its place.

``[sweep]`` has the shape of the input, with a list where a value stood. Every combination of the lists is a training.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlmd.config.explain import explain
from mlmd.config.pairs import ANY_USE, of_structures
from mlmd.config.read import read_toml
from mlmd.config.resolve import training_hash
from mlmd.config.train import Train
from mlmd.errors import InputError

MOST = 1000
"""Trainings; more are a mistake in the lists."""
_UNKNOWN_WORDS = {"union_tag_invalid", "extra_forbidden"}
"""Pydantic's names of mistakes in the spelling of a kind or an option."""
_NOT_SWEPT = ("data", "test", "test_fraction", "seed", "card", "property")
"""What decides what is learned and which structures are tested on, so that errors can be compared, and the card."""


@dataclass(frozen=True)
class Choice:
    """One choice of a value from every list."""

    label: str
    """What is told of it: the values that were chosen."""
    config: Train | None
    """None where the values do not go together."""
    problem: str = ""
    """Why they do not."""
    misspelled: frozenset[tuple[str, ...]] = frozenset()
    """Lists whose value has a word that is not known here."""


def load_sweep(path: str | Path) -> tuple[Choice, ...]:
    """Every combination of an input, the last list changing fastest; paths count from the folder that it lies in.

    Options that some combinations have no use for are left out there.

    Raises:
        InputError: the file cannot be read, has no ``[sweep]``, a value has a word that none of its combinations knows,
            or none of the combinations is a training.
    """
    path = Path(path)
    data = read_toml(path)
    if "sweep" not in data:
        raise InputError(f'{path.name}: [sweep] is missing: lists of values, e.g. fit = ["linear", "gap"].')
    try:
        lists = dict(_lists(data.pop("sweep"), ()))
        if not lists:
            raise InputError('the table is empty; give lists of values, e.g. fit = ["linear", "gap"].')
        n = 1
        for values in lists.values():
            n *= len(values)
        if n > MOST:
            raise InputError(f"its lists have {n:,} combinations; {MOST:,} are possible.")
    except InputError as error:
        raise InputError(f"{path.name}: sweep: {error}") from None
    found: list[Choice] = []
    labels: dict[str, str] = {}
    for chosen in itertools.product(*lists.values()):
        one = _combination(data, dict(zip(lists, chosen, strict=True)), path)
        if one.config is not None:
            digest = training_hash(one.config)
            if first := labels.get(digest):  # by options that these descriptors and fits have no use for
                why = "what differs has no use here" if first != one.label else "it stands in the lists twice"
                one = Choice(one.label, None, f"it is the same training as {first}: {why}.")
            labels.setdefault(digest, one.label)
        found.append(one)
    if wrong := _misspelled(found, lists):
        raise InputError("\n".join(f"{path.name}: sweep: {line}" for line in wrong.problem.splitlines()))
    found = _alike(found)
    if not any(one.config for one in found):
        raise InputError("\n".join(f"{path.name}: {line}" for line in found[0].problem.splitlines()))
    return tuple(found)


def _misspelled(found: Sequence[Choice], lists: Mapping[tuple[str, ...], list[Any]]) -> Choice | None:
    """The first combination of a value with a word that is known in none of its combinations.

    An option that some descriptor or fit of another list has, and others have not, is no mistake.
    """
    numbers = list(itertools.product(*(range(len(values)) for values in lists.values())))
    for column, place in enumerate(lists):
        for value in range(len(lists[place])):
            own = [one for one, chosen in zip(found, numbers, strict=True) if chosen[column] == value]
            if all(place in one.misspelled for one in own):
                return own[0]
    return None


def _alike(found: list[Choice]) -> list[Choice]:
    """Potentials only, or only models of one property, as the first one is: errors of others are of something else."""
    whole = [one.config is not None and of_structures(one.config.descriptor, one.config.fit) for one in found]
    first = next((number for number, one in enumerate(found) if one.config), 0)
    kinds = ("a potential", "one number of each structure")
    return [
        one if one.config is None or whole[number] == whole[first]
        else Choice(one.label, None, f"it learns {kinds[whole[number]]}, and {found[first].label} learns "
                    f"{kinds[whole[first]]}: their errors cannot be compared.")
        for number, one in enumerate(found)
    ]  # fmt: skip


def _lists(table: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    """The lists of a table and of those within it, by their place in the input."""
    name = ".".join(place)
    if isinstance(table, Mapping):
        for key, value in table.items():
            yield from _lists(value, (*place, *str(key).split(".")))
    elif not place or not isinstance(table, list):
        raise InputError(f"{name + ': ' if name else ''}{table!r}: a list of values to try is needed.")
    elif not table:
        raise InputError(f"{name}: the list is empty; give the values to try.")
    elif place[0] in _NOT_SWEPT:
        raise InputError(
            f"{name}: all trainings must have the same structures, the same test and the same property, or their "
            "errors could not be compared. Give it once, outside of the table."
        )
    else:
        yield place, table


def _combination(data: Mapping[str, Any], choice: Mapping[tuple[str, ...], Any], path: Path) -> Choice:
    """The input with the chosen values; whole tables first, so that others are set within them."""
    label = ", ".join(_told(place, value) for place, value in choice.items())
    filled: dict[str, Any] = _copy(data)
    try:
        for place in sorted(choice, key=len):
            _put(filled, place, _copy(choice[place]))
        config = Train.model_validate(filled, context={"folder": path.absolute().parent, ANY_USE: True})
    except ValidationError as error:
        unknown = [mistake["loc"] for mistake in error.errors() if mistake["type"] in _UNKNOWN_WORDS]
        guilty = frozenset(found for location in unknown if (found := _list_of(location, choice)))
        return Choice(label, None, "\n".join(explain(error, Train, filled)), guilty)
    except InputError as error:
        return Choice(label, None, str(error))
    return Choice(label, config)


def _list_of(location: Sequence[Any], places: Iterable[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The list whose value has a mistake: the one whose place leads farthest to where it was found."""
    words = [part for part in location if isinstance(part, str)]  # among them kinds, which no place has
    leading = [place for place in places if place == tuple(word for word in words if word in place)[: len(place)]]
    return max(leading, key=len, default=None)


def _put(data: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    """Set a value within tables; a bare word is a table of that kind."""
    for depth, key in enumerate(place[:-1], 1):
        inner = data.get(key, {})
        inner = {"kind": inner} if isinstance(inner, str) else inner
        if not isinstance(inner, dict):
            raise InputError(f"sweep: {'.'.join(place)}: {'.'.join(place[:depth])} is no table.")
        data[key] = data = inner
    data[place[-1]] = value


def _copy(value: Any) -> Any:
    """Tables of their own, so that a choice does not change the next one."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _told(place: tuple[str, ...], value: Any) -> str:
    """A value in few words: ``gap n_sparse=200``, ``level=12``, ``snap and acsf n_angular=0``."""
    if isinstance(value, list) and place == ("descriptor",):
        return " and ".join(_told(place, one) for one in value)
    if isinstance(value, Mapping):
        words = [str(value["kind"])] if "kind" in value else []
        return " ".join([*words, *(f"{key}={_short(item)}" for key, item in value.items() if key != "kind")])
    return str(value) if len(place) == 1 and isinstance(value, str) else f"{place[-1]}={_short(value)}"


def _short(value: Any) -> str:
    """A value without the spaces of its list or unit."""
    return (str(value).lower() if isinstance(value, bool) else str(value)).replace(" ", "")
