"""Potentials of n2p2 against the energies and forces that n2p2 itself computed, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from command_line import mlmd
from kernel_systems import TOLERANCES, Tolerance, assert_kernel_is_its_reference, needs_kernels, system

from mlmd import units
from mlmd.config.files import files_of_potential
from mlmd.config.potential import PotentialTable
from mlmd.errors import InputError, MlmdError, ModelError
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import evaluator
from mlmd.potentials.fused import FusedEvaluator
from mlmd.potentials.hdnnp import load
from mlmd.potentials.load import load_potential, recognise

UNITS = {"Cu2S_PBE": ("Å", "eV"), "H2O_RPBE-D3": ("bohr", "hartree")}
"""Types 2, 3 and 9 with the quintic cutoff function, scaled by σ, softplus; 2 and 3 with tanh³, centred, tanh."""


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "ref_hdnnp_n2p2"


def structure(path: Path, length: float) -> Atoms:
    """The structure of an input.data, in Å."""
    words = [line.split() for line in path.read_text().splitlines()]
    atoms = [line for line in words if line[0] == "atom"]
    cell = length * np.array([line[1:4] for line in words if line[0] == "lattice"], dtype=float)
    positions = length * np.array([line[1:4] for line in atoms], dtype=float)
    return Atoms([line[4] for line in atoms], positions=positions, cell=cell, pbc=True)


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_kernels)], ids=["torch", "kernel"])
def test_energies_and_forces_are_those_of_n2p2(folder: Path, name: str, compiled: bool) -> None:
    length, energy = UNITS[name]
    angstrom, electronvolt = units.units_of("length")[length], units.units_of("energy")[energy]
    potential = load(folder / name, length=length, energy=energy)
    atoms = structure(folder / name / "input.data", angstrom)
    if compiled:
        fused = evaluator(potential, atoms.numbers, atoms.pbc)
        assert isinstance(fused, FusedEvaluator)
        found = fused.evaluate(atoms.positions, atoms.cell.array)
        total, forces = found.energy, found.forces
    else:
        predicted = potential.predict(build_graph(atoms, potential.cutoff))
        total, forces = float(predicted.energy), predicted.forces.numpy()
    expected = json.loads((folder / "expected_predictions.json").read_text())[name]
    # both are sums of some thousand terms in double precision
    assert total / electronvolt == pytest.approx(expected["energy"], rel=1e-14)
    assert np.abs(forces * angstrom / electronvolt - expected["forces"]).max() < 1e-12


@needs_kernels
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_kernel_is_the_reference_for_a_published_potential_of_water(folder: Path, precision: str) -> None:
    """Cheng et al., Proc. Natl. Acad. Sci. 116, 1110 (2019), in the format of RuNNer."""
    path = folder / "H2O_revPBE0-D3_Cheng2019"
    potential = load(path, length="bohr", energy="hartree", precision=precision)
    reference = load(path, length="bohr", energy="hartree")
    atoms = structure(folder / "H2O_RPBE-D3" / "input.data", units.units_of("length")["bohr"])[:60]
    atoms.pbc = False
    # fitted weights cancel each other: torch in single precision is as far from torch in double
    tolerance = TOLERANCES["float64"] if precision == "float64" else Tolerance(2e-6, 1e-5, 1e-5)
    assert_kernel_is_its_reference(potential, reference, atoms, tolerance=tolerance)


def test_a_published_potential_of_water_has_bonds_of_water(folder: Path) -> None:
    """RuNNer's files, of which no numbers are at hand, are read right if molecules have their shape: 0.97 Å, 104.5°."""
    potential = load(folder / "H2O_revPBE0-D3_Cheng2019", length="bohr", energy="hartree")

    def energy(bond: float) -> float:
        angle = np.radians(104.5)
        molecule = np.array([[0, 0, 0], [bond, 0, 0], [bond * np.cos(angle), bond * np.sin(angle), 0]])
        # as dense as the liquid, which is what the potential has seen
        atoms = Atoms("OH2", positions=molecule, cell=[3.1, 3.1, 3.1], pbc=True)
        return float(potential.predict(build_graph(atoms, potential.cutoff)).energy)

    assert energy(0.97) < min(energy(0.87), energy(1.07))


def test_a_potential_of_n2p2_is_stored_as_one_file(folder: Path, tmp_path: Path) -> None:
    potential = load(folder / "Cu2S_PBE", length="Å", energy="eV")
    modelfile.save(potential, tmp_path / "cu2s.mlmd")
    again = modelfile.load(tmp_path / "cu2s.mlmd")
    graph = build_graph(structure(folder / "Cu2S_PBE" / "input.data", 1.0), potential.cutoff)
    assert torch.equal(again.predict(graph).forces, potential.predict(graph).forces)


# -- a small potential of our own, in the same format -----------------------------------------------------------------

INPUT = """\
# a comment
number_of_elements 2
elements O H
cutoff_type 1 0.2
center_symmetry_functions
scale_symmetry_functions  # by the range
scale_min_short 0.1
scale_max_short 0.9
atom_energy H -0.5
atom_energy O -75.0
mean_energy -2.0
conv_energy 4.0
conv_length 3.0
global_hidden_layers_short 2
global_nodes_short 3 2
global_activation_short t p l
symfunction_short H 12 0.3 0.5 7.0
symfunction_short H 2 O 0.1 0.0 8.0      ! eta, shift, cutoff
symfunction_short H 2 H 0.1 0.0 8.0
symfunction_short O 13 0.02 0.4 -1.0 2.0 6.0
symfunction_short O 9 H O 0.01 1 3.0 7.0 0.3
symfunction_short O 3 H O 0.01 1 1.5 7.0
symfunction_short O 2 H 0.1 0.0 7.0
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with the files of a potential of water with random numbers."""
    folder, generator = tmp_path / "water", np.random.default_rng(0)
    folder.mkdir()
    (folder / "input.nn").write_text(INPUT)
    rows = [f"{e} {k} {0.01 * k} {k + 1.0} {0.4 * k} 0.1" for e, count in ((1, 3), (2, 4)) for k in range(1, count + 1)]
    (folder / "scaling.data").write_text("# a comment\n" + "\n".join(rows) + "\n -5.7 -5.6\n")
    for name, n in (("001", 3), ("008", 4)):
        numbers = generator.normal(size=(n + 1) * 3 + 4 * 2 + 3)
        (folder / f"weights.{name}.data").write_text(
            "# a comment\n" + "".join(f"{x!r} a 1\n" for x in numbers.tolist())
        )
    return folder


def test_every_number_of_the_files_has_its_place(small: Path) -> None:
    bohr, hartree = units.units_of("length")["bohr"], units.units_of("energy")["hartree"]
    potential = load(small, length="bohr", energy="hartree")
    descriptor = potential.descriptor
    assert potential.elements == ("H", "O")
    shown = [(one.centre, one.kind, one.neighbours, round(one.cutoff / bohr, 9)) for one in descriptor.functions]
    assert shown == [
        ("H", "G2", ("H",), 8.0), ("H", "G2", ("O",), 8.0), ("H", "G2", (), 7.0),
        ("O", "G2", ("H",), 7.0), ("O", "G4", ("H", "O"), 7.0), ("O", "G5", ("H", "O"), 7.0), ("O", "G4", (), 6.0),
    ]  # fmt: skip
    weighted, wide = descriptor.functions[6], descriptor.functions[5]
    assert (weighted.eta * bohr**2, weighted.shift / bohr, weighted.sign, weighted.zeta) == pytest.approx(
        (0.02, 0.4, -1.0, 2.0)
    )
    assert (wide.eta * bohr**2, wide.shift / bohr, wide.sign, wide.zeta) == pytest.approx((0.01, 0.3, 1.0, 3.0))
    assert (descriptor.taper, descriptor.onset) == ("cosine", 0.2)
    # an oxygen of which nothing is near: every G is 0
    alone = potential.predict(build_graph(Atoms("O"), potential.cutoff))
    numbers = [float(line.split()[0]) for line in (small / "weights.008.data").read_text().splitlines()[1:]]
    w1, b1 = np.array(numbers[:12]).reshape(4, 3).T, np.array(numbers[12:15])
    w2, b2 = np.array(numbers[15:21]).reshape(3, 2).T, np.array(numbers[21:23])
    w3, b3 = np.array(numbers[23:25]), numbers[25]
    x = np.array([0.1 + 0.8 * (0 - 0.4 * k) / (k + 1.0 - 0.01 * k) for k in range(1, 5)])
    network = w3 @ np.log1p(np.exp(w2 @ np.tanh(w1 @ x + b1) + b2)) + b3
    assert float(alone.energy) / hartree == pytest.approx(network / 4.0 - 2.0 - 75.0, rel=1e-13)


@needs_kernels
def test_the_kernel_is_the_reference_for_weighted_functions(small: Path) -> None:
    potential = load(small, length="bohr", energy="hartree")
    assert_kernel_is_its_reference(potential, potential, system("liquid", ("O", "H"), 1.9))


def test_a_folder_of_n2p2_is_a_potential_of_an_input(small: Path) -> None:
    table = {"path": small, "length": "bohr", "energy": "hartree"}
    potential = load_potential([PotentialTable.model_validate(table)])
    assert potential.elements == ("H", "O")
    assert recognise(small) == recognise(small / "input.nn") == "hdnnp"
    with pytest.raises(InputError, match="do not say their units: give energy"):
        load_potential([PotentialTable.model_validate({"path": small, "length": "bohr"})])


def test_a_folder_is_shown_with_what_its_files_do_not_say(small: Path) -> None:
    for path in (small, small / "input.nn"):
        answer = mlmd("show", path, "--json")
        assert answer.code == 0, answer.err
        facts = json.loads(answer.out)
        assert (facts["kind"], facts["elements"]) == ("hdnnp", ["H", "O"])
        assert facts["symmetry functions"] == {"H": 3, "O": 4}
        assert facts["networks"] == {"H": "3 × 3 × 2 × 1", "O": "4 × 3 × 2 × 1"}
        assert facts["cutoff"].startswith("8 in the unit of length")
        assert "cutoff [Å]" not in facts
        assert "not in the files" in facts["units"]
    assert "O: 4 × 3 × 2 × 1" in mlmd("show", small).out


def test_a_file_of_a_folder_is_no_potential_and_no_structure(small: Path) -> None:
    run_input(small / "weights.001.data")
    for command in (("show", small / "scaling.data"), ("check", small.parent / "in.toml")):
        answer = mlmd(*command)
        assert answer.code == 2
        assert f"a part of the potential of n2p2 in {small}. Give the folder." in answer.err


def test_what_a_folder_lacks_is_said(small: Path, tmp_path: Path) -> None:
    (small / "input.nn").unlink()
    (small / "scaling.data").unlink()
    run_input(small)
    for command in (("show", small), ("check", tmp_path / "in.toml")):
        answer = mlmd(*command)
        assert answer.code == 2
        assert "has weights.*.data but no input.nn and no scaling.data" in answer.err
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"not a file, without the input.nn, scaling.data and weights.\*.data"):
        recognise(tmp_path / "empty")


def run_input(potential: Path, units: str = "") -> Path:
    """An input beside the folder of a potential, and its structure: a molecule of water."""
    folder = potential.parent if potential.is_dir() else potential.parent.parent
    Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]).write(folder / "water.extxyz")
    path = folder / "in.toml"
    path.write_text(
        f'structure = "water.extxyz"\ntimestep = "1 fs"\npotential = {{ path = "{potential}"{units} }}\n'
        '[[stage]]\nkind = "minimize"\n'
    )
    return path


def test_large_forces_raise_the_question_of_units_that_a_user_gave(small: Path) -> None:
    changed("input.nn", "conv_energy 4.0", "conv_energy 0.001")(small)
    kept = mlmd("check", run_input(small, ', length = "bohr", energy = "meV"'))
    assert (kept.code, "training data" in kept.out) == (0, False)
    answer = mlmd("check", run_input(small, ', length = "bohr", energy = "hartree"'))
    assert 'are length = "bohr" and energy = "hartree" the units of its training data' in answer.out
    assert "order of its file" not in answer.out  # these files name their elements


def test_a_run_knows_all_files_of_a_folder(small: Path) -> None:
    (small / "input.data").write_text("training data do not matter")
    names = ["input.nn", "scaling.data", "weights.001.data", "weights.008.data"]
    assert [file.name for file in files_of_potential(small)] == names
    assert files_of_potential(small / "input.nn") == files_of_potential(small)
    assert files_of_potential(small / "input.data") == [small / "input.data"]


def changed(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def truncated(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("\n".join((folder / name).read_text().splitlines()[:-1]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (changed("input.nn", "H 12 0.3 0.5 7.0", "H 20 0.3 0.5 7.0"), r"line 17: .*type 20 are not supported"),
        (changed("input.nn", "O 2 H 0.1", "O 2 He 0.1"), "line 23: 'He' is not among the elements"),
        (changed("input.nn", "O 2 H 0.1 0.0 7.0", "O 2 H 0.1 0.0"), "line 23: 3 finite numbers"),
        (changed("input.nn", "O 2 H 0.1 0.0 7.0", "O 2 H 0.1 0.0 x"), "line 23: .*'x'"),
        (changed("input.nn", "O 2 H 0.1 0.0 7.0", "O 2 H 0.1 0.0 -7.0"), "line 23: .*positive cutoff"),
        (changed("input.nn", "cutoff_type 1 0.2", "cutoff_type 0"), "line 4: .*type 0 is not supported"),
        (changed("input.nn", "cutoff_type 1 0.2", "cutoff_type 1 1.5"), "onset"),
        (changed("input.nn", "cutoff_type 1 0.2", ""), "there is no cutoff_type"),
        (changed("input.nn", "elements O H\n", "elements O Q\n"), "line 3: 'Q' is not a chemical element"),
        (changed("input.nn", "t p l", "t h l"), "line 16: t h l: 2 of t .tanh."),
        (changed("input.nn", "t p l", "t p t"), "line 16: "),
        (changed("input.nn", "conv_length 3.0", "normalize_nodes"), "line 13: normalize_nodes is not supported"),
        (changed("input.nn", "conv_length 3.0", "nnp_type 4G-HDNNP"), "line 13: .*second generation"),
        (changed("input.nn", "conv_energy 4.0", "conv_energy -4.0"), "line 12: conv_energy must be positive"),
        (changed("input.nn", "_layers_short 2", "_layers_short 3"), "line 15: 3 finite numbers"),
        (changed("scaling.data", "2 4 0.04 5.0", "2 4 5.0 5.0"), "the same for all training data"),
        (changed("scaling.data", "2 4 0.04", "2 5 0.04"), "damaged, or of another"),
        (changed("scaling.data", "2 4 0.04", "2 4 nan"), "scaling.data: line 8: 5 finite"),
        (truncated("weights.001.data"), "22 numbers, 23 are needed for 3 × 3 × 2 × 1"),
        (changed("weights.008.data", "a 1", "a 1\nxyz"), "weights.008.data: line 3"),
        (lambda folder: (folder / "weights.008.data").unlink(), "weights.008.data does not exist"),
        (lambda folder: (folder / "scaling.data").unlink(), "scaling.data does not exist"),
        (lambda folder: (folder / "input.nn").write_bytes(b"\x00\xff" * 500), "damaged, or not a file of n2p2"),
    ],
)  # fmt: skip
def test_damaged_and_unsupported_files_are_refused_with_the_line(
    small: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(small)
    with pytest.raises(ModelError, match=words):
        load(small, length="bohr", energy="hartree")


def test_types_with_compact_support_are_refused_in_published_files(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"input.nn: line \d+: symmetry functions of type 2\d are not supported"):
        load(folder / "Anisole_SCAN", length="Å", energy="eV")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"energy": "eV"}, 'give length = "bohr" or "Å", the one of'),
        ({}, 'give length = "bohr" or "Å" and energy = "hartree" or "eV", those of the training data'),
        ({"length": ["bohr"], "energy": "eV"}, "not a unit of length. Did you mean 'bohr'"),
        ({"length": "bohr", "energy": "bohr"}, "not a unit of energy"),
        ({"length": "bohr", "energy": "hartree", "precision": "float16"}, "not a precision"),
    ],
    ids=str,
)
def test_units_must_be_given(small: Path, given: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(small, **given)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nothing", length="Å", energy="eV")


def test_no_cut_of_the_files_is_read_as_a_potential(small: Path, tmp_path: Path) -> None:
    """Whole lines that are missing at the end, of every file."""
    for name in ("input.nn", "weights.001.data", "scaling.data"):
        lines = (small / name).read_text().splitlines()
        for length in range(0, len(lines) - (2 if name == "scaling.data" else 1) + 1, 3):
            copy = tmp_path / f"{name}-{length}"
            shutil.copytree(small, copy)
            (copy / name).write_text("\n".join(lines[:length]))
            with pytest.raises(MlmdError):
                load(copy, length="bohr", energy="hartree")
