"""The CLIPs of a replica: one call at a time in a thread of its own, texts through the shared cache."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from miclip.cpus import available_cpus
from miclip.errors import InvalidInput
from services.aligner.embedding_cache import EmbeddingCache
from services.metrics import series

if TYPE_CHECKING:
    from torch import Tensor

    from miclip.models.clip import Clip

_ID = re.compile(r"[0-9a-f]{64}")
_CHUNK = 64  # inputs per turn of the thread, so that a long call lets short ones through
T = TypeVar("T")


class Threads:
    """The threads that all CLIPs of a replica share."""

    def __init__(self) -> None:
        # torch uses all cores for one call; two at a time would only get in each other's way
        self.embed = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clip")
        # elsewhere, for a large image takes a second; few at a time, for it takes 100 MB until it is an input
        self.decode = ThreadPoolExecutor(max(2, available_cpus()), thread_name_prefix="decode")


class ClipTower:
    """Embeds texts and images off the event loop.

    Args:
        clip: The model.
        cache: Of text embeddings.
        threads: Where the work is done.
    """

    def __init__(self, clip: Clip, cache: EmbeddingCache, threads: Threads) -> None:
        self.clip_id, self.dim = clip.clip_id, clip.dim
        self._clip, self._cache, self._threads = clip, cache, threads

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings [n, D] of texts; those of before come from the cache."""
        keys = [self._key(text) for text in texts]
        known = dict(zip(keys, await self._cache.get(keys), strict=True))
        size = 4 * self.dim
        missing = {
            key: text for key, text in zip(keys, texts, strict=True) if len(known[key] or b"") != size
        }  # each once, and what is cached in another form again
        if missing:
            fresh = await self._in_turns("embed_texts", self._clip.embed_texts, list(missing.values()))
            new = {key: np.ascontiguousarray(row, "<f4").tobytes() for key, row in zip(missing, fresh, strict=True)}
            await self._cache.put(new)
            known.update(new)
        return np.frombuffer(b"".join(known[key] or b"" for key in keys), "<f4").reshape(len(keys), self.dim)

    async def embed_images(self, images: Sequence[bytes], field: str = "images") -> NDArray[np.float32]:
        """Return the embeddings [n, D] of encoded images; raises InvalidInput naming the one that is none."""
        loop = asyncio.get_running_loop()
        decoding = [
            loop.run_in_executor(self._threads.decode, copy_context().run, self._decode, data, f"{field}[{i}]")
            for i, data in enumerate(images)
        ]
        return await self._in_turns("embed_images", self._embed_inputs, await asyncio.gather(*decoding))

    def _decode(self, data: bytes, field: str) -> Tensor:
        from miclip.images import decode_image

        with series.stage("aligner", "decode"):
            return self._clip.preprocess(decode_image(data, field=field))

    def _embed_inputs(self, inputs: list[Tensor]) -> NDArray[np.float32]:
        import torch

        return self._clip.embed_inputs(torch.stack(inputs))

    async def _in_turns(
        self, stage: str, embed: Callable[[list[T]], NDArray[np.float32]], inputs: list[T]
    ) -> NDArray[np.float32]:
        def turn(part: list[T]) -> NDArray[np.float32]:
            with series.stage("aligner", stage):
                return embed(part)

        loop = asyncio.get_running_loop()
        parts = [
            await loop.run_in_executor(self._threads.embed, copy_context().run, turn, inputs[at : at + _CHUNK])
            for at in range(0, len(inputs), _CHUNK)
        ]
        return np.concatenate(parts)

    def _key(self, text: str) -> str:
        return f"{self.clip_id}:{hashlib.sha256(text.encode()).hexdigest()}"


class ClipTowers:
    """The CLIPs that atlases were made with, by their ids: the default one, and the few that were used last.

    Calls of a space that is loaded never wait for another one to load. Others are loaded one at a time, each once
    however many calls wait for it.

    Args:
        default: The default CLIP, which stays.
        cache: Of text embeddings.
        most: CLIPs to hold, the default one among them. One that leaves stays in memory until its last call has ended.
        load: Loads a CLIP by its id; runs in a thread; raises BadArtefact for one that is not known.
    """

    def __init__(self, default: Clip, cache: EmbeddingCache, most: int, load: Callable[[str], Clip]) -> None:
        self._cache, self._load, self._most_others = cache, load, max(1, most - 1)
        self._threads, self._one_at_a_time = Threads(), asyncio.Lock()
        self.default = ClipTower(default, cache, self._threads)
        self._others: OrderedDict[str, ClipTower] = OrderedDict()
        self._coming: dict[str, asyncio.Task[ClipTower]] = {}

    @classmethod
    def open(cls, device: str, cache: EmbeddingCache, most: int) -> ClipTowers:
        """Load the default CLIP on ``device``, with all cores of the machine."""
        import torch

        from miclip.clips import choose_clip, load_clip_of

        torch.set_num_threads(available_cpus())  # Ray asks for one
        return cls(choose_clip("", device), cache, most, lambda clip_id: load_clip_of(clip_id, device))

    async def get(self, clip_id: str, field: str = "clip_id") -> ClipTower:
        """Return the CLIP of an id, loaded where it must be; the default one for an empty id.

        Raises:
            InvalidInput: ``field`` is no id of a CLIP.
            BadArtefact: no CLIP of that id is known here, or it cannot be loaded.
        """
        if clip_id in ("", self.default.clip_id):
            return self.default
        if not _ID.fullmatch(clip_id):
            allowed = "64 lower-case hexadecimal digits, or empty for the default"
            raise InvalidInput(f"{field}: {clip_id[:80]!r} is no CLIP's id: {allowed}.", field=field, allowed=allowed)
        if (tower := self._others.get(clip_id)) is not None:
            self._others.move_to_end(clip_id)
            return tower
        coming = self._coming.get(clip_id)
        if coming is None:
            coming = self._coming[clip_id] = asyncio.create_task(self._bring(clip_id))
            coming.add_done_callback(lambda _task: self._coming.pop(clip_id, None))
        return await asyncio.shield(coming)  # a caller who leaves does not stop it for the others

    async def _bring(self, clip_id: str) -> ClipTower:
        async with self._one_at_a_time:
            while len(self._others) >= self._most_others:  # before, so that no more than these are in memory
                self._others.popitem(last=False)
            clip = await asyncio.to_thread(self._load, clip_id)
            self._others[clip_id] = ClipTower(clip, self._cache, self._threads)
            return self._others[clip_id]
