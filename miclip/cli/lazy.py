"""Commands that are imported when they are called: listing or completing them imports none."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from miclip.cli.output import Commands, unwrapped


@dataclass(frozen=True)
class Entry:
    """A command of the program, as its help lists it."""

    name: str
    help: str
    """The first paragraph of the command's own help."""
    panel: str
    """Under which heading it is listed."""
    module: str = ""
    """Module of ``miclip.cli`` with a function of the command's name; default the command's name."""
    group: bool = False
    """Whether the module holds further commands, as the Typer ``app``."""


class LazyCommands(Commands):
    """A group that knows its commands by their entries, and imports the one that is called."""

    entries: ClassVar[tuple[Entry, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for entry in self.entries:
            self.add_command(TyperCommand(entry.name, help=entry.help, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, as click does; import it."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = next((entry for entry in self.entries if entry.name == name), None)
        return name, load(entry) if entry else command, rest


def load(entry: Entry) -> Any:
    """Import a command; returns it as click runs it."""
    module = import_module(f"miclip.cli.{entry.module or entry.name}")
    if entry.group:
        command: Any = get_group(module.app)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(entry.name)(getattr(module, entry.name))
        command = get_command(alone)
    command.name, command.help = entry.name, unwrapped(command.help)
    return command
