"""What the integration tests share."""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2, steering_pb2
from tests.names import RESNET_NAME as MODEL
from tools.monitoring.prometheus import Prometheus, running
from tools.monitoring.read import RULES


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small image that is fine."""
    rng = np.random.default_rng(0)
    return encoded(rng.integers(0, 255, (48, 64, 3), np.uint8))


@pytest.fixture(scope="session")
def bad_images(png: bytes) -> dict[str, bytes]:
    """Images that must be refused, by what is wrong with them."""
    return {
        "empty": b"",
        "not an image": b"hello, this is text",
        "truncated": png[: len(png) // 2],
        "header of 65535 by 65535": header(65_535, 65_535),
        "bomb": header(16_000, 16_000) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b""),
        "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins",
    }


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def header(width: int, height: int) -> bytes:
    """A PNG's signature and header."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


REQUEST_ID = "metrics-test-4711"
CONCEPT = "an otter on roller skates"


@pytest.fixture(scope="session")
def prometheus(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that scrapes the server; alerts fire as soon as their condition holds."""
    with running(tmp_path_factory.mktemp("prometheus"), server.metrics_endpoint, RULES, hold="0s") as made:
        yield made


@pytest.fixture(scope="session")
def load(dog: bytes) -> Callable[[Any], None]:
    """Makes a call of every kind that moves a series, a known number of times."""
    return lambda wire: _load(wire, dog)


@pytest.fixture(scope="session")
def worked(server: Any, prometheus: Prometheus, wire_type: Any, load: Callable[[Any], None]) -> Iterator[Any]:
    """The server after some work, an alignment among it, all of it watched by Prometheus."""
    wire = wire_type(server.grpc_endpoint, server.api_key)
    load(wire)
    _align(wire, server.probe_dir)
    yield server
    wire.close()


def _load(wire: Any, dog: bytes) -> None:
    layer = f"{MODEL}/layers/layer4"
    edits = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=layer, unit=7, scale=0)])
    policy_id = f"m-{uuid.uuid4().hex[:8]}"
    policy = steering_pb2.Policy(model=MODEL, edits=edits)
    made = wire.call("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy_id=policy_id, policy=policy))
    for steering in ({}, {"edits": edits}, {"policy": made.policy.name}):
        for _ in range(3):
            request = activation_pb2.PredictRequest(model=MODEL, images=[dog] * 4, **steering)
            wire.call("activation/Predict", request, metadata=[("request_id", REQUEST_ID)])
    wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=[f"{CONCEPT} {policy_id}"]))
    wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=[f"{CONCEPT} {policy_id}"]))
    wire.call("aligner/EmbedImages", aligner_pb2.EmbedImagesRequest(images=[dog]))
    wire.call("retrieval/LocalizeConcepts", retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=[CONCEPT]))
    wire.call("retrieval/DescribeUnits", retrieval_pb2.DescribeUnitsRequest(units=[f"{layer}/units/7"]))
    wire.refusal("activation/GetModel", activation_pb2.GetModelRequest(name="models/no-such-model"))
    wire.call("steering/DeletePolicy", steering_pb2.DeletePolicyRequest(name=made.policy.name))


def _align(wire: Any, folder: Path) -> None:
    from miclip.demo.probe import demo_probe

    probe = demo_probe()
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(0, len(probe.names), len(probe.names) // 128):  # the same as other tests put there
        Image.fromarray(probe.load(row, row + 1)[0].permute(1, 2, 0).numpy()).save(folder / f"{row:05d}.png")
    request = aligner_pb2.CreateAlignmentRequest(
        model=MODEL,
        probe_set="small",
        layers=[f"{MODEL}/layers/logits"],
        settings=aligner_pb2.AlignmentSettings(steps=20),
    )
    name = wire.call("aligner/CreateAlignment", request).alignment.name
    end = wire.stream("aligner/WatchAlignment", aligner_pb2.WatchAlignmentRequest(name=name), timeout=240)[-1].alignment
    assert end.state == aligner_pb2.ALIGNMENT_STATE_SUCCEEDED, end.error
