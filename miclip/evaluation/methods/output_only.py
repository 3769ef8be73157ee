"""What is left of localisation without a neuron encoder and without CLIP's image tower: text and predicted label alone.

    score_i(c) = Σ_j softmax_j(cos(E_c(ĉ_j), E_c(c)) / τ) · r_ij

A row's weight depends on its predicted label only, so this is text × class-mean attribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import centre_texts
from miclip.evaluation.methods._data import ProbeData
from miclip.evaluation.methods._method import Method
from miclip.evaluation.methods._ranks import by_text
from miclip.settings import settings

Float32 = NDArray[np.float32]


def output_only(probe: ProbeData, texts: Float32) -> Float32:
    """Return the mean attribution under the weights that the predicted labels' texts give, float32 ``[T, d]``."""
    mean = probe.names.mean(axis=0)
    cosines = centre_texts(texts, mean) @ centre_texts(probe.names, mean)[probe.predicted].T
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / settings().temperature)
    return (weights / weights.sum(axis=1, keepdims=True) @ probe.attributions).astype(np.float32)


METHODS = (
    Method(
        "output_only",
        "output only (text × class-mean attribution)",
        "the text of a query",
        order=64,
        rank=by_text(output_only),
        by_text_alone=True,
    ),
)
