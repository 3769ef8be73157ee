"""What a search of an atlas refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas
from miclip.errors import InvalidInput
from miclip.settings import settings


def check_units(atlas: Atlas, layer: str, units: Sequence[int]) -> NDArray[np.int64]:
    """Return unit numbers as int64 ``[n]``; raises InvalidInput for one that the layer does not have."""
    size = atlas.layer(layer).entry.units
    for place, unit in enumerate(units):
        if not 0 <= unit < size:
            raise InvalidInput(
                f"units[{place}] is {unit}; layer {layer} has units 0 to {size - 1}.",
                field=f"units[{place}]",
                allowed=f"0 to {size - 1}",
            )
    return np.asarray(units, np.int64)


def check_layers(atlas: Atlas, layers: Sequence[str]) -> Sequence[str]:
    """Return the layers to search, the atlas's default one for none; raises InvalidInput or NotFound."""
    if len(set(layers)) != len(layers):
        raise InvalidInput("A layer is listed twice.", field="layers", allowed="each layer once")
    searched = layers or (atlas.default_layer,)
    for layer in searched:
        atlas.layer(layer)
    return searched


def check_top_k(top_k: int) -> int:
    """Return the number of results; raises InvalidInput beyond the limit of the settings."""
    limit = settings().max_top_k
    if not 1 <= top_k <= limit:
        raise InvalidInput(f"top_k is {top_k}; 1 to {limit} is allowed.", field="top_k", allowed=f"1 to {limit}")
    return top_k
