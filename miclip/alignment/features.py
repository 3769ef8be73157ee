"""What an atlas holds of the features of a dictionary: their layer's encoder reads their directions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from miclip.alignment.embedding import covariance_embeddings
from miclip.alignment.encoder import NeuronEncoder

Float32 = NDArray[np.float32]
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def feature_embeddings(
    directions: Float32, encoder: NeuronEncoder, activations: Float32, codes: Float32, attributions: Float32
) -> dict[str, Float32]:
    """Return every kind of embedding of a dictionary's features, each float32 ``[F, D]``, not normalised.

    ``filter`` is the paper's ``E_n(f_i)`` of the decoder direction ``f_i = W_dec[i]``. ``pattern`` and ``causal`` are
    the covariances of codes and of their attributions with what the layer's activations are about.

    Args:
        directions: The features' decoder directions, ``[F, d]``.
        encoder: The neuron encoder of the layer it is on.
        activations: Pooled activations of that layer, ``[N, d]``.
        codes: Pooled codes, ``[N, F]``.
        attributions: Attributions of the features, ``[N, F]``.
    """
    return {
        "filter": encoder(directions),
        **covariance_embeddings(encoder.embed_images(activations), codes, attributions),
    }


def sparse_tensors(codes: Float32, attributions: Float32) -> dict[str, NDArray[Any]]:
    """Return codes and attributions ``[N, F]`` as the tensors of an atlas: entries are kept where the code is not 0."""
    kept = csr_array(np.where(codes >= _SMALLEST, codes, 0.0))
    rows = np.repeat(np.arange(len(codes)), np.diff(kept.indptr))
    return {
        "row_ends": kept.indptr[1:].astype(np.int32),
        "features": kept.indices.astype(np.int32),
        "activation_values": np.minimum(kept.data, _LARGEST).astype(np.float16),
        "attribution_values": np.clip(attributions[rows, kept.indices], -_LARGEST, _LARGEST).astype(np.float16),
    }
