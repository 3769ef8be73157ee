"""Where a prediction goes wrong: what an image's representation is about, layer by layer.

At every layer the image's representation is ``z = normalise(E_n @ (a - centre))``, its pooled activation in the shared
space, and is compared with the texts of concepts. Cosines of one layer compare with each other; those of different
layers need not, so a *takeover* is a matter of order within each layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, centre_texts
from miclip.errors import InvalidInput
from miclip.models.predictions import top_predictions
from miclip.retrieval.attribution import encode_activations
from miclip.retrieval.results import ImageTrace, LayerTrace


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


def image_traces(
    atlas: Atlas,
    activations: Mapping[str, NDArray[np.floating]],
    logits: NDArray[np.floating],
    concepts: NDArray[np.float32],
    top_k: int,
) -> tuple[ImageTrace, ...]:
    """Return what images are about at every captured layer, and their strongest labels.

    Args:
        atlas: The atlas of the model.
        activations: Pooled activations [B, d] by layer, at least one.
        logits: The images' logits [B, K].
        concepts: CLIP's embeddings [C, D] of the concepts' texts.
        top_k: Labels of an image.

    Raises:
        NotAligned, InvalidInput: as ``layer_scores``.
    """
    scores = layer_scores(atlas, activations, centre_texts(concepts, atlas.label_mean))
    return tuple(
        ImageTrace(
            layers=tuple(LayerTrace(name, tuple(row)) for name, row in zip(activations, rows, strict=True)),
            predictions=top_predictions(values, atlas.manifest.labels, top_k),
        )
        for rows, values in zip(scores.tolist(), logits, strict=True)
    )


def _encoded(atlas: Atlas, name: str, values: NDArray[np.floating]) -> NDArray[np.float32]:
    layer = atlas.layer(name)
    if values.ndim != 2 or values.shape[1] != layer.entry.units:
        shape, units = list(values.shape), layer.entry.units
        raise InvalidInput(f"Activations of layer {name} have the shape {shape}; allowed is [images, {units}].")
    return encode_activations(layer, values)
