"""The images that activate a unit most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOP_IMAGES = 100
"""Most activating probe images that CLIP-Dissect and SemanticLens look at."""


def most_activating(activations: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return rows of the most activating images, strongest first, int64 ``[≤ TOP_IMAGES, d]``, and which of them count.

    An image at the unit's lowest activation does not: those on which a sparse unit is silent are no evidence, and no
    order among them is.
    """
    ranked = np.argsort(-activations, axis=0, kind="stable")[:TOP_IMAGES].astype(np.int64)
    return ranked, np.take_along_axis(activations, ranked, axis=0) > activations.min(axis=0)
