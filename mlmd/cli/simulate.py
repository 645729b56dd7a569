"""``mlmd simulate``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.cli.progress import near, shown, time_left
from mlmd.errors import InputError, MlmdError

if TYPE_CHECKING:
    from mlmd.engine.observe import Moment
    from mlmd.rundir import Run


@click.command()
@click.argument("input_file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: <input>.run].")
@click.option("--platform", default="auto", show_default=True, help="OpenMM platform: Reference, CPU, CUDA, ...")
@click.option("--device", default="auto", show_default=True, help="Where the potential computes: cpu, cuda, cuda:0.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the potential [default: all cores].")
@click.option("--processes", type=click.IntRange(min=1), help="Replicas that run at a time [default: by the cores].")
@click.option("--here", is_flag=True, help="Replicas run on this machine, also where they are jobs of Slurm.")
@click.option("--max-hours", type=click.FloatRange(min=0), help="Stop after so many hours, to be continued (code 75).")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    help="New processes that may continue after a failure of the graphics card.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--cores", type=click.IntRange(min=1), hidden=True, help="Those that are this run's [default: all].")
@click.option("--tethered", is_flag=True, hidden=True, help="Stop when standard input ends.")
def simulate(
    input_file: Path,
    out: Path | None,
    platform: str,
    device: str,
    threads: int | None,
    processes: int | None,
    here: bool,
    max_hours: float | None,
    retries: int,
    as_json: bool,
    quiet: bool,
    cores: int | None,
    tethered: bool,
) -> None:
    """Run INPUT_FILE in a folder of its own. The same command again continues where it stopped.

    Ctrl-C, SIGTERM, --max-hours or a file STOP in the run folder end the run after a checkpoint with exit code 75.
    With [replicas] in INPUT_FILE each run of it gets a folder within that folder; --processes of them run at a time,
    or all are submitted to Slurm where the input says so.
    """
    from mlmd.config.replicas import has_replicas
    from mlmd.engine.lammps.processes import rank_started, refuse_mpirun

    if rank_started():
        _follow(input_file)
    if has_replicas(input_file):
        refuse_mpirun()
        from mlmd.cli.replicas import simulate_all

        simulate_all(
            input_file, out, here=here, platform=platform, device=device, threads=threads, n_processes=processes,
            max_hours=max_hours, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    if retries:
        refuse_mpirun()
        from mlmd.cli.retry import with_retries, without_retries
        from mlmd.rundir import default_folder

        raise click.exceptions.Exit(
            with_retries(without_retries(sys.argv[1:]), out or default_folder(input_file), retries)
        )
    if processes is not None or here:
        flag = "--here" if here else "--processes"
        raise InputError(f"{flag} is for an input with [replicas]; one run has --threads.")
    if tethered:
        threading.Thread(target=_stop_when_alone, daemon=True).start()
    from mlmd.engine.run import refuse_copies
    from mlmd.engine.run import simulate as run_input

    refuse_copies(input_file)
    drift = _Drift()
    with shown(lambda moment: describe(moment, drift(moment)), hush=quiet or as_json) as (progress, tell):
        run = run_input(
            input_file, out, platform=platform, device=device, threads=threads, cores=cores,
            max_hours=max_hours, progress=progress, tell=tell,
        )  # fmt: skip
    results = _analyze(run, input_file)
    if as_json:
        import json

        click.echo(json.dumps({"run": str(run.path), "results": [result.to_json() for result in results]}))
    elif not quiet:
        _tell_results(run, results)


def _follow(input_file: Path) -> None:
    """Be one of several processes of a run, of which only the first has anything to say of it; ends this one."""
    from mlmd.engine.lammps.processes import speaks
    from mlmd.engine.run import follow

    try:
        follow(input_file)
    except MlmdError as error:
        if speaks():
            raise
        raise click.exceptions.Exit(error.exit_code) from None
    raise click.exceptions.Exit(0)


def _stop_when_alone() -> None:
    """Ask this process to stop when the one that started it, and holds the other end of standard input, has gone."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _analyze(run: Run, input_file: Path) -> list[Any]:
    """What [analysis] asks for."""
    from mlmd.config import load_simulate

    wanted = load_simulate(input_file).analysis
    if wanted is None:
        return []
    from mlmd import analysis

    results = analysis.run_all(run, wanted.run, charges=wanted.charges, drift=wanted.drift)
    if wanted.report:
        from mlmd.report import write_report

        write_report(run)
    return results


def _tell_results(run: Run, results: list[Any]) -> None:
    for result in results:
        click.echo(str(result))
    click.echo(f"The run is complete: {near(run.path)}/")
    report = run.path / "report.html"
    if report.exists():
        click.echo(f"Report: {near(report)}")


class _Drift:
    """Change of the total energy per atom since the first moment of a stage, eV; None where there is no energy."""

    def __init__(self) -> None:
        self._stage, self._first = -1, 0.0

    def __call__(self, moment: Moment) -> float | None:
        if moment.energy is None:
            return None
        if moment.stage.index != self._stage:
            self._stage, self._first = moment.stage.index, moment.energy
        return moment.energy - self._first


def describe(moment: Moment, drift: float | None) -> str:
    """One line: where the run is, how fast, how long still, temperature, change of the energy where there is one."""
    record = moment.stage
    if moment.frame is not None:
        done, n_frames = moment.frame
        return (
            f"stage {record.index + 1} {record.kind}  {done / n_frames:4.0%}  frame {done:,} of {n_frames:,}  "
            f"step {moment.step:,}  {time_left(moment.seconds_left)}"
        )
    change = "" if drift is None else f"  ΔE {1e3 * drift:+.2f} meV/atom"
    return (
        f"stage {record.index + 1} {record.kind}  {moment.step / record.n_steps:4.0%}  "
        f"step {moment.step:,} of {record.n_steps:,}  {moment.ns_per_day:.3g} ns/day  "
        f"{time_left(moment.seconds_left)}  {moment.temperature:.0f} K{change}"
    )
