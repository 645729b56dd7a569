"""Files of other frameworks, told by what is in them. Nothing is executed to see it, whatever they hold.

Most are archives of PyTorch: the names of an archive's parts tell whose TorchScript it is, and the words of a pickle
whose network. A pickle is read as a text here, by `pickletools`, which calls nothing. What was recognised is not
trusted for that: who loads it asks for the digest of every file that can execute code (`mlmd.potentials.trust`).
"""

from __future__ import annotations

import json
import pickletools
import zipfile
import zlib
from itertools import islice
from pathlib import Path, PurePosixPath

from mlmd.config.files import CLASSES

EXECUTED = {
    "mace": "a Python pickle, which executes code when it is opened",
    "sevennet": "a Python pickle, which executes code when it is opened",
    "chgnet": "a Python pickle, which executes code when it is opened",
    "nequip": "compiled code or Python, which is executed when it is opened",
    "deepmd": "a program (TorchScript), which runs when the model is asked",
    "metatomic": "a program (TorchScript), which runs when the model is asked",
}
"""Kinds that are recognised and whose files execute code, and how. Those of the others are numbers."""
_OF_SCRIPTS = ("metatomic", "deepmd", "nequip")
"""Packages whose TorchScript is a model of the kind of this name; the first that is there counts, since a model of
metatomic holds the network of any."""
_OF_NETWORKS = {
    "chgnet": {"composition_model.fc.weight"},
    "sevennet": {"model_state_dict", "onehot_to_feature_x.linear.weight"},
    "mattersim": {"model_name", "model_args", "m3gnet"},
}
"""Words that the checkpoints of a kind have."""
_ARCHIVES = {"mace", "sevennet", "chgnet", "mattersim", "nequip", "metatomic"}
"""Kinds whose files are archives or pickles of PyTorch."""
_PICKLED = b"\x80"
"""How pickles begin."""
RECOGNISED = frozenset({*EXECUTED, *_OF_NETWORKS, "matgl", "nequix", "ani"})
"""Kinds that `framework_of` can tell."""
_HEAD = 4096
_LINE = 1 << 20
"""Bytes within which a first line ends."""
_PICKLE = 1 << 22
"""Bytes of a pickle that are looked at: names of classes come before, and beside, those of parameters."""
_OPERATIONS = 100_000
_IN_PARTS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How parts of an archive may be packed; PyTorch stores them as they are."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


def framework_of(path: Path) -> str | None:
    """The kind of potential that a file or folder of another framework is; None for what is not recognised.

    TorchScript of nobody in particular is not recognised: its file does not say whether it is for OpenMM-Torch.
    """
    if path.is_dir():
        file = path / CLASSES
        return "matgl" if file.is_file() and b'"@module": "matgl.' in _beginning(file) else None
    start = _beginning(path)
    if start[:2] == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                return _of_archive(archive)
        except _DAMAGED:
            return None
    if start[:1] == b"{":
        return "nequix" if _is_nequix(path) else None
    return "ani" if _is_ani(start) else None


def unlike_weights(kind: str, path: Path) -> str | None:
    """Why a file cannot hold weights of a kind, whatever trusts it; None where it may.

    PyTorch writes archives and pickles: what is neither, or has lost its end, need not be trusted to be refused.
    """
    if kind not in _ARCHIVES or not path.is_file() or path.stat().st_size == 0:
        return None
    start = _beginning(path)
    if start[:2] == b"PK":
        if zipfile.is_zipfile(path):
            return None
        return "the archive has no end. Was a download or a copy cut off? Get it again."
    if start[:1] == _PICKLED:
        return None
    shown = start[:20].decode("ascii", errors="replace")
    return f"no archive of PyTorch and no pickle, as weights are: it begins with {shown!r}. Is it the right file?"


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _of_archive(archive: zipfile.ZipFile) -> str | None:
    """By its parts: code of TorchScript, a package of NequIP, or one pickle."""
    names = [PurePosixPath(name).parts[1:] for name in archive.namelist()]  # below the folder that the archive is
    scripts = {parts[2].removesuffix(".py") for parts in names if parts[:2] == ("code", "__torch__") and parts[2:]}
    if scripts or any(parts[:1] == ("code",) for parts in names):
        return next((kind for kind in _OF_SCRIPTS if kind in scripts), None)
    if ("model", "package_metadata.txt") in names:
        return "nequip" if any(parts[:1] == ("nequip",) for parts in names) else None
    pickled = [part for part in archive.infolist() if PurePosixPath(part.filename).parts[1:] == ("data.pkl",)]
    # bytes of bzip2 and LZMA cannot be had some at a time here: a few hundred of them may fill the memory
    if len(pickled) != 1 or pickled[0].compress_type not in _IN_PARTS:
        return None
    with archive.open(pickled[0]) as file:
        modules, words = _words(file.read(_PICKLE))
    if "mace" in modules:
        return "mace"
    return next((kind for kind, needed in _OF_NETWORKS.items() if needed <= words), None)


def _words(pickled: bytes) -> tuple[set[str], set[str]]:
    """The packages that a pickle would import, and its texts; of as much of it as is there."""
    modules: set[str] = set()
    words: set[str] = set()
    try:
        for operation, argument, _ in islice(pickletools.genops(pickled), _OPERATIONS):
            if operation.name == "GLOBAL":
                modules.add(str(argument).partition(" ")[0].partition(".")[0])
            elif isinstance(argument, str):
                words.add(argument)
    except ValueError:  # its end was not read, or it is none
        pass
    return modules, words


def _is_nequix(path: Path) -> bool:
    """Whether a file is a line of JSON with elements and a cutoff, and arrays of NumPy after it."""
    with path.open("rb") as file:
        line = file.readline(_LINE)
        if file.read(6) != b"\x93NUMPY":
            return False
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and {"atomic_numbers", "cutoff"} <= told.keys()


def _is_ani(start: bytes) -> bool:
    """Whether a file names the parameters, the energies of atoms and the networks of NeuroChem, and how many."""
    lines = [line.strip() for line in start.split(b"\n")]
    return len(lines) >= 4 and lines[0].endswith(b".params") and lines[1].endswith(b".dat") and lines[3].isdigit()
