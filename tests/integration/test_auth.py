"""Who may call what; and the key is nowhere but where it belongs."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import grpc
import pytest

from miclip.errors import AlreadyExists
from miclip.v1 import activation_pb2, resources_pb2, retrieval_pb2, steering_pb2
from tests.waiting import wait_until

ALIGN = {"CreateAlignment", "CancelAlignment", "ActivateAtlas", "CreateVocabulary", "DeleteVocabulary"}
STEER = {"CreatePolicy", "UpdatePolicy", "DeletePolicy", "PreviewPolicy", "StopSteering", "ResumeSteering"}
UNAUTHENTICATED = ("UNAUTHENTICATED", "UNAUTHENTICATED")


def rpcs() -> Iterator[tuple[str, Any]]:
    """Every RPC of the four services with an empty request."""
    for application in ("activation", "aligner", "retrieval", "steering"):
        module = import_module(f"miclip.v1.{application}_pb2")
        for method in module.DESCRIPTOR.services_by_name[f"{application.capitalize()}Service"].methods:
            yield f"{application}/{method.name}", method.input_type._concrete_class()


ALL = [pytest.param(rpc, request, id=rpc) for rpc, request in rpcs()]


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_no_rpc_answers_without_a_key(connect: Callable[[str], Any], rpc: str, request_: Any) -> None:
    refusal = connect("").refusal(rpc, request_)
    assert (refusal.code, refusal.reason) == UNAUTHENTICATED


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_no_rpc_answers_to_a_wrong_key(connect: Callable[[str], Any], server: Any, rpc: str, request_: Any) -> None:
    wrong = server.api_key[:-1] + ("A" if server.api_key[-1] != "A" else "B")
    refusal = connect(wrong).refusal(rpc, request_)
    assert (refusal.code, refusal.reason) == UNAUTHENTICATED
    assert wrong not in refusal.message + refusal.trailing


@pytest.mark.parametrize(("rpc", "request_"), ALL)
def test_a_key_with_scope_read_alone_may_only_read(
    connect: Callable[[str], Any], server: Any, rpc: str, request_: Any
) -> None:
    needs = {**dict.fromkeys(ALIGN, "align"), **dict.fromkeys(STEER, "steer")}.get(rpc.split("/")[1])
    wire = connect(server.read_key)
    if needs:
        refusal = wire.refusal(rpc, request_)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "MISSING_SCOPE")
        assert needs in refusal.message
        return
    try:
        wire.any(rpc, request_, timeout=2 if rpc == "steering/WatchPolicies" else 60)  # which has no end
    except grpc.RpcError as error:
        assert error.code() not in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def test_a_key_with_scope_align_may_not_steer(connect: Callable[[str], Any], server: Any) -> None:
    wire = connect(server.align_key)
    assert wire.refusal("steering/CreatePolicy", steering_pb2.CreatePolicyRequest()).code == "PERMISSION_DENIED"
    refusal = wire.refusal("retrieval/CreateVocabulary", retrieval_pb2.CreateVocabularyRequest())
    assert refusal.code == "INVALID_ARGUMENT"  # let in, and then told what is missing


def test_inline_edits_need_the_scope_steer(connect: Callable[[str], Any], server: Any, dog: bytes) -> None:
    model = "models/emoji-resnet"
    edit = resources_pb2.Edit(layer=f"{model}/layers/layer4", unit=1, scale=0)
    edits = resources_pb2.EditList(edits=[edit])
    predict = activation_pb2.PredictRequest(model=model, images=[dog], edits=edits)
    capture = activation_pb2.CaptureActivationsRequest(
        model=model, images=[dog], layers=[f"{model}/layers/layer4"], edits=edits
    )
    reader, full = connect(server.read_key), connect(server.api_key)
    for rpc, request in (("activation/Predict", predict), ("activation/CaptureActivations", capture)):
        assert reader.refusal(rpc, request).code == "PERMISSION_DENIED"
        full.call(rpc, request)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key} more", "Bearer " + "x" * 5000],
    ids=["empty", "no key", "blank", "basic", "bare", "two words", "long"],
)
def test_a_malformed_authorization_is_refused(connect: Callable[[str], Any], server: Any, header: str) -> None:
    metadata = [("authorization", header.format(key=server.api_key))]
    refusal = connect("").refusal("activation/ListModels", activation_pb2.ListModelsRequest(), metadata=metadata)
    assert refusal.code == "UNAUTHENTICATED"
    assert server.api_key not in refusal.message + refusal.trailing


def test_two_authorizations_are_refused(wire: Any, server: Any) -> None:
    more = [("authorization", f"Bearer {server.api_key}")]
    refusal = wire.refusal("activation/ListModels", activation_pb2.ListModelsRequest(), metadata=more)
    assert refusal.code == "UNAUTHENTICATED"


def test_a_key_is_rotated_without_a_gap(connect: Callable[[str], Any], server: Any) -> None:
    from services.node import key_admin
    from services.state.keys import Scope, match

    name = f"rotated-{uuid.uuid4().hex[:8]}"
    old, new = (key_admin.create_key(server.redis_url, name, [Scope.READ]) for _ in range(2))
    with pytest.raises(AlreadyExists, match="2 live keys"):
        key_admin.create_key(server.redis_url, name, [Scope.READ])
    request = activation_pb2.ListModelsRequest()
    for key in (old, new):
        wait_until(lambda key=key: _answers(connect(key), request))
    record = match(old, key_admin.list_keys(server.redis_url))
    assert record is not None
    key_admin.remove_key(server.redis_url, record.key_id)
    wait_until(lambda: not _answers(connect(old), request))
    assert _answers(connect(new), request)


def test_the_store_holds_no_key_but_its_hash(server: Any) -> None:
    import redis

    with redis.Redis.from_url(server.redis_url) as client:
        held = b"".join(client.dump(key) or b"" for key in client.scan_iter())
    assert held
    for key in (server.api_key, server.read_key, server.align_key):
        assert key.encode() not in held


def test_the_key_file_is_for_its_owner_alone(server: Any) -> None:
    for name in ("api_key", "server.json"):
        assert (server.state_dir / name).stat().st_mode & 0o777 == 0o600


def test_no_key_appears_in_a_log_or_a_metric(connect: Callable[[str], Any], server: Any) -> None:
    keys = (server.api_key, server.read_key, server.align_key)
    wrong = f"wrong-{uuid.uuid4().hex}"
    for key in (*keys, wrong):
        _answers(connect(key), activation_pb2.ListModelsRequest())
        as_request_id = [("request_id", key)]  # a slip of a client's
        request = activation_pb2.GetModelRequest(name="models/none")
        connect(key).refusal("activation/GetModel", request, metadata=as_request_id)
    files = [
        path
        for root in (server.state_dir, server.temp_dir)
        for path in root.rglob("*")
        if path.is_file() and path.name != "api_key"
    ]
    assert any("worker-" in path.name for path in files)
    texts = {path.name: path.read_bytes() for path in files}
    port = next(server.temp_dir.glob("session_latest/metrics_export_port*")).read_text()
    for name, endpoint in {"Ray's metrics": f"127.0.0.1:{port}", "metrics": server.metrics_endpoint}.items():
        with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=10) as response:
            texts[name] = response.read()
    for name, content in texts.items():
        for key in (*keys, wrong):
            assert key.encode() not in content, name


def _answers(wire: Any, request: Any) -> bool:
    try:
        wire.call("activation/ListModels", request)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        return False
    return True
