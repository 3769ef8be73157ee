"""What the aligner makes of captured activations; the activation service is played by a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from miclip.atlas import Atlas
from miclip.errors import BadArtefact
from miclip.retrieval.image_trace import image_traces
from miclip.v1 import activation_pb2
from services.aligner.image_traces import capture


class Activation:
    """Answers the first probe rows of the atlas."""

    def __init__(self, atlas: Atlas, weights: str = "") -> None:
        self._atlas, self._weights = atlas, weights or atlas.manifest.weights_sha256
        self.requests: list[Any] = []

    async def call(self, method: str, request: Any) -> Any:
        self.requests.append(request)
        answer = activation_pb2.CaptureActivationsResponse(weights_sha256=self._weights)
        for row in range(len(request.images)):
            image = answer.results.add()
            for name in request.layers:
                values = self._atlas.layer(name.rpartition("/")[2]).activations[row]
                image.layers.add(layer=name, values=values.astype(float))
        return answer


async def test_all_layers_are_captured_in_one_unsteered_call(atlas: Atlas) -> None:
    activation = Activation(atlas)
    captured = await capture(activation, atlas, [b"1", b"2"], 8)  # type: ignore[arg-type]
    (request,) = activation.requests
    assert list(request.layers) == ["models/toy/layers/mid", "models/toy/layers/logits"]
    assert request.WhichOneof("steering") is None
    np.testing.assert_allclose(captured.activations["mid"], atlas.layer("mid").activations[:2], atol=1e-6)
    np.testing.assert_allclose(captured.logits, atlas.layer("logits").activations[:2], atol=1e-6)


async def test_an_atlas_of_other_weights_is_refused(atlas: Atlas) -> None:
    with pytest.raises(BadArtefact, match="other weights"):
        await capture(Activation(atlas, "f" * 64), atlas, [b"1"], 8)  # type: ignore[arg-type]


async def test_predictions_are_the_softmax_of_the_logits_best_first(atlas: Atlas) -> None:
    captured = await capture(Activation(atlas), atlas, [b"1"], 8)  # type: ignore[arg-type]
    logits = atlas.layer("logits").activations[0].astype(float)
    labels = atlas.manifest.labels
    (answer,) = image_traces(atlas, captured.activations, captured.logits, atlas.label_embeddings, labels, 3)
    order = np.argsort(-logits)[:3]
    assert [one.index for one in answer.predictions] == order.tolist()
    assert [one.label for one in answer.predictions] == [atlas.manifest.labels[at] for at in order]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([one.probability for one in answer.predictions], expected[order], rtol=1e-5)
    (everything,) = image_traces(atlas, captured.activations, captured.logits, atlas.label_embeddings, labels, 1000)
    assert len(everything.predictions) == len(logits)


async def test_images_beyond_a_calls_limit_are_captured_in_further_calls(atlas: Atlas) -> None:
    activation = Activation(atlas)
    captured = await capture(activation, atlas, [b"1", b"2", b"3"], 2)  # type: ignore[arg-type]
    assert [len(request.images) for request in activation.requests] == [2, 1]
    rows = atlas.layer("mid").activations[[0, 1, 0]]
    np.testing.assert_allclose(captured.activations["mid"], rows, atol=1e-6)
