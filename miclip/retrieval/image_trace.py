"""Where a prediction goes wrong: what an image's representation is about, layer by layer.

At every layer the image's representation is ``z = normalise(E_n @ (a - centre))``, its pooled activation in the shared
space, and is compared with the texts of concepts. Cosines of one layer compare with each other; those of different
layers need not, so a *takeover* is a matter of order within each layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas
from miclip.errors import InvalidInput
from miclip.retrieval.attribution import encode_activations


def layer_scores(
    atlas: Atlas, activations: Mapping[str, NDArray[np.floating]], concepts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Compare images with concepts at every captured layer.

    Args:
        atlas: The atlas of the model.
        activations: Pooled activations [B, d] by layer, at least one.
        concepts: Centred, normalised text embeddings [C, D] (``AtlasSearcher.centre``).

    Returns:
        Cosines [B, L, C] float32, layers in the order of ``activations``.

    Raises:
        NotAligned: a layer is not in the atlas.
        InvalidInput: a layer's activations do not have one value a unit.
    """
    return np.stack([_encoded(atlas, name, values) @ concepts.T for name, values in activations.items()], axis=1)


def takeover(scores: NDArray[np.floating], expected: int, against: int) -> int | None:
    """Return the first layer from which on a wrong concept stays above the expected one.

    Args:
        scores: Cosines [L, C] of one image.
        expected: Column of the concept that should be nearest.
        against: Column of the wrong concept.

    Returns:
        The layer, 0 to L-1; None where the expected concept is at least as near at the last layer.
    """
    not_above = np.flatnonzero(scores[:, against] <= scores[:, expected])
    first = int(not_above[-1]) + 1 if len(not_above) else 0
    return first if first < len(scores) else None


def _encoded(atlas: Atlas, name: str, values: NDArray[np.floating]) -> NDArray[np.float32]:
    layer = atlas.layer(name)
    if values.ndim != 2 or values.shape[1] != layer.entry.units:
        shape, units = list(values.shape), layer.entry.units
        raise InvalidInput(f"Activations of layer {name} have the shape {shape}; allowed is [images, {units}].")
    return encode_activations(layer, values)
