"""Every descriptor with every way of fitting learns lithium from a few structures, by what `mlmd train` calls."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mlmd.errors import InputError
from mlmd.io.labelled import read_labelled, write_labelled
from mlmd.potentials import modelfile
from mlmd.potentials.evaluate import predictor
from mlmd.train.run import train

DESCRIPTORS = {
    "mtp": '[descriptor]\nkind = "mtp"\nlevel = 10\ncutoff = "5 Å"',
    "acsf": '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nn_radial = 6\nn_angular = 2\nangular = "G5"',
    "soap": '[descriptor]\nkind = "soap"\ncutoff = "4.8 Å"\nn_max = 4\nl_max = 3\nsigma = "0.6 Å"',
    "snap": '[descriptor]\nkind = "snap"\ncutoff = "4.8 Å"\ntwojmax = 4',
    "selected": '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nfunctions = "selected"\nn_functions = 18\nangular = "G5"',
    "radii": '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nfunctions = "radii"\nangular = "G5"',
    "weighted": '[descriptor]\nkind = "acsf"\ncutoff = "5 Å"\nweighted = true\nangular = "G5"',
    "two": '[[descriptor]]\nkind = "acsf"\ncutoff = "6 Å"\nn_angular = 0\n'
    '[[descriptor]]\nkind = "soap"\ncutoff = "4.8 Å"\nn_max = 4\nl_max = 3\nsigma = "0.6 Å"',
}
LEARNED = {
    "deeppot-se": '[descriptor]\nkind = "deeppot-se"\ncutoff = "5 Å"\nn_neurons = [8, 16]\nn_axes = 4',
    "nep": '[descriptor]\nkind = "nep"\ncutoff = "5 Å"',
    "nep beside acsf": '[[descriptor]]\nkind = "nep"\ncutoff = "5 Å"\n'
    '[[descriptor]]\nkind = "acsf"\ncutoff = "6 Å"\nn_angular = 0',
}
FITS = {
    "linear": 'kind = "linear"',
    "random-features": 'kind = "random-features"\nn_random = 150',
    "gap": 'kind = "gap"\nn_sparse = 80',
    "kernel": 'kind = "kernel"',
    "network": 'kind = "network"\nn_neurons = [15, 15]\nepochs = 60',
}
ONE_LAYER = {"one layer": 'kind = "network"\nn_neurons = [15]\nactivation = "tanh"\nepochs = 60'}


@pytest.fixture(scope="module")
def lithium(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Structures of mlearn's lithium: every eighth of the training set, and test structures."""
    folder = tmp_path_factory.mktemp("lithium")
    training = read_labelled(shared / "mlearn" / "Li_train.xyz.xz")[::8]
    write_labelled(folder / "train.extxyz", training)
    write_labelled(folder / "test.extxyz", read_labelled(shared / "mlearn" / "Li_test.xyz.xz")[::2])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("descriptor", "fit"), [*itertools.product(DESCRIPTORS, FITS), *((one, "one layer") for one in LEARNED)]
)
def test_forces_of_lithium_are_learned(descriptor: str, fit: str, lithium: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.toml"
    source.write_text(
        f'data = "{lithium / "train.extxyz"}"\ntest = "{lithium / "test.extxyz"}"\n'
        f"{(DESCRIPTORS | LEARNED)[descriptor]}\n[fit]\n{(FITS | ONE_LAYER)[fit]}\n"
        + ('radial = "plain"\n' if (descriptor, fit) == ("mtp", "linear") else "")
    )
    training = train(source, tmp_path / "run", n_processes=1)
    table = training.errors["test"]
    assert table is not None
    frames = read_labelled(lithium / "test.extxyz")
    null = 1e3 * float(np.sqrt(np.mean(np.concatenate([frame.forces.ravel() for frame in frames]) ** 2)))  # type: ignore[union-attr]
    assert table.row("forces").rmse < null / 4, f"{table.row('forces').rmse:.1f} of {null:.1f} meV/Å"
    # and the file that was written says the same
    said = predictor(modelfile.load(training.model))(frames[0].atoms)
    assert np.sqrt(np.mean((said.forces - frames[0].forces) ** 2)) < 1e-3 * null / 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[descriptor]\nkind = "mtp"\n[fit]\nquadratic = true', "moment tensors hold the products"),
        ('[[descriptor]]\nkind = "soup"', "descriptor 1 (soup): 'soup' is not a kind of descriptor. "),
        ("descriptor = []", "descriptor: the list is empty"),
        ('descriptor = ["mtp", "mtp"]', "fit: radial: the radial functions of one mtp can be optimised"),
        ('descriptor = ["snap", { model = "absent.mlmd" }]', "absent.mlmd does not exist"),
        ('[descriptor]\nkind = "acsf"\nn_functions = 9', 'functions are "even"; this belongs to "selected"'),
        ('[descriptor]\nkind = "acsf"\nfunctions = "radii"\nn_radial = 4', 'this belongs to "even"'),
        ('[descriptor]\nkind = "acsf"\nfunctions = "radii"\nweighted = true', "weighted: radii are those of elements"),
        ('[descriptor]\nkind = "acsf"\nfunctions = "radii"\nradii = "ionic"', "is not a set of radii"),
        ('[descriptor]\nkind = "acsf"\nfunctions = "radii"\nradii = { Li = -1 }', "radii: Li: -1: a length above 0"),
        (
            '[descriptor]\nkind = "acsf"\nfunctions = "radii"\nradii = { Na = 1 }',
            "radii: Na is none of the elements, Li",
        ),
        ('[descriptor]\nkind = "soup"', "'soup' is not a kind of descriptor. "),
        ('[fit]\nkind = "gpa"', "'gpa' is not a kind of fit. Did you mean 'gap'?"),
        ('[fit]\nkind = "gap"\nradial = "plain"', "'radial' is not an option."),
        ('[fit]\nkind = "network"\nquadratic = true', "'quadratic' is not an option."),
        ('[fit]\nkind = "network"\nactivation = "sillu"', "Did you mean 'silu'?"),
        ("[model]\nlevel = 8", "'model' is not an option here. Its table is called [descriptor]"),
        ('[descriptor]\nkind = "snap"\nradii = { Na = 0.5 }', "descriptor: radii: Na is none of the elements, Li"),
        ('[descriptor]\nkind = "acsf"\ncutoff = "1 Å"', "no two atoms of the data are closer than"),
    ],
)
def test_pairs_without_meaning_are_refused(text: str, message: str, lithium: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.toml"
    source.write_text(f'data = "{lithium / "train.extxyz"}"\n{text}\n')
    with pytest.raises(InputError) as caught:
        train(source, tmp_path / "run", n_processes=1)
    assert message in str(caught.value)
    assert not (tmp_path / "run" / "train.json").exists()
