"""Which unit embedding a request asks for, and texts that the aligner embeds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from numpy.typing import NDArray

from miclip.errors import InvalidInput, NotReady
from miclip.kinds import UnitEmbedding
from miclip.v1 import aligner_pb2
from miclip.v1 import resources_pb2 as pb
from miclip.wire.aligner import read_embeddings
from miclip.wire.common import read_kind
from services.rpc import Peer

Embedded = tuple[NDArray[np.float32], str]
"""Embeddings [n, D], and the id of the CLIP model that made them."""


def embedding_kind(value: int) -> UnitEmbedding | None:
    """The unit embedding that a request asks for, None for the layer's; raises InvalidInput."""
    kind: UnitEmbedding | None = kind_of(pb.UnitEmbedding, value, "embedding")
    return kind


def kind_of(enum: EnumTypeWrapper, value: int, field: str) -> Any:
    """The short name of the value that a request asks for, None where it asks for none; raises InvalidInput."""
    if value not in enum.DESCRIPTOR.values_by_number:
        allowed = ", ".join(enum.keys())
        raise InvalidInput(f"{field} is {value}; allowed is one of {allowed}.", field=field, allowed=allowed)
    return read_kind(enum, value) if value else None


async def embed_texts(aligner: Peer, texts: Sequence[str], at_once: int, clip_id: str = "") -> Embedded:
    """Embed checked texts, as many as there are.

    Args:
        aligner: The aligner service.
        texts: At least one.
        at_once: Texts of one call.
        clip_id: CLIP to embed with; empty is the aligner's default.

    Raises:
        BadArtefact: the aligner does not know that CLIP.
        NotReady: the default CLIP changed between two calls.
    """
    parts, clip_ids = [], set()
    for start in range(0, len(texts), at_once):
        request = aligner_pb2.EmbedTextsRequest(texts=texts[start : start + at_once], clip_id=clip_id)
        answer = await aligner.call("EmbedTexts", request)
        parts.append(await asyncio.to_thread(read_embeddings, answer.embeddings))
        clip_ids.add(answer.clip_id)
    if len(clip_ids) != 1:
        raise NotReady("The CLIP model is being exchanged; try again.")
    return np.concatenate(parts), clip_ids.pop()
