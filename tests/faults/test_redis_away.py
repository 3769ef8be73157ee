"""A server behind Serve's own proxy whose Redis dies."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2, steering_pb2

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MODEL = "models/emoji-resnet"


@pytest.fixture(scope="module")
def own_server(start_server: Any) -> Iterator[Any]:
    with start_server(MICLIP_INGRESS="python") as running:
        yield running


@pytest.fixture
def own_wire(own_server: Any, wire_type: Any) -> Iterator[Any]:
    wire = wire_type(own_server.grpc_endpoint, own_server.api_key)
    yield wire
    wire.close()


def predict(image: bytes) -> activation_pb2.PredictRequest:
    return activation_pb2.PredictRequest(model=MODEL, images=[image], policy="policies/kept")


def test_without_redis_the_last_policies_stay_in_force_and_writes_are_refused(
    own_server: Any, own_wire: Any, dog: bytes
) -> None:
    edits = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=f"{MODEL}/layers/layer4", unit=1, scale=0)])
    policy = steering_pb2.Policy(model=MODEL, edits=edits)
    own_wire.call("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy_id="kept", policy=policy))
    assert not own_wire.call("activation/Predict", predict(dog)).steering.stale
    os.kill(_redis_pid(own_server), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not own_wire.call("activation/Predict", predict(dog)).steering.stale:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    answer = own_wire.call("activation/Predict", predict(dog))
    assert answer.steering.outcome == activation_pb2.STEERING_OUTCOME_APPLIED
    assert answer.steering.policy_version == 1
    own_wire.call("aligner/EmbedTexts", aligner_pb2.EmbedTextsRequest(texts=["a cat"]))
    localize = retrieval_pb2.LocalizeConceptsRequest(model=MODEL, texts=["dog"])
    own_wire.call("retrieval/LocalizeConcepts", localize)
    for rpc, request in (
        ("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy=policy)),
        ("steering/DeletePolicy", steering_pb2.DeletePolicyRequest(name="policies/kept")),
        ("steering/StopSteering", steering_pb2.StopSteeringRequest(reason="x")),
    ):
        assert own_wire.refusal(rpc, request).code == "UNAVAILABLE"

    with urllib.request.urlopen(f"http://{own_server.metrics_endpoint}/metrics", timeout=10) as response:
        exposed = response.read().decode()
    assert 'miclip_policies_stale{service="activation"} 1.0' in exposed
    errors = re.findall(r"^miclip_redis_errors_total{[^}]*} (\S+)$", exposed, re.MULTILINE)
    assert sum(map(float, errors)) > 0


def _redis_pid(server: Any) -> int:
    import json

    return int(json.loads((server.state_dir / "server.json").read_text())["redis_pid"])
