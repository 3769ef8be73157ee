"""Unit → concepts: what units drive, what excites them, what they suppress, and how far to trust the first concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, null_statistics
from miclip.kinds import Ranking, UnitEmbedding
from miclip.retrieval._cache import Cache
from miclip.retrieval._checks import check_top_k, check_units
from miclip.retrieval.attribution import AttributionStore, gathering
from miclip.retrieval.effects import Effects, label_excitation, measure_effects
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.labels import Candidates, Kept, Lists, judge
from miclip.retrieval.results import Description
from miclip.retrieval.vocabulary import Vocabulary
from miclip.settings import settings

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_KEPT = 8  # vocabularies, and tables of effects
_NULLS_KEPT = 256
_TABLE = 2048  # concepts of a vocabulary whose effects on a whole layer are computed once
_BLOCK = 256  # concepts scored at a time


@dataclass(frozen=True)
class Describer:
    """Descriptions of an atlas's units. Safe to share between threads.

    Attributes:
        atlas: The atlas.
        labels: The model's labels as a vocabulary.
        embedding: Layer and kind → embeddings of its units, normalised ``[d, D]``.
        store: Layer → its attribution store for texts.
        centre: Embeddings of texts → centred, normalised.
    """

    atlas: Atlas
    labels: Vocabulary
    embedding: Callable[[str, UnitEmbedding], Float32]
    store: Callable[[str], AttributionStore]
    centre: Callable[[NDArray[np.floating]], Float32]
    _vocabularies: Cache[VectorIndex] = field(default_factory=lambda: Cache(_KEPT))
    _nulls: Cache[Float32] = field(default_factory=lambda: Cache(_NULLS_KEPT))
    _tables: Cache[Effects] = field(default_factory=lambda: Cache(_KEPT))
    _excitations: Cache[Float32] = field(default_factory=Cache)

    def warm(self, layer: str) -> None:
        """Compute what descriptions of a layer by the model's labels need."""
        self._vocabulary(self.labels)
        if len(self.labels.concepts) <= _TABLE:
            self._table(layer, self.labels)

    def describe(
        self, layer: str, units: Sequence[int], vocabulary: Vocabulary, top_k: int, kind: UnitEmbedding | None
    ) -> list[Description]:
        """See ``AtlasSearcher.describe``."""
        record = self.atlas.layer(layer)
        chosen = kind or record.entry.unit_embedding
        places = check_units(self.atlas, layer, units)
        count = min(check_top_k(top_k), len(vocabulary.concepts))
        null = record.null_contrast if kind is None else None
        ranking: Ranking = "cosine" if null is None else "causal_score"
        shortlist = settings().describe_shortlist if ranking == "causal_score" else 0
        vectors = self.embedding(layer, chosen)[places]
        _, found = self._vocabulary(vocabulary).search(vectors, max(count, shortlist, 2))
        nearest = self._candidates(layer, vocabulary, places, vectors, found).ranked(shortlist)
        by_name = vocabulary.fingerprint == self.labels.fingerprint
        named = by_name and kind is None and record.entry.kind == "logits"
        if named:
            nearest = self._candidates(layer, vocabulary, places, vectors, nearest.led_by(places))
        null = self._null(layer, chosen, vocabulary) if null is None else null
        lists = Lists(
            nearest, self._active_for(layer, vocabulary, places, vectors, count),
            self._suppressed(layer, vocabulary, places, vectors, count),
        )  # fmt: skip
        return judge(self.atlas, layer, lists, vocabulary, Kept(count, chosen, ranking, null, by_name, named))

    def _active_for(self, layer: str, vocabulary: Vocabulary, units: Int64, vectors: Float32, count: int) -> Candidates:
        """Concepts on which units are most active, strongest first."""
        if len(vocabulary.concepts) <= _TABLE:
            active = self._table(layer, vocabulary).active[:, units].T
            found = np.argsort(-active, axis=1, kind="stable")[:, :count]
        else:
            patterns = self.embedding(layer, "pattern")[units]
            _, found = self._vocabulary(vocabulary).search(patterns, max(count, settings().describe_shortlist))
        return self._candidates(layer, vocabulary, units, vectors, found).by_activation(count)

    def _suppressed(self, layer: str, vocabulary: Vocabulary, units: Int64, vectors: Float32, count: int) -> Candidates:
        """Concepts whose logits units lower most, strongest first."""
        if len(vocabulary.concepts) <= _TABLE:
            causal = self._table(layer, vocabulary).causal[:, units].T
            found = np.argsort(causal, axis=1, kind="stable")[:, :count]
        else:
            opposite = -self.embedding(layer, "causal")[units]
            _, found = self._vocabulary(vocabulary).search(opposite, max(count, settings().describe_shortlist))
        return self._candidates(layer, vocabulary, units, vectors, found).by_suppression(count)

    def _candidates(
        self, layer: str, vocabulary: Vocabulary, units: Int64, vectors: Float32, concepts: Int64
    ) -> Candidates:
        """Score concepts ``[n, m]`` of units ``[n]``; each concept is weighed once."""
        wanted, at = np.unique(concepts, return_inverse=True)
        at = at.reshape(concepts.shape)
        texts = self.centre(vocabulary.embeddings[wanted])
        cosines = np.vecdot(vectors[:, None], texts[at])
        rows = units[:, None]
        if len(vocabulary.concepts) <= _TABLE:
            table = self._table(layer, vocabulary)
            return Candidates(units, concepts, cosines, table.causal[concepts, rows], table.active[concepts, rows])
        causal, active = np.empty(concepts.shape, np.float32), np.empty(concepts.shape, np.float32)
        for start in range(0, len(wanted), _BLOCK):
            block = self._effects(layer, texts[start : start + _BLOCK])
            unit, place = np.nonzero((at >= start) & (at < start + _BLOCK))
            which = at[unit, place] - start
            causal[unit, place] = block.causal[which, units[unit]]
            active[unit, place] = block.active[which, units[unit]]
        return Candidates(units, concepts, cosines, causal, active)

    def _table(self, layer: str, vocabulary: Vocabulary) -> Effects:
        return self._tables.get(
            (layer, vocabulary.fingerprint), lambda: self._effects(layer, self.centre(vocabulary.embeddings))
        )

    def _effects(self, layer: str, texts: Float32) -> Effects:
        excitation = self._excitations.get(layer, lambda: label_excitation(self.atlas, layer))
        return measure_effects(self.store(layer), excitation, texts, gathering())

    def _vocabulary(self, vocabulary: Vocabulary) -> VectorIndex:
        # Exhaustive whatever the size: building a graph takes far longer than one search without.
        size = len(vocabulary.concepts)
        return self._vocabularies.get(
            vocabulary.fingerprint, lambda: VectorIndex(self.centre(vocabulary.embeddings), flat_below=size + 1)
        )

    def _null(self, layer: str, kind: UnitEmbedding, vocabulary: Vocabulary) -> Float32:
        """Percentiles 0 to 100 [101] of the best score of random directions of the layer over the vocabulary."""
        record = self.atlas.layer(layer)
        if kind == record.entry.unit_embedding and vocabulary.fingerprint == self.labels.fingerprint:
            return record.null_quantiles
        return self._nulls.get((layer, kind, vocabulary.fingerprint), lambda: self._new_null(layer, kind, vocabulary))

    def _new_null(self, layer: str, kind: UnitEmbedding, vocabulary: Vocabulary) -> Float32:
        directions, mean = settings().null_directions, self.atlas.label_mean
        null = null_statistics(self.embedding(layer, kind).T, vocabulary.embeddings, directions, text_mean=mean)
        return null["null_quantiles"]
