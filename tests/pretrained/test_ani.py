"""ANI in its own environment: NeuroChem's files, molecules, and what every potential obeys."""

from __future__ import annotations

import bz2
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.units import Hartree
from elsewhere import (
    answers_inside,
    assert_extensive,
    assert_forces_are_derivatives,
    assert_runs,
    assert_same,
    assert_stress_is_derivative,
    evaluate,
    own_answers,
    python_of,
)

from mlmd.errors import InputError, ModelError, SimulationError
from mlmd.pretrained.ani import load
from mlmd.pretrained.external import External

OWN = """
from pathlib import Path
from torchani.arch import ANI
from torchani.neurochem import NeurochemInfo, modules_from_info
folder = Path({folder!r})
parameters = folder / "rHCNO-5.2R_16-3.5A_a4-8.params"
info = NeurochemInfo(folder / "sae_linfit.dat", parameters, folder / "train", 8)
computer, networks, energies, symbols = modules_from_info(info)
calculator = ANI(symbols, computer, networks, energies, periodic_table_index=True).double().ase()
"""


@pytest.fixture(scope="module")
def python() -> str:
    return python_of("ani")


@pytest.fixture(scope="module")
def weights(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ani-1x_8x.info` and `ani-1ccx_8x.info`."""
    folder = tmp_path_factory.mktemp("ani")
    for name in ("ani-1x_8x", "ani-1ccx_8x"):
        with tarfile.open(shared / "models_ani" / f"{name}.tar.xz") as file:
            file.extractall(folder, filter="data")
    return folder / "resources"


@pytest.fixture(scope="module")
def ani(python: str, weights: Path) -> External:
    return load(path=weights / "ani-1x_8x.info", python=python)


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def methane() -> Atoms:
    """A crystal with a cell that is smaller than the cutoff."""
    atoms = molecule("CH4", cell=[[4.1, 0, 0], [0.5, 4.2, 0], [0.2, 0.4, 4.0]], pbc=True)
    atoms.rattle(0.05, seed=2)
    return atoms


@pytest.mark.parametrize("name", ["ani-1x_8x", "ani-1ccx_8x"])
def test_it_says_what_its_own_calculator_says(name: str, python: str, weights: Path, tmp_path: Path) -> None:
    """And TorchANI's other search for neighbours."""
    structures = [ethanol(), methane()]
    expected = own_answers(python, OWN.format(folder=str(weights / name)), structures, tmp_path)
    ani = load(path=weights / f"{name}.info", python=python)
    for atoms, own in zip(structures, expected, strict=True):
        assert_same(evaluate(ani, atoms), own, atoms, energy=1e-8)


def test_it_says_the_same_in_the_process_of_the_framework(
    ani: External, python: str, weights: Path, tmp_path: Path
) -> None:
    structures, given = [ethanol(), methane()], {"path": str(weights / "ani-1x_8x.info")}
    inside = answers_inside(python, "mlmd.pretrained.ani", given, structures, tmp_path)
    for atoms, same in zip(structures, inside, strict=True):
        assert_same(same, evaluate(ani, atoms), atoms, energy=1e-8)


def test_the_networks_are_those_that_were_published(ani: External, python: str, weights: Path) -> None:
    """Water by ωB97X/6-31G(d) is -76.38 Hartree, and by CCSD(T) at the basis set limit -76.37."""
    coupled = load(path=weights / "ani-1ccx_8x.info", python=python)
    water = molecule("H2O")
    assert evaluate(ani, water).energy / Hartree == pytest.approx(-76.384, abs=0.005)
    assert evaluate(coupled, water).energy / Hartree == pytest.approx(-76.374, abs=0.01)
    assert evaluate(ani, water).energy != pytest.approx(evaluate(coupled, water).energy, abs=1e-3)


def test_forces_and_stress_are_derivatives_and_energies_add_up(ani: External) -> None:
    assert_forces_are_derivatives(ani, ethanol(), step=1e-4, close=1e-6)
    assert_forces_are_derivatives(ani, methane(), step=1e-4, close=1e-6)
    assert_stress_is_derivative(ani, methane(), step=1e-5, close=1e-5)
    assert_extensive(ani, methane())
    assert_extensive(ani, methane(), (2, 2, 2))


def test_a_molecule_is_the_same_in_the_open_and_in_a_large_cell(ani: External) -> None:
    boxed = ethanol()
    boxed.set_cell([14.0, 14.0, 14.0])
    boxed.pbc = True
    found, expected = evaluate(ani, boxed), evaluate(ani, ethanol())
    assert_same(found, expected, boxed, energy=1e-9)
    assert expected.virial == pytest.approx(-ethanol().positions.T @ expected.forces, abs=1e-6)


def test_what_it_tells_of_itself(ani: External) -> None:
    assert ani.elements == ("H", "C", "N", "O")
    assert ani.cutoff == pytest.approx(5.2)
    assert ani.facts["precision"] == "float64"
    assert ani.facts["parameters"] == pytest.approx(8 * 326_660, rel=1e-6)


def test_single_precision(ani: External, python: str, weights: Path) -> None:
    single = load(path=weights / "ani-1x_8x.info", python=python, precision="float32")
    assert single.facts["precision"] == "float32"
    found, exact = evaluate(single, ethanol()), evaluate(ani, ethanol())
    assert 0 < np.abs(found.forces - exact.forces).max() < 1e-3
    assert found.energy == pytest.approx(exact.energy, abs=2e-3)


def test_it_runs(tmp_path: Path, python: str, weights: Path) -> None:
    table = f'{{ kind = "ani", path = "{weights / "ani-1x_8x.info"}", python = "{python}" }}'
    assert_runs(tmp_path / "open", ethanol(), table, npt=False)
    assert_runs(tmp_path / "periodic", methane() * (2, 2, 2), table)


def test_what_is_periodic_in_some_directions_is_refused(ani: External) -> None:
    slab = methane()
    slab.pbc = (True, True, False)
    with pytest.raises(SimulationError, match="PBC only in some directions"):
        evaluate(ani, slab)


def test_layers_that_would_execute_code_are_refused(weights: Path, python: str, tmp_path: Path) -> None:
    """TorchANI would hand this text to Python."""
    shutil.copytree(weights, tmp_path / "files")
    layers = tmp_path / "files" / "ani-1x_8x" / "train3" / "networks" / "ANN-O.nnf"
    content = layers.read_bytes()
    start = content.index(b"=") + 2
    text = bz2.decompress(content[start:])
    bait = tmp_path / "executed"
    text = text.replace(b"nodes=128", f"nodes=open('{bait}', 'w').write('x') or 128".encode())
    layers.write_bytes(content[:start] + bz2.compress(text))
    with pytest.raises(ModelError, match=r"ANN-O.nnf: the layers are described by more than words and numbers"):
        load(path=tmp_path / "files" / "ani-1x_8x.info", python=python)
    assert not bait.exists()


def test_files_that_are_not_there_are_an_error(weights: Path, python: str, tmp_path: Path) -> None:
    copied = tmp_path / "ani-1x_8x.info"
    shutil.copy(weights / "ani-1x_8x.info", copied)
    with pytest.raises(InputError, match=r"needs .*params, which is not there"):
        load(path=copied, python=python)
    copied.write_text("nothing\n")
    with pytest.raises(InputError, match=r"no .info file of NeuroChem"):
        load(path=copied, python=python)
    with pytest.raises(InputError, match=r"no network 'ANI3'. Known: .*ANI2x"):
        load(name="ANI3", python=python)
