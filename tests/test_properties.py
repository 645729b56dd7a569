"""Numbers of whole structures: learned by `mlmd train` from any descriptor of structures, predicted, and judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read, write
from command_line import mlmd
from known_molecules import MOLECULES, all_made, made

from mlmd.errors import InputError
from mlmd.io.labelled import LabelledFrame
from mlmd.io.xyz_frames import read_xyz
from mlmd.potentials import modelfile
from mlmd.potentials.load import load_property
from mlmd.potentials.property import PropertyModel, Quantity
from mlmd.train import property_fit
from mlmd.train.property_errors import SizeCurve, property_figure, size_figure
from mlmd.train.run import Training, train

HEAT = "heat_of_formation_kcal_mol"
DESCRIPTORS = {
    "sorted": 'kind = "coulomb"\nform = "sorted"\nlayout = "triangle"',
    "eigenspectrum": 'kind = "coulomb"\nform = "eigenspectrum"\nunit = "bohr"',
    "mbtr": 'kind = "mbtr"\n'
    "[[descriptor.terms]]\n"
    'geometry = "number"\nminimum = 1\nmaximum = 16\nn_points = 16\nwidth = 0.2\n'
    "[[descriptor.terms]]\n"
    'geometry = "inverse_distance"\nminimum = 0.1\nmaximum = 1.2\nn_points = 24\nwidth = 0.04\n'
    'weighting = "exponential"\nscale = 0.5\nthreshold = 1e-2',
}
FITS = {
    "ridge": 'kind = "linear"',
    "kernel-ridge": 'kind = "kernel-ridge"',
    "random-features": 'kind = "random-features"\nn_random = 300',
}


@pytest.fixture(scope="module")
def qm7(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 and 150 molecules of QM7, at random."""
    folder = tmp_path_factory.mktemp("qm7")
    frames = list(read_xyz(shared / "qm7" / "qm7.xyz.xz"))
    order = np.random.default_rng(0).permutation(len(frames))
    for name, chosen in (("train", order[:500]), ("test", order[500:650])):
        structures = []
        for index in chosen:
            atoms = frames[index].atoms.copy()
            atoms.info[HEAT] = float(str(frames[index].values[HEAT]))
            structures.append(atoms)
        write(folder / f"{name}.extxyz", structures)
    return folder


@pytest.fixture
def molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Distorted molecules with a made-up number, the sum of inverse distances; the current folder."""
    monkeypatch.chdir(tmp_path)
    write("molecules.extxyz", all_made())
    return tmp_path


def values_of(path: Path, name: str) -> np.ndarray:
    return np.array([atoms.info[name] for atoms in read(path, index=":")])


def trained(folder: Path, text: str) -> Training:
    """What an input leaves."""
    source = folder / "in.toml"
    source.write_text(text, encoding="utf-8")
    return train(source, folder / "run")


def loaded(path: Path) -> PropertyModel:
    model = load_property(path)
    assert model is not None
    return model


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_heats_of_formation_are_learned(descriptor: str, fit: str, qm7: Path, tmp_path: Path) -> None:
    training = trained(
        tmp_path,
        f'data = "{qm7 / "train.extxyz"}"\ntest = "{qm7 / "test.extxyz"}"\n'
        f'property = {{ name = "{HEAT}", unit = "kcal/mol" }}\n'
        f"[descriptor]\n{DESCRIPTORS[descriptor]}\n[fit]\n{FITS[fit]}\n",
    )
    given = values_of(qm7 / "test.extxyz", HEAT)
    null = float(np.abs(given - values_of(qm7 / "train.extxyz", HEAT).mean()).mean())
    table = training.errors["test"]
    assert table is not None
    row = table.row(HEAT)
    assert row.unit == "kcal/mol"
    assert row.mae < null / 4, f"{row.mae:.1f} of {null:.1f} kcal/mol"
    # and the file says what the table says
    predicted = loaded(training.model).values(read(qm7 / "test.extxyz", index=":"))
    assert np.abs(predicted - given).mean() == pytest.approx(row.mae, rel=1e-6)


@pytest.mark.slow
def test_heats_of_formation_are_as_good_as_published_with_a_thousand_molecules(shared: Path, tmp_path: Path) -> None:
    # qmllib prints 7.5 kcal/mol with 1,000; its width and regularisation are for 5,000
    frames = list(read_xyz(shared / "qm7" / "qm7.xyz.xz"))
    order = np.random.default_rng(0).permutation(len(frames))
    for name, chosen in (("test", order[:1000]), ("train", order[1000:2000])):
        structures = [frames[index].atoms.copy() for index in chosen]
        for atoms, index in zip(structures, chosen, strict=True):
            atoms.info[HEAT] = float(str(frames[index].values[HEAT]))
        write(tmp_path / f"{name}.extxyz", structures)
    training = trained(
        tmp_path,
        f'data = "train.extxyz"\ntest = "test.extxyz"\nproperty = "{HEAT}"\n'
        f"[descriptor]\n{DESCRIPTORS['sorted']}\n[fit]\n{FITS['kernel-ridge']}\n",
    )
    table = training.errors["test"]
    assert table is not None
    assert table.row(HEAT).mae < 7.8


@pytest.mark.parametrize(
    "descriptor", ['kind = "coulomb"', 'kind = "average"\nof = { kind = "soap", n_max = 4, l_max = 3, cutoff = "4 Å" }']
)
def test_values_do_not_depend_on_the_order_of_atoms_or_on_where_a_molecule_is(descriptor: str, molecules: Path) -> None:
    training = trained(molecules, f'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\n{descriptor}\n')
    model = loaded(training.model)
    one = made("CH3OH", 9)
    other = one[np.random.default_rng(1).permutation(len(one))]
    other.rotate(40, (1, 2, 3))
    other.translate((3, -2, 1))
    first, second = model.values([one, other])
    assert first == pytest.approx(second, abs=1e-8)


def test_a_molecule_has_the_same_value_alone_and_among_others(molecules: Path) -> None:
    text = 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\nform = "random"\n'
    training = trained(molecules, text + 'noise = 1.0\nn_draws = 4\n[fit]\nkind = "kernel-ridge"\n')
    model = loaded(training.model)
    several = [made(name, 9) for name in MOLECULES]
    together = model.values(several)
    assert together == pytest.approx([model.values([one])[0] for one in several], abs=1e-9)
    # four orders of each of 36 molecules were learned
    assert len(model.regressor.points) == 4 * 36  # type: ignore[attr-defined]


def test_the_file_gives_the_same_numbers_when_it_is_written_again(molecules: Path) -> None:
    training = trained(molecules, 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\n'
                       '[fit]\nkind = "random-features"\nn_random = 50\n')  # fmt: skip
    several = [made(name, 9) for name in MOLECULES]
    model = loaded(training.model)
    modelfile.save(model, molecules / "again.mlmd")
    assert np.array_equal(loaded(molecules / "again.mlmd").values(several), model.values(several))
    # a second training to the same bits
    assert train("in.toml", "other").model.read_bytes() == training.model.read_bytes()


def test_the_learning_curve_ends_with_the_errors_of_the_model(molecules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[SizeCurve] = []
    monkeypatch.setattr(
        property_fit, "size_figure", lambda curve, quantity: drawn.append(curve) or size_figure(curve, quantity)
    )
    training = trained(
        molecules,
        'data = "molecules.extxyz"\n[property]\nname = "spread"\n[descriptor]\nkind = "coulomb"\n'
        '[fit]\nkind = "kernel-ridge"\n',
    )
    (curve,) = drawn
    assert len(curve.n_frames) > 1
    for name, errors in (("train", curve.train), ("test", curve.test)):
        table = training.errors[name]
        assert table is not None
        row = table.row("spread", by="all")
        assert errors[-1] == pytest.approx(row.mae, rel=1e-6), name  # the same numbers, summed in another order
        if name == "train":
            assert curve.n_frames[-1] == row.n


def test_the_name_of_a_property_has_room_in_its_picture() -> None:
    frames = [LabelledFrame(molecule("H2"), None, None, None, "", f"made@{n}", value=float(n)) for n in range(3)]
    quantity = Quantity(HEAT, "kcal/mol", extensive=False)
    figure = property_figure(frames, np.arange(3.0), quantity, "made: test set, 3 structures")
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            if text.get_text():
                box = text.get_window_extent()
                assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
                assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
    assert HEAT.replace("_", " ") in figure.axes[0].get_title()


def test_what_grows_with_the_number_of_atoms_is_a_sum_over_elements_first(molecules: Path) -> None:
    structures = read("molecules.extxyz", index=":")
    for atoms in structures:
        counts = {symbol: atoms.get_chemical_symbols().count(symbol) for symbol in "HCNO"}
        own = 10 * counts["H"] + 600 * counts["C"] + 700 * counts["N"] + 800 * counts["O"]
        atoms.info["total"] = own + 0.1 * atoms.info["spread"]
    write("total.extxyz", structures)
    text = 'data = "total.extxyz"\nproperty = {{ name = "total", extensive = {} }}\n[descriptor]\nkind = "coulomb"\n'
    errors = {}
    for word in ("true", "false"):
        source = molecules / f"{word}.toml"
        source.write_text(text.format(word) + '[fit]\nkind = "kernel-ridge"\n')
        table = train(source).errors["test"]
        assert table is not None
        errors[word] = table.row("total").mae
    # what is left over varies by less than 1, the whole by some hundreds
    assert errors["true"] < 0.1
    assert errors["true"] < errors["false"] / 3


def test_energies_are_learned_where_no_property_is_named(molecules: Path) -> None:
    structures = read("molecules.extxyz", index=":")
    for atoms in structures:
        atoms.info["REF_energy"] = 5.0 * len(atoms) + atoms.info.pop("spread")
    write("energies.extxyz", structures)
    training = trained(
        molecules, 'data = "energies.extxyz"\n[descriptor]\nkind = "coulomb"\n[fit]\nkind="kernel-ridge"'
    )
    table = training.errors["test"]
    assert table is not None
    assert table.row("energy").unit == "eV"
    assert table.row("energy").mae < 0.3
    model = loaded(training.model)
    assert model.quantity.extensive
    new = made("CH3OH", 9)
    assert model.values([new])[0] == pytest.approx(5.0 * len(new) + new.info["spread"], abs=0.5)


def test_supercells_have_the_same_mean_and_twice_the_sum(molecules: Path, route: str) -> None:
    crystals = [bulk("MgO", "rocksalt", a=a, cubic=True) for a in np.linspace(4.0, 4.5, 10)]
    for atoms in crystals:
        atoms.info["gap"] = float(atoms.cell.lengths()[0] ** 2)
    write("crystals.extxyz", crystals)
    for pooling, factor in (("mean", 1.0), ("sum", 2.0)):
        source = molecules / f"{pooling}.toml"
        source.write_text(
            'data = "crystals.extxyz"\nproperty = "gap"\n[descriptor]\nkind = "average"\n'
            f'of = {{ kind = "acsf", cutoff = "5 Å", n_radial = 4, n_angular = 1 }}\npooling = "{pooling}"\n'
        )
        from mlmd.potentials.property import rows_of

        descriptor = loaded(train(source).model).descriptor
        one, two = rows_of(descriptor, [crystals[3], crystals[3].repeat((2, 1, 1))])
        assert two.numpy() == pytest.approx(factor * one.numpy(), rel=1e-10), route


def test_predictions_are_written_as_a_table_and_as_structures(molecules: Path) -> None:
    training = trained(
        molecules, 'data = "molecules.extxyz"\nproperty = { name = "spread", unit = "1/Å" }\n'
        '[descriptor]\nkind = "coulomb"\n[fit]\nkind = "kernel-ridge"\n'
    )  # fmt: skip
    write("new.xyz", [molecule("CH3OH"), molecule("C2H4")])
    expected = loaded(training.model).values([molecule("CH3OH"), molecule("C2H4")])
    for arguments in (("-o", "out.csv"), ("-o", "out.extxyz"), ()):
        answer = mlmd("predict", training.model, "new.xyz", *arguments)
        assert answer.code == 0, answer.err
    assert "new.xyz@1" in answer.out
    lines = [line.split(",") for line in Path("out.csv").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == ["structure", "formula", "spread [1/Å]"]
    assert [line[1] for line in lines[1:]] == ["CH4O", "C2H4"]
    # positions were rounded to eight digits in the file of structures
    assert [float(line[2]) for line in lines[1:]] == pytest.approx(expected, abs=1e-6)
    assert values_of(Path("out.extxyz"), "predicted_spread") == pytest.approx(expected, abs=1e-6)
    found = json.loads(mlmd("predict", training.model, "new.xyz", "--json").out)
    assert (found["property"], found["unit"], len(found["values"])) == ("spread", "1/Å", 2)


def test_a_model_is_shown_evaluated_and_described(molecules: Path) -> None:
    training = trained(molecules, 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\n'
                       '[fit]\nkind = "kernel-ridge"\n')  # fmt: skip
    shown = mlmd("show", training.model)
    assert shown.code == 0
    assert "spread" in shown.out and "not a potential" in shown.out
    again = mlmd("train", "in.toml", "--out", "run")  # done already: nothing but what it found is told
    assert again.code == 0
    assert f"Model: {Path('run') / 'in.mlmd'}" in again.out
    assert json.loads(mlmd("show", "run", "--json").out)["model"].endswith("in.mlmd")
    answer = mlmd("evaluate", training.model, "molecules.extxyz", "--out", "errors", "--predictions", "--json")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["errors"]["rows"]
    predicted = values_of(Path("errors/predictions.extxyz"), "predicted_spread")
    difference = np.abs(predicted - values_of(Path("errors/predictions.extxyz"), "reference_spread"))
    assert row["mae"] == pytest.approx(difference.mean(), rel=1e-6)
    assert Path("errors/parity.png").exists()
    # under another name in the data
    structures = read("molecules.extxyz", index=":")
    for atoms in structures:
        atoms.info["width"] = atoms.info.pop("spread")
    write("renamed.extxyz", structures)
    renamed = mlmd("evaluate", training.model, "renamed.extxyz", "--property-key", "width", "--json")
    assert json.loads(renamed.out)["errors"]["rows"][0]["mae"] == pytest.approx(row["mae"], rel=1e-9)
    described = mlmd("describe", "molecules.extxyz", "--model", training.model, "-o", "features.npz")
    assert described.code == 0, described.err


@pytest.mark.parametrize("unit", ["eV", "meV/atom"])  # also the one that errors of potentials have
def test_a_training_of_a_property_ends_with_a_model_not_a_potential(unit: str, molecules: Path) -> None:
    structures = read("molecules.extxyz", index=":")
    for atoms in structures:
        atoms.info["energy"] = atoms.info.pop("spread")
    write("energies.extxyz", structures)
    Path("in.toml").write_text(
        f'data = "energies.extxyz"\nproperty = {{ name = "energy", unit = "{unit}" }}\ndescriptor = "coulomb"\n'
    )
    answer = mlmd("train", "in.toml")
    assert answer.code == 0, answer.err
    assert f"\nModel: {Path('in.run') / 'in.mlmd'}\n" in answer.out and "Potential" not in answer.out


@pytest.mark.parametrize("command", ["simulate", "label", "export"])
def test_a_model_of_a_property_is_refused_where_forces_are_needed(command: str, molecules: Path) -> None:
    training = trained(molecules, 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\n')
    write("one.extxyz", molecule("CH4"))
    Path("sim.toml").write_text(
        f'structure = "one.extxyz"\npotential = "{training.model}"\ntimestep = "1 fs"\n[[stage]]\nkind = "minimize"\n'
    )
    arguments: dict[str, tuple[Any, ...]] = {
        "simulate": ("sim.toml",),
        "label": ("one.extxyz", "--potential", training.model, "--out", "labelled.extxyz"),
        "export": (training.model, "out.mtp"),
    }
    answer = mlmd(command, *arguments[command])
    assert answer.code == 2
    assert "in.mlmd predicts spread of whole structures and no forces: it is not a potential." in answer.err
    assert not Path("sim.run").exists()


def test_a_model_of_a_property_in_the_place_of_an_input_is_sent_to_predict(molecules: Path) -> None:
    training = trained(molecules, 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\n')
    answer = mlmd("train", training.model)
    assert answer.code == 2
    assert f"this is the model of a property, not an input file. `mlmd predict {training.model} FILE`" in answer.err


def test_a_potential_is_refused_where_a_property_is_predicted(molecules: Path) -> None:
    answer = mlmd("predict", "Cu", "molecules.extxyz")
    assert answer.code == 2
    assert "Cu is a potential: `mlmd label FILE... --potential Cu" in answer.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('descriptor = "coulomb"\nfit = "gap"', '"gap" is for atoms, and "coulomb" describes whole structures. Fit by'),
        ('descriptor = "coulomb"\nfit = "network"', "Fit by linear, random-features or kernel-ridge"),
        ('descriptor = "mtp"\nfit = "kernel-ridge"', 'compares whole structures, and "mtp" describes atoms'),
        ('descriptor = "soap"\nfit = "kernel-ridge"', 'for example { kind = "average", of = "soap" }'),
        ('descriptor = "soap"\nproperty = "gap"', "A property is learned from coulomb, mbtr or average"),
        ('descriptor = "coulomb"\nfit = { radial = "plain" }', "only moment tensors have radial functions"),
        ('descriptor = "coulomb"\nfit = { kind = "random-features", amplitude = 3 }', "amplitude: has no meaning with"),
        ('descriptor = "coulomb"\nloss = { energy = 1 }', "loss: is for potentials"),
        ('descriptor = "coulomb"\nuncertainty = { spread = true }', "uncertainty: is for potentials"),
        ('descriptor = { kind = "average", of = "deeppot-se" }', "cannot be averaged"),
        ('descriptor = { kind = "average", of = "agni" }', "cannot be averaged"),
        ('descriptor = "coulomb"\nbaseline = "fit"', "extensive = true in [property]"),
        ('descriptor = { kind = "average", of = "mbtr" }', "'mbtr' is not a kind of descriptor of atoms"),
        ('descriptor = { kind = "coulomb", noise = 1 }', "noise and n_draws are of form"),
        ('descriptor = { kind = "coulomb", form = "random" }', "the random form needs a standard deviation"),
        ('descriptor = "coulomb"\nfit = { kind = "kernel-ridge", kernel = "linear", width = 3 }', "the linear kernel"),
        ('descriptor = "coulomb"\nfit = { kind = "kernel-ridge", kernel = "polynomial" }', "such as power = 2"),
        ('descriptor = { kind = "mbtr", terms = [] }', "the list is empty"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_together_is_refused_and_what_has_is_told(
    text: str, message: str, molecules: Path
) -> None:  # fmt: skip
    Path("in.toml").write_text(f'data = "molecules.extxyz"\n{text}\n')
    answer = mlmd("train", "in.toml")
    assert answer.code == 2
    assert message in answer.err
    assert not Path("in.run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("word", "a.extxyz@3: spread = 'high' is not a property; 1 number(s) are needed."),
        ("vector", "is not a property; 1 number(s) are needed."),
        ("nan", "is not finite"),
        ("none", "property: name = 'spread' is in none of its 40 frames. Did you mean 'spred'?"),
        ("constant", "spread is 1.5 for all 36 training structures: there is nothing to learn."),
        ("one", "1 structures with spread are there to train on; 5 are the fewest"),
        ("same place", "a.extxyz@3"),
        ("periodic", 'is periodic, and interaction = "coulomb" knows no images'),
    ],
)
def test_data_that_nothing_can_be_learned_from_are_refused(change: str, message: str, molecules: Path) -> None:
    structures = read("molecules.extxyz", index=":")
    for number, atoms in enumerate(structures):
        if change == "none":
            atoms.info["spred"] = atoms.info.pop("spread")
        elif change == "constant":
            atoms.info["spread"] = 1.5
        elif number == 3 and change in ("word", "vector", "nan"):
            atoms.info["spread"] = {"word": "high", "vector": np.arange(3.0), "nan": np.nan}[change]
        elif number == 3 and change == "same place":
            atoms.positions[1] = atoms.positions[0]
        elif number == 3 and change == "periodic":
            atoms.set_cell([9, 9, 9])
            atoms.pbc = True
    write("a.extxyz", structures[:1] if change == "one" else structures)
    Path("in.toml").write_text('data = "a.extxyz"\nproperty = "spread"\ndescriptor = "coulomb"\n')
    for command in ("check", "train"):
        answer = mlmd(command, "in.toml")
        assert answer.code == 2
        assert answer.err.startswith("InputError: in.toml: ")
        assert message in answer.err


def test_structures_without_the_number_are_left_out_and_told(molecules: Path) -> None:
    structures = read("molecules.extxyz", index=":")
    for atoms in structures[:3]:
        del atoms.info["spread"]
    write("some.extxyz", structures)
    training = trained(
        molecules, 'data = "some.extxyz"\nproperty = "spread"\ndescriptor = "coulomb"\ntest_fraction = 0\n'
    )
    (finding,) = training.findings
    assert finding.text == (
        "3 of 40 structures have no spread: some.extxyz@0, some.extxyz@1, some.extxyz@2. They are left out."
    )
    table = training.errors["train"]
    assert table is not None
    assert table.row("spread").n == 37


def test_larger_molecules_and_other_elements_than_those_learned_are_refused(molecules: Path) -> None:
    training = trained(molecules, 'data = "molecules.extxyz"\nproperty = "spread"\n[descriptor]\nkind = "coulomb"\n')
    model = loaded(training.model)
    with pytest.raises(InputError, match="structure 1: structure 0 has 14 atoms; n_atoms_max is 8"):
        model.values([molecule("CH4"), molecule("trans-butane")])
    with pytest.raises(InputError, match="Si"):
        model.values([molecule("SiH4")])


def test_check_tells_what_a_training_would_take_and_writes_nothing(molecules: Path) -> None:
    Path("in.toml").write_text(
        'data = "molecules.extxyz"\nproperty = { name = "spread", unit = "1/Å" }\ndescriptor = "coulomb"\n'
        'fit = "kernel-ridge"\n'
    )
    before = sorted(molecules.iterdir())
    answer = mlmd("check", "in.toml")
    assert answer.code == 0, answer.err
    assert "spread [1/Å]: mean" in answer.out
    found = json.loads(mlmd("check", "in.toml", "--json").out)["inputs"][0]
    assert (found["n_frames"], found["n_test_frames"], found["n_unknowns"]) == (36, 4, 36)
    assert found["memory_MB"] > 0 and 0 < found["hours"] < 1
    assert sorted(molecules.iterdir()) == before
