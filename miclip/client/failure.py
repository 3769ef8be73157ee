"""Failed calls become the library's own errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from miclip import errors
from miclip.errors import DOMAIN, MiclipError

_UNREACHED = re.compile("failed to connect|errors resolving|name resolution|connection (refused|reset)", re.IGNORECASE)
"""gRPC's own words where no server answers; what stands behind their last colon says why."""
_DETAILS_KEY = "grpc-status-details-bin"
_BY_CODE: dict[grpc.StatusCode, type[MiclipError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.NotReady,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}
_CUT = (grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


def to_error(failure: grpc.RpcError, request_id: str, endpoint: str) -> MiclipError:
    """The error that the server meant, or the nearest where a proxy or the network failed instead.

    The request id is added as a note, so that a traceback shows it; the endpoint is named where nothing answers there.
    """
    call: Any = failure  # grpc's own failures are calls, too
    found = next(_details(call), None) or _plain(call, endpoint)
    found.add_note(f"request id {request_id}")
    return found


def to_stream_error(failure: grpc.RpcError, request_id: str, endpoint: str) -> MiclipError:
    """As ``to_error``; a stream that was cut on its way is NotReady, whatever the proxy that cut it calls that."""
    call: Any = failure
    if call.code() in _CUT and next(_details(call), None) is None:
        return errors.NotReady(call.details() or "The stream was cut.")
    return to_error(failure, request_id, endpoint)


def _details(call: Any) -> Iterator[MiclipError]:
    for key, value in call.trailing_metadata() or ():
        if key != _DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
        except DecodeError:
            continue
        info = _unpack(status, error_details_pb2.ErrorInfo)
        kind = _by_reason().get(info.reason) if info is not None and info.domain == DOMAIN else None
        if kind is not None:
            yield _make(kind, status, dict(info.metadata))


def _make(kind: type[MiclipError], status: Any, metadata: dict[str, str]) -> MiclipError:
    where = {"field": metadata.get("field", ""), "allowed": metadata.get("allowed", "")}
    if issubclass(kind, errors.Overloaded):
        retry = _unpack(status, error_details_pb2.RetryInfo)
        seconds = retry.retry_delay.ToNanoseconds() / 1e9 if retry is not None else 1.0
        return kind(status.message, retry_after=seconds, **where)
    return kind(status.message, **where)


def _plain(call: Any, endpoint: str) -> MiclipError:
    text = call.details() or ""
    if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return errors.TooLarge(f"{text}. Send less at a time, or raise MICLIP_MAX_MESSAGE_BYTES on both sides.")
    if call.code() is grpc.StatusCode.UNAVAILABLE and _UNREACHED.search(text):
        why = text.rpartition(": ")[2].strip(" []().")
        return errors.Unreachable(f"The server at {endpoint} cannot be reached: {why}.")
    kind = _BY_CODE.get(call.code(), errors.Internal)
    return kind(text or f"The call failed: {call.code().name}.")


def _unpack(status: Any, kind: Any) -> Any:
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            return message
    return None


def _by_reason() -> dict[str, type[MiclipError]]:
    kinds: dict[str, type[MiclipError]] = {}
    left: list[type[MiclipError]] = [MiclipError]
    while left:
        kind = left.pop()
        kinds.setdefault(kind.reason, kind)
        left += kind.__subclasses__()
    return {**kinds, errors.Internal.reason: errors.Internal}
