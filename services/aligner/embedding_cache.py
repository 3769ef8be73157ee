"""Embeddings that were computed before, shared by all replicas, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from miclip.errors import NotReady
from services.metrics import series
from services.state.connection import connect, reachable, script

_NEW: Final = "{miclip}:embeddings:new"
_OLD: Final = "{miclip}:embeddings:old"

_SILENCE_S: Final = 1.0
_REST_S: Final = 5.0


class EmbeddingCache:
    """Two generations of entries: when the new one is full it becomes the old one, and the old one goes.

    What is read moves to the new generation, so what is in use stays. The cache is never worth failing a call for,
    nor waiting: while Redis cannot be reached or is silent, nothing is found and nothing is kept; it is asked again
    after some seconds.

    Args:
        url: Of Redis.
        limit: Most entries of a generation.
    """

    def __init__(self, url: str, limit: int) -> None:
        self._redis, self._limit = connect(url, silence_s=_SILENCE_S), limit
        self._away_until = 0.0
        self._put = script(self._redis, "put_embeddings")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Values in the order of ``keys``; None where there is none."""
        if not keys:
            return []
        new, old = await self._read(keys)
        found = sum(a is not None or b is not None for a, b in zip(new, old, strict=True))
        series.CACHE_LOOKUPS.labels("hit").inc(found)
        series.CACHE_LOOKUPS.labels("miss").inc(len(keys) - found)
        await self.put({key: b for key, a, b in zip(keys, new, old, strict=True) if a is None and b is not None})
        return [b if a is None else a for a, b in zip(new, old, strict=True)]

    async def _read(self, keys: Sequence[str]) -> list[list[bytes | None]]:
        """What the new and the old generation hold of ``keys``."""
        if not self._is_away():
            try:
                async with reachable(), self._redis.pipeline(transaction=False) as pipe:
                    pipe.hmget(_NEW, keys).hmget(_OLD, keys)
                    found: list[list[bytes | None]] = await pipe.execute()
                    return found
            except NotReady:
                self._rest()
        return [[None] * len(keys), [None] * len(keys)]

    async def put(self, items: Mapping[str, bytes]) -> None:
        """Keep values, some hundreds at a time."""
        if not items or self._is_away():
            return
        try:
            async with reachable():
                flat = [part for item in items.items() for part in item]
                await self._put(keys=[_NEW, _OLD], args=[self._limit, *flat])
        except NotReady:
            self._rest()

    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    def _rest(self) -> None:
        self._away_until = time.monotonic() + _REST_S
