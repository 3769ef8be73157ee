"""How far a localisation is to be trusted: whether the probe images show what was asked for.

The attribution store answers every query, also one about something that no probe image shows; it then weighs whatever
lies nearest, and the units are those of something else. Two things tell: how relevant the weighed images are to the
query, and what the model predicted for them. The null that relevance is held against needs no further images or texts:
each of the model's labels asks for its units after all images are taken away that the model predicts as it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from miclip.atlas import Atlas
from miclip.evidence import Evidence, LabelShare
from miclip.retrieval.attribution import AttributionStore, Weighed
from miclip.settings import settings

_SAMPLE = 256  # queries of a null at most
_BLOCK = 32  # queries weighed at a time
_LABELS = 8  # named in an answer: a category has several
_LEAST_SHARE = 0.01  # of the weight, to be named


def null_relevance(
    store: AttributionStore,
    queries: NDArray[np.float32],
    own: NDArray[np.integer],
    predicted: NDArray[np.integer],
    temperature: float,
) -> NDArray[np.float32]:
    """Return how relevant the probe rows are to queries that they do not show, sorted, float32 ``[≤ 256]``.

    Args:
        store: Of the layer.
        queries: Centred, normalised queries ``[Q, D]``, of which some are drawn evenly.
        own: Each query's label ``[Q]``: rows predicted as it are left out.
        predicted: Predicted label of every row ``[N]``.
        temperature: τ of the softmax over rows.

    Returns:
        Empty where there is no query that leaves a row.
    """
    step = max(1, -(-len(queries) // _SAMPLE))
    queries, own, found = queries[::step], np.asarray(own)[::step], []
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        shown = predicted[None, :] == own[block, None]
        scores = store.relevances(queries[block])[~shown.all(axis=1)]
        shown = shown[~shown.all(axis=1)]
        weights = softmax(np.where(shown, -np.inf, scores) / temperature, axis=1)
        found.append((weights * scores).sum(axis=1))
    return np.sort(np.concatenate(found)).astype(np.float32)


def judge_evidence(weighed: Weighed, atlas: Atlas, null: NDArray[np.float32]) -> Evidence:
    """Return what the rows weighed for a query say.

    Args:
        weighed: The rows, at the temperature of the null.
        atlas: Theirs.
        null: Sorted relevances of queries that no row shows; an empty one proves nothing, and nothing is doubted.
    """
    percentile = 100.0 * float(np.searchsorted(null, weighed.relevance)) / len(null) if len(null) else 100.0
    names = atlas.manifest.labels
    shares = np.bincount(np.asarray(atlas.predicted)[weighed.rows], weighed.weights, len(names))
    heaviest = np.argsort(-shares, kind="stable")[:_LABELS].tolist()
    labels = tuple(LabelShare(names[at], float(shares[at])) for at in heaviest if shares[at] >= _LEAST_SHARE)
    return Evidence(weighed.relevance, percentile, percentile < settings().doubt_percentile, labels)
