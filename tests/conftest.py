"""One real server for every test that needs one: real Serve, gRPC and Redis, the shipped models."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from miclip.settings import settings

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest selects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by the folder it is in, so that ``-m unit`` means all of ``tests/unit``."""
    for item in items:
        item.add_marker(item.path.relative_to(TESTS).parts[0])


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        grpc_endpoint: ``host:port``.
        http_endpoint: ``host:port`` of ``/-/healthz``.
        metrics_endpoint: ``host:port`` of ``/metrics``.
        api_key: A key with all scopes.
        read_key: A key with scope ``read`` alone.
        align_key: A key with scopes ``read`` and ``align``.
        state_dir: Its private state directory.
        data_dir: Its private data directory.
        probe_dir: What the probe set "small" is read from; tests put images there.
        temp_dir: Ray's private directory, with the replicas' logs.
        redis_url: Its embedded Redis.
        pid: Its process.
        environment: What a program needs to find it.
    """

    grpc_endpoint: str
    http_endpoint: str
    metrics_endpoint: str
    api_key: str
    read_key: str
    align_key: str
    state_dir: Path
    data_dir: Path
    probe_dir: Path
    temp_dir: Path
    redis_url: str
    pid: int
    environment: dict[str, str]


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and read the settings anew, before and after."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        settings.cache_clear()
        yield
    settings.cache_clear()


@contextmanager
def running_server(**overrides: str) -> Iterator[Server]:
    """A server of its own; ``overrides`` are ``MICLIP_*`` variables."""
    from services.node import control

    root = Path(tempfile.mkdtemp(prefix="miclip-test-"))
    values = {
        "MICLIP_STATE_DIR": str(root / "state"),
        "MICLIP_DATA_DIR": str(root / "data"),
        "MICLIP_PROBE_SETS": json.dumps({"small": str(root / "probe")}),
        "MICLIP_GRPC_PORT": "0",
        "MICLIP_HTTP_PORT": "0",
        "MICLIP_METRICS_PORT": "0",
        "MICLIP_WATCH_HEARTBEAT_S": "1",
        "HF_HUB_OFFLINE": "1",
        **overrides,
    }
    try:
        with environment(values):
            info = control.start()
        try:
            yield _describe_server(info, root, values)
        finally:
            with environment(values):
                control.stop()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _describe_server(info: Any, root: Path, values: dict[str, str]) -> Server:
    from services.node import key_admin
    from services.state.keys import Scope

    return Server(
        grpc_endpoint=info.grpc,
        http_endpoint=info.http,
        metrics_endpoint=info.metrics,
        api_key=(root / "state" / "api_key").read_text().strip(),
        read_key=key_admin.create_key(info.redis_url, "test-read", [Scope.READ]),
        align_key=key_admin.create_key(info.redis_url, "test-align", [Scope.READ, Scope.ALIGN]),
        state_dir=root / "state",
        data_dir=root / "data",
        probe_dir=root / "probe",
        temp_dir=Path(info.temp_dir),
        redis_url=info.redis_url,
        pid=info.pid,
        environment=values,
    )


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server that all integration and contract tests share; started once, stopped at the end."""
    assert "RAY_ADDRESS" not in os.environ, "tests start a cluster of their own; unset RAY_ADDRESS"
    with running_server() as running:
        yield running


@dataclass(frozen=True)
class Refusal:
    """An error as it arrived.

    Attributes:
        code: Name of the gRPC status.
        message: Its text.
        reason: ``ErrorInfo.reason``.
        fields: Fields of ``BadRequest``.
        allowed: ``ErrorInfo.metadata["allowed"]``.
        retry_s: ``RetryInfo``; None without one.
        request_id: From the trailing metadata.
        trailing: All trailing metadata as text.
    """

    code: str
    message: str
    reason: str
    fields: tuple[str, ...]
    allowed: str
    retry_s: float | None
    request_id: str
    trailing: str


class Wire:
    """Raw gRPC to a server, without the client library: what any client would see."""

    def __init__(self, endpoint: str, key: str) -> None:
        self.key = key
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(endpoint, options=options)

    def close(self) -> None:
        self._channel.close()

    def call(self, rpc: str, request: Any, *, timeout: float = 60, metadata: Sequence[tuple[str, str]] = ()) -> Any:
        """Call ``application/Method`` with the key; raises grpc.RpcError."""
        return self.with_call(rpc, request, timeout=timeout, metadata=metadata)[0]

    def with_call(
        self, rpc: str, request: Any, *, timeout: float = 60, metadata: Sequence[tuple[str, str]] = ()
    ) -> tuple[Any, Any]:
        application, name = rpc.split("/")
        return self._unary(application, name).with_call(
            request, timeout=timeout, metadata=self._metadata(application, metadata)
        )

    def any(self, rpc: str, request: Any, **options: Any) -> Any:
        """Call an RPC of either kind; of a stream, all messages."""
        streaming = describe(*rpc.split("/"))[1].server_streaming
        return (self.stream if streaming else self.call)(rpc, request, **options)

    def refusal(self, rpc: str, request: Any, **options: Any) -> Refusal:
        """The error of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            self.any(rpc, request, **options)
        return read_refusal(caught.value)

    def stream(self, rpc: str, request: Any, *, timeout: float = 60) -> list[Any]:
        """All messages of a server-streaming call."""
        application, name = rpc.split("/")
        service, method = describe(application, name)
        multi = self._channel.unary_stream(
            f"/{service.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.output_type._concrete_class.FromString,
        )
        return list(multi(request, timeout=timeout, metadata=self._metadata(application, ())))

    def _metadata(self, application: str, more: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        key = [("authorization", f"Bearer {self.key}")] if self.key else []
        return [("application", application), *key, *more]

    def _unary(self, application: str, name: str) -> Any:
        service, method = describe(application, name)
        return self._channel.unary_unary(
            f"/{service.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.output_type._concrete_class.FromString,
        )


def read_refusal(error: Any) -> Refusal:
    """Parse the rich details of an error."""
    status = rpc_status.from_call(error)
    kinds = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
        error_details_pb2.RequestInfo(),
    )
    for detail in status.details if status else ():
        for kind in kinds:
            detail.Unpack(kind)
    info, bad, retry, request = kinds
    return Refusal(
        code=error.code().name,
        message=error.details(),
        reason=info.reason,
        fields=tuple(violation.field for violation in bad.field_violations),
        allowed=info.metadata["allowed"],
        retry_s=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
        request_id=request.request_id,
        trailing=repr(error.trailing_metadata()),
    )


def describe(application: str, name: str) -> tuple[Any, Any]:
    """Descriptors of an RPC's service and method."""
    from importlib import import_module

    module = import_module(f"miclip.v1.{application}_pb2")
    service = module.DESCRIPTOR.services_by_name[f"{application.capitalize()}Service"]
    return service, service.methods_by_name[name]


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """Raw gRPC with the key that has all scopes."""
    made = Wire(server.grpc_endpoint, server.api_key)
    yield made
    made.close()


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[str], Wire]]:
    """Raw gRPC with a key of one's choice."""
    made: list[Wire] = []

    def open_wire(key: str) -> Wire:
        made.append(Wire(server.grpc_endpoint, key))
        return made[-1]

    yield open_wire
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def dog() -> bytes:
    """An encoded image of a style that nothing was trained on."""
    from miclip.demo.assets import IMAGES

    return (IMAGES / "twemoji" / "dog.webp").read_bytes()


@pytest.fixture(scope="session")
def start_server() -> Any:
    """Start a server of one's own: a context manager that takes ``MICLIP_*`` variables."""
    return running_server


@pytest.fixture(scope="session")
def wire_type() -> type[Wire]:
    """Raw gRPC to any server."""
    return Wire
