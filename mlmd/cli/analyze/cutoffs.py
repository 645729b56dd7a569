"""Lengths, pairs of elements and cutoffs between them on the command line."""

from __future__ import annotations

from typing import Any

import click

from mlmd.errors import InputError
from mlmd.units import parse


class Length(click.ParamType):
    """A length with a unit, in Å; a bare number is Å."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the text."""
        return parse(value, "length")


def _cutoffs(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[tuple[str, str], float]:
    """``("P-S=2.6 Å",)`` by pair of elements."""
    cutoffs = {}
    for text in (part for one in texts for part in one.split(",")):
        pair, equals, length = text.partition("=")
        elements = [word.strip() for word in pair.replace("–", "-").split("-")]
        if not equals or len(elements) != 2 or not all(elements):
            raise InputError(
                f'--cutoff {text!r} is not ELEMENT-ELEMENT=LENGTH. Write for example --cutoff "P-S=2.6 Å".'
            )
        cutoffs[elements[0], elements[1]] = parse(length.strip(), "length")
    return cutoffs


cutoffs_option = click.option(
    "--cutoff", "cutoffs", multiple=True, callback=_cutoffs, metavar="PAIR=LENGTH",
    help='Bonds are shorter, e.g. "P-S=2.6 Å" (repeatable) [default: the first minimum of g(r)].',
)  # fmt: skip


def element_groups(texts: tuple[str, ...], n: int, option: str, example: str) -> list[tuple[str, ...]]:
    """``("S-P-S",)`` as tuples of n elements."""
    groups = []
    for text in (part for one in texts for part in one.split(",")):
        group = tuple(word.strip() for word in text.replace("–", "-").split("-"))
        if len(group) != n or not all(group):
            raise InputError(f"{option} {text!r} is not {n} elements. Write for example {option} {example}.")
        groups.append(group)
    return groups
