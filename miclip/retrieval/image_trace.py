"""Where a prediction goes wrong: what an image's representation is about, layer by layer.

At every layer the image's representation is ``z = normalise(E_n @ (a - centre))``, its pooled activation in the shared
space, and is compared with the texts of concepts. Cosines of one layer compare with each other; those of different
layers need not, so a *takeover* is a matter of order within each layer.

At the logits nothing has to be decoded: the model has answered. There a concept's score is the probability of the
label that stands for it, the one of the same text or else the nearest: a trace never contradicts the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, centre_texts
from miclip.errors import InvalidInput
from miclip.models.predictions import softmax, top_predictions
from miclip.retrieval.attribution import encode_activations
from miclip.retrieval.results import ImageTrace, LayerTrace

LOGITS = "logits"
"""The layer of the model's answer."""


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
    labels: Sequence[str],
    top_k: int,
) -> tuple[ImageTrace, ...]:
    """Return what images are about at every captured layer and at the logits, and their strongest labels.

    Args:
        atlas: The atlas of the model.
        activations: Pooled activations [B, d] by layer, at least one.
        logits: The images' logits [B, K].
        concepts: CLIP's embeddings [C, D] of the concepts' texts.
        labels: Label of the model that stands for each concept; see ``labels_of``.
        top_k: Labels of an image.

    Raises:
        NotAligned, InvalidInput: as ``layer_scores``.
    """
    before = {name: values for name, values in activations.items() if name != LOGITS}
    centred = centre_texts(concepts, atlas.label_mean)
    scores = layer_scores(atlas, before, centred) if before else np.empty((len(logits), 0, len(labels)), np.float32)
    names = np.asarray(atlas.manifest.labels)
    answers = softmax(np.asarray(logits)) @ (names[:, None] == np.asarray(labels)[None, :])
    return tuple(
        ImageTrace(
            layers=(
                *(LayerTrace(name, tuple(row)) for name, row in zip(before, rows, strict=True)),
                LayerTrace(LOGITS, tuple(answer), "probability"),
            ),
            predictions=top_predictions(values, atlas.manifest.labels, top_k),
        )
        for rows, answer, values in zip(scores.tolist(), answers.tolist(), logits, strict=True)
    )


def labels_of(atlas: Atlas, texts: Sequence[str], concepts: NDArray[np.float32]) -> tuple[str, ...]:
    """Return the model's label that stands for each concept: that of the same text, else the nearest.

    Args:
        atlas: The atlas of the model.
        texts: The concepts.
        concepts: CLIP's embeddings [C, D] of them.
    """
    names = {label.casefold(): label for label in reversed(atlas.manifest.labels)}
    mean = atlas.label_mean
    nearest = (centre_texts(concepts, mean) @ centre_texts(atlas.label_embeddings, mean).T).argmax(axis=1)
    return tuple(
        names.get(text.strip().casefold(), atlas.manifest.labels[place])
        for text, place in zip(texts, nearest.tolist(), strict=True)
    )


def _encoded(atlas: Atlas, name: str, values: NDArray[np.floating]) -> NDArray[np.float32]:
    layer = atlas.layer(name)
    if values.ndim != 2 or values.shape[1] != layer.entry.units:
        shape, units = list(values.shape), layer.entry.units
        raise InvalidInput(f"Activations of layer {name} have the shape {shape}; allowed is [images, {units}].")
    return encode_activations(layer, values)
