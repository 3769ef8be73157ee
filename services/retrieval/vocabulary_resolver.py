"""The words that units are described with: vocabularies by name, and concepts of a request."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from miclip.atlas import Atlas, normalise
from miclip.errors import BadArtefact
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

    async def embed_texts(self, texts: Sequence[str], clip_id: str = "") -> Embedded:
        """Embed checked texts, as many as there are, by the CLIP of an atlas or else the default one.

        Raises:
            BadArtefact: the CLIP is not known here.
        """
        with _without_field():
            return await embed_texts(self._aligner, texts, self._config.max_texts, clip_id)

    async def embed_images(self, images: Sequence[bytes], clip_id: str) -> Embedded:
        """Embed encoded images; raises InvalidInput naming ``images[i]``, or BadArtefact as ``embed_texts`` does."""
        request = aligner_pb2.EmbedImagesRequest(images=images, clip_id=clip_id)
        with _without_field():
            answer = await self._aligner.call("EmbedImages", request)
        return await asyncio.to_thread(read_embeddings, answer.embeddings), answer.clip_id

    async def of_concepts(
        self, concepts: Sequence[str], vocabulary_id: str = "", clip_id: str = ""
    ) -> tuple[Vocabulary, str]:
        """Checked concepts as a vocabulary, and the id of the CLIP model that embedded them; raises BadArtefact."""
        vectors, embedded_by = await self.embed_texts(concepts, clip_id)
        return Vocabulary(vocabulary_id, tuple(concepts), normalise(vectors)), embedded_by

    async def for_atlas(self, atlas: Atlas, concepts: Sequence[str], vocabulary_id: str = "") -> Vocabulary:
        """Checked concepts as a vocabulary in the space of ``atlas``; raises BadArtefact where its CLIP is unknown."""
        vocabulary, embedded_by = await self.of_concepts(concepts, vocabulary_id, atlas.manifest.clip_id)
        atlas.check_clip(embedded_by)
        return vocabulary

    async def named(self, vocabulary_id: str, atlas: Atlas, field: str) -> Vocabulary:
        """A vocabulary by its id (not that of the model's labels) for searches of ``atlas``.

        Raises:
            NotFound: there is none of that id.
            BadArtefact: the CLIP of ``atlas`` is not known here.
        """
        if vocabulary_id in builtin_vocabularies() and vocabulary_id != MODEL_LABELS:
            return await self._builtin(vocabulary_id, atlas)
        record, clip_id = await self._store.record(vocabulary_id), atlas.manifest.clip_id
        if record is None:
            raise no_vocabulary(vocabulary_id, field)
        key = (vocabulary_id, record.sha256, str(record.created_at), clip_id)
        if key not in self._cache:
            concepts, vectors = await self._store.load(record, clip_id)
            if vectors is None:
                vocabulary = await self.for_atlas(atlas, concepts, vocabulary_id)
                await self._store.add_space(record, vocabulary, clip_id)
            else:
                vocabulary = Vocabulary(vocabulary_id, concepts, vectors)
            self._keep(key, vocabulary)
        return self._cache[key]

    async def _builtin(self, vocabulary_id: str, atlas: Atlas) -> Vocabulary:
        key = (vocabulary_id, atlas.manifest.clip_id)
        if key not in self._cache:
            concepts = await asyncio.to_thread(builtin_concepts, vocabulary_id)
            self._keep(key, await self.for_atlas(atlas, concepts, vocabulary_id))
        return self._cache[key]

    def _keep(self, key: tuple[str, ...], vocabulary: Vocabulary) -> None:
        self._cache[key] = vocabulary
        while len(self._cache) > _KEPT:
            self._cache.popitem(last=False)


@contextmanager
def _without_field() -> Iterator[None]:
    """Blame no field where the aligner blames ``clip_id``, which the caller's request does not have."""
    try:
        yield
    except BadArtefact as error:
        error.rename("")
        raise
