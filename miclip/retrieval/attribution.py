"""The attribution store: which units carried the predictions on the probe images that show a query.

    score_i(c) = Σ_j softmax_j(s_j(c) / τ) · r_ij

``r_ij`` is unit i's attribution on probe row j. The relevance ``s_j(c)`` of row j is a weighted mean of the cosines of
the query with the row's mechanism ``E_n(a_j)``, its input ``E_i(x_j)`` and its output ``E_c(ĉ_j)``. The query is the
same in all three, so s_j is one inner product with the weighted mean of three normalised vectors, and one index finds
the rows that carry the softmax's weight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, LayerAtlas, centre_texts, normalise
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.results import LocalizationMix

_BLOCK = 4096  # rows encoded at a time


class AttributionStore:
    """Attributions of one layer, found by the meaning of the probe rows. Immutable; safe to share between threads.

    Args:
        atlas: The atlas.
        layer: Name of the layer.
        mix: Weights of mechanism, input and output.
    """

    def __init__(self, atlas: Atlas, layer: str, mix: LocalizationMix) -> None:
        self._attributions = atlas.layer(layer).attributions
        self._index = VectorIndex(relevance_vectors(atlas, layer, mix))

    def scores(
        self, query: NDArray[np.float32], temperature: float, *, rows: int, max_rows: int, mass: float
    ) -> tuple[NDArray[np.float32], float]:
        """Score all units of the layer for one query.

        Args:
            query: Centred, normalised query [D].
            temperature: τ, above 0.
            rows: Probe rows gathered first.
            max_rows: Probe rows gathered at most.
            mass: Share of the softmax's weight that the gathered rows should carry, 0 to 1.

        Returns:
            Scores [d] float32 in logits, and the least share of the softmax's weight that the gathered rows carried
            (exactly 1 when all rows were kept).
        """
        gathered = min(rows, self._index.size)
        while True:
            found, places = self._index.search(query[None], gathered)
            weights, kept = _softmax(found[0], temperature, self._index.size - gathered)
            if kept >= mass or gathered >= min(max_rows, self._index.size):
                break
            gathered = min(4 * gathered, max_rows, self._index.size)
        order = np.argsort(places[0])  # the memory map is read front to back
        return weights[order] @ self._attributions[places[0][order]].astype(np.float32), kept

    def recall(self, queries: NDArray[np.float32], rows: int) -> float:
        """Share of the probe rows most relevant to centred queries [Q, D] that the index finds, 0 to 1."""
        return self._index.recall(queries, rows)


def relevance_vectors(atlas: Atlas, layer: str, mix: LocalizationMix) -> NDArray[np.float32]:
    """Return v [N, D] with ``s_j(c) = v_j · c`` for every centred, normalised query c.

    Each part is centred by its own mean, which takes out what separates texts from images, and normalised.
    """
    total = mix.mechanism + mix.input + mix.output
    vectors = np.zeros(atlas.image_embeddings.shape, np.float32)
    if mix.mechanism:
        vectors += mix.mechanism / total * mechanism_embeddings(atlas.layer(layer))
    if mix.input:
        images = np.asarray(atlas.image_embeddings, np.float32)
        vectors += mix.input / total * normalise(images - images.mean(axis=0))
    if mix.output:
        vectors += mix.output / total * centre_texts(atlas.label_embeddings, atlas.label_mean)[atlas.predicted]
    return vectors


def mechanism_embeddings(layer: LayerAtlas) -> NDArray[np.float32]:
    """Return z [N, D]: every probe row's activation, centred, through the neuron encoder, of length 1."""
    rows = layer.activations
    return np.concatenate([encode_activations(layer, rows[at : at + _BLOCK]) for at in range(0, len(rows), _BLOCK)])


def encode_activations(layer: LayerAtlas, activations: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return z [N, D] of pooled activations [N, d]: centred, through the neuron encoder, of length 1."""
    return normalise((activations.astype(np.float32) - layer.centre) @ layer.encoder.T)


def _softmax(scores: NDArray[np.float32], temperature: float, left_out: int) -> tuple[NDArray[np.float32], float]:
    """Weights of the kept rows, and their least share of all: rows left out score no more than the last kept."""
    powers = np.exp((scores.astype(np.float64) - scores[0]) / temperature)
    total = powers.sum()
    return (powers / total).astype(np.float32), float(total / (total + left_out * powers[-1]))
