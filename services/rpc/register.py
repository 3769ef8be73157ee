"""How the services are put on a gRPC server: as protoc says, but a message that cannot be read is answered by us.

Serve's config names these functions. What a generated one registers raises on bytes that are no message, a text that is
not UTF-8 among them, and gRPC would answer UNKNOWN with the name of the exception's class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2_grpc

from miclip.v1 import activation_pb2_grpc, aligner_pb2_grpc, retrieval_pb2_grpc, steering_pb2_grpc


@dataclass(frozen=True)
class Unreadable:
    """Stands for a request whose bytes are no message of its type."""

    rpc: str


def add_activation(servicer: Any, server: Any) -> None:
    """Put the activation service on ``server``."""
    activation_pb2_grpc.add_ActivationServiceServicer_to_server(servicer, _Tolerant(server))


def add_aligner(servicer: Any, server: Any) -> None:
    """Put the aligner service on ``server``."""
    aligner_pb2_grpc.add_AlignerServiceServicer_to_server(servicer, _Tolerant(server))


def add_retrieval(servicer: Any, server: Any) -> None:
    """Put the retrieval service on ``server``."""
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(servicer, _Tolerant(server))


def add_steering(servicer: Any, server: Any) -> None:
    """Put the steering service on ``server``."""
    steering_pb2_grpc.add_SteeringServiceServicer_to_server(servicer, _Tolerant(server))


def add_health(servicer: Any, server: Any) -> None:
    """Put the health service on ``server``."""
    tolerant: Any = _Tolerant(server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, tolerant)


class _Tolerant:
    """The part of a gRPC server that generated code calls; passes handlers on with another way to read requests."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers come by ``add_registered_method_handlers`` too, where they can be read."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service in both ways, as generated code does."""
        tolerant = {
            name: handler._replace(request_deserializer=_tolerant(name, handler.request_deserializer))
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, tolerant),))
        self._server.add_registered_method_handlers(service, tolerant)


def _tolerant(rpc: str, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read_or_stand_in(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return Unreadable(rpc)

    return read_or_stand_in
