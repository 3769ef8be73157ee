"""The opened active atlases of a replica, exchanged when another one is activated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from miclip.atlas import Atlas, active_atlas_id, list_atlases, locate_atlas
from miclip.errors import BadArtefact, MiclipError, NotFound, NotReady
from services.state.active_atlases import ActiveAtlases

_POLL_S = 0.25
_REMEDY = "Name another one to ActivateAtlas (ListAtlases shows what there is), or align the model again."

log = logging.getLogger("miclip")


class Held(Protocol):
    """What is made of an atlas."""

    @property
    def atlas(self) -> Atlas:
        """The atlas."""
        ...


Value = TypeVar("Value", bound=Held)


class AtlasHolder(Generic[Value]):
    """Holds what was made of each model's active atlas.

    An atlas is opened at its first use, off the event loop, once however many calls wait for it. ``follow`` exchanges
    it when another one is activated; calls under way finish with the old one, and one that cannot be opened is not
    taken.

    Args:
        active: Which atlas is active.
        make: Makes a value of an opened atlas; runs in a thread.
    """

    def __init__(self, active: ActiveAtlases, make: Callable[[Atlas], Value]) -> None:
        self._active, self._make = active, make
        self._held: dict[str, Value] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, model: str) -> Value:
        """The value of the model's active atlas.

        Raises:
            NotAligned: the model has none, or there is no such model.
            BadArtefact: it cannot be opened.
        """
        if (held := self._held.get(model)) is not None:
            return held
        atlas_id = await self._wanted(model)
        lock = self._locks.setdefault(model, asyncio.Lock())  # only models with an atlas: strangers leave nothing
        async with lock:
            if (held := self._held.get(model)) is None:
                held = self._held[model] = await asyncio.to_thread(self._open, atlas_id)
            return held

    async def preload(self) -> None:
        """Open every model's active atlas now, so that no call waits; one that cannot be opened is left for later."""
        manifests = await asyncio.to_thread(list_atlases)
        for model in sorted({manifest.model for manifest in manifests.values()}):
            try:
                await self.get(model)
            except MiclipError as error:
                log.error("atlas not opened: %s", error.message, extra={"fields": {"model": model}})

    async def follow(self) -> None:
        """Exchange atlases as others are activated; runs until cancelled."""
        seen: object = None
        while True:
            with contextlib.suppress(NotReady):  # what is held goes on serving while Redis is away
                now = (await self._active.token(), {model: held.atlas.atlas_id for model, held in self._held.items()})
                if now != seen:
                    await self._refresh()
                    seen = now
            await asyncio.sleep(_POLL_S)

    async def _refresh(self) -> None:
        for model, held in list(self._held.items()):
            try:
                atlas_id = await self._active.resolve(model)
                if atlas_id == held.atlas.atlas_id:
                    continue
                self._held[model] = await asyncio.to_thread(self._open, atlas_id)
                log.info("atlas exchanged", extra={"fields": {"model": model, "atlas": atlas_id}})
            except NotReady:
                raise
            except MiclipError as error:
                log.error("atlas not exchanged: %s", error.message, extra={"fields": {"model": model}})
            except Exception:
                log.exception("atlas not exchanged", extra={"fields": {"model": model}})

    async def _wanted(self, model: str) -> str:
        try:
            return await self._active.resolve(model)
        except NotReady:
            return await asyncio.to_thread(active_atlas_id, model)

    def _open(self, atlas_id: str) -> Value:
        try:
            return self._make(Atlas.open(locate_atlas(atlas_id).parent, atlas_id))
        except NotFound as error:
            raise BadArtefact(f"The active atlas {atlas_id[:12]} is missing. {_REMEDY}") from error
        except BadArtefact as error:
            raise BadArtefact(f"{error.message} {_REMEDY}", field=error.field, allowed=error.allowed) from error
