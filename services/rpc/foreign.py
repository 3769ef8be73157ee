"""RPCs that reach the wrong application.

Serve dispatches by the ``application`` metadata and the last path segment alone. Without an answer of our own, a call
that names the wrong application would show the client Serve's exception with the names of our methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from miclip.v1 import activation_pb2, aligner_pb2, retrieval_pb2, steering_pb2

_HOMES = {
    "activation": activation_pb2.DESCRIPTOR.services_by_name["ActivationService"],
    "aligner": aligner_pb2.DESCRIPTOR.services_by_name["AlignerService"],
    "retrieval": retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"],
    "steering": steering_pb2.DESCRIPTOR.services_by_name["SteeringService"],
}


def refuse_foreign(servicer: type) -> None:
    """Give ``servicer`` an UNIMPLEMENTED answer for every RPC of the system that it does not implement."""
    for method, text in _all_rpcs():
        if not hasattr(servicer, method.name):
            setattr(servicer, method.name, _refusal(method, text))


def _all_rpcs() -> Iterator[tuple[Any, str]]:
    for application, service in _HOMES.items():
        for own in service.methods:
            yield own, f"{own.name} is answered by the application '{application}'; name it in the metadata."
    for other in health_pb2.DESCRIPTOR.services_by_name["Health"].methods:
        yield other, "Of the health service only Check is answered."


def _refusal(method: Any, text: str) -> Callable[..., Any]:
    empty: type[Message] = method.output_type._concrete_class

    def refuse(context: Any) -> None:
        if context is None:
            raise NotImplementedError(text)
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details(text)

    async def unary(self: object, request: Message, grpc_context: Any = None) -> Message:
        refuse(grpc_context)
        return empty()

    async def stream(self: object, request: Message, grpc_context: Any = None) -> AsyncIterator[Message]:
        refuse(grpc_context)
        if grpc_context is None:  # never: refuse has raised
            yield empty()

    refusal = stream if method.server_streaming else unary
    refusal.__name__ = method.name
    return refusal
