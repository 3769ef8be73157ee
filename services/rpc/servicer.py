"""The base of all servicers and the one decorator around every RPC."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from miclip import telemetry
from miclip.errors import DeadlineExceeded, InvalidInput, MiclipError, NotFound, Overloaded
from miclip.settings import Settings, settings
from services.rpc import status
from services.rpc.auth import KeyRing, Principal
from services.rpc.foreign import refuse_foreign
from services.rpc.observe import CallObserver
from services.rpc.peers import Peer
from services.rpc.register import Unreadable
from services.rpc.spans import call_span, end_span
from services.state.keys import ALL_SCOPES, Scope
from services.state.policy_store import Store

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Call:
    """What a method may know about its call beside the request."""

    rpc: str
    request_id: str
    principal: Principal
    external: bool
    """False when another service of this cluster called."""


class Servicer:
    """Base of the four servicers: connects the store, authenticates, answers health checks.

    Subclasses set ``application`` and ``descriptor`` and override ``start``.
    """

    application: ClassVar[str]
    descriptor: ClassVar[ServiceDescriptor]

    def __init_subclass__(cls) -> None:
        refuse_foreign(cls)

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        self.settings: Settings = settings()
        self.store = Store(self.settings.redis_url)
        self.keys = KeyRing(self.store.keys)
        self.observer = CallObserver(self.application)
        self._peers: dict[str, Peer] = {}
        self._in_flight: Counter[str] = Counter()
        await self.keys.preload()
        await self.start()

    async def start(self) -> None:
        """Load what the service needs; runs before the first request."""

    def peer(self, application: str) -> Peer:
        """Another service of this cluster."""
        return self._peers.setdefault(application, Peer(application))

    async def Check(self, request: health_pb2.HealthCheckRequest | Unreadable, grpc_context: Any = None) -> Message:
        """``grpc.health.v1.Health.Check``; needs no key and tells nothing but SERVING."""
        if isinstance(request, Unreadable) or request.service not in ("", self.application, self.descriptor.full_name):
            error = NotFound("No such service here.", field="service", allowed=f"empty, or {self.descriptor.full_name}")
            if grpc_context is None:
                raise error
            status.apply(grpc_context, error, _request_id(grpc_context))
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def response_type(self, rpc_name: str) -> type[Message]:
        """The class of an RPC's response."""
        method: Any = self.descriptor.methods_by_name[rpc_name]
        output: type[Message] = method.output_type._concrete_class
        return output

    @contextlib.contextmanager
    def admitted(self, kind: str) -> Iterator[None]:
        """Count a call in, or refuse it when the queue is full.

        Args:
            kind: ``requests`` or ``streams``, counted apart: who watches for hours keeps nobody's request out.
        """
        if self._in_flight[kind] >= self.settings.max_queued:
            raise Overloaded(
                f"{self._in_flight[kind]} {kind} wait for the {self.application} service; try again in a second.",
                allowed=f"{self.settings.max_queued} {kind} at a time",
            )
        self._in_flight[kind] += 1
        self.observer.in_flight(self._in_flight.total())
        try:
            yield
        finally:
            self._in_flight[kind] -= 1
            self.observer.in_flight(self._in_flight.total())


def rpc(scope: Scope) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap ``async def Method(self, request, call)`` into what Serve calls: ``Method(self, request, grpc_context)``.

    Args:
        scope: The scope that the caller's key must have.

    Unary methods are coroutines; server-streaming methods are async generators. In order: request id, authentication,
    admission, deadline, the method, status, log and metrics.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = _streaming(method, scope) if inspect.isasyncgenfunction(method) else _unary(method, scope)
        # not functools.wraps: Serve looks for the parameter grpc_context in the signature
        wrapped.__name__, wrapped.__qualname__, wrapped.__doc__ = method.__name__, method.__qualname__, method.__doc__
        return wrapped

    return decorate


def _unary(method: Callable[..., Any], scope: Scope) -> Callable[..., Awaitable[Message | MiclipError]]:
    name = method.__name__

    async def serve_unary(
        self: Servicer, request: Message, grpc_context: Any = None, trace: Mapping[str, str] | None = None
    ) -> Message | MiclipError:
        if grpc_context is None:
            return await _answer_peer(self, method, request, trace or {})
        async with _guarded(self, name, scope, grpc_context) as (answered, enter):
            call = await enter()
            _check_readable(request)
            async with asyncio.timeout(self.settings.request_timeout_s):
                answered.append(await method(self, request, call))
        response: Message = answered[0] if answered else self.response_type(name)()
        return response

    return serve_unary


def _streaming(method: Callable[..., Any], scope: Scope) -> Callable[..., AsyncIterator[Message]]:
    name = method.__name__

    async def serve_stream(self: Servicer, request: Message, grpc_context: Any = None) -> AsyncIterator[Message]:
        if grpc_context is None:
            async for message in method(self, request, _internal_call(name)):
                yield message
            return
        async with _guarded(self, name, scope, grpc_context, streaming=True) as (_, enter):
            call = await enter()
            _check_readable(request)
            async with contextlib.aclosing(method(self, request, call)) as messages:  # ended with the call, not later
                async for message in messages:
                    yield message

    return serve_stream


async def _answer_peer(
    servicer: Servicer, method: Callable[..., Any], request: Message, trace: Mapping[str, str]
) -> Message | MiclipError:
    """Answer another service; an error of ours is the answer, for Peer to raise.

    Raised here, Serve would log it as a failure of this service, with its stack and what the client sent.
    """
    name = method.__name__
    with telemetry.span(servicer.application, name, "server", parent=trace):
        try:
            answer: Message = await method(servicer, request, _internal_call(name))
        except MiclipError as error:
            return error.with_traceback(None)
    return answer


def _check_readable(request: Message | Unreadable) -> None:
    if isinstance(request, Unreadable):
        text = f"The request is no message of the type that {request.rpc} takes, or a text in it is not UTF-8."
        raise InvalidInput(text, allowed="a message as the .proto files of this server's version say")


@contextlib.asynccontextmanager
async def _guarded(
    servicer: Servicer, name: str, scope: Scope, context: Any, *, streaming: bool = False
) -> AsyncIterator[tuple[list[Message], Callable[[], Awaitable[Call]]]]:
    """Everything around one call from outside; an error is put on the context and swallowed, never raised."""
    started, request_id, key_id, code = time.perf_counter(), _request_id(context), "", "OK"
    admission, tracing = contextlib.ExitStack(), contextlib.ExitStack()
    span = tracing.enter_context(call_span(servicer, name, request_id, context, current=not streaming))

    async def enter() -> Call:
        nonlocal key_id
        principal = await servicer.keys.authenticate(context.invocation_metadata(), scope)
        key_id = principal.key_id
        admission.enter_context(servicer.admitted("streams" if streaming else "requests"))
        return Call(name, request_id, principal, external=True)

    try:
        yield [], enter
    except (asyncio.CancelledError, GeneratorExit):
        code = "CANCELLED"
        raise
    except Exception as error:
        known = _known(error, servicer, name, request_id)
        code = known.status
        servicer.observer.rejected(known.reason)
        status.apply(context, known, request_id)
    finally:
        admission.close()
        servicer.observer.finished(name, code, started, request_id=request_id, key_id=key_id)
        end_span(span, code)
        tracing.close()


def _known(error: Exception, servicer: Servicer, name: str, request_id: str) -> MiclipError:
    if isinstance(error, MiclipError):
        return error
    if isinstance(error, TimeoutError):
        seconds = servicer.settings.request_timeout_s
        return DeadlineExceeded(f"The call took longer than {seconds:g} s; ask for less at a time.")
    servicer.observer.unexpected(name, request_id)
    return status.internal(request_id)


def _internal_call(name: str) -> Call:
    return Call(name, uuid.uuid4().hex, Principal("internal", ALL_SCOPES), external=False)


def _request_id(context: grpc.ServicerContext | Any) -> str:
    """The caller's request id where it is a plain token, and not the key by mistake, else a new one."""
    metadata = [(name, str(value)) for name, value in context.invocation_metadata()]
    given = next((value for name, value in metadata if name == "request_id"), "")
    key = next((value.rpartition(" ")[2] for name, value in metadata if name == "authorization"), "")
    is_plain = _REQUEST_ID.fullmatch(given) and given != key
    return given if is_plain else uuid.uuid4().hex
