"""Whether CLIP's reading of the probe images and the labels that a model predicts for them have to do with each other.

A model whose weights are random predicts something for every image, too, and its units drive it. But which label that
is has nothing to do with the image: any other names would fit as well. That is the test: the names are dealt anew, and
what is left of the agreement between images and texts is chance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import centre_texts, normalise

DEALINGS = 1999
"""Of the labels' texts; the least p-value is one in so many and one."""
SIGNIFICANCE = 0.01
_EASED = 1.5  # of few labels the one best dealing must do: two labels can be dealt in two ways only


def agreement(
    images: NDArray[np.floating], predicted: NDArray[np.int64], texts: NDArray[np.float32], seed: int = 0
) -> tuple[float, float, float]:
    """Compare what CLIP makes of images with the labels that a model predicts for them.

    Every predicted label stands for itself by the mean embedding of its images, so that one predicted often counts no
    more than another.

    Args:
        images: ``E_i`` of the images, normalised, ``[N, D]``.
        predicted: Predicted label of each, int64 ``[N]``.
        texts: ``E_c`` of all labels, normalised, float32 ``[K, D]``.
        seed: Of the dealings.

    Returns:
        The share of predicted labels whose images are nearest to their own text among those of the predicted labels;
        what chance would give; and the p-value of the mean cosine of images and texts under dealings of all texts.
    """
    labels, places = np.unique(predicted, return_inverse=True)
    sums = np.zeros((len(labels), images.shape[1]), np.float32)
    np.add.at(sums, places, np.asarray(images, np.float32))
    means = sums / np.bincount(places)[:, None]
    if len(labels) < 2:
        return 0.0, 1.0, 1.0
    cosines = normalise(means - means.mean(axis=0)) @ centre_texts(texts, texts.mean(axis=0)).T
    own = cosines[np.arange(len(labels)), labels]
    nearest = cosines[:, labels].argmax(axis=1) == np.arange(len(labels))
    generator = np.random.default_rng(seed)
    dealt = [
        cosines[np.arange(len(labels)), generator.choice(len(texts), len(labels), replace=False)].mean()
        for _ in range(DEALINGS)
    ]
    p_value = (1 + int((np.array(dealt) >= own.mean()).sum())) / (DEALINGS + 1)
    return float(nearest.mean()), 1 / len(labels), p_value


def known(p_value: float, labels: int, predicted: int) -> bool:
    """Whether a p-value of :func:`agreement` is beyond chance, for a number of labels and of those predicted."""
    dealings = min(math.perm(labels, predicted), DEALINGS)  # of many labels a number beyond all floats
    return p_value <= max(SIGNIFICANCE, _EASED / dealings)
