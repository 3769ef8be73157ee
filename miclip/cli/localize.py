"""``miclip localize``: where concepts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miclip.cli import output
from miclip.cli.backend import Backend, default_layer, neuron_layers
from miclip.cli.connect import backend
from miclip.cli.evidence import seen_as, warn
from miclip.cli.options import DEFAULT_MODEL, Layers, Local, Method, Model, TopK
from miclip.cli.photos import named, read_image
from miclip.cli.specs import short_layer, short_unit
from miclip.errors import InvalidInput

if TYPE_CHECKING:
    from miclip.retrieval.results import Localization

Texts = Annotated[list[str] | None, typer.Argument(help='Concepts in any words: "dog", "something with wheels".')]
Pictures = Annotated[list[Path] | None, typer.Option("--image", help="Image, whose units to find; repeat for several.")]


def localize(
    concepts: Texts = None,
    images: Pictures = None,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    top_k: TopK = 5,
    method: Method = "attribution",
    local: Local = False,
    as_json: output.Json = False,
    as_csv: output.Csv = False,
) -> None:
    """Find the units of concepts: which units carry what the text says.

    With --image, which units carry what an image shows.

    Examples:
        miclip localize dog "something with wheels"

        miclip localize dog --layer layer3 --top-k 10

        miclip localize dog --layer layer4@topk-512

        miclip localize --image photo.png
    """
    texts, files = [text.strip() for text in concepts or []], images or []
    if not (texts or files):
        raise typer.BadParameter("Name a concept, or an --image.")
    if "" in texts:
        raise InvalidInput("The concept is empty. Name one in words.", field="CONCEPTS")
    pictures = [read_image(file) for file in files]
    with backend(local) as service, named(files):
        where = search_layers(service, model, layers or [])
        result = service.localize(texts, images=pictures, model=model, layers=where, top_k=top_k, method=method)
    names = [*texts, *map(str, files)]  # an answer about an image has no concept
    found = [replace(each, concept=name) for each, name in zip(result.localizations, names, strict=True)]
    output.emit(found, as_json, lambda: show(found, where), csv_sheet(found) if as_csv else None)


def search_layers(service: Backend, model: str, layers: Sequence[str]) -> list[str]:
    """Return the layers to search: those named, all of neurons for ``all``, the last before the logits for none."""
    if "all" in layers:
        if len(layers) > 1:
            raise InvalidInput("--layer: `all` stands alone; leave out the other layers.", field="--layer")
        return neuron_layers(service.get_model(model))
    return list(layers) or [default_layer(service.get_model(model))]


def csv_sheet(localizations: Sequence[Localization]) -> output.Sheet:
    """Return one row a unit of a concept."""
    rows = [
        (each.concept, rank, short_unit(unit.name), unit.score, each.method, each.evidence and each.evidence.doubtful)
        for each in localizations
        for rank, unit in enumerate(each.units, 1)
    ]
    return output.Sheet(("concept", "rank", "unit", "score", "method", "doubtful"), rows)


def show(localizations: Sequence[Localization], layers: Sequence[str]) -> None:
    """Print localizations, one table a concept."""
    where = ", ".join(map(short_layer, layers))
    for place, localization in enumerate(localizations):
        if place:
            output.out.print()
        attributed = localization.method == "attribution"
        several = attributed and len(layers) > 1
        scale = "attribution, in logits" if attributed else "cosine"
        title = f'Where {localization.model} keeps "{localization.concept}"'
        table = output.table(">rank", "unit", ">score", *([">of its layer"] if several else []))
        for rank, unit in enumerate(localization.units, 1):
            share = [f"{100 * unit.share:.1f} %"] if several else []
            table.add_row(str(rank), output.text(short_unit(unit.name)), output.number(unit.score), *share)
        evidence = localization.evidence
        source = f" · from images taken for {seen_as(evidence)}" if evidence else ""
        output.show(title, table, f"searched {where} · score: {scale}{source}")
        warn(localization.concept, evidence)
