"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data made by others; tests that need it skip where it is absent.

    With ``MLMD_REQUIRE_DATA=1`` its absence is a failure instead, so that a test run that should have seen the
    data cannot pass without it.
    """
    folder = Path(os.environ.get("MLMD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        message = f"reference data not found at {folder} (set MLMD_DATA)"
        if os.environ.get("MLMD_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(params=["kernels", "autograd"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Features and Jacobians by the compiled kernels, or as on a machine without them."""
    from mlmd.descriptors import compiled

    if request.param == "autograd":
        monkeypatch.setattr(compiled, "library", lambda: None)
    elif compiled.library() is None:
        pytest.skip("the kernels are not compiled, or switched off")
    return str(request.param)
