"""What can go wrong, in the words of the person at the terminal.

Every error says what was got, what was needed, where it stands and what to try. The command line turns each
class into its exit code and prints the message alone; a traceback is shown for bugs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class MlmdError(Exception):
    """Base of all errors that mlmd raises on purpose."""

    exit_code = 70


class InputError(MlmdError):
    """The input file, the structure or an argument is wrong."""

    exit_code = 2


class SimulationError(MlmdError):
    """The physics failed: non-finite forces, an explosion, a barostat that cannot move."""

    exit_code = 3


class StorageError(MlmdError):
    """A file or folder cannot be read, written or trusted: permissions, disk full, damaged checkpoint."""

    exit_code = 4


class InUseError(MlmdError):
    """The run folder belongs to a process that is still running."""

    exit_code = 5


class ModelError(MlmdError):
    """A model file was refused: damaged, of an unknown format or version, or able to execute code."""

    exit_code = 6


class Stopped(MlmdError):
    """The run was stopped on request after a checkpoint; the same command continues it."""

    exit_code = 75


class DeviceError(MlmdError):
    """A graphics card failed or has too little memory; the last checkpoint is good, and a new process can continue."""

    exit_code = 75


OTHER_NAMES = {
    "float32": {"single", "fp32", "f32", "32", "32bit", "32-bit"},
    "float64": {"double", "fp64", "f64", "64", "64bit", "64-bit"},
    "show": {"info", "inspect"},
    "acsf": {"behler-parrinello", "bp", "symmetry-functions", "bpnn"},
    "snap": {"bispectrum"},
    "mtp": {"moment-tensor", "moment-tensors", "moments"},
    "deeppot-se": {"deepmd", "deeppot", "dp", "se_e2_a"},
    "coulomb": {"cm", "coulomb-matrix"},
    "lennard-jones": {"lj"},
    "linear": {"ridge", "least-squares", "lstsq", "ols", "linear-regression"},
    "network": {"nn", "ann", "mlp", "hdnnp", "neural-network"},
    "kernel": {"gp", "gpr", "gaussian-process"},
    "kernel-ridge": {"krr"},
    "random-features": {"rff", "random-fourier-features"},
}
"""What else people call what is known by one name."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, in whatever case, or lists what is known when nothing is close."""
    options = sorted(known)
    meant = [name for name in options if word.lower() in (name.lower(), *OTHER_NAMES.get(name, ()))]
    close = meant or get_close_matches(word, options, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Known: " + ", ".join(options) + "." if options else "Nothing is known here."


def some_of(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(n: int, noun: str) -> str:
    """So many of them: ``1 structure``, ``2,000 structures``."""
    return f"{n:,} {noun}{'s' * (n != 1)}"
