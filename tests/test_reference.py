"""Stored numbers of models of others: what is told when a model computes the same, and when it does not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from mlmd.errors import ModelError
from mlmd.potentials.combine import Sum
from mlmd.potentials.pair import ZBL
from mlmd.potentials.trust import Digest, digest_of
from mlmd.pretrained import reference
from mlmd.pretrained.external import External
from mlmd.pretrained.recipe import Recipe

SPRINGS = """
from ase.calculators.calculator import Calculator, all_changes

class Springs(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.5 * (self.atoms.positions**2).sum(), "forces": -self.atoms.positions}
"""


@pytest.fixture
def model(tmp_path: Path) -> External:
    """Springs to the origin, computed by this release of PyTorch, as far as anybody can tell."""
    file = tmp_path / "springs.py"
    file.write_text(SPRINGS)
    recipe = Recipe("springs", f"{file}:Springs", {"stiffness": 1.0}, install="torch and more")
    return External(recipe, elements=["Na", "Cl"], files=[weights("springs.pt", tmp_path)])


def weights(name: str, folder: Path) -> Digest:
    """Of a file that has its name for a content."""
    path = folder / name
    path.write_text(name)
    return digest_of(path)


@pytest.fixture
def known(model: External) -> reference.Reference:
    """What it says here."""
    own = reference.identity(model)
    assert own is not None
    assert (own.weights, own.library) == (hashlib.sha256(b"springs.pt").hexdigest(), "torch")
    return reference.measure(model, own, "NaCl")


def other_numbers(one: reference.Reference) -> reference.Reference:
    return replace(one, energy=one.energy - 1.0)


def test_a_model_that_computes_what_it_did_is_told(model: External, known: reference.Reference) -> None:
    (text,) = reference.compare(model, known=[known])
    assert text == f"the springs model gives NaCl the energy and forces that are known of torch {known.version}"
    elsewhere = replace(known, energy=known.energy + 1e-5, version="1.0")  # of single precision on another processor
    (text,) = reference.compare(Sum([ZBL(cutoff="1 Å"), model]), known=[elsewhere])
    assert text == f"the springs model, by torch {known.version}, gives NaCl energy and forces of torch 1.0"


def test_other_numbers_of_the_same_release_are_refused(model: External, known: reference.Reference) -> None:
    forces = np.array(known.forces)
    forces[3, 1] += 0.01
    turned = replace(known, forces=tuple(map(tuple, forces.tolist())))
    for one, difference in ((other_numbers(known), "0 eV/Å"), (turned, "0.01 eV/Å")):
        with pytest.raises(ModelError) as caught:
            list(reference.compare(model, known=[one]))
        said = str(caught.value)
        assert f"has an energy of {known.energy:.5f} eV by torch {known.version}, and had {one.energy:.5f} eV" in said
        assert f"forces differ by up to {difference}" in said and "install torch" in said


def test_other_numbers_of_another_release_are_a_warning(model: External, known: reference.Reference) -> None:
    older = replace(other_numbers(known), version="1.0")
    (text,) = reference.compare(model, known=[older])
    assert text.startswith("warning: the springs model computes something else than torch 1.0 did")
    assert f"by torch {known.version}, and had" in text and "take torch==1.0" in text
    # numbers of its own release count more
    (text,) = reference.compare(model, known=[older, known])
    assert "known of torch" in text


def test_nothing_is_said_of_other_weights_options_and_kinds(model: External, known: reference.Reference) -> None:
    wrong = other_numbers(known)
    others = [
        replace(wrong, weights="cd" * 32),
        replace(wrong, options={"stiffness": 2.0}),
        replace(wrong, kind="mace"),
    ]
    assert list(reference.compare(model, known=others)) == []
    assert list(reference.compare(ZBL(cutoff="1 Å"), known=[wrong])) == []


def test_weights_of_several_files_are_known_by_all_of_them(model: External, tmp_path: Path) -> None:
    one, other, another = (weights(name, tmp_path) for name in ("one", "other", "another"))
    first, second = (External(model.recipe, files=[one, more]) for more in (other, another))
    identities = [reference.identity(one) for one in (first, second, model)]
    assert len({one.weights for one in identities if one is not None}) == 3


def test_what_is_stored_is_of_structures_that_code_makes(tmp_path: Path) -> None:
    every = reference.stored()
    assert {one.kind for one in every} >= {"chgnet", "sevennet", "ani"}
    for one in every:
        forces = np.array(one.forces)
        assert one.structure in reference.STRUCTURES
        assert forces.shape == (len(reference.structure(one.structure)), 3)
        # nothing pulls a whole structure anywhere, to single precision
        assert np.abs(forces.sum(axis=0)).max() < 1e-3 and np.abs(forces).max() > 0.1
    reference.store(every[::-1], tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == reference.FILE.read_bytes()


@pytest.mark.parametrize("kind", sorted({one.kind for one in reference.stored()}))
def test_the_library_of_stored_numbers_is_the_package_that_a_user_is_told_to_install(kind: str) -> None:
    """Otherwise no model of the kind would be compared with them; the line may have options and several parts."""
    installed = Recipe(kind, install=import_module(f"mlmd.pretrained.{kind}").INSTALL)
    assert {one.library for one in reference.stored() if one.kind == kind} == {installed.library}


def test_every_part_of_what_is_to_be_installed_is_a_line_of_the_same_environment() -> None:
    recipe = Recipe("matgl", python="env/bin/python", install="--no-deps a==1 && b c")
    told = str(recipe.failed("matgl: there is no module 'matgl' in env"))
    assert told.endswith("env/bin/python -m pip install --no-deps a==1 && env/bin/python -m pip install b c.")
