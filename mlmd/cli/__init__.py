"""The command line: every verb parses, calls one library function and says where the results are."""

from __future__ import annotations

import os
import sys

import click

import mlmd
from mlmd.cli.groups import LazyGroup
from mlmd.cores import n_allowed, n_cores
from mlmd.errors import MlmdError, StorageError

COMMANDS: dict[str, tuple[str, str]] = {
    "simulate": ("mlmd.cli.simulate:simulate", "Run an input file; the same command again continues."),
    "train": ("mlmd.cli.train:train", "Fit a potential to labelled structures; the same command again continues."),
    "sweep": ("mlmd.cli.sweep:sweep", "Train every combination of some values, and compare accuracy and speed."),
    "status": ("mlmd.cli.replicas:status", "How far runs are: state, step, speed and temperature."),
    "check": ("mlmd.cli.check:check", "Validate inputs; estimate memory and time, and nothing is written."),
    "new": ("mlmd.cli.inspect:new", "Write a commented input file to start from."),
    "show": ("mlmd.cli.inspect:show", "What a file is: potential, structure, trajectory, checkpoint, run folder."),
    "models": ("mlmd.cli.inspect:list_models", "The potentials that come with mlmd."),
    "analyze": (
        "mlmd.cli.analyze:analyze",
        "Properties with error bars: diffusion, conductivity, structure, free energy.",
    ),
    "sample": ("mlmd.cli.sample:sample", "Independent frames of runs, to be labelled and learned from."),
    "select": ("mlmd.cli.select:select", "Of many structures those that are worth a label: farthest, CUR, MaxVol."),
    "label": ("mlmd.cli.sample:label", "Energies, forces and stresses of structures, by any calculator."),
    "describe": ("mlmd.cli.describe:describe", "Features of structures, by any descriptor, as NumPy arrays."),
    "evaluate": ("mlmd.cli.evaluate:evaluate", "Errors of a potential for labelled structures, with plots."),
    "energy": ("mlmd.cli.energy:energy", "Energy, forces and pressure of structures, by any potential."),
    "relax": ("mlmd.cli.energy:relax", "Move structures (and cells) downhill to where no force is left."),
    "elastic": ("mlmd.cli.elastic:elastic", "Elastic constants and the equation of state of crystals."),
    "phonons": ("mlmd.cli.phonons:phonons", "Phonon bands, density of states and thermodynamics of a crystal."),
    "predict": ("mlmd.cli.predict:predict", "A property of structures, by a model that has learned it."),
    "committee": ("mlmd.cli.committee:committee", "One potential of several: their mean, with a spread."),
    "export": (
        "mlmd.cli.export:export",
        "Write a potential for other programs: MLIP, LAMMPS, GPUMD, OpenMM, metatomic.",
    ),
    "report": ("mlmd.cli.report:report", "One self-contained HTML page about a run."),
    "verify": ("mlmd.cli.verify:verify", "Is every file of a run what its manifest and checkpoints say?"),
    "repair": ("mlmd.cli.verify:repair", "Cut a damaged run back to the newest checkpoint that its files reach."),
    "doctor": ("mlmd.cli.inspect:doctor", "The state of the installation."),
}


@click.group(cls=LazyGroup, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(mlmd.__version__, "-V", "--version", prog_name="mlmd")
def group() -> None:
    """Molecular dynamics with machine-learned interatomic potentials.

    Physics stands in the input file; flags say where and on what hardware.
    """


def threads_that_sleep() -> None:
    """Let threads of GNU's OpenMP, in torch and in the kernels, sleep soon when they wait for each other.

    By default they spin for about 10 ms. Where processes outnumber cores that keeps the thread waited for from running,
    and steps become ten times slower (`benchmarks/busy.py`); about 20 µs of it are enough to save the sleep where
    nothing else runs. OpenMP reads this once, when torch is imported; what the user has set stands.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


def threads_that_are_paid_for() -> None:
    """Let OpenMP begin no more threads than a container has time of cores for (`mlmd.cores`).

    It knows the cores of the machine alone, and threads beyond a quota stop all others for a part of every period.
    """
    if "OMP_NUM_THREADS" not in os.environ and (n := n_cores()) < n_allowed():
        os.environ["OMP_NUM_THREADS"] = str(n)


def main() -> None:
    """Entry point: runs a verb and turns errors into one message and an exit code."""
    threads_that_sleep()
    threads_that_are_paid_for()
    try:
        code = group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):  # the second one: on the way in or out of click
        click.echo("Interrupted.", err=True)
        code = 130
    except MlmdError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        click.echo(f"{StorageError.__name__}: {error.strerror or error}{place}", err=True)
        code = StorageError.exit_code
    except Exception:
        import traceback

        click.echo(traceback.format_exc(), err=True)
        click.echo("This is a bug in mlmd; the lines above say where. Please report them with your input.", err=True)
        code = MlmdError.exit_code
    sys.exit(code if isinstance(code, int) else 0)
