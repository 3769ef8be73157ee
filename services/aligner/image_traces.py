"""Traces of images: activations from the activation service, compared with concepts, as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas, centre_texts
from miclip.errors import BadArtefact
from miclip.names import LayerName, ModelName
from miclip.retrieval.image_trace import layer_scores
from miclip.v1 import activation_pb2
from miclip.v1 import aligner_pb2 as pb
from services.rpc import Peer

_LOGITS = "logits"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Captured:
    """What a model makes of images.

    Attributes:
        activations: Pooled activations [B, d] of every layer of the atlas, from the input to the output.
        logits: [B, K].
    """

    activations: Mapping[str, Array]
    logits: Array


async def capture(activation: Peer, atlas: Atlas, images: Sequence[bytes]) -> Captured:
    """Run images through the atlas's model, unsteered.

    Raises:
        InvalidInput: an image cannot be used; names ``images[i]``.
        BadArtefact: the atlas was made for other weights than those served.
    """
    model, layers = atlas.manifest.model, atlas.neuron_layers
    wanted = tuple(dict.fromkeys([*layers, _LOGITS]))
    request = activation_pb2.CaptureActivationsRequest(
        model=str(ModelName(model)), images=images, layers=[str(LayerName(model, layer)) for layer in wanted]
    )
    answer = await activation.call("CaptureActivations", request)
    if answer.weights_sha256 != atlas.manifest.weights_sha256:
        raise BadArtefact(
            f"Atlas {atlas.atlas_id[:12]} was made for other weights of model {model} than those served. "
            "Align the model again.",
            field="model",
        )
    found = {
        layer: np.array([image.layers[place].values for image in answer.results], np.float32)
        for place, layer in enumerate(wanted)
    }
    return Captured({layer: found[layer] for layer in layers}, found[_LOGITS])


def image_traces(atlas: Atlas, captured: Captured, concepts: Array, top_k: int) -> list[pb.ImageTrace]:
    """One message an image; ``concepts`` are CLIP's embeddings [C, D] of texts."""
    scores = layer_scores(atlas, captured.activations, centre_texts(concepts, atlas.label_mean))
    names = [str(LayerName(atlas.manifest.model, layer)) for layer in captured.activations]
    return [
        pb.ImageTrace(
            layers=[pb.LayerTrace(layer=name, scores=row) for name, row in zip(names, rows, strict=True)],
            predictions=_predictions(logits, atlas.manifest.labels, top_k),
        )
        for rows, logits in zip(scores, captured.logits, strict=True)
    ]


def _predictions(logits: Array, labels: Sequence[str], top_k: int) -> list[activation_pb2.Prediction]:
    powers = np.exp(logits - logits.max())
    probabilities = powers / powers.sum()
    return [
        activation_pb2.Prediction(label=labels[i], index=i, logit=float(logits[i]), probability=float(probabilities[i]))
        for i in np.argsort(-logits, kind="stable")[:top_k].tolist()
    ]
