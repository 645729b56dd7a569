"""``mlmd simulate``: one input file, one run folder, stage after stage; stopped, killed or finished, never lost."""

from __future__ import annotations

import errno
import io
import secrets
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlmd.config import Simulate, check_files, load_simulate, resolved
from mlmd.config.engine import engine_of
from mlmd.cores import n_cores
from mlmd.engine.device import device_error
from mlmd.engine.folder import existing_run, is_finished
from mlmd.engine.lammps.processes import refuse_mpirun
from mlmd.engine.stop import StopRequest, stop_requests
from mlmd.errors import DeviceError, MlmdError, SimulationError, Stopped, StorageError
from mlmd.rundir import (
    CRASH,
    LOST,
    STOP,
    STRUCTURE,
    Messages,
    Run,
    default_folder,
    ends_of,
    open_run,
    reserved,
    stage_record,
    with_ends,
    write_atomically,
    write_manifest,
)

if TYPE_CHECKING:
    from mlmd.bias.plumed import Said
    from mlmd.engine.job import Job
    from mlmd.engine.lammps.team import Team
    from mlmd.engine.observe import Moment


@dataclass(frozen=True)
class Options:
    """Where and on what hardware a run goes on: nothing of the physics."""

    platform: str
    device: str
    threads: int | None
    cores: int | None
    max_hours: float | None
    progress: Callable[[Moment], None]
    tell: Callable[[str], None]


def simulate(
    input_path: Path | str,
    out: Path | str | None = None,
    *,
    platform: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    cores: int | None = None,
    max_hours: float | None = None,
    progress: Callable[[Moment], None] = lambda moment: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run an input file, or continue it where it stopped; a finished run is left as it is.

    Args:
        input_path: the TOML file.
        out: run folder, by default ``<input stem>.run`` in the current folder.
        platform: of OpenMM; ``auto`` chooses.
        device: where the potential computes: ``cpu``, ``cuda``, ``cuda:0``; ``auto`` is the GPU where there
            is one, and the processor for potentials that have compiled kernels.
        threads: of the potential; by default one for each core.
        cores: how many are this run's, by default all that the process may use. Where the potential leaves one free,
            PLUMED computes its bias at the same time.
        max_hours: stop after so many hours, to be continued.
        progress: called with every line of the log.
        tell: called with every message for a person.

    Returns:
        The finished run.

    Raises:
        InputError, ModelError: the input or something it names is wrong; nothing is written.
        StorageError: the folder belongs to another input, or cannot be written.
        InUseError: another process is running in the folder.
        SimulationError: the physics failed; the last checkpoint is good and the crash folder explains.
        Stopped: on request, after a checkpoint.
        DeviceError: a graphics card failed; a new process can continue from the last checkpoint.
    """
    source = Path(input_path)
    config = load_simulate(source)
    folder = (Path(out) if out is not None else default_folder(source)).absolute()
    settings = Options(platform, device, threads, cores, max_hours, progress, tell)
    if not divided(config):
        return _lead(source, config, folder, settings, None)
    from mlmd.engine.lammps.team import team_of

    with team_of(config) as team:
        if team.leads:
            return _lead(source, config, folder, settings, team)
        team.follow()
    return open_run(folder)


def follow(input_path: Path | str) -> None:
    """Be one of the processes of a run that another one leads, until that ends, well or not.

    Raises:
        InputError: what is wrong with the input, as the leader says it.
    """
    config = refuse_copies(input_path)
    from mlmd.engine.lammps.team import team_of

    with team_of(config) as team:
        team.follow()


def refuse_copies(input_path: Path | str) -> Simulate:
    """The input, after a look that processes of mpirun do not all do the same run.

    Raises:
        InputError: when there are several, and nothing in the input is divided among them.
    """
    config = load_simulate(Path(input_path))
    if not divided(config):
        refuse_mpirun()
    return config


def _lead(source: Path, config: Simulate, folder: Path, settings: Options, team: Team | None) -> Run:
    """See that the folder is this input's and nobody else's, and run in it."""
    existing_run(folder, config)  # a folder of somebody else is not even locked
    with reserved(folder):  # before the slow imports: a second run is refused at once
        run = existing_run(folder, config)
        if run is not None and "exchange" in run.manifest:
            raise StorageError(
                f"{folder} is one of several replicas that exchange, and cannot go on alone. The command that began "
                f"all of them, with --out {folder.parent}, continues them."
            )
        if run is not None and is_finished(run, config):
            from mlmd.engine.verify import shortened

            if lost := shortened(run):
                raise StorageError(
                    f"{folder}: the run is complete, but {'; '.join(lost)}. `mlmd repair {folder}` goes back to a "
                    "checkpoint from which this command does the end again."
                )
            return run
        # from here on: a signal while a model is loaded is heard too, and answered after the first step
        with stop_requests(folder / STOP) as request:
            return _simulate(source, config, folder, run, settings, request, team)


def divided(config: Simulate) -> bool:
    """Whether the atoms of a run are divided among processes."""
    return engine_of(config) == "lammps"


def _simulate(
    source: Path, config: Simulate, folder: Path, run: Run | None, settings: Options, request: StopRequest,
    team: Team | None,
) -> Run:  # fmt: skip
    import torch

    from mlmd.engine.course import Course
    from mlmd.engine.job import check_biases, doubtful_biases, prepare, what_plumed_says
    from mlmd.engine.rerun import Rerunning
    from mlmd.kernels import library

    if settings.threads:
        torch.set_num_threads(settings.threads)
    check_files(config, source)
    library()  # a choice of kernels that is not there is an error before anything is written
    job = prepare(config)
    said = check_biases(job)
    # a model that is not what it was is refused before anything is written
    known = known_numbers(job, settings)
    native = engine_of(config) == "native"
    if native:
        from mlmd.engine.native.course import NativeCourse, hardware_of_native

        hardware = hardware_of_native(settings.platform, settings.device)
    elif team is None:
        hardware = hardware_of(job, settings)
    else:
        hardware = team.hardware(job, settings.platform, settings.device, settings.threads)
    begins = run is None
    with told_of_disk(folder):
        run = begin(source, job, folder, hardware, said) if run is None else go_on(source, job, run, hardware)
        (folder / STOP).unlink(missing_ok=True)
        messages = Messages(folder, settings.tell)
        if begins:
            for text in (*what_plumed_says(said), *dict.fromkeys(doubtful_biases(job))):
                messages(text)
    request.limit(settings.max_hours)
    with ending(run, messages):
        for text in known:
            messages(text)
        course = Course if job.replay is None else Rerunning
        if team is not None:
            course = team.course
        elif native:
            course = NativeCourse
        course(job, run, hardware, messages, request, settings.progress).go()
    return set_state(run, "done")


def known_numbers(job: Job, settings: Options) -> tuple[str, ...]:
    """What is known of numbers of published models, in words.

    Raises:
        ModelError: when a model computes something else.
    """
    from mlmd.engine.job import models_of
    from mlmd.potentials.device import choose_device
    from mlmd.pretrained.reference import compare

    if not models_of(job.potential):
        return ()
    return tuple(compare(job.potential, choose_device(settings.device, job.potential)))


def hardware_of(job: Job, settings: Options) -> dict[str, Any]:
    """Where the forces come from, as run.json says it."""
    import torch

    from mlmd.engine.mixed import field_platform
    from mlmd.engine.system import choose_platform
    from mlmd.engine.torch_force import route_of
    from mlmd.potentials.device import choose_device

    device = choose_device(settings.device, job.potential)
    platform, properties = choose_platform(settings.platform, settings.threads, device)
    hardware: dict[str, Any] = {
        "openmm": platform,
        "device": device,
        "threads": torch.get_num_threads(),
        "cores": settings.cores or n_cores(),
        "properties": properties,
    }
    if job.replay is None and (route := route_of(job, platform, properties, device)) is not None:
        hardware["force"] = route.record()
    if job.mixed is not None:
        name, given = field_platform(settings.platform, device, settings.threads)
        hardware["force field"] = {"openmm": name, "properties": given}
    return hardware


def begin(
    source: Path, job: Job, folder: Path, hardware: dict[str, Any], said: Sequence[Said],
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Run:  # fmt: skip
    """Write what stands in a folder before the first step; the manifest last, so that half a start is no run.

    `more` is what else the manifest says.
    """
    import ase.io

    from mlmd.engine.biases import kept_sources
    from mlmd.engine.job import manifest_of
    from mlmd.engine.topology import write_topology

    structure = io.StringIO()
    ase.io.write(structure, job.atoms, format="extxyz", write_results=False)
    # durable before the manifest is: after a loss of power a run without its structure would be left
    write_atomically(folder / "input.toml", source.read_bytes())
    write_atomically(folder / STRUCTURE, structure.getvalue().encode())
    for names in kept_sources(job.scripts).values():
        for name, path in names.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, path.read_bytes())
    if job.topology is not None:
        write_topology(folder, job.topology, job.atoms.positions)
    seed = secrets.randbelow(2**31) if job.config.seed is None else job.config.seed
    manifest = manifest_of(job, seed=seed, created=_now(), platform=hardware, said=said)
    write_manifest(folder, {**manifest, **more})
    return open_run(folder)


def go_on(source: Path, job: Job, run: Run, hardware: dict[str, Any]) -> Run:
    """Take over the input, in which durations may have grown; the physics is the same.

    Raises:
        StorageError: when a model that was asked for by its name is another one now.
    """
    from mlmd.engine.job import models_of, versions

    before = [one.get("weights", []) for one in run.manifest.get("models", [])]
    weights = [one.get("weights", []) for one in models_of(job.potential)]
    if before and weights != before:
        raise StorageError(
            f"{run.path}: the name of a model stands for something else now than when the run began: it was "
            f"{_listed(before)}, is {_listed(weights)}. Install the release that it began with, or give another --out."
        )
    stages = [stage_record(record) for record in with_ends(job.stages, ends_of(run.stages))]
    write_atomically(run.path / "input.toml", source.read_bytes())
    now = {"at": _now(), "versions": versions(), "platform": hardware}
    changes = {"state": "running", "input": resolved(job.config), "stages": stages}
    changes["continued"] = [*run.manifest.get("continued", []), now]
    write_manifest(run.path, {**run.manifest, **changes})
    return open_run(run.path)


def _listed(weights: Sequence[Sequence[str]]) -> str:
    return ", ".join(one for each in weights for one in each) or "unknown"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def set_state(run: Run, state: str) -> Run:
    """Write into the manifest how a run stands; it may have been told of stages that have ended meanwhile."""
    changed = replace(run, manifest={**open_run(run.path).manifest, "state": state})
    write_manifest(run.path, changed.manifest)
    return changed


@contextmanager
def ending(run: Run, messages: Messages) -> Iterator[None]:
    """Write into manifest and messages how the run ended when it did not end well."""
    try:
        yield
    except BaseException as raised:
        lost = device_error(raised, len(run.atoms), str(run.manifest["platform"].get("device", "the device")))
        error = raised if lost is None else lost
        with suppress(OSError):  # a full disk has no room for this either
            ways = {Stopped: "stopped", SimulationError: "failed", DeviceError: LOST}
            set_state(run, next((name for way, name in ways.items() if isinstance(error, way)), "interrupted"))
            messages(str(error) or type(error).__name__, echo=False)
            if not isinstance(error, MlmdError | KeyboardInterrupt):
                (run.path / CRASH).mkdir(exist_ok=True)
                (run.path / CRASH / "traceback.txt").write_text(traceback.format_exc())
        if isinstance(error, OSError):
            raise _storage_error(run.path, error) from error
        if lost is not None:
            raise lost from raised
        raise


@contextmanager
def told_of_disk(folder: Path) -> Iterator[None]:
    """Say where it is that the system does not let a run begin or go on, and how much room there is.

    Raises:
        StorageError: in the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise _storage_error(folder, error) from error


def _storage_error(folder: Path, error: OSError) -> StorageError:
    free = shutil.disk_usage(folder).free / 1e6
    place = error.filename or folder
    room = f"{free:,.1f} MB are free on the disk of the run folder"
    do = "make room"
    if error.errno == errno.EFBIG:
        room, do = "Files have a limit here (ulimit -f)", "raise it"
    return StorageError(
        f"{place}: {error.strerror or error}. {room}. Nothing before the last checkpoint is lost: {do}, and the same "
        "command continues."
    )
