"""The attribution store: which units drive what a query is about.

    score_i(c) = Σ_k softmax_k(s_k(c) / τ) · r_ik

A row ``k`` of the store is an output of the model, with the mean attribution ``r_ik`` of its margin to unit i on the
images that show it. Its relevance ``s_k(c)`` is a weighted mean of the cosines of the query with the images of the
output and with the text of its label; an output without a known name is compared by its images alone. A query by image
is answered by single probe images instead, and so are all queries of an atlas that does not know its outputs: row j is
then a probe image with the attribution of its prediction. The third part, the mechanism ``E_n(a)``, has a weight too.

The query is the same in all parts, so s is one inner product with the weighted mean of normalised vectors, and one
index finds the rows that carry the softmax's weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from miclip.atlas import Atlas, LayerAtlas, centre_texts, normalise
from miclip.errors import InvalidInput
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.results import LocalizationMix
from miclip.settings import settings

_BLOCK = 4096  # rows encoded at a time
_NEGLIGIBLE = 1e-7  # weight of a row, as a share of the heaviest


@dataclass(frozen=True)
class Gathering:
    """How a query's rows are weighed and gathered.

    Attributes:
        temperature: τ, above 0.
        rows: Probe rows gathered first.
        max_rows: Probe rows gathered at most; a store of no more is weighed whole, without a search.
        mass: Share of the softmax's weight that the gathered rows should carry, 0 to 1.
    """

    temperature: float
    rows: int
    max_rows: int
    mass: float


def usual_mix() -> LocalizationMix:
    """Return the mix of the settings."""
    config = settings()
    return LocalizationMix(
        config.localize_mechanism, config.localize_input, config.localize_output, config.localize_unnamed
    )


def gathering(temperature: float | None = None, rows: int | None = None) -> Gathering:
    """Return how probe rows are gathered, by the settings where nothing else is said; raises InvalidInput."""
    config = settings()
    tau = config.temperature if temperature is None else temperature
    if not 1e-3 <= tau <= 10:
        raise InvalidInput(f"temperature is {tau}; 0.001 to 10 is allowed.", field="temperature", allowed="0.001 to 10")
    first = config.localize_rows if rows is None else rows
    return Gathering(tau, first, max(first, config.localize_max_rows), config.localize_mass)


class Weighed(NamedTuple):
    """Probe rows and what they weigh for one query.

    Attributes:
        rows: The rows, in the order of the store, int64 [n].
        weights: Their softmax, float32 [n], of sum 1.
        mass: Least share of all rows' weight that these carry, 0 to 1; exactly 1 when none that weighs was left out.
        relevance: Mean relevance s_j of the rows under the weights, -1 to 1.
    """

    rows: NDArray[np.int64]
    weights: NDArray[np.float32]
    mass: float
    relevance: float


class AttributionStore:
    """Attributions of one layer, found by the meaning of its rows. Immutable; safe to share between threads.

    Args:
        relevance: What every row is about [N, D]: see ``output_vectors`` and ``relevance_vectors``.
        attributions: Attribution of every unit in every row [N, d] of any float dtype, in logits; may be sparse.
        labels: The output that every row is about, int64 [N].
    """

    def __init__(
        self,
        relevance: NDArray[np.float32],
        attributions: NDArray[np.floating] | csr_array,
        labels: NDArray[np.integer],
    ) -> None:
        self._attributions, self.labels = attributions, np.asarray(labels, np.int64)
        self._index = VectorIndex(relevance)

    def scores(self, weighed: Weighed) -> NDArray[np.float32]:
        """Score all units of the layer, float32 [d] in logits, by rows that were weighed for a query."""
        gathered = self._attributions[weighed.rows].astype(np.float32)
        scores: NDArray[np.float32] = gathered.T @ weighed.weights if issparse(gathered) else weighed.weights @ gathered
        return scores

    def scores_of(
        self, query: NDArray[np.float32], units: Sequence[int] | NDArray[np.int64], how: Gathering
    ) -> NDArray[np.float32]:
        """Score some units for one query: float32 [n] in logits; a unit's score does not depend on the others."""
        weighed = self.weigh(query, how)
        chosen = self._attributions[np.ix_(weighed.rows, np.asarray(units))].astype(np.float32)
        gathered = chosen.toarray() if issparse(chosen) else chosen
        # One dot product a unit: unlike a matrix product, its last bit does not depend on the other units.
        scores: NDArray[np.float32] = np.vecdot(np.ascontiguousarray(gathered.T), weighed.weights)
        return scores

    def weigh(self, query: NDArray[np.float32], how: Gathering) -> Weighed:
        """Weigh the probe rows by what a centred, normalised query [D] says of them."""
        if self._index.size <= how.max_rows:
            return _weights_of_all(self._index.scores(query), how)
        gathered = min(how.rows, self._index.size)
        while True:
            found, places = self._index.search(query[None], gathered)
            weights, kept = _softmax(found[0], how.temperature, self._index.size - gathered)
            if kept >= how.mass or gathered >= min(how.max_rows, self._index.size):
                break
            gathered = min(4 * gathered, how.max_rows, self._index.size)
        order = np.argsort(places[0])  # the memory map is read front to back
        relevance = float(weights @ found[0])
        return Weighed(places[0][order], weights[order], kept, relevance)

    def relevances(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return s_j(c) of every centred query [Q, D] and probe row, float32 [Q, N], without a search."""
        return self._index.products(queries)

    def recall(self, queries: NDArray[np.float32], rows: int) -> float:
        """Share of the probe rows most relevant to centred queries [Q, D] that the index finds, 0 to 1."""
        return self._index.recall(queries, rows)


def knows_outputs(atlas: Atlas, layer: str) -> bool:
    """Whether an atlas says what the model's outputs look like, and what drives them in a layer."""
    return atlas.output_embeddings is not None and atlas.layer(layer).output_effects is not None


def output_store(atlas: Atlas, layer: str, mix: LocalizationMix) -> AttributionStore:
    """Return the store of a layer whose rows are the model's outputs, of an atlas that knows them."""
    effects = atlas.layer(layer).output_effects
    assert effects is not None
    return AttributionStore(output_vectors(atlas, layer, mix), effects, np.arange(len(effects)))


def row_store(atlas: Atlas, layer: str, mix: LocalizationMix) -> AttributionStore:
    """Return the store of a layer whose rows are probe images."""
    return AttributionStore(relevance_vectors(atlas, layer, mix), atlas.layer(layer).attribution_rows, atlas.predicted)


def output_vectors(atlas: Atlas, layer: str, mix: LocalizationMix) -> NDArray[np.float32]:
    """Return v [K, D] with ``s_k(c) = v_k · c`` for every centred, normalised query c.

    Args:
        atlas: One that knows its outputs.
        layer: The layer whose mechanism counts, where the mix weighs it.
        mix: Weights of the three parts, and what counts for outputs without a known name.
    """
    assert atlas.output_embeddings is not None
    images = np.asarray(atlas.output_embeddings, np.float32)
    mechanism = None
    if mix.mechanism:
        rows = mechanism_embeddings(atlas.layer(atlas.layer(layer).entry.base))
        mechanism = np.zeros_like(images)
        np.add.at(mechanism, np.asarray(atlas.predicted), rows)
    vectors = mix_outputs(mix, images, centre_texts(atlas.label_embeddings, atlas.label_mean), mechanism)
    return np.where(atlas.named[:, None], vectors, mix.unnamed * images).astype(np.float32)


def mix_outputs(
    mix: LocalizationMix,
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    mechanism: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return what every output with a known name is about, float32 [K, D].

    Args:
        mix: Weights of the three parts.
        images: What the images of each look like, centred, of length 1 [K, D].
        texts: Its label, centred, of length 1 [K, D].
        mechanism: Sum of ``E_n(a)`` of the images predicted as it [K, D]; None counts as 0.
    """
    total = mix.mechanism + mix.input + mix.output
    vectors = ((mix.input * images + mix.output * texts) / total).astype(np.float32)
    if mechanism is not None:
        vectors += mix.mechanism / total * normalise(mechanism)
    return vectors


def relevance_vectors(atlas: Atlas, layer: str, mix: LocalizationMix) -> NDArray[np.float32]:
    """Return v [N, D] with ``s_j(c) = v_j · c`` for every centred, normalised query c."""
    mechanism = mechanism_embeddings(atlas.layer(atlas.layer(layer).entry.base))
    return mix_relevance(mix, mechanism, atlas.image_embeddings, atlas.label_embeddings, atlas.predicted)


def mix_relevance(
    mix: LocalizationMix,
    mechanism: NDArray[np.float32],
    images: NDArray[np.floating],
    labels: NDArray[np.float32],
    predicted: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Return what every probe row is about, float32 [N, D].

    Each part is centred by its own mean, which takes out what separates texts from images, and normalised.

    Args:
        mix: Weights of the three parts.
        mechanism: Normalised ``E_n(a_j)`` [N, D].
        images: ``E_i(x_j)`` [N, D].
        labels: ``E_c`` of the labels [K, D].
        predicted: Predicted label of every row [N].
    """
    total = mix.mechanism + mix.input + mix.output
    vectors = np.zeros(images.shape, np.float32)
    if mix.mechanism:
        vectors += mix.mechanism / total * mechanism
    if mix.input:
        exact = np.asarray(images, np.float32)
        vectors += mix.input / total * normalise(exact - exact.mean(axis=0))
    if mix.output:
        vectors += mix.output / total * centre_texts(labels, labels.mean(axis=0))[predicted]
    return vectors


def mechanism_embeddings(layer: LayerAtlas) -> NDArray[np.float32]:
    """Return z [N, D]: every probe row's activation, centred, through the neuron encoder, of length 1."""
    rows = layer.activations
    return np.concatenate([encode_activations(layer, rows[at : at + _BLOCK]) for at in range(0, len(rows), _BLOCK)])


def encode_activations(layer: LayerAtlas, activations: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return z [N, D] of pooled activations [N, d]: centred, through the neuron encoder, of length 1."""
    return normalise((activations.astype(np.float32) - layer.centre) @ layer.encoder.T)


def _weights_of_all(scores: NDArray[np.float32], how: Gathering) -> Weighed:
    """Weigh all rows; beyond ``how.rows``, rows of no weight are left out."""
    powers = np.exp((scores.astype(np.float64) - scores.max()) / how.temperature)
    rows = np.flatnonzero(powers > (_NEGLIGIBLE if len(powers) > how.rows else -1.0))
    kept = powers[rows]
    total = kept.sum()
    weights, mass = (kept / total).astype(np.float32), float(total / powers.sum()) if len(rows) < len(powers) else 1.0
    return Weighed(rows, weights, mass, float(weights @ scores[rows]))


def _softmax(scores: NDArray[np.float32], temperature: float, left_out: int) -> tuple[NDArray[np.float32], float]:
    """Weights of the kept rows, and their least share of all: rows left out score no more than the last kept."""
    powers = np.exp((scores.astype(np.float64) - scores[0]) / temperature)
    total = powers.sum()
    return (powers / total).astype(np.float32), float(total / (total + left_out * powers[-1]))
