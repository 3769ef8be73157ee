"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from miclip.cli.specs import full_layer

DEFAULT_MODEL = "emoji-resnet"

Model = Annotated[str, typer.Option("--model", "-m", help="Target model, as `miclip status` lists them.")]
Local = Annotated[bool, typer.Option("--local", help="Answer in this process, without a server.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="Entries of each list.")]
_LAYER = {"parser": full_layer, "metavar": "LAYER"}
Layer = Annotated[
    str,
    typer.Option(
        "--layer", "-l", help="Layer, or LAYER@DICTIONARY; default: the last one before the logits.", **_LAYER
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", "-l", help="Layer, or LAYER@DICTIONARY; repeat for several, or `all`.", **_LAYER),
]
Reconstruct = Annotated[
    bool,
    typer.Option(
        "--reconstruct", help="Edit features in the dictionary's reconstruction, whose error is lost (the paper's way)."
    ),
]
Method = Annotated[str, typer.Option("--method", help="How units are ranked: attribution, filter, pattern or causal.")]
