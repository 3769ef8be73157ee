"""What is saved comes back as it was, at once, and nothing else stays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from miclip.errors import BadArtefact, NotReady
from services.node import key_admin
from services.node.backup import load, save
from services.node.redis import EmbeddedRedis
from services.state.policy_store import Store


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(Path(folder), tmp_path)
        yield server.url
        server.close()


def test_what_was_saved_comes_back_and_what_came_after_goes(url: str) -> None:
    kept = key_admin.create_key(url, "notebooks")
    with redis.Redis.from_url(url) as client:
        client.set("{miclip}:with-end", "x", px=60_000)
        client.set("{miclip}:embeddings:new", "cached")
        backup = [*save(url)]
        key_admin.remove_key(url, key_admin.list_keys(url)[0].key_id)
        key_admin.create_key(url, "mallory")
        client.set("{miclip}:later", "x")
        client.set("else", "x")
        assert load(url, backup) == len(backup) - 1
        assert [record.name for record in key_admin.list_keys(url)] == ["notebooks"]
        assert 0 < client.pttl("{miclip}:with-end") <= 60_000
        assert client.exists("{miclip}:later") == 0
        assert client.get("{miclip}:embeddings:new") == b"cached", "the cache is no part of it"
        assert client.get("else") == b"x", "what is not ours stays"
    assert kept not in "".join(backup)


async def test_replicas_that_wait_hear_of_it(url: str) -> None:
    store = Store(url)
    backup = [*save(url)]
    cursor = (await store.steering()).cursor
    assert not await store.wait_for_change(cursor, 0.1)
    load(url, backup)
    assert await store.wait_for_change(cursor, 0.1)
    await store.close()


@pytest.mark.parametrize("change", ["empty", "cut off", "another version", "a foreign name", "a damaged value"])
def test_what_is_no_backup_is_refused_and_changes_nothing(url: str, change: str) -> None:
    key_admin.create_key(url, "notebooks")
    lines = [*save(url)]
    value = json.loads(lines[-1])
    if change == "empty":
        lines = []
    elif change == "cut off":
        lines[-1] = lines[-1][:-20]
    elif change == "another version":
        lines[0] = json.dumps({"miclip_backup": 2})
    elif change == "a foreign name":
        lines[-1] = json.dumps(value | {"name": "ray"})
    else:
        lines[-1] = json.dumps(value | {"dump": "AAAA" + value["dump"][4:]})
    key_admin.create_key(url, "pipelines")
    with pytest.raises(BadArtefact):
        load(url, lines)
    assert [record.name for record in key_admin.list_keys(url)] == ["notebooks", "pipelines"]


def test_without_redis_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotReady):
        [*save(f"unix://{tmp_path}/none.sock")]
