"""Starting, stopping and watching a server; what it does to calls that are wrong as calls."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
import uuid
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from miclip.v1 import activation_pb2, retrieval_pb2

APPLICATIONS = ("activation", "aligner", "retrieval", "steering")


@pytest.fixture
def channel(server: Any) -> Any:
    with grpc.insecure_channel(server.grpc_endpoint) as opened:
        yield opened


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_service_answers_its_health_check_without_a_key(channel: Any, application: str) -> None:
    stub, metadata = health_pb2_grpc.HealthStub(channel), [("application", application)]
    for service in ("", f"miclip.v1.{application.capitalize()}Service"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), metadata=metadata, timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"), metadata=metadata, timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_http_says_healthy(server: Any) -> None:
    with urllib.request.urlopen(f"http://{server.http_endpoint}/-/healthz", timeout=10) as response:
        assert response.status == 200


def test_a_call_to_the_wrong_application_is_told_the_right_one(channel: Any, server: Any) -> None:
    call = channel.unary_unary(
        "/miclip.v1.RetrievalService/GetUnit",
        request_serializer=retrieval_pb2.GetUnitRequest.SerializeToString,
        response_deserializer=retrieval_pb2.GetUnitResponse.FromString,
    )
    metadata = [("application", "steering"), ("authorization", f"Bearer {server.api_key}")]
    with pytest.raises(grpc.RpcError) as caught:
        call(retrieval_pb2.GetUnitRequest(), metadata=metadata, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "'retrieval'" in caught.value.details()
    for metadata_ in ([], [("application", "none")]):
        with pytest.raises(grpc.RpcError) as caught:
            call(retrieval_pb2.GetUnitRequest(), metadata=metadata_, timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_request_id_comes_back(wire: Any) -> None:
    given = f"test-{uuid.uuid4().hex}"
    _, call = wire.with_call(
        "activation/ListModels", activation_pb2.ListModelsRequest(), metadata=[("request_id", given)]
    )
    assert ("request_id", given) in [(entry.key, entry.value) for entry in call.trailing_metadata()]
    refusal = wire.refusal(
        "activation/GetModel", activation_pb2.GetModelRequest(name="x"), metadata=[("request_id", given)]
    )
    assert refusal.request_id == given


def test_a_message_beyond_the_limit_is_refused_and_the_next_one_answered(wire: Any) -> None:
    limits = wire.call("activation/GetModel", activation_pb2.GetModelRequest(name="models/emoji-resnet")).limits
    huge = activation_pb2.PredictRequest(model="models/emoji-resnet", images=[b"x" * (limits.max_message_bytes + 1)])
    assert wire.refusal("activation/Predict", huge).code == "RESOURCE_EXHAUSTED"
    wire.call("activation/ListModels", activation_pb2.ListModelsRequest())


def test_a_running_server_is_found_and_not_started_twice(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from miclip.settings import settings
    from services.node import control

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    try:
        found = control.start()
        assert (found.pid, found.grpc) == (server.pid, server.grpc_endpoint)
        assert control.health(found) == dict.fromkeys(APPLICATIONS, True)
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_second_server_process_refuses_the_state_directory(server: Any) -> None:
    import os

    done = subprocess.run(
        [sys.executable, "-m", "services.node.process"],
        env=os.environ | server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "running already" in done.stderr
    assert (server.state_dir / "server.json").exists()


def test_the_printed_serve_config_is_one_that_serve_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    printed = subprocess.run(
        [sys.executable, "-m", "services.node.serve_config"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    schema = ServeDeploySchema.model_validate(yaml.safe_load(printed))
    assert [application.name for application in schema.applications] == list(APPLICATIONS)
