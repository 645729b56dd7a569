"""CHGNet in its own environment, besides the contract; and bonds and angles made of pairs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest
import torch
from ase import Atoms
from cases import NAMED
from elsewhere import evaluate, python_of
from in_process import ROOT, need_mlmd, trusted
from salts import lithium_fluoride, sodium_chloride, thin, water

from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.pretrained.chgnet import load
from mlmd.pretrained.chgnet_graph import angles_of, with_reverses
from mlmd.pretrained.external import External


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("chgnet")


@pytest.fixture(scope="module")
def chgnet(python: str) -> External:
    made = load(python=python)
    assert isinstance(made, External)
    return made


def test_what_it_tells_of_itself(chgnet: External) -> None:
    """Elements that none of the data had are not among those it knows, though the framework takes them."""
    assert chgnet.cutoff == pytest.approx(6.0)
    assert len(chgnet.elements) == 89 and {"Na", "Cl", "Pu"} < {*chgnet.elements} and "At" not in chgnet.elements
    assert chgnet.facts["precision"] == "float32" and chgnet.facts["parameters"] == 412_525
    assert chgnet.facts["versions"].keys() >= {"chgnet", "torch"}


def test_the_licence_is_that_of_the_package_where_the_network_is_its_own(chgnet: External, python: str) -> None:
    """Of a file that is given nothing is known, though it may be the same."""
    path = NAMED[0].file(python)
    given = load(path=path, python=python, trust=[trusted(path)])
    assert isinstance(given, External)
    assert chgnet.described()["licence"] == "of the package chgnet and the weights in it: Modified BSD"
    assert given.described()["licence"] == "of the weights: not known; of the package chgnet: Modified BSD"


def test_a_name_that_there_is_not(python: str) -> None:
    with pytest.raises(InputError, match=r"name: 0\.4\.0 is none of its networks, which are .*0\.3\.0"):
        load(name="0.4.0", python=python)


def test_atoms_in_the_open_need_no_cell(chgnet: External) -> None:
    """They have the energy and forces that they have in a large cell; single precision rounds these to 1e-4 eV/Å."""
    alone, boxed = water(), water()
    boxed.center(vacuum=8.0)
    boxed.pbc = True
    assert not alone.cell.rank and not alone.pbc.any()
    found, expected = evaluate(chgnet, alone), evaluate(chgnet, boxed)
    assert found.energy == pytest.approx(expected.energy, abs=1e-4)
    assert found.forces == pytest.approx(expected.forces, abs=2e-4)


def test_nobody_knows_what_a_file_was_fitted_to(python: str) -> None:
    path = NAMED[0].file(python)
    assert "At" in load(path=path, python=python, trust=[trusted(path)]).elements


def test_nothing_is_said_of_what_a_user_cannot_change(python: str) -> None:
    """The framework tells which device it is on, and that elements have no electronegativity."""
    script = "from ase.build import bulk; from mlmd.pretrained.chgnet import load; "
    script += "from mlmd.potentials.evaluate import predictor; predictor(load())(bulk('LiF', 'rocksalt', 4.0))"
    paths = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, env=paths, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("atoms", [*NAMED[0].structures, Atoms("Na", [[1, 2, 3]])], ids=lambda one: str(one.symbols))
def test_bonds_are_two_pairs_each(atoms: Atoms) -> None:
    """Of opposite vectors; also where atoms are bound to themselves, and where there is no bond at all."""
    graph, to_bond, of_bond = with_reverses(build_graph([atoms, atoms], 6.0))
    assert 2 * len(of_bond) == graph.pairs.shape[1] == len(to_bond)
    assert torch.equal(to_bond[of_bond], torch.arange(len(of_bond)))
    assert (torch.bincount(to_bond, minlength=len(of_bond)) == 2).all()
    sums = torch.zeros((len(of_bond), 3), dtype=torch.float64).index_add_(0, to_bond, graph.vectors)
    assert torch.allclose(sums, torch.zeros_like(sums), rtol=0, atol=1e-12)


def test_a_pair_without_its_reverse_goes() -> None:
    """Rounding can leave one of the two within the cutoff."""
    graph = build_graph(lithium_fluoride(), 6.0)
    n_pairs = graph.pairs.shape[1]
    kept = torch.arange(n_pairs) != 5
    lame = replace(graph, pairs=graph.pairs[:, kept], shifts=graph.shifts[kept], vectors=graph.vectors[kept])
    whole, to_bond, of_bond = with_reverses(lame)
    assert whole.pairs.shape[1] == n_pairs - 2 == len(to_bond) == 2 * len(of_bond)


def test_angles_are_two_different_bonds_of_an_atom() -> None:
    graph = build_graph([sodium_chloride(), thin(), lithium_fluoride()], 6.0)
    short = [n for n, length in enumerate(graph.distances.tolist()) if length < 3.0]
    centre = graph.pairs[0].tolist()
    expected = {(one, other) for one in short for other in short if one != other and centre[one] == centre[other]}
    first, second = angles_of(graph, 3.0)
    assert len(first) == len(expected) > 0
    assert {*zip(first.tolist(), second.tolist(), strict=True)} == expected


def test_without_short_bonds_there_are_no_angles() -> None:
    assert [len(one) for one in angles_of(build_graph(thin(), 6.0), 3.0)] == [0, 0]


def test_on_the_pairs_of_mlmd_it_differs_by_nothing_but_rounding(python: str) -> None:
    """Both in double precision: in single precision energies come in steps of 1.5e-5 eV."""
    need_mlmd(python, "chgnet")
    done = subprocess.run(
        [python, str(ROOT / "tests" / "pretrained" / "double_chgnet.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    apart = json.loads(done.stdout.splitlines()[-1])
    assert apart["largest"] > 0.1
    assert apart["energy"] < 1e-9 and apart["forces"] < 1e-11
