"""The model of pairs that labels are compared with: how it measures agreement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from mlmd.train.pair_model import _agreement


@pytest.mark.parametrize("decimals", [0, 1, 12], ids=["many equal", "some equal", "none equal"])
def test_agreement_is_spearmans_correlation_also_of_equal_values(decimals: int) -> None:
    generator = np.random.default_rng(decimals)
    given = np.round(generator.normal(0, 2, 300), decimals)
    model = np.round(given**3 + generator.normal(0, 4, 300), decimals)
    found = _agreement(given, model)
    assert found is not None
    assert found.correlation == pytest.approx(spearmanr(given, model).statistic, abs=1e-14)
