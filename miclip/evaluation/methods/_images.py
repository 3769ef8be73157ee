"""The images on which a unit is strongest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP_IMAGES = 100
"""Strongest probe images that CLIP-Dissect and SemanticLens look at."""


def strongest(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return rows of the images of the highest values ``[N, d]``, highest first, int64 ``[≤ TOP_IMAGES, d]``.

    A sparse unit has fewer images than that; the rest are drawn from those on which it is silent, the same draw for all
    units. Their order in the probe set would favour the classes in front.
    """
    drawn = np.random.default_rng(0).permutation(len(values))
    ranked = np.argsort(-values[drawn], axis=0, kind="stable")[:TOP_IMAGES]
    return drawn[ranked].astype(np.int64)


def counted(values: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of a unit's strongest rows are above its lowest value, bool ``[≤ TOP_IMAGES, d]``."""
    return np.take_along_axis(values, rows, axis=0) > values.min(axis=0)
