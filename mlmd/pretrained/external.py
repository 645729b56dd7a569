"""A calculator of somebody else behind the protocol of a potential."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.geometry import complete_cell
from torch import Tensor

from mlmd.config.files import files_in
from mlmd.errors import InputError, ModelError
from mlmd.graph import Graph
from mlmd.neighbors import geometry
from mlmd.potentials import Evaluation, Prediction
from mlmd.potentials.device import choose_device
from mlmd.potentials.trust import Digest, check, digest_of
from mlmd.pretrained.licence import licence
from mlmd.pretrained.recipe import Recipe, failed, interpreter
from mlmd.pretrained.window import Beginning, reach_of
from mlmd.pretrained.workers import Worker, worker

if TYPE_CHECKING:
    from ase import Atoms

    from mlmd.pretrained.memory import Memory


_ROUNDING = ("torch", "jax", "tensorflow", "tensorflow-cpu")


@dataclass
class _Last:
    """The window of the last answer; None where it had none, or there was a failure."""

    window: Beginning | None = None


class External(torch.nn.Module):
    """Energy, forces and stress by an ASE calculator, in this process or one of another Python.

    It has no parameters for torch: its module is there to be moved and stored like others. What is stored is how the
    calculator is made, with the digests of the files that it needs, never their content. Whenever it is made, also
    again later, the files have to be those that were read for the digests.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        elements: Sequence[str] | None = None,
        files: Sequence[Digest] = (),
        device: str = "auto",
    ) -> None:
        """Make the calculator.

        Args:
            recipe: how it is made.
            elements: that it may be asked about; those that the calculator names are taken otherwise, or any.
            files: that it needs, as they were read for their digests.
            device: where it computes until it is asked to compute elsewhere; "auto" is the first GPU, else the CPU.

        Raises:
            InputError: when it cannot be made, or does not know elements that are given.
            ModelError: when a file has changed since it was read.
        """
        super().__init__()
        self.recipe, self._files, self._given = recipe, tuple(files), elements
        self._device = _full(choose_device(device))
        # moves with `to`, and tells whoever looks where it computes
        self.register_buffer("_where", torch.zeros(0, device=self._device), persistent=False)
        self._workers: dict[str, Worker] = {self._device: worker(recipe, self._device, self._files)}
        facts = self._workers[self._device].facts
        own = tuple(facts.get("elements") or ())
        if unknown := [symbol for symbol in elements or () if own and symbol not in own]:
            raise InputError(f"elements: the model does not know {', '.join(unknown)}. It knows {', '.join(own)}.")
        self.elements = tuple(elements) if elements else own
        self.cutoff = float(facts.get("cutoff") or 0.0)
        """Å as the framework tells; 0 where it does not. No pairs are searched for it."""
        self.has_stress = "stress" in facts["properties"]
        self._turn = Lock()
        self._last = _Last()
        self.reach: float | None = None if recipe.keeps == "lists" else 0.0
        """Å, of windows in which it keeps lists, 0 where there are none; None until that is tried (`reaches_in`)."""
        self.memory: Memory | None = None
        """What keeps answers, where structures are asked about again and again."""

    @property
    def device(self) -> str:
        """Where it computed last."""
        return self._device

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Of the files that it needs, as they were read."""
        return self._files

    @property
    def files(self) -> dict[str, str]:
        """Paths of the files that it needs, with their SHA-256."""
        return {str(one.path): one.sha256 for one in self._files}

    @property
    def weights(self) -> dict[str, str]:
        """Names of files that the framework has for what was asked for by name, with their SHA-256.

        Where they lie is the framework's matter. MACE, SevenNet, CHGNet, MatGL, MatterSim, Nequix and TorchANI tell;
        of other frameworks, nothing is known of what they download.
        """
        return dict(self.facts.get("weights", {}))

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that compute, without those of which another version changes no more than rounding."""
        return {name: one for name, one in self.facts["versions"].items() if name not in _ROUNDING}

    @property
    def calculator(self) -> Any:
        """The calculator, where it is of this process; None where it is of another."""
        return getattr(self._workers[self._device], "calculator", None)

    def calculator_on(self, device: torch.device | str) -> Any:
        """The calculator, made again where it has been on another device; None where it is of another process."""
        return getattr(self._on(device), "calculator", None)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the calculator tells of itself: class, properties, versions, and more where the framework is known."""
        return self._workers[self._device].facts

    def described(self) -> dict[str, Any]:
        """What a person wants to know of the model (JSON-able): who computes, where, by what versions and files."""
        facts, recipe = self.facts, self.recipe
        told = {key: facts[key] for key in ("precision", "parameters") if key in facts}
        told["licence"] = licence(recipe, facts, self.versions)
        known = ", ".join(name for name in ("energy", "forces", "stress") if name in facts["properties"])
        where = "a process of its own" if recipe.python else "the process of mlmd"
        return {
            "calculator": facts["class"],
            **told,
            "gives": known,
            "executes": "its program and what that opens, with all rights of who runs it",
            "arguments": dict(recipe.arguments),
            "runs in": f"{where}, {recipe.python or sys.executable}, Python {facts['python']}",
            "versions": dict(facts["versions"]),
            "files": [f"{name} sha256:{digest}" for name, digest in self.files.items()],
            **(
                {"weights": [f"{name} sha256:{digest}" for name, digest in self.weights.items()]}
                if self.weights
                else {}
            ),
        }

    def predict(self, graph: Graph) -> Prediction:
        """Energy, forces and stress of every structure of a graph, one after the other; its pairs are not looked at.

        Raises:
            SimulationError: when the calculator fails.
        """
        owner, numbers = graph.owner.cpu().numpy(), graph.numbers.cpu().numpy()
        positions, cells, pbc = (one.cpu().numpy() for one in (graph.positions, graph.cells, graph.pbc))
        ends = np.searchsorted(owner, np.arange(graph.n_structures + 1))
        found = [
            self.ask(numbers[begin:end], pbc[n], positions[begin:end], cells[n], graph.positions.device)
            for n, (begin, end) in enumerate(pairwise(ends))
        ]
        where = graph.positions.device
        virial = torch.from_numpy(np.stack([one.virial for one in found])).to(where)
        return Prediction(
            energy=torch.tensor([one.energy for one in found], dtype=torch.float64, device=where),
            forces=torch.from_numpy(np.concatenate([one.forces for one in found])).to(where),
            stress=virial / graph.volumes[:, None, None],
            virial=virial,
        )

    def evaluator(
        self, numbers: np.ndarray, pbc: np.ndarray, *, skin: float = 0.0, device: torch.device | str = "cpu"
    ) -> ExternalEvaluator:
        """What the engine asks; a calculator searches its neighbours itself, so that there is no skin."""
        return ExternalEvaluator(self, np.array(numbers), np.array(pbc, dtype=bool), device)

    def predictor(self) -> ExternalPredictor:
        """What answers about structures one after the other."""
        return ExternalPredictor(self)

    def ask(
        self,
        numbers: np.ndarray,
        pbc: np.ndarray,
        positions: np.ndarray,
        cell: np.ndarray,
        device: torch.device | str = "cpu",
        window: Beginning | None = None,
    ) -> Evaluation:
        """Energy, forces and virial of one structure, in a window of a calculator that keeps lists.

        The virial is the stress times the volume, and in the open -Σ r ⊗ F; nan where the calculator gives no stress.

        Raises:
            SimulationError: when the calculator fails, or does not compute what is periodic in some directions.
        """
        if pbc.any() and not pbc.all() and not self.recipe.partly_periodic:
            raise failed(self.recipe, "it computes what is periodic in all directions, or in none")
        memory = self.memory if window is None else None  # last digits in a window are of its beginning too
        with self._turn:  # calculators keep what they computed last, and a file is written by one at a time
            if memory is not None and (kept := memory.find(numbers, pbc, positions, cell)) is not None:
                return kept
            found = self._in_window(self._on(device), numbers, pbc, positions, cell, window)
            if memory is not None:
                memory.keep(numbers, pbc, positions, cell, found)
        return found

    def _in_window(
        self, worker: Worker, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray,
        window: Beginning | None,
    ) -> Evaluation:  # fmt: skip
        """Ask a worker; where somebody else has asked since, or nobody yet, the window begins with its beginning."""
        goes_on = window is not None and window is self._last.window
        self._last.window = None  # until there is an answer
        if window is not None and not goes_on and not window.is_at(positions, cell):
            self._compute(worker, numbers, pbc, window.positions, window.cell, anew=True)
            goes_on = True
        anew = not goes_on and self.recipe.keeps is not True
        found = self._compute(worker, numbers, pbc, positions, cell, anew=anew)
        self._last.window = window
        return found

    def _compute(
        self, worker: Worker, numbers: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cell: np.ndarray, *,
        anew: bool,
    ) -> Evaluation:  # fmt: skip
        # what a cell has of open directions is no matter, but some calculators ask for a volume
        full = complete_cell(cell) if pbc.any() and not pbc.all() else cell
        energy, forces, stress = worker.ask(numbers, pbc, positions, full, anew=anew)
        if stress is not None:
            virial = stress * abs(np.linalg.det(cell))
        elif pbc.all() and self.has_stress:
            raise failed(self.recipe, "the calculator said that it gives a stress, and gave none")
        elif pbc.any():
            virial = np.full((3, 3), np.nan)
        else:
            virial = -positions.T @ forces
        return Evaluation(energy, np.ascontiguousarray(forces), 0.5 * (virial + virial.T))

    def _on(self, device: torch.device | str) -> Worker:
        """The calculator on a device; it is made again where it has not been there."""
        if self.recipe.moves:
            self._device = _full(device)
            if self._device not in self._workers:
                # the other gives its memory back
                self._workers = {self._device: worker(self.recipe, self._device, self._files)}
                self._last = _Last()
        return self._workers[self._device]

    def spec(self) -> dict[str, Any]:
        """How it is made (JSON-able)."""
        return {
            "kind": "external",
            "recipe": asdict(self.recipe),
            "elements": None if self._given is None else list(self._given),
            "files": self.files,
            "weights": self.weights,
        }

    @classmethod
    def restore(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> External:
        """Make it again as a `spec` says. Whoever calls this has made sure that the spec may be trusted.

        Raises:
            InputError: when the calculator cannot be made here.
            ModelError: when a file it needs has gone or has changed, or a name stands for something else now.
        """
        recipe = Recipe(**spec["recipe"])
        recipe = replace(recipe, python=interpreter(recipe.python))
        named = {str(one.absolute()) for one in files_in([recipe.calculator or "", dict(recipe.arguments)])}
        if unknown := sorted(named - spec["files"].keys()):
            raise ModelError(f"{unknown[0]}, which its {recipe.kind} model names, is in no digest of the file")
        files = []
        for name, digest in spec["files"].items():
            if not Path(name).is_file():
                raise ModelError(f"{name}, which its {recipe.kind} model needs, is not there")
            files.append(digest_of(Path(name)))
            if files[-1].sha256 != digest:
                raise ModelError(f"{name} is not the file any more that its {recipe.kind} model was made of")
        made = cls(recipe, elements=spec["elements"], files=files)
        if sorted(made.weights.values()) != sorted(spec.get("weights", made.weights).values()):
            now = ", ".join(f"{name} sha256:{digest}" for name, digest in made.weights.items())
            raise ModelError(
                f"the name of its {recipe.kind} model stands for something else now than when it was made: {now}. "
                "Install the release of the framework that it was made with"
            )
        return made


def identities(potential: object) -> list[dict[str, Any]]:
    """What the answers of the models of others, of which a potential is built, depend on besides what an input says.

    Returns:
        of each the digests of files that its framework has by name, and versions (JSON-able).
    """
    return [{"weights": one.weights, "versions": one.versions} for one in externals_in(potential)]


def externals_in(potential: object) -> list[External]:
    """The models of others of which a potential is built, always in the same order."""
    own = getattr(potential, "external", potential)
    if isinstance(own, External):
        return [own]
    return [one for name in ("parts", "members") for part in getattr(potential, name, ()) for one in externals_in(part)]


def reaches_in(potential: object) -> dict[str, np.ndarray]:
    """What a run keeps of what it has tried: how far windows reach (`mlmd.pretrained.window`).

    A clock has its say in that, so that another try could end otherwise; it is of the run, and not of one stage.

    Returns:
        ``reaches`` (n_externals,) Å, nan for what has not been tried; nothing where all are known without.
    """
    tried = [one.reach for one in _with_windows(potential)]
    return {"reaches": np.array(tried, dtype=np.float64)} if tried else {}  # None becomes nan


def recall_reaches(potential: object, arrays: Mapping[str, np.ndarray]) -> None:
    """Do not try again how far windows reach where it is in `arrays` of a run (`reaches_in`)."""
    if "reaches" in arrays:
        for one, reach in zip(_with_windows(potential), arrays["reaches"], strict=True):
            one.reach = one.reach if np.isnan(reach) else float(reach)


def _with_windows(potential: object) -> list[External]:
    return [one for one in externals_in(potential) if one.recipe.keeps == "lists"]


def _full(device: torch.device | str) -> str:
    """A device with its number: "cuda" is the first."""
    found = torch.device(device)
    return "cuda:0" if found.type == "cuda" and found.index is None else str(found)


class ExternalPredictor:
    """Answers about one structure after the other."""

    def __init__(self, potential: External) -> None:
        """Take the potential."""
        self._potential = potential

    def evaluate(self, atoms: Atoms) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV).

        Raises:
            InputError: for positions that are not finite and for a flat periodic cell.
            SimulationError: when the calculator fails.
        """
        positions, cell, pbc = geometry(atoms)
        where = self._potential.get_buffer("_where").device
        return self._potential.ask(np.array(atoms.numbers), pbc, positions, cell, where)


class ExternalEvaluator:
    """One system, asked about step by step; what its calculator keeps meanwhile is a matter of `window`."""

    def __init__(self, potential: External, numbers: np.ndarray, pbc: np.ndarray, device: torch.device | str) -> None:
        """Take atomic numbers (n_atoms,), pbc (3,) bool and where to compute."""
        self._potential, self._numbers, self._pbc, self._device = potential, numbers, pbc, device
        self._window: Beginning | None = None

    def evaluate(self, positions: np.ndarray, cell: np.ndarray) -> Evaluation:
        """Energy (eV), forces (eV/Å) and virial (eV) at positions (n_atoms, 3) Å and cell (3, 3) Å.

        When it is asked a second time, it is tried how far windows reach, once for all systems of a potential.
        """
        if self._potential.reach is None and self._window is not None:
            self._potential.reach = reach_of(self._ask, self._window.positions, self._window.cell)
        reach = self._potential.reach
        if reach == 0.0:
            return self._potential.ask(self._numbers, self._pbc, positions, cell, self._device)
        if self._window is None or not self._window.covers(positions, cell, reach or 0.0):
            self._window = Beginning(positions.copy(), cell.copy())
        return self._ask(positions, cell, self._window)

    def _ask(self, positions: np.ndarray, cell: np.ndarray, window: Beginning) -> Evaluation:
        return self._potential.ask(self._numbers, self._pbc, positions, cell, self._device, window)

    def state(self) -> dict[str, np.ndarray]:
        """Where the window began, where there is one."""
        return {} if self._window is None else {"positions": self._window.positions, "cell": self._window.cell}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on in the window of a `state`, or as before any question."""
        there = "positions" in state
        self._window = Beginning(np.array(state["positions"]), np.array(state["cell"])) if there else None


def framework(
    kind: str,
    arguments: Mapping[str, Any],
    *,
    install: str,
    python: str | None = None,
    elements: Sequence[str] | None = None,
    files: Sequence[Path | Digest] = (),
    executes: str | None = None,
    trust: Sequence[str] = (),
    moves: bool = True,
    keeps: bool = False,
    partly_periodic: bool = True,
) -> External:
    """A model of a framework that mlmd knows, by the file of this folder that makes its calculator.

    Args:
        kind: of the potential, and the name of the file, which has ``calculator(**arguments)`` and
            ``facts(calculator)``.
        arguments: of its `calculator`; None where something is left to the framework.
        install: what a user types after ``pip install``.
        python: the interpreter of another environment.
        elements: that it may be asked about.
        files: the weights that are given; each is read once for its digest, unless it has been before.
        executes: what opening such weights can do, for those that have to be trusted; None for mere numbers.
        trust: digests that the user gave.
        moves: whether `calculator` takes ``device``.
        keeps, partly_periodic: see `Recipe`.

    Raises:
        InputError: when it cannot be made; with what to install where the framework is not there.
        ModelError: for files that are empty, or have to be trusted and are not.
    """
    read = []
    for one in files:
        if isinstance(one, Digest):
            read.append(one)
        elif not one.is_file():
            raise InputError(f"path: {one}: " + ("a folder, not a file." if one.is_dir() else "no such file."))
        elif one.stat().st_size == 0:
            raise ModelError(f"path: {one}: the file is empty. Was a download or a copy cut off? Get it again.")
        else:
            read.append(digest_of(one) if executes is None else check(one, trust, executes))
    given = {name: value for name, value in arguments.items() if value is not None}
    recipe = Recipe(
        kind, None, given, interpreter(python), moves=moves, keeps=keeps, partly_periodic=partly_periodic,
        install=install,
    )  # fmt: skip
    return External(recipe, elements=elements, files=read)


def one_of(path: Path | None, name: str | None) -> list[Path]:
    """The file that is given, if it is one.

    Raises:
        InputError: when both a file and the name of a model are given, or neither.
    """
    if (path is None) == (name is None):
        raise InputError('give either path = "FILE" or name = "MODEL".')
    return [] if path is None else [Path(path)]
