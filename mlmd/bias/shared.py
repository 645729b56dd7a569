"""Walkers of adaptive biasing forces: runs that add up what each of them has collected, over a shared folder.

Each walker writes one file, its own, which always is whole: a new one takes the place of the old. It reads the files of
the others and never its own, so that nothing it has collected counts twice. What the others have collected acts in a
walker as its own does, and is no part of its tables and checkpoints: a walker that is killed and goes on from its last
checkpoint collects the steps since then once more, and leaves its file alone until it is as far as the file.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlmd.bias.bins import Bins
from mlmd.bias.extended import ExtendedABF
from mlmd.bias.plain import PlainABF
from mlmd.errors import InputError, StorageError

HEADER = "header"


@dataclass(frozen=True)
class Left:
    """What a walker has left for the others."""

    run: str
    """Which run it is, in words."""
    step: int
    """The global step of that run until which it was collected."""
    grid: Mapping[str, Any]
    """What walkers must have in common."""
    bins: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Name of bins -> counts and sums."""


def write_left(path: Path, left: Left) -> None:
    """Write the file of a walker, so that who reads it finds the old one or the new one, never a part."""
    header = json.dumps({"run": left.run, "step": left.step, "grid": left.grid}).encode()
    arrays: dict[str, Any] = {HEADER: np.frombuffer(header, np.uint8)}
    for name, (counts, sums) in left.bins.items():
        arrays |= {f"{name} counts": counts, f"{name} sums": sums}
    content = io.BytesIO()
    np.savez(content, **arrays)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_left(path: Path) -> Left:
    """Read the file of a walker; its arrays are checked against their checksums.

    Raises:
        StorageError: when it cannot be read, or is no such file.
    """
    try:
        content = io.BytesIO(path.read_bytes())  # numpy does not close a file that is damaged
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        with np.load(content, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        names = [name.removesuffix(" counts") for name in arrays if name.endswith(" counts")]
        bins = {name: (arrays[f"{name} counts"], arrays[f"{name} sums"]) for name in names}
        return Left(str(header["run"]), int(header["step"]), header["grid"], bins)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, NotImplementedError):
        raise StorageError(f"{path} is damaged, or is no file of a walker with an adaptive biasing force.") from None


class Walker:
    """One of several runs that share an adaptive biasing force."""

    def __init__(
        self, abf: ExtendedABF | PlainABF, folder: Path, name: str, number: int, count: int, every: int, run: str
    ) -> None:
        """Read what the others have left.

        Args:
            abf: of this run.
            folder: that all share; it is made where it is missing.
            name: of the files, which are ``name.0``, ``name.1``, ...
            number: of this run.
            count: of all.
            every: steps between looks at the others.
            run: in words, different for every run.

        Raises:
            InputError: when another run has this number, or another grid.
            StorageError: when the folder cannot be used, or the own file is damaged.
        """
        self.folder = folder
        self._abf, self._every, self._run, self._grid = abf, every, run, _grid_of(abf)
        self._own = folder / f"{name}.{number}"
        self._others = {folder / f"{name}.{one}": _Seen() for one in range(count) if one != number}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder of walkers {folder} cannot be made: {error.strerror}.") from None
        self._own_mark: Mark | None = None
        self._left = -1
        """The step in the own file."""
        self._look_at_own()
        self.read()

    def update(self, step: int) -> None:
        """Leave what was collected and read what the others have left, at the steps for it."""
        if step > 0 and step % self._every == 0:
            self.leave()
            self.read()

    def leave(self) -> None:
        """Write the own file, unless that has come farther: then its steps are being done again.

        Raises:
            InputError, StorageError: as at the beginning.
        """
        self._look_at_own()
        if self._abf.last_step < max(self._left, 0):
            return
        bins = {name: (one.counts, one.sums) for name, one in _bins_of(self._abf).items()}
        try:
            write_left(self._own, Left(self._run, self._abf.last_step, self._grid, bins))
            self._own_mark, self._left = _mark(self._own), self._abf.last_step
        except OSError as error:
            raise StorageError(f"{self._own} cannot be written: {error.strerror}.") from None

    def read(self) -> None:
        """Add up what the others have left. A file that cannot be read now counts as it did when it was read last.

        Raises:
            InputError: when another walker has another grid.
            StorageError: when a file is whole, and of no walker.
        """
        changed = False
        for path, seen in self._others.items():
            changed |= self._read(path, seen)
        if not changed:
            return
        known = [seen.left for seen in self._others.values() if seen.left is not None]
        for name, bins in _bins_of(self._abf).items():
            counts, sums = (np.sum([left.bins[name][part] for left in known], axis=0) for part in (0, 1))
            bins.others = (counts, sums)

    def _read(self, path: Path, seen: _Seen) -> bool:
        """Whether there was something new."""
        try:
            if (mark := _mark(path)) == seen.mark:
                return False
            left = read_left(path)
        except (OSError, StorageError):
            return False
        self._check_grid(path, left)
        seen.mark, seen.left = mark, left
        return True

    def _check_grid(self, path: Path, left: Left) -> None:
        """See that a file is of a walker like this one, and holds the bins that its grid has.

        Raises:
            InputError: when it has another grid.
            StorageError: when it is whole, and yet no file of a walker.
        """
        if not isinstance(left.grid, Mapping):
            raise StorageError(f"{path} is no file of a walker: its grid is no table. Move it away.")
        for key, own in self._grid.items():
            if (other := left.grid.get(key)) != own:
                raise InputError(
                    f"walkers: {path} has {key} {other}, and this run has {own}: walkers share one force, on one grid, "
                    f"with one spring and temperature. It was written by the run {left.run}."
                )
        for name, bins in _bins_of(self._abf).items():
            found = [(one.shape, one.dtype.kind in "iuf") for one in left.bins.get(name, ())]
            if found != [(bins.counts.shape, True), (bins.sums.shape, True)]:
                raise StorageError(
                    f"{path} is no file of a walker: counts and sums of its {name} variable do not fit its grid of "
                    f"{bins.counts.size} bins. Move it away; if its run goes on, it writes another. It was written by "
                    f"the run {left.run}."
                )

    def _look_at_own(self) -> None:
        """See that the own file is of this run."""
        try:
            mark = _mark(self._own)
        except OSError:
            self._own_mark, self._left = None, -1
            return
        if mark == self._own_mark:
            return
        try:
            left = read_left(self._own)
        except StorageError as error:
            raise StorageError(f"{error} If it is of this run, move it away: the run writes it anew.") from None
        if left.run != self._run:
            raise InputError(
                f"walkers: {self._own} is of another run ({left.run}), and this run ({self._run}) does not write over "
                "it. Give this run a number of its own, or another folder; what the file has collected goes on to "
                "count while it lies there."
            )
        self._check_grid(self._own, left)
        self._own_mark, self._left = mark, left.step


Mark = tuple[int, int, int]


def _mark(path: Path) -> Mark:
    """What tells one content of a file that is always replaced as a whole from the next."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


@dataclass
class _Seen:
    """The file of another walker as it was read last."""

    mark: Mark | None = None
    left: Left | None = None


def _bins_of(abf: ExtendedABF | PlainABF) -> dict[str, Bins]:
    """What is shared: of an extended variable also what the variable itself has seen, which CZAR needs."""
    return {"extended": abf.bins, "true": abf.true_bins} if isinstance(abf, ExtendedABF) else {"true": abf.bins}


def _grid_of(abf: ExtendedABF | PlainABF) -> dict[str, Any]:
    """What walkers must have in common, in PLUMED's units."""
    extended = isinstance(abf, ExtendedABF)
    keys = ("minimum", "maximum", "n_bins", "period", *(["spring"] if extended else []))
    return {
        "extended": extended,
        "temperature": abf.temperature,
        **{key: [getattr(one, key) for one in abf.dimensions] for key in keys},
    }
