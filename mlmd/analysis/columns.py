"""Curves as the text of a CSV file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def csv_of(names: Sequence[str], columns: Sequence[np.ndarray], digits: int = 8) -> str:
    """A head with names and units, and a row for each place.

    Args:
        names: of the columns.
        columns: (n,) each.
        digits: of every number.
    """
    rows = "\n".join(",".join(f"{value:.{digits}g}" for value in row) for row in np.stack(columns, axis=1))
    return ",".join(names) + "\n" + rows + "\n"
