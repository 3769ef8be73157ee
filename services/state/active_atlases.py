"""Which atlas answers for a model.

The file beside the atlases is what the library reads without services. Redis tells every replica of a change at once,
also where a network file system shows the file late. Where the two differ the newer one counts, both timed by the file.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from miclip.atlas import AtlasManifest, activate_atlas, active_atlas_id
from miclip.settings import settings
from services.state.connection import connect, reachable

_ACTIVE: Final = "{miclip}:atlases:active"


class ActiveAtlases:
    """Reads and changes the active atlases.

    Args:
        url: Of Redis.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def activate(self, atlas_id: str) -> AtlasManifest:
        """Verify an atlas and make it the active one of its model.

        Raises:
            InvalidInput: not an atlas id.
            NotFound: no such atlas.
            BadArtefact: it is broken; nothing was changed.
            NotReady: Redis cannot be reached.
        """
        async with reachable():
            await self._redis.ping()  # before the file changes
        manifest = await asyncio.to_thread(activate_atlas, atlas_id)
        entry = json.dumps({"atlas": atlas_id, "file_time": _file_time()})
        async with reachable():
            await self._redis.hset(_ACTIVE, manifest.model, entry)
        return manifest

    async def token(self) -> tuple[object, ...]:
        """A value that changes whenever an activation may have changed."""
        async with reachable():
            entries = await self._redis.hgetall(_ACTIVE)
        return (_file_state(), *sorted(entries.items()))

    async def resolve(self, model: str) -> str:
        """Id of the active atlas; raises NotAligned when the model has none."""
        async with reachable():
            entry = await self._redis.hget(_ACTIVE, model)
        if entry is not None:
            known = json.loads(entry)
            if known["file_time"] >= _file_time():
                return str(known["atlas"])
        return await asyncio.to_thread(active_atlas_id, model)


def _file_time() -> int:
    """When the file was changed last, in nanoseconds since the epoch; 0 without one."""
    return _file_state()[0]


def _file_state() -> tuple[int, int, int]:
    """Time, number and size of the file: two changes within a tick of the file system's clock differ in the others."""
    try:
        found = (settings().data_dir / "active.json").stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size
