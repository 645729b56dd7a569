"""Processes that work for a training."""

from __future__ import annotations

import time

import pytest

from mlmd.train.pool import each, pool


def test_results_come_in_the_order_of_the_tasks() -> None:
    with pool(2, time.sleep, 0.0) as processes:
        assert list(each(processes, abs, [-3, 2, -1])) == [3, 2, 1]


def test_what_is_being_done_is_given_up_when_the_training_is_stopped() -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), pool(2, time.sleep, 0.0) as processes:
        assert next(each(processes, time.sleep, [0.0, 600.0, 600.0, 600.0])) is None
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 300  # many times what processes need to start
