"""``miclip demo``: the bundled world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from miclip.cli import output
from miclip.cli.progress import progress_bar

app = typer.Typer(cls=output.Commands, no_args_is_help=True, help="The bundled models, images and atlases.")

Directory = Annotated[Path, typer.Option("--directory", help="Keeps packages, pixels and checkpoints of the build.")]


@app.command()
def build(directory: Directory = Path(".demo-build"), as_json: output.Json = False) -> None:
    """Rebuild the bundled world: render the drawings, train CLIP and two targets, align them, write the assets.

    Needs the extra `build` and the npm registry; takes an hour on two cores. Ctrl-C keeps what is done.
    """
    from miclip.demo.build import build as run

    try:
        with progress_bar() as report:
            manifest = run(directory, report)
    except KeyboardInterrupt:
        output.note("Stopped. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    output.emit(manifest, as_json, lambda: output.out.print(json.dumps(manifest, indent=1), markup=False))
