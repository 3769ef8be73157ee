"""What units do to concepts, and when they are active: scores of every unit for the texts of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from miclip.atlas import LayerAtlas
from miclip.retrieval.attribution import AttributionStore, Gathering

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Effects:
    """Scores of units for some texts.

    Attributes:
        causal: Causal scores, float32 ``[V, d]``, in logits: mean attribution on the probe rows about a text.
        active: By how many standard deviations a unit is more active on those rows than on all, float32 ``[V, d]``.
    """

    causal: Float32
    active: Float32


def measure_effects(store: AttributionStore, layer: LayerAtlas, texts: Float32, how: Gathering) -> Effects:
    """Score all units of a layer for texts.

    Args:
        store: The layer's attribution store.
        layer: The layer.
        texts: Centred, normalised texts ``[V, D]``.
        how: How the probe rows of a text are weighed.
    """
    causal = np.empty((len(texts), layer.entry.units), np.float32)
    active = np.empty_like(causal)
    spread = np.asarray(layer.std)
    for place, text in enumerate(texts):
        weighed = store.weigh(text, how)
        causal[place] = store.scores(weighed)
        rows = layer.activation_rows[weighed.rows].astype(np.float32)
        mean = rows.T @ weighed.weights if issparse(rows) else weighed.weights @ rows
        active[place] = np.divide(mean - layer.mean, spread, out=np.zeros_like(mean), where=spread > 0)
    return Effects(causal, active)
