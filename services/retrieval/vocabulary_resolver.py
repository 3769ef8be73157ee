"""The words that units are described with: vocabularies by name, and concepts of a request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from miclip.atlas import Atlas, normalise
from miclip.retrieval.vocabulary import MODEL_LABELS, Vocabulary, builtin_concepts, builtin_vocabularies
from miclip.settings import Settings
from miclip.v1 import aligner_pb2
from miclip.wire.aligner import read_embeddings
from services.retrieval.vocabulary_store import VocabularyStore, no_vocabulary
from services.rpc import Peer
from services.wire.embeddings import Embedded, embed_texts

_KEPT = 8  # vocabularies in memory; one of 20,000 concepts is 30 MB


class Words:
    """Makes vocabularies of texts; the aligner embeds them.

    Args:
        aligner: The aligner service.
        store: The vocabularies that users keep.
        config: Limits.
    """

    def __init__(self, aligner: Peer, store: VocabularyStore, config: Settings) -> None:
        self._aligner, self._store, self._config = aligner, store, config
        self._cache: OrderedDict[tuple[str, ...], Vocabulary] = OrderedDict()

    async def embed_texts(self, texts: Sequence[str]) -> Embedded:
        """Embed checked texts, as many as there are."""
        return await embed_texts(self._aligner, texts, self._config.max_texts)

    async def embed_images(self, images: Sequence[bytes]) -> Embedded:
        """Embed encoded images; raises InvalidInput naming ``images[i]``."""
        answer = await self._aligner.call("EmbedImages", aligner_pb2.EmbedImagesRequest(images=images))
        return await asyncio.to_thread(read_embeddings, answer.embeddings), answer.clip_id

    async def of_concepts(self, concepts: Sequence[str], vocabulary_id: str = "") -> tuple[Vocabulary, str]:
        """Checked concepts as a vocabulary, and the id of the CLIP model that embedded them."""
        vectors, clip_id = await self.embed_texts(concepts)
        return Vocabulary(vocabulary_id, tuple(concepts), normalise(vectors)), clip_id

    async def for_atlas(self, atlas: Atlas, concepts: Sequence[str]) -> Vocabulary:
        """Checked concepts as a vocabulary for searches of ``atlas``; raises as ``Atlas.check_clip`` does."""
        vocabulary, clip_id = await self.of_concepts(concepts)
        atlas.check_clip(clip_id)
        return vocabulary

    async def named(self, vocabulary_id: str, atlas: Atlas, field: str) -> Vocabulary:
        """A vocabulary by its id (not that of the model's labels) for searches of ``atlas``.

        Raises:
            NotFound: there is none of that id.
            BadArtefact: as ``Atlas.check_clip`` does.
        """
        if vocabulary_id in builtin_vocabularies() and vocabulary_id != MODEL_LABELS:
            return await self._builtin(vocabulary_id, atlas)
        record, clip_id = await self._store.record(vocabulary_id), atlas.manifest.clip_id
        if record is None:
            raise no_vocabulary(vocabulary_id, field)
        key = (vocabulary_id, record.sha256, str(record.created_at), clip_id)
        if key not in self._cache:
            kept = await self._store.load(record)
            if record.clip_id != clip_id:
                kept, embedded_by = await self.of_concepts(kept.concepts, vocabulary_id)
                atlas.check_clip(embedded_by)
                await self._store.reembed(record, kept, embedded_by)
            self._keep(key, kept)
        return self._cache[key]

    async def _builtin(self, vocabulary_id: str, atlas: Atlas) -> Vocabulary:
        key = (vocabulary_id, atlas.manifest.clip_id)
        if key not in self._cache:
            concepts = await asyncio.to_thread(builtin_concepts, vocabulary_id)
            vocabulary, clip_id = await self.of_concepts(concepts, vocabulary_id)
            atlas.check_clip(clip_id)
            self._keep(key, vocabulary)
        return self._cache[key]

    def _keep(self, key: tuple[str, ...], vocabulary: Vocabulary) -> None:
        self._cache[key] = vocabulary
        while len(self._cache) > _KEPT:
            self._cache.popitem(last=False)
