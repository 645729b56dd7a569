"""Several descriptors of whole structures side by side, and what is learned from them together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read, write
from command_line import mlmd
from known_molecules import MOLECULES, all_made, made
from scipy.spatial.distance import cdist

from mlmd import config
from mlmd.config.toml import document
from mlmd.errors import InputError, Stopped
from mlmd.fitting.kernel_ridge import KernelRidge
from mlmd.fitting.leave_one_out import choose, choose_units
from mlmd.potentials import modelfile
from mlmd.potentials.load import load_property
from mlmd.potentials.property import PropertyModel, rows_of
from mlmd.train.run import Training, train
from mlmd.train.structure_fit import Settings, fitted

COULOMB = '{ kind = "coulomb", layout = "triangle" }'
AVERAGE = '{ kind = "average", of = { kind = "acsf", cutoff = "4 Å", n_radial = 4, n_angular = 2 } }'
SPECTRUM = (
    '{ kind = "mbtr", terms = [{ geometry = "inverse_distance", minimum = 0.1, maximum = 1.2, n_points = 24, '
    'width = 0.04, weighting = "exponential", scale = 0.5, threshold = 1e-2 }] }'
)
DATA = 'data = "molecules.extxyz"\nproperty = { name = "spread", unit = "1/Å" }\n'


@pytest.fixture
def molecules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Distorted molecules with a made-up number, the sum of inverse distances; the current folder."""
    monkeypatch.chdir(tmp_path)
    write("molecules.extxyz", all_made())
    return tmp_path


def trained(text: str) -> Training:
    Path("in.toml").write_text(DATA + text, encoding="utf-8")
    return train("in.toml", "run")


def loaded(path: Path) -> PropertyModel:
    model = load_property(path)
    assert model is not None
    return model


def described(descriptor: str) -> np.ndarray:
    """Features as `mlmd describe` writes them."""
    Path("d.toml").write_text(f"descriptor = {descriptor}\n", encoding="utf-8")
    Path("out.npz").unlink(missing_ok=True)
    answer = mlmd("describe", "molecules.extxyz", "--descriptor", "d.toml", "-o", "out.npz")
    assert answer.code == 0, answer.err
    with np.load("out.npz") as found:
        assert found["kind"] == "structure"
        return np.asarray(found["features"])


def test_features_of_several_descriptors_of_structures_stand_side_by_side(molecules: Path) -> None:
    alone = [described(one) for one in (COULOMB, AVERAGE, SPECTRUM)]
    together = described(f"[{COULOMB}, {AVERAGE}, {SPECTRUM}]")
    assert np.array_equal(together, np.concatenate(alone, axis=1))


@pytest.mark.parametrize(
    "fit", ['"linear"', '{ kind = "random-features", n_random = 300 }', '"kernel-ridge"',
            '{ kind = "kernel-ridge", kernel = "polynomial", power = 2 }']
)  # fmt: skip
def test_every_fit_of_structures_learns_from_several_and_its_file_says_the_same(fit: str, molecules: Path) -> None:
    training = trained(f"descriptor = [{COULOMB}, {AVERAGE}]\nfit = {fit}\n")
    model, table = loaded(training.model), training.errors["test"]
    assert table is not None
    values = np.array([atoms.info["spread"] for atoms in read("molecules.extxyz", index=":")])
    assert table.row("spread").mae < np.abs(values - values.mean()).mean() / 4
    several = [made(name, 9) for name in MOLECULES]
    expected = model.values(several)
    modelfile.save(model, Path("again.mlmd"))
    assert np.array_equal(loaded(Path("again.mlmd")).values(several), expected)
    write("new.xyz", several)
    found = json.loads(mlmd("predict", training.model, "new.xyz", "--json").out)
    # positions were rounded to eight digits in the file of structures
    assert [one["value"] for one in found["values"]] == pytest.approx(expected, abs=1e-5)
    assert expected == pytest.approx([model.values([one])[0] for one in several], abs=1e-9)


@pytest.mark.parametrize(("kernel", "metric", "order"), [("laplacian", "cityblock", 1), ("gaussian", "euclidean", 2)])
def test_the_kernel_of_several_is_the_product_of_those_of_each_with_its_width(
    kernel: str, metric: str, order: int, molecules: Path
) -> None:
    # by scipy's distances and numpy's solution, of the features that are described
    widths, noise = (7.0, 0.4), 1e-4
    training = trained(
        f"test_fraction = 0\ndescriptor = [{COULOMB}, {AVERAGE}]\n"
        f'[fit]\nkind = "kernel-ridge"\nkernel = "{kernel}"\nwidth = {list(widths)}\nregularisation = {noise}\n'
    )
    blocks = [described(one) for one in (COULOMB, AVERAGE)]
    powers = [
        cdist(one, one, metric) ** order / (order * width**order) for one, width in zip(blocks, widths, strict=True)
    ]
    matrix = np.exp(-powers[0]) * np.exp(-powers[1])
    structures = read("molecules.extxyz", index=":")
    values = np.array([atoms.info["spread"] for atoms in structures])
    solved = np.linalg.solve(matrix + noise * np.eye(len(values)), values - values.mean())
    expected = matrix @ solved + values.mean()
    # Gaussians of near rows lose the half of the digits in differences, which the noise divides
    assert loaded(training.model).values(structures) == pytest.approx(expected, abs=1e-5)
    card = modelfile.read_card(training.model)
    assert json.dumps(card).count("[7.0, 0.4]") == 2  # in the input, and among what was found


def blocks_of_rows(n: int = 60) -> tuple[torch.Tensor, torch.Tensor, tuple[slice, slice]]:
    """Two numbers that a value depends on, and thirty in another unit that say nothing of it."""
    generator = torch.Generator().manual_seed(3)
    telling = torch.randn((n, 2), generator=generator, dtype=torch.float64)
    noise = 100 * torch.randn((n, 30), generator=generator, dtype=torch.float64)
    targets = torch.sin(telling[:, 0]) + 0.3 * telling[:, 1] ** 2
    targets += 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)  # so that nothing is learned too well
    return torch.cat([telling, noise], dim=1), targets, (slice(0, 2), slice(2, 32))


@pytest.mark.parametrize("kernel", ["gaussian", "laplacian"])
def test_a_descriptor_that_says_nothing_gets_a_width_with_which_it_says_nothing(kernel: str) -> None:
    rows, targets, shares = blocks_of_rows()
    (own, other), together = choose_units(rows, targets, shares, kernel=kernel)
    alone = choose(rows[:, :2], targets, kernel=kernel)
    common = choose(rows, targets, kernel=kernel)
    assert together.error < 1.1 * alone.error < 0.5 * common.error
    distance = float(torch.cdist(rows[:, 2:], rows[:, 2:], p=1 if kernel == "laplacian" else 2).max())
    assert other > 5 * distance  # all rows are alike for it
    assert own < 0.1 * other


def test_what_is_told_of_settings_is_the_error_of_fits_to_all_but_one() -> None:
    rows, targets, shares = blocks_of_rows(25)
    units, chosen = choose_units(rows, targets, shares, kernel="gaussian")
    # by scipy's distances and numpy's solution, with the mean of all
    powers = [cdist(rows[:, own], rows[:, own]) ** 2 / (2 * unit**2) for own, unit in zip(shares, units, strict=True)]
    matrix, centred = np.exp(-powers[0]) * np.exp(-powers[1]), (targets - targets.mean()).numpy()
    missed = []
    for left in range(len(rows)):
        some = [other for other in range(len(rows)) if other != left]
        part = matrix[np.ix_(some, some)] + chosen.regularisation * np.eye(len(some))
        missed.append(centred[left] - matrix[left, some] @ np.linalg.solve(part, centred[some]))
    # rounding of the kernel beside the regularisation
    assert np.sqrt(np.mean(np.square(missed))) == pytest.approx(chosen.error, rel=1e-3)


def test_random_functions_see_each_descriptor_alike_however_many_features_it_has() -> None:
    rows, targets, shares = blocks_of_rows()
    fit = config.RandomFeaturesFit(n_random=50)
    random, _ = fitted(fit, Settings(width=5.0), rows[:, None], targets, 1, shares=shares)
    scaled = (rows - random.shift) / random.scale  # type: ignore[union-attr]
    sizes = [float(scaled[:, own].square().sum(dim=1).mean()) for own in shares]
    # together as far apart as 32 features of variance one are
    assert sizes == pytest.approx([16.0, 16.0], rel=1e-9)


def test_slopes_of_a_kernel_in_units_are_the_derivatives_of_its_values() -> None:
    rows, targets, _ = blocks_of_rows(12)
    for kernel, width, power in (("gaussian", 1.5, None), ("laplacian", 2.0, None), ("polynomial", None, 2)):
        ridge = KernelRidge(
            n_features=32, kernel=kernel, width=width, power=power, regularisation=0.1, units=[(2, 0.7), (30, 300.0)]
        )
        ridge.fit(rows, targets)
        kinds = torch.zeros(3, dtype=torch.int64)
        at = (rows[:3] + 0.1).requires_grad_()
        directions = torch.eye(32, dtype=torch.float64).expand(3, -1, -1)
        (exact,) = torch.autograd.grad(ridge.energies(at, kinds).sum(), at)
        slopes = torch.einsum("nbd,b->nd", ridge.slopes(at.detach(), kinds, directions), ridge.coefficients)
        torch.testing.assert_close(slopes, exact, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="not positive ones of 32 features"):
        KernelRidge(n_features=32, width=1.0, units=[(2, 1.0), (29, 1.0)])


def test_every_draw_of_a_random_matrix_is_a_row_with_the_features_of_the_others(molecules: Path) -> None:
    matrix = '{ kind = "coulomb", form = "random", noise = 1.0, n_draws = 3 }'
    training = trained(f'descriptor = [{matrix}, {AVERAGE}]\nfit = "kernel-ridge"\n')
    model = loaded(training.model)
    assert len(model.regressor.points) == 3 * 36  # type: ignore[attr-defined]
    several = [made(name, 9) for name in MOLECULES]
    rows = rows_of(model.descriptor, several, 3)
    first, second = model.descriptor.columns  # type: ignore[attr-defined]
    assert torch.equal(rows[:, 0, second], rows[:, 2, second])
    assert not torch.equal(rows[:, 0, first], rows[:, 2, first])
    assert model.values(several) == pytest.approx([model.values([one])[0] for one in several], abs=1e-9)


def test_a_training_that_was_stopped_continues_with_the_widths_that_were_chosen(
    molecules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlmd.train import property_fit

    text = f'descriptor = [{COULOMB}, {AVERAGE}]\nfit = "kernel-ridge"\n'
    whole = trained(text).model.read_bytes()

    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(property_fit, "_curve", stopped)
        with pytest.raises(Stopped):
            train("in.toml", "other")
    monkeypatch.setattr(property_fit, "settings_of", stopped)  # they are known
    assert train("in.toml", "other").model.read_bytes() == whole


def test_a_check_names_the_descriptors_and_what_is_written_loads_as_the_same(molecules: Path) -> None:
    Path("in.toml").write_text(DATA + f'descriptor = [{COULOMB}, {SPECTRUM}]\nfit = "kernel-ridge"\n')
    answer = mlmd("check", "in.toml")
    assert answer.code == 0, answer.err
    assert "features of coulomb + mbtr, kernel-ridge" in answer.out
    given = config.load_train(Path("in.toml"))
    Path("again.toml").write_text(document(config.resolved(given)), encoding="utf-8")
    assert config.load_train(Path("again.toml")) == given


def test_a_descriptor_with_the_same_features_for_all_is_named(molecules: Path) -> None:
    rows, targets, _ = blocks_of_rows()
    same = torch.cat([rows[:, :2], torch.ones((len(rows), 3), dtype=torch.float64)], dim=1)
    with pytest.raises(InputError, match="descriptor 2: all structures have the same features"):
        choose_units(same, targets, (slice(0, 2), slice(2, 5)), kernel="gaussian")
