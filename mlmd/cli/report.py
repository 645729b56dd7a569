"""``mlmd report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the page [default: RUN; of several: here].")
@click.option("--json", "as_json", is_flag=True, help="Print the path as JSON, and nothing else.")
def report(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write RUN/report.html: one page that needs no other file.

    It shows the analyses that the input asks for, and those that have been done; with a methods paragraph, plots that
    zoom, and the structure. Several RUNs, or a folder of replicas, come beside each other on one page.
    """
    import json

    from mlmd.report import write_report_of

    path = write_report_of(runs, out)
    click.echo(json.dumps({"report": str(path)}) if as_json else f"Report: {path}")
