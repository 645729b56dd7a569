"""Any ASE calculator as a potential, named by its module and class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mlmd.config.files import files_in, texts_in
from mlmd.errors import InputError
from mlmd.potentials.trust import check
from mlmd.pretrained.external import External
from mlmd.pretrained.recipe import Recipe, interpreter

_REMOTE = re.compile("(https?|ftp|file)://", re.IGNORECASE)


def load(
    calculator: str,
    arguments: Mapping[str, Any] | None = None,
    python: str | None = None,
    keep: bool | None = None,
    info: Mapping[str, Any] | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    trust: Sequence[str] = (),
) -> External:
    """A calculator that an input names. Whoever names it executes its code, as whoever names a program does.

    Args:
        calculator: ``"ase.calculators.emt:EMT"``, or ``"/folder/file.py:name"``; a function that returns a calculator
            will do as well.
        arguments: its keywords. A text with a slash that names a file is given as an absolute path.
        python: the interpreter of another environment, in which it runs as a process of its own.
        keep: let the calculator keep what it likes from step to step, such as a density: faster for some, but the last
            digits then depend on the steps before, and a resumed run is no exact continuation. False for nothing at
            all; when left out, lists of neighbours, as a resumed run finds them again (`mlmd.pretrained.window`).
        info: what such calculators read in ``atoms.info``, e.g. ``{ charge = 1, spin = 2 }``.
        elements: that it may be asked about; any when left out.
        precision: is the calculator's matter.
        trust: digests of the files among the arguments, and of that of the calculator: they may execute code.

    Raises:
        InputError: when it cannot be found or made, with what it says.
        ModelError: for files that are not trusted.
    """
    if precision != "float64":
        raise InputError("precision: the calculator decides in which numbers it computes. Is there a keyword of it?")
    if info is not None and not isinstance(info, Mapping):
        raise InputError(f"info: {info!r} is not a table, such as {{ charge = 1 }}.")
    if keep is not None and not isinstance(keep, bool):
        raise InputError(f"keep: {keep!r}: true or false is needed.")
    if not isinstance(calculator, str):
        raise InputError(f'calculator: {calculator!r} is not "module:Class".')
    if arguments is not None and not isinstance(arguments, Mapping):
        raise InputError(f"arguments: {arguments!r} is not a table of the calculator's keywords.")
    given = dict(arguments or {})
    if remote := [text for text in texts_in(given) if _REMOTE.match(text)]:
        raise InputError(
            f"arguments: {remote[0]}: what is fetched from elsewhere has no digest to be trusted by. Download it, and "
            "name the file."
        )
    why = "a calculator may execute what stands in such a file"
    files = [check(file, trust, why) for file in sorted({*files_in(given), *files_in(calculator)})]
    keeps: bool | Literal["lists"] = "lists" if keep is None else keep
    recipe = Recipe("ase", calculator, given, interpreter(python), keeps=keeps, info=dict(info or {}))
    return External(recipe, elements=elements, files=files)
