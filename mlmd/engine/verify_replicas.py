"""Is a folder of replicas what its lists say, and every replica what its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlmd.engine.exchange_log import EXCHANGES
from mlmd.engine.outputs import last_step
from mlmd.engine.status import REPLICAS, names_in, read_list
from mlmd.engine.together import COMMITS, obstacle, read_commits
from mlmd.engine.verify import Verdict, verify
from mlmd.errors import StorageError
from mlmd.rundir import CHECKPOINTS, LOG, MANIFEST, is_running


@dataclass(frozen=True)
class Verdicts:
    """What was found in a folder of replicas."""

    replicas: Mapping[str, Verdict]
    """By name, of those that have begun."""
    waiting: tuple[str, ...]
    """Those that have not."""
    problems: tuple[str, ...]
    """Of what they have in common, and of replicas that cannot be looked at."""
    checked: tuple[str, ...]
    """What they have in common, and is right."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return not self.problems and not any(one.problems for one in self.replicas.values())


def has_replicas(folder: Path) -> bool:
    """Whether a folder is one of replicas and no run itself."""
    return (folder / REPLICAS).exists()


def verify_replicas(folder: Path) -> Verdicts:
    """Look at every replica of a folder, and at what says which of their checkpoints hold together.

    Raises:
        StorageError: when the list of replicas is damaged.
    """
    names = names_in(folder)
    begun = [name for name in names if (folder / name / MANIFEST).exists()]
    verdicts, problems = {}, []
    for name in begun:
        try:
            verdicts[name] = verify(folder / name)
        except StorageError as error:
            problems.append(str(error))
    checked: tuple[str, ...] = ()
    if "exchange" in read_list(folder) and begun:
        wrong, checked = _exchanges(folder, verdicts)
        problems += wrong
    lost = [name for name in names if name not in begun and _has_content(folder / name)]
    problems += [f"{folder / name} has files of a run, and no {MANIFEST}: restore it from a backup" for name in lost]
    waiting = tuple(name for name in names if name not in begun and name not in lost)
    return Verdicts(verdicts, waiting, tuple(problems), checked)


def _has_content(folder: Path) -> bool:
    """Whether a run has written something there."""
    return (folder / LOG).exists() or any((folder / CHECKPOINTS).glob("*.ckpt"))


def _exchanges(folder: Path, verdicts: Mapping[str, Verdict]) -> tuple[list[str], tuple[str, ...]]:
    """What is wrong with the moments that replicas can go back to together, and what is right."""
    if any(is_running(one.run) for one in verdicts.values()):  # what they have written changes while it is read
        return [], (f"{COMMITS} and {EXCHANGES} were not looked at, as the replicas run",)
    try:
        commits = read_commits(folder)
    except StorageError as error:
        return [str(error)], ()
    if not commits:
        went_on = [name for name, one in verdicts.items() if one.step is not None and last_step(one.run.path / LOG)]
        lost = f"{COMMITS} is not there, and {', '.join(went_on)} went on before: they cannot continue together"
        return [lost] if went_on else [], ()
    newest = obstacle(folder, commits[-1])
    if newest is None:
        done = f"{EXCHANGES} and {COMMITS}, {commits[-1].n_done:,} exchanges that all replicas can go back to"
        return [], (done,)
    older = any(obstacle(folder, one) is None for one in commits[:-1])
    way = "an older moment is whole, and the continued runs go back to it" if older else "no older moment is whole"
    return [f"{newest} The replicas cannot go back together to exchange {commits[-1].n_done:,}: {way}"], ()
