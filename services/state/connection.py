"""Connections to Redis: one pool a client, every command timed, and what its absence means to a caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from typing import Any, Final

import redis.asyncio as aioredis
from redis import exceptions as redis_errors

from miclip.errors import NotReady
from services.metrics import series

_CONNECTIONS: Final = 32


def connect(url: str, *, silence_s: float = 10) -> Any:
    """A client that gives up on a server silent for so long; redis-py's own types mix its two kinds of client.

    A rush of calls waits for its connections: redis-py's other pool calls the server unreachable beyond a hundred.
    """
    pool = aioredis.BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=silence_s,
        socket_connect_timeout=2,
        socket_timeout=silence_s,
        health_check_interval=30,
    )
    return _TimedRedis.from_pool(pool)


def script(client: Any, name: str) -> Any:
    """The Lua script ``lua/NAME.lua``, ready to be called on a client.

    Each script's head says what its KEYS and ARGV are.
    """
    return client.register_script(resources.files("services.state").joinpath(f"lua/{name}.lua").read_text())


@asynccontextmanager
async def reachable() -> AsyncIterator[None]:
    """Turn what redis-py raises when the server is away into NotReady."""
    try:
        yield
    except redis_errors.TimeoutError as error:  # a server that was held up does later what it was asked
        text = "The state store does not answer; a change may have been made or not. Look, and try again."
        raise NotReady(text) from error
    except (redis_errors.ConnectionError, redis_errors.BusyLoadingError, OSError) as error:
        raise NotReady("The state store cannot be reached; nothing was changed. Try again.") from error


class _TimedRedis(aioredis.Redis):
    """Times commands; those that wait for news are left out."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        name = str(args[0]).lower().replace(" ", "_")
        if name == "xread":
            return await super().execute_command(*args, **options)
        with _timed(name):
            return await super().execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _TimedPipeline:
        return _TimedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _TimedPipeline(aioredis.client.Pipeline):
    """Times the commands of a pipeline as one."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _timed("pipeline"):
            return await super().execute(raise_on_error)


@contextmanager
def _timed(command: str) -> Iterator[None]:
    started, errors = time.perf_counter(), series.REDIS_ERRORS.labels(command)  # 0 until one fails
    try:
        yield
    except redis_errors.NoScriptError:
        raise  # a server that has not seen a script yet; redis-py sends it, and asks again
    except Exception:
        errors.inc()
        raise
    series.REDIS_SECONDS.labels(command).observe(time.perf_counter() - started)
