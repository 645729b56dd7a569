"""Orb: graph networks of solids and molecules (B. Rhodes et al., arXiv:2504.06231), weights in `.ckpt` files.

A file holds numbers alone, which torch's restricted reader opens; which network they belong to is said by its name.
The networks called conservative have forces that are derivatives of their energy. The others, called direct, predict
forces beside the energy, so that energy is not conserved. Precision is a setting of the whole process in Orb: it is
set while it computes, and put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "orb-models"


def calculator(
    name: str,
    path: str | None = None,
    precision: str = "float64",
    charge: int = 0,
    spin: int = 1,
    device: str = "cpu",
) -> Any:
    """Its ASE calculator.

    Args:
        name: of a network in Orb's list.
        path: its weights; they are downloaded without.
        precision: "float64", or "float32".
        charge: of the whole structure in units of e, for networks that are told it.
        spin: multiplicity, for those too.
        device: of torch.

    Raises:
        ValueError: for an unknown name.
    """
    import warnings
    from difflib import get_close_matches

    import torch
    from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

    try:  # since 0.6
        from orb_models.forcefield.inference.calculator import ORBCalculator
    except ModuleNotFoundError:
        from orb_models.forcefield.calculator import ORBCalculator
    if name not in ORB_PRETRAINED_MODELS:
        close = get_close_matches(name, ORB_PRETRAINED_MODELS, cutoff=0.4) or sorted(ORB_PRETRAINED_MODELS)
        raise ValueError(f"Orb has no network {name!r}. Is it one of {', '.join(close)}?")
    given = {} if path is None else {"weights_path": path}
    called = "float64" if precision == "float64" else "float32-highest"
    with _precision(torch.get_default_dtype()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the precision that it is asked for
        made = ORB_PRETRAINED_MODELS[name](device=device, precision=called, compile=False, **given)
    network, *adapter = made if isinstance(made, tuple) else (made,)  # a pair since 0.6
    asked = ORBCalculator(network, *adapter, device=device)
    own = asked.calculate

    def calculate(atoms: Any, *wanted: Any) -> None:
        """In the precision of the network, with charge and spin where it takes them."""
        if asked.expects_charge_and_spin:
            atoms.info.update(charge=charge, spin=spin)
        with _precision(getattr(torch, precision)):
            own(atoms, *wanted)

    asked.calculate = calculate
    return asked


@contextmanager
def _precision(dtype: Any) -> Iterator[None]:
    """Torch's precision of numbers of which nothing is said, put back after."""
    import torch

    before, matrices = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_float32_matmul_precision(matrices)


def facts(made: Any) -> dict[str, Any]:
    """Cutoff (Å), numbers it computes in, and their number; it tells no elements."""
    parameters = list(made.model.parameters())
    radius = getattr(getattr(made, "system_config", None) or getattr(made, "adapter", None), "radius", 0.0)
    return {
        "cutoff": float(radius),
        "precision": str(parameters[0].dtype).removeprefix("torch."),
        "parameters": sum(one.numel() for one in parameters),
    }


def load(
    name: str,
    path: Path | None = None,
    charge: int = 0,
    spin: int = 1,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """A network of Orb.

    Args:
        name: of the network, e.g. ``"orb-v3-conservative-inf-omat"``; its weights are downloaded once.
        path: its weights, a `.ckpt` file, which are not downloaded then.
        charge: of the whole structure in units of e, for networks of molecules.
        spin: multiplicity, for networks of molecules.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: "float64" or "float32".

    Raises:
        InputError: when the framework does not know the name, or cannot make the network.
        ModelError: for a file that is not whole, of another network, or could execute code.
    """
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework

    for what, number in (("charge", charge), ("spin", spin)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise InputError(f"{what}: {number!r} is not a whole number.")
    arguments = {
        "name": name, "path": str(path) if path else None, "precision": precision, "charge": charge, "spin": spin,
    }  # fmt: skip
    files = [] if path is None else [Path(path)]
    return framework("orb", arguments, install=INSTALL, python=python, elements=elements, files=files)
