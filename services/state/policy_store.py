"""What the replicas share, in Redis: keys, policies and their change stream, and the kill switch.

One code path for an embedded and a real server. Every write of a policy is one Lua script, so the value, its change
entry and its audit entry appear together or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from miclip.errors import AlreadyExists, BadArtefact, Conflict, NotFound, Overloaded
from miclip.steering.changes import Written
from miclip.steering.policy import Policy
from miclip.steering.stop import Stop
from services.state.connection import connect, reachable, script
from services.state.keys import KeyRecord
from services.state.older import older_policy, older_stop

# one hash tag, so that all keys share a slot of a Redis cluster
_KEYS: Final = "{miclip}:keys"
_POLICIES: Final = "{miclip}:policies"
_STOPS: Final = "{miclip}:stops"
_CHANGES: Final = "{miclip}:changes"
_AUDIT: Final = "{miclip}:audit"

_CHANGES_KEPT: Final = 10_000
_AUDIT_KEPT: Final = 1_000_000
_KEYS_PER_NAME: Final = 2


@dataclass(frozen=True)
class SteeringState:
    """All policies and stops at one moment."""

    policies: Mapping[str, Policy]
    stops: Mapping[str, Stop]
    """By model id; ``""`` is the stop of all models."""
    cursor: str
    """Position in the change stream, for ``wait_for_change``."""


class Store:
    """Asynchronous access to the shared state; every method raises NotReady while Redis cannot be reached.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix://…``.
    """

    def __init__(self, url: str) -> None:
        self._redis: Any = connect(url)  # redis-py types a client for every reply it might give
        self._write_script = script(self._redis, "write_policy")
        self._changes_script = script(self._redis, "read_changes")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    # keys

    async def keys(self) -> list[KeyRecord]:
        """All live keys."""
        async with reachable():
            return [KeyRecord.model_validate_json(value) for value in await self._redis.hvals(_KEYS)]

    async def add_key(self, record: KeyRecord) -> None:
        """Make a key live; each name may have two, so that one can be rotated in before the other goes."""
        held = [key for key in await self.keys() if key.name == record.name]
        if len(held) >= _KEYS_PER_NAME:
            raise AlreadyExists(f"{record.name} has {_KEYS_PER_NAME} live keys; remove one first.", field="name")
        async with reachable():
            await self._redis.hset(_KEYS, record.key_id, record.model_dump_json())

    async def remove_key(self, key_id: str) -> None:
        """End a key."""
        async with reachable():
            if not await self._redis.hdel(_KEYS, key_id):
                raise NotFound("There is no key of that id.", field="key_id")

    # policies

    async def steering(self) -> SteeringState:
        """All policies and stops, read at one moment."""
        async with reachable(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hvals(_POLICIES).hgetall(_STOPS).xrevrange(_CHANGES, count=1)
            values, stops, last = await pipe.execute()
        policies = await asyncio.to_thread(_parsed, values)  # thousands of edits are no step of the event loop
        return SteeringState({policy.policy_id: policy for policy in policies}, _stops(stops.items()), _cursor(last))

    async def steering_since(self, state: SteeringState) -> SteeringState:
        """The newest state, from an earlier one and what changed since; reads all only where that is not known."""
        async with reachable():
            news = await self._changes_script(keys=[_POLICIES, _STOPS, _CHANGES], args=[state.cursor])
        if news is None:
            return await self.steering()
        cursor, stops, written = news
        policies = dict(state.policies)
        for policy_id, value in _pairs(written):
            policies.pop(policy_id.decode(), None)
            if value is not None:
                policies[policy_id.decode()] = _policy(value)
        return SteeringState(policies, _stops(_pairs(stops)), cursor.decode())

    async def stops(self) -> Mapping[str, Stop]:
        """Where steering is stopped, by model id; ``""`` is the stop of all models."""
        async with reachable():
            stops = await self._redis.hgetall(_STOPS)
        return _stops(stops.items())

    async def cursor(self) -> str:
        """The newest position in the change stream; where it is that of a state, the state is the newest."""
        async with reachable():
            last = await self._redis.xrevrange(_CHANGES, count=1)
        return _cursor(last)

    async def policy(self, policy_id: str) -> Policy:
        """One policy; raises NotFound."""
        async with reachable():
            value = await self._redis.hget(_POLICIES, policy_id)
        if value is None:
            raise _no_policy(policy_id)
        return _policy(value)

    async def create_policy(self, policy: Policy, audit: Mapping[str, Any], limit: int) -> None:
        """Add a policy; raises AlreadyExists, or Overloaded beyond ``limit`` policies."""
        outcome = await self._write(policy.policy_id, policy.to_json(), "", audit, limit)
        if outcome == "exists":
            raise AlreadyExists(f"policies/{policy.policy_id} exists; choose another id.", field="policy_id")
        if outcome == "full":
            raise Overloaded(f"There are {limit} policies already; delete one first.", allowed=f"{limit} policies")

    async def replace_policy(self, policy: Policy, expected_etag: str, audit: Mapping[str, Any]) -> None:
        """Replace a policy; raises Conflict when it changed since ``expected_etag``, NotFound when it is gone."""
        _raise_refused(
            policy.policy_id, await self._write(policy.policy_id, policy.to_json(), f"={expected_etag}", audit)
        )

    async def delete_policy(self, policy_id: str, expected_etag: str, audit: Mapping[str, Any]) -> None:
        """Delete a policy; an empty ``expected_etag`` matches any."""
        expectation = f"={expected_etag}" if expected_etag else "*"
        _raise_refused(policy_id, await self._write(policy_id, "", expectation, audit))

    async def _write(
        self, policy_id: str, value: str, expectation: str, audit: Mapping[str, Any], limit: int = 0
    ) -> str:
        async with reachable():
            outcome = await self._write_script(
                keys=[_POLICIES, _CHANGES, _AUDIT],
                args=[policy_id, value, expectation, limit, json.dumps(audit), _CHANGES_KEPT, _AUDIT_KEPT],
            )
        return str(outcome.decode())

    async def wait_for_change(self, cursor: str, timeout_s: float) -> bool:
        """Wait for a change after ``cursor``; False when ``timeout_s`` (under 10) passed without one."""
        async with reachable():
            return bool(await self._redis.xread({_CHANGES: cursor}, count=1, block=max(1, int(timeout_s * 1e3))))

    async def written(self, after: str, until: str) -> list[Written] | None:
        """What changed after one position of the change stream, up to another, each once and in order.

        Returns:
            None where the stream no longer knows the position ``after``: it is too old, or of another store.
        """
        if after == until:
            return []
        async with reachable():
            entries = await self._redis.xrange(_CHANGES, min=after, max=until)
        known = entries and entries[0][0].decode() == after and all(b"model" in fields for _, fields in entries)
        if not known:
            return None
        written = [Written(fields[b"id"].decode(), fields[b"model"].decode()) for _, fields in entries[1:]]
        return list(dict.fromkeys(written))

    # kill switch

    async def set_stop(self, model: str, stop: Stop | None, audit: Mapping[str, Any]) -> None:
        """Stop all steering of a model, or of all models (``""``); ``None`` resumes."""
        async with reachable(), self._redis.pipeline(transaction=True) as pipe:
            if stop is None:
                pipe.hdel(_STOPS, model)
            else:
                pipe.hset(_STOPS, model, stop.model_dump_json())
            pipe.xadd(_CHANGES, {"id": "", "model": model}, maxlen=_CHANGES_KEPT, approximate=True)
            pipe.xadd(_AUDIT, {"entry": json.dumps(audit)}, maxlen=_AUDIT_KEPT, approximate=True)
            await pipe.execute()

    async def record(self, audit: Mapping[str, Any]) -> None:
        """Append to the audit stream what is not a change."""
        async with reachable():
            await self._redis.xadd(_AUDIT, {"entry": json.dumps(audit)}, maxlen=_AUDIT_KEPT, approximate=True)

    async def audit(self, count: int = 100) -> list[dict[str, Any]]:
        """The newest audit entries, newest first."""
        async with reachable():
            return [json.loads(fields[b"entry"]) for _, fields in await self._redis.xrevrange(_AUDIT, count=count)]


def _parsed(values: Sequence[bytes]) -> list[Policy]:
    return [_policy(value) for value in values]


def _policy(value: bytes) -> Policy:
    try:
        return Policy.from_json(value)
    except BadArtefact:
        return older_policy(value)


def _stops(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, Stop]:
    return {model.decode(): _stop(model.decode(), stop) for model, stop in pairs}


def _stop(model: str, value: bytes) -> Stop:
    try:
        return Stop.model_validate_json(value)
    except ValidationError:
        return older_stop(model, value)


def _pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Pairs of a reply in which keys and values alternate."""
    return [*zip(flat[::2], flat[1::2], strict=True)]


def _cursor(last: Sequence[tuple[bytes, object]]) -> str:
    """Position of the newest entry of the change stream."""
    return last[0][0].decode() if last else "0-0"


def _raise_refused(policy_id: str, outcome: str) -> None:
    if outcome == "missing":
        raise _no_policy(policy_id)
    if outcome == "conflict":
        raise Conflict(
            f"etag: policies/{policy_id} changed since that etag was read. Get it again, reapply your change, send its "
            "etag.",
            field="etag",
        )


def _no_policy(policy_id: str) -> NotFound:
    return NotFound(f"name: there is no policies/{policy_id}; ListPolicies shows what there is.", field="name")
