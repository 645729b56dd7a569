"""Properties of structures learned by kernels that compare their atoms: average and REMatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write
from command_line import mlmd
from kept_states import check_every_state, set_back
from random_soap import random_soap
from torch.nn.functional import normalize

from mlmd.descriptors.likeness import Likeness
from mlmd.descriptors.similarity import rematch_kernel
from mlmd.descriptors.soap import Soap
from mlmd.errors import InputError, Stopped, StorageError
from mlmd.io.xyz_frames import read_xyz
from mlmd.neighbors import build_graph
from mlmd.potentials import modelfile
from mlmd.potentials.property import PropertyModel
from mlmd.train import checkpoint, memory, property_fit
from mlmd.train.property_state import PropertyState
from mlmd.train.run import Step, Training, train

HEAT = "heat_of_formation_kcal_mol"
SOAP = '{ kind = "soap", n_max = 4, l_max = 3, cutoff = "4 Å" }'
NAMES = ("CH4", "H2O", "NH3", "CO2", "C2H2", "C2H4", "C2H6", "CH3OH", "HCN", "H2CO")


@pytest.fixture
def molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Atoms]:
    """Distorted molecules with a made-up number, the mean of inverse distances; in the current folder."""
    monkeypatch.chdir(tmp_path)
    found = []
    for name in NAMES:
        for seed in range(3):
            atoms = molecule(name)
            atoms.rattle(0.05, seed=seed)
            distances = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
            atoms.info["crowding"] = float(np.mean(1 / distances))
            found.append(atoms)
    write("molecules.extxyz", found)
    return found


def text(fit: str, descriptor: str = SOAP, more: str = "") -> str:
    return f'data = "molecules.extxyz"\nproperty = "crowding"\ndescriptor = {descriptor}\nfit = {{ {fit} }}\n{more}'


def trained(source: str, folder: Path) -> Training:
    path = folder / "in.toml"
    path.write_text(source, encoding="utf-8")
    return train(path, folder / "run")


def loaded(training: Training) -> PropertyModel:
    model = modelfile.load(training.model)
    assert isinstance(model, PropertyModel)
    return model


def rows_of(structures: list[Atoms], soap: Soap) -> list[np.ndarray]:
    return [soap.features(build_graph(atoms, soap.cutoff)).numpy() for atoms in structures]


@pytest.mark.parametrize("kernel", ["rematch", "average"])
def test_a_model_is_kernel_ridge_regression_with_the_kernel_of_dscribe(
    kernel: str, molecules: list[Atoms], tmp_path: Path
) -> None:
    kernels = pytest.importorskip("dscribe.kernels")
    gamma = "gamma = 0.3, " if kernel == "rematch" else ""
    fit = f'kind = "kernel-ridge", kernel = "{kernel}", power = 3, {gamma}regularisation = 1e-3'
    model = loaded(trained(text(fit, more='test = "molecules.extxyz"'), tmp_path))
    descriptor = model.descriptor
    assert isinstance(descriptor, Likeness) and isinstance(descriptor.local, Soap)
    new = [molecule("CH3CHO"), molecule("C3H8")]  # also more atoms than any that was trained on
    local: dict[str, Any] = {"metric": "polynomial", "degree": 3, "gamma": 1.0, "coef0": 0.0, "normalize_kernel": True}
    oracle = (
        kernels.REMatchKernel(alpha=0.3, threshold=1e-18, **local)
        if kernel == "rematch"
        else kernels.AverageKernel(**local)
    )
    known, unseen = rows_of(molecules, descriptor.local), rows_of(new, descriptor.local)
    y = np.array([atoms.info["crowding"] for atoms in molecules])
    weights = np.linalg.solve(oracle.create(known) + 1e-3 * np.eye(len(y)), y - y.mean())
    expected = oracle.create(unseen, known) @ weights + y.mean()
    # the oracle's match is right to 1e-9, and weights are some hundred times larger than what they add up to
    np.testing.assert_allclose(model.values(new), expected, atol=1e-6)


def test_the_kernel_of_the_training_set_is_that_of_rematch(molecules: list[Atoms]) -> None:
    soap = Soap(elements=("H", "C", "N", "O"), cutoff=4.0, n_max=3, l_max=3)
    rows = [torch.from_numpy(one) for one in rows_of(molecules[:14], soap)]
    descriptor = Likeness(soap, gamma=0.1)
    descriptor.remember(rows)
    expected = rematch_kernel(rows, gamma=0.1, zeta=2)
    said: list[int] = []
    np.testing.assert_allclose(descriptor.among(4, said.append), expected, atol=1e-8)
    assert said == [4, 8, 12, 14]
    graph = build_graph(molecules[:14], 4.0)
    np.testing.assert_allclose(descriptor.features(graph), expected, atol=1e-8)
    unit = [normalize(one) for one in rows]
    similar = [(unit[0] @ one.T) ** 2 for one in unit]  # the same atoms, each compared with each
    average = Likeness(soap, "average")
    average.remember(rows)
    own = [float(((one @ one.T) ** 2).mean()) for one in unit]
    means = [float(one.mean()) / np.sqrt(own[0] * o) for one, o in zip(similar, own, strict=True)]
    np.testing.assert_allclose(average.among(5, said.append)[0], means, atol=1e-12)


def test_a_supercell_has_the_value_of_its_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crystals = []
    for n in range(12):
        atoms = bulk("Cu", cubic=True, a=3.4 + 0.03 * n)
        atoms.rattle(0.05, seed=n)
        atoms.info["crowding"] = float(np.sin(n))
        crystals.append(atoms)
    write("molecules.extxyz", crystals)
    model = loaded(trained(text('kind = "kernel-ridge", kernel = "rematch"', more="test_fraction = 0"), tmp_path))
    one, two = model.values([crystals[3], crystals[3].repeat((2, 1, 2))])
    assert one == pytest.approx(two, abs=1e-6)  # the tolerance of the match


def test_the_file_predicts_what_the_training_says_and_tells_what_it_holds(
    molecules: list[Atoms], tmp_path: Path
) -> None:
    training = trained(text('kind = "kernel-ridge", kernel = "rematch"', more="test_fraction = 0.2"), tmp_path)
    assert training.errors["test"] is not None
    answer = mlmd("evaluate", training.model, "molecules.extxyz", "--json")
    assert answer.code == 0, answer.err
    answer = mlmd("predict", training.model, "molecules.extxyz", "--json")
    assert answer.code == 0, answer.err
    shown = json.loads(mlmd("show", training.model, "--json").out)
    assert shown["descriptor"].startswith("soap, ")
    assert shown["fit"].startswith("kernel-ridge, rematch kernel with 24 structures, ")
    assert "model" in json.loads(mlmd("show", "run", "--json").out)
    assert (training.model.parent / "learning_curve.png").exists()
    state = training.model.stat().st_size
    n_atoms = sum(len(atoms) for atoms in molecules)
    assert state < 8 * n_atoms * loaded(training).descriptor.local.n_features + 50_000  # type: ignore[attr-defined]


def test_errors_of_fits_to_fewer_structures_are_those_of_trainings_on_them(
    molecules: list[Atoms], tmp_path: Path
) -> None:
    from mlmd.config import KernelRidgeFit
    from mlmd.train.structure_fit import Settings, fitted

    soap = Soap(elements=("H", "C", "N", "O"), cutoff=4.0, n_max=3, l_max=3)
    descriptor = Likeness(soap, gamma=0.1)
    descriptor.remember([torch.from_numpy(one) for one in rows_of(molecules, soap)])
    matrix = descriptor.among(10, lambda done: None)
    targets = torch.tensor([atoms.info["crowding"] for atoms in molecules], dtype=torch.float64)
    some = np.array([3, 17, 5, 22, 9, 0])
    fit, settings = KernelRidgeFit(kernel="rematch"), Settings(regularisation=1e-3)
    of_few, _ = fitted(fit, settings, matrix[some][:, None], targets[some], 0, some)
    alpha = np.linalg.solve(
        matrix[some][:, some].numpy() + 1e-3 * np.eye(6), (targets[some] - targets[some].mean()).numpy()
    )
    expected = matrix[:, some].numpy() @ alpha + float(targets[some].mean())
    found = of_few.energies(matrix, torch.zeros(len(matrix), dtype=torch.int64))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_regularisation_is_the_one_that_predicts_structures_left_out(
    molecules: list[Atoms], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for atoms in molecules:  # with noise, so that neither the least nor the most of it is best
        atoms.info["crowding"] += random.normal(0, 0.05)
    write("molecules.extxyz", molecules)
    training = trained(text('kind = "kernel-ridge", kernel = "rematch"', more="test_fraction = 0"), tmp_path)
    card = modelfile.read_card(training.model)
    model = loaded(training)
    descriptor = model.descriptor
    assert isinstance(descriptor, Likeness)
    matrix = descriptor.among(10, lambda done: None).numpy()
    y = np.array([atoms.info["crowding"] for atoms in molecules])

    def left_out(strength: float) -> float:
        errors = []
        for n in range(len(y)):
            rest = np.delete(np.arange(len(y)), n)
            alpha = np.linalg.solve(matrix[np.ix_(rest, rest)] + strength * np.eye(len(rest)), y[rest] - y.mean())
            errors.append(y[n] - y.mean() - matrix[n, rest] @ alpha)
        return float(np.sqrt(np.mean(np.square(errors))))

    facts = card["fit"] if "fit" in card and isinstance(card["fit"], dict) else card
    strength, error = facts["regularisation"], facts["left out, RMSE"]
    assert left_out(strength) == pytest.approx(error, rel=1e-5)
    assert min(left_out(10 * strength), left_out(strength / 10)) > error


def test_heats_of_formation_are_learned_from_the_atoms_of_molecules(shared: Path, tmp_path: Path) -> None:
    frames = list(read_xyz(shared / "qm7" / "qm7.xyz.xz"))
    order = np.random.default_rng(0).permutation(len(frames))
    for name, chosen in (("train", order[:100]), ("test", order[100:150])):
        structures = []
        for index in chosen:
            atoms = frames[index].atoms.copy()
            atoms.info[HEAT] = float(str(frames[index].values[HEAT]))
            structures.append(atoms)
        write(tmp_path / f"{name}.extxyz", structures)
    training = trained(
        f'data = "train.extxyz"\ntest = "test.extxyz"\nproperty = {{ name = "{HEAT}", extensive = true }}\n'
        f'descriptor = {SOAP}\nfit = {{ kind = "kernel-ridge", kernel = "rematch" }}\n',
        tmp_path,
    )
    table = training.errors["test"]
    assert table is not None
    given = np.array([atoms.info[HEAT] for atoms in read(tmp_path / "test.extxyz", index=":")])
    assert table.row(HEAT).mae < float(np.abs(given - given.mean()).mean()) / 8, table.row(HEAT).mae


@pytest.mark.parametrize(
    ("descriptor", "fit"),
    [
        (SOAP, 'kind = "kernel-ridge", kernel = "rematch"'),
        (SOAP, 'kind = "kernel-ridge", kernel = "average", regularisation = 1e-3'),
        ('{ kind = "coulomb", form = "random", noise = 0.3, n_draws = 3 }', 'kind = "kernel-ridge"'),
        (f'{{ kind = "average", of = {SOAP} }}', 'kind = "random-features", n_random = 50'),
    ],
)
def test_every_state_that_is_kept_leads_to_the_same_file(
    molecules: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptor: str, fit: str
) -> None:
    monkeypatch.setattr(property_fit, "_FEW", 4)
    monkeypatch.setattr(property_fit, "_AT_ONCE", 4)
    source = tmp_path / "in.toml"
    source.write_text(text(fit, descriptor, "test_fraction = 0.2"), encoding="utf-8")
    whole, states = check_every_state(source, tmp_path / "run", monkeypatch, range)
    assert len(states) == 8  # 24 structures to train on and 6 to test on, four at a time
    assert not (whole.path / checkpoint.FILE).exists()  # of what is done nothing is left to go on from
    # what is there is not computed again
    said: list[Step] = []
    set_back(whole.path, states[4])
    train(source, whole.path, progress=said.append)
    began = [step.done for step in said if step.what in ("kernels of the training set", "features of the train set")]
    assert min(began) >= 20


def test_a_training_that_is_stopped_says_that_it_continues_and_does(molecules: list[Atoms], tmp_path: Path) -> None:
    source = tmp_path / "in.toml"
    source.write_text(text('kind = "kernel-ridge", kernel = "rematch"', more="test_fraction = 0.2"), encoding="utf-8")
    whole = train(source, tmp_path / "whole")
    for stopped_at in ("kernels of the training set", "features of the test set", "learning curve"):

        def stop(step: Step, stopped_at: str = stopped_at) -> None:
            if step.what == stopped_at:
                raise KeyboardInterrupt

        with pytest.raises(Stopped, match=r"every part that was done is kept\. The same command continues"):
            train(source, tmp_path / "run", progress=stop)
    key = json.loads((tmp_path / "run" / "train.json").read_text())["digest"]
    state = PropertyState(tmp_path / "run", key, {"train": (24, 1, 24), "test": (6, 1, 24)})
    assert state.n_done == {"train": 24, "test": 6} and state.settings is not None
    said: list[Step] = []
    assert train(source, tmp_path / "run", progress=said.append).model.read_bytes() == whole.model.read_bytes()
    assert not {"kernels of the training set", "features of the test set"} & {step.what for step in said}


def test_rows_of_another_descriptor_are_not_taken(molecules: list[Atoms], tmp_path: Path) -> None:
    source = tmp_path / "in.toml"
    source.write_text(text('kind = "kernel-ridge"', '"coulomb"'), encoding="utf-8")
    whole = train(source, tmp_path / "run")
    key = json.loads((whole.path / "train.json").read_text())["digest"]
    state = PropertyState(whole.path, key, {"train": (27, 1, 5), "test": (3, 1, 5)})
    state.add("train", torch.ones((20, 1, 5), dtype=torch.float64))
    state.keep()
    set_back(whole.path)
    with pytest.raises(StorageError, match=r"checkpoint\.safetensors was kept by another version of mlmd"):
        train(source, whole.path)
    (whole.path / checkpoint.FILE).unlink()
    assert train(source, whole.path).model.read_bytes() == whole.model.read_bytes()


def test_a_descriptor_that_changed_is_not_mixed_with_what_was_kept(molecules: list[Atoms], tmp_path: Path) -> None:
    for name, cutoff in (("soap", "4 Å"), ("other", "4.5 Å")):
        modelfile.save(random_soap(("H", "C", "N", "O"), cutoff=cutoff, n_max=3, l_max=2), tmp_path / f"{name}.mlmd")
    source = tmp_path / "in.toml"
    fit = 'kind = "kernel-ridge", kernel = "average"'
    given = '{ model = "soap.mlmd" }\nelements = ["H", "C", "N", "O"]'
    source.write_text(text(fit, given), encoding="utf-8")
    train(source, tmp_path / "run")
    Path("other.mlmd").replace("soap.mlmd")
    set_back(tmp_path / "run")
    with pytest.raises(StorageError, match="belongs to other data"):
        train(source, tmp_path / "run")


def test_check_says_what_a_training_takes(molecules: list[Atoms], tmp_path: Path) -> None:
    Path("in.toml").write_text(text('kind = "kernel-ridge", kernel = "rematch"'), encoding="utf-8")
    answer = mlmd("check", "in.toml", "--json")
    assert answer.code == 0, answer.err
    (found,) = json.loads(answer.out)["inputs"]
    assert found["model"].endswith("features of soap for each atom, kernel-ridge, rematch")
    assert found["n_unknowns"] == 27 and found["n_features"] > 100 and found["hours"] > 0


@pytest.mark.parametrize(
    ("fit", "descriptor", "message"),
    [
        ('kernel = "rematch"', '"coulomb"', '"coulomb" gives one row of a whole structure. Give a descriptor of atoms'),
        ('kernel = "average"', '{ kind = "average", of = "soap" }', '"average" gives one row of a whole structure'),
        ('kernel = "rematch"', '"agni"', 'cannot compare what "agni" gives: it describes directions'),
        ('kernel = "rematch"', '"deeppot-se"', 'cannot compare what "deeppot-se" gives'),
        ('kernel = "average", gamma = 0.1', '"soap"', "gamma: the average kernel has none"),
        ('kernel = "rematch", width = 1.0', '"soap"', "width: the rematch kernel has none"),
        ('kernel = "laplacian"', '"soap"', 'or compare atoms by kernel = "rematch"'),
    ],
)
def test_what_cannot_be_compared_is_refused(
    fit: str, descriptor: str, message: str, molecules: list[Atoms], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        trained(text(f'kind = "kernel-ridge", {fit}', descriptor), tmp_path)
    assert message in str(error.value)


def test_more_atoms_than_there_is_memory_for_are_refused(
    molecules: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1e6)
    with pytest.raises(InputError, match=r"atoms with .* features are compared one by one, which needs"):
        trained(text('kind = "kernel-ridge", kernel = "rematch"'), tmp_path)
