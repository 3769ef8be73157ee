"""The Python client against the real server, through its real ingress."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import miclip.demo
from miclip import errors
from miclip.client import APPLICATIONS, AsyncMiclipClient, MiclipClient, make_policy
from miclip.steering.edits import Edit, Op
from tests.names import RESNET as MODEL

IMAGE = Path(miclip.demo.__file__).parent / "assets/images/twemoji/airplane.webp"


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as connected:
        yield connected


def test_every_service_serves_and_needs_no_key_to_say_so(server: Any) -> None:
    with MiclipClient(endpoint=server.grpc_endpoint, api_key="wrong") as stranger:
        assert stranger.health() == dict.fromkeys(APPLICATIONS, "SERVING")


def test_a_wrong_key_and_a_missing_scope_are_the_librarys_errors(server: Any, client: MiclipClient) -> None:
    with pytest.raises(errors.Unauthenticated):
        client.with_options(api_key="wrong").list_models()
    reader = client.with_options(api_key=server.read_key)
    assert MODEL in {model.name.removeprefix("models/") for model in reader.list_models()}
    with pytest.raises(errors.PermissionDenied):
        reader.stop_steering("no scope")


def test_an_error_names_field_and_range(client: MiclipClient) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        client.predict([IMAGE], model=MODEL, top_k=0)
    assert caught.value.field == "top_k"
    assert caught.value.allowed
    with pytest.raises(errors.InvalidInput) as caught:
        client.predict([IMAGE], model=MODEL, edits=[Edit("layer4", 0, Op.SCALE, float("nan"))])
    assert caught.value.field.startswith("edits")
    with pytest.raises(errors.NotFound):
        client.get_model("no-such-model")
    with pytest.raises(errors.NotFound):
        list(client.watch_alignment("no-such-alignment"))


def test_blocking_and_asyncio_get_the_same_steered_answer(server: Any, client: MiclipClient) -> None:
    edits = [Edit("layer4", unit, Op.SCALE, 0.0) for unit in range(200)]
    arguments: dict[str, Any] = {"model": MODEL, "edits": edits, "include_baseline": True, "top_k": 3}

    async def ask() -> Any:
        async with AsyncMiclipClient(endpoint=server.grpc_endpoint, api_key=server.api_key) as waiting:
            return await asyncio.gather(waiting.predict([IMAGE], **arguments), waiting.get_model(MODEL))

    first = client.predict([IMAGE, IMAGE.read_bytes()], **arguments)
    second, model = asyncio.run(ask())
    assert first.steering == second.steering
    assert (first.steering.outcome, len(first.steering.fingerprint)) == ("applied", 64)
    assert len(first.images) == 2
    one, other = first.images[0], second.images[0]
    assert [p.label for p in one.predictions] == [p.label for p in other.predictions]
    assert [p.logit for p in one.baseline] == pytest.approx([p.logit for p in other.baseline], abs=1e-3)
    assert one.baseline[0].logit != pytest.approx(one.predictions[0].logit, abs=1e-3)
    assert model.labels[one.predictions[0].index] == one.predictions[0].label
    assert first.weights_sha256 == model.weights_sha256


def test_activations_come_as_arrays_and_as_the_strongest_units(client: MiclipClient) -> None:
    name = f"models/{MODEL}/layers/layer4"
    units = next(layer.units for layer in client.get_model(MODEL).layers if layer.name == name)
    values = client.capture([IMAGE], model=MODEL, layers=["layer4"]).activations[name]
    assert (values.shape, values.dtype) == ((1, units), np.float32)
    ((best, *_),) = client.capture([IMAGE], model=MODEL, layers=["layer4"], top_k=4).strongest[name]
    assert best == (f"{name}/units/{values[0].argmax()}", pytest.approx(values.max(), abs=1e-4))


def test_a_policy_written_in_between_is_a_conflict(client: MiclipClient) -> None:
    edits = [Edit("layer4", 1, Op.SCALE, 2.0)]
    read = client.create_policy("contract-etag", make_policy(model=MODEL, edits=edits, description="first"))
    try:
        with pytest.raises(errors.AlreadyExists):
            client.create_policy("contract-etag", make_policy(model=MODEL, edits=edits))
        assert client.update_policy(read.replaced(description="second")).version == read.version + 1
        with pytest.raises(errors.Conflict):
            client.update_policy(read)
        with pytest.raises(errors.Conflict):
            client.delete_policy("contract-etag", etag=read.etag)
        assert "policies/contract-etag" in {policy.name for policy in client.list_policies(MODEL)}
    finally:
        client.delete_policy("contract-etag")
    with pytest.raises(errors.NotFound):
        client.get_policy("contract-etag")


def test_texts_and_images_are_points_of_one_space(client: MiclipClient) -> None:
    words, images = client.embed_texts(["airplane", "banana"]), client.embed_images([IMAGE])
    assert words.values.shape[1] == images.values.shape[1]
    assert words.clip_id == images.clip_id != ""
    np.testing.assert_allclose(np.linalg.norm(words.values, axis=1), 1, atol=1e-4)


def test_units_of_a_layer_are_described_and_a_concept_is_found_among_them(client: MiclipClient) -> None:
    layer = f"models/{MODEL}/layers/logits"
    labels = list(client.get_model(MODEL).labels)
    described = client.describe(layer=layer, top_k=1)
    assert [str(one.name) for one in described.descriptions] == [f"{layer}/units/{i}" for i in range(len(labels))]
    own = sum(one.concepts[0].concept == label for one, label in zip(described.descriptions, labels, strict=True))
    assert own > len(labels) / 2
    (found,) = client.localize(labels[0], model=MODEL, layers=["layer4"], top_k=7).localizations
    assert len(found.units) == 7
    assert [unit.score for unit in found.units] == sorted((unit.score for unit in found.units), reverse=True)
    record = client.get_unit(found.units[0].name)
    assert record.histogram_counts
    assert record.statistics.name == record.description.name == found.units[0].name
