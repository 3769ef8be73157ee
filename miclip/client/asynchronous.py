"""The asyncio client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
import grpc.aio

from miclip.client import activation, aligner, retrieval, steering
from miclip.client.blocking import with_self
from miclip.client.connection import Call, Options, Stubs, open_channel, spanned
from miclip.client.failure import to_error
from miclip.client.health import health
from miclip.client.plan import Plan, Rpc
from miclip.client.watch import follow
from miclip.errors import MiclipError, NotReady
from miclip.steering.watching import WatchMessage
from miclip.v1.aligner_pb2 import Alignment

P = ParamSpec("P")
T = TypeVar("T")


def _method(plan: Callable[P, Plan[T]]) -> Callable[Concatenate[AsyncMiclipClient, P], Coroutine[Any, Any, T]]:
    @functools.wraps(plan)
    async def method(self: AsyncMiclipClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(plan(*args, **kwargs))

    method.__signature__ = with_self(plan)  # type: ignore[attr-defined]
    return method


class AsyncMiclipClient:
    """As ``MiclipClient``, with coroutines; an async context manager, to be made inside a running event loop.

    Args:
        options: Where the server is and how to call it; default the local server.
        overrides: Fields of ``Options``, for example ``endpoint="host:9000"``.

    Raises:
        Unreachable: no endpoint is given and no server runs here.
    """

    def __init__(self, options: Options | None = None, **overrides: Any) -> None:
        self.options = replace(options or Options(), **overrides).resolved()
        self._channel = open_channel(grpc.aio, self.options)
        self._stubs = Stubs(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._stubs.close()
        await self._channel.close()

    def with_options(self, **overrides: Any) -> Self:
        """A view, on the same connection, with other ``timeout_s``, ``attempts``, ``request_id`` or ``api_key``."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, options=self.options.varied(overrides))
        return view

    list_models = _method(activation.list_models)
    get_model = _method(activation.get_model)
    get_limits = _method(activation.get_limits)
    predict = _method(activation.predict)
    capture = _method(activation.capture)

    embed_units = _method(aligner.embed_units)
    embed_texts = _method(aligner.embed_texts)
    embed_images = _method(aligner.embed_images)
    trace = _method(aligner.trace)
    create_alignment = _method(aligner.create_alignment)
    get_alignment = _method(aligner.get_alignment)
    list_alignments = _method(aligner.list_alignments)
    cancel_alignment = _method(aligner.cancel_alignment)
    list_atlases = _method(aligner.list_atlases)
    get_atlas = _method(aligner.get_atlas)
    activate_atlas = _method(aligner.activate_atlas)

    describe = _method(retrieval.describe)
    localize = _method(retrieval.localize)
    get_unit = _method(retrieval.get_unit)
    list_units = _method(retrieval.list_units)
    create_vocabulary = _method(retrieval.create_vocabulary)
    list_vocabularies = _method(retrieval.list_vocabularies)
    delete_vocabulary = _method(retrieval.delete_vocabulary)

    create_policy = _method(steering.create_policy)
    get_policy = _method(steering.get_policy)
    list_policies = _method(steering.list_policies)
    list_stops = _method(steering.list_stops)
    update_policy = _method(steering.update_policy)
    delete_policy = _method(steering.delete_policy)
    preview_policy = _method(steering.preview_policy)
    stop_steering = _method(steering.stop_steering)
    resume_steering = _method(steering.resume_steering)

    health = _method(health)

    async def watch_alignment(self, name: str, *, timeout_s: float | None = None) -> AsyncIterator[Alignment]:
        """Yield an alignment as it is now and at every change until it has ended; a broken stream is opened again.

        Args:
            name: Name or id of the alignment.
            timeout_s: Time of the whole watch in seconds; default without end.
        """
        rpc = aligner.watch_request(name)
        call = Call(rpc, self.options, timeout_s)
        while True:
            stream = self._stubs.method(rpc)(rpc.request, timeout=call.remaining(), metadata=call.metadata)
            try:
                async for message in stream:
                    call.progressed()
                    yield message.alignment
                    if message.alignment.state in aligner.ENDED:
                        return
                error: MiclipError = NotReady("The server closed the stream before the alignment had ended.")
            except grpc.RpcError as failure:
                error = to_error(failure, call.request_id, call.endpoint)
            finally:
                stream.cancel()
            await asyncio.sleep(call.pause(error))

    async def watch_policies(
        self, model: str = "", *, resume_token: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[WatchMessage]:
        """Yield all policies and stops, then every change as it happens; a broken stream is resumed.

        A snapshot may come in parts, and comes again where the server no longer knows how far the stream was. The
        watch ends only by its time, by closing the generator, or by an error: one that trying again does not mend,
        or a server that stays away for all ``attempts``.

        Args:
            model: Model whose policies and stops to watch; default all.
            resume_token: Of a message of an earlier watch of the same model, to be told only what changed since.
            timeout_s: Time of the whole watch in seconds; default without end.

        Raises:
            Overloaded: too many clients watch.
            NotReady: the server stays away.
            DeadlineExceeded: ``timeout_s`` is over.
        """
        stream = follow(self._stubs, self.options, model, resume_token, timeout_s)
        async with contextlib.aclosing(stream) as messages:
            async for message in messages:
                yield message

    async def _run(self, plan: Plan[T]) -> T:
        try:
            rpc = next(plan)
            while True:
                try:
                    response = await self._call(rpc)
                except MiclipError as error:
                    rpc = plan.throw(error)
                else:
                    rpc = plan.send(response)
        except StopIteration as ended:
            result: T = ended.value
            return result

    async def _call(self, rpc: Rpc) -> Any:
        with spanned(rpc):
            return await self._tried(rpc)

    async def _tried(self, rpc: Rpc) -> Any:
        call = Call(rpc, self.options, self.options.deadline_s())
        while True:
            try:
                return await self._stubs.method(rpc)(rpc.request, timeout=call.remaining(), metadata=call.metadata)
            except grpc.RpcError as failure:
                error = to_error(failure, call.request_id, call.endpoint)
            await asyncio.sleep(call.pause(error))
