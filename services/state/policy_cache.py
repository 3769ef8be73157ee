"""The policies as a replica knows them: kept fresh by the change stream, kept alive without Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from miclip.errors import MiclipError
from miclip.steering.compiled import CompiledPolicy
from miclip.steering.policy import Policy
from services.metrics import series
from services.state.policy_store import SteeringState, Store

_BLOCK_S = 5.0
_RETRY_S = 0.5
_STALE_S = 15.0

log = logging.getLogger("miclip.policies")


@dataclass(frozen=True)
class View:
    """What a request may rely on.

    Attributes:
        state: Policies and stops, the newest that were read.
        stale: Whether they could not be refreshed.
    """

    state: SteeringState
    stale: bool


class PolicyCache:
    """Follows the store. While Redis cannot be reached, the last policies stay in force and are called stale.

    Before the first successful read nothing is known; a request that needs a policy is then refused as UNAVAILABLE.

    Args:
        store: What is followed.
        service: Who follows, for the metrics.
    """

    def __init__(self, store: Store, service: str = "activation") -> None:
        self._store, self._service = store, service
        self._reading, self._news = asyncio.Lock(), asyncio.Event()
        self._state: SteeringState | None = None
        self._confirmed = 0.0
        self._reachable = False
        self._task: asyncio.Task[None] | None = None
        self._compiled: dict[str, tuple[tuple[str, str], asyncio.Task[CompiledPolicy]]] = {}

    def start(self) -> None:
        """Follow the store from now on."""
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Stop following."""
        while self._task is not None and not self._task.done():
            self._task.cancel()  # more than once: redis-py swallows one that comes while it connects
            await asyncio.wait([self._task], timeout=0.2)

    async def view(self) -> View:
        """The newest known state; raises NotReady when none was ever read."""
        if self._state is None:
            await self._refresh()
        assert self._state is not None
        return View(self._state, self._stale())

    async def newest(self) -> View:
        """The state as it is in the store now; raises NotReady. Cheap where it is known already."""
        await self._refresh(unless_newest=True)
        return await self.view()

    async def wait(self, known: View, timeout_s: float) -> None:
        """Return when there may be more to say than ``known``, at the latest after ``timeout_s``."""
        if self._state is known.state and self._stale() == known.stale:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), max(0.0, timeout_s))

    def announce(self) -> None:
        """Wake all who wait."""
        self._news.set()
        self._news = asyncio.Event()

    async def find(self, policy_id: str) -> tuple[Policy | None, View]:
        """A policy, expired or not; None where there is none. Raises NotReady."""
        view = await self.view()
        if policy_id not in view.state.policies and not view.stale:
            with contextlib.suppress(MiclipError):  # it may be newer than the last change that was seen
                await self._refresh()
            view = await self.view()
        return view.state.policies.get(policy_id), view

    async def compiled(self, policy: Policy, key: str, make: Callable[[Policy], CompiledPolicy]) -> CompiledPolicy:
        """What a version of a policy was compiled to, made in a thread by the first request that needs it.

        Args:
            policy: The policy.
            key: Of what it is compiled for: the SHA-256 of the model's weights.
            make: Compiles it.
        """
        version = policy.etag, key
        compiling = self._compiled.get(policy.policy_id)
        if compiling is None or compiling[0] != version or _failed(compiling[1]):
            # a task without the context (trace, cancellation) of the request that happens to be the first
            making = asyncio.create_task(asyncio.to_thread(make, policy), context=Context())
            compiling = self._compiled[policy.policy_id] = version, making
        task = compiling[1]
        return task.result() if task.done() else await asyncio.shield(task)

    async def _follow(self) -> None:
        while True:
            try:
                if self._state is None or not self._reachable:
                    await self._refresh()
                assert self._state is not None
                changed = await self._store.wait_for_change(self._state.cursor, _BLOCK_S)
                self._confirm()
                if changed:
                    await self._refresh()
            except MiclipError as error:
                if self._reachable:
                    log.warning("policies are stale: %s", error.message)
                self._lost()
                await asyncio.sleep(_RETRY_S)
            except Exception:
                log.exception("following the policies failed")
                self._lost()
                await asyncio.sleep(_RETRY_S)

    async def _refresh(self, *, unless_newest: bool = False) -> None:
        """Read what changed, at first all.

        Args:
            unless_newest: Ask first, at little cost, whether what is known is the newest.
        """
        async with self._reading:  # one after the other, so that an older state never replaces a newer one
            before = self._state
            if before is None:
                self._state = await self._store.steering()
            elif not unless_newest or before.cursor != await self._store.cursor():
                self._state = await self._store.steering_since(before)
                self._forget_compiled()
        assert self._state is not None
        newer = before is None or before.cursor != self._state.cursor
        if before is not None and newer:
            changed_ms = int(self._state.cursor.partition("-")[0])  # by the clock of Redis
            series.POLICY_PROPAGATION_SECONDS.labels(self._service).observe(max(0.0, time.time() - changed_ms / 1e3))
        if newer or not self._reachable:
            self.announce()
        self._reachable = True
        self._confirm()

    def _forget_compiled(self) -> None:
        """Let go of what policies that are no more were compiled to."""
        assert self._state is not None
        for policy_id in self._compiled.keys() - self._state.policies.keys():
            del self._compiled[policy_id]

    def _stale(self) -> bool:
        return not self._reachable or time.monotonic() - self._confirmed > _STALE_S

    def _confirm(self) -> None:
        """Note that what is known is the newest."""
        assert self._state is not None
        self._confirmed = time.monotonic()
        series.POLICIES_STALE.labels(self._service).set(0)
        series.POLICIES_CONFIRMED.labels(self._service).set_to_current_time()
        active = sum(not policy.expired() for policy in self._state.policies.values())
        series.POLICIES_ACTIVE.labels(self._service).set(active)

    def _lost(self) -> None:
        """Note that the store cannot be asked."""
        if self._reachable:
            self.announce()
        self._reachable = False
        series.POLICIES_STALE.labels(self._service).set(1)


def _failed(task: asyncio.Task[CompiledPolicy]) -> bool:
    return task.cancelled() or (task.done() and task.exception() is not None)
