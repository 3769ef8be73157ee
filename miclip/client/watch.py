"""Streams of policies: opened again where they broke, resumed where they stopped, closed from any thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Self

import grpc
import grpc.aio

from miclip.client.connection import Call, Options, Stubs
from miclip.client.failure import to_stream_error
from miclip.client.steering import watch_request
from miclip.errors import MiclipError, NotReady
from miclip.v1.steering_pb2 import WatchPoliciesResponse

SILENCES = 3
"""Heartbeats that are missed before a stream counts as dead."""
_FIRST_S = 30.0
_ENDED = "The server ended the stream."
_SILENT = "The stream fell silent."


class PolicyStream(Iterator[WatchPoliciesResponse]):
    """Messages of WatchPolicies, as ``MiclipClient.watch_policies`` returns them; a context manager.

    Each ``next`` waits for a message. ``close``, from any thread, ends the stream, and the iteration with it.
    """

    def __init__(
        self, stubs: Stubs, options: Options, model: str, resume_token: str, timeout_s: float | None = None
    ) -> None:
        self._stubs, self._options, self._model, self._timeout_s = stubs, options, model, timeout_s
        self.resume_token = resume_token
        self._closed = threading.Event()
        self._cancel: Callable[[], object] = lambda: None
        self._messages = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> WatchPoliciesResponse:
        return next(self._messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; more than once is no error."""
        self._closed.set()
        self._cancel()

    def _run(self) -> Generator[WatchPoliciesResponse]:
        call: Call | None = None
        while not self._closed.is_set():
            rpc = watch_request(self._model, self.resume_token)
            call = call or Call(rpc, self._options, self._timeout_s)
            stream = self._stubs.method(rpc)(rpc.request, timeout=call.remaining(), metadata=call.metadata)
            watchdog = _Watchdog(stream.cancel)
            self._cancel = watchdog.end
            try:
                for message in stream if not self._closed.is_set() else ():
                    watchdog.rest()
                    call.progressed()
                    self.resume_token = message.resume_token or self.resume_token
                    yield message
                    watchdog.expect(SILENCES * message.heartbeat_seconds)
                error: MiclipError = NotReady(_ENDED)
            except grpc.RpcError as failure:
                error = (
                    NotReady(_SILENT)
                    if watchdog.has_bitten
                    else to_stream_error(failure, call.request_id, call.endpoint)
                )
            finally:
                watchdog.end()
            if not self._closed.is_set():
                self._closed.wait(call.pause(error))


async def follow(
    stubs: Stubs, options: Options, model: str, resume_token: str, timeout_s: float | None
) -> AsyncGenerator[WatchPoliciesResponse, None]:
    """The same for asyncio; closed as every asynchronous generator is."""
    call, silence = None, _FIRST_S
    while True:
        rpc = watch_request(model, resume_token)
        call = call or Call(rpc, options, timeout_s)
        stream = stubs.method(rpc)(rpc.request, timeout=call.remaining(), metadata=call.metadata)
        try:
            while (message := await asyncio.wait_for(stream.read(), silence)) is not grpc.aio.EOF:
                call.progressed()
                resume_token, silence = message.resume_token or resume_token, SILENCES * message.heartbeat_seconds
                yield message
            error: MiclipError = NotReady(_ENDED)
        except TimeoutError:
            error = NotReady(_SILENT)
        except grpc.RpcError as failure:
            error = to_stream_error(failure, call.request_id, call.endpoint)
        finally:
            stream.cancel()
        await asyncio.sleep(call.pause(error))


class _Watchdog:
    """Cancels a stream that is silent for longer than it may be; blocking gRPC has no time-out for one message."""

    def __init__(self, bite: Callable[[], object]) -> None:
        self._bite, self._stopped, self.has_bitten = bite, threading.Event(), False
        self.expect(_FIRST_S)
        threading.Thread(target=self._watch, name="miclip-watchdog", daemon=True).start()

    def expect(self, seconds: float) -> None:
        """Bite unless something comes within ``seconds``."""
        self._deadline = time.monotonic() + seconds

    def rest(self) -> None:
        """Do not bite: a message has come, and whoever reads takes their time."""
        self._deadline = float("inf")

    def end(self) -> None:
        """Cancel the stream, and end the thread."""
        self._stopped.set()
        self._bite()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, max(0.01, self._deadline - time.monotonic()))):
            if time.monotonic() >= self._deadline:
                self.has_bitten = True
                self._bite()
                return
