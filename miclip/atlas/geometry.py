"""Vectors of the shared space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def normalise(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``vectors`` [..., D] as float32 of length 1; zero vectors stay zero."""
    exact = np.asarray(vectors, np.float32)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(exact, length, out=np.zeros_like(exact), where=length > 0)
    return unit


def centre_texts(embeddings: NDArray[np.floating], mean: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return text embeddings [..., D] minus ``mean`` [D], of length 1.

    Texts of one kind share a large common direction, which says nothing of what each means.
    """
    return normalise(np.asarray(embeddings, np.float32) - np.asarray(mean, np.float32))
