"""CLIP-Dissect (Oikarinen & Weng, ICLR 2023): the text that a unit's most activating images are likely about.

Once as published, and once on attributions in place of activations: what the images are about on which the unit drives
the prediction most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.evaluation.methods._data import ProbeData
from miclip.evaluation.methods._images import TOP_IMAGES, strongest
from miclip.evaluation.methods._method import Method, Price
from miclip.evaluation.methods._ranks import by_text, label_by_text

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CONTRAST = 10.0
"""Inverse temperature of images against texts."""
_BLOCK = 2**22  # terms at a time


def clip_dissect(activations: Float32, images: Float32, texts: Float32) -> Float32:
    """Return CLIP-Dissect's soft-WPMI, float32 ``[T, d]``.

    ``S = L - (logsumexp_k L - log K)`` with ``L[i, m] = Σ_r log(1 + p_r (P[i_r, m] - 1) + 1e-7)`` over the ``r``-th
    most activating images, ``p_r = 0.998 - 0.028 r / 100``, ``P = softmax_m(10 cos(I, T_m))``. The prior is that of the
    whole layer, so that a unit's label does not depend on which units are asked together. All 100 images count, as in
    the authors' code, also where a sparse unit is silent on some: a sum of fewer terms, all negative, would win.

    Args:
        activations: float32 ``[N, d]``; or attributions.
        images: CLIP image embeddings, normalised, float32 ``[N, D]``.
        texts: CLIP text embeddings, normalised, float32 ``[T, D]``.
    """
    scores = CONTRAST * images.astype(np.float64) @ texts.T
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ranked = strongest(activations)
    block = max(1, _BLOCK // (TOP_IMAGES * len(texts)))
    parts = [slice(at, at + block) for at in range(0, ranked.shape[1], block)]
    likelihood = np.concatenate([_log_likelihood(probabilities, ranked[:, at]) for at in parts])
    prior = np.logaddexp.reduce(likelihood, axis=0) - np.log(len(likelihood))
    return (likelihood - prior).T.astype(np.float32)


def _log_likelihood(probabilities: Float64, ranked: Int64) -> Float64:
    """``L``, float64 ``[d, T]``."""
    weights = 0.998 - 0.028 * np.arange(len(ranked)) / TOP_IMAGES
    likelihood: Float64 = np.log1p(weights[:, None, None] * (probabilities[ranked] - 1) + 1e-7).sum(axis=0)
    return likelihood


def _scores(probe: ProbeData, texts: Float32) -> Float32:
    return clip_dissect(probe.activations, probe.images, texts)


def _attribution_scores(probe: ProbeData, texts: Float32) -> Float32:
    return clip_dissect(probe.attributions, probe.images, texts)


def _flops(probe: ProbeData) -> float:
    rows, (classes, dim) = len(probe.activations), probe.names.shape
    return 2 * rows * classes * dim + 5 * TOP_IMAGES * probe.units * classes


METHODS = (
    Method(
        "clip_dissect",
        "CLIP-Dissect",
        "the text of a query",
        order=50,
        rank=by_text(_scores),
        label=label_by_text(_scores),
        by_text_alone=True,
        price=Price(("activations", "image embeddings", "text embeddings"), lambda p: _scores(p, p.names), _flops),
    ),
    Method(
        "clip_dissect_attribution",
        "CLIP-Dissect on attributions",
        "the text of a query",
        order=52,
        rank=by_text(_attribution_scores),
        label=label_by_text(_attribution_scores),
        by_text_alone=True,
    ),
)
