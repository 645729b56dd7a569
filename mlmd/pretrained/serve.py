"""ASE calculators: found by name, built, and asked about structures, in this process or as a process of its own.

As a program it runs under the Python of another environment, whose packages need not fit those of mlmd. It is all of
mlmd that is needed there, besides a file of this folder where a framework is asked for by its name: Python 3.10 or
later, NumPy and ASE. It answers its parent over two pipes, in lines of JSON; an empty line is a question or an answer
about the numbers in memory that both share (`Layout`).
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are called like the packages they need

import hashlib
import importlib
import importlib.util
import inspect
import json
import mmap
import os
import re
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import voigt_6_to_full_3x3_stress

MOVED = ("positions", "cell")
"""What changes from step to step, in ASE's words."""
SWITCHES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD")
"""Variables that decide whether torch executes what stands in a file; some frameworks set them when imported."""
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "PJRT_NPROC",
)  # fmt: skip
"""Variables that say with how many threads libraries compute: OpenMP, BLAS, TensorFlow, DeePMD-kit, JAX."""
CHOICES = ("head", "modal", "variant")
"""Arguments of calculators by which an input chooses a part of a model."""
FOLDER = "mlmd-model-"
"""Beginning of the name of the folder in which such a process works."""
_LONGEST = 500
"""Characters of an error that are told."""


class Unusable(Exception):
    """A calculator that cannot be found or built, in words for a person."""

    def __init__(self, words: str, *, file: bool = False) -> None:
        """Take the words, and whether it may be the file of weights that is wrong, where there is one."""
        super().__init__(words)
        self.file = file


class Layout:
    """Numbers of one system in memory that two processes share: all of them float64.

    `cell` (3, 3) Å, `pbc` (3,), `energy` (1,) eV, `known` (1,) whether there is a stress, `stress` (3, 3) eV/Å³,
    `numbers` (n_atoms,), `positions` (n_atoms, 3) Å, `forces` (n_atoms, 3) eV/Å.
    """

    def __init__(self, buffer: Any, n_atoms: int) -> None:
        """Lay the arrays over a buffer of `size` bytes."""
        every = np.frombuffer(buffer, dtype=np.float64, count=self.size(n_atoms) // 8)
        shapes = {
            "cell": (3, 3), "pbc": (3,), "energy": (1,), "known": (1,), "stress": (3, 3),
            "numbers": (n_atoms,), "positions": (n_atoms, 3), "forces": (n_atoms, 3),
        }  # fmt: skip
        begin, arrays = 0, {}
        for name, shape in shapes.items():
            length = int(np.prod(shape))
            arrays[name] = every[begin : begin + length].reshape(shape)
            begin += length
        self.cell, self.pbc, self.energy, self.known = (arrays[one] for one in ("cell", "pbc", "energy", "known"))
        self.stress, self.numbers = arrays["stress"], arrays["numbers"]
        self.positions, self.forces = arrays["positions"], arrays["forces"]

    @staticmethod
    def size(n_atoms: int) -> int:
        """Bytes."""
        return 8 * (9 + 3 + 1 + 1 + 9 + 7 * n_atoms)


def surroundings(n_threads: int) -> dict[str, str]:
    """The variables of this process for another one, whose libraries shall compute with so many threads."""
    return {**os.environ, **dict.fromkeys(THREADS, str(n_threads))}


def use_threads(n_threads: int) -> None:
    """Let torch compute with so many threads, where it is there. Others have read `THREADS` when they were loaded."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(n_threads)


@contextmanager
def safe_loading_kept() -> Iterator[None]:
    """Whatever is imported within: afterwards torch opens files as safely as before."""
    before = {name: os.environ.get(name) for name in SWITCHES}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find(target: str) -> Callable[..., Any]:
    """The class or function of a target ``module:name`` or ``/folder/file.py:name``.

    Raises:
        Unusable: when there is none, or it belongs to Python itself.
    """
    module, _, attribute = target.rpartition(":")
    if not module or not attribute:
        raise Unusable(f"{target!r} is not module:Class. Write for example ase.calculators.emt:EMT")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise Unusable(f"{module} is a module of Python itself, which has no calculators")
    try:
        imported = _module(module)
    except Unusable:
        raise
    except ModuleNotFoundError as error:
        raise Unusable(_absent(error)) from None
    except Exception as error:  # a module does what it likes when it is imported
        raise Unusable(f"{module} cannot be imported: {reason(error)}") from None
    found = getattr(imported, attribute, None)
    if found is None:
        raise Unusable(f"{module} has no {attribute!r}")
    if not callable(found):
        raise Unusable(f"{attribute} is a {type(found).__name__}, not a class or a function")
    made: Callable[..., Any] = found
    return made


def _absent(error: ModuleNotFoundError) -> str:
    """Which module there is not, and what may help."""
    hint = f"pip install what provides {error.name}, or look for a typing error"
    return f"there is no module {error.name!r} in {sys.prefix}: {hint}"


def _module(name: str) -> Any:
    """A module by its name, or by its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise Unusable(f"{name}: no such file")
    called = f"mlmd_{path.stem}_{hashlib.sha256(bytes(path.absolute()) + path.read_bytes()).hexdigest()[:16]}"
    if called in sys.modules:
        return sys.modules[called]
    spec = importlib.util.spec_from_file_location(called, name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[called]
        raise
    return module


def build(target: str, arguments: Mapping[str, Any]) -> Any:
    """A calculator. What it does to torch's safe loading is undone.

    Raises:
        Unusable: when it is not found, does not like its arguments, or is no ASE calculator.
    """
    with safe_loading_kept():
        return _build(target, arguments)


def _build(target: str, arguments: Mapping[str, Any]) -> Any:
    make = find(target)
    try:
        calculator = make(**arguments)
    except ModuleNotFoundError as error:
        raise Unusable(_absent(error)) from None
    except Exception as error:  # whatever a class does with arguments it does not like
        told = json.dumps(arguments, ensure_ascii=False, default=str)
        raise Unusable(f"with arguments {told}: {reason(error)}", file=_of_file(make, error)) from None
    if not callable(getattr(calculator, "calculate", None)):
        raise Unusable(f"this is a {type(calculator).__name__}, not an ASE calculator")
    return calculator


def _of_file(make: Callable[..., Any], error: Exception) -> bool:
    """Whether an error may come from the file of weights.

    It does not where something is not installed or the machine is too small, where a file of this folder raises a
    ValueError, which is about what an input says, and where a framework speaks of a choice that an input makes.
    """
    if isinstance(error, ImportError | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return False
    *_, last = traceback.extract_tb(error.__traceback__)
    if isinstance(error, ValueError) and Path(last.filename).parent == Path(__file__).parent:
        return False
    choices = [one for one in CHOICES if one in inspect.signature(make).parameters]
    named = re.search(rf"\b({'|'.join(choices)})s?\b", str(error), re.IGNORECASE) if choices else None
    return named is None or "state_dict" in str(error)  # in which layers may be called so


def facts(target: str, calculator: Any) -> dict[str, Any]:
    """What a calculator tells of itself (JSON-able): properties, versions, licences, and what its framework says.

    A framework's file may have a function ``facts(calculator)``, whose entries ``elements`` and ``cutoff`` are used,
    and ``weights``: paths of the files that a name stood for, which become their names and SHA-256.
    """
    module = target.rpartition(":")[0]
    told: dict[str, Any] = {
        "class": _name_of(type(calculator)),
        "properties": sorted({*map(str, getattr(calculator, "implemented_properties", ()))}),
        "python": sys.version.split()[0],
        "versions": _versions(calculator),
    }
    if Path(module).parent == Path(__file__).parent:  # a file of somebody else may have a function of this name too
        with safe_loading_kept():
            told |= _told(module, calculator)
        told["weights"] = {Path(one).name: _sha256(Path(one)) for one in told.get("weights", ())}
    told["licences"] = {name: _licence(name) for name in told["versions"]}
    return told


def _sha256(path: Path) -> str:
    """Of a file; Python 3.10 has no `hashlib.file_digest`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _name_of(kind: type) -> str:
    """Module and name of a class; of one in a file, the name that the file has."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    module = Path(str(file)).name if kind.__module__.startswith("mlmd_") and file else kind.__module__
    return f"{module}.{kind.__qualname__}"


def _versions(calculator: Any) -> dict[str, str]:
    """Of the package that holds the class, and of those that compute for it, as far as they are loaded."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    packages = [type(calculator).__module__.partition(".")[0]]
    packages += [one for one in ("torch", "jax", "tensorflow") if one in sys.modules]
    called = packages_distributions()
    found = {}
    for name in dict.fromkeys(name for one in packages for name in called.get(one, [one])):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _told(module: str, calculator: Any) -> dict[str, Any]:
    """What the file of its framework says of a calculator.

    Raises:
        Unusable: when it is none of this framework.
    """
    try:
        told: dict[str, Any] = _module(module).facts(calculator)
    except Exception as error:  # whatever is missing in what was opened
        raise Unusable(f"what was opened is no such model: {reason(error)}", file=True) from None
    return told


def _licence(package: str) -> str:
    """What an installed package says of its licence: an expression, the first line of a text, or its classifiers."""
    from importlib.metadata import metadata

    said = metadata(package)
    words = [*(said.get_all("License-Expression") or ()), *(said.get_all("License") or ())]
    lines = [one.strip().partition("\n")[0] for one in words]
    classes = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier") or () if one.startswith("License ::")]
    return next((one for one in (*lines, ", ".join(classes)) if one and one != "UNKNOWN"), "")


def ask(
    calculator: Any, atoms: Atoms, changes: Sequence[str] = tuple(all_changes)
) -> tuple[float, np.ndarray | None, np.ndarray | None]:
    """Energy (eV), forces (n_atoms, 3) eV/Å and stress (3, 3) eV/Å³ in one calculation; None for what it has not.

    What has changed since the last call is told in ASE's words, since some calculators keep the rest: all, unless said.

    The energy is the free energy where the calculator tells it: forces are its derivatives, not those of an energy
    extrapolated to zero electronic temperature. There is no stress without full periodicity.
    """
    known = getattr(calculator, "implemented_properties", ())
    wanted = [name for name in ("energy", "free_energy", "forces", "stress") if name in known]
    if not atoms.pbc.all() and "stress" in wanted:
        wanted.remove("stress")
    try:
        calculator.calculate(atoms, wanted, list(changes))
    except PropertyNotImplementedError:
        if "stress" not in wanted:
            raise
        wanted.remove("stress")  # implemented, but not with these options
        calculator.calculate(atoms, wanted, list(changes))
    results = calculator.results
    energy = float(results["free_energy"] if results.get("free_energy") is not None else results["energy"])
    forces, stress = results.get("forces"), results.get("stress") if "stress" in wanted else None
    if stress is not None and np.shape(stress) == (6,):
        stress = voigt_6_to_full_3x3_stress(stress)
    return (
        energy,
        None if forces is None else np.array(forces, dtype=float).reshape(len(atoms), 3),
        None if stress is None else np.array(stress, dtype=float).reshape(3, 3),
    )


def reason(error: Exception) -> str:
    """The first lines of an error, with its kind where that says more than the words."""
    text = " ".join(str(error).split())[:_LONGEST]
    if isinstance(error, Unusable):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Server:
    """Answers one parent."""

    def __init__(self, questions: Any, answers: Any) -> None:
        self._questions, self._answers = questions, answers
        self._calculator: Any = None
        self._atoms = Atoms()
        self._known = False
        self._keeps = False
        self._info: Mapping[str, Any] = {}
        self._shared: Layout | None = None

    def work(self) -> None:
        """Until the parent closes its end, or is gone."""
        for line in self._questions:
            try:
                answer = json.dumps(self._compute() if line == b"\n" else self._do(json.loads(line)))
            except Exception as error:  # of any kind: it is told, and the process goes on
                self._known = False
                answer = json.dumps({"error": reason(error), "file": isinstance(error, Unusable) and error.file})
            self._answers.write((answer if answer != "{}" else "").encode() + b"\n")
            self._answers.flush()

    def _do(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if "open" in message:
            target, arguments, self._keeps, self._info, n_threads = message["open"]
            self._calculator = build(target, arguments)
            use_threads(n_threads)
            return {"facts": facts(target, self._calculator)}
        if "threads" in message:
            use_threads(message["threads"])
            return {}
        if "anew" in message:
            self._known = False
            return {}
        n_atoms, file = message["system"]
        with Path(file).open("r+b") as stream:
            self._shared = Layout(mmap.mmap(stream.fileno(), Layout.size(n_atoms)), n_atoms)
        numbers, pbc = self._shared.numbers.astype(int), self._shared.pbc.astype(bool)
        self._atoms = Atoms(numbers=numbers, pbc=pbc, info=dict(self._info))
        self._known = False
        return {}

    def _compute(self) -> dict[str, Any]:
        shared = self._shared
        assert shared is not None
        self._atoms.set_cell(shared.cell)
        self._atoms.set_positions(shared.positions)
        changes = MOVED if self._known and self._keeps else tuple(all_changes)
        energy, forces, stress = ask(self._calculator, self._atoms, changes)
        if forces is None:
            raise Unusable("the calculator gives no forces")
        self._known = True
        shared.energy[0], shared.forces[:], shared.known[0] = energy, forces, stress is not None
        if stress is not None:
            shared.stress[:] = stress
        return {}


def _follow(parent: int) -> None:
    """End with the parent, however that ends, and with everything that was begun here."""
    while os.getppid() == parent:
        time.sleep(1.0)
    _clear()
    os.killpg(0, signal.SIGKILL)


def _clear() -> None:
    """Remove the folder that was made for this process."""
    here = Path.cwd()
    if here.name.startswith(FOLDER):
        shutil.rmtree(here, ignore_errors=True)


def main() -> None:
    """Serve the parent, which leads the two pipes that the arguments name."""
    pipes = [int(one) for one in sys.argv[1:3]]
    for pipe in pipes:  # what a calculator starts is not to hold them open
        os.set_inheritable(pipe, False)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(pipes[0], "rb") as questions, os.fdopen(pipes[1], "wb") as answers:
        _Server(questions, answers).work()
    _clear()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
