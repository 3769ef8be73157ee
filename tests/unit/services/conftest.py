"""A real Redis for a module of tests, and the shared state in it, empty for every test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.node.redis import EmbeddedRedis
from services.state.policy_store import Store


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    with (
        tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder,
        EmbeddedRedis(Path(folder), Path(folder) / "data") as server,
    ):
        yield server


@pytest.fixture
async def store(redis: EmbeddedRedis) -> AsyncIterator[Store]:
    made = Store(redis.url)
    await made._redis.flushall()
    yield made
    await made.close()
