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
from miclip.steering.watching import WatchMessage
from miclip.wire.policies import read_watch_message

SILENCES = 3
"""Heartbeats that are missed before a stream counts as dead."""
_FIRST_S = 30.0
_ENDED = "The server ended the stream."
_SILENT = "The stream fell silent."


class PolicyStream(Iterator[WatchMessage]):
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

    def __next__(self) -> WatchMessage:
        return next(self._messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; more than once is no error."""
        self._closed.set()
        self._cancel()

    def _run(self) -> Generator[WatchMessage]:
        call: Call | None = None
        while not self._closed.is_set():
            rpc = watch_request(self._model, self.resume_token)
            call = call or Call(rpc, self._options, self._timeout_s)
            stream = self._stubs.method(rpc)(rpc.request, timeout=call.remaining(), metadata=call.metadata)
            silence = _SilenceTimer(stream.cancel)
            self._cancel = silence.end
            try:
                for message in stream if not self._closed.is_set() else ():
                    silence.pause()
                    call.progressed()
                    self.resume_token = message.resume_token or self.resume_token
                    yield read_watch_message(message)
                    silence.start(SILENCES * message.heartbeat_seconds)
                error: MiclipError = NotReady(_ENDED)
            except grpc.RpcError as failure:
                error = (
                    NotReady(_SILENT) if silence.ran_out else to_stream_error(failure, call.request_id, call.endpoint)
                )
            finally:
                silence.end()
            if not self._closed.is_set():
                self._closed.wait(call.pause(error))


async def follow(
    stubs: Stubs, options: Options, model: str, resume_token: str, timeout_s: float | None
) -> AsyncGenerator[WatchMessage, None]:
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
                yield read_watch_message(message)
            error: MiclipError = NotReady(_ENDED)
        except TimeoutError:
            error = NotReady(_SILENT)
        except grpc.RpcError as failure:
            error = to_stream_error(failure, call.request_id, call.endpoint)
        finally:
            stream.cancel()
        await asyncio.sleep(call.pause(error))


class _SilenceTimer:
    """Cancels a stream that is silent for longer than it may be; blocking gRPC has no time-out for one message."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._ended = threading.Event()
        self.ran_out = False
        self.start(_FIRST_S)
        threading.Thread(target=self._run, name="miclip-silence-timer", daemon=True).start()

    def start(self, seconds: float) -> None:
        """Cancel the stream unless a message comes within ``seconds``."""
        self._deadline = time.monotonic() + seconds

    def pause(self) -> None:
        """Do not cancel while the reader works on a message."""
        self._deadline = float("inf")

    def end(self) -> None:
        """Cancel the stream, and end the thread."""
        self._ended.set()
        self._cancel()

    def _run(self) -> None:
        while not self._ended.wait(min(1.0, max(0.01, self._deadline - time.monotonic()))):
            if time.monotonic() >= self._deadline:
                self.ran_out = True
                self._cancel()
                return
