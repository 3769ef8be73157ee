"""The paper's filter with the sign of the unit's typical activation.

A unit of a residual stream may speak for its concept by being far below zero; its filter then points away from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import LayerData
from miclip.evaluation.methods._method import Asked, Labels, Method
from miclip.evaluation.methods._ranks import label_by_scores, ranking
from miclip.retrieval.vocabulary import Vocabulary

Float32 = NDArray[np.float32]


def signed_filter(data: LayerData, texts: Float32) -> Float32:
    """Return the cosine of texts and filters with the sign of the mean activation, float32 ``[T, d]``."""
    sign = np.sign(data.probe.activations.mean(axis=0))
    filters = data.searcher.atlas.layer(data.layer).embedding("filter") * sign[:, None]
    return (data.searcher.centre(texts) @ filters.T).astype(np.float32)


def _rank(data: LayerData, asked: Asked) -> NDArray[np.int64]:
    return ranking(signed_filter(data, asked.texts))[:, : asked.top]


def _label(data: LayerData, vocabulary: Vocabulary | None) -> Labels:
    return label_by_scores(signed_filter(data, vocabulary.embeddings if vocabulary else data.probe.names))


METHODS = (
    Method(
        "signed_filter",
        "filter with the unit's sign",
        "the text of a query",
        order=82,
        rank=_rank,
        label=_label,
        by_text_alone=True,
    ),
)
