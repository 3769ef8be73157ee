"""Embeddings and traces as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from miclip.names import LayerName, parse_layer
from miclip.retrieval.results import Embeddings, ImageTrace, LayerTrace, TraceResult
from miclip.v1 import aligner_pb2 as pb
from miclip.v1 import resources_pb2
from miclip.wire.activation import read_predictions, write_predictions
from miclip.wire.common import read_kind, read_provenance, read_timings, write_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_embeddings(vectors: NDArray[np.float32]) -> list[resources_pb2.Embedding]:
    """One message a row of ``vectors`` [n, D]."""
    return [resources_pb2.Embedding(values=row) for row in vectors]


def read_embeddings(messages: Iterable[resources_pb2.Embedding]) -> NDArray[np.float32]:
    """The rows [n, D] of messages that ``write_embeddings`` made."""
    import numpy as np

    return np.array([message.values for message in messages], np.float32)


def read_embed_units_result(response: pb.EmbedUnitsResponse) -> Embeddings:
    """The answer of ``EmbedUnits``."""
    provenance = read_provenance(response.provenance)
    return Embeddings(read_embeddings(response.embeddings), provenance.clip_id, provenance)


def read_embed_result(response: pb.EmbedTextsResponse | pb.EmbedImagesResponse) -> Embeddings:
    """The answer of ``EmbedTexts`` or ``EmbedImages``."""
    return Embeddings(read_embeddings(response.embeddings), response.clip_id)


def write_trace(model: str, trace: ImageTrace) -> pb.ImageTrace:
    """What an image is about at each layer of ``model``, as a message."""
    return pb.ImageTrace(
        layers=[
            pb.LayerTrace(
                layer=str(LayerName(model, one.layer)),
                scores=one.scores,
                measure=write_kind(pb.TraceMeasure, one.measure),
            )
            for one in trace.layers
        ],
        predictions=write_predictions(trace.predictions),
    )


def read_trace(message: pb.ImageTrace) -> ImageTrace:
    """What an image is about at each layer."""
    return ImageTrace(
        layers=tuple(
            LayerTrace(parse_layer(one.layer).layer, tuple(one.scores), read_kind(pb.TraceMeasure, one.measure))
            for one in message.layers
        ),
        predictions=read_predictions(message.predictions),
    )


def read_trace_result(response: pb.TraceImagesResponse, concepts: Sequence[str]) -> TraceResult:
    """The answer of ``TraceImages`` for ``concepts``."""
    return TraceResult(
        concepts=tuple(concepts),
        labels=tuple(response.labels),
        traces=tuple(map(read_trace, response.results)),
        provenance=read_provenance(response.provenance),
        timings=read_timings(response.timings),
    )
