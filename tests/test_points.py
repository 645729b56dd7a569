"""The choice of rows that represent all, against exhaustive search and closed forms."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from mlmd.errors import InputError
from mlmd.fitting.points import active_set, cur, farthest, grades, leading, leverage, maxvol, no_active_set


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_each_next_point_is_the_farthest_from_those_before() -> None:
    rows = normal(60, 3)
    chosen = farthest(rows, 12).tolist()
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert chosen[0] == np.argmin(np.linalg.norm(rows - rows.mean(0), axis=1))
    for number in range(1, 12):
        nearest = distances[:, chosen[:number]].min(axis=1)
        assert chosen[number] == np.argmax(nearest)


def test_farthest_points_cover_the_rows_at_most_twice_as_coarsely_as_the_best_ones() -> None:
    rows = normal(14, 2, seed=1)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    best = min(distances[:, list(some)].min(axis=1).max() for some in itertools.combinations(range(14), 4))
    found = distances[:, farthest(rows, 4)].min(axis=1).max()
    assert best <= found <= 2 * best


def test_farthest_points_leave_no_cluster_out() -> None:
    # 1000 rows near zero, and two far away
    rows = torch.cat([0.01 * normal(1000, 2), torch.tensor([[5.0, 0.0], [0.0, 7.0]], dtype=torch.float64)])
    assert {1000, 1001} <= {*farthest(rows, 3).tolist()}


def test_equal_rows_are_no_different_points() -> None:
    rows = normal(3, 2).repeat(4, 1)
    assert sorted(farthest(rows, 3).tolist()) == [0, 1, 2]
    with pytest.raises(InputError, match="only 3 rows are different"):
        farthest(rows, 4)


def test_leverage_is_the_diagonal_of_the_projection_onto_the_columns() -> None:
    rows = normal(20, 4, seed=2)
    projection = rows @ torch.linalg.solve(rows.T @ rows, rows.T)
    assert leverage(rows, 4).numpy() == pytest.approx(projection.diagonal().numpy() / 4)
    assert float(leverage(rows, 2).sum()) == pytest.approx(1)


def test_rows_are_drawn_as_often_as_their_leverage_says() -> None:
    rows = normal(6, 2, seed=3)
    expected = leverage(rows, 2)
    counts = Counter(int(cur(rows, 2, 2, torch.Generator().manual_seed(seed))[0]) for seed in range(4000))
    # of 4000 draws: four standard deviations of a binomial
    for row, chance in enumerate(expected.tolist()):
        assert counts[row] / 4000 == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 4000))


def test_cur_finds_the_rows_that_span_what_most_rows_repeat() -> None:
    # one direction is in one row only: uniform draws of 10 of 500 would miss it 98 times in 100
    rows = normal(500, 1, seed=4) * normal(1, 4, seed=5)
    rows[123] = 100 * normal(4, seed=6)
    found = cur(rows, 10, 2, torch.Generator().manual_seed(0))
    assert 123 in found.tolist()
    assert len({*found.tolist()}) == 10
    assert torch.equal(found, cur(rows, 10, 2, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("n_rows", [30, 90])
def test_each_leading_row_has_the_greatest_leverage_in_what_is_left(n_rows: int) -> None:
    rows = normal(n_rows, 8, seed=5) @ torch.diag(torch.logspace(0, -2, 8, dtype=torch.float64))
    chosen, left = leading(rows, 8).tolist(), rows.clone()
    for row in chosen:
        vectors, _, _ = torch.linalg.svd(left, full_matrices=False)
        assert int(vectors[:, 0].abs().argmax()) == row
        direction = left[row] / left[row].norm()
        left -= torch.outer(left @ direction, direction)
    assert len({*chosen}) == 8
    with pytest.raises(InputError, match="only 8 rows are independent"):
        leading(rows, 9)


def test_leading_rows_of_many_are_found_without_decomposing_their_products(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(90, 40, seed=6)
    expected = leading(rows, 20)

    def refuse(matrix: torch.Tensor) -> None:
        raise AssertionError(f"a matrix of {tuple(matrix.shape)} was decomposed")

    monkeypatch.setattr(torch.linalg, "eigh", refuse)
    assert torch.equal(leading(rows, 20), expected)


def test_maxvol_finds_the_determinant_of_exhaustive_search_or_nearly() -> None:
    for seed in range(20):
        rows = normal(12, 3, seed=seed)
        best = max(abs(np.linalg.det(rows[list(some)])) for some in itertools.combinations(range(12), 3))
        found = abs(np.linalg.det(rows[maxvol(rows)]))
        # no single exchange helps: Goreinov and Tyrtyshnikov's bound is n^(n/2); these local maxima are far better
        assert 0.7 * best < found <= best * (1 + 1e-12)


@pytest.mark.parametrize("n_features", [1, 5, 40])
def test_no_exchange_of_one_row_raises_the_determinant(n_features: int) -> None:
    rows = normal(400, n_features, seed=7) * torch.logspace(-6, 6, n_features, dtype=torch.float64)
    chosen = maxvol(rows)
    assert len({*chosen.tolist()}) == n_features
    assert float(grades(rows, rows[chosen]).max()) <= 1 + 1e-3 + 1e-9
    # (1 + tolerance) is the ratio of determinants: tried out with the rows themselves
    _, own = np.linalg.slogdet(rows[chosen])
    generator = np.random.default_rng(8)
    for row, place in zip(generator.integers(0, 400, 50), generator.integers(0, n_features, 50), strict=True):
        other = chosen.clone()
        other[place] = row
        assert np.linalg.slogdet(rows[other])[1] <= own + 1.1e-3


def test_exchanges_keep_account_of_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = []
    plain = torch.linalg.solve
    monkeypatch.setattr(torch.linalg, "solve", lambda *args, **kwargs: solved.append(1) or plain(*args, **kwargs))
    rows = normal(2000, 60, seed=7)
    tight, loose = maxvol(rows), maxvol(rows, tolerance=10.0)
    assert len({*tight.tolist()} ^ {*loose.tolist()}) > 4  # several exchanges were of use
    # for the first time, and once more to confirm the end; the loose one begins there
    assert len(solved) == 3


def test_chosen_rows_have_the_grade_one_and_doubled_ones_two() -> None:
    rows = normal(50, 4, seed=9)
    chosen = rows[maxvol(rows)]
    assert grades(chosen, chosen).numpy() == pytest.approx(np.ones(4))
    assert grades(2 * chosen, chosen).numpy() == pytest.approx(2 * np.ones(4))
    assert grades(chosen[:1] + 3 * chosen[1:2], chosen).numpy() == pytest.approx([3.0])


def test_the_active_set_of_blocks_covers_all_rows() -> None:
    rows = normal(300, 6, seed=10)
    active = active_set(rows.split(37))
    assert (active.numbers >= 0).all()
    assert torch.equal(active.rows, rows[active.numbers])
    # each block may leave the determinant by the tolerance below its maximum, and the volume never shrinks
    assert float(active.grades(rows).max()) < 3
    whole = active_set([rows])
    assert float(whole.grades(rows).max()) <= 1 + 1e-3 + 1e-9
    volumes = [float(torch.linalg.slogdet(one.rows).logabsdet) for one in (active, whole)]
    assert volumes[0] == pytest.approx(volumes[1], abs=np.log(1.5))


def test_passes_over_the_same_blocks_come_to_an_end_where_no_row_extrapolates() -> None:
    rows = normal(400, 6, seed=14)
    current, sizes = no_active_set(rows[:50]), []
    for _ in range(30):
        before = current
        for start in range(0, 400, 50):
            current = current.extended(rows[start : start + 50], start)
            sizes.append(float(torch.linalg.slogdet(current.rows).logabsdet))
        if current is before:
            break
    assert current is before
    assert sizes == sorted(sizes)
    assert torch.equal(current.rows, rows[current.numbers])
    assert float(current.grades(rows).max()) <= 1 + 1e-3 + 1e-9
    # what is stored with a potential says the same
    new = 3 * normal(20, 6, seed=15)
    assert (new @ current.inverse()).abs().amax(dim=1).numpy() == pytest.approx(current.grades(new).numpy(), rel=1e-12)


def test_what_the_data_do_not_have_gets_a_great_grade() -> None:
    rows = normal(100, 4, seed=11)
    rows[:, 3] = 0.0
    active = active_set([rows])
    assert (active.numbers == -1).sum() == 1
    assert float(active.grades(rows).max()) <= 1 + 1e-3 + 1e-9
    unseen = rows[:1].clone()
    unseen[0, 3] = 0.01
    assert float(active.grades(unseen)) == pytest.approx(0.01 / 1e-6)


def test_columns_that_vanish_in_the_first_blocks_may_depend_on_each_other_in_later_ones() -> None:
    """As those of crystals do, whose features of odd moments are rounding until a structure without symmetry comes."""
    rows = normal(200, 6, seed=16)
    rows[:100, 3:] *= 1e-14
    rows[100:, 5] = rows[100:, 3] + rows[100:, 4]
    current = no_active_set(rows[:50])
    for _ in range(2):
        for start in range(0, 200, 50):
            current = current.extended(rows[start : start + 50], start)
    assert (current.numbers == -1).sum() == 1
    assert float(current.grades(rows).max()) <= 1 + 1e-3 + 1e-9
    unseen = rows[150:151].clone()
    unseen[0, 5] += 0.01
    assert 1e3 < float(current.grades(unseen)) < 1e5


def test_fewer_rows_than_features_are_an_active_set_too() -> None:
    rows = normal(3, 8, seed=12)
    active = active_set([rows])
    assert sorted(active.numbers.tolist())[-3:] == [0, 1, 2]
    assert float(active.grades(rows).max()) <= 1 + 1e-3
    assert float(active.grades(normal(1, 8, seed=13))) > 1e4


def test_choices_that_are_impossible_are_refused() -> None:
    rows = normal(5, 3)
    with pytest.raises(InputError, match="6 of 5 rows"):
        farthest(rows, 6)
    with pytest.raises(InputError, match="rank 4 was asked for"):
        leverage(rows, 4)
    with pytest.raises(InputError, match="cannot carry"):
        cur(rows, 2, 3, torch.Generator())
    with pytest.raises(InputError, match="only 1 rows are not zero"):
        cur(torch.eye(4, dtype=torch.float64)[:, :1], 2, 1, torch.Generator())
    with pytest.raises(InputError, match="3 of 2 rows"):
        maxvol(rows[:2])
    with pytest.raises(InputError, match="depend on each other"):
        maxvol(torch.cat([rows, rows[:, :1]], dim=1))
    with pytest.raises(InputError, match="finite rows"):
        maxvol(rows / 0)
    with pytest.raises(InputError, match="no rows"):
        active_set([])
    with pytest.raises(InputError, match="2 features were given after rows of 3"):
        active_set([rows, rows[:, :2]])
