"""A plumed.dat read before PLUMED sees it: its statements, and which files it reads, writes and goes on with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mlmd.bias.safety import refuse_unsafe
from mlmd.bias.statement import Statement, bare_path, split_statements
from mlmd.errors import InputError

HISTORIES = {
    "METAD": ("HILLS",),
    "PBMETAD": (),  # one file for each argument
    "OPES_METAD": ("KERNELS",),
    "OPES_METAD_EXPLORE": ("KERNELS",),
    "OPES_EXPANDED": ("DELTAFS",),
}
"""Actions with a memory in files, and the files that keep it where the script names none."""

FORGETFUL = {
    "ABMD",
    "ACCUMULATE",
    "ADAPTIVE_PATH",
    "AVERAGE",
    "CALIBER",
    "COLLECT",
    "COLLECT_FRAMES",
    "DRR",
    "EDS",
    "EFFECTIVE_ENERGY_DRIFT",
    "EXTENDED_LAGRANGIAN",
    "FISST",
    "HISTOGRAM",
    "LOGMFD",
    "MAXENT",
    "METAINFERENCE",
    "MOVINGRESTRAINT",
    "OPT_ADAM",
    "OPT_AVERAGED_SGD",
    "OPT_ROBBINS_MONRO_SGD",
    "RESCALE",
}
"""Actions with a memory that PLUMED does not keep in files that mlmd puts back: averages, work, learned couplings."""


def before(restraint: str) -> str:
    """The label of the work that a moving restraint has done before the last start."""
    return f"{restraint}_before"


@dataclass(frozen=True)
class Work:
    """The work that a moving restraint does on a variable."""

    restraint: str
    """Its label."""
    variable: str

    @property
    def since_start(self) -> str:
        """The label of the work since the last start, which PLUMED knows."""
        return f"{self.restraint}.{self.variable}_work"


@dataclass(frozen=True)
class Script:
    """The statements of a plumed.dat, INCLUDEd ones in their places, and the files it reads and writes."""

    path: Path
    statements: tuple[Statement, ...]
    folder: Path | None = None
    """Where the files that it names lie; beside it by default."""
    copies: Mapping[str, Path] = field(default_factory=dict)
    """Files that it names and that lie elsewhere."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Files that mlmd writes into the run folder, and their text."""
    tables: tuple[str, ...] = ()
    """Files that mlmd adds to while it runs."""
    sources: tuple[Path, ...] = ()
    """The file of a user that it was read from, and those that this one includes; none where mlmd has written it."""

    @cached_property
    def kept(self) -> dict[str, Path]:
        """Names under which the sources are kept beside each other -> the sources; none where one lies elsewhere."""
        root = self.sources[0].parent if self.sources else Path()
        if not all(
            source.is_relative_to(root) and ".." not in source.relative_to(root).parts for source in self.sources
        ):
            return {}
        return {source.relative_to(root).as_posix(): source for source in self.sources}

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Files beside the script that it names to read and that exist: they travel into the run folder.

        Outputs of an earlier run are among them when the script says RESTART.
        """
        goes_on = any(s.action == "RESTART" and "NO" not in map(str.upper, s.words[1:]) for s in self.statements)
        named = (part for s, key, part in self._paths() if goes_on or not (key == "FILE" and _writes(s)))
        return tuple(dict.fromkeys(part for part in named if part in self.made or self.source_of(part).is_file()))

    def source_of(self, name: str) -> Path:
        """Where a file that it reads lies before the run."""
        return self.copies.get(name) or (self.folder or self.path.parent) / name

    @cached_property
    def prints(self) -> tuple[str, ...]:
        """Files that PLUMED adds lines to and never reads again (COLVAR)."""
        named = [part for s, key, part in self._paths() if key == "FILE" and (_writes(s) or part not in self.reads)]
        return tuple(name for name in dict.fromkeys(named) if name not in self.histories)

    @cached_property
    def histories(self) -> tuple[str, ...]:
        """Files that PLUMED adds lines to and reads when a bias continues (HILLS, KERNELS)."""
        return tuple(dict.fromkeys(name for statement in self.statements for name in self.history_of(statement)))

    def history_of(self, statement: Statement) -> tuple[str, ...]:
        """Files in the run folder that keep the memory of one action: those it names, else the usual ones."""
        if statement.action not in HISTORIES or statement.values("WALKERS_DIR"):
            return ()  # what several walkers read is nobody's to cut
        named = tuple(part for key, part in statement.paths if key == "FILE")
        if statement.action == "PBMETAD":
            return named or tuple(f"HILLS.{argument}" for argument in statement.values("ARG"))
        return named or HISTORIES[statement.action]

    @cached_property
    def rewrites(self) -> tuple[str, ...]:
        """Files that PLUMED writes anew each time (states, grids); a restart puts back the checkpoint's copy."""
        return tuple(dict.fromkeys(part for _, key, part in self._paths() if key.endswith("WFILE")))

    @cached_property
    def touches(self) -> tuple[str, ...]:
        """Everything that could be the name of a file in the run folder, whatever its keyword."""
        named = (part for _, _, part in self._paths())
        return tuple(dict.fromkeys((*named, *self.histories)))

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Folders in which walkers of metadynamics leave their hills for each other."""
        return tuple(dict.fromkeys(name for s in self.statements for name in s.values("WALKERS_DIR")))

    @cached_property
    def forgetful(self) -> tuple[str, ...]:
        """Actions whose memory is lost when the bias continues: they start anew, and the run is the same
        statistically at best."""
        added_up = {work.restraint for work in self.works}
        found = [
            s.action for s in self.statements
            if s.action in FORGETFUL and not s.values("IN_RESTART") and not (s.label and s.label in added_up)
        ]  # fmt: skip
        found += [f"the adaptive SIGMA of {s.action}" for s in self.statements if _adapts(s)]
        return tuple(dict.fromkeys(found))

    @cached_property
    def uses_energy(self) -> bool:
        """Whether some action may use the energy of the potential, as far as words tell: it then changes its forces."""
        return any(
            statement.action == "LOAD" or re.search(r"energy|extracv", statement.text, re.IGNORECASE)
            for statement in self.statements
        )

    @cached_property
    def works(self) -> tuple[Work, ...]:
        """Moving restraints whose work is added up over all starts: those with a constant ``LABEL_before`` for it."""
        constants = {s.label for s in self.statements if s.action == "CONSTANT"}
        return tuple(
            Work(s.label, s.values("ARG")[0]) for s in self.statements
            if s.action == "MOVINGRESTRAINT" and len(s.values("ARG")) == 1 and before(s.label) in constants
        )  # fmt: skip

    def _paths(self) -> Iterator[tuple[Statement, str, str]]:
        return ((statement, key, part) for statement in self.statements for key, part in statement.paths)


def _adapts(statement: Statement) -> bool:
    """Whether it measures the widths of its kernels as it goes, which only a STATE that it reads brings back."""
    widths = statement.values("SIGMA")
    kernels = statement.action in ("OPES_METAD", "OPES_METAD_EXPLORE") and not statement.values("STATE_RFILE")
    return kernels and (not widths or any(width.upper() == "ADAPTIVE" for width in widths))


def _writes(statement: Statement) -> bool:
    """Whether its ``FILE`` is written, so that a file of this name that exists already is somebody else's."""
    return statement.action in HISTORIES or statement.action == "PRINT" or statement.action.startswith("DUMP")


def read_script(path: Path, *, allow_unsafe: bool = False) -> Script:
    """Read a plumed.dat with the statements of its INCLUDEd files in their places.

    An INCLUDEd file is looked for beside the file that includes it.

    Raises:
        InputError: when a file cannot be read or includes itself, when a multi-line statement does not end, when
            the files of a bias cannot be told or files that grow are compressed, for walkers without a common
            folder, and, unless `allow_unsafe`, for actions that execute code and paths outside the run folder.
    """
    sources: list[Path] = []
    statements = tuple(_statements(path, (), sources, allow_unsafe=allow_unsafe))
    if not statements:
        raise InputError(f"PLUMED file {path} has no actions. Give at least one, or leave `plumed` out.")
    for statement in statements:
        _refuse_unnamed_history(statement)
        _refuse_compressed(statement)
        _refuse_lonely_walker(statement)
    return Script(path, statements, sources=tuple(dict.fromkeys(sources)))


def _statements(path: Path, above: tuple[Path, ...], sources: list[Path], *, allow_unsafe: bool) -> Iterator[Statement]:
    """The statements of a file, those of INCLUDEd files in their places.

    Args:
        path: of the file.
        above: the files that include it.
        sources: gets every file that is read.
        allow_unsafe: see `read_script`.
    """
    sources.append(path)
    for statement in split_statements(path, _text(path, above)):
        if not allow_unsafe:
            refuse_unsafe([statement])
        if statement.action != "INCLUDE":
            yield statement
            continue
        names = [bare_path(name) for name in statement.values("FILE")]
        if len(names) != 1 or not names[0]:
            raise InputError(f"{statement.place}: INCLUDE needs one FILE=. It reads: {statement.text[:200]}")
        inner, chain = path.parent / names[0], (*above, path)
        if inner.resolve() in [outer.resolve() for outer in chain]:
            loop = " includes ".join(file.name for file in (*chain, inner))
            raise InputError(f"{statement.place}: the file includes itself: {loop}. Remove one INCLUDE.")
        yield from _statements(inner, chain, sources, allow_unsafe=allow_unsafe)


def _text(path: Path, above: tuple[Path, ...]) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        by = f", which {above[-1]} includes," if above else ""
        raise InputError(f"PLUMED file {path}{by} cannot be read: {reason}.") from None


def _refuse_unnamed_history(statement: Statement) -> None:
    """PBMETAD without FILE names its files by its arguments, which a pattern does not tell."""
    unnamed = statement.action == "PBMETAD" and not statement.values("FILE")
    if unnamed and any(set(argument) & set("*(") for argument in statement.values("ARG")):
        raise InputError(f"{statement.place}: PBMETAD with a pattern in ARG needs FILE=, one name for each argument.")


def _refuse_compressed(statement: Statement) -> None:
    """What grows is cut back to a checkpoint and looked at for torn lines, which no compressed file can be."""
    if not _writes(statement) or statement.values("WALKERS_DIR"):
        return
    for name in (part for key, part in statement.paths if key == "FILE" and part.endswith(".gz")):
        raise InputError(
            f"{statement.place}: FILE={name}: mlmd cannot cut a compressed file back to a checkpoint. Write "
            f"{name.removesuffix('.gz')}, and compress it when the run has ended."
        )


def _refuse_lonely_walker(statement: Statement) -> None:
    """Without a common folder PLUMED writes FILE.0 into that of the run, where nobody reads it, nor a continued run."""
    if set(statement.values("WALKERS_N")) - {"1"} and not statement.values("WALKERS_DIR"):
        raise InputError(
            f"{statement.place}: WALKERS_N needs WALKERS_DIR, a folder that all walkers share: each runs in a folder "
            "of its own. Or leave WALKERS_N out."
        )
