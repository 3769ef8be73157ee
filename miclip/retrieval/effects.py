"""What units do to concepts, and when they are active: scores of every unit for the texts of a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miclip.atlas import Atlas
from miclip.retrieval.attribution import AttributionStore, Gathering, Weighed

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Effects:
    """Scores of all units of a layer for some texts.

    Attributes:
        causal: Causal scores, float32 ``[V, d]``, in logits: mean attribution to the outputs that a text is about.
        active: By how many standard deviations a unit is more active where the model predicts these outputs than on all
            probe images, float32 ``[V, d]``.
    """

    causal: Float32
    active: Float32


def measure_effects(store: AttributionStore, excitation: Float32, texts: Float32, how: Gathering) -> Effects:
    """Score all units of a layer for texts.

    Args:
        store: The layer's attribution store.
        excitation: See :func:`label_excitation`.
        texts: Centred, normalised texts ``[V, D]``.
        how: How the rows of a text are weighed.
    """
    weighed = [store.weigh(text, how) for text in texts]
    causal = [store.scores(one) for one in weighed]
    active = [_by_label(store, one, len(excitation)) @ excitation for one in weighed]
    return Effects(np.stack(causal), np.stack(active).astype(np.float32))


def label_excitation(atlas: Atlas, layer: str) -> Float32:
    """Return how much more active units are on the probe images predicted as every label, float32 ``[K, d]``.

    In standard deviations over all probe images; 0 for labels that the model predicts for none, and for units that
    never move.
    """
    record, labels = atlas.layer(layer), len(atlas.manifest.labels)
    predicted = np.asarray(atlas.predicted)
    counts = np.bincount(predicted, minlength=labels)
    shares = csr_array((1 / counts[predicted], (predicted, np.arange(len(predicted)))), (labels, len(predicted)))
    means = np.asarray(shares @ _exact(record.activation_rows), np.float32)
    spread = np.asarray(record.std)
    above = np.divide(means - record.mean, spread, out=np.zeros_like(means), where=spread > 0)
    return np.where(counts[:, None] > 0, above, 0.0).astype(np.float32)


def _exact(rows: NDArray[np.floating] | csr_array) -> Float32:
    return rows.toarray() if isinstance(rows, csr_array) else rows.astype(np.float32)


def _by_label(store: AttributionStore, weighed: Weighed, labels: int) -> Float32:
    """The weight of a text's rows by the output that they are about, ``[K]``."""
    return np.bincount(store.labels[weighed.rows], weighed.weights, labels).astype(np.float32)
