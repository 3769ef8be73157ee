"""API keys of a server: made, listed and removed by who runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from miclip.local_server import KEY_FILE, write_private
from services.state.keys import ALL_SCOPES, KeyRecord, Scope, match, new_key
from services.state.policy_store import Store

LOCAL_NAME = "local"
"""Name of the key that ``miclip serve`` makes for the command line."""


def create_key(redis_url: str, name: str, scopes: Iterable[Scope] = ALL_SCOPES) -> str:
    """Make a key of ``name`` and return it; it is shown this once. A name may have two, for rotation."""
    return asyncio.run(_create(redis_url, name, scopes))


def list_keys(redis_url: str) -> list[KeyRecord]:
    """All live keys, without themselves."""
    return asyncio.run(_list(redis_url))


def remove_key(redis_url: str, key_id: str) -> None:
    """End a key; replicas refuse it after two seconds at most."""
    asyncio.run(_remove(redis_url, key_id))


async def ensure_local_key(redis_url: str, state_dir: Path, given: str = "") -> None:
    """Make sure that ``state_dir/api_key`` holds a key with all scopes that the store knows.

    Args:
        redis_url: The store.
        state_dir: Where the key lies, mode 0600.
        given: Key to use instead of a random one.
    """
    path = state_dir / KEY_FILE
    held = given or (path.read_text().strip() if path.exists() else "")
    async with _store(redis_url) as store:
        records = await store.keys()
        if not held or match(held, records) is None:
            own = sorted((r for r in records if r.name == LOCAL_NAME), key=lambda r: r.created_at)
            for record in own[:-1]:
                await store.remove_key(record.key_id)
            held, record = new_key(LOCAL_NAME, key=held)
            await store.add_key(record)
    write_private(path, held + "\n")


async def _create(redis_url: str, name: str, scopes: Iterable[Scope]) -> str:
    key, record = new_key(name, scopes)
    async with _store(redis_url) as store:
        await store.add_key(record)
    return key


async def _list(redis_url: str) -> list[KeyRecord]:
    async with _store(redis_url) as store:
        return sorted(await store.keys(), key=lambda record: (record.name, record.created_at))


async def _remove(redis_url: str, key_id: str) -> None:
    async with _store(redis_url) as store:
        await store.remove_key(key_id)


@asynccontextmanager
async def _store(redis_url: str) -> AsyncIterator[Store]:
    store = Store(redis_url)
    try:
        yield store
    finally:
        await store.close()
