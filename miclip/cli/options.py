"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_MODEL = "emoji-resnet"

Model = Annotated[str, typer.Option("--model", "-m", help="Target model, as `miclip status` lists them.")]
Local = Annotated[bool, typer.Option("--local", help="Answer in this process, without a server.")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, max=1000, help="Entries of each list.")]
Layer = Annotated[str, typer.Option("--layer", "-l", help="Layer; default: the last one before the logits.")]
Layers = Annotated[
    list[str] | None, typer.Option("--layer", "-l", help="Layer to search; repeat for several, or `all`.")
]
Method = Annotated[str, typer.Option("--method", help="How units are ranked: attribution, filter, pattern or causal.")]
