"""Other ways to rank a layer's units for a class, and to label them, to stand beside miclip's.

Every score is a matrix ``[K, d]``: how much unit ``i`` is one of class ``k``. A row ranks units for a class; a column
labels a unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import normalise

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

TOP_IMAGES = 100
"""Most activating probe images that CLIP-Dissect and SemanticLens look at."""
CONTRAST = 10.0
"""CLIP-Dissect's inverse temperature of images against texts."""
_BLOCK = 2**22  # terms at a time


def random_scores(classes: int, units: int, seed: int) -> Float32:
    """Return noise."""
    return np.random.default_rng(seed).random((classes, units), np.float32)


def class_means(values: Float32, predicted: Int64, classes: int) -> Float32:
    """Return the mean row of each class, float32 ``[K, d]``; zero for a class that is never predicted.

    On activations this is the *mean activation* baseline; on attributions the closed-vocabulary *oracle*, which is told
    what the model predicted for every image and needs no shared space.
    """
    means = np.zeros((classes, values.shape[1]), np.float32)
    for label in range(classes):
        rows = predicted == label
        if rows.any():
            means[label] = values[rows].mean(axis=0)
    return means


def z_mean_activation(activations: Float32, predicted: Int64, classes: int) -> Float32:
    """Return class means of activations standardised by unit: a unit that is always strong is strong for no class."""
    spread = np.maximum(activations.std(axis=0), 1e-12)
    return class_means((activations - activations.mean(axis=0)) / spread, predicted, classes)


def weight_times_activation(weight: Float32, activations: Float32, predicted: Int64) -> Float32:
    """Return ``W[k, i] · mean activation of unit i on class k`` for a last linear layer: the white-box baseline.

    Args:
        weight: float32 ``[K, d]``.
        activations: float32 ``[N, d]``.
        predicted: int64 ``[N]``.
    """
    return weight * class_means(activations, predicted, len(weight))


def clip_dissect(activations: Float32, images: Float32, texts: Float32) -> Float32:
    """Return CLIP-Dissect's soft-WPMI (Oikarinen & Weng, ICLR 2023), float32 ``[K, d]``.

    ``S = L - (logsumexp_k L - log K)`` with ``L[i, m] = Σ_r log(1 + p_r (P[i_r, m] - 1) + 1e-7)`` over the ``r``-th
    most activating images, ``p_r = 0.998 - 0.028 r / 100``, ``P = softmax_m(10 cos(I, T_m))``. The prior is that of the
    whole layer, so that a unit's label does not depend on which units are asked together.

    Args:
        activations: float32 ``[N, d]``.
        images: CLIP image embeddings, normalised, float32 ``[N, D]``.
        texts: CLIP text embeddings, normalised, float32 ``[K, D]``.
    """
    scores = CONTRAST * images.astype(np.float64) @ texts.T
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ranked, counted = _most_activating(activations)
    block = max(1, _BLOCK // (TOP_IMAGES * len(texts)))
    parts = [slice(at, at + block) for at in range(0, ranked.shape[1], block)]
    likelihood = np.concatenate([_log_likelihood(probabilities, ranked[:, at], counted[:, at]) for at in parts])
    prior = np.logaddexp.reduce(likelihood, axis=0) - np.log(len(likelihood))
    return (likelihood - prior).T.astype(np.float32)


def _log_likelihood(probabilities: Float64, ranked: Int64, counted: NDArray[np.bool_]) -> Float64:
    """``L``, float64 ``[d, K]``."""
    weights = 0.998 - 0.028 * np.arange(len(ranked)) / TOP_IMAGES
    terms = np.log1p(weights[:, None, None] * (probabilities[ranked] - 1) + 1e-7)
    summed: Float64 = np.einsum("rik,ri->ik", terms, counted.astype(np.float64))
    return summed


def semantic_lens(activations: Float32, images: Float32, texts: Float32, centre: Float32 | None = None) -> Float32:
    """Return the cosine of each text with the mean CLIP embedding of the unit's most activating images, ``[K, d]``.

    In the manner of SemanticLens (Dreyer et al. 2025). Images and texts are mean-centred, as everywhere in miclip:
    texts by the mean of ``centre``, float32 ``[n, D]``; default themselves.
    """
    ranked, counted = _most_activating(activations)
    sums = np.einsum("rid,ri->id", (images - images.mean(axis=0))[ranked], counted.astype(np.float32))
    centred = texts - (texts if centre is None else centre).mean(axis=0)
    return (normalise(centred) @ normalise(sums).T).astype(np.float32)


def ranking(scores: Float32) -> Int64:
    """Return units by class, best first, int64 ``[K, d]``."""
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)


def _most_activating(activations: Float32) -> tuple[Int64, NDArray[np.bool_]]:
    """Rows of the most activating images, strongest first, int64 ``[≤ TOP_IMAGES, d]``, and which of them count.

    An image at the unit's lowest activation does not: those on which a sparse unit is silent are no evidence, and no
    order among them is.
    """
    ranked = np.argsort(-activations, axis=0, kind="stable")[:TOP_IMAGES].astype(np.int64)
    return ranked, np.take_along_axis(activations, ranked, axis=0) > activations.min(axis=0)
