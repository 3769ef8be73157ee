"""Which vector is a unit's embedding: the encoder's filter, the pattern it responds to, or what it causes.

All three are closed forms over the probe set once the encoder is trained. ``filter`` is the paper's ``E_n(e_i)``.
``pattern`` is the covariance of the unit with the images' embeddings (Haufe et al. 2014: a filter also cancels what
correlated units carry, a pattern does not). ``causal`` is the same covariance with the unit's *attribution* in place of
its activation: what the images in which the unit drives the prediction are about.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from miclip.alignment.encoder import NeuronEncoder

Float32 = NDArray[np.float32]


def unit_embeddings(encoder: NeuronEncoder, activations: Float32, attributions: Float32) -> dict[str, Float32]:
    """Return every kind of unit embedding of a layer, each float32 ``[d, D]``, not normalised."""
    embedded = encoder.embed_images(activations)
    filters = np.ascontiguousarray(encoder.weight.T)
    return {"filter": filters, **covariance_embeddings(embedded, activations, attributions)}


def covariance_embeddings(embedded: Float32, activations: Float32, attributions: Float32) -> dict[str, Float32]:
    """Return ``pattern`` and ``causal`` of units ``[N, F]`` whose images are embedded as ``[N, D]``."""
    spread = np.maximum(activations.std(axis=0), 1e-12)
    return {
        "pattern": _covariance((activations - activations.mean(axis=0)) / spread, embedded),
        "causal": _covariance(attributions - attributions.mean(axis=0), embedded),
    }


def _covariance(units: Float32, embedded: Float32) -> Float32:
    return (units.T @ (embedded - embedded.mean(axis=0)) / len(units)).astype(np.float32)
