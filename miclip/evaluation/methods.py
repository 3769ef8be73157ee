"""Every method's ranking of units for a class, and its label for a unit, from one atlas."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from miclip.atlas import UnitEmbedding
from miclip.evaluation import baselines
from miclip.retrieval import AtlasSearcher, LocalizationMethod

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SEARCHES: tuple[LocalizationMethod, ...] = ("filter", "pattern", "causal", "attribution")
EMBEDDINGS: tuple[UnitEmbedding, ...] = ("filter", "pattern", "causal")
METHODS = (
    "random", "shuffled", "mean_activation", "z_mean_activation", "clip_dissect", "semanticlens", *SEARCHES,
    "weight_x_activation", "oracle",
)  # fmt: skip
"""Controls, baselines, miclip's searches, and two that are told what no search knows: weights and predictions."""


class LayerMethods:
    """The methods on one layer of an atlas.

    Args:
        searcher: Of the atlas.
        layer: The layer.
        weight: float32 ``[K, d]`` where a last linear layer reads this one, else None.
        seed: Of the controls.

    Attributes:
        default: The unit embedding that miclip labels this layer's units by.
    """

    def __init__(self, searcher: AtlasSearcher, layer: str, weight: Float32 | None, seed: int) -> None:
        atlas, data = searcher.atlas, searcher.atlas.layer(layer)
        self._searcher, self._layer, self._weight, self._seed = searcher, layer, weight, seed
        self._texts = np.asarray(atlas.label_embeddings, np.float32)
        self._images = np.asarray(atlas.image_embeddings, np.float32)
        self._predicted = np.asarray(atlas.predicted, np.int64)
        self._activations = np.asarray(data.activations, np.float32)
        attributions = np.asarray(data.attributions, np.float32)
        self._driven = baselines.class_means(attributions, self._predicted, len(self._texts))
        self.default: str = data.entry.unit_embedding
        self._dissected = baselines.clip_dissect(self._activations, self._images, self._texts)
        self._lensed = baselines.semantic_lens(self._activations, self._images, self._texts)

    def rankings(self, top: int) -> dict[str, Int64]:
        """Return each method's units for every class name, best first, int64 ``[K, ≥ top]``."""
        classes, units = self._driven.shape
        scores = {
            "random": baselines.random_scores(classes, units, self._seed),
            "mean_activation": baselines.class_means(self._activations, self._predicted, classes),
            "z_mean_activation": baselines.z_mean_activation(self._activations, self._predicted, classes),
            "clip_dissect": self._dissected,
            "semanticlens": self._lensed,
            "oracle": self._driven,
        }
        if self._weight is not None:
            scores["weight_x_activation"] = baselines.weight_times_activation(
                self._weight, self._activations, self._predicted
            )
        found = {name: baselines.ranking(matrix) for name, matrix in scores.items()}
        found |= {method: self._searched(method, top) for method in SEARCHES}
        found["shuffled"] = found["attribution"][np.random.default_rng(self._seed).permutation(classes)]
        return {name: found[name] for name in METHODS if name in found}

    def labels(self) -> dict[str, Int64]:
        """Return each labelling method's class for every unit, int64 ``[d]``."""
        found: dict[str, Int64] = {kind: self._described(kind) for kind in EMBEDDINGS}
        return {**found, "clip_dissect": self._dissected.argmax(axis=0), "semanticlens": self._lensed.argmax(axis=0)}

    def abstained(self) -> NDArray[np.bool_]:
        """Which units miclip's default label abstains on, ``[d]``."""
        units = range(self._driven.shape[1])
        found = self._searcher.describe(self._layer, units, self._searcher.labels, top_k=1)
        return np.array([unit.abstained for unit in found])

    def driven(self, top: int) -> Int64:
        """Return the classes that each unit drives most, by class-mean attribution, int64 ``[d, top]``."""
        return np.argsort(-self._driven, axis=0, kind="stable")[:top].T.astype(np.int64)

    def _searched(self, method: LocalizationMethod, top: int) -> Int64:
        hits = self._searcher.localize(self._texts, [self._layer], top_k=top, method=method)
        return np.array([[hit.unit for hit in query.units] for query in hits], dtype=np.int64)

    def _described(self, kind: UnitEmbedding) -> Int64:
        units = range(self._driven.shape[1])
        found = self._searcher.describe(self._layer, units, self._searcher.labels, top_k=1, kind=kind)
        return np.array([unit.concepts[0].index for unit in found], dtype=np.int64)


def last_weight(network: nn.Module, classes: int, units: int) -> Float32 | None:
    """Return the weight ``[K, d]`` of the linear layer that gives the logits from ``units``, or None."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].weight.shape != (classes, units):
        return None
    weight: Float32 = linear[-1].weight.detach().float().cpu().numpy()
    return weight
