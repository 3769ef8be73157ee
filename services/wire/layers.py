"""The layers that a request names: of one model, each once, and there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from miclip.errors import InvalidInput, NotFound
from miclip.names import LayerName, parse_layer


def parse_layers(names: Sequence[str], model: str, known: Collection[str] = ()) -> Iterator[tuple[str, LayerName]]:
    """Yield the field and the layer of each name, all of ``model`` and each once; raises InvalidInput.

    As they are asked for: a reader that stops at the first layer there is not has read no more than there are. The
    layers that are ``known`` only say what is allowed.
    """
    layers: set[LayerName] = set()
    for place, name in enumerate(names):
        field = f"layers[{place}]"
        layer = _of_model(name, model, field, known)
        if layer in layers:
            raise InvalidInput(f"{field} is given twice.", field=field, allowed="each layer once")
        layers.add(layer)
        yield field, layer


def layers_of(names: Sequence[str], model: str, known: Collection[str]) -> tuple[str, ...]:
    """The layers' own names, in the order of the request, if all are among the model's ``known`` and each once.

    Raises:
        InvalidInput: a layer is of another model, or given twice.
        NotFound: the model has no such layer.
    """
    return tuple(_known(layer, known, field) for field, layer in parse_layers(names, model, known))


def layer_of(name: str, model: str, known: Collection[str], *, field: str) -> str:
    """The layer's own name, if it is one of the model's ``known``; raises InvalidInput or NotFound."""
    return _known(_of_model(name, model, field, known), known, field)


def no_layer(layer: LayerName, known: Collection[str], field: str) -> NotFound:
    """The error for a layer that its model does not have."""
    allowed = ", ".join(known)
    text = f"{field}: models/{layer.model} has no layer {layer.layer!r}; its layers are {allowed}."
    return NotFound(text, field=field, allowed=allowed)


def _of_model(name: str, model: str, field: str, known: Collection[str]) -> LayerName:
    layer = parse_layer(name, field=field)
    if layer.model != model:
        text = f"{field}: {name} is not a layer of models/{model}."
        raise InvalidInput(text, field=field, allowed=", ".join(known) or f"layers of models/{model}")
    return layer


def _known(layer: LayerName, known: Collection[str], field: str) -> str:
    if layer.layer not in known:
        raise no_layer(layer, known, field)
    return layer.layer
