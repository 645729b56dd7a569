"""Replica exchange: many runs in one process, each an ordinary folder, that change places at every exchange.

A folder belongs to one temperature (or pressure, scale, umbrella), and walkers go through the folders: what is in a
trajectory is an ensemble and can be analysed as that of any run. How they change places is in `swaps`, how they take
turns and make checkpoints in `together`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from mlmd.bias.script import FORGETFUL, HISTORIES, Script
from mlmd.config.replicas import Replica, Runs
from mlmd.engine.course import Course
from mlmd.engine.exchange_log import ENOUGH, FEW, expected_acceptance
from mlmd.engine.folder import existing_run
from mlmd.engine.job import Job, check_biases, prepare, what_plumed_says
from mlmd.engine.observe import Moment
from mlmd.engine.run import Options, begin, ending, go_on, hardware_of, known_numbers, set_state, told_of_disk
from mlmd.engine.stop import StopRequest
from mlmd.engine.swaps import neighbours
from mlmd.engine.together import COMMITS, Together
from mlmd.errors import InputError, MlmdError
from mlmd.potentials import has_energy
from mlmd.rundir import Messages, Run

GROWING = {*HISTORIES, *FORGETFUL, "VES_LINEAR_EXPANSION", "VES_DELTA_F"}
"""Actions of PLUMED whose bias or value depends on what its own replica has seen."""
REMEMBERING = ("NLIST", "NEIGH_SIZE", "NEIGH_STRIDE", "NL_STRIDE")
"""Keywords of lists of neighbours, which PLUMED keeps from step to step, and which are not those of another replica."""

WATCHING = ("PRINT", "FLUSH", "COMMITTOR")
"""Actions that act on nothing, beside those that dump: they may look at some steps alone."""


def run_exchange(
    runs: Runs, jobs: Sequence[Job], folder: Path, seed: int, settings: Options, request: StopRequest,
    share: Callable[[str, float], None],
) -> None:  # fmt: skip
    """Run the replicas of an input to their ends; all folders and their inputs are there, and their locks are held.

    Args:
        runs: what the input says.
        jobs: what `prepared` has understood of it.
        folder: of all.
        seed: what all seeds follow from.
        settings: hardware, and who is told.
        request: to stop.
        share: called with the name of a replica and how much of itself it has done.

    Raises:
        InputError, ModelError: something that the input names is wrong; no run has begun then.
        SimulationError, StorageError, Stopped: see `mlmd.engine.run.simulate`.
    """
    import torch

    exchange, replicas = runs.exchange, runs.replicas
    assert exchange is not None
    if settings.threads:
        torch.set_num_threads(settings.threads)
    said = [check_biases(job) for job in jobs]
    known = known_numbers(jobs[0], settings)
    # a factor on the potential decides by which force OpenMM asks it
    of_scale = {scale: hardware_of(job, settings) for scale, job in {job.scale: job for job in jobs}.items()}
    hardware = [of_scale[job.scale] for job in jobs]
    messages = Messages(folder, settings.tell)
    begins = not (folder / COMMITS).exists()
    together = Together(
        folder, [one.name for one in replicas], exchange, [job.scale for job in jobs], seed, messages, request,
        jobs[0].config.output.checkpoint_every,
    )  # fmt: skip
    mark = {"exchange": {"every": exchange.every, "stages": list(exchange.stages)}}
    opened: list[Run] = []
    for one, job, where, words in zip(replicas, jobs, hardware, said, strict=True):
        own = folder / one.name
        run, source = existing_run(own, job.config), own / "input.toml"
        with told_of_disk(own):
            opened.append(
                begin(source, job, own, where, words, mark) if run is None else go_on(source, job, run, where)
            )
    if begins:
        messages(f"{len(replicas)} replicas, in turn, with an exchange every {exchange.every:,} steps")
        for text in (*known, *dict.fromkeys(text for one in said for text in what_plumed_says(one))):
            messages(text)
        for text in doubts_of(runs, jobs[0]):
            messages(text)
    with ExitStack() as stack:
        stack.callback(together.close)
        for run, job, where in zip(opened, jobs, hardware, strict=True):
            own_messages = Messages(run.path)
            stack.enter_context(ending(run, own_messages))
            progress = partial(_tell_share, run, share)
            together.courses.append(Course(job, run, where, own_messages, request, progress, together))
        together.open()
        try:
            together.go()
        except MlmdError as error:
            messages(str(error), echo=False)
            raise
        together.tell_of_poor(ENOUGH // 5)
        messages(together.describe())
    for run in opened:
        set_state(run, "done")


def _tell_share(run: Run, share: Callable[[str, float], None], moment: Moment) -> None:
    """Tell how much of itself a replica has done."""
    share(run.path.name, (moment.stage.first_step + moment.step) / max(1, run.stages[-1].last_step))


def prepared(replicas: Sequence[Replica]) -> list[Job]:
    """All inputs understood, with one potential for all.

    Raises:
        InputError, ModelError: for anything wrong, and for what does not go with exchanges.
    """
    jobs: list[Job] = []
    for one in replicas:
        jobs.append(prepare(one.config, jobs[0].potential if jobs else None))
    if not has_energy(jobs[0].potential):
        name = getattr(jobs[0].potential, "source", "the potential")
        raise InputError(f"replicas: exchange_every: {name} predicts forces alone, and an exchange needs its energy.")
    for index, script in jobs[0].scripts.items():
        _refuse_growing(script, f"stage {index + 1} ({jobs[0].stages[index].kind})")
    return jobs


def _refuse_growing(script: Script, place: str) -> None:
    """A bias that is not a function of the positions alone cannot be told of the positions of another replica."""
    for statement in script.statements:
        if statement.action in GROWING or statement.values("WALKERS_DIR"):
            raise InputError(
                f"replicas: {place}: {statement.place}: {statement.action} changes with what its own replica has seen, "
                "so that replicas cannot exchange under it. RESTRAINT and walls can; or leave exchange_every out."
            )
        words = {word.partition("=")[0].upper() for word in statement.words}
        if kept := sorted(words & set(REMEMBERING)):
            raise InputError(
                f"replicas: {place}: {statement.place}: {kept[0]} keeps a list of neighbours from step to step, which "
                "is not that of another replica. Leave it out, or exchange_every."
            )
        rests = [stride for stride in statement.values("STRIDE") if stride != "1"]
        if rests and statement.action not in WATCHING and not statement.action.startswith("DUMP"):
            raise InputError(
                f"replicas: {place}: {statement.place}: {statement.action} acts every {rests[0]} steps alone, and "
                "what it adds has to be known at every exchange. Leave STRIDE out, or exchange_every."
            )


def doubts_of(runs: Runs, job: Job) -> list[str]:
    """Pairs of temperatures that would seldom change places, if the system were harmonic."""
    exchange, replicas = runs.exchange, runs.replicas
    assert exchange is not None
    stages = [one.config.stage[exchange.stages[-1]] for one in replicas]
    heats = [
        stage.temperature[0] / (one.config.scale or 1.0)  # type: ignore[union-attr,index]
        for stage, one in zip(stages, replicas, strict=True)
    ]
    texts = []
    for one, other in neighbours(exchange.shape):
        share = expected_acceptance(job.body.n_dof, heats[one], heats[other])
        if share < FEW:
            texts.append(
                f"{replicas[one].name} and {replicas[other].name} are far apart: of a harmonic system with "
                f"{job.body.n_dof:,} degrees of freedom {share:.2g} of their exchanges would be accepted. Put others "
                f"between them, at a ratio of about {_ratio(job.body.n_dof):.3f}"
            )
    return texts


def _ratio(n_dof: int) -> float:
    """Of neighbouring temperatures that change places at a quarter of their tries."""
    low, high = 1.0, 10.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if expected_acceptance(n_dof, 1.0, middle) > 0.25 else (low, middle)
    return low
