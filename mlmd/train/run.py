"""``mlmd train``: labelled structures in, one potential file with its errors and figures out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlmd.config import learned_parts, load_train, naming, of_structures, resolved
from mlmd.config.files import sha256
from mlmd.cores import n_cores
from mlmd.errors import InputError, Stopped, StorageError, counted
from mlmd.rundir import Messages, default_folder, reserved
from mlmd.train.folder import ERRORS, MANIFEST, begin, existing, write_json
from mlmd.train.interrupt import sigterm_interrupts

if TYPE_CHECKING:
    from mlmd.potentials import Potential
    from mlmd.potentials.property import PropertyModel
    from mlmd.train.error_table import ErrorTable
    from mlmd.train.examine import Finding
    from mlmd.train.job import Job
    from mlmd.train.property_job import PropertyJob


@dataclass(frozen=True)
class Step:
    """Where a training stands."""

    what: str
    done: int
    total: int
    seconds_left: float | None = None
    """Of what is being done now."""
    loss: float | None = None
    """Root mean square of the residuals in units of their sigma."""


@dataclass(frozen=True)
class Training:
    """A finished training."""

    path: Path
    """Its folder."""
    model: Path
    errors: Mapping[str, ErrorTable | None]
    """Of ``"train"`` and ``"test"``."""
    findings: Sequence[Finding]
    """What is odd about the data."""
    is_potential: bool
    """Else the model is one of a property of whole structures."""


Progress = Callable[[Step], None]


class Clock:
    """Seconds left of a pass over the work, from those of the part that is done; None before any is."""

    def __init__(self, at: float = 0.0) -> None:
        """Starts now, where a part was done before."""
        self._begin, self._at, self._last = time.monotonic(), at, at

    def __call__(self, part: float) -> float | None:
        """Of what is left when this part, from 0 to 1, is done; a part that does not grow begins another pass."""
        if part <= self._last:
            self._begin, self._at = time.monotonic(), part
        self._last = part
        if part == self._at:
            return None
        return (time.monotonic() - self._begin) / (part - self._at) * (1 - part)


def train(
    input_file: Path | str,
    out: Path | str | None = None,
    *,
    n_processes: int | None = None,
    progress: Progress = lambda step: None,
    tell: Callable[[str], None] = lambda text: None,
    answers: Path | None = None,
) -> Training:
    """Train the potential of an input file, or continue where the training stopped; a finished one is left as it is.

    The file of the potential is the same, bit for bit, whenever the same data are trained on again with the same
    versions, whatever the number of processes and however often the training was interrupted.

    In a script, the call stands under ``if __name__ == "__main__":``, as several processes import the script.

    Args:
        input_file: the TOML file.
        out: folder, by default ``<input stem>.run`` in the current folder.
        n_processes: by default one for each core.
        progress: called with every step.
        tell: called with every message for a person.
        answers: folder where the answers of slow models in the baseline are kept, for several trainings; that of the
            training when left out.

    Raises:
        InputError: the input or its data are wrong; nothing is written.
        StorageError: the folder belongs to another training, or cannot be written.
        InUseError: another process is training in the folder.
        SimulationError: no finite solution was found.
        Stopped: by a signal; the same call continues.
    """
    source = Path(input_file)
    config = load_train(source)
    folder = (Path(out) if out is not None else default_folder(source)).absolute()
    existing(folder, config)  # a folder of somebody else is not even locked
    with naming(source), reserved(folder), _stoppable(source, folder, config.fit.kind):
        from mlmd.potentials.fused import why_slow
        from mlmd.potentials.threads import undivided
        from mlmd.train.job import Job, prepare
        from mlmd.train.property_job import prepare_property

        manifest = existing(folder, config)
        progress(Step("reading the data", 0, 1))
        whole = of_structures(config.descriptor, config.fit)

        def of_baseline(done: int, total: int) -> None:
            progress(Step("the baseline", done, total))

        # the order of sums, and so the last digits, must not depend on the number of threads
        with undivided():
            if whole:
                job: Job | PropertyJob = prepare_property(source)
            else:
                job = prepare(source, folder=answers or folder, progress=of_baseline)
            if manifest is None:  # nothing is written before all is known to be right
                manifest = begin(folder, source, config, job.digest)
            if manifest["digest"] != job.digest:
                raise StorageError(
                    f"{folder} belongs to other data: the content of the files is not what it was. Give another --out."
                )
            messages = Messages(folder, tell)
            for finding in (*job.findings, *_of_residuals(manifest)):
                messages(f"{finding.severity}: {finding.text}")
            if manifest["state"] != "done":
                if isinstance(job, Job) and (slow := why_slow(job.potential)):
                    messages(slow)
                _train(job, folder, manifest, n_processes or n_cores(), progress, messages)
        return _finished(folder, job, messages)


def _train(
    job: Job | PropertyJob,
    folder: Path,
    manifest: Mapping[str, Any],
    n_processes: int,
    progress: Progress,
    messages: Messages,
) -> None:
    """From data to the file of the potential or the model and what is said about it."""
    from mlmd.potentials import modelfile
    from mlmd.train.card import card
    from mlmd.train.checkpoint import forget
    from mlmd.train.property_fit import learn
    from mlmd.train.property_job import PropertyJob

    learned: tuple[Potential | PropertyModel, dict[str, Any], Mapping[str, Any]]
    doubts: list[Finding] = []
    if isinstance(job, PropertyJob):
        learned = learn(job, folder, progress)
    else:
        learned = _train_potential(job, folder, n_processes, progress, doubts, messages)
    trained, tables, facts = learned
    write_json(folder / ERRORS, tables)
    model = folder / f"{job.name}.mlmd"
    modelfile.save(trained, model, card(job, tables, facts))
    done = {"state": "done", "model": model.name, "sha256": sha256(model), "doubts": [one.text for one in doubts]}
    write_json(folder / MANIFEST, {**manifest, **done})
    if isinstance(job, PropertyJob):
        forget(folder)


def _of_residuals(manifest: Mapping[str, Any]) -> list[Finding]:
    """What the residuals of a training that is done said about its data."""
    from mlmd.train.examine import Finding

    texts = manifest.get("doubts") if manifest["state"] == "done" else None
    return [Finding("warning", str(text)) for text in texts] if isinstance(texts, list) else []


def _train_potential(
    job: Job, folder: Path, n_processes: int, progress: Progress, doubts: list[Finding], messages: Messages
) -> tuple[Potential, dict[str, Any], Mapping[str, Any]]:
    """The potential of a job, its errors as JSON, and facts for its card; `doubts` get what the residuals say."""
    from mlmd.analysis.figures import save
    from mlmd.train import embedded_fit, figures, kernel_fit, linear_fit, network_fit
    from mlmd.train.evaluate import errors, predict
    from mlmd.train.residuals import residual_outliers
    from mlmd.train.uncertainty import calibrate, facts_of, keep_active_sets, keep_covariance_of_network

    fits = {"network": network_fit.fit, "kernel": kernel_fit.fit}  # all others are linear in their parameters
    fit = embedded_fit.fit if learned_parts(job.config.descriptor) else fits.get(job.config.fit.kind, linear_fit.fit)
    fitted = fit(job, folder, n_processes, progress)
    wide = keep_covariance_of_network(
        job, lambda done, total: progress(Step("covariance of the last layer", done, total))
    )
    of_grade = keep_active_sets(job, lambda done, total: progress(Step("active sets", done, total)))
    for text in (*fitted.messages, *([wide] if wide else ())):
        messages(text)
    tables: dict[str, Any] = {"train": None, "test": None}
    labels = None
    for name, frames in (("train", job.train), ("test", job.test)):
        if frames:
            progress(Step(f"errors of the {name} set", 0, len(frames)))
            labels = predict(job.result, frames)
            tables[name] = errors(frames, labels).to_json()
            if name == "train":
                doubts += residual_outliers(frames, labels)
            title = f"{job.name}: {name} set, {counted(len(frames), 'structure')}"
            save(figures.parity_figure(frames, labels, title), folder / f"parity_{name}.png")
    for doubt in doubts:
        messages(f"{doubt.severity}: {doubt.text}")
    # what was said last is about the test set, where there is one
    of_spread = calibrate(
        job, labels if job.test else None, lambda done, total: progress(Step("spread of the test set", done, total))
    )
    if figures.panels(fitted.curve):
        save(figures.learning_figure(fitted.curve), folder / "learning_curve.png")
    return job.result, tables, {**fitted.facts, **facts_of(of_spread, of_grade)}


def _finished(folder: Path, job: Job | PropertyJob, messages: Messages) -> Training:
    """What stands in the folder of a training that is done; its card follows the input.

    Raises:
        StorageError: when something of it is missing or damaged.
    """
    from mlmd.potentials.modelfile import read_card, update_card
    from mlmd.train.error_table import from_json

    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        tables = json.loads((folder / ERRORS).read_text())
        errors = {name: from_json(table) if table else None for name, table in tables.items()}
        model = folder / manifest["model"]
        facts = {key: value for key, value in resolved(job.config)["card"].items() if value and key != "name"}
        card = read_card(model)
        same = sha256(model) == manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise StorageError(
            f"{folder}: the training is done, but its files are missing or damaged ({error}). Set the state in "
            f'{MANIFEST} to "running" and give the same command to have them made again.'
        ) from None
    if not same:
        messages(f"warning: {model.name} was changed after the training.")
    elif any(card.get(key) != value for key, value in facts.items()):
        update_card(model, facts)
        write_json(folder / MANIFEST, {**manifest, "sha256": sha256(model)})
        messages(f"the card of {model.name} has been brought up to the input.")
    is_potential = not of_structures(job.config.descriptor, job.config.fit)
    findings = (*job.findings, *_of_residuals(manifest))
    return Training(path=folder, model=model, errors=errors, findings=findings, is_potential=is_potential)


@contextmanager
def _stoppable(source: Path, folder: Path, kind: str) -> Iterator[None]:
    """SIGTERM and Ctrl-C end a training, which has kept every part that was done, if its kind of fit has parts."""
    try:
        with sigterm_interrupts():
            yield
    except KeyboardInterrupt:
        state = None
        if (folder / MANIFEST).exists():
            manifest = json.loads((folder / MANIFEST).read_text())
            state = manifest["state"]
            if state == "running":
                write_json(folder / MANIFEST, {**manifest, "state": "stopped"})
        if state == "done":  # its data are read again to say what is odd about them
            kept = "the training is done already. The same command says how good the result is"
        elif kind == "kernel":
            kept = 'a fit of kind "kernel" keeps no parts. The same command begins anew'
        else:
            kept = "every part that was done is kept. The same command continues"
        raise Stopped(f"on request; {kept}: mlmd train {source}") from None
