"""miclip's own: localisation by attribution and by unit embeddings, and the labels of the same embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.embedding import unit_embeddings
from miclip.evaluation.methods._data import LayerData, ProbeData
from miclip.evaluation.methods._method import Asked, Label, Labels, Method, Price, Rank
from miclip.kinds import LocalizationMethod, UnitEmbedding
from miclip.retrieval.results import Localization
from miclip.retrieval.vocabulary import Vocabulary

_TEXT = "the text of a query"
_EMBEDDINGS = ("image embeddings", "text embeddings", "encoder")


def searched(data: LayerData, asked: Asked, method: LocalizationMethod) -> NDArray[np.int64]:
    """Return the units that a search finds, best first, int64 ``[Q, top]``."""
    return units_of(_answers(data, asked, method))


def trusted(data: LayerData, asked: Asked) -> NDArray[np.bool_]:
    """Return which queries miclip's localisation does not call doubtful, ``[Q]``."""
    answers = _answers(data, asked, "attribution")
    return np.array([answer.evidence is not None and not answer.evidence.doubtful for answer in answers])


def units_of(answers: Sequence[Localization]) -> NDArray[np.int64]:
    """Return the units of every answer, best first, int64 ``[Q, top]``."""
    return np.array([[unit.unit for unit in answer.units] for answer in answers], dtype=np.int64)


def _answers(data: LayerData, asked: Asked, method: LocalizationMethod) -> Sequence[Localization]:
    def search() -> Sequence[Localization]:
        return data.searcher.localize(asked.texts, [data.layer], top_k=asked.top, method=method)

    answers: Sequence[Localization] = data.once((method, asked.queries, asked.top), search)
    return answers


def _search(method: LocalizationMethod) -> Rank:
    return lambda data, asked: searched(data, asked, method)


def _described(kind: UnitEmbedding) -> Label:
    def label(data: LayerData, vocabulary: Vocabulary | None) -> Labels:
        concepts, units = vocabulary or data.searcher.labels, range(data.probe.units)
        descriptions = data.searcher.describe(data.layer, units, concepts, top_k=1, kind=kind)
        best = [unit.concepts[0] for unit in descriptions]
        labels = np.array([concept.index for concept in best], dtype=np.int64)
        return Labels(labels, sureness=np.array([concept.score for concept in best], np.float32))

    return label


def _own_labels(data: LayerData, vocabulary: Vocabulary | None) -> Labels | None:
    """The labels that miclip itself gives: it chooses among the model's labels, and may abstain."""
    if vocabulary:
        return None
    units = data.searcher.describe(data.layer, range(data.probe.units), data.searcher.labels, top_k=1)
    labels = np.array([unit.concepts[0].index for unit in units], dtype=np.int64)
    return Labels(labels, np.array([not unit.abstained for unit in units]))


def _embed(probe: ProbeData) -> Any:
    assert probe.encoder is not None
    return unit_embeddings(probe.encoder, probe.activations, probe.attributions)


def _embed_flops(probe: ProbeData) -> float:
    return 8 * len(probe.activations) * probe.units * probe.names.shape[1]


METHODS = (
    Method("default", "miclip's label", _TEXT, order=75, role="default", label=_own_labels),
    Method(
        "filter",
        "filter (the paper)",
        _TEXT,
        order=80,
        role="ours",
        rank=_search("filter"),
        label=_described("filter"),
        by_text_alone=True,
        price=Price(("activations", *_EMBEDDINGS)),
    ),
    Method(
        "pattern",
        "pattern",
        _TEXT,
        order=90,
        role="ours",
        rank=_search("pattern"),
        label=_described("pattern"),
        by_text_alone=True,
    ),
    Method(
        "causal",
        "causal",
        _TEXT,
        order=100,
        role="ours",
        rank=_search("causal"),
        label=_described("causal"),
        by_text_alone=True,
        price=Price(("attributions", *_EMBEDDINGS), _embed, _embed_flops),
    ),
    Method(
        "attribution",
        "attribution store",
        _TEXT,
        order=110,
        role="default",
        rank=_search("attribution"),
        by_text_alone=True,
    ),
)
