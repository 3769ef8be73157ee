"""What the answers of several services carry: kinds, timings, provenance, evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from miclip.evidence import Evidence, LabelShare
from miclip.retrieval.results import Provenance
from miclip.v1 import resources_pb2 as pb


@cache
def short_names(enum: EnumTypeWrapper) -> tuple[str, ...]:
    """The names of an enum's values without their common prefix, in lower case, by value from 0."""
    names = enum.DESCRIPTOR.values_by_number
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    return tuple(names[number].name.removeprefix(prefix).lower() for number in range(len(names)))


def read_kind(enum: EnumTypeWrapper, value: int) -> Any:
    """The short name of an enum's value, one of the literals of ``miclip.kinds``; that of 0 is ``unspecified``."""
    return short_names(enum)[value]


def write_kind(enum: EnumTypeWrapper, name: str) -> Any:
    """The value of an enum for its short name; raises ValueError for another."""
    return short_names(enum).index(name)


def read_timings(timings: Iterable[pb.Timing]) -> dict[str, float]:
    """Seconds by stage."""
    return {timing.stage: timing.seconds for timing in timings}


def write_timings(seconds: Mapping[str, float]) -> list[pb.Timing]:
    """Stages with the time that each took, in seconds."""
    return [pb.Timing(stage=stage, seconds=value) for stage, value in seconds.items()]


def read_provenance(message: pb.Provenance) -> Provenance:
    """What an answer was computed from."""
    return Provenance(
        atlas=message.atlas,
        clip_id=message.clip_id,
        vocabulary_sha256=message.vocabulary_sha256,
        probe_sha256=message.probe_sha256,
        encoder_sha256=tuple(message.encoder_sha256),
        layers=tuple(message.layers),
        weights_sha256=message.weights_sha256,
    )


def write_provenance(value: Provenance) -> pb.Provenance:
    """The same as a message."""
    return pb.Provenance(**vars(value))


def read_evidence(message: pb.LocalizationEvidence) -> Evidence:
    """How far to trust a localisation; a policy's concept and a preview have it, too."""
    return Evidence(
        relevance=message.relevance,
        null_percentile=message.null_percentile,
        doubtful=message.doubtful,
        labels=tuple(LabelShare(share.label, share.share) for share in message.labels),
        negation=message.negation,
    )


def write_evidence(value: Evidence) -> pb.LocalizationEvidence:
    """The same as a message."""
    return pb.LocalizationEvidence(
        relevance=value.relevance,
        null_percentile=value.null_percentile,
        doubtful=value.doubtful,
        labels=[pb.LabelShare(label=share.label, share=share.share) for share in value.labels],
        negation=value.negation,
    )
