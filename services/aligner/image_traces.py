"""Traces of images: activations from the activation service, compared with concepts."""

from __future__ import annotations

from collections.abc import Sequence

from miclip.atlas import Atlas
from miclip.errors import BadArtefact
from services.rpc import Peer
from services.wire import captures
from services.wire.captures import Captured


async def capture(activation: Peer, atlas: Atlas, images: Sequence[bytes], at_once: int) -> Captured:
    """Run images through the atlas's model, unsteered, and read every layer of neurons that the atlas covers.

    Raises:
        InvalidInput: an image cannot be used; names ``images[i]``.
        BadArtefact: the atlas was made for other weights than those served.
    """
    model = atlas.manifest.model
    captured = await captures.capture(activation, model, images, atlas.neuron_layers, at_once=at_once)
    if captured.weights_sha256 != atlas.manifest.weights_sha256:
        raise BadArtefact(
            f"Atlas {atlas.atlas_id[:12]} was made for other weights of model {model} than those served. "
            "Align the model again.",
            field="model",
        )
    return captured
