"""What a potential is made of, in facts: potentials that are added up or averaged, descriptors, fits."""

from __future__ import annotations

from typing import Any

import torch

from mlmd.descriptors import Descriptor
from mlmd.fitting import Regressor
from mlmd.fitting.expansion import Expansion
from mlmd.potentials import Potential
from mlmd.potentials.learned import LearnedPotential
from mlmd.potentials.names import name_of_descriptor, name_of_fit


def parts_of_potential(potential: Potential) -> dict[str, Any]:
    """The parts of a sum or the members of a committee, each with its kind, cutoff and size; descriptor and fit of a
    learned potential; nothing for all others.
    """
    for name in ("parts", "members"):
        if parts := getattr(potential, name, ()):
            return {name: [_part(one) for one in parts]}
    if not isinstance(potential, LearnedPotential):
        return {}
    descriptors = getattr(potential.descriptor, "parts", [potential.descriptor])
    told = [_descriptor(one) for one in descriptors]
    return {"descriptor": told[0] if len(told) == 1 else told, "fit": _fit(potential.regressor)}


def _part(potential: Potential) -> dict[str, Any]:
    """One of several potentials."""
    facts: dict[str, Any] = {"kind": potential.spec()["kind"], "cutoff [Å]": float(potential.cutoff)}
    inner = parts_of_potential(potential)
    if hasattr(potential, "parameters"):
        facts["parameters"] = sum(one.numel() for one in potential.parameters())
    return facts | inner


def _descriptor(descriptor: Descriptor) -> str:
    """Its kind, reach and size."""
    reach = f", up to {descriptor.cutoff:g} Å" if descriptor.cutoff else ""
    return f"{name_of_descriptor(descriptor)}, {descriptor.n_features:,} features{reach}"


def _fit(regressor: Regressor) -> str | list[str]:
    """Its kind and the coefficients that it is linear in, or all its parameters."""
    if terms := getattr(regressor, "terms", ()):
        return [_one_fit(term) for term in terms]
    if members := getattr(regressor, "members", ()):
        return f"{len(members)} of {_one_fit(members[0])}"
    return _one_fit(regressor)


def _one_fit(regressor: Regressor) -> str:
    kind = name_of_fit(regressor)
    if isinstance(regressor, Expansion):
        return f"{kind}, {regressor.n_basis:,} functions"
    if not isinstance(regressor, torch.nn.Module):
        return kind
    return f"{kind}, {sum(one.numel() for one in regressor.parameters()):,} parameters"
