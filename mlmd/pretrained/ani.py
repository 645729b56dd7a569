"""ANI: networks of molecules of H, C, N, O and, some of them, F, S, Cl (J. S. Smith et al., Chem. Sci. 8, 3192, 2017).

TorchANI computes them. The networks that it knows by name are downloaded once; those in NeuroChem's files, as ANI-1x
and ANI-1ccx were published, are read from a folder by the `.info` file beside it. TorchANI evaluates the text of a
network's layers as Python, so that this text is read here before: whatever is more than words and numbers is refused.
"""

from __future__ import annotations

import bz2
import re
from collections.abc import Iterator, Sequence
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "torchani"
_SETTING = r"\s*\w+\s*=\s*(?:-?nan|[-+]?[\d.]+(?:e[-+]?\d+)?|FILE:[\w.-]+\[\d+\])\s*;"
_LAYERS = re.compile(rf"[^\[\]]*?(?:layer\s*\[(?:{_SETTING})+\s*\]\s*)+\$?", re.ASCII)


def calculator(
    path: str | None = None, name: str | None = None, precision: str = "float64", device: str = "cpu"
) -> Any:
    """Its ASE calculator.

    Args:
        path: a `.info` file of NeuroChem.
        name: of a network in ``torchani.models``.
        precision: "float64" or "float32".
        device: of torch.

    Raises:
        ValueError: for an unknown name and files that are not there.
        RuntimeError: for damaged files and those that could execute code.
    """
    import torch
    import torchani

    if path is None:
        known = [one for one in dir(torchani.models) if "ANI" in one and isfunction(getattr(torchani.models, one))]
        if name not in known:
            raise ValueError(f"there is no network {name!r}. Known: {', '.join(known)}")
        made = getattr(torchani.models, name)(neighborlist="adaptive")
    else:
        made = _neurochem(Path(path))
    made = made.to(device=device, dtype=getattr(torch, precision)).requires_grad_(False)
    if device.startswith("cuda") and isinstance(made.neural_networks, torchani.nn.Ensemble):
        made = made.to_infer_model()  # its members at once: fewer and larger operations
    asked = made.ase()
    asked.weights = [] if path is not None else _kept(str(name))
    return asked


def _kept(name: str) -> list[str]:
    """The file that TorchANI keeps of a network, where it is called like that."""
    from torchani.paths import state_dicts_dir

    files = [state_dicts_dir() / f"{name.lower()}{ending}" for ending in ("_state_dict.pt", ".pt")]
    return [str(one) for one in files if one.is_file()]


def _neurochem(file: Path) -> Any:
    """The network of a `.info` file: names of parameters, self energies, prefix of the members, and their number."""
    from torchani.arch import ANI
    from torchani.neurochem import NeurochemInfo, load_aev_computer_and_symbols, load_ensemble, load_sae

    for one in _within(file):
        if one.suffix == ".nnf":
            _check_layers(one)
    constants, energies, prefix, count = file.read_text().split()[:4]
    folder = file.parent
    info = NeurochemInfo(folder / energies, folder / constants, folder / prefix, int(count))
    computer, symbols = load_aev_computer_and_symbols(info.const, neighborlist="adaptive")
    return ANI(
        symbols,
        computer,
        load_ensemble(symbols, info.ensemble_prefix, info.ensemble_size),
        load_sae(info.sae),
        periodic_table_index=True,
    )


def _within(file: Path) -> Iterator[Path]:
    """The files that a `.info` file stands for.

    Raises:
        ValueError: when it is not such a file, or they are not there.
    """
    try:
        constants, energies, prefix, count = file.read_text().split()[:4]
        members = [file.parent / f"{prefix}{n}" / "networks" for n in range(int(count))]
    except (OSError, ValueError):
        raise ValueError(f"{file} is no .info file of NeuroChem: four lines, as of ani-1x_8x.info") from None
    for needed in (file.parent / constants, file.parent / energies, *members):
        if not needed.exists():
            raise ValueError(f"{file} needs {needed}, which is not there")
    yield from (file, file.parent / constants, file.parent / energies)
    for member in members:
        yield from sorted(one for one in member.iterdir() if one.suffix in (".nnf", ".wparam", ".bparam"))


def _check_layers(file: Path) -> None:
    """Make sure that the description of a network's layers holds words and numbers only.

    Raises:
        RuntimeError: when it does not.
    """
    content = file.read_bytes()
    try:  # a line of numbers, then bz2
        text = bz2.decompress(content[content.index(b"=") + 2 :])[:-1].decode("ascii").strip()
    except (OSError, ValueError):
        raise RuntimeError(f"{file}: this is no network of NeuroChem") from None
    if not _LAYERS.fullmatch(text):
        raise RuntimeError(f"{file}: the layers are described by more than words and numbers, which could be executed")


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), numbers it computes in, and their number; and the file that a name stands for."""
    model = made.model
    return {
        "elements": list(model.symbols),
        "cutoff": float(model.cutoff),
        "precision": str(next(model.parameters()).dtype).removeprefix("torch."),
        "parameters": sum(one.numel() for one in model.parameters()),
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """A network of TorchANI.

    Args:
        path: the `.info` file of a network in the files of NeuroChem.
        name: of a published network, ``"ANI1x"``, ``"ANI1ccx"``, ``"ANI2x"`` and more, instead of a file; it is
            downloaded once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: "float64" or "float32".

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the network.
        ModelError: for files that are damaged or could execute code.
    """
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework, one_of

    try:
        files = list(_within(one)) if (one := next(iter(one_of(path, name)), None)) is not None else []
    except ValueError as error:
        raise InputError(str(error)) from None
    arguments = {"path": str(path) if path else None, "name": name, "precision": precision}
    return framework("ani", arguments, install=INSTALL, python=python, elements=elements, files=files)
