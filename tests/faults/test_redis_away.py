"""A server behind Serve's own proxy, with a broken atlas from the start, whose Redis dies and comes back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch

from miclip.atlas.store import active_atlas_id
from miclip.attach import attach
from miclip.catalogue import load_target
from miclip.client import MiclipClient
from miclip.demo.assets import ATLASES
from miclip.images import decode_image
from miclip.v1 import activation_pb2, aligner_pb2, resources_pb2, retrieval_pb2, steering_pb2
from services.node.redis import EmbeddedRedis
from tests.names import RESNET_NAME as MODEL
from tests.names import VIT as BROKEN
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broken_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory where the active atlas of one of the two models lacks the end of a file."""
    data = tmp_path_factory.mktemp("data")
    atlas_id = active_atlas_id(BROKEN)
    shutil.copytree(ATLASES / atlas_id, data / "atlases" / atlas_id)
    manifest = json.loads((data / "atlases" / atlas_id / "manifest.json").read_bytes())
    with (data / "atlases" / atlas_id / manifest["layers"][0]["file"]).open("r+b") as file:
        file.truncate(1000)
    (data / "active.json").write_text(json.dumps({BROKEN: atlas_id}))
    return data


@pytest.fixture(scope="module")
def own_server(start_server: Any, broken_atlas: Path) -> Iterator[Any]:
    with start_server(MICLIP_INGRESS="python", MICLIP_DATA_DIR=str(broken_atlas)) as running:
        yield running


@pytest.fixture
def own_wire(own_server: Any, wire_type: Any) -> Iterator[Any]:
    wire = wire_type(own_server.grpc_endpoint, own_server.api_key)
    yield wire
    wire.close()


@pytest.fixture
def own_client(own_server: Any) -> Iterator[MiclipClient]:
    with MiclipClient(endpoint=own_server.grpc_endpoint, api_key=own_server.api_key) as client:
        yield client


def describe(model: str, layer: str) -> retrieval_pb2.DescribeUnitsRequest:
    return retrieval_pb2.DescribeUnitsRequest(units=[f"models/{model}/layers/{layer}/units/0"])


def test_a_server_starts_with_a_broken_atlas_says_what_to_do_and_serves_the_other_model(
    own_wire: Any, dog: bytes
) -> None:
    refusal = own_wire.refusal("retrieval/DescribeUnits", describe(BROKEN, "logits"))
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "BAD_ARTEFACT")
    assert "truncated" in refusal.message and "ActivateAtlas" in refusal.message, refusal.message
    assert own_wire.call("retrieval/DescribeUnits", describe("emoji-resnet", "layer4")).descriptions
    answer = own_wire.call("activation/Predict", activation_pb2.PredictRequest(model=f"models/{BROKEN}", images=[dog]))
    assert answer.results[0].predictions


def test_bytes_that_are_no_message_are_the_clients_fault_behind_this_proxy_too(own_server: Any) -> None:
    metadata = [("application", "activation"), ("authorization", f"Bearer {own_server.api_key}")]
    with grpc.insecure_channel(own_server.grpc_endpoint) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/miclip.v1.ActivationService/Predict")(b"\xff" * 40, metadata=metadata, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def predict(image: bytes) -> activation_pb2.PredictRequest:
    return activation_pb2.PredictRequest(model=MODEL, images=[image], policy="policies/kept")


def test_without_redis_the_last_policies_stay_in_force_and_writes_are_refused(
    own_server: Any, own_wire: Any, own_client: MiclipClient, dog: bytes
) -> None:
    edits = resources_pb2.EditList(edits=[resources_pb2.Edit(layer=f"{MODEL}/layers/layer4", unit=1, scale=0)])
    policy = steering_pb2.Policy(model=MODEL, edits=edits)
    own_wire.call("steering/CreatePolicy", steering_pb2.CreatePolicyRequest(policy_id="kept", policy=policy))
    assert not own_wire.call("activation/Predict", predict(dog)).steering.stale
    target = load_target("emoji-resnet", "cpu")
    inputs = target.preprocess(decode_image(dog, field="image"))[None]
    steering = attach(target, policy="kept", client=own_client)  # follows, in this process
    steered = target.forward(inputs).logits
    os.kill(_redis_pid(own_server), signal.SIGKILL)
    wait_until(lambda: own_wire.call("activation/Predict", predict(dog)).steering.stale, 20)
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
    known = {"MICLIP_ENDPOINT": own_server.grpc_endpoint, "MICLIP_API_KEY": own_server.api_key}
    status = subprocess.run(
        [sys.executable, "-m", "miclip.cli.app", "status", "--json"], env={**os.environ, **known}, timeout=60,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = json.loads(status.stdout)
    assert (shown["ready"], shown["policies"], len(shown["models"])) == (True, None, 2)

    with urllib.request.urlopen(f"http://{own_server.metrics_endpoint}/metrics", timeout=10) as response:
        exposed = response.read().decode()
    assert 'miclip_policies_stale{service="activation"} 1.0' in exposed
    errors = re.findall(r"^miclip_redis_errors_total{[^}]*} (\S+)$", exposed, re.MULTILINE)
    assert sum(map(float, errors)) > 0

    wait_until(lambda: steering.stale, 20)
    assert torch.equal(target.forward(inputs).logits, steered)
    assert (steering.applied[0].outcome, steering.applied[0].stale) == ("applied", True)
    with EmbeddedRedis(own_server.temp_dir, own_server.state_dir / "redis"):
        wait_until(lambda: not steering.stale, 20)
        wait_until(lambda: not own_wire.call("activation/Predict", predict(dog)).steering.stale, 20)
        assert torch.equal(target.forward(inputs).logits, steered)
        own_wire.call("steering/DeletePolicy", steering_pb2.DeletePolicyRequest(name="policies/kept"))
        wait_until(lambda: not steering.policies, 20)
        assert not torch.equal(target.forward(inputs).logits, steered)
        steering.close()


def _redis_pid(server: Any) -> int:
    return int(json.loads((server.state_dir / "server.json").read_text())["redis_pid"])
