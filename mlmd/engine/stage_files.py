"""What a stage writes: log, trajectory, what it learns of errors, who came and went, and the files of its bias."""

from __future__ import annotations

from dataclasses import dataclass

import ase

from mlmd.bias import Bias
from mlmd.engine.deposit import Book
from mlmd.engine.deviation import Deviations
from mlmd.engine.fluxes import Fluxes
from mlmd.engine.heat_exchange import Temperatures
from mlmd.engine.outputs import ExtXYZ, Log, Trajectory


@dataclass(frozen=True)
class StageFiles:
    """The open files of a stage; None for those that it does not have."""

    log: Log
    trajectory: Trajectory | None
    deviations: Deviations | None
    book: Book | None
    """Of a stage of deposition."""
    bias: Bias | None
    """Keeps its files itself."""
    fluxes: Fluxes | None = None
    temperatures: Temperatures | None = None

    @property
    def _own(self) -> list[Log | Trajectory | Deviations | Book | Fluxes | Temperatures]:
        some = (self.log, self.trajectory, self.deviations, self.book, self.fluxes, self.temperatures)
        return [file for file in some if file is not None]

    def commit(self) -> None:
        """Make everything durable that mlmd has written so far."""
        for file in self._own:
            file.commit()
        if self.bias is not None:
            self.bias.commit()

    def finish_bias(self, step: int) -> None:
        """See that the bias has written what it should have until a global step, which was updated.

        Raises:
            StorageError: when something is missing.
        """
        if self.bias is not None:
            self.bias.finish(step)

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
        if self.bias is not None:
            self.bias.close()
