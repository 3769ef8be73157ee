"""The pictures that an atlas itself holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from miclip.atlas import Atlas
from miclip.errors import InvalidInput
from miclip.images import decode_image
from miclip.models.target import TargetModel

_TRIED = 64
"""Held-out images that are run through the model to find the strongest."""


def thumbnails(atlas: Atlas, rows: Sequence[int]) -> list[Tensor | None]:
    """Return the thumbnails of rows of an atlas, uint8 ``[3, H, W]``; None where its budget left one out.

    Raises:
        InvalidInput: the atlas has no thumbnails.
    """
    if atlas.thumbnails is None:
        model, probe_set = atlas.manifest.model, atlas.manifest.probe.set
        text = f"--images: the atlas of {model} has no thumbnails. Give the images of {probe_set!r}, or align it again."
        raise InvalidInput(text, field="--images", allowed="the images that the model was aligned on")
    encoded = [atlas.thumbnail(row) for row in rows]
    return [None if data is None else decode_image(data, field="thumbnail") for data in encoded]


def strongest_held_out(model: TargetModel, atlas: Atlas, layer: str, unit: int) -> Tensor | None:
    """Return the image that drives a unit most among 64 held-out ones, uint8 ``[3, H, W]``; None without any.

    Raises:
        NotFound: the model has no such layer.
        IndexError: the layer has no such unit.
    """
    held_out = atlas.held_out
    if held_out is None:
        return None
    count = min(len(held_out), _TRIED)
    places = np.arange(count) * len(held_out) // count
    images = [decode_image(held_out[int(place)], field="held-out image") for place in places]
    batch = torch.stack([model.preprocess(image) for image in images])
    with torch.no_grad():
        activations = model.forward(batch, capture=[layer]).activations[layer]
    return images[int(activations[:, unit].argmax())]
