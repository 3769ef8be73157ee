"""Units in the plane: near is alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

SMALLEST = 8
"""Units below which neighbourhoods mean nothing; they are then placed by their principal components."""
LANDMARKS = 1500
"""Units that t-SNE places at most; each further one is placed between the landmarks that are most like it."""
_PERPLEXITY = 20.0
_NEAREST = 3
_CHUNK = 4096


def plane(embeddings: NDArray[np.floating]) -> Float32:
    """Place units by t-SNE (van der Maaten & Hinton, JMLR 2008) of their embeddings.

    It starts from the principal components, not from chance: the same units give the same picture.

    Args:
        embeddings: Unit embeddings ``[d, D]`` of length 1; 0 for dead units, which stay in the middle.

    Returns:
        Coordinates ``[d, 2]``, -1 to 1; distances beyond the neighbourhood mean little.
    """
    exact = np.asarray(embeddings, np.float32)
    points = np.zeros((len(exact), 2), np.float32)
    live = np.flatnonzero(np.abs(exact).sum(axis=1) > 0)
    if not len(live):
        return points
    landmarks = live
    if len(live) > LANDMARKS:
        landmarks = np.sort(np.random.default_rng(0).choice(live, LANDMARKS, replace=False))
    points[landmarks] = _placed(exact[landmarks])
    others = np.setdiff1d(live, landmarks, assume_unique=True)
    for start in range(0, len(others), _CHUNK):
        part = others[start : start + _CHUNK]
        points[part] = _between(exact[part], exact[landmarks], points[landmarks])
    return points / max(float(np.abs(points).max(initial=0)), 1e-12)


def _placed(embeddings: Float32) -> Float32:
    start = _principal(embeddings)
    if len(embeddings) < SMALLEST or not start.any():
        return start
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(embeddings) - 1) / 3)
    start *= 1e-4 / start[:, 0].std()  # as wide as scikit-learn's own start
    return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=0).fit_transform(embeddings), np.float32)


def _principal(embeddings: Float32) -> Float32:
    """The two strongest principal components ``[n, 2]``; 0 where all units are alike."""
    centred = embeddings - embeddings.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    components: Float32 = np.zeros((len(embeddings), 2), np.float32)
    if len(values) and values[0] > 1e-6:
        found = left[:, :2] * values[:2]
        found *= np.where(found[np.abs(found).argmax(axis=0), range(found.shape[1])] < 0, -1, 1)  # signs are arbitrary
        components[:, : found.shape[1]] = found
    return components


def _between(embeddings: Float32, landmarks: Float32, points: Float32) -> Float32:
    """Place units in the mean of their nearest landmarks, weighted by how much nearer than the next each is."""
    likeness = embeddings @ landmarks.T
    nearest = np.argpartition(-likeness, _NEAREST, axis=1)[:, : _NEAREST + 1]
    values = np.take_along_axis(likeness, nearest, axis=1)
    weights = np.maximum(values - values.min(axis=1, keepdims=True), 1e-6)[..., None]
    placed: Float32 = (points[nearest] * weights).sum(axis=1) / weights.sum(axis=1)
    return placed
