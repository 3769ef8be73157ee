"""CLIP in a replica: one call at a time in a thread of its own, texts through the shared cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from miclip.cpus import available_cpus
from services.aligner.embedding_cache import EmbeddingCache
from services.metrics import series

if TYPE_CHECKING:
    from torch import Tensor

    from miclip.models.clip import Clip

_CHUNK = 64  # inputs per turn of the thread, so that a long call lets short ones through
T = TypeVar("T")


class ClipTower:
    """Embeds texts and images off the event loop.

    Args:
        clip: The model.
        cache: Of text embeddings.
    """

    def __init__(self, clip: Clip, cache: EmbeddingCache) -> None:
        self.clip_id, self.dim = clip.clip_id, clip.dim
        self._clip, self._cache = clip, cache
        # torch uses all cores for one call; two at a time would only get in each other's way
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clip")
        # elsewhere, for a large image takes a second; few at a time, for it takes 100 MB until it is an input
        self._decoders = ThreadPoolExecutor(max(2, available_cpus()), thread_name_prefix="decode")

    @classmethod
    def load(cls, device: str, cache: EmbeddingCache) -> ClipTower:
        """Load the configured CLIP on ``device``, with all cores of the machine."""
        import torch

        from miclip.catalogue import load_clip

        torch.set_num_threads(available_cpus())  # Ray asks for one
        return cls(load_clip(device), cache)

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
            loop.run_in_executor(self._decoders, copy_context().run, self._decode, data, f"{field}[{i}]")
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
            await loop.run_in_executor(self._thread, copy_context().run, turn, inputs[at : at + _CHUNK])
            for at in range(0, len(inputs), _CHUNK)
        ]
        return np.concatenate(parts)

    def _key(self, text: str) -> str:
        return f"{self.clip_id}:{hashlib.sha256(text.encode()).hexdigest()}"
