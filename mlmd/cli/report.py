"""``mlmd report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page [default: RUN].")
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON, and nothing else.")
def report(run: Path, out: Path | None, as_json: bool) -> None:
    """Write RUN/report.html: one page that needs no other file.

    It shows the analyses that the input asks for, and those that have been done.
    """
    import json

    from mlmd.report import write_report
    from mlmd.rundir import open_run

    path = write_report(open_run(run), out)
    click.echo(json.dumps({"report": str(path)}) if as_json else f"Report: {path}")
