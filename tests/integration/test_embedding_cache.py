"""The embedding cache keeps what is used, in bounded memory, and fails no call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from services.aligner.embedding_cache import EmbeddingCache
from services.node.redis import EmbeddedRedis

LIMIT = 10


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    folder = tmp_path_factory.mktemp("r")
    with EmbeddedRedis(folder, folder / "data") as server:
        yield server


@pytest.fixture
async def cache(redis: EmbeddedRedis) -> AsyncIterator[EmbeddingCache]:
    made = EmbeddingCache(redis.url, LIMIT)
    await made._redis.flushall()
    yield made
    await made.close()


async def test_values_come_back_in_order_with_gaps_where_there_is_none(cache: EmbeddingCache) -> None:
    await cache.put({"a": b"1", "b": bytes(range(256))})
    assert await cache.get(["b", "x", "a", "b"]) == [bytes(range(256)), None, b"1", bytes(range(256))]
    assert await cache.get([]) == []


async def test_it_never_holds_more_than_two_generations(cache: EmbeddingCache) -> None:
    for number in range(100):
        await cache.put({f"k{number}": b"v"})
    sizes = [await cache._redis.hlen(key) for key in await cache._redis.keys("*")]
    assert sum(sizes) < 2 * LIMIT + 1
    assert await cache.get(["k99", "k0"]) == [b"v", None]


async def test_what_is_read_again_and_again_stays(cache: EmbeddingCache) -> None:
    await cache.put({"used": b"v", "unused": b"v"})
    for number in range(100):
        await cache.put({f"k{number}": b"v"})
        assert await cache.get(["used"]) == [b"v"]
    assert await cache.get(["unused"]) == [None]


async def test_a_silent_redis_is_a_miss_that_costs_a_moment_once(redis: EmbeddedRedis, cache: EmbeddingCache) -> None:
    await cache.put({"a": b"v"})
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(4):
            assert await cache.get(["a"]) == [None]
        async with asyncio.timeout(0.2):
            assert await cache.get(["a"]) == [None]
            await cache.put({"b": b"v"})
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    cache._away_until = 0.0  # some seconds later
    assert await cache.get(["a"]) == [b"v"]


async def test_an_unreachable_redis_is_a_miss() -> None:
    cache = EmbeddingCache("unix:///nowhere/redis.sock", LIMIT)
    assert await cache.get(["a", "b"]) == [None, None]
    await cache.put({"a": b"v"})
    await cache.close()
