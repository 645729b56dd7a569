"""Field types of input files: numbers with units, ramps, paths and element symbols."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WrapValidator
from pydantic_core import PydanticCustomError, core_schema

from mlmd.errors import InputError, did_you_mean
from mlmd.units import DEFAULT_UNIT, parse, with_unit

_MULTIPLE = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*x\s*")
_SYMBOL = re.compile(r"[A-Z][a-z]?")


def refuse(message: str) -> PydanticCustomError:
    """An error of one field, with its final wording."""
    return PydanticCustomError("mlmd", "{message}", {"message": message})


def shorten(value: object, width: int = 60) -> str:
    """A value as it is quoted in a message: strings in double quotes, long ones cut."""
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass(frozen=True)
class Quantity:
    """A number with a unit, kept as a float in mlmd's unit and written back as ``"2 fs"``.

    A field is annotated with it: ``Annotated[float, Quantity("time", above=0)]``.
    """

    name: str
    """A key of `mlmd.units.DEFAULT_UNIT`."""
    above: float | None = None
    """The number must be larger than this, in mlmd's unit."""
    least: float | None = None
    """The number must not be smaller than this, in mlmd's unit."""
    most: float | None = None
    """The number must not be larger than this, in mlmd's unit."""
    words: tuple[tuple[str, Any], ...] = ()
    """Words that may stand for a value, e.g. ``(("off", None),)``."""

    @property
    def unit(self) -> str:
        """The unit of a bare number."""
        return DEFAULT_UNIT[self.name]

    def read(self, value: object) -> Any:
        """The float (or what a word stands for) behind what a user wrote."""
        for word, meaning in self.words:
            if value == word:
                return meaning
        try:
            number = parse(value, self.name)
        except InputError as error:
            if value == "replica" and self.name in ("temperature", "pressure"):
                raise refuse(f'"replica" stands here, and no table [replicas] lists {self.name}s.') from None
            hint = "".join(f' Or "{word}".' for word, _ in self.words)
            raise refuse(f"{error}{hint}") from None
        if self.above is not None and number <= self.above:
            article = "an" if self.name[0] in "aeiou" else "a"
            shown = f"{article} {self.name} above {with_unit(self.above, self.name)}"
            raise refuse(f"{shorten(value)}: {shown} is needed here.")
        if self.least is not None and number < self.least:
            raise refuse(f"{shorten(value)}: at least {with_unit(self.least, self.name)} is needed here.")
        if self.most is not None and number > self.most:
            raise refuse(f"{shorten(value)}: at most {with_unit(self.most, self.name)} is possible here.")
        return number

    def write(self, value: Any) -> Any:
        """What `read` turns into the same value again."""
        for word, meaning in self.words:
            if value == meaning:
                return word
        return None if value is None else with_unit(value, self.name)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        """Validate by `read`, dump by `write`."""
        dump = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=dump)


@dataclass(frozen=True)
class Ramp(Quantity):
    """Start and end of a linear ramp, ``["300 K", "600 K"]``; one value is constant."""

    more: str = ""
    """What to do where more than two are meant."""

    def read(self, value: object) -> tuple[float, float]:
        """(start, end) in mlmd's unit."""
        if not isinstance(value, list | tuple):
            return (super().read(value),) * 2
        if len(value) != 2:
            raise refuse(f"{shorten(value)}: a ramp has two values, its start and its end.{self.more}")
        return super().read(value[0]), super().read(value[1])

    def write(self, value: tuple[float, float]) -> Any:
        """One string when constant, two otherwise."""
        start, end = (super(Ramp, self).write(number) for number in value)
        return start if start == end else [start, end]


@dataclass(frozen=True)
class TemperatureLimit(Quantity):
    """A temperature, or ``"5x"`` for a multiple of the target, kept as written."""

    def read(self, value: object) -> Any:
        """K, or the multiple as a string that ends in x."""
        match = _MULTIPLE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return super().read(value)
        if float(match[1]) <= 1:
            raise refuse(f'{shorten(value)}: a multiple above 1 is needed, for example "5x".')
        return f"{match[1]}x"

    def write(self, value: Any) -> Any:
        """What `read` turns into the same value again."""
        return value if isinstance(value, str) else super().write(value)


@dataclass(frozen=True)
class EachQuantity(Quantity):
    """One value for all of several things, or a list with one for each, kept as a tuple."""

    def read(self, value: object) -> Any:
        """A float in mlmd's unit, or a tuple of them."""
        if not isinstance(value, list | tuple):
            return super().read(value)
        return tuple(super(EachQuantity, self).read(one) for one in _some(value))

    def write(self, value: Any) -> Any:
        """What `read` turns into the same value again."""
        if isinstance(value, tuple):
            return [super(EachQuantity, self).write(one) for one in value]
        return super().write(value)


def _each(value: object, one: Callable[[object], Any]) -> Any:
    """A value, or a tuple of values that are each as good as one alone."""
    return tuple(one(item) for item in _some(value)) if isinstance(value, list | tuple) else one(value)


def _some(values: Sequence[Any]) -> Sequence[Any]:
    if not values:
        raise refuse("the list is empty: give one value for all, or one for each.")
    return values


EACH = (WrapValidator(_each), PlainSerializer(lambda value: [*value] if isinstance(value, tuple) else value))
"""What makes a field take one value for all of several things, or a list with one for each."""


def input_path(value: object, info: ValidationInfo) -> Path:
    """An absolute path; a relative one counts from the folder of the input file."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise refuse(f"{shorten(value)} is not a file name. Write it in quotes.")
    try:
        path = Path(value).expanduser()
    except RuntimeError:  # ~someone without a home
        path = Path(value)
    return (info.context or {}).get("folder", Path.cwd()).joinpath(path).absolute()


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; a text that is too long for a name, or none, names nothing."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def symbol(value: object) -> str:
    """A chemical symbol."""
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise refuse(f'{shorten(value)} is not a chemical symbol. Write for example "Li".')
    return value


def symbols(value: object) -> tuple[str, ...]:
    """Different chemical symbols."""
    if not isinstance(value, list | tuple):
        raise refuse(f'{shorten(value)} is not a list of chemical symbols. Write for example ["Li", "Cl"].')
    names = tuple(symbol(item) for item in value)
    if len(set(names)) < len(names):
        raise refuse(f"{shorten(list(names))} names an element twice.")
    return names


def _repeats(value: object) -> tuple[int, ...]:
    """Three whole numbers, each at least 1."""
    whole = isinstance(value, list | tuple) and len(value) == 3
    if not whole or any(type(n) is not int or n < 1 for n in value):  # type: ignore[attr-defined]
        raise refuse(f"{shorten(value)}: three whole numbers from 1 are needed, for example [2, 2, 2].")
    return tuple(value)  # type: ignore[arg-type]


def choice(value: object, known: tuple[str, ...], noun: str) -> str:
    """One of the known words, or an error with the closest of them."""
    if value not in known:
        word = value if isinstance(value, str) else ""
        raise refuse(f"{shorten(value)} is not {noun}. {did_you_mean(word, known)}")
    return str(value)


Time = Annotated[float, Quantity("time", above=0.0)]
WallTime = Annotated[float, Quantity("wall time", above=0.0)]
Rate = Annotated[float, Quantity("rate", above=0.0)]
Force = Annotated[float, Quantity("force", above=0.0)]
Pressure = Annotated[float, Quantity("pressure")]
TemperatureRamp = Annotated[
    tuple[float, float], Ramp("temperature", above=0.0, more=" More of them: { points = [...] }.")
]
PressureRamp = Annotated[tuple[float, float], Ramp("pressure")]
InputPath = Annotated[Path, BeforeValidator(input_path), PlainSerializer(str)]
Symbol = Annotated[str, BeforeValidator(symbol)]
Symbols = Annotated[tuple[str, ...], BeforeValidator(symbols), Field(strict=False)]
Repeats = Annotated[tuple[int, int, int], BeforeValidator(_repeats), Field(strict=False)]
