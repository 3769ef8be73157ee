"""Streams of WatchPolicies over a real Redis: a snapshot, then every change, and where they were after a break."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from miclip.errors import GoingAway, InvalidInput, NotReady, Overloaded
from miclip.settings import Settings
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
from miclip.steering.stop import Stop
from miclip.v1 import steering_pb2 as pb
from services.metrics import series
from services.node.redis import EmbeddedRedis
from services.state.policy_cache import PolicyCache
from services.state.policy_store import Store
from services.steering import snapshot
from services.steering.position import Position
from services.steering.watch import PolicyWatch
from tools.monitoring.promql import FAULTS

AUDIT = {"action": "test"}
STOP = Stop(reason="r", stop_time=datetime.fromtimestamp(1, UTC), stopped_by="k")
CREATED, UPDATED, DELETED, EXPIRED, STOPPED, RESUMED = range(1, 7)


@pytest.fixture
async def watching(store: Store) -> AsyncIterator[Any]:
    """Makes the streams of a replica with some settings; ends what they began."""
    caches: list[PolicyCache] = []

    def make(**settings: Any) -> PolicyWatch:
        caches.append(PolicyCache(store, "steering"))
        caches[-1].start()
        return PolicyWatch(caches[-1], store, Settings(**{"watch_heartbeat_s": 30.0, **settings}))

    yield make
    for cache in caches:
        await cache.stop()


class Reader:
    """One client of a stream."""

    def __init__(self, watch: PolicyWatch, model: str = "", token: str = "") -> None:
        self.token = token
        self._messages = watch.messages(model, token)

    async def next(self, seconds: float = 5) -> pb.WatchPoliciesResponse:
        async with asyncio.timeout(seconds):
            message = await anext(self._messages)
        self.token = message.resume_token or self.token
        return message

    async def changes(self, count: int) -> list[tuple[int, str]]:
        found = [(await self.next()).change for _ in range(count)]
        return [(change.kind, change.name or change.model) for change in found]

    async def close(self) -> None:
        await self._messages.aclose()


def policy(name: str, model: str = "m", **fields: Any) -> Policy:
    return Policy(policy_id=name, model=model, edits=(Edit("layer4", 1, Op.SCALE, 0.0),), **fields)


def watchers() -> float | None:
    return series.REGISTRY.get_sample_value("miclip_policy_watchers", {"service": "steering"})


async def test_a_stream_starts_with_all_there_is(store: Store, watching: Any) -> None:
    await store.create_policy(policy("b", traffic_share=0.5), AUDIT, 10)
    await store.create_policy(policy("a"), AUDIT, 10)
    await store.create_policy(policy("gone", ttl_seconds=1, update_time=datetime.now(UTC) - timedelta(10)), AUDIT, 10)
    await store.set_stop("m", STOP.model_copy(update={"model": "m"}), AUDIT)
    message = await Reader(watching()).next()
    part = message.snapshot
    assert (part.first, part.last) == (True, True)
    assert [one.name for one in part.policies] == ["policies/a", "policies/b"]
    assert [(edit.unit, edit.scale) for edit in part.policies[0].resolved_edits] == [(1, 0.0)]
    assert [stop.model for stop in part.stops] == ["models/m"]
    assert message.resume_token
    assert (message.heartbeat_seconds, message.stale) == (30.0, False)
    assert abs(message.send_time.ToDatetime(UTC).timestamp() - time.time()) < 5


async def test_every_change_is_told_as_it_happens(store: Store, watching: Any) -> None:
    reader = Reader(watching())
    await reader.next()
    stored = policy("p", ttl_seconds=3600)
    await store.create_policy(stored, AUDIT, 10)
    told = (await reader.next()).change
    assert (told.kind, told.policy.version, told.policy.etag) == (CREATED, 1, stored.etag)
    await store.replace_policy(stored.changed(traffic_share=0.25), stored.etag, AUDIT)
    told = (await reader.next()).change
    assert (told.kind, told.policy.version, told.policy.traffic_share) == (UPDATED, 2, 0.25)
    await store.set_stop("", STOP, AUDIT)
    assert (await reader.next()).change.stop.reason == "r"
    await store.set_stop("", None, AUDIT)
    assert await reader.changes(1) == [(RESUMED, "")]
    await store.delete_policy("p", "", AUDIT)
    assert await reader.changes(1) == [(DELETED, "policies/p")]


async def test_a_policy_expires_in_the_stream_when_its_time_is_over(store: Store, watching: Any) -> None:
    reader = Reader(watching())
    await reader.next()
    await store.create_policy(policy("p", ttl_seconds=0.4), AUDIT, 10)
    assert (await reader.next()).change.kind == CREATED
    began = time.monotonic()
    assert await reader.changes(1) == [(EXPIRED, "policies/p")]
    assert 0.2 < time.monotonic() - began < 2


async def test_a_watcher_of_one_model_hears_of_it_and_of_the_stop_of_all(store: Store, watching: Any) -> None:
    await store.create_policy(policy("other", "n"), AUDIT, 10)
    reader = Reader(watching(), "m")
    assert not (await reader.next()).snapshot.policies
    await store.create_policy(policy("other2", "n"), AUDIT, 10)
    await store.set_stop("n", STOP, AUDIT)
    await store.create_policy(policy("own"), AUDIT, 10)
    await store.set_stop("", STOP, AUDIT)
    assert sorted(await reader.changes(2)) == [(CREATED, "policies/own"), (STOPPED, "")]
    await store.delete_policy("own", "", AUDIT)
    await store.create_policy(policy("own", "n"), AUDIT, 10)
    assert await reader.changes(1) == [(DELETED, "policies/own")]


async def test_a_quiet_stream_beats(watching: Any) -> None:
    reader = Reader(watching(watch_heartbeat_s=0.1))
    first = await reader.next()
    for _ in range(3):
        message = await reader.next(1)
        assert message.WhichOneof("event") == "heartbeat"
        assert message.heartbeat_seconds == 0.1
    assert message.resume_token != first.resume_token


async def test_a_resumed_stream_tells_what_was_missed_and_no_more(store: Store, watching: Any) -> None:
    watch = watching()
    kept, changed, ending = policy("kept"), policy("changed"), policy("ending", ttl_seconds=0.2)
    for one in (kept, changed, ending, policy("deleted")):
        await store.create_policy(one, AUDIT, 10)
    reader = Reader(watch)
    await reader.next()
    await reader.close()
    await store.create_policy(policy("new"), AUDIT, 10)
    for _ in range(3):
        stored = await store.policy("changed")
        await store.replace_policy(stored.changed(), stored.etag, AUDIT)
    await store.delete_policy("deleted", "", AUDIT)
    await store.set_stop("m", STOP.model_copy(update={"model": "m"}), AUDIT)
    await asyncio.sleep(0.25)
    again = Reader(watch, token=reader.token)
    assert sorted(await again.changes(5)) == [
        (CREATED, "policies/new"),
        (UPDATED, "policies/changed"),
        (DELETED, "policies/deleted"),
        (EXPIRED, "policies/ending"),
        (STOPPED, "models/m"),
    ]
    await again.close()
    third = Reader(watch, token=again.token)
    assert (await third.next()).WhichOneof("event") == "heartbeat"
    await store.delete_policy("kept", "", AUDIT)
    assert await third.changes(1) == [(DELETED, "policies/kept")]


async def test_a_position_in_the_middle_of_many_changes_tells_them_all_again(store: Store, watching: Any) -> None:
    watch = watching()
    await store.create_policy(policy("first"), AUDIT, 10)
    reader = Reader(watch)
    await reader.next()
    await reader.close()
    for name in "abc":
        await store.create_policy(policy(name), AUDIT, 10)
    cut = Reader(watch, token=reader.token)
    await cut.changes(2)
    await cut.close()
    assert len(await Reader(watch, token=cut.token).changes(3)) == 3


@pytest.mark.parametrize("gone", ["trimmed", "another store", "another model"])
async def test_where_the_position_is_gone_all_is_told_anew(store: Store, watching: Any, gone: str) -> None:
    watch = watching()
    await store.create_policy(policy("p"), AUDIT, 10)
    reader = Reader(watch, "n" if gone == "another model" else "m")
    await reader.next()
    await reader.close()
    if gone == "trimmed":
        await store.create_policy(policy("q"), AUDIT, 10)
        await store._redis.xtrim("{miclip}:changes", maxlen=1, approximate=False)
    elif gone == "another store":
        await store._redis.delete("{miclip}:changes")
    message = await Reader(watch, "m", reader.token).next()
    assert message.WhichOneof("event") == "snapshot"
    assert "policies/p" in [one.name for one in message.snapshot.policies]


@pytest.mark.parametrize("token", ["x", "é", "MTIz", "MS0xIDEuMDAwIA==MS0xIDEuMDAwIA==", "A" * 10_000, "\0"])
async def test_a_token_that_was_not_made_here_is_refused(watching: Any, token: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await Reader(watching(), token=token).next()
    assert (caught.value.field, bool(caught.value.allowed)) == ("resume_token", True)


def test_a_token_comes_back_as_the_position_it_was_made_of() -> None:
    for position in (Position("0-0", 1.5, ""), Position("1763855555555-12", 1763855555.25, "emoji-resnet")):
        assert Position.parse(position.token()) == position


async def test_a_large_state_comes_in_parts(store: Store, watching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 400)
    names = [f"p{number:02}" for number in range(12)]
    for name in names:
        await store.create_policy(policy(name), AUDIT, 100)
    reader, parts = Reader(watching()), []
    while not parts or not parts[-1].snapshot.last:
        parts.append(await reader.next())
    assert len(parts) > 2
    assert [part.snapshot.first for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [bool(part.resume_token) for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [one.name for part in parts for one in part.snapshot.policies] == [f"policies/{name}" for name in names]


async def test_many_streams_of_many_models_are_each_told_their_own(store: Store, watching: Any) -> None:
    watch = watching()
    readers = {f"m{number}": Reader(watch, f"m{number}") for number in range(70)}
    for reader in readers.values():
        await reader.next()
    for model in ("m0", "m69"):
        await store.create_policy(policy(f"p-{model}", model), AUDIT, 10)
        assert await readers[model].changes(1) == [(CREATED, f"policies/p-{model}")]
    late, later = Reader(watch, "m0"), Reader(watch, "m0")
    for reader in (late, later):
        assert [one.name for one in (await reader.next()).snapshot.policies] == ["policies/p-m0"]
    await store.delete_policy("p-m0", "", AUDIT)
    for reader in (late, later, readers["m0"]):
        assert await reader.changes(1) == [(DELETED, "policies/p-m0")]


async def test_watchers_are_counted_and_limited_and_leave_their_place(watching: Any) -> None:
    watch = watching(max_watchers=2)
    readers = [Reader(watch), Reader(watch)]
    for reader in readers:
        await reader.next()
    assert watchers() == 2
    with pytest.raises(Overloaded) as caught:
        await Reader(watch).next()
    assert caught.value.allowed == "2 streams"
    await readers.pop().close()
    waiting = asyncio.create_task(readers[0].next())
    await asyncio.sleep(0.01)
    waiting.cancel()  # as a client that goes away does
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert watchers() == 0
    await Reader(watch).next()


async def test_a_stream_ends_at_its_age_and_goes_on_elsewhere(watching: Any) -> None:
    reader = Reader(watching(max_watch_s=0.2))
    await reader.next()
    with pytest.raises(StopAsyncIteration):
        await reader.next()
    assert (await Reader(watching(), token=reader.token).next()).WhichOneof("event") == "heartbeat"


async def test_a_replica_that_goes_ends_its_streams_and_takes_no_more(watching: Any) -> None:
    watch = watching()
    reader = Reader(watch)
    await reader.next()
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0.01)
    watch.close()
    with pytest.raises(GoingAway):
        await waiting
    with pytest.raises(GoingAway) as caught:
        await Reader(watch).next()
    assert caught.value.reason not in FAULTS.split("|"), "an update does not spend the error budget"
    assert watchers() == 0


async def test_without_redis_a_stream_says_so_and_goes_on_when_it_is_back() -> None:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        first = EmbeddedRedis(Path(folder), Path(folder) / "data")
        store = Store(first.url)
        await store.create_policy(policy("p"), AUDIT, 10)
        cache = PolicyCache(store, "steering")
        cache.start()
        watch = PolicyWatch(cache, store, Settings(watch_heartbeat_s=30.0))
        reader = Reader(watch)
        assert not (await reader.next()).stale
        first.close()
        assert (await reader.next(10)).stale
        with pytest.raises(NotReady):
            await Reader(watch).next(15)
        with EmbeddedRedis(Path(folder), Path(folder) / "data"):  # its data outlived it
            assert not (await reader.next(10)).stale
            await store.delete_policy("p", "", AUDIT)
            assert await reader.changes(1) == [(DELETED, "policies/p")]
            await reader.close()
            await cache.stop()
            await store.close()
