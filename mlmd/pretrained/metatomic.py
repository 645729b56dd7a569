"""Models of metatomic, e.g. those of metatrain and the PET family (F. Bigi et al., arXiv:2508.15704).

A `.pt` file is a TorchScript program, and may ask for libraries of its own ("extensions") that are loaded with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlmd.potentials import Potential

INSTALL = "metatomic-torch metatomic-ase ase"
EXECUTES = "a model of metatomic is a program (TorchScript), which can write files when it runs"
LOADED = "a library that a model of metatomic loads is native code, which is executed"


def calculator(path: str, device: str = "cpu", variant: str | None = None, extensions: str | None = None) -> Any:
    """Its ASE calculator, on the device asked for where the model takes it.

    Its lists of neighbours are new at every step, so that answers do not depend on the steps before.

    Raises:
        ValueError: for a model without energies.
    """
    import warnings

    import torch
    from metatomic.torch import load_atomistic_model
    from metatomic_ase import MetatomicCalculator

    if device == "cpu":
        with warnings.catch_warnings():  # of torch, which would rather have other formats
            warnings.simplefilter("ignore", DeprecationWarning)
            # kernels that are fused after some calls round otherwise: no run in parts would be the run in one
            torch.jit.set_fusion_strategy([])
    model = load_atomistic_model(path, extensions_directory=extensions)
    can = model.capabilities()
    if not any(name.partition("/")[0] == "energy" for name in can.outputs):
        raise ValueError(f"this model gives {', '.join(sorted(can.outputs)) or 'nothing'}, but no energies")
    made = MetatomicCalculator(
        model,
        device=device if device.partition(":")[0] in can.supported_devices else None,
        variants=None if variant is None else {"energy": variant},
        uncertainty_threshold=None,
        neighbor_skin=0.0,
    )
    made.implemented_properties = ["energy", "forces", "stress"]  # it names everything that ASE knows
    return made


def facts(made: Any) -> dict[str, Any]:
    """Elements, cutoff (Å) of its list of neighbours, precision, number of parameters, and what it calls itself."""
    from ase.data import chemical_symbols

    model = made.model()
    can = model.capabilities()
    told = {
        "elements": [chemical_symbols[number] for number in can.atomic_types],
        "cutoff": max((one.engine_cutoff("angstrom") for one in model.requested_neighbor_lists()), default=0.0),
        "precision": can.dtype,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "computes on": str(made._device),
    }
    if name := model.metadata().name:
        told["model"] = name
    return told


def load(
    path: Path,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    precision: str = "float64",
    variant: str | None = None,
    extensions: str | None = None,
    trust: Sequence[str] = (),
) -> Potential:
    """A model of metatomic: by the pairs of mlmd where the framework is installed beside it, else by its calculator.

    Args:
        path: a `.pt` file.
        python: the interpreter of the environment that has the framework, where that is another one.
        elements: that it may be asked about.
        precision: that of the file whatever is said: the default asks for what the model has.
        variant: which of several energies of the model, e.g. ``"pbe"``.
        extensions: the folder of libraries that the model needs; one that lies beside the file is not looked at. Every
            library in it has to be trusted too.
        trust: digests of the file and of the libraries.

    Raises:
        InputError: for a folder that is not there, and when the framework cannot make the model.
        ModelError: for files that are not trusted.
    """
    from mlmd.errors import InputError
    from mlmd.potentials.trust import check
    from mlmd.pretrained.external import framework
    from mlmd.pretrained.native import on_pairs

    folder = None if extensions is None else Path(extensions)
    if folder is not None and not folder.is_dir():
        raise InputError(f"extensions: {folder}: no such folder.")
    found = [] if folder is None else sorted(one for one in folder.rglob("*") if one.is_file())
    libraries = [check(one, trust, LOADED) for one in found]
    arguments = {
        "path": str(Path(path).absolute()),
        "variant": variant,
        "extensions": None if folder is None else str(folder.absolute()),
    }
    made = framework(
        "metatomic", arguments, install=INSTALL, python=python, elements=elements, files=[Path(path), *libraries],
        executes=EXECUTES, trust=trust,
    )  # fmt: skip
    return on_pairs(made)
