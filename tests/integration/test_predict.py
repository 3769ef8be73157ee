"""Predict and CaptureActivations on the shipped models."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from miclip.catalogue import load_target
from miclip.demo.assets import IMAGES
from miclip.demo.assets import MODELS as MODEL_FILES
from miclip.images import decode_image
from miclip.steering.edits import Edit, Op, compile_edits, fingerprint
from miclip.v1 import activation_pb2 as pb
from miclip.v1 import resources_pb2
from tests.names import RESNET, VIT

MODELS = (RESNET, VIT)
MIDDLE = {RESNET: "layer3", VIT: "blocks.2"}


def edit_list(model: str, edits: list[Edit]) -> resources_pb2.EditList:
    messages = [
        resources_pb2.Edit(layer=f"models/{model}/layers/{e.layer}", unit=e.unit, **{e.op.value: e.value})
        for e in edits
    ]
    return resources_pb2.EditList(edits=messages)


def some_edits(model: str) -> list[Edit]:
    layer = MIDDLE[model]
    return [Edit(layer, 3, Op.SCALE, 0.0), Edit(layer, 5, Op.ADD, 1.5), Edit("logits", 0, Op.CLAMP, 7.0)]


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [path.read_bytes() for path in sorted((IMAGES / "twemoji").glob("*.webp"))[:24]]


def logits(response: Any, which: str = "predictions") -> np.ndarray:
    """All logits of a response, in the order of the labels."""
    rows = []
    for result in response.results:
        ordered = sorted(getattr(result, which), key=lambda prediction: prediction.index)
        rows.append([prediction.logit for prediction in ordered])
    return np.asarray(rows, dtype=np.float32)


@pytest.mark.parametrize("model", MODELS)
def test_get_model_publishes_layers_labels_and_limits(wire: Any, server: Any, model: str) -> None:
    answer = wire.call("activation/GetModel", pb.GetModelRequest(name=f"models/{model}"))
    target = load_target(model, "cpu")
    assert list(answer.model.labels) == list(target.labels)
    assert [(layer.name, layer.units) for layer in answer.model.layers] == [
        (f"models/{model}/layers/{layer.name}", layer.units) for layer in target.layers.values()
    ]
    assert answer.model.weights_sha256 == target.weights_sha256
    assert all(layer.aligned and layer.default_embedding for layer in answer.model.layers)
    assert answer.model.atlas.startswith("atlases/")
    for field in pb.Limits.DESCRIPTOR.fields:
        assert getattr(answer.limits, field.name) > 0, field.name


def test_list_models_pages_through_the_catalogue(wire: Any) -> None:
    whole = [model.name for model in wire.call("activation/ListModels", pb.ListModelsRequest()).models]
    paged, token = [], ""
    while not paged or token:
        page = wire.call("activation/ListModels", pb.ListModelsRequest(page_size=1, page_token=token))
        assert len(page.models) == 1
        paged, token = [*paged, page.models[0].name], page.next_page_token
    assert paged == whole
    assert {f"models/{model}" for model in MODELS} <= set(whole)


@pytest.mark.parametrize("model", MODELS)
def test_the_service_says_what_the_library_says(wire: Any, images: list[bytes], model: str) -> None:
    target, edits = load_target(model, "cpu"), some_edits(model)
    inputs = torch.stack([target.preprocess(decode_image(data, field="x")) for data in images])
    steered = target.forward(inputs, edits=compile_edits([edits] * len(images), target.layer_sizes)).logits.numpy()
    plain = target.forward(inputs).logits.numpy()
    request = pb.PredictRequest(
        model=f"models/{model}", images=images, edits=edit_list(model, edits), include_baseline=True, top_k=1000
    )
    answer = wire.call("activation/Predict", request)
    np.testing.assert_allclose(logits(answer), steered, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits(answer, "baseline"), plain, rtol=1e-4, atol=1e-4)
    assert answer.steering.outcome == pb.STEERING_OUTCOME_APPLIED
    assert answer.steering.fingerprint == fingerprint(edits)
    assert answer.weights_sha256 == target.weights_sha256
    assert {timing.stage for timing in answer.timings} == {"decode", "queue", "forward"}


@pytest.mark.parametrize("model", MODELS)
def test_edits_that_change_nothing_leave_every_bit(wire: Any, dog: bytes, model: str) -> None:
    layer = MIDDLE[model]
    same = [
        [],
        [Edit(layer, 1, Op.SCALE, 1.0), Edit(layer, 2, Op.ADD, 0.0)],
        [Edit(layer, 2, Op.SCALE, 1.0), Edit(layer, 1, Op.ADD, 0.0), Edit(layer, 3, Op.SCALE, 1.0)],
    ]
    plain = wire.call("activation/Predict", pb.PredictRequest(model=f"models/{model}", images=[dog], top_k=1000))
    for edits in same:
        request = pb.PredictRequest(
            model=f"models/{model}", images=[dog], top_k=1000, edits=edit_list(model, edits), include_baseline=True
        )
        answer = wire.call("activation/Predict", request)
        assert answer.steering.outcome == pb.STEERING_OUTCOME_NONE
        assert answer.steering.fingerprint == ""
        assert (logits(answer) == logits(plain)).all()
        assert (logits(answer, "baseline") == logits(plain)).all()


@pytest.mark.parametrize("model", MODELS)
def test_no_request_changes_another_in_its_batch(wire: Any, images: list[bytes], model: str) -> None:
    """Many steered, unsteered and capturing requests at once get what each would get alone."""
    layer, name = MIDDLE[model], f"models/{model}"

    def predict(i: int) -> Any:
        edits = [Edit(layer, i, Op.SCALE, float(i % 5) - 2.0)] if i % 2 else []
        return pb.PredictRequest(model=name, images=[images[i]], top_k=1000, edits=edit_list(model, edits))

    def capture(i: int) -> Any:
        return pb.CaptureActivationsRequest(model=name, images=[images[i]], layers=[f"{name}/layers/{layer}"])

    calls = [("activation/Predict", predict(i)) for i in range(24)]
    calls += [("activation/CaptureActivations", capture(i)) for i in range(24)]
    alone = [wire.call(rpc, request) for rpc, request in calls]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda call: wire.call(*call), calls))
    for one, other in zip(alone[:24], together[:24], strict=True):
        np.testing.assert_allclose(logits(one), logits(other), rtol=1e-4, atol=1e-4)
    for one, other in zip(alone[24:], together[24:], strict=True):
        values = [np.asarray(each.results[0].layers[0].values) for each in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_captured_activations_are_those_of_the_library(wire: Any, images: list[bytes], model: str) -> None:
    target = load_target(model, "cpu")
    layers = list(target.layers)
    inputs = torch.stack([target.preprocess(decode_image(data, field="x")) for data in images[:3]])
    expected = target.forward(inputs, layers).activations
    names = [f"models/{model}/layers/{layer}" for layer in layers]
    answer = wire.call(
        "activation/CaptureActivations",
        pb.CaptureActivationsRequest(model=f"models/{model}", images=images[:3], layers=names),
    )
    for row, result in enumerate(answer.results):
        assert [layer.layer for layer in result.layers] == names
        for layer, got in zip(layers, result.layers, strict=True):
            np.testing.assert_allclose(got.values, expected[layer][row].numpy(), rtol=1e-4, atol=1e-4)


def test_the_strongest_units_are_the_largest_activations(wire: Any, dog: bytes) -> None:
    name = "models/emoji-resnet/layers/layer4"
    base = pb.CaptureActivationsRequest(model="models/emoji-resnet", images=[dog], layers=[name])
    everything = list(wire.call("activation/CaptureActivations", base).results[0].layers[0].values)
    base.top_k = 5
    answer = wire.call("activation/CaptureActivations", base).results[0].layers[0]
    assert not answer.values
    best = sorted(range(len(everything)), key=lambda unit: -everything[unit])[:5]
    assert [unit.unit for unit in answer.strongest] == [f"{name}/units/{unit}" for unit in best]


def test_captured_activations_are_read_after_the_edits(wire: Any, dog: bytes) -> None:
    name = "models/emoji-resnet/layers/layer4"
    edits = edit_list("emoji-resnet", [Edit("layer4", 9, Op.CLAMP, 3.25)])
    request = pb.CaptureActivationsRequest(model="models/emoji-resnet", images=[dog], layers=[name], edits=edits)
    answer = wire.call("activation/CaptureActivations", request)
    assert answer.results[0].layers[0].values[9] == pytest.approx(3.25)


def test_an_edit_relative_to_the_maximum_uses_the_atlas(wire: Any, dog: bytes) -> None:
    from miclip.atlas import find_atlas

    layer = "models/emoji-resnet/layers/layer4"
    edit = resources_pb2.Edit(layer=layer, unit=9, clamp=0.5, relative_to_max=True)
    request = pb.CaptureActivationsRequest(
        model="models/emoji-resnet", images=[dog], layers=[layer], edits=resources_pb2.EditList(edits=[edit])
    )
    value = wire.call("activation/CaptureActivations", request).results[0].layers[0].values[9]
    assert value == pytest.approx(0.5 * float(find_atlas("emoji-resnet").layer("layer4").maximum[9]), rel=1e-4)


def test_a_model_with_broken_files_does_not_hide_the_others(wire: Any, server: Any) -> None:
    broken = Path(server.data_dir) / "models" / "broken.json"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes((MODEL_FILES / f"{VIT}.json").read_bytes())  # and no weights beside it
    try:
        names = [model.name for model in wire.call("activation/ListModels", pb.ListModelsRequest()).models]
        assert {f"models/{model}" for model in MODELS} <= set(names)
        assert "models/broken" not in names
        refusal = wire.refusal("activation/GetModel", pb.GetModelRequest(name="models/broken"))
        assert refusal.code == "FAILED_PRECONDITION", refusal
    finally:
        broken.unlink()


@pytest.mark.parametrize("model", MODELS)
def test_the_models_recognise_most_held_out_drawings(wire: Any, model: str) -> None:
    from miclip.demo.concepts import CLASSES, slugify

    data = [(IMAGES / "twemoji" / f"{slugify(name)}.webp").read_bytes() for name in CLASSES]
    hits = 0
    for start in range(0, len(data), 64):
        request = pb.PredictRequest(model=f"models/{model}", images=data[start : start + 64], top_k=1)
        results = wire.call("activation/Predict", request).results
        hits += sum(r.predictions[0].label == CLASSES[start + i] for i, r in enumerate(results))
    assert hits > 0.5 * len(CLASSES)


def test_every_allowed_format_is_read(wire: Any, dog: bytes) -> None:
    pixels = Image.open(io.BytesIO(dog)).convert("RGB")
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        pixels.save(buffer, kind)
        request = pb.PredictRequest(model="models/emoji-resnet", images=[buffer.getvalue()])
        assert len(wire.call("activation/Predict", request).results[0].predictions) == 5


def test_a_caller_that_gives_up_stops_costing(server: Any, wire: Any, images: list[bytes]) -> None:
    """Calls that run out of time are dropped; the next one is answered at once."""
    import grpc.aio

    from miclip.v1.activation_pb2_grpc import ActivationServiceStub

    async def burst() -> list[Any]:
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(server.grpc_endpoint, options=options) as channel:
            stub = ActivationServiceStub(channel)
            metadata = [("application", "activation"), ("authorization", f"Bearer {server.api_key}")]
            request = pb.PredictRequest(model="models/emoji-resnet", images=images * 2)
            calls = [stub.Predict(request, metadata=metadata, timeout=0.3) for _ in range(40)]
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(burst())
    late = [o for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert late
    assert {error.code() for error in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    request = pb.PredictRequest(model="models/emoji-resnet", images=[images[0]])
    answer = wire.call("activation/Predict", request, timeout=10)
    assert sum(t.seconds for t in answer.timings if t.stage == "queue") < 2
