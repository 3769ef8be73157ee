"""The streams of WatchPolicies: all there is, then what changes.

A stream compares what it has sent with what the replica knows by now; nothing is queued for it. However slow a client
reads, it costs one message, and it is sent the newest. What streams of one model have in common is made once for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime

from miclip.errors import GoingAway, Overloaded
from miclip.settings import Settings
from miclip.steering.changes import InForce, between, since
from miclip.v1 import steering_pb2 as pb
from miclip.wire.policies import write_change
from miclip.wire.times import write_time
from services.metrics import series
from services.node.ray_private import draining
from services.state.policy_cache import PolicyCache, View
from services.state.policy_store import SteeringState, Store
from services.steering.position import Position
from services.steering.snapshot import snapshot_parts

_SHARED = 64
_ASKING = 8  # of Redis at a time, however many streams are resumed together
_DRAIN_S = 0.5
_RETRY_S = 5.0


class PolicyWatch:
    """The streams of one replica.

    Args:
        policies: What the replica knows.
        store: Knows what changed since a position.
        settings: Limits.
    """

    def __init__(self, policies: PolicyCache, store: Store, settings: Settings) -> None:
        self._policies, self._store, self._settings = policies, store, settings
        self._watchers, self._closed = 0, False
        self._asking = asyncio.Semaphore(_ASKING)
        self._states: dict[str, tuple[SteeringState, InForce]] = {}
        self._snapshots: dict[str, tuple[InForce, list[pb.PolicySnapshot]]] = {}
        self._steps: dict[str, tuple[InForce, InForce, list[pb.PolicyChange]]] = {}
        series.POLICY_WATCHERS.labels("steering").set(0)

    def close(self) -> None:
        """End all streams with GoingAway, and refuse new ones."""
        self._closed = True
        self._policies.announce()

    async def end_with_the_replica(self) -> None:
        """Close when Serve begins to drain this replica, which otherwise would wait for the streams."""
        while not draining():
            await asyncio.sleep(_DRAIN_S)
        self.close()

    async def messages(self, model: str, token: str) -> AsyncGenerator[pb.WatchPoliciesResponse, None]:
        """One stream.

        Args:
            model: Id of the model; empty for all.
            token: Of an earlier message; empty for none.

        Raises:
            InvalidInput: the token was not made here.
            Overloaded: there are ``max_watchers`` streams.
            NotReady: the store cannot be reached at the start.
            GoingAway: the replica is to be replaced.
        """
        position = Position.parse(token) if token else None
        with self._counted():
            view, now = await self._policies.newest(), datetime.now(UTC)
            sent = self._in_force(view, model, now)
            missed = await self._missed(position, view, model, sent)
            for part in self._snapshot(model, sent) if missed is None else ():
                yield self._message(view, snapshot=part, position=_position(view, model, now) if part.last else None)
            for message in self._changes(missed or [], view, position, _position(view, model, now)):
                yield message
            if missed == []:
                yield self._message(view, heartbeat=pb.PolicyHeartbeat(), position=_position(view, model, now))
            async with contextlib.aclosing(self._follow(model, view, sent, now)) as messages:
                async for message in messages:
                    yield message

    async def _follow(
        self, model: str, view: View, sent: InForce, last: datetime
    ) -> AsyncGenerator[pb.WatchPoliciesResponse, None]:
        # not all at the same moment, when many were opened at the same moment
        end = time.monotonic() + self._settings.max_watch_s * random.uniform(0.9, 1.0)
        spoke = time.monotonic()
        while (left := end - time.monotonic()) > 0:
            silence = spoke + self._settings.watch_heartbeat_s - time.monotonic()
            await self._policies.wait(view, min(left, silence, _until(sent.next_end)))
            if self._closed:
                raise GoingAway("This replica is about to go; resume the stream, which another will answer.")
            was_stale, before, now = view.stale, _position(view, model, last), datetime.now(UTC)
            view = await self._policies.view()
            in_force = self._in_force(view, model, now)
            changes = self._step(model, sent, in_force)
            for message in self._changes(changes, view, before, _position(view, model, now)):
                yield message
            silent = time.monotonic() - spoke >= self._settings.watch_heartbeat_s
            if not changes and (silent or view.stale != was_stale):
                yield self._message(view, heartbeat=pb.PolicyHeartbeat(), position=_position(view, model, now))
            if changes or silent or view.stale != was_stale:
                spoke = time.monotonic()
            sent, last = in_force, now

    def _in_force(self, view: View, model: str, now: datetime) -> InForce:
        """What is in force now."""
        state, in_force = self._states.get(model, (None, None))
        if state is view.state and in_force and (in_force.next_end is None or now < in_force.next_end):
            return in_force
        if len(self._states) >= _SHARED:  # clients name models as they like
            self._states.clear()
            self._snapshots.clear()
            self._steps.clear()
        in_force = InForce.of(view.state.policies, view.state.stops, model, now)
        self._states[model] = view.state, in_force
        return in_force

    def _snapshot(self, model: str, in_force: InForce) -> list[pb.PolicySnapshot]:
        """All of it as messages."""
        known = self._snapshots.get(model)
        if known is None or known[0] is not in_force:
            self._snapshots[model] = known = (in_force, snapshot_parts(in_force))
        return known[1]

    def _step(self, model: str, before: InForce, after: InForce) -> list[pb.PolicyChange]:
        """The changes from one to the other."""
        if before is after:
            return []
        known = self._steps.get(model)
        if known is None or known[0] is not before or known[1] is not after:
            self._steps[model] = known = (before, after, [*map(write_change, between(before, after))])
        return known[2]

    async def _missed(
        self, position: Position | None, view: View, model: str, sent: InForce
    ) -> list[pb.PolicyChange] | None:
        """What a resumed stream has not told; None where it must start anew."""
        if position is None or position.model != model:
            return None
        async with self._asking:
            written = await self._store.written(position.cursor, view.state.cursor)
        if written is None:
            return None
        own = [one for one in written if model in ("", one.model) or not (one.policy_id or one.model)]
        return [*map(write_change, since(own, position.at, sent))]

    def _changes(
        self, changes: list[pb.PolicyChange], view: View, before: Position | None, after: Position
    ) -> Iterator[pb.WatchPoliciesResponse]:
        """Messages of changes; who is cut off before the last of them is sent all of them again."""
        for change in changes:
            yield self._message(view, change=change, position=after if change is changes[-1] else before)

    def _message(
        self,
        view: View,
        *,
        position: Position | None,
        snapshot: pb.PolicySnapshot | None = None,
        change: pb.PolicyChange | None = None,
        heartbeat: pb.PolicyHeartbeat | None = None,
    ) -> pb.WatchPoliciesResponse:
        return pb.WatchPoliciesResponse(
            snapshot=snapshot,
            change=change,
            heartbeat=heartbeat,
            resume_token=position.token() if position else "",
            heartbeat_seconds=self._settings.watch_heartbeat_s,
            stale=view.stale,
            send_time=write_time(time.time()),
        )

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        limit = self._settings.max_watchers
        if self._closed:
            raise GoingAway("This replica is about to go; try again, and another will answer.")
        if self._watchers >= limit:
            text = f"{limit} clients watch the policies here already; try again in {_RETRY_S:.0f} seconds."
            raise Overloaded(text, retry_after=_RETRY_S, allowed=f"{limit} streams")
        self._watchers += 1
        series.POLICY_WATCHERS.labels("steering").set(self._watchers)
        try:
            yield
        finally:
            self._watchers -= 1
            series.POLICY_WATCHERS.labels("steering").set(self._watchers)


def _position(view: View, model: str, at: datetime) -> Position:
    return Position(view.state.cursor, at.timestamp(), model)


def _until(moment: datetime | None) -> float:
    """Seconds until a moment, a millisecond more so that it has passed; infinite for None."""
    return float("inf") if moment is None else (moment - datetime.now(UTC)).total_seconds() + 1e-3
