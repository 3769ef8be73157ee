"""The ``miclip`` program: its commands, none of which is imported before it is called."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import miclip
from miclip.cli.lazy import Entry, LazyCommands

_SERVER, _ASK, _MAKE = "The server", "Ask", "Make and measure"


class Program(LazyCommands):
    """The commands in the order of the help."""

    entries = (
        Entry("serve", "Start the four services and wait until all answer.", _SERVER, module="server"),
        Entry("stop", "End the server of this machine; running requests are finished first.", _SERVER, module="server"),
        Entry(
            "status",
            "Show the health of the services, the models with their atlases, and the policies.",
            _SERVER,
            module="server",
        ),
        Entry("key", "API keys of the server that runs here.", _SERVER, group=True),
        Entry("tour", "Take a short tour of what miclip does, on the bundled model.", _ASK),
        Entry(
            "describe",
            "Say what units mean: the concepts near them, ranked by what the unit does, "
            "and how far to trust the first.",
            _ASK,
        ),
        Entry("localize", "Find the units of concepts: which units carry what the text says.", _ASK),
        Entry("predict", "Classify images; with --steer, show the answer before and after side by side.", _ASK),
        Entry(
            "trace",
            "Follow an image through the model: at which layer a wrong concept takes over from the right one.",
            _ASK,
        ),
        Entry("steer", "Policies of the running server, and the kill switch.", _ASK, group=True),
        Entry(
            "vocabularies",
            "Vocabularies of a server: lists of concepts that units are described with.",
            _ASK,
            group=True,
        ),
        Entry("picture", "Draw units: their images, their map, their layer (miclip\\[plot]).", _ASK, group=True),
        Entry(
            "align",
            "Align a model: one pass over the images, then one linear encoder a layer, written as an atlas.",
            _MAKE,
        ),
        Entry(
            "models",
            "List the models of this machine: where each comes from, its layers, its atlas and its licence.",
            _MAKE,
        ),
        Entry(
            "layers",
            "List the layers of a model, with their units and shapes: of a known one, or of one not imported yet.",
            _MAKE,
        ),
        Entry(
            "atlases",
            "List the atlases of this machine: of which model, from which images, which are active, and their size.",
            _MAKE,
        ),
        Entry("rm", "Remove imported models or atlases from this machine, after asking.", _MAKE),
        Entry("evaluate", "Measure descriptions and interventions on images that labels are not made from.", _MAKE),
        Entry(
            "report",
            "Write the report of a saved evaluation: figures, verdicts in words, and pictures to judge labels by.",
            _MAKE,
        ),
        Entry("sae", "Dictionaries: train sparse autoencoders, import and list them.", _MAKE, group=True),
    )


# Locals of a traceback can hold the API key: never show them.
app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(miclip.__version__)
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
