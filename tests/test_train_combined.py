"""Trainings on several descriptors, on those of trained potentials and on chosen functions, through the commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from command_line import mlmd
from made_data import strained, thermal

from mlmd.config import load_train
from mlmd.descriptors.combined import Combined
from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame, read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.train.job import prepare
from mlmd.train.run import Training, train

TWO = """[[descriptor]]
kind = "acsf"
cutoff = "5 Å"
n_radial = 5
n_angular = 0
[[descriptor]]
kind = {other}
"""
SNAP = '"snap"\ncutoff = "4 Å"\ntwojmax = 4'
SOAP = '"soap"\ncutoff = "4 Å"\nn_max = 3\nl_max = 2'
MTP = '"mtp"\nlevel = 6\ncutoff = "4.5 Å"\nn_chebyshev = 4'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of EMT copper, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "data.extxyz", [*thermal(8), *strained(8)])
    write_labelled(tmp_path / "test.extxyz", thermal(3, seed=9))
    return tmp_path


def trained(name: str, descriptor: str, fit: str) -> Training:
    """What is left of an input with these tables."""
    Path(f"{name}.toml").write_text(
        f'data = "data.extxyz"\ntest = "test.extxyz"\n{descriptor}\n[fit]\n{fit}\n', encoding="utf-8"
    )
    return train(f"{name}.toml", f"{name}.run", n_processes=1)


def error(training: Training) -> float:
    """Root mean squared error of the forces on the test structures, in units of their size."""
    table = training.errors["test"]
    assert table is not None
    forces = np.concatenate([_forces(frame) for frame in read_labelled(Path("test.extxyz"))])
    return table.row("forces").rmse / 1e3 / float(np.sqrt(np.mean(forces**2)))


def _forces(frame: LabelledFrame) -> np.ndarray:
    assert frame.forces is not None
    return frame.forces


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("other", "fit", "bound"),
    [
        (SNAP, 'kind = "linear"', 0.1),
        (SOAP, 'kind = "gap"\nn_sparse = 40', 0.1),
        (SNAP, 'kind = "network"\nn_neurons = [8]\nepochs = 40', 0.3),
    ],
)
def test_two_descriptors_learn_copper_and_run(other: str, fit: str, bound: float) -> None:
    training = trained("two", TWO.format(other=other), fit)
    assert error(training) < bound
    potential: Any = modelfile.load(training.model)
    assert isinstance(potential.descriptor, Combined)
    assert [part.cutoff for part in potential.descriptor.parts] == [5.0, 4.0]
    # the run evaluates what was fitted
    write("copper.extxyz", bulk("Cu", cubic=True, a=3.6) * 2)
    Path("run.toml").write_text(
        f'structure = "copper.extxyz"\npotential = "{training.model}"\nseed = 1\ntimestep = "2 fs"\n'
        'velocities = "300 K"\n[[stage]]\nkind = "nve"\nduration = "40 fs"\n[output]\nlog_every = "2 fs"\n'
    )
    answer = mlmd("simulate", "run.toml", "--out", "moved")
    assert answer.code == 0, answer.err
    with (Path("moved") / "log.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    potential_energy, kinetic = (
        np.array([float(row[f"{name} energy [eV]"]) for row in rows]) for name in ("potential", "kinetic")
    )
    assert len(rows) == 21
    # with other forces than those of the energy, the part of it that comes and goes would not come back
    assert np.ptp(potential_energy + kinetic) < 0.02 * np.ptp(kinetic)


@pytest.mark.usefixtures("place")
def test_radial_functions_are_optimised_beside_another_descriptor() -> None:
    plain = trained("plain", TWO.format(other=MTP), 'radial = "plain"')
    best = trained("best", TWO.format(other=MTP), 'radial = "optimise"\nmax_iterations = 6')
    assert error(best) < 0.8 * error(plain)
    facts = json.loads(mlmd("check", "best.toml", "--json").out)["inputs"][0]
    assert facts["n_radial"] == 2 * 4  # two radial functions of four Chebyshev polynomials


@pytest.mark.usefixtures("place")
def test_the_descriptor_of_a_trained_potential_keeps_its_radial_functions() -> None:
    first: Any = modelfile.load(trained("first", f"[descriptor]\nkind = {MTP}", "max_iterations = 3").model)
    tables = '[[descriptor]]\nmodel = "first.run/first.mlmd"\n[[descriptor]]\nkind = "acsf"\nn_angular = 0'
    training = trained("second", tables, 'kind = "network"\nn_neurons = [6]\nepochs = 5')
    second: Any = modelfile.load(training.model)
    moments = second.descriptor.parts[0]
    assert moments.spec() == first.descriptor.spec()
    assert (moments.radial.coefficients == first.descriptor.radial.coefficients).all()
    # also where a linear fit could optimise them
    third: Any = modelfile.load(trained("third", 'descriptor = { model = "first.run/first.mlmd" }', "").model)
    assert (third.descriptor.radial.coefficients == first.descriptor.radial.coefficients).all()
    # and products of moments are refused of a trained one too
    with pytest.raises(InputError, match="fit: quadratic: moment tensors hold the products"):
        trained("fourth", 'descriptor = { model = "first.run/first.mlmd" }', "quadratic = true")


@pytest.mark.usefixtures("place")
def test_a_trained_potential_of_other_elements_is_refused() -> None:
    trained("first", f"[descriptor]\nkind = {MTP}", 'radial = "plain"')
    frames = thermal(4, repeat=1)
    for frame in frames:
        frame.atoms.numbers[::2] = 47
    write_labelled(Path("data.extxyz"), frames)
    write_labelled(Path("test.extxyz"), frames[:1])
    with pytest.raises(
        InputError, match=r"first\.mlmd knows Cu, in this order; the elements of the training are Cu, Ag"
    ):
        trained("second", 'descriptor = { model = "first.run/first.mlmd" }', "")


@pytest.mark.usefixtures("place")
def test_chosen_functions_are_shown_and_the_same_again() -> None:
    table = '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nfunctions = "selected"\nn_functions = 12'
    one, other = trained("one", table, 'kind = "linear"'), trained("other", table, 'kind = "linear"')
    assert error(one) < 0.1
    specs = [modelfile.read_spec(training.model)["descriptor"]["functions"] for training in (one, other)]
    assert specs[0] == specs[1]
    shown = json.loads(mlmd("show", one.model, "--json").out)["symmetry functions"]
    assert len(shown) == len(specs[0]) == 12
    assert shown[0].startswith("G2 of Cu-Cu: η ")
    assert shown[0] in mlmd("show", one.model).out


@pytest.mark.usefixtures("place")
def test_two_descriptors_describe_and_are_shown() -> None:
    Path("two.toml").write_text(TWO.format(other=SNAP), encoding="utf-8")
    answer = mlmd("describe", "test.extxyz", "--descriptor", "two.toml", "-o", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz") as arrays:
        features, spec = arrays["features"], json.loads(str(arrays["spec"]))
    parts = []
    for number, kind in enumerate(("acsf", "snap")):
        text = TWO.format(other=SNAP).split("[[descriptor]]\n")[1 + number]
        assert kind in text
        Path("one.toml").write_text(text, encoding="utf-8")
        assert mlmd("describe", "test.extxyz", "--descriptor", "one.toml", "-o", f"{kind}.npz").code == 0
        with np.load(f"{kind}.npz") as arrays:
            parts.append(arrays["features"])
    np.testing.assert_array_equal(features, np.concatenate(parts, axis=1))
    assert [part["kind"] for part in spec["parts"]] == ["symmetry", "bispectrum"]
    training = trained("fit", TWO.format(other=SNAP), 'kind = "linear"')
    frame = read_labelled(Path("test.extxyz"))[0]
    said = predictor(modelfile.load(training.model))(frame.atoms)
    assert float(np.abs(said.forces - _forces(frame)).max()) < 0.1 * float(np.abs(_forces(frame)).max())
    assert "symmetry functions" in mlmd("show", training.model).out
    checked = mlmd("check", "fit.toml").out
    assert "features of acsf and snap, linear, up to 5 Å" in checked


SPARSE = """kind = "gap"
n_sparse = [6, 40]
amplitude = ["2 eV", "0.1 eV"]
kernel = ["gaussian", "polynomial"]
width = [5, 7]
power = [2, 3]
"""


@pytest.mark.usefixtures("place")
def test_each_descriptor_of_a_gap_has_points_amplitude_and_kernel_of_its_own() -> None:
    training = trained("each", TWO.format(other=SOAP), SPARSE)
    one, two = modelfile.load(training.model).regressor.terms  # type: ignore[attr-defined]
    assert (len(one.points), one.amplitude, one.kernel, one.width) == (6, 2.0, "gaussian", 5.0)
    assert (len(two.points), two.amplitude, two.kernel, two.power) == (40, 0.1, "polynomial", 3)
    assert error(training) < 0.2
    written = json.loads(Path("each.run/train.json").read_text(encoding="utf-8"))["input"]["fit"]
    assert written["n_sparse"] == [6, 40] and written["amplitude"] == ["2.0 eV", "0.1 eV"]
    assert mlmd("train", "each.toml").code == 0  # the same input goes on in the same folder


@pytest.mark.usefixtures("place")
def test_a_list_of_equal_values_is_the_one_value() -> None:
    two = TWO.format(other=SOAP)
    one_value = trained("one", two, 'kind = "gap"\nn_sparse = 20\namplitude = 3\nwidth = 6\n')
    listed = trained("list", two, 'kind = "gap"\nn_sparse = [20, 20]\namplitude = [3, "3 eV"]\nwidth = [6, 6.0]\n')
    atoms = read_labelled(Path("test.extxyz"))[0].atoms
    forces = [predictor(modelfile.load(training.model))(atoms).forces for training in (one_value, listed)]
    np.testing.assert_array_equal(*forces)


@pytest.mark.usefixtures("place")
def test_a_descriptor_of_no_amplitude_says_nothing() -> None:
    # the kernel is δ₁² k₁ + δ₂² k₂: without the first the second is left, which is the fit of that descriptor alone
    both = trained("both", TWO.format(other=SOAP), 'kind = "gap"\nn_sparse = 20\namplitude = ["1e-7 eV", "1 eV"]\n')
    alone = trained("alone", f"[descriptor]\nkind = {SOAP}", 'kind = "gap"\nn_sparse = 20\namplitude = 1\n')
    atoms = read_labelled(Path("test.extxyz"))[0].atoms
    found, expected = (predictor(modelfile.load(training.model))(atoms).forces for training in (both, alone))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("place")
def test_check_shows_what_each_descriptor_of_a_gap_has_and_the_choice_of_data_all_amplitudes() -> None:
    two = TWO.format(other=SOAP)
    text = f'data = "data.extxyz"\ntest = "test.extxyz"\n{two}\n[fit]\n{SPARSE}'
    Path("check.toml").write_text(text, encoding="utf-8")
    (found,) = json.loads(mlmd("check", "check.toml", "--json").out)["inputs"]
    assert found["model"].endswith(
        "features of acsf and soap, gap: gaussian, width 5, 6 atoms, 2 eV; polynomial, power 3, 40 atoms, 0.1 eV"
    )
    training = trained("evidence", two, SPARSE + 'regularisation = "evidence"\n')
    assert "as amplitudes of " in (training.path / "messages.log").read_text(encoding="utf-8")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("descriptor", "fit", "message"),
    [
        (
            TWO.format(other=SOAP),
            "n_sparse = [5, 6, 7]",
            "fit: n_sparse: 3 values, and 2 descriptors are given. Give one",
        ),
        (TWO.format(other=SOAP), "amplitude = [1]", "fit: amplitude: 1 value, and 2 descriptors are given"),
        ('descriptor = "soap"', "width = [1, 2]", "fit: width: 2 values, and one descriptor is given. Give one value"),
        (TWO.format(other=SOAP), 'kernel = ["gaussian", "cubic"]', "fit: kernel: "),
        (TWO.format(other=SOAP), "n_sparse = [50, 1]", "fit: n_sparse: "),
        (TWO.format(other=SOAP), 'amplitude = ["1 eV", "2 K"]', "fit: amplitude: "),
        (TWO.format(other=SOAP), "power = []", "fit: power: the list is empty"),
    ],
)
def test_lists_of_another_length_or_with_wrong_values_are_refused(descriptor: str, fit: str, message: str) -> None:
    Path("wrong.toml").write_text(f'data = "data.extxyz"\n{descriptor}\n[fit]\nkind = "gap"\n{fit}\n', encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_train(Path("wrong.toml"))  # before any data are read
    assert message in str(refused.value)


@pytest.mark.usefixtures("place")
def test_a_list_for_the_descriptors_of_a_trained_potential_is_as_long_as_they_are_many() -> None:
    first = trained("first", TWO.format(other=SOAP), 'kind = "gap"\nn_sparse = 10')
    again = f'descriptor = {{ model = "{first.model.name}" }}'
    Path(first.model.name).write_bytes(first.model.read_bytes())
    listed = trained("listed", again, 'kind = "gap"\nn_sparse = [5, 9]')
    assert [len(one.points) for one in modelfile.load(listed.model).regressor.terms] == [5, 9]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="3 values, and 2 descriptors are given"):
        trained("wrong", again, 'kind = "gap"\nn_sparse = [5, 9, 9]')
    with pytest.raises(InputError, match=r'"polynomial" .* the row of first\.mlmd is zero for'):
        trained("zero", again, 'kind = "gap"\nkernel = "polynomial"')
    linear = trained("linear", again, 'kind = "linear"')
    assert error(linear) < 0.2


ZERO = {
    "acsf": 'descriptor = { kind = "acsf", n_radial = 4, n_angular = 0 }',
    "snap": 'descriptor = { kind = "snap", twojmax = 2 }',
    "mtp": 'descriptor = { kind = "mtp", level = 4 }',
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("fit", "descriptor", "named"),
    [(f'kind = "{kind}"\nkernel = "polynomial"', ZERO[name], name) for kind in ("gap", "kernel") for name in ZERO]
    + [
        ('kind = "gap"\nkernel = ["polynomial", "gaussian"]', TWO.format(other=SOAP), "acsf"),
        ('kind = "gap"\nkernel = ["gaussian", "polynomial"]', TWO.format(other=SNAP), "snap"),
        ('kind = "kernel"\nkernel = "polynomial"', TWO.format(other=SNAP), "acsf and snap"),
    ],
)
def test_cosines_are_refused_where_the_row_of_a_single_atom_is_zero(fit: str, descriptor: str, named: str) -> None:
    text = f'data = "data.extxyz"\n{descriptor}\n[fit]\n{fit}\n'
    Path("in.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf'^fit: kernel: "polynomial" .* the row of {named} is zero .* "gaussian"\.$'):
        prepare(Path("in.toml"))
    Path("in.toml").write_text(text.replace("polynomial", "gaussian"), encoding="utf-8")
    prepare(Path("in.toml"))
