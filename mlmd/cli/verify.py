"""``mlmd verify`` and ``mlmd repair``: is a run folder whole, and what it would cost to make it so."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlmd.errors import StorageError


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.pass_context
def verify(ctx: click.Context, run: Path, as_json: bool) -> None:
    """Compare every file of the folder RUN with its manifest and its newest checkpoint. Writes nothing.

    Exit code 0: all is what it should be, or what a continued run mends by itself; 4: something is not.
    """
    from mlmd.engine.verify import verify as look

    found = look(run)
    if as_json:
        click.echo(json.dumps({
            "run": str(run), "ok": not found.problems, "state": found.run.manifest["state"], "step": found.step,
            "problems": found.problems, "excess": dict(found.excess), "checked": found.checked,
        }))  # fmt: skip
    else:
        for line in found.checked:
            click.echo(f"ok        {line}")
        for name, size in found.excess.items():
            click.echo(f"continues {name}: {size:,} bytes after the checkpoint, which the continued run writes anew")
        for line in found.problems:
            click.echo(f"WRONG     {line}")
    if found.problems:
        if not as_json:
            click.echo(f"What a repair would cost: mlmd repair {run}", err=True)
        ctx.exit(StorageError.exit_code)
    if not as_json:
        click.echo(f"{run} is consistent.")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do it; without this nothing is written.")
def repair(run: Path, yes: bool) -> None:
    """Cut the files of the folder RUN back to the newest checkpoint that all of them reach.

    Says what would go, and does it with --yes. What was written after that checkpoint is computed again when the run
    is continued.
    """
    from mlmd.engine.verify import plan_repair
    from mlmd.engine.verify import repair as do

    plan = plan_repair(run)
    if plan is None:
        click.echo(f"{run} needs no repair.")
        return
    for line in plan.lines:
        click.echo(line)
    if not yes:
        click.echo("Nothing was changed. To do it: --yes. A copy of the folder before it costs little.")
        return
    do(plan)
    click.echo("Done. The command that made the run continues it.")
