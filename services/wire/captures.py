"""What a model makes of images, asked of the activation service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.names import LayerName, ModelName
from miclip.steering.edits import Edit
from miclip.v1 import activation_pb2, resources_pb2
from miclip.wire.edits import write_edits
from services.rpc import Peer

LOGITS = "logits"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Captured:
    """What a model makes of images.

    Attributes:
        activations: Pooled activations [B, d] of every layer that was asked for, in order.
        logits: [B, K].
        weights_sha256: Of the model.
    """

    activations: Mapping[str, Array]
    logits: Array
    weights_sha256: str


async def capture(
    activation: Peer,
    model: str,
    images: Sequence[bytes],
    layers: Sequence[str],
    *,
    at_once: int,
    edits: Sequence[Edit] | None = None,
) -> Captured:
    """Run images through a model, ``at_once`` a call.

    Args:
        activation: The activation service.
        model: Id of the model.
        images: Encoded images, at least one.
        layers: Layers to read besides the logits.
        at_once: Images of one call.
        edits: Validated edits to make; none at all is not steered.

    Raises:
        InvalidInput: an image cannot be used, and is named, or the edits together cannot.
    """
    names = tuple(dict.fromkeys([*layers, LOGITS]))
    steering = None if edits is None else resources_pb2.EditList(edits=write_edits(edits, model))
    images_captured: list[activation_pb2.ImageActivations] = []
    for start in range(0, len(images), at_once):
        request = activation_pb2.CaptureActivationsRequest(
            model=str(ModelName(model)),
            images=images[start : start + at_once],
            layers=[str(LayerName(model, name)) for name in names],
            edits=steering,
        )
        answer = await activation.call("CaptureActivations", request)
        images_captured.extend(answer.results)
    values = {
        name: np.array([image.layers[place].values for image in images_captured], np.float32)
        for place, name in enumerate(names)
    }
    return Captured({name: values[name] for name in layers}, values[LOGITS], answer.weights_sha256)
