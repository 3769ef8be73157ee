"""Who calls: the key of the ``authorization`` metadata against the live keys of the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from miclip.errors import NotReady, PermissionDenied, Unauthenticated
from services.state.keys import KeyRecord, Scope, match

_MAX_TOKEN = 256
_REFRESH_S = 2.0
_MISS_REFRESH_S = 0.25
_PATIENCE_S = 0.5
_MISS_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Principal:
    """Who calls: the id of the key (never the key) and its scopes."""

    key_id: str
    scopes: frozenset[Scope]

    def require(self, scope: Scope) -> None:
        """Raise PermissionDenied unless the key has ``scope``."""
        if scope not in self.scopes:
            held = ", ".join(sorted(self.scopes)) or "none"
            raise PermissionDenied(
                f"The API key has no scope '{scope}' (it has: {held}). Use a key that was made with it.",
                allowed=f"scope {scope}",
            )


def bearer(metadata: Iterable[tuple[str, str]]) -> str:
    """The key in ``authorization: Bearer KEY``; raises Unauthenticated."""
    values = [value for name, value in metadata if name == "authorization"]
    scheme, _, key = (str(values[0]) if values else "").partition(" ")
    if len(values) != 1 or scheme.lower() != "bearer" or not 0 < len(key) <= _MAX_TOKEN:
        raise Unauthenticated("No API key. Send one metadata entry 'authorization: Bearer KEY'.")
    return key


class KeyRing:
    """The live keys, read from the store every two seconds.

    While the store cannot be reached, the keys that were known last go on working, and calls wait for it no longer than
    half a second in two. A key that is not among them may be new: it is refused only by keys that were read after the
    call came, so a key works everywhere from the moment it was made. Such reads are at least a quarter second apart.
    """

    def __init__(self, load: Callable[[], Awaitable[list[KeyRecord]]], refresh_s: float = _REFRESH_S) -> None:
        self._load, self._refresh_s = load, refresh_s
        self._records: list[KeyRecord] | None = None
        self._tried_at = self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def authenticate(self, metadata: Iterable[tuple[str, str]], scope: Scope) -> Principal:
        """The caller; raises Unauthenticated or PermissionDenied."""
        key = bearer(metadata)
        record = match(key, await self._newer_than(self._refresh_s))
        if record is None:
            record = match(key, await self._read_after(time.monotonic()))
        if record is None:
            raise Unauthenticated(
                "The API key is not valid. Who runs the server can make one: `miclip key create NAME`."
            )
        principal = Principal(record.key_id, frozenset(record.scopes))
        principal.require(scope)
        return principal

    async def preload(self) -> None:
        """Read the keys before the first call, so that they are known should the store go away."""
        await self._refresh()

    async def _read_after(self, moment: float) -> list[KeyRecord]:
        """Keys whose reading began after ``moment``; raises NotReady when the store does not answer in time."""
        deadline = moment + _MISS_PATIENCE_S
        while self._records is None or self._read_at < moment:
            if time.monotonic() >= deadline:
                raise NotReady("The API keys cannot be read right now; try again.")
            await asyncio.sleep(self._tried_at + _MISS_REFRESH_S - time.monotonic())
            await self._refresh()
        return self._records

    async def _newer_than(self, age_s: float) -> list[KeyRecord]:
        if self._records is None or time.monotonic() - self._tried_at > age_s:
            await self._refresh()
        if self._records is None:
            raise NotReady("The API keys cannot be read right now; try again.")
        return self._records

    async def _refresh(self) -> None:
        """Read the keys, once for all calls that wait; give up waiting soon when older ones are known."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        patience = None if self._records is None else _PATIENCE_S
        await asyncio.wait([self._reading], timeout=patience)

    async def _read(self) -> None:
        began = time.monotonic()
        with contextlib.suppress(NotReady):
            self._records = await self._load()
            self._read_at = began
        self._tried_at = time.monotonic()
