"""A real gRPC server whose answers each test chooses, and both clients behind one function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc

from miclip import errors
from miclip.client import AsyncMiclipClient, MiclipClient
from miclip.settings import settings
from miclip.v1 import (
    activation_pb2_grpc,
    aligner_pb2_grpc,
    retrieval_pb2_grpc,
    steering_pb2_grpc,
)

Answer = Callable[[Any, grpc.ServicerContext], Any]


class Server:
    """A gRPC server with every RPC of the four services; ``answers`` maps RPC names to functions."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, Any, dict[str, str]]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        for module, service in (
            (activation_pb2_grpc, "ActivationService"),
            (aligner_pb2_grpc, "AlignerService"),
            (retrieval_pb2_grpc, "RetrievalService"),
            (steering_pb2_grpc, "SteeringService"),
            (health_pb2_grpc, "Health"),
        ):
            base = getattr(module, f"{service}Servicer")
            names = [name for name in vars(base) if not name.startswith("_")]
            servicer = type(service, (base,), {name: self._method(name) for name in names})()
            getattr(module, f"add_{service}Servicer_to_server")(servicer, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _method(self, name: str) -> Any:
        def method(_: Any, request: Any, context: grpc.ServicerContext) -> Any:
            self.calls.append((name, request, dict(context.invocation_metadata())))
            return self.answers[name](request, context)

        return method

    def count(self, name: str) -> int:
        return sum(called == name for called, _, _ in self.calls)

    def stop(self) -> None:
        self._server.stop(None).wait()

    @staticmethod
    def refuse(code: grpc.StatusCode, text: str = "no", status: status_pb2.Status | None = None) -> Answer:
        def answer(_: Any, context: grpc.ServicerContext) -> Any:
            if status is not None:
                context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            context.abort(code, text)

        return answer

    @staticmethod
    def in_turn(*answers: Answer) -> Answer:
        left = iter(answers)

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            return next(left)(request, context)

        return answer

    @staticmethod
    def always(response: Any) -> Answer:
        return lambda request, context: response

    @staticmethod
    def detailed(reason: str, text: str, *, domain: str = errors.DOMAIN, retry_s: float = 0.0, **metadata: str) -> Any:
        status = status_pb2.Status(message=text)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
        if retry_s:
            delay = Duration()
            delay.FromNanoseconds(int(retry_s * 1e9))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        return status


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(params=["blocking", "asyncio"])
def run(request: pytest.FixtureRequest, server: Server) -> Callable[..., Any]:
    """Calls one method of either client: ``run("predict", [...], model=..., options={...})``."""

    def blocking(name: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        with MiclipClient(**{"endpoint": server.endpoint, "api_key": "k", **(options or {})}) as client:
            result = getattr(client, name)(*args, **kwargs)
            return list(result) if name.startswith("watch") else result

    async def awaited(name: str, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        async with AsyncMiclipClient(**{"endpoint": server.endpoint, "api_key": "k", **(options or {})}) as client:
            result = getattr(client, name)(*args, **kwargs)
            return [one async for one in result] if name.startswith("watch") else await result

    return blocking if request.param == "blocking" else lambda *a, **k: asyncio.run(awaited(*a, **k))


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MICLIP_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("MICLIP_API_KEY", raising=False)
    monkeypatch.delenv("MICLIP_ENDPOINT", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()
