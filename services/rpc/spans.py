"""The span of one call from outside."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import grpc

from miclip import telemetry

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_HEADERS = ("traceparent", "tracestate")
_FAULTS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "DATA_LOSS"}


def call_span(
    servicer: Any, name: str, request_id: str, context: Any, *, current: bool
) -> AbstractContextManager[Span | None]:
    """A server span, the child of the caller's where the metadata names one.

    Args:
        servicer: Who answers.
        name: Of the RPC.
        request_id: Of the call.
        context: Of gRPC.
        current: Whether spans made meanwhile become its children.
    """
    return telemetry.span(
        servicer.application,
        name,
        "server",
        parent={key: str(value) for key, value in context.invocation_metadata() if key in _HEADERS},
        current=current,
        rpc__system="grpc",
        rpc__service=servicer.descriptor.full_name,
        rpc__method=name,
        miclip__request_id=request_id,
    )


def end_span(span: Span | None, code: str) -> None:
    """Note how the call ended; ``code`` is the name of a gRPC status."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
    if code in _FAULTS:
        span.set_status(StatusCode.ERROR, code)
