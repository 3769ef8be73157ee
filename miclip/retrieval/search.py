"""Searching an atlas: unit → concepts, concept → units, and a unit's record."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, centre_texts
from miclip.errors import InvalidInput
from miclip.evidence import Evidence
from miclip.kinds import LocalizationMethod, Modality, UnitEmbedding
from miclip.names import UnitName
from miclip.retrieval._cache import Cache
from miclip.retrieval._checks import check_layers, check_top_k, check_units
from miclip.retrieval.attribution import (
    AttributionStore,
    Gathering,
    Weighed,
    gathering,
    knows_outputs,
    output_store,
    row_store,
    usual_mix,
)
from miclip.retrieval.describe import Describer
from miclip.retrieval.evidence import judge_evidence, null_relevance
from miclip.retrieval.index import VectorIndex
from miclip.retrieval.results import (
    DEFAULT_TOP_K,
    Description,
    Localization,
    LocalizationMix,
    LocatedUnit,
    TopImage,
    UnitRecord,
    UnitStatistics,
)
from miclip.retrieval.vocabulary import Vocabulary, model_labels
from miclip.settings import settings

_NEIGHBOURS = 10
_Located = tuple[tuple[LocatedUnit, ...], float, Evidence | None]  # units, their mass, the evidence


class AtlasSearcher:
    """All searches of one atlas. Holds its indices, built on first use; safe to share between threads.

    Texts are compared after subtracting the mean of the model's label embeddings.

    Args:
        atlas: An opened atlas.
        mix: Weights of mechanism, images and texts in localisation by attribution; default from the settings.

    Attributes:
        atlas: The atlas.
        labels: The model's labels as a vocabulary.
        mix: The weights.
    """

    def __init__(self, atlas: Atlas, mix: LocalizationMix | None = None) -> None:
        self.atlas, self.labels = atlas, model_labels(atlas)
        self.mix = mix or usual_mix()
        self._image_mean = np.asarray(atlas.image_embeddings, np.float32).mean(axis=0)
        self._embeddings: Cache[NDArray[np.float32]] = Cache()
        self._unit_indices: Cache[VectorIndex] = Cache()
        self._stores: Cache[AttributionStore] = Cache()
        self._null_relevances: Cache[NDArray[np.float32]] = Cache()
        self._describer = Describer(atlas, self.labels, self._embedding, self._store, self.centre)

    def warm(self) -> None:
        """Build the indices that the searches use by default, so that no call waits for them."""
        for layer in self.atlas.layer_names:
            self._unit_index(layer, self._kind(layer, None))
            self._describer.warm(layer)
            self._store(layer)
            self._null_relevance(self.atlas.layer(layer).entry.base, "text")

    def recall(self, sample: int = 64) -> dict[str, float]:
        """Measure the indices against exhaustive search, 0 to 1, in the layer where they find least.

        Args:
            sample: Queries at most; drawn evenly.

        Returns:
            ``units``: the ten nearest units of units. ``rows``: the probe rows that localisation gathers for labels.
        """
        labels = self.labels.embeddings[:: max(1, -(-len(self.labels.embeddings) // sample))]
        queries, rows = self.centre(labels), settings().localize_rows
        found: dict[str, list[float]] = {"units": [], "rows": []}
        for layer in self.atlas.layer_names:
            vectors = self._embedding(layer, kind := self._kind(layer, None))
            units = vectors[:: max(1, -(-len(vectors) // sample))]
            found["units"].append(self._unit_index(layer, kind).recall(units, _NEIGHBOURS))
            found["rows"].append(self._store(layer).recall(queries, rows))
        return {index: min(values) for index, values in found.items()}

    def describe(
        self,
        layer: str,
        units: Sequence[int],
        vocabulary: Vocabulary,
        top_k: int = DEFAULT_TOP_K,
        kind: UnitEmbedding | None = None,
    ) -> list[Description]:
        """Find the concepts of units; a unit's answer does not depend on the other units.

        By default the ``settings().describe_shortlist`` concepts nearest to the unit are ranked by their causal score
        (where the atlas can judge it); under a ``kind`` all are ranked by the cosine alone. By the model's labels a
        unit of the logits is named by its class.

        Args:
            layer: Layer of the units.
            units: Units, each 0 to d-1.
            vocabulary: Concepts to choose from.
            top_k: Concepts of a unit; more than there are gives all.
            kind: Which vector stands for a unit; None for the layer's own.

        Raises:
            NotAligned: the layer is not in the atlas.
            InvalidInput: a unit or ``top_k`` is out of range, or the vocabulary is of another CLIP model.
        """
        return self._describer.describe(layer, units, vocabulary, top_k, kind)

    def localize(
        self,
        queries: NDArray[np.floating],
        layers: Sequence[str] = (),
        top_k: int = DEFAULT_TOP_K,
        *,
        concepts: Sequence[str] = (),
        method: LocalizationMethod = "attribution",
        modality: Modality = "text",
        temperature: float | None = None,
        rows: int | None = None,
    ) -> list[Localization]:
        """Find the units of queries, over all layers together; a query's answer does not depend on the others.

        Args:
            queries: CLIP embeddings [Q, D].
            layers: Layers to search; none means the last before the logits. Units of several layers are ranked by
                their shares of their layer's attribution.
            top_k: Units of a query; more than there are gives all.
            concepts: Texts of the queries, which name the answers and tell what is negated; images have none.
            method: How units are ranked.
            modality: Whether the queries are embeddings of texts or of images.
            temperature: τ of the softmax over outputs or probe rows, for ``attribution``; default from the settings.
            rows: Probe rows gathered first, for ``attribution``; default from the settings.

        Raises:
            NotAligned: a layer is not in the atlas.
            InvalidInput: ``top_k`` or ``temperature`` is out of range, or the queries are of another CLIP model.
        """
        count, searched = check_top_k(top_k), check_layers(self.atlas, layers)
        centred = self.centre(queries, modality)
        names = concepts or [""] * len(centred)
        if method == "attribution":
            how = gathering(temperature, rows)
            answers = [
                self._by_attribution(query, text, searched, count, how, modality)
                for query, text in zip(centred, names, strict=True)
            ]
        else:
            answers = self._by_cosine(centred, searched, count, method)
        model, atlas = self.atlas.manifest.model, self.atlas.name
        return [
            Localization(concept, model, method, units, mass, evidence, atlas)
            for concept, (units, mass, evidence) in zip(names, answers, strict=True)
        ]

    def attribution_scores(
        self, query: NDArray[np.floating], layer: str, *, modality: Modality = "text", temperature: float | None = None
    ) -> NDArray[np.float32]:
        """Return the attribution of every unit of a layer [d], in logits, for one query [D]; a label's causal score."""
        store = self._store(layer, modality)
        return store.scores(store.weigh(self.centre(query[None], modality)[0], gathering(temperature)))

    def unit_record(
        self, layer: str, unit: int, *, neighbours: int = _NEIGHBOURS, thumbnails: bool = False
    ) -> UnitRecord:
        """Return everything the atlas knows about a unit.

        Args:
            layer: The unit's layer.
            unit: The unit, 0 to d-1.
            neighbours: Nearest other units to list.
            thumbnails: Whether the top images carry theirs.

        Raises:
            NotAligned: the layer is not in the atlas.
            InvalidInput: the unit is out of range.
        """
        (statistics,) = self.unit_statistics(layer, [unit])
        (description,) = self.describe(layer, [unit], self.labels)
        record = self.atlas.layer(layer)
        images = zip(record.top_images[unit], record.top_values[unit], strict=True)
        return UnitRecord(
            statistics,
            tuple(map(float, record.histogram_edges[unit])),
            tuple(map(int, record.histogram_counts[unit])),
            tuple(self._top_image(int(row), float(value), thumbnails) for row, value in images if row >= 0),
            self._neighbours(layer, unit, neighbours),
            description,
        )

    def _top_image(self, row: int, value: float, thumbnail: bool) -> TopImage:
        picture = self.atlas.thumbnail(row) if thumbnail else None
        return TopImage(row, self.atlas.probe_images[row], value, picture or b"")

    def unit_statistics(self, layer: str, units: Sequence[int]) -> list[UnitStatistics]:
        """Return the statistics of units; raises NotAligned or InvalidInput as ``unit_record`` does."""
        record, places = self.atlas.layer(layer), check_units(self.atlas, layer, units)
        columns = (record.mean, record.std, record.maximum, record.fraction_nonzero)
        return [UnitStatistics(self._name(layer, at), *(float(column[at]) for column in columns)) for at in places]

    def centre(self, embeddings: NDArray[np.floating], modality: Modality = "text") -> NDArray[np.float32]:
        """Return CLIP embeddings [n, D] minus the mean of their kind, of length 1; raises InvalidInput."""
        dim = self.atlas.manifest.clip_dim
        vectors = np.asarray(embeddings, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != dim or not np.isfinite(vectors).all():
            raise InvalidInput(f"The atlas's CLIP model gives finite vectors of dimension {dim}; others do not fit it.")
        return centre_texts(vectors, self.atlas.label_mean if modality == "text" else self._image_mean)

    def _by_cosine(
        self, queries: NDArray[np.float32], layers: Sequence[str], count: int, kind: UnitEmbedding
    ) -> list[_Located]:
        found = [(layer, *self._unit_index(layer, kind).search(queries, count)) for layer in layers]
        return [
            (_best([self._located(layer, units[row], scores[row]) for layer, scores, units in found], count), 1.0, None)
            for row in range(len(queries))
        ]

    def _by_attribution(
        self,
        query: NDArray[np.float32],
        text: str,
        layers: Sequence[str],
        count: int,
        how: Gathering,
        modality: Modality,
    ) -> _Located:
        found, masses, evidence = [], [], []
        for layer in layers:
            store = self._store(layer, modality)
            weighed = store.weigh(query, how)
            scores = store.scores(weighed)
            best = np.argsort(-scores, kind="stable")[:count]
            whole = float(np.abs(scores).sum())
            found.append(self._located(layer, best, scores[best], whole))
            masses.append(weighed.mass)
            evidence.append(self._judge(query, text, layer, weighed, how, modality))
        weakest = min(evidence, key=lambda one: one.null_percentile)
        return _best(found, count), min(masses), weakest

    def _judge(
        self, query: NDArray[np.float32], text: str, layer: str, weighed: Weighed, how: Gathering, modality: Modality
    ) -> Evidence:
        usual, null = gathering(), self._null_relevance(self.atlas.layer(layer).entry.base, modality)
        # the null is that of the server's own temperature, whatever the request asks for
        store = self._store(layer, modality)
        same = weighed if how.temperature == usual.temperature else store.weigh(query, usual)
        return judge_evidence(store, same, self.atlas.manifest.labels, null, text)

    def _neighbours(self, layer: str, unit: int, count: int) -> tuple[LocatedUnit, ...]:
        kind = self._kind(layer, None)
        scores, found = self._unit_index(layer, kind).search(self._embedding(layer, kind)[[unit]], count + 1)
        others = [(at, score) for at, score in zip(found[0], scores[0], strict=True) if at != unit]
        return tuple(LocatedUnit(self._name(layer, at), float(score)) for at, score in others[:count])

    def _located(
        self, layer: str, units: NDArray[np.int64], scores: NDArray[np.float32], whole: float = 0.0
    ) -> list[LocatedUnit]:
        """Name units with their scores [n] and their shares of ``whole``."""
        return [
            LocatedUnit(self._name(layer, unit), float(score), float(score) / whole if whole else 0.0)
            for unit, score in zip(units, scores, strict=True)
        ]

    def _name(self, layer: str, unit: int | np.integer) -> UnitName:
        return UnitName(self.atlas.manifest.model, layer, int(unit))

    def _kind(self, layer: str, kind: UnitEmbedding | None) -> UnitEmbedding:
        return kind or self.atlas.layer(layer).entry.unit_embedding

    def _embedding(self, layer: str, kind: UnitEmbedding) -> NDArray[np.float32]:
        return self._embeddings.get((layer, kind), lambda: self.atlas.layer(layer).embedding(kind))

    def _unit_index(self, layer: str, kind: UnitEmbedding) -> VectorIndex:
        return self._unit_indices.get((layer, kind), lambda: VectorIndex(self._embedding(layer, kind)))

    def _store(self, layer: str, modality: Modality = "text") -> AttributionStore:
        """Of a layer: its outputs for texts, where the atlas knows them, and its probe rows for images."""
        make = output_store if modality == "text" and knows_outputs(self.atlas, layer) else row_store
        return self._stores.get((layer, make), lambda: make(self.atlas, layer, self.mix))

    def _null_relevance(self, base: str, modality: Modality) -> NDArray[np.float32]:
        return self._null_relevances.get((base, modality), lambda: self._new_null_relevance(base, modality))

    def _new_null_relevance(self, base: str, modality: Modality) -> NDArray[np.float32]:
        store, tau = self._store(base, modality), gathering().temperature
        if modality == "text":
            own = np.flatnonzero(self.atlas.named)
            queries = self.centre(self.labels.embeddings[own])
        else:
            queries, own = self.centre(self.atlas.image_embeddings, "image"), np.asarray(self.atlas.predicted, np.int64)
        return null_relevance(store, queries, own, tau)


def _best(found: Sequence[Sequence[LocatedUnit]], count: int) -> tuple[LocatedUnit, ...]:
    """Merge the best units of several layers: by their shares, or by their scores where these are all there is."""
    units = [unit for layer in found for unit in layer]
    return tuple(sorted(units, key=lambda unit: (-unit.share, -unit.score))[:count])
