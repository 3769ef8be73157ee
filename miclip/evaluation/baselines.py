"""Other ways to rank a layer's units for a class, to stand beside miclip's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def random_ranking(classes: int, units: int, seed: int) -> NDArray[np.int64]:
    """Return units in random order for every class, int64 ``[K, d]``."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(units) for _ in range(classes)])


def mean_activation_ranking(activations: Float32, predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Rank units by their mean activation on the images that the model calls the class.

    Args:
        activations: float32 ``[N, d]``.
        predicted: int64 ``[N]``.
        classes: Number of classes ``K``.

    Returns:
        int64 ``[K, d]``, best first.
    """
    return _ranked(class_means(activations, predicted, classes))


def class_means(values: Float32, predicted: NDArray[np.int64], classes: int) -> Float32:
    """Return the mean row of each class, float32 ``[K, d]``; zero for a class that is never predicted."""
    means = np.zeros((classes, values.shape[1]), np.float32)
    for label in range(classes):
        rows = predicted == label
        if rows.any():
            means[label] = values[rows].mean(axis=0)
    return means


def _ranked(scores: Float32) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable").astype(np.int64)
