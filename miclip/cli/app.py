"""The ``miclip`` program."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from miclip.cli import key, output, picture, sae, steer
from miclip.cli.align import align
from miclip.cli.describe import describe
from miclip.cli.evaluate import evaluate
from miclip.cli.localize import localize
from miclip.cli.predict import predict
from miclip.cli.report import report
from miclip.cli.server import serve, status, stop
from miclip.cli.tour import tour
from miclip.cli.trace import trace
from miclip.cli.versions import version

# Locals of a traceback can hold the API key: never show them.
app = typer.Typer(
    cls=output.Commands,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "The server": (serve, stop, status),
    "Ask": (tour, describe, localize, predict, trace),
    "Make and measure": (align, evaluate, report),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(key.app, name="key", rich_help_panel="The server")
app.add_typer(steer.app, name="steer", rich_help_panel="Ask")
app.add_typer(picture.app, name="picture", rich_help_panel="Ask")
app.add_typer(sae.app, name="sae", rich_help_panel="Make and measure")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version())
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")]


@app.callback()
def top(_version: Version = False) -> None:
    """Say what the units of a vision model mean, find the units of a concept, and steer the model while it serves."""


def main() -> None:
    """Run the program; Ctrl-C ends it with exit code 130."""
    for stream in (sys.stdout, sys.stderr):  # of a terminal that has no ×: better a question mark than no answer
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
