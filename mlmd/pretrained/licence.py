"""Under which licence a model of somebody else may be used: of its weights, and of the package that computes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mlmd.pretrained.recipe import Recipe

SHIPPED = ("chgnet", "sevennet")
"""Kinds whose networks with a name lie in the package, under its licence."""
PUBLISHED = {
    "ani": "MIT",
    "matgl": "BSD-3-Clause",
    "mattersim": "MIT",
    "nequix": "MIT",
    "orb": "Apache-2.0",
}
"""Kinds whose networks with a name are downloaded, and the one licence that these were published under.

Those of MACE have more than one: its file tells which (`mlmd.pretrained.mace.facts`).
"""
WITHOUT = ("d3",)
"""Kinds that have no weights."""
UNKNOWN = "not known"


def licence(recipe: Recipe, facts: Mapping[str, Any], packages: Collection[str]) -> str:
    """What is known, for a person. A file may have come from anybody: of its weights nothing is known.

    Args:
        recipe: of the calculator.
        facts: that it tells of itself: ``licences`` of packages, as installed where it runs, and ``licence`` of the
            weights, where its framework has several.
        packages: that compute.
    """
    own = {name: facts.get("licences", {}).get(name) or UNKNOWN for name in packages}
    of_packages = [f"of the package {name}: {one}" for name, one in own.items()]
    if recipe.kind in WITHOUT:
        return "; ".join(of_packages) or UNKNOWN
    named = recipe.arguments.get("name") is not None and recipe.arguments.get("path") is None
    if named and recipe.kind in SHIPPED and own:
        return "; ".join(f"of the package {name} and the weights in it: {one}" for name, one in own.items())
    weights = facts.get("licence") or (PUBLISHED.get(recipe.kind) if named else None) or UNKNOWN
    return "; ".join([f"of the weights: {weights}", *of_packages])
