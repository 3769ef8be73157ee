"""The shared state, on a real Redis."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as redis_errors

from miclip.errors import AlreadyExists, Conflict, NotFound, NotReady, Overloaded
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import ConceptSteering, Policy
from miclip.steering.stop import Stop
from services.metrics import series
from services.node.redis import EmbeddedRedis
from services.state.keys import ALL_SCOPES, new_key
from services.state.policy_cache import PolicyCache
from services.state.policy_store import Store
from tests.waiting import wait_until_async

AUDIT = {"action": "test"}


def policy(name: str = "p", **fields: Any) -> Policy:
    return Policy(policy_id=name, model="m", edits=(Edit("layer4", 1, Op.SCALE, 0.0),), **fields)


async def test_a_policy_comes_back_as_it_was_stored(store: Store) -> None:
    stored = policy(ttl_seconds=5, traffic_share=0.25, concept=ConceptSteering(text="dog", scale=2.0))
    await store.create_policy(stored, AUDIT, 10)
    assert await store.policy("p") == stored
    assert (await store.steering()).policies == {"p": stored}


async def test_a_script_that_redis_does_not_know_yet_is_no_failed_command(store: Store) -> None:
    def failed() -> float:
        return series.REGISTRY.get_sample_value("miclip_redis_errors_total", {"command": "evalsha"}) or 0

    before = failed()
    await store._redis.script_flush()
    await store.create_policy(policy("unknown-script"), AUDIT, 10)
    assert failed() == before
    with pytest.raises(redis_errors.ResponseError):
        await store._redis.evalsha(await store._redis.script_load("return redis.call('GET', 'a', 'b')"), 0)
    assert failed() == before + 1


async def test_an_id_is_used_once_and_there_is_a_limit(store: Store) -> None:
    await store.create_policy(policy("a"), AUDIT, 2)
    with pytest.raises(AlreadyExists):
        await store.create_policy(policy("a"), AUDIT, 2)
    await store.create_policy(policy("b"), AUDIT, 2)
    with pytest.raises(Overloaded):
        await store.create_policy(policy("c"), AUDIT, 2)


async def test_of_two_writers_with_one_etag_one_wins(store: Store) -> None:
    first = policy()
    await store.create_policy(first, AUDIT, 10)
    writers = [store.replace_policy(first.changed(description=str(i)), first.etag, AUDIT) for i in range(8)]
    outcomes = await asyncio.gather(*writers, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 7 + ["NoneType"]
    winner = outcomes.index(None)
    assert (await store.policy("p")).description == str(winner)


@pytest.mark.parametrize("etag", ["*", "", "="])
async def test_no_etag_stands_for_all_of_them(store: Store, etag: str) -> None:
    stored = policy()
    await store.create_policy(stored, AUDIT, 10)
    with pytest.raises(Conflict):
        await store.replace_policy(stored.changed(description="new"), etag, AUDIT)
    assert await store.policy("p") == stored


async def test_deleting_honours_an_etag_where_one_is_given(store: Store) -> None:
    stored = policy()
    await store.create_policy(stored, AUDIT, 10)
    with pytest.raises(Conflict):
        await store.delete_policy("p", "other", AUDIT)
    with pytest.raises(Conflict):
        await store.delete_policy("p", "*", AUDIT)
    await store.delete_policy("p", "", AUDIT)
    with pytest.raises(NotFound):
        await store.policy("p")
    with pytest.raises(NotFound):
        await store.delete_policy("p", "", AUDIT)


async def test_every_write_is_in_the_audit_stream_and_no_refused_one(store: Store) -> None:
    stored = policy()
    await store.create_policy(stored, {"n": 1}, 10)
    with pytest.raises(Conflict):
        await store.replace_policy(stored.changed(), "wrong", {"n": 2})
    await store.set_stop("", Stop(reason="r", stop_time=datetime.fromtimestamp(1, UTC), stopped_by="k"), {"n": 3})
    await store.record({"n": 4})
    assert [entry["n"] for entry in await store.audit()] == [4, 3, 1]


async def test_a_rush_of_calls_waits_for_connections(store: Store) -> None:
    await store.create_policy(policy(), AUDIT, 10)
    states = await asyncio.gather(*(store.steering() for _ in range(300)))
    assert all("p" in state.policies for state in states)


async def test_a_waiting_replica_hears_of_a_change_at_once(store: Store) -> None:
    state = await store.steering()
    assert not await store.wait_for_change(state.cursor, 0.05)
    waiting = asyncio.create_task(store.wait_for_change(state.cursor, 5))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await store.create_policy(policy(), AUDIT, 10)
    assert await waiting
    assert time.monotonic() - started < 1


async def test_stops_are_per_model_and_for_all(store: Store) -> None:
    stop = Stop(reason="r", stop_time=datetime.fromtimestamp(1, UTC), stopped_by="k")
    await store.set_stop("m", stop, AUDIT)
    await store.set_stop("", stop, AUDIT)
    assert (await store.steering()).stops == {"m": stop, "": stop}
    await store.set_stop("", None, AUDIT)
    await store.set_stop("", None, AUDIT)
    assert (await store.steering()).stops == {"m": stop}


async def test_a_name_has_two_keys_at_most(store: Store) -> None:
    records = [new_key("n")[1] for _ in range(3)]
    await store.add_key(records[0])
    await store.add_key(records[1])
    with pytest.raises(AlreadyExists):
        await store.add_key(records[2])
    await store.remove_key(records[0].key_id)
    await store.add_key(records[2])
    assert {record.key_id for record in await store.keys()} == {records[1].key_id, records[2].key_id}


async def test_without_redis_reads_and_writes_say_so() -> None:
    store = Store("unix:///tmp/no-such-miclip.sock")
    for attempt in (store.steering(), store.create_policy(policy(), AUDIT, 10), store.keys()):
        with pytest.raises(NotReady):
            await attempt
    await store.close()


async def test_a_replica_keeps_its_policies_without_redis_says_so_and_recovers() -> None:
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp") as folder:
        first = EmbeddedRedis(Path(folder), Path(folder) / "data")
        store = Store(first.url)
        await store.create_policy(policy(), AUDIT, 10)
        cache = PolicyCache(store)
        cache.start()
        found, view = await cache.find("p")
        assert found is not None
        assert (found.version, view.stale) == (1, False)
        first.close()
        await wait_until_async(lambda: stale(cache))
        found, view = await cache.find("p")
        assert found is not None
        assert (found.version, view.stale) == (1, True)
        assert (await cache.find("unheard-of"))[0] is None
        with EmbeddedRedis(Path(folder), Path(folder) / "data"):  # its data outlived it
            await wait_until_async(lambda: fresh(cache))
            await store.replace_policy(found.changed(description="new"), found.etag, AUDIT)
            await wait_until_async(lambda: version(cache, 2))
            await cache.stop()
            await store.close()


async def stale(cache: PolicyCache) -> bool:
    return (await cache.view()).stale


async def fresh(cache: PolicyCache) -> bool:
    return not (await cache.view()).stale


async def version(cache: PolicyCache, wanted: int) -> bool:
    policy, _ = await cache.find("p")
    return policy is not None and policy.version == wanted


def test_all_scopes_are_the_default() -> None:
    assert set(new_key("n")[1].scopes) == set(ALL_SCOPES)


async def test_a_change_of_one_policy_reads_that_policy_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        await store.create_policy(policy(name), AUDIT, 10)
    before = await store.steering()
    parsed: list[str] = []
    from_json = Policy.from_json.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Policy], text: bytes) -> Policy:
        made: Policy = from_json(cls, text)
        parsed.append(made.policy_id)
        return made

    monkeypatch.setattr(Policy, "from_json", classmethod(counted))
    changed = before.policies["b"].changed(description="new")
    await store.replace_policy(changed, before.policies["b"].etag, AUDIT)
    await store.delete_policy("c", "", AUDIT)
    await store.set_stop("m", Stop(reason="r", stop_time=datetime.fromtimestamp(1, UTC), stopped_by="k"), AUDIT)
    after = await store.steering_since(before)
    assert parsed == ["b"]
    assert after.policies["a"] is before.policies["a"]
    assert after == await store.steering()
    assert await store.steering_since(after) == after


@pytest.mark.parametrize("lost", ["trimmed", "empty"])
async def test_where_the_stream_no_longer_knows_the_position_all_is_read(store: Store, lost: str) -> None:
    await store.create_policy(policy("a"), AUDIT, 10)
    before = await store.steering()
    await store.create_policy(policy("b"), AUDIT, 10)
    if lost == "trimmed":
        await store._redis.xtrim("{miclip}:changes", maxlen=1, approximate=False)
    else:
        await store._redis.delete("{miclip}:changes")
    assert (await store.steering_since(before)).policies.keys() == {"a", "b"}
