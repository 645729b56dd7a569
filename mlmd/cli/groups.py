"""Groups of commands: imported when they are called, and a wrong name is answered with the closest one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from mlmd.errors import did_you_mean


class Group(click.Group):
    """A group that answers an unknown command with the closest known one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that the first argument names."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise click.UsageError(f"{args[0]!r} is not a command. {did_you_mean(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group whose commands are imported when they are called, so that help answers at once."""

    def __init__(self, name: str | None = None, *, commands: Mapping[str, tuple[str, str]], **rest: Any) -> None:
        """From a table: name -> ``"module:command"`` and a line of help."""
        super().__init__(name, **rest)
        self.table = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return it."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The names and lines of the table: nothing is imported to print them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])
