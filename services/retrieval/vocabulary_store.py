"""Vocabularies in Redis: the concepts and their embeddings, shared by all replicas."""

from __future__ import annotations

import json
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from miclip.errors import AlreadyExists, NotFound, Overloaded
from miclip.retrieval.vocabulary import (
    MODEL_LABELS,
    Vocabulary,
    builtin_concepts,
    concepts_sha256,
)
from miclip.v1 import retrieval_pb2 as pb
from miclip.wire.times import write_time
from services.state.connection import connect, reachable, script

_INDEX: Final = "{miclip}:vocabularies"
_ONE: Final = "{miclip}:vocabulary:"


class VocabularyRecord(BaseModel):
    """What is known of a vocabulary without its concepts; equal records mean equal concepts and embeddings."""

    model_config = ConfigDict(frozen=True)

    vocabulary_id: str
    size: int
    sha256: str
    """Of the concepts."""
    clip_id: str
    """The CLIP model that embedded them first; other spaces have fields of their own."""
    created_at: float
    """Seconds since the epoch."""


class VocabularyStore:
    """The vocabularies that users keep; every method raises NotReady while Redis cannot be reached.

    Args:
        url: Of Redis.
    """

    def __init__(self, url: str) -> None:
        self._redis = connect(url)
        self._create_script = script(self._redis, "create_vocabulary")
        self._space_script = script(self._redis, "add_vocabulary_space")

    async def records(self) -> list[VocabularyRecord]:
        """All vocabularies in order of their ids."""
        async with reachable():
            values = await self._redis.hvals(_INDEX)
        records = [VocabularyRecord.model_validate_json(value) for value in values]
        return sorted(records, key=lambda record: record.vocabulary_id)

    async def record(self, vocabulary_id: str) -> VocabularyRecord | None:
        """One vocabulary's record; None when there is none."""
        async with reachable():
            value = await self._redis.hget(_INDEX, vocabulary_id)
        return None if value is None else VocabularyRecord.model_validate_json(value)

    async def create(self, vocabulary: Vocabulary, clip_id: str, limit: int) -> VocabularyRecord:
        """Keep a vocabulary; raises AlreadyExists, or Overloaded beyond ``limit`` vocabularies."""
        record = VocabularyRecord(
            vocabulary_id=vocabulary.id,
            size=len(vocabulary.concepts),
            sha256=vocabulary.sha256,
            clip_id=clip_id,
            created_at=time.time(),
        )
        concepts, embeddings = json.dumps(vocabulary.concepts), _to_bytes(vocabulary.embeddings)
        args = [vocabulary.id, record.model_dump_json(), concepts, embeddings, limit]
        async with reachable():
            outcome = await self._create_script(keys=[_INDEX, _ONE + vocabulary.id], args=args)
        if outcome == b"exists":
            raise already_exists(vocabulary.id)
        if outcome == b"full":
            raise Overloaded(
                f"There are {limit} vocabularies already; delete one first.", allowed=f"{limit} vocabularies"
            )
        return record

    async def load(self, record: VocabularyRecord, clip_id: str) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
        """Read the concepts, and their embeddings in the space of a CLIP; None where it has not embedded them.

        Raises:
            NotFound: the vocabulary was deleted meanwhile.
        """
        fields = ["concepts", _space(record, clip_id)]
        async with reachable():
            concepts, vectors = await self._redis.hmget(_ONE + record.vocabulary_id, fields)
        if concepts is None:
            raise no_vocabulary(record.vocabulary_id)
        texts = tuple(json.loads(concepts))
        return texts, None if vectors is None else np.frombuffer(vectors, "<f4").reshape(len(texts), -1)

    async def add_space(self, record: VocabularyRecord, vocabulary: Vocabulary, clip_id: str) -> None:
        """Keep the embeddings in the space of another CLIP, too, unless the vocabulary changed since ``record``."""
        args = [vocabulary.id, record.model_dump_json(), _space(record, clip_id), _to_bytes(vocabulary.embeddings)]
        async with reachable():
            await self._space_script(keys=[_INDEX, _ONE + vocabulary.id], args=args)

    async def delete(self, vocabulary_id: str) -> None:
        """Delete a vocabulary; raises NotFound."""
        async with reachable(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(_INDEX, vocabulary_id).delete(_ONE + vocabulary_id)
            deleted, _ = await pipe.execute()
        if not deleted:
            raise no_vocabulary(vocabulary_id)


def builtin_message(vocabulary_id: str) -> pb.Vocabulary:
    """A vocabulary that comes with miclip; reads its concepts, so call it in a thread."""
    message = pb.Vocabulary(name=f"vocabularies/{vocabulary_id}", builtin=True)
    if vocabulary_id != MODEL_LABELS:
        concepts = builtin_concepts(vocabulary_id)
        message.size, message.sha256 = len(concepts), concepts_sha256(concepts)
    return message


def vocabulary_message(record: VocabularyRecord) -> pb.Vocabulary:
    """A vocabulary that a user keeps."""
    return pb.Vocabulary(
        name=f"vocabularies/{record.vocabulary_id}",
        size=record.size,
        sha256=record.sha256,
        create_time=write_time(record.created_at),
    )


def already_exists(vocabulary_id: str) -> AlreadyExists:
    """The error for an id that is taken."""
    text = f"vocabulary_id: vocabularies/{vocabulary_id} exists; choose another id, or delete it first."
    return AlreadyExists(text, field="vocabulary_id", allowed="an id that is free")


def no_vocabulary(vocabulary_id: str, field: str = "name") -> NotFound:
    """The error for a vocabulary that there is not."""
    text = f"{field}: there is no vocabularies/{vocabulary_id}; ListVocabularies shows what there is."
    return NotFound(text, field=field)


def _space(record: VocabularyRecord, clip_id: str) -> str:
    return "embeddings" if clip_id == record.clip_id else f"embeddings:{clip_id}"


def _to_bytes(embeddings: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(embeddings, "<f4").tobytes()
