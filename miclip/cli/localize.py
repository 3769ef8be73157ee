"""``miclip localize``: where concepts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from miclip.cli import output
from miclip.cli.answers import Backend, Localization, default_layer, neuron_layers
from miclip.cli.connect import backend
from miclip.cli.evidence import seen_as, warn
from miclip.cli.options import DEFAULT_MODEL, Layers, Local, Method, Model, TopK
from miclip.cli.specs import short_layer, short_unit
from miclip.errors import InvalidInput
from miclip.names import parse_unit

Texts = Annotated[list[str], typer.Argument(help='Concepts in any words: "dog", "something with wheels".')]


def localize(
    concepts: Texts,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    top_k: TopK = 5,
    method: Method = "attribution",
    local: Local = False,
    as_json: output.Json = False,
) -> None:
    """Find the units of concepts: which units carry what the text says.

    Examples:
        miclip localize dog "something with wheels"

        miclip localize dog --layer layer3 --top-k 10

        miclip localize dog --layer layer4@topk-512
    """
    with backend(local) as service:
        where = search_layers(service, model, layers or [])
        answers = service.localize(model, concepts, layers=where, top_k=top_k, method=method)
    output.emit(answers, as_json, lambda: show(answers, where))


def search_layers(service: Backend, model: str, layers: Sequence[str]) -> list[str]:
    """Return the layers to search: those named, all of neurons for ``all``, the last before the logits for none."""
    if "all" in layers:
        if len(layers) > 1:
            raise InvalidInput("--layer: `all` stands alone; leave out the other layers.", field="--layer")
        return neuron_layers(service.model(model))
    return list(layers) or [default_layer(service.model(model))]


def show(answers: Sequence[Localization], layers: Sequence[str]) -> None:
    """Print localizations, one table a concept."""
    where = ", ".join(map(short_layer, layers))
    for answer in answers:
        unit = "attribution, in logits" if answer["method"] == "attribution" else "cosine"
        title = f'Where {answer["model"]} keeps "{answer["concept"]}"'
        shown = output.table(">rank", "unit", ">score")
        for rank, located in enumerate(answer["units"], 1):
            name = short_unit(parse_unit(located["unit"]))
            shown.add_row(str(rank), output.text(name), output.number(located["score"]))
        evidence = answer["evidence"]
        source = f" · from images taken for {seen_as(evidence)}" if evidence else ""
        output.show(title, shown, f"searched {where} · score: {unit}{source}")
        warn(answer["concept"], evidence)
