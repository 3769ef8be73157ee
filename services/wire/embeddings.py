"""Vectors, embeddings and provenance of the shared space as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from miclip.atlas import Atlas
from miclip.errors import InvalidInput
from miclip.kinds import UnitEmbedding
from miclip.names import LayerName
from miclip.v1 import resources_pb2 as pb

_KINDS: Final[dict[int, UnitEmbedding | None]] = {
    pb.UNIT_EMBEDDING_UNSPECIFIED: None,
    pb.UNIT_EMBEDDING_FILTER: "filter",
    pb.UNIT_EMBEDDING_PATTERN: "pattern",
    pb.UNIT_EMBEDDING_CAUSAL: "causal",
}


def embedding_kind(value: int, field: str = "embedding") -> UnitEmbedding | None:
    """The unit embedding that a request asks for, None for the layer's; raises InvalidInput."""
    if value not in _KINDS:
        raise not_in_enum(value, pb.UnitEmbedding.keys(), field)
    return _KINDS[value]


def not_in_enum(value: int, names: Sequence[str], field: str) -> InvalidInput:
    """The error for a number that the enum does not have."""
    allowed = ", ".join(names)
    return InvalidInput(f"{field} is {value}; allowed is one of {allowed}.", field=field, allowed=allowed)


def embedding_messages(vectors: NDArray[np.float32]) -> list[pb.Embedding]:
    """One message a row of ``vectors`` [n, D]."""
    return [pb.Embedding(values=row) for row in vectors]


def embedding_rows(messages: Sequence[pb.Embedding]) -> NDArray[np.float32]:
    """The rows [n, D] of messages that ``embedding_messages`` made."""
    return np.array([message.values for message in messages], np.float32)


def provenance(atlas: Atlas, layers: Sequence[str], vocabulary_sha256: str = "") -> pb.Provenance:
    """What an answer from ``layers`` of an atlas was computed from."""
    manifest = atlas.manifest
    entries = [atlas.layer(name).entry for name in layers]
    return pb.Provenance(
        atlas=f"atlases/{atlas.atlas_id}",
        clip_id=manifest.clip_id,
        vocabulary_sha256=vocabulary_sha256,
        probe_sha256=manifest.probe.sha256,
        encoder_sha256=[manifest.files[entry.file].sha256 for entry in entries],
        layers=[str(LayerName(manifest.model, name)) for name in layers],
        weights_sha256=manifest.weights_sha256,
    )
