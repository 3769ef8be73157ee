"""Plans of the aligner service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from miclip.client.plan import (
    Image,
    Plan,
    Rpc,
    as_list,
    build,
    enum_value,
    every_page,
    layer_name,
    name_list,
    qualified,
    read_images,
)
from miclip.names import UnitName
from miclip.retrieval.results import Embeddings, TraceResult
from miclip.v1 import aligner_pb2, resources_pb2
from miclip.wire.aligner import read_embed_result, read_embed_units_result, read_trace_result

ENDED = frozenset(
    (
        aligner_pb2.ALIGNMENT_STATE_SUCCEEDED,
        aligner_pb2.ALIGNMENT_STATE_FAILED,
        aligner_pb2.ALIGNMENT_STATE_CANCELLED,
    )
)
"""States in which an alignment changes no more."""


def embed_units(units: Sequence[str | UnitName], *, embedding: str | None = None) -> Plan[Embeddings]:
    """The embeddings of units of one model.

    Args:
        units: Names, ``models/{model}/layers/{layer}/units/{n}`` or ``…/dictionaries/{dictionary}/features/{n}``.
        embedding: ``filter``, ``pattern`` or ``causal``; default that of the layer.
    """
    kind = enum_value(resources_pb2.UnitEmbedding, embedding, "embedding")
    request = build(aligner_pb2.EmbedUnitsRequest, units=name_list(units), embedding=kind)
    response: aligner_pb2.EmbedUnitsResponse = yield Rpc("aligner", "EmbedUnits", request)
    return read_embed_units_result(response)


def embed_texts(texts: Sequence[str] | str, *, clip_id: str = "") -> Plan[Embeddings]:
    """The embeddings of texts by CLIP's text tower.

    Args:
        texts: To embed.
        clip_id: CLIP to embed with, such as that of an atlas; default the server's.

    Raises:
        InvalidInput: a text or the id is refused.
        BadArtefact: the server does not know that CLIP.
    """
    request = build(aligner_pb2.EmbedTextsRequest, texts=as_list(texts), clip_id=clip_id)
    response: aligner_pb2.EmbedTextsResponse = yield Rpc("aligner", "EmbedTexts", request)
    return read_embed_result(response)


def embed_images(images: Iterable[Image], *, clip_id: str = "") -> Plan[Embeddings]:
    """The embeddings of encoded images or image files by CLIP's image tower; ``clip_id`` as for ``embed_texts``."""
    request = build(aligner_pb2.EmbedImagesRequest, images=read_images(images), clip_id=clip_id)
    response: aligner_pb2.EmbedImagesResponse = yield Rpc("aligner", "EmbedImages", request)
    return read_embed_result(response)


def trace(
    images: Iterable[Image], *, model: str, concepts: Sequence[str] | str, top_k: int | None = None
) -> Plan[TraceResult]:
    """Compare images with concepts at every aligned layer, and at the logits: where a prediction goes wrong.

    Args:
        images: Encoded images or paths of images.
        model: Target model.
        concepts: Texts to compare with, such as the true label and the wrong one.
        top_k: Predicted labels of an image; default 5.

    Raises:
        InvalidInput: an image or concept is refused.
        NotFound: an unknown model.
        NotAligned: the model has no atlas.
    """
    asked = as_list(concepts)
    request = build(
        aligner_pb2.TraceImagesRequest,
        model=qualified("models", model),
        images=read_images(images),
        concepts=asked,
        top_k=top_k,
    )
    response: aligner_pb2.TraceImagesResponse = yield Rpc("aligner", "TraceImages", request)
    return read_trace_result(response, asked)


def create_alignment(
    model: str,
    *,
    probe_set: str = "",
    clip: str = "",
    layers: Sequence[str] = (),
    seed: int | None = None,
    steps: int | None = None,
    output_weight: float | None = None,
    input_weight: float | None = None,
    temperature: float | None = None,
    activate: bool = False,
) -> Plan[aligner_pb2.Alignment]:
    """Start or queue an alignment; ``watch_alignment`` follows it. Needs a key with the scope ``align``.

    Args:
        model: Target model.
        probe_set: Name of a probe set that the server knows; default the model's own, where it comes with images or its
            active atlas was made from a probe set of the server.
        clip: Name or id of a CLIP that the server knows, or ``demo``; default the server's.
        layers: Plain or full names; default all.
        seed: Of every random choice.
        steps: Optimiser steps of every layer's encoder.
        output_weight: Weight of the loss against the predicted labels' texts.
        input_weight: Weight of the loss against the probe images.
        temperature: Of the contrastive loss.
        activate: Let the new atlas answer for the model as soon as it is ready.
    """
    chosen = build(
        aligner_pb2.AlignmentSettings,
        seed=seed,
        steps=steps,
        output_weight=output_weight,
        input_weight=input_weight,
        temperature=temperature,
    )
    request = build(
        aligner_pb2.CreateAlignmentRequest,
        model=qualified("models", model),
        probe_set=probe_set,
        clip=clip,
        layers=[layer_name(model, layer) for layer in as_list(layers)],
        settings=chosen,
        activate=activate,
    )
    response: aligner_pb2.CreateAlignmentResponse = yield Rpc("aligner", "CreateAlignment", request, False)
    return response.alignment


def get_alignment(name: str) -> Plan[aligner_pb2.Alignment]:
    """An alignment as it is now; raises NotFound."""
    request = build(aligner_pb2.GetAlignmentRequest, name=qualified("alignments", name))
    response: aligner_pb2.GetAlignmentResponse = yield Rpc("aligner", "GetAlignment", request)
    return response.alignment


def list_alignments() -> Plan[tuple[aligner_pb2.Alignment, ...]]:
    """All alignments, newest first."""
    return (yield from every_page("aligner", "ListAlignments", aligner_pb2.ListAlignmentsRequest(), "alignments"))


def cancel_alignment(name: str) -> Plan[aligner_pb2.Alignment]:
    """End a queued or running alignment. Needs a key with the scope ``align``."""
    request = build(aligner_pb2.CancelAlignmentRequest, name=qualified("alignments", name))
    response: aligner_pb2.CancelAlignmentResponse = yield Rpc("aligner", "CancelAlignment", request)
    return response.alignment


def watch_request(name: str) -> Rpc:
    """The call that streams an alignment."""
    request = build(aligner_pb2.WatchAlignmentRequest, name=qualified("alignments", name))
    return Rpc("aligner", "WatchAlignment", request)


def list_atlases(model: str = "") -> Plan[tuple[aligner_pb2.Atlas, ...]]:
    """All atlases, or those of one model."""
    request = build(aligner_pb2.ListAtlasesRequest, model=qualified("models", model))
    return (yield from every_page("aligner", "ListAtlases", request, "atlases"))


def get_atlas(name: str) -> Plan[aligner_pb2.Atlas]:
    """What an atlas covers; raises NotFound."""
    request = build(aligner_pb2.GetAtlasRequest, name=qualified("atlases", name))
    response: aligner_pb2.GetAtlasResponse = yield Rpc("aligner", "GetAtlas", request)
    return response.atlas


def activate_atlas(name: str) -> Plan[aligner_pb2.Atlas]:
    """Let an atlas answer for its model, without downtime; raises BadArtefact. Needs a key with the scope ``align``."""
    request = build(aligner_pb2.ActivateAtlasRequest, name=qualified("atlases", name))
    response: aligner_pb2.ActivateAtlasResponse = yield Rpc("aligner", "ActivateAtlas", request)
    return response.atlas
