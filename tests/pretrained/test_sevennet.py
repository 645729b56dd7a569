"""SevenNet in its own environment, besides the contract."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from ase import Atoms
from cases import SEVENNET
from elsewhere import (
    assert_same,
    evaluate,
    own_answers,
    python_of,
)
from in_process import ROOT, harmful
from salts import open_above, sodium_chloride, water

from mlmd.errors import InputError
from mlmd.neighbors import build_graph
from mlmd.pretrained.external import External
from mlmd.pretrained.sevennet import SHIPPED, load
from mlmd.pretrained.sevennet_graph import in_places


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("sevennet")


@pytest.fixture(scope="module")
def sevennet(python: str) -> External:
    made = load(name="7net-0", python=python)
    assert isinstance(made, External)
    return made


def test_what_it_tells_of_itself(sevennet: External) -> None:
    assert sevennet.cutoff == pytest.approx(5.0)
    assert len(sevennet.elements) == 89 and {"Na", "Cl"} < {*sevennet.elements} and "At" not in sevennet.elements
    assert sevennet.facts["precision"] == "float32" and sevennet.facts["parameters"] == 842_623
    assert sevennet.facts["versions"].keys() >= {"sevenn", "torch"}


def test_another_network_of_the_package(python: str, tmp_path: Path) -> None:
    own = own_answers(python, SEVENNET.format(name="7net-l3i5", modal=None), [sodium_chloride()], tmp_path)[0]
    made = load(name="SevenNet-l3i5", python=python)
    assert isinstance(made, External)
    assert_same(evaluate(made, sodium_chloride()), own, sodium_chloride())


def test_every_name_is_that_of_a_network_within_the_package(python: str) -> None:
    script = "from sevenn.util import pretrained_name_to_path as p; import json, sys; "
    script += "print(json.dumps({one: p(one) for one in sys.argv[1:]}))"
    done = subprocess.run([python, "-Ec", script, *SHIPPED], capture_output=True, text=True, check=True)
    constants = "from sevenn import _const; import json, sys; "
    constants += "print(json.dumps([getattr(_const, one) for one in sys.argv[1:]]))"
    ours = subprocess.run([python, "-Ec", constants, *SHIPPED.values()], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert [theirs[name] for name in SHIPPED] == json.loads(ours.stdout.splitlines()[-1])


def test_a_name_downloads_nothing_and_opens_no_file_that_is_called_so(python: str, tmp_path: Path) -> None:
    file = harmful(tmp_path / "evil.pth", tmp_path / "canary")
    for name in ("7net-omni", str(file)):
        with pytest.raises(
            InputError, match=r"is not within the package, which has 7net-0, .* give path = and trust ="
        ):
            load(name=name, python=python)
    assert not (tmp_path / "canary").exists()


def test_kinds_of_data_are_asked_for_by_name(python: str) -> None:
    with pytest.raises(InputError, match=r"modal argument missing \(avail: \['R2SCAN', 'PBE'\]\)"):
        load(name="7net-mf-0", python=python)


def test_its_convolutions_are_computed_here(python: str) -> None:
    """Of all networks of the package; what does not fit would be computed by the framework, several times slower."""
    script = "import sys; from mlmd.pretrained.sevennet import load; "
    script += "print(*(len(load(name=one)._convolutions) for one in sys.argv[1:]))"
    paths = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", script, "7net-0", "7net-l3i5"], capture_output=True, text=True, env=paths, check=True
    )
    assert done.stdout.split() == ["5", "5"]


def test_neighbours_stand_side_by_side() -> None:
    """Every pair once, at the places of its centre; nobody at the others, far enough to count for nothing."""
    graph = build_graph([sodium_chloride(), Atoms("Na", [[1, 2, 3]]), open_above(sodium_chloride(2)), water()], 5.0)
    vectors = graph.vectors.float()
    table = in_places(graph, vectors, 5.0)
    there = table["places"].squeeze(1) == 1
    n_places = len(there) // graph.n_atoms
    assert n_places == torch.bincount(graph.pairs[0]).max() and len(there) == n_places * graph.n_atoms
    assert torch.equal(table["edge_index"][:, there], graph.pairs)
    assert torch.equal(table["edge_index"][0], torch.arange(len(there)) // n_places)
    assert torch.equal(table["edge_vec"][there], vectors)
    assert (~there).sum() > 0 and (table["places"][~there] == 0).all()
    lengths = table["edge_vec"][~there].norm(dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, 5.0))


def test_atoms_without_neighbours_have_a_place() -> None:
    graph = build_graph(Atoms("NaCl", [[0, 0, 0], [9, 0, 0]]), 5.0)
    table = in_places(graph, graph.vectors.float(), 5.0)
    assert table["places"].tolist() == [[0.0], [0.0]] and table["edge_index"][0].tolist() == [0, 1]
