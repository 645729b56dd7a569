"""PLUMED as a bias: positions in, bias energy, forces and virial out; updated once per step.

An engine may ask for the bias several times within one step (trial volumes, printing). The bias is therefore
computed without update (``performCalcNoUpdate``) as often as asked, and `PlumedBias.update` deposits hills and
prints once, for the last configuration computed.

PLUMED keeps its own units in plumed.dat (nm, kJ/mol, ps unless UNITS says otherwise) and counts atoms from 1.
Reference: Tribello, Bonomi, Branduardi, Camilloni, Bussi, Comput. Phys. Commun. 185, 604 (2014).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mlmd import units
from mlmd.bias import Bias, BiasFailure
from mlmd.bias.script import Script, before, read_script
from mlmd.bias.statement import Statement
from mlmd.bias.walkers import elsewhere, is_walker, make_ready
from mlmd.bias.written import Written, every_multiple
from mlmd.errors import InputError, StorageError

INSTALL_HINT = (
    "Install a kernel with `pip install --no-deps hillclimber==0.1.8`, or set PLUMED_KERNEL to your libplumedKernel.so "
    "(with `pip install plumed` for the Python module)."
)

COMMON = (
    "ABMD", "ALPHABETA", "ANGLE", "BIASVALUE", "CELL", "CENTER", "COM", "COMBINE", "COMMITTOR", "COORDINATION",
    "CUSTOM", "DISTANCE", "DISTANCES", "DUMPATOMS", "DUMPGRID", "ENERGY", "EXTERNAL", "FIXEDATOM", "FLUSH", "GROUP",
    "GYRATION", "HISTOGRAM", "INCLUDE", "LOWER_WALLS", "MATHEVAL", "METAD", "MOLINFO", "MOVINGRESTRAINT",
    "OPES_EXPANDED", "OPES_METAD", "OPES_METAD_EXPLORE", "PATHMSD", "PBMETAD", "PIECEWISE", "POSITION", "PRINT",
    "RESTART", "RESTRAINT", "REWEIGHT_BIAS", "RMSD", "TORSION", "UNITS", "UPPER_WALLS", "VOLUME", "WHOLEMOLECULES",
)  # fmt: skip
"""Names for a hint at a typing error: PLUMED cannot be asked for its actions."""

_started_in: ContextVar[Path | None] = ContextVar("_started_in", default=None)
"""The folder of the command while `working_in` another: what a relative PLUMED_KERNEL is meant from."""


def find_kernel(wanted: Path | None = None) -> Path:
    """The PLUMED kernel: the input file's, else PLUMED_KERNEL, else the one inside an installed wheel.

    Raises:
        InputError: when there is none, or the one asked for does not exist.
    """
    for source, name in (("the input file", wanted), ("PLUMED_KERNEL", os.environ.get("PLUMED_KERNEL"))):
        if name:
            path = (_started_in.get() or Path.cwd()) / name
            if path.is_file():
                return path
            raise InputError(f"the PLUMED kernel {name} that {source} names does not exist.")
    package = find_spec("plumed")
    for root in (package.submodule_search_locations or []) if package else []:
        for kernel in sorted(Path(root).rglob("libplumedKernel.*")):
            return kernel
    raise InputError(f"no PLUMED kernel was found. {INSTALL_HINT}")


def start(kernel: Path | None = None) -> Any:
    """A new PLUMED object.

    Raises:
        InputError: when PLUMED is not installed or its kernel does not load.
    """
    path = find_kernel(kernel)
    try:
        import plumed
    except ImportError as error:
        raise InputError(f"PLUMED's Python module cannot be imported ({error}). {INSTALL_HINT}") from None
    try:
        return plumed.Plumed(kernel=str(path))
    except Exception as error:  # the wrapper raises plain exceptions of several kinds
        raise InputError(f"the PLUMED kernel {path} does not load: {error}. {INSTALL_HINT}") from None


class PlumedBias(Bias):
    """A PLUMED script acting on all atoms of a system.

    PLUMED receives pointers to whole arrays and copies only the atoms that its variables use.
    """

    def __init__(
        self,
        script: Script,
        *,
        masses: np.ndarray,
        charges: np.ndarray | None = None,
        timestep: float,
        temperature: float | None,
        kernel: Path | None = None,
        log: Path | None = None,
        restart: bool = False,
        puts: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
        gets: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Start PLUMED and read the script; its files are opened in the current folder.

        Args:
            script: what `read_script` gave.
            masses: (n_atoms,) amu.
            charges: (n_atoms,) e, zero when not given.
            timestep: fs.
            temperature: K, PLUMED's kT for actions that do not name one; None where there is no thermostat.
                PLUMED's kT cannot change: in a ramp it is that of the first temperature.
            kernel: file, else found by `find_kernel`.
            log: PLUMED's own log of this start, else thrown away.
            restart: append to the files of an earlier run and continue its bias.
            puts: label of a PUT in the script -> (1,) its value, which is read at every step, and (1,) the force on
                it, which is written; both in PLUMED's units.
            gets: label of a value in the script -> (1,) where it is written at every step, in PLUMED's units.

        Raises:
            InputError: for an error in the script, with its line.
        """
        self.script, self.name = script, script.path.name
        self.restarted, self.pending = restart, False
        self.independent = not script.uses_energy
        self.masses = np.ascontiguousarray(masses, dtype=np.float64)
        self.charges = np.zeros_like(self.masses) if charges is None else np.ascontiguousarray(charges, np.float64)
        self._written: Written | None = None
        self._energy, self._needed = np.zeros(1), np.zeros(1, dtype=np.intc)
        self._step = np.zeros(1, dtype=np.longlong)  # as an array, since the wrapper passes plain ints as 32 bits
        self.kernel = find_kernel(kernel)
        """The library in use."""
        self._plumed = start(self.kernel)
        command = self._plumed.cmd
        command("setMDEngine", "mlmd")
        command("setMDEnergyUnits", 1.0 / units.EV_PER_KJMOL)
        command("setMDLengthUnits", 0.1)
        command("setMDTimeUnits", 1e-3)
        command("setTimestep", float(timestep))
        if temperature is not None:
            command("setKbT", units.KB * temperature)
        command("setNatoms", len(self.masses))
        if log is not None:
            log.unlink(missing_ok=True)  # else PLUMED keeps a hundred backups of it and then refuses to start
        self._log = log
        command("setLogFile", os.devnull if log is None else str(log))
        command("setRestart", int(restart))
        command("init")
        self._works = {work: (np.zeros(1), np.zeros(1), np.zeros(1)) for work in script.works}
        """Work before this start, a force on it that there is none of, and work since."""
        constants = {before(work.restraint) for work in self._works}
        self._stop = np.zeros(1, dtype=np.intc)
        command("setStopFlag", self._stop)
        for statement in script.statements:
            if statement.label in constants:
                # what is remembered is PUT where the file has a constant, so that it also runs by itself
                self._read(replace(statement, text=f"{statement.label}: PUT UNIT=number SHAPE=0 PERIODIC=NO MUTABLE"))
                continue
            if is_walker(statement):
                make_ready(statement)
                self._read(statement, "" if statement.values("RESTART") else " RESTART=YES")
                continue
            begins = restart and _without_history(script.history_of(statement))
            self._read(statement, " RESTART=NO" * begins)
        gets = {**(gets or {}), **{work.since_start: since for work, (_, _, since) in self._works.items()}}
        puts = {**(puts or {}), **{before(work.restraint): (a, f) for work, (a, f, _) in self._works.items()}}
        for label, array in gets.items():
            command(f"getDataRank {label}", np.zeros(1, dtype=np.int_))  # makes what carries the value
            command(f"setMemoryForData {label}", array)
        self._puts = [
            (f"setValue {label}", value, f"setValueForces {label}", force) for label, (value, force) in puts.items()
        ]
        if script.shared:  # other walkers read the hills at once, through folders that machines share maybe
            self._read(Statement(script.path, 0, "FLUSH STRIDE=1"))

    def _read(self, statement: Statement, more: str = "") -> None:
        try:
            self._plumed.cmd("readInputLine", statement.text + more)
        except Exception as error:
            why = _explain(error) + _hint(statement, error)
            raise InputError(f"{statement.place}: {why} It reads: {statement.text[:200]}") from None

    def compute(
        self,
        step: int,
        positions: np.ndarray,
        cell: np.ndarray,
        energy: float,
        forces: np.ndarray,
        virial: np.ndarray,
    ) -> float:
        """As `Bias.compute`; the energy is used by scripts that bias the energy itself.

        Raises:
            StorageError: when PLUMED cannot read or write its files.
            BiasFailure: when the script fails for another reason, or needs an energy that is not known.
        """
        command = self._plumed.cmd
        self._step[0] = step
        command("setStepLongLong", self._step)
        command("setBox", cell)
        command("setMasses", self.masses)  # kernels before 2.10 forget them, and take them only after the step
        command("setCharges", self.charges)
        command("setPositions", positions)
        command("setForces", forces)
        for set_value, value, set_force, force in self._puts:
            force[:] = 0.0
            command(set_value, value)
            command(set_force, force)
        # PLUMED's virial is -Σ r ⊗ f = Σ r ⊗ dE/dr, ours
        command("setVirial", virial)
        try:
            command("prepareCalc")
            if self.independent and math.isnan(energy):
                command("isEnergyNeeded", self._needed)
            command("setEnergy", energy)
            if not self._needed[0]:
                command("performCalcNoUpdate")
        except Exception as error:
            raise _failure(self.script, error) from None
        if self._needed[0]:
            raise BiasFailure(
                f"{self.name}: PLUMED needs the energy of the potential, which its words do not tell: write the action "
                "as ENERGY."
            )
        command("getBias", self._energy)
        self.pending = True
        return float(self._energy[0])

    def energy_at(self, step: int, positions: np.ndarray, cell: np.ndarray, energy: float) -> float:
        """The bias energy (eV) of a configuration that is not that of the run; nothing is deposited or printed for it.

        The step of the run has ended before (`update`), which would else deposit for this configuration. Arguments and
        errors are those of `compute`.
        """
        assert not self.pending
        bias = self.compute(step, positions, cell, energy, np.zeros_like(positions), np.zeros((3, 3)))
        self.pending = False
        return bias

    def update(self) -> None:
        """Deposit and print for the configuration computed last: once per step."""
        if not self.pending:
            return
        self.pending = False
        try:
            self._plumed.cmd("update")
        except Exception as error:
            raise _failure(self.script, error) from None

    def begins(self) -> str:
        """Which PLUMED it is; its log names the version after the first update."""
        return f"bias of {self.name} by PLUMED {said_in(self._log).version}, kernel {self.kernel}"

    def loses(self, *, resumed: bool) -> Iterator[str]:
        """Memories that PLUMED keeps in no file, and hills that are not this run's alone."""
        for action in self.script.forgetful:
            yield (
                f"{self.name}: PLUMED does not keep the memory of {action}, which starts anew here: "
                "the run continues statistically, without what it had accumulated or adapted"
            )
        if resumed and self.script.shared:
            yield (
                f"the hills that walkers share in {', '.join(self.script.shared)} are not cut back to the checkpoint, "
                "as others may have read them: the run continues statistically"
            )

    def ends(self, step: int) -> str | None:
        """The work that moving restraints have done, where it is known from the beginning and in kJ/mol."""
        if not self._works or any(statement.action == "UNITS" for statement in self.script.statements):
            return None
        return "; ".join(
            f"{work.restraint} has done {(done[0] + since[0]) * units.EV_PER_KJMOL:.6g} eV of work on {work.variable}"
            for work, (done, _, since) in self._works.items()
        )

    def state(self) -> dict[str, np.ndarray]:
        """The work that moving restraints have done, which PLUMED forgets."""
        return {f"work of {work.restraint}": done + since for work, (done, _, since) in self._works.items()}

    def restore(self, state: Mapping[str, np.ndarray], *, same_stage: bool) -> None:
        """Continue from a `state`."""
        for work, (done, _, _) in self._works.items():
            done[:] = state.get(f"work of {work.restraint}", 0.0)

    def open(self, folder: Path, step: int, multiples: Callable[[int, int, int], int] = every_multiple) -> None:
        """Look from here on at what is written; PLUMED itself has opened its files at the start.

        `multiples` as those of `Written`.
        """
        self._written = Written(self.script, folder, step, multiples)

    def finish(self, step: int) -> None:
        """See that PLUMED has written what it should have.

        Raises:
            StorageError: when something is missing.
        """
        if self._written is not None:
            self._written.check(step)

    @property
    def stopped(self) -> bool:
        """Whether an action (COMMITTOR) has asked to end here."""
        return bool(self._stop[0])

    def close(self) -> None:
        """Close PLUMED's files."""
        self._plumed.finalize()


@dataclass(frozen=True)
class Said:
    """What PLUMED says in its log."""

    version: str
    citations: tuple[str, ...]
    """Papers that it asks to cite, for itself and for each action."""
    warnings: tuple[str, ...]


def said_in(log: Path | None) -> Said:
    """What stands in a log of PLUMED, which is complete when PLUMED was closed."""
    text = "" if log is None or not log.exists() else log.read_text(errors="replace")
    version = re.search(r"^PLUMED: Version: (\S+)", text, re.M)
    citations = re.findall(r"^PLUMED:\s+\[\d+\] (.+?)\s*$", text, re.M)
    warnings = re.findall(r"^PLUMED:\s+\+\+\+ WARNING \+\+\+ (.+?)\s*$", text, re.M)
    return Said(
        version[1] if version else "of unknown version", *(tuple(dict.fromkeys(one)) for one in (citations, warnings))
    )


def _without_history(names: tuple[str, ...]) -> bool:
    """Whether an action has nothing to go on from: OPES refuses an empty file, every action a missing one."""
    paths = [Path(name) for name in names]
    if not paths or any(path.exists() and path.stat().st_size for path in paths):
        return False
    for path in paths:
        path.unlink(missing_ok=True)  # else PLUMED keeps it as a backup
    return True


def _failure(script: Script, error: Exception) -> BiasFailure | StorageError:
    """An error of a running script; PLUMED's errors name the source file, and files are read and written by three.

    Where PLUMED names the action that failed its line is told, and what went wrong inside it.
    """
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__) is not None:
        chain.append(inner)
    found = re.search(r"An error happened while (?:calculating|updating|preparing) (\S+)", str(error))
    place = _place_of(script, found[1]) if found else None
    where = f" ({place})" if place else ""
    message = f"PLUMED stopped while running {script.path.name}{where}: {' '.join(map(_explain, chain))}"
    if any("outside the grid" in str(one) for one in chain):
        message += " Give the grid a wider range, or keep the variable in it with walls."
    storage = any(
        isinstance(one, OSError) or re.search(r"\((?:\S*/)?(?:OFile|IFile|FileBase)\.\w+:", str(one)) for one in chain
    )
    return StorageError(message) if storage else BiasFailure(message)


def _place_of(script: Script, label: str) -> str | None:
    """Where the action with a label stands."""
    label = label.rstrip(".,")
    for statement in script.statements:
        if statement.text.startswith(f"{label}:") or label in statement.values("LABEL"):
            return statement.place
    return None


def _hint(statement: Statement, error: Exception) -> str:
    if "is not known" not in str(error):
        return ""
    close = get_close_matches(statement.action, COMMON, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _explain(error: BaseException) -> str:
    """PLUMED's own words without the frames and source lines around them."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(("+++", "(", "############"))]
    text = " ".join(kept) or type(error).__name__
    return text if text.endswith((".", "!")) else text + "."


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make a folder the current one for a while: PLUMED opens its files there and has no other way to be told."""
    before = Path.cwd()
    token = _started_in.set(_started_in.get() or before)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        _started_in.reset(token)


def copy_inputs(script: Script, folder: Path) -> None:
    """Copy the files that the script reads into the folder where it runs, keeping those already there; write others."""
    for name in script.reads:
        target = folder / name
        if name not in script.made and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(script.source_of(name), target)
    for name, text in script.made.items():
        (folder / name).write_text(text)


def check(
    path: Path,
    *,
    masses: np.ndarray,
    charges: np.ndarray | None = None,
    timestep: float = 1.0,
    temperature: float | None = 300.0,
    allow_unsafe: bool = False,
    kernel: Path | None = None,
) -> Script:
    """Read a script and let PLUMED parse it in a folder of its own, so that nothing is left behind.

    The arguments are those of `PlumedBias`: what a run would be refused for is refused here.

    Raises:
        InputError: for anything wrong in it, with the line.
    """
    script = read_script(path, allow_unsafe=allow_unsafe)
    check_script(script, masses=masses, charges=charges, timestep=timestep, temperature=temperature, kernel=kernel)
    return script


def check_script(
    script: Script,
    *,
    masses: np.ndarray,
    charges: np.ndarray | None,
    timestep: float,
    temperature: float | None,
    kernel: Path | None,
) -> Said:
    """Let PLUMED parse a script in a folder of its own; the arguments are those of `PlumedBias`.

    Returns:
        What PLUMED says about it.

    Raises:
        InputError: for anything wrong in it, with the line.
    """
    with tempfile.TemporaryDirectory() as name:
        copy_inputs(script, Path(name))
        statements = (elsewhere(one, Path(name)) if is_walker(one) else one for one in script.statements)
        script = replace(script, statements=tuple(statements))
        with working_in(Path(name)):
            log = Path(name) / "plumed.log"
            PlumedBias(
                script,
                masses=masses,
                charges=charges,
                timestep=timestep,
                temperature=temperature,
                kernel=kernel,
                log=log,
            ).close()
            return said_in(log)
