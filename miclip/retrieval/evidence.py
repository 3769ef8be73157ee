"""How far a localisation is to be trusted: whether the probe images show what was asked for.

The attribution store answers every query, also one about something that no probe image shows; it then weighs whatever
lies nearest, and the units are those of something else. Two things tell: how relevant the weighed images are to the
query, and what the model predicted for them. The null that relevance is held against needs no further images or texts:
each of the model's labels asks for its units after all images are taken away that the model predicts as it.

Where labels are close to each other (breeds of dogs), the null is high: their images stand in for each other. A text
is trusted all the same where nearly all weight is on labels that end with its words: "elephant" is answered by African
elephants, which are what was asked for. A text that is negated is never trusted, unless it is a label: an embedding of
"not a dog" lies where that of "dog" lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from miclip.evidence import Evidence, LabelShare
from miclip.retrieval.attribution import AttributionStore, Weighed
from miclip.settings import settings
from miclip.texts import is_kind_of, negation

_SAMPLE = 256  # queries of a null at most
_BLOCK = 32  # queries weighed at a time
_LABELS = 8  # named in an answer: a category has several
_LEAST_SHARE = 0.01  # of the weight, to be named
_NAMED_SHARE = 0.9  # of the weight, on kinds of what the text says, that trusts it
_LEAST_PERCENTILE = 50.0  # of the null, below which not even that does


def null_relevance(
    store: AttributionStore,
    queries: NDArray[np.float32],
    own: NDArray[np.integer],
    temperature: float,
) -> NDArray[np.float32]:
    """Return how relevant the probe rows are to queries that they do not show, sorted, float32 ``[≤ 256]``.

    Args:
        store: Of the layer.
        queries: Centred, normalised queries ``[Q, D]``, of which some are drawn evenly.
        own: Each query's label ``[Q]``: rows of it are left out.
        temperature: τ of the softmax over rows.

    Returns:
        Empty where there is no query that leaves a row.
    """
    step = max(1, -(-len(queries) // _SAMPLE))
    queries, own, found = queries[::step], np.asarray(own)[::step], []
    for start in range(0, len(queries), _BLOCK):
        block = slice(start, start + _BLOCK)
        shown = store.labels[None, :] == own[block, None]
        scores = store.relevances(queries[block])[~shown.all(axis=1)]
        shown = shown[~shown.all(axis=1)]
        weights = softmax(np.where(shown, -np.inf, scores) / temperature, axis=1)
        found.append((weights * scores).sum(axis=1))
    return np.sort(np.concatenate(found)).astype(np.float32)


def judge_evidence(
    store: AttributionStore, weighed: Weighed, names: Sequence[str], null: NDArray[np.float32], text: str = ""
) -> Evidence:
    """Return what the rows weighed for a query say.

    Args:
        store: Of the layer.
        weighed: Its rows, at the temperature of the null.
        names: The model's labels.
        null: Sorted relevances of queries that no row shows; an empty one proves nothing, and nothing is doubted.
        text: The query, where it is a text that is known.
    """
    percentile = 100.0 * float(np.searchsorted(null, weighed.relevance)) / len(null) if len(null) else 100.0
    shares = np.bincount(store.labels[weighed.rows], weighed.weights, len(names))
    heaviest = np.argsort(-shares, kind="stable")[:_LABELS].tolist()
    labels = tuple(LabelShare(names[at], float(shares[at])) for at in heaviest if shares[at] >= _LEAST_SHARE)
    negated = "" if any(text.lower() == name.lower() for name in names) else negation(text)
    known = percentile >= _LEAST_PERCENTILE and _named(text, labels) >= _NAMED_SHARE
    doubtful = bool(negated) or (percentile < settings().doubt_percentile and not known)
    return Evidence(weighed.relevance, percentile, doubtful, labels, negated)


def _named(text: str, labels: Sequence[LabelShare]) -> float:
    """Share of the weight on labels that name a kind of what the text says."""
    return sum(label.share for label in labels if is_kind_of(label.label, text))
