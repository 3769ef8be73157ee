"""Where a prediction goes wrong, over gRPC; compared with NumPy on the atlas's own arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from miclip.atlas import Atlas
from miclip.cli.app import app
from miclip.cli.examples import example_image
from miclip.client import MiclipClient
from miclip.demo.assets import ATLASES, MODELS
from miclip.settings import settings
from miclip.v1 import activation_pb2, aligner_pb2
from tests.names import RESNET, VIT

MODELS_TRACED = (RESNET, VIT)
CONCEPTS = ("dog", "cat", "something with wheels")


def trace(wire: Any, model: str, images: list[bytes], concepts: Any = CONCEPTS, **fields: Any) -> Any:
    request = aligner_pb2.TraceImagesRequest(model=f"models/{model}", images=images, concepts=concepts, **fields)
    return wire.call("aligner/TraceImages", request)


def scores_of(result: Any) -> Any:
    return np.array([layer.scores for layer in result.layers], np.float64)


def opened(server: Any, name: str) -> Atlas:
    atlas_id = name.removeprefix("atlases/")
    roots = [Path(server.data_dir) / "atlases", ATLASES]
    return next(Atlas.open(root, atlas_id) for root in roots if (root / atlas_id).is_dir())


def unit_length(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("model", MODELS_TRACED)
def test_scores_agree_with_numpy_on_captured_activations(
    wire: Any, server: Any, png: bytes, dog: bytes, model: str
) -> None:
    answer = trace(wire, model, [png, dog])
    atlas = opened(server, answer.provenance.atlas)
    names = [f"models/{model}/layers/{layer}" for layer in atlas.neuron_layers]
    captured = wire.call(
        "activation/CaptureActivations",
        activation_pb2.CaptureActivationsRequest(model=f"models/{model}", images=[png, dog], layers=names),
    )
    embedded = wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=CONCEPTS)).embeddings
    texts = np.array([each.values for each in embedded], np.float64)
    texts = unit_length(texts - atlas.label_embeddings.astype(np.float64).mean(0))
    for result, activations in zip(answer.results, captured.results, strict=True):
        assert [layer.layer for layer in result.layers] == names
        for layer, row, values in zip(atlas.neuron_layers, scores_of(result), activations.layers, strict=True):
            if layer == "logits":
                powers = np.exp(np.array(values.values, np.float64))
                places = [atlas.manifest.labels.index(label) for label in answer.labels]
                np.testing.assert_allclose(row, (powers / powers.sum())[places], atol=1e-4)
                continue
            record = atlas.layer(layer)
            encoder, centre = (np.asarray(each, np.float64) for each in (record.encoder, record.centre))
            z = unit_length(encoder @ (np.array(values.values, np.float64) - centre))
            np.testing.assert_allclose(row, texts @ z, atol=1e-4)


@pytest.mark.parametrize("model", MODELS_TRACED)
def test_the_predictions_are_those_of_predict(wire: Any, png: bytes, dog: bytes, model: str) -> None:
    request = activation_pb2.PredictRequest(model=f"models/{model}", images=[png, dog], top_k=7)
    predicted = wire.call("activation/Predict", request).results
    traced = trace(wire, model, [png, dog], top_k=7).results
    for one, other in zip(traced, predicted, strict=True):
        assert [each.label for each in one.predictions] == [each.label for each in other.predictions]
        assert [each.index for each in one.predictions] == [each.index for each in other.predictions]
        for field in ("logit", "probability"):
            expected = [getattr(each, field) for each in other.predictions]
            assert [getattr(each, field) for each in one.predictions] == pytest.approx(expected, abs=1e-3)
    assert [len(each.predictions) for each in trace(wire, model, [dog]).results] == [5]


def test_an_answer_says_what_it_was_computed_from(wire: Any, server: Any, dog: bytes) -> None:
    answer = trace(wire, "emoji-resnet", [dog])
    atlas, given = opened(server, answer.provenance.atlas), answer.provenance
    manifest = atlas.manifest
    assert (given.clip_id, given.weights_sha256) == (manifest.clip_id, manifest.weights_sha256)
    assert list(given.layers) == [layer.layer for layer in answer.results[0].layers]
    files = [atlas.layer(name).entry.file for name in atlas.neuron_layers]
    assert list(given.encoder_sha256) == [manifest.files[file].sha256 for file in files]
    assert {timing.stage for timing in answer.timings} == {"capture", "embed", "compare"}


def test_an_image_and_a_concept_get_the_same_alone_and_in_company(wire: Any, png: bytes, dog: bytes) -> None:
    together = trace(wire, "emoji-resnet", [png, dog, dog], (*CONCEPTS, " dog ", "dog"))
    first, second, third = (scores_of(result) for result in together.results)
    alone = scores_of(trace(wire, "emoji-resnet", [dog], ["cat"]).results[0])
    np.testing.assert_allclose(second, third, atol=1e-4)
    np.testing.assert_allclose(alone[:, 0], second[:, 1], atol=1e-4)
    np.testing.assert_array_equal(second[:, 0], second[:, 3])
    assert np.abs(first - second).max() > 0.01


def test_a_picture_is_nearer_to_what_it_shows_than_to_what_it_does_not(wire: Any, dog: bytes) -> None:
    (result,) = trace(wire, "emoji-resnet", [dog], ["dog", "airplane"]).results
    assert (scores_of(result)[:, 0] > scores_of(result)[:, 1]).all()


def test_a_key_with_scope_read_is_enough(connect: Callable[[str], Any], server: Any, dog: bytes) -> None:
    assert len(trace(connect(server.read_key), "emoji-resnet", [dog]).results) == 1


@pytest.fixture
def unaligned(server: Any) -> Iterator[str]:
    """A model that is served and was never aligned."""
    folder = Path(server.data_dir) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"never-aligned{ending}" for ending in (".safetensors", ".json")]
    for file in files:
        shutil.copyfile(MODELS / f"emoji-resnet{file.suffix}", file)
    yield "never-aligned"
    for file in files:
        file.unlink()


def test_a_model_without_an_atlas_is_refused_as_not_aligned(wire: Any, unaligned: str, dog: bytes) -> None:
    fields = {"images": [dog], "concepts": ["dog"]}
    request = aligner_pb2.TraceImagesRequest(model=f"models/{unaligned}", **fields)
    refusal = wire.refusal("aligner/TraceImages", request)
    assert (refusal.code, refusal.reason, refusal.fields) == ("FAILED_PRECONDITION", "NOT_ALIGNED", ("model",))
    assert len(trace(wire, "emoji-resnet", [dog]).results) == 1


def test_the_client_returns_the_scores_of_every_layer(server: Any, wire: Any, png: bytes, dog: bytes) -> None:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.read_key) as client:
        result = client.trace([png, example_image()], model="emoji-vit", concepts=CONCEPTS, top_k=2)
    answer = trace(wire, "emoji-vit", [png, dog])
    assert result.concepts == tuple(CONCEPTS)
    scores = [[layer.scores for layer in each.layers] for each in result.traces]
    np.testing.assert_allclose(scores, [scores_of(each) for each in answer.results], atol=1e-4)
    names = [f"models/emoji-vit/layers/{layer.layer}" for layer in result.traces[0].layers]
    assert names == [layer.layer for layer in answer.results[0].layers] == list(result.provenance.layers)
    assert [len(each.predictions) for each in result.traces] == [2, 2]


def test_the_command_line_answers_the_same_with_and_without_a_server(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    plot = tmp_path / "trace.png"
    arguments = ["trace", str(example_image()), "--expected", "dog", "--against", "cat", "--against", "goat", "--json"]
    try:
        results = [CliRunner().invoke(app, [*arguments, *more]) for more in (["--plot", str(plot)], ["--local"])]
    finally:
        settings.cache_clear()
    assert [result.exit_code for result in results] == [0, 0], [result.stderr for result in results]
    remote, local = (json.loads(result.stdout) for result in results)
    assert [layer["layer"] for layer in remote["layers"]] == [layer["layer"] for layer in local["layers"]]
    for ours, theirs in zip(remote["layers"], local["layers"], strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-4)
    assert [remote[name] for name in ("concepts", "takeovers", "atlas")] == [
        local[name] for name in ("concepts", "takeovers", "atlas")
    ]
    assert [label["label"] for label in remote["predictions"]] == [label["label"] for label in local["predictions"]]
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
