"""MatGL: TensorNet, M3GNet, CHGNet and more (T. W. Ko et al., npj Comput. Mater. 11, 253, 2025).

A model is a folder with `model.json`, `model.pt` and `state.pt`. The files tell the classes, and the versions of these,
that wrote them. Later releases of MatGL read them with a warning and compute something else: for files of TensorNet of
version 1, MatGL 4.1.2 gives wrong energies for all compounds. So files are refused unless classes and versions agree.

MatGL reads pickles. Those here are read before with torch's restricted reader, which refuses all that could execute.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.pretrained.external import External

INSTALL = "--no-deps matgl==2.0.4 && torch-geometric lightning pymatgen boto3"
"""Its newest release computes the published networks wrong, and its own dependencies would replace PyTorch."""
FILES = ("model.json", "model.pt", "state.pt")
RELEASES = {("matgl.models._tensornet_pyg", "TensorNet", 1): "2.0.4"}
"""Module, class and version in files -> a release of MatGL that computes them as they were trained."""


def calculator(path: str | None = None, name: str | None = None) -> Any:
    """Its ASE calculator, of a folder or by the name of a published model, which the framework downloads.

    Raises:
        ValueError: for files that are not of this release of MatGL.
        RuntimeError: for files that are damaged or could execute code.
    """
    import warnings

    import matgl
    import torch
    from matgl.ext.ase import PESCalculator

    if path is not None:
        folder = Path(path)
        check_versions(json.loads((folder / "model.json").read_text()), matgl.__version__)
        for one in ("model.pt", "state.pt"):
            try:
                torch.load(folder / one, map_location="cpu", weights_only=True)
            except Exception as error:
                raise RuntimeError(f"{folder / one} is damaged, or more than numbers: {str(error)[:200]}") from None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = PESCalculator(matgl.load_model(path if path is not None else name), stress_unit="eV/A3")
    made.weights = [] if path is not None else _files(str(name))
    if any("Incompatible model version" in str(one.message) for one in said):
        raise ValueError(f"{name} is of another release than MatGL {matgl.__version__}, which would compute it wrong")
    return made


def _files(name: str) -> list[str]:
    """Where MatGL keeps the model of a name, as far as its release tells."""
    from matgl.utils import io

    find = getattr(io, "_get_file_paths", None)
    return [] if find is None else [str(one) for one in find(Path(name)).values()]


def check_versions(told: Mapping[str, Any], release: str) -> None:
    """Make sure that MatGL has the classes which wrote a model, in the same versions.

    Args:
        told: content of `model.json`.
        release: of MatGL that is installed.

    Raises:
        ValueError: when it has not, with what to install.
        RuntimeError: when they are no classes of MatGL.
    """
    parts = list(_parts(told))
    if not parts:
        raise RuntimeError("model.json names no class: this is no model of MatGL")
    for module, name, version in parts:
        if module.partition(".")[0] != "matgl":
            raise RuntimeError(f"model.json asks for {module}, which is not of MatGL")
        try:
            here = getattr(getattr(importlib.import_module(module), name), "__version__", 0)
        except (ModuleNotFoundError, AttributeError):
            here = None
        if here != version:
            has = "which it has not" if here is None else f"of which it has version {here}"
            right = [RELEASES[part] for part in parts if part in RELEASES]
            hint = f"pip install --no-deps matgl=={right[0]}" if right else "install the release that wrote them"
            raise ValueError(
                f"MatGL {release} would compute something else than this model, which was written by {module}.{name} "
                f"version {version}, {has}. Into an environment of its own: {hint}"
            )


def _parts(told: Any) -> Iterator[tuple[str, str, int]]:
    """Module, class and version of everything within `model.json`."""
    if isinstance(told, Mapping):
        if "@class" in told:
            yield str(told.get("@module")), str(told["@class"]), int(told.get("@model_version", 0))
        for one in told.values():
            yield from _parts(one)


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å), numbers it computes in, and their number; and the files that a name stands for."""
    parameters = list(made.potential.parameters())
    return {
        "elements": list(made.element_types),
        "cutoff": float(made.cutoff),
        "precision": str(parameters[0].dtype).removeprefix("torch."),
        "parameters": sum(one.numel() for one in parameters),
        "weights": made.weights,
    }


def load(
    path: Path | None = None,
    name: str | None = None,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
) -> External:
    """A potential of MatGL.

    Args:
        path: the folder of a model.
        name: of a published model, e.g. ``"TensorNet-MatPES-PBE-v2025.1-PES"``, instead of a folder; it is downloaded
            once.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: float32 whatever is said: the default asks for what the model has.

    Raises:
        InputError: for neither or both of path and name, and when the framework cannot make the model, as for files
            that its release would read wrong.
        ModelError: for files that are damaged or could execute code.
    """
    from mlmd.errors import InputError
    from mlmd.pretrained.external import framework, one_of

    files = [folder / one for folder in one_of(path, name) for one in FILES]
    if missing := [one for one in files if not one.is_file()]:
        raise InputError(f"{path}: a model of MatGL is a folder with {', '.join(FILES)}; {missing[0]} is not there.")
    arguments = {"path": str(path) if path else None, "name": name}
    return framework(
        "matgl", arguments, install=INSTALL, python=python, elements=elements, files=files, moves=False,
        partly_periodic=False,  # it would be taken for not periodic at all
    )  # fmt: skip
