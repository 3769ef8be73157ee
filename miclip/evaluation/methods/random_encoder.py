"""Localisation that reads the mechanism, by the trained neuron encoder and by one that was never trained.

The default does not read it. Where it is read, the lead of the trained encoder over the other is what training adds.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, LayerAtlas
from miclip.evaluation.methods._data import LayerData
from miclip.evaluation.methods._method import Asked, Method
from miclip.evaluation.methods.searches import units_of
from miclip.retrieval.results import LocalizationMix
from miclip.retrieval.search import AtlasSearcher

MIX = LocalizationMix(mechanism=0.5, input=0.0, output=0.5)


class _RandomLayer:
    """A layer whose encoder has the weights that training begins with; all else is the layer's own."""

    def __init__(self, layer: LayerAtlas, dim: int, seed: int) -> None:
        self._layer, self._dim, self._seed = layer, dim, seed

    @cached_property
    def encoder(self) -> NDArray[np.float32]:
        """Normal weights on standardised activations, float32 ``[D, d]``."""
        spread = np.asarray(self._layer.std, np.float32)
        inverse = np.where(spread > 1e-6 * max(float(spread.max()), 1e-12), 1 / np.maximum(spread, 1e-12), 0)
        weights = np.random.default_rng(self._seed).standard_normal((self._dim, len(spread)), np.float32)
        return (weights * inverse).astype(np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class _RandomAtlas:
    """An atlas with such layers."""

    def __init__(self, atlas: Atlas, seed: int) -> None:
        self._atlas, self._seed, self._layers = atlas, seed, dict[str, _RandomLayer]()

    def layer(self, name: str) -> _RandomLayer:
        """Return a layer."""
        if name not in self._layers:
            layer = self._atlas.layer(name)
            self._layers[name] = _RandomLayer(layer, self._atlas.manifest.clip_dim, self._seed)
        return self._layers[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._atlas, name)


def _trained(data: LayerData, asked: Asked) -> NDArray[np.int64]:
    searcher: AtlasSearcher = data.once(MIX, lambda: AtlasSearcher(data.searcher.atlas, MIX))
    return units_of(searcher.localize(asked.texts, [data.layer], top_k=asked.top))


def _untrained(data: LayerData, asked: Asked) -> NDArray[np.int64]:
    def searcher() -> AtlasSearcher:
        return AtlasSearcher(cast(Atlas, _RandomAtlas(data.searcher.atlas, data.seed)), MIX)

    untrained: AtlasSearcher = data.once(_RandomAtlas, searcher)
    return units_of(untrained.localize(asked.texts, [data.layer], top_k=asked.top))


METHODS = (
    Method(
        "mechanism",
        "mechanism and label",
        "the text of a query",
        order=65,
        role="ours",
        rank=_trained,
        by_text_alone=True,
    ),
    Method(
        "random_encoder",
        "the same, untrained encoder",
        "the text of a query",
        order=66,
        rank=_untrained,
        by_text_alone=True,
    ),
)
