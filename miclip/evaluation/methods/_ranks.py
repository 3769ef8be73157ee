"""From scores ``[K, d]`` (how much unit i is one of concept k) to rankings and labels: a row ranks, a column labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import LayerData, ProbeData
from miclip.evaluation.methods._method import Asked, Label, Labels, Rank
from miclip.evaluation.queries import coverage
from miclip.retrieval.vocabulary import Vocabulary

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ClassScores = Callable[[ProbeData], Float32 | None]
"""Scores of the model's classes, float32 ``[K, d]``; None where the method cannot be used."""
TextScores = Callable[[ProbeData, Float32], Float32]
"""Scores of texts by their normalised CLIP embeddings ``[T, D]``, float32 ``[T, d]``."""


def ranking(scores: Float32) -> Int64:
    """Return units by row, best first, int64 ``[K, d]``."""
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)


def by_class(scores: ClassScores) -> Rank:
    """Rank by scores of classes: a query is answered by the mean over the classes that it covers."""

    def rank(data: LayerData, asked: Asked) -> Int64 | None:
        matrix = data.once(scores, lambda: scores(data.probe))
        if matrix is None:
            return None
        return ranking(coverage(asked.queries, data.probe.classes) @ matrix)[:, : asked.top]

    return rank


def by_text(scores: TextScores) -> Rank:
    """Rank by scores of the queries' texts."""
    return lambda data, asked: ranking(scores(data.probe, asked.texts))[:, : asked.top]


def label_by_class(scores: ClassScores) -> Label:
    """Label with the class of the highest score; an open vocabulary is beyond such a method."""

    def label(data: LayerData, vocabulary: Vocabulary | None) -> Labels | None:
        matrix = None if vocabulary else data.once(scores, lambda: scores(data.probe))
        return None if matrix is None else label_by_scores(matrix)

    return label


def label_by_text(scores: TextScores) -> Label:
    """Label with the text of the highest score."""

    def label(data: LayerData, vocabulary: Vocabulary | None) -> Labels | None:
        texts = vocabulary.embeddings if vocabulary else data.probe.names
        return label_by_scores(scores(data.probe, texts))

    return label


def label_by_scores(scores: Float32) -> Labels:
    """Label with the row of the highest score, which says how sure the label is."""
    return Labels(scores.argmax(axis=0), sureness=scores.max(axis=0))
