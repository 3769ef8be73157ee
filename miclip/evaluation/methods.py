"""Every method's ranking of units for a query, and its label for a unit, from one atlas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import nn

from miclip.evaluation import baselines
from miclip.evaluation.queries import Query, coverage
from miclip.kinds import LocalizationMethod, UnitEmbedding
from miclip.retrieval.search import AtlasSearcher
from miclip.retrieval.vocabulary import Vocabulary

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

SEARCHES: tuple[LocalizationMethod, ...] = ("filter", "pattern", "causal", "attribution")
EMBEDDINGS: tuple[UnitEmbedding, ...] = ("filter", "pattern", "causal")
CONTROLS = ("random", "shuffled")
WHITE_BOX = ("weight_x_activation", "oracle")
"""Told what no search knows: weights, and what the model predicted for every image."""
DEFAULT = "attribution"
"""miclip's localisation."""
METHODS = (
    *CONTROLS, "mean_activation", "z_mean_activation", "clip_dissect", "semanticlens", "network_dissection", *SEARCHES,
    *WHITE_BOX,
)  # fmt: skip
"""Controls, baselines, miclip's searches, and the white boxes."""


class LayerMethods:
    """The methods on one layer of an atlas.

    A method that knows classes and no texts answers a query by the mean of its scores over the covered classes.

    Args:
        searcher: Of the atlas.
        layer: The layer, or a dictionary on one.
        weight: float32 ``[K, d]`` where a last linear layer reads this one, else None.
        seed: Of the controls.
        dissection: Network Dissection's scores ``[K, d]``, where there are masks.

    Attributes:
        live: Units that ever drive a prediction, ``[d]``.
    """

    def __init__(
        self,
        searcher: AtlasSearcher,
        layer: str,
        weight: Float32 | None,
        seed: int,
        dissection: Float32 | None = None,
    ) -> None:
        atlas, data = searcher.atlas, searcher.atlas.layer(layer)
        self._searcher, self._layer, self._seed = searcher, layer, seed
        self._names = np.asarray(atlas.label_embeddings, np.float32)
        self._images = np.asarray(atlas.image_embeddings, np.float32)
        self._activations = dense(data.activations)
        predicted, classes = np.asarray(atlas.predicted, np.int64), len(self._names)
        self._by_class = {
            "mean_activation": baselines.class_means(self._activations, predicted, classes),
            "z_mean_activation": baselines.z_mean_activation(self._activations, predicted, classes),
            "oracle": baselines.class_means(dense(data.attributions), predicted, classes),
        }
        if dissection is not None:
            self._by_class["network_dissection"] = dissection
        if weight is not None:
            shares = baselines.weight_times_activation(weight, self._activations, predicted)
            self._by_class["weight_x_activation"] = shares
        self.live: NDArray[np.bool_] = np.any(self._by_class["oracle"] != 0, axis=0)

    def rankings(self, queries: Sequence[Query], texts: Float32, top: int) -> dict[str, Int64]:
        """Return each method's units for every query, best first, int64 ``[Q, ≥ top]``.

        Args:
            queries: What is asked, Q at least 1.
            texts: The queries' CLIP text embeddings, normalised, float32 ``[Q, D]``.
            top: Units wanted.
        """
        classes, units = self._by_class["oracle"].shape
        shares = coverage(queries, classes)
        scores = {name: shares @ matrix for name, matrix in self._by_class.items()}
        scores["random"] = baselines.random_scores(len(queries), units, self._seed)
        scores["clip_dissect"] = baselines.clip_dissect(self._activations, self._images, texts)
        scores["semanticlens"] = baselines.semantic_lens(self._activations, self._images, texts, self._names)
        found = {name: baselines.ranking(matrix)[:, :top] for name, matrix in scores.items()}
        found |= {method: self._searched(texts, method, top) for method in SEARCHES}
        found["shuffled"] = found[DEFAULT][_others(len(queries), self._seed)]
        return {name: found[name] for name in METHODS if name in found}

    def trusted(self, texts: Float32) -> NDArray[np.bool_]:
        """Return which queries miclip's localisation does not doubt, ``[Q]``.

        Args:
            texts: The queries' CLIP text embeddings, float32 ``[Q, D]``.
        """
        found = self._searcher.localize(texts, [self._layer], top_k=1)
        return np.array([hit.evidence is not None and not hit.evidence.doubtful for hit in found])

    def labels(self, vocabulary: Vocabulary | None = None) -> dict[str, Int64]:
        """Return each labelling method's concept for every unit, int64 ``[d]``.

        Args:
            vocabulary: Concepts to choose from; default the model's labels, which Network Dissection alone is bound to.
        """
        concepts = vocabulary or self._searcher.labels
        texts = concepts.embeddings if vocabulary else self._names
        found: dict[str, Int64] = {kind: self._described(kind, concepts) for kind in EMBEDDINGS}
        found["clip_dissect"] = baselines.clip_dissect(self._activations, self._images, texts).argmax(axis=0)
        lensed = baselines.semantic_lens(self._activations, self._images, texts, self._names)
        found["semanticlens"] = lensed.argmax(axis=0)
        if vocabulary is None and "network_dissection" in self._by_class:
            found["network_dissection"] = self._by_class["network_dissection"].argmax(axis=0)
        return found

    def default_labels(self) -> tuple[Int64, NDArray[np.bool_]]:
        """Return miclip's own label of every unit, int64 ``[d]``, and on which units it does not abstain, ``[d]``."""
        found = self._searcher.describe(self._layer, self._units(), self._searcher.labels, top_k=1)
        labels = np.array([unit.concepts[0].index for unit in found], dtype=np.int64)
        return labels, np.array([not unit.abstained for unit in found])

    def driven(self, top: int) -> Int64:
        """Return the classes that each unit drives most, by class-mean attribution, int64 ``[d, top]``."""
        return np.argsort(-self._by_class["oracle"], axis=0, kind="stable")[:top].T.astype(np.int64)

    def _searched(self, texts: Float32, method: LocalizationMethod, top: int) -> Int64:
        hits = self._searcher.localize(texts, [self._layer], top_k=top, method=method)
        return np.array([[hit.unit for hit in query.units] for query in hits], dtype=np.int64)

    def _described(self, kind: UnitEmbedding, concepts: Vocabulary) -> Int64:
        found = self._searcher.describe(self._layer, self._units(), concepts, top_k=1, kind=kind)
        return np.array([unit.concepts[0].index for unit in found], dtype=np.int64)

    def _units(self) -> range:
        return range(len(self.live))


def _others(count: int, seed: int) -> Int64:
    """For each of ``count`` queries another one: the next on a random round through all."""
    order, others = np.random.default_rng(seed).permutation(count), np.empty(count, np.int64)
    others[order] = np.roll(order, 1)
    return others


def dense(values: NDArray[np.floating] | sparse.csr_array) -> Float32:
    """Return float32 ``[N, d]`` of what may be sparse, as the codes of a dictionary are."""
    return np.asarray(values.toarray() if isinstance(values, sparse.csr_array) else values, np.float32)


def last_weight(network: nn.Module, classes: int, units: int) -> Float32 | None:
    """Return the weight ``[K, d]`` of the linear layer that gives the logits from ``units``, or None."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].weight.shape != (classes, units):
        return None
    weight: Float32 = linear[-1].weight.detach().float().cpu().numpy()
    return weight
