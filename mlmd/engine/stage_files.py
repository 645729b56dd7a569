"""What a stage writes: log, trajectory, what it learns of errors, who came and went, and the tables of its bias."""

from __future__ import annotations

from dataclasses import dataclass

import ase

from mlmd.bias.written import Written
from mlmd.engine.biases import AdaptiveTables
from mlmd.engine.deposit import Book
from mlmd.engine.deviation import Deviations
from mlmd.engine.hyperdynamics import Events
from mlmd.engine.outputs import ExtXYZ, Log, Trajectory


@dataclass(frozen=True)
class StageFiles:
    """The open files of a stage; None for those that it does not have."""

    log: Log
    trajectory: Trajectory | None
    deviations: Deviations | None
    book: Book | None
    """Of a stage of deposition."""
    bias: Written | None
    """What PLUMED writes, as far as it has been looked at."""
    tables: AdaptiveTables | None
    """Of an adaptive biasing force."""
    events: Events | None
    """Of hyperdynamics."""

    @property
    def _own(self) -> list[Log | Trajectory | Deviations | Book | Events]:
        some = (self.log, self.trajectory, self.deviations, self.book, self.events)
        return [file for file in some if file is not None]

    def commit(self) -> None:
        """Make everything durable that mlmd has written so far."""
        for file in self._own:
            file.commit()

    def finish_bias(self, step: int) -> None:
        """See that PLUMED has written what it should have until a global step, and renew the newest table.

        Raises:
            StorageError: when something is missing.
        """
        if self.bias is not None:
            self.bias.check(step)
        if self.tables is not None:
            self.tables.renew()

    def follow(self, atoms: ase.Atoms) -> None:
        """Write other atoms from now on."""
        assert isinstance(self.trajectory, ExtXYZ)
        self.trajectory.follow(atoms)
        if self.deviations is not None:
            self.deviations.follow(atoms)

    def close(self) -> None:
        """Close them."""
        for file in self._own:
            file.close()
