"""How far the fit of a property is, and how that is kept: the rows of structures, and the settings that were chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlmd.train.checkpoint import OtherVersion, Pace, read_numbers, write_numbers
from mlmd.train.structure_fit import Settings

Shape = tuple[int, int, int]
"""Structures, draws of each, features."""


class PropertyState:
    """What is done of a fit, in memory, and now and then on disk."""

    rows: dict[str, Tensor]
    """Set of structures -> (n_structures, n_draws, n_features), of which the first ones are known."""
    n_done: dict[str, int]
    """Set of structures -> how many."""
    settings: Settings | None
    """Those of the fit, once they are chosen."""

    def __init__(self, folder: Path, key: str, shapes: Mapping[str, Shape]) -> None:
        """Take what was kept, if there is anything.

        Args:
            folder: of the training.
            key: says to which training the state belongs.
            shapes: of the rows of each set.

        Raises:
            StorageError: when what was kept is damaged, of another training, or of another version of mlmd.
        """
        self._folder, self._key, self._pace = folder, key, Pace()
        self.rows = {name: torch.empty(shape, dtype=torch.float64) for name, shape in shapes.items()}
        self.n_done, self.settings = dict.fromkeys(shapes, 0), None
        read_numbers(folder, self._take, key)

    def add(self, name: str, rows: Tensor) -> None:
        """Take rows (n, n_draws, n_features) of the next structures of a set; they are kept when it is time."""
        begin = self.n_done[name]
        self.rows[name][begin : begin + len(rows)] = rows
        self.reached(name, begin + len(rows))

    def reached(self, name: str, n_done: int) -> None:
        """Say how many of a set are known, which were written into `rows`; they are kept when it is time."""
        self.n_done[name] = n_done
        self._pace(self.keep)

    def keep(self) -> None:
        """Write what is done."""
        arrays = {name: rows[: self.n_done[name]].numpy() for name, rows in self.rows.items()}
        settings = None if self.settings is None else asdict(self.settings)
        write_numbers(self._folder, arrays, {"settings": settings}, self._key)

    def _take(self, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """What `keep` wrote.

        Raises:
            OtherVersion: for rows of another shape.
        """
        for name, rows in self.rows.items():
            known = arrays[name]
            if known.shape[1:] != rows.shape[1:] or len(known) > len(rows):
                raise OtherVersion
            rows[: len(known)] = torch.from_numpy(known)
            self.n_done[name] = len(known)
        kept = numbers["settings"]
        if kept is not None and kept.get("units") is not None:  # JSON has lists
            kept = kept | {"units": tuple(kept["units"])}
        self.settings = None if kept is None else Settings(**kept)
