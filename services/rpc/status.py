"""Errors on the wire: gRPC status, ``google.rpc`` details, and nothing internal."""

from __future__ import annotations

from typing import Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from miclip.errors import DOMAIN, Internal, MiclipError, Overloaded

DETAILS_KEY = "grpc-status-details-bin"
_MAX_TEXT = 1024  # trailing metadata of all kinds must fit in the 8 KB that clients accept


class GrpcContext(Protocol):
    """The part of Serve's gRPC context that is used."""

    def invocation_metadata(self) -> list[tuple[str, str]]: ...  # noqa: D102

    def set_code(self, code: grpc.StatusCode) -> None: ...  # noqa: D102

    def set_details(self, details: str) -> None: ...  # noqa: D102

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str | bytes]]) -> None: ...  # noqa: D102


def code_of(error: MiclipError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return grpc.StatusCode[error.status]


def internal(request_id: str) -> Internal:
    """The only text that a client sees of an unexpected failure."""
    return Internal(f"Internal error. The server's log has the details under request id {request_id}.")


def to_status(error: MiclipError, request_id: str) -> status_pb2.Status:
    """``google.rpc.Status`` with ErrorInfo, RequestInfo and, where they apply, BadRequest and RetryInfo."""
    status = status_pb2.Status(code=code_of(error).value[0], message=error.message[:_MAX_TEXT])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in (("field", error.field), ("allowed", error.allowed)):
        if value:
            info.metadata[key] = value[:_MAX_TEXT]
    status.details.add().Pack(info)
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=status.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, Overloaded):
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def apply(context: GrpcContext, error: MiclipError, request_id: str) -> None:
    """Put an error on the context; the method must then return, not raise (raising drops the trailing metadata)."""
    status = to_status(error, request_id)
    context.set_code(code_of(error))
    context.set_details(status.message)
    context.set_trailing_metadata([(DETAILS_KEY, status.SerializeToString())])
