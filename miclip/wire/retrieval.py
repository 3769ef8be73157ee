"""Descriptions, localizations and records of units as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from miclip.names import parse_layer, parse_unit
from miclip.promise import Promise
from miclip.retrieval.results import (
    Description,
    Localization,
    LocalizeResult,
    LocatedUnit,
    ScoredConcept,
    TopImage,
    UnitRecord,
    UnitStatistics,
)
from miclip.v1 import resources_pb2
from miclip.v1 import retrieval_pb2 as pb
from miclip.wire.common import (
    read_evidence,
    read_kind,
    read_provenance,
    read_timings,
    write_evidence,
    write_kind,
)

_NONE: Mapping[str, Promise] = MappingProxyType({})


def write_description(value: Description) -> pb.UnitDescription:
    """What a unit means, as a message."""
    return pb.UnitDescription(
        unit=str(value.name),
        concepts=_write_concepts(value.concepts),
        active_for=_write_concepts(value.active_for),
        suppresses=_write_concepts(value.suppresses),
        margin=value.margin,
        null_percentile=value.null_percentile,
        abstained=value.abstained,
        reason=write_kind(resources_pb2.AbstainReason, value.reason or "unspecified"),
        embedding=write_kind(resources_pb2.UnitEmbedding, value.embedding),
        ranking=write_kind(resources_pb2.LabelRanking, value.ranking),
        contrast=value.contrast,
        stability=value.stability,
        confidence=value.confidence,
    )


def read_description(message: pb.UnitDescription, atlas: str, promises: Mapping[str, Promise] = _NONE) -> Description:
    """What a unit means, by the atlas ``atlases/{sha256}`` with promises by layer."""
    name = parse_unit(message.unit)
    return Description(
        name=name,
        concepts=_read_concepts(message.concepts),
        active_for=_read_concepts(message.active_for),
        suppresses=_read_concepts(message.suppresses),
        margin=message.margin,
        null_percentile=message.null_percentile,
        abstained=message.abstained,
        reason=read_kind(resources_pb2.AbstainReason, message.reason) if message.reason else "",
        embedding=read_kind(resources_pb2.UnitEmbedding, message.embedding),
        ranking=read_kind(resources_pb2.LabelRanking, message.ranking),
        contrast=message.contrast if message.HasField("contrast") else None,
        stability=message.stability if message.HasField("stability") else None,
        confidence=message.confidence if message.HasField("confidence") else None,
        promise=promises.get(name.layer),
        atlas=atlas,
    )


def _write_concepts(concepts: Iterable[ScoredConcept]) -> list[resources_pb2.LabeledConcept]:
    return [resources_pb2.LabeledConcept(**vars(concept)) for concept in concepts]


def _read_concepts(messages: Iterable[resources_pb2.LabeledConcept]) -> tuple[ScoredConcept, ...]:
    return tuple(ScoredConcept(one.index, one.concept, one.score, one.causal_score, one.activation) for one in messages)


def write_localization(value: Localization) -> pb.ConceptLocalization:
    """The units of a query, as a message."""
    return pb.ConceptLocalization(
        text=value.concept,
        units=[pb.LocatedUnit(unit=str(unit.name), score=unit.score, share=unit.share) for unit in value.units],
        evidence=write_evidence(value.evidence) if value.evidence else None,
        mass=value.mass,
    )


def read_localize_result(response: pb.LocalizeConceptsResponse) -> LocalizeResult:
    """The answer of ``LocalizeConcepts``."""
    provenance = read_provenance(response.provenance)
    method = read_kind(resources_pb2.LocalizationMethod, response.method)
    localizations = tuple(
        Localization(
            concept=one.text,
            model=parse_layer(provenance.layers[0]).model,
            method=method,
            units=tuple(LocatedUnit(parse_unit(unit.unit), unit.score, unit.share) for unit in one.units),
            mass=one.mass,
            evidence=read_evidence(one.evidence) if one.HasField("evidence") else None,
            atlas=provenance.atlas,
        )
        for one in response.localizations
    )
    return LocalizeResult(localizations, provenance, read_timings(response.timings))


def write_statistics(value: UnitStatistics) -> pb.Unit:
    """A unit as lists have it, as a message."""
    return pb.Unit(**{**vars(value), "name": str(value.name)})


def read_statistics(message: pb.Unit) -> UnitStatistics:
    """A unit as lists have it."""
    return UnitStatistics(
        name=parse_unit(message.name),
        mean=message.mean,
        std=message.std,
        maximum=message.maximum,
        fraction_nonzero=message.fraction_nonzero,
    )


def write_record(value: UnitRecord) -> pb.Unit:
    """Everything known about a unit, as a message."""
    message = write_statistics(value.statistics)
    message.histogram.edges.extend(value.histogram_edges)
    message.histogram.counts.extend(value.histogram_counts)
    message.top_images.extend(pb.TopImage(**vars(image)) for image in value.top_images)
    message.neighbors.extend(pb.UnitNeighbor(unit=str(near.name), score=near.score) for near in value.neighbours)
    message.description.CopyFrom(write_description(value.description))
    message.causal_score = value.description.concepts[0].causal_score
    return message


def read_record(response: pb.GetUnitResponse) -> UnitRecord:
    """Everything known about a unit."""
    unit = response.unit
    return UnitRecord(
        statistics=read_statistics(unit),
        histogram_edges=tuple(unit.histogram.edges),
        histogram_counts=tuple(unit.histogram.counts),
        top_images=tuple(TopImage(image.row, image.image, image.value, image.thumbnail) for image in unit.top_images),
        neighbours=tuple(LocatedUnit(parse_unit(near.unit), near.score) for near in unit.neighbors),
        description=read_description(unit.description, response.provenance.atlas),
    )
