"""``mlmd verify`` and ``mlmd repair``: is a run folder whole, and what it would cost to make it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlmd.errors import StorageError

if TYPE_CHECKING:
    from mlmd.engine.verify import Verdict
    from mlmd.engine.verify_replicas import Verdicts


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
@click.pass_context
def verify(ctx: click.Context, run: Path, as_json: bool) -> None:
    """Compare every file of the folder RUN with its manifest and its newest checkpoint. Writes nothing.

    RUN may be a folder of replicas. Exit code 0: all is what it should be, or what a continued run mends by itself;
    4: something is not.
    """
    from mlmd.engine.verify import verify as look
    from mlmd.engine.verify_replicas import has_replicas, verify_replicas

    if has_replicas(run):
        all_found = verify_replicas(run)
        sound, content = all_found.sound, _replicas_json(run, all_found)
        lines = _replicas_lines(all_found)
    else:
        found = look(run)
        sound, content, lines = not found.problems, {"run": str(run), **_json(found)}, _lines(found)
    if as_json:
        click.echo(json.dumps(content))
    else:
        for line in lines:
            click.echo(line)
    if not sound:
        if not as_json and not has_replicas(run):
            click.echo(f"What a repair would cost: mlmd repair {run}", err=True)
        ctx.exit(StorageError.exit_code)
    if not as_json:
        click.echo(f"{run} is consistent.")


def _json(found: Verdict) -> dict[str, Any]:
    return {
        "ok": not found.problems, "state": found.run.manifest["state"], "step": found.step,
        "problems": found.problems, "excess": dict(found.excess), "checked": found.checked,
    }  # fmt: skip


def _lines(found: Verdict, name: str = "") -> list[str]:
    """Of one run; the name is that of a replica, with a colon."""
    continued = (
        f"continues {name}{file}: {size:,} bytes after the checkpoint, which the continued run writes anew"
        for file, size in found.excess.items()
    )
    checked = (f"ok        {name}{line}" for line in found.checked)
    return [*checked, *continued, *(f"WRONG     {name}{line}" for line in found.problems)]


def _replicas_json(folder: Path, found: Verdicts) -> dict[str, Any]:
    return {
        "run": str(folder), "ok": found.sound, "problems": found.problems, "checked": found.checked,
        "waiting": found.waiting, "replicas": {name: _json(one) for name, one in found.replicas.items()},
    }  # fmt: skip


def _replicas_lines(found: Verdicts) -> list[str]:
    lines = [line for name, one in found.replicas.items() for line in _lines(one, f"{name}: ")]
    lines += [f"waits     {name} has not begun" for name in found.waiting]
    return [*lines, *(f"ok        {line}" for line in found.checked), *(f"WRONG     {line}" for line in found.problems)]


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
