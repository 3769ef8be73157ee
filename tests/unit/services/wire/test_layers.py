"""The layers that a request names: one way to refuse them, whichever service is asked."""

from __future__ import annotations

import pytest

from miclip.errors import InvalidInput, NotFound
from services.wire.layers import layer_of, layers_of, parse_layers

KNOWN = {"a": 1, "b": 2}
A, B, C, OTHER = (f"models/{name}" for name in ("m/layers/a", "m/layers/b", "m/layers/c", "x/layers/a"))


def test_layers_come_in_the_order_of_the_request() -> None:
    assert layers_of([B, A], "m", KNOWN) == ("b", "a")
    assert layer_of(A, "m", KNOWN, field="edits[0].layer") == "a"


@pytest.mark.parametrize(
    ("names", "error", "field", "allowed"),
    [
        ([A, OTHER], InvalidInput, "layers[1]", "a, b"),
        ([A, B, A], InvalidInput, "layers[2]", "each layer once"),
        ([C], NotFound, "layers[0]", "a, b"),
    ],
)
def test_a_layer_that_cannot_be_meant_is_named(
    names: list[str], error: type[InvalidInput | NotFound], field: str, allowed: str
) -> None:
    with pytest.raises(error) as caught:
        layers_of(names, "m", KNOWN)
    assert (caught.value.field, caught.value.allowed) == (field, allowed)


def test_no_more_is_read_than_is_asked_for() -> None:
    names = parse_layers([A, OTHER], "m")
    assert next(names)[0] == "layers[0]"
    with pytest.raises(InvalidInput, match="not a layer of models/m"):
        next(names)
