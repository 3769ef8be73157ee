"""The retrieval service's requests checked, and the library's answers as messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from miclip.errors import InvalidInput
from miclip.kinds import LocalizationMethod, Ranking
from miclip.names import LayerName, UnitName, parse_layer
from miclip.retrieval.results import (
    Description,
    Evidence,
    Localization,
    LocatedUnit,
    ScoredConcept,
    UnitRecord,
    UnitStatistics,
)
from miclip.v1 import resources_pb2
from miclip.v1 import retrieval_pb2 as pb
from miclip.v1.resources_pb2 import LabeledConcept, LabelShare, LocalizationEvidence
from services.rpc import check_range, check_size
from services.wire.edits import UNIT_EMBEDDINGS
from services.wire.embeddings import not_in_enum

_DEFAULT_TOP_K: Final = 5
METHOD_VALUES: Final[dict[LocalizationMethod, resources_pb2.LocalizationMethod]] = {
    "attribution": resources_pb2.LOCALIZATION_METHOD_ATTRIBUTION,
    "filter": resources_pb2.LOCALIZATION_METHOD_FILTER,
    "pattern": resources_pb2.LOCALIZATION_METHOD_PATTERN,
    "causal": resources_pb2.LOCALIZATION_METHOD_CAUSAL,
}
_RANKINGS: Final[dict[Ranking, resources_pb2.LabelRanking]] = {
    "cosine": resources_pb2.LABEL_RANKING_COSINE,
    "causal_score": resources_pb2.LABEL_RANKING_CAUSAL_SCORE,
}
_METHODS: Final[dict[int, LocalizationMethod]] = {
    resources_pb2.LOCALIZATION_METHOD_UNSPECIFIED: "attribution",
    **{value: name for name, value in METHOD_VALUES.items()},
}


def top_k(request: pb.DescribeUnitsRequest | pb.LocalizeConceptsRequest, limit: int) -> int:
    """The request's ``top_k``, 5 when it is not set; raises InvalidInput."""
    return check_range(request.top_k, "top_k", 1, limit) if request.HasField("top_k") else _DEFAULT_TOP_K


def method(value: int) -> LocalizationMethod:
    """The way of ranking that a request asks for; raises InvalidInput."""
    if value not in _METHODS:
        raise not_in_enum(value, resources_pb2.LocalizationMethod.keys(), "method")
    return _METHODS[value]


def temperature(request: pb.LocalizeConceptsRequest) -> float | None:
    """The request's temperature, None when it is not set; raises InvalidInput."""
    if not request.HasField("temperature"):
        return None
    if not 1e-3 <= request.temperature <= 10:  # also refuses NaN
        text = f"temperature is {request.temperature:g}; allowed is 0.001 to 10."
        raise InvalidInput(text, field="temperature", allowed="0.001 to 10")
    return request.temperature


def check_queries(request: pb.LocalizeConceptsRequest, max_texts: int, max_images: int) -> None:
    """Check the numbers of texts and images; raises InvalidInput."""
    check_size(request.texts, "texts", 0, max_texts)
    check_size(request.images, "images", 0, max_images)
    if not request.texts and not request.images:
        text = "texts: there is neither a text nor an image; send one at least."
        raise InvalidInput(text, field="texts", allowed=f"1 to {max_texts} entries, or 1 to {max_images} images")


def parse_layers(names: Sequence[str], model: str) -> Iterator[tuple[str, LayerName]]:
    """Yield the field and the layer of each name, all of ``model`` and each once; raises InvalidInput.

    As they are asked for: a reader that stops at the first layer there is not has read no more than there are.
    """
    layers: set[LayerName] = set()
    for place, name in enumerate(names):
        field, layer = f"layers[{place}]", parse_layer(name, field=f"layers[{place}]")
        if layer.model != model:
            text = f"{field} is of model {layer.model}, not of {model}."
            raise InvalidInput(text, field=field, allowed=f"layers of models/{model}")
        if layer in layers:
            raise InvalidInput(f"{field} is given twice.", field=field, allowed="each layer once")
        layers.add(layer)
        yield field, layer


def description_message(model: str, found: Description) -> pb.UnitDescription:
    """What a unit means."""
    return pb.UnitDescription(
        unit=_name(model, found),
        concepts=[_concept_message(concept) for concept in found.concepts],
        margin=found.margin,
        null_percentile=found.null_percentile,
        abstained=found.abstained,
        embedding=UNIT_EMBEDDINGS[found.embedding],
        ranking=_RANKINGS[found.ranked_by],
        contrast=found.contrast,
        stability=found.stability,
    )


def _concept_message(found: ScoredConcept) -> LabeledConcept:
    return LabeledConcept(concept=found.concept, index=found.index, score=found.score, causal_score=found.causal_score)


def localization_messages(
    model: str, texts: Sequence[str], found: Iterable[Localization]
) -> list[pb.ConceptLocalization]:
    """The units of queries: those of ``texts``, then those of images."""
    return [
        pb.ConceptLocalization(
            text=texts[place] if place < len(texts) else "",
            units=[pb.LocatedUnit(unit=_name(model, unit), score=unit.score) for unit in one.units],
            evidence=_evidence_message(one.evidence) if one.evidence else None,
        )
        for place, one in enumerate(found)
    ]


def _evidence_message(found: Evidence) -> LocalizationEvidence:
    return LocalizationEvidence(
        relevance=found.relevance,
        null_percentile=found.null_percentile,
        doubtful=found.doubtful,
        labels=[LabelShare(label=one.label, share=one.share) for one in found.labels],
    )


def statistics_message(model: str, unit: UnitStatistics) -> pb.Unit:
    """A unit as lists have it."""
    return pb.Unit(
        name=_name(model, unit),
        mean=unit.mean,
        std=unit.std,
        maximum=unit.maximum,
        fraction_nonzero=unit.fraction_nonzero,
    )


def unit_message(model: str, record: UnitRecord, description: Description) -> pb.Unit:
    """Everything known about a unit."""
    message = statistics_message(model, record.statistics)
    message.histogram.edges.extend(record.histogram_edges)
    message.histogram.counts.extend(record.histogram_counts)
    message.top_images.extend(pb.TopImage(image=one.image, value=one.value) for one in record.top_images)
    message.neighbors.extend(pb.UnitNeighbor(unit=_name(model, one), score=one.score) for one in record.neighbours)
    message.description.CopyFrom(description_message(model, description))
    message.causal_score = description.concepts[0].causal_score
    return message


def _name(model: str, unit: Description | LocatedUnit | UnitStatistics) -> str:
    return str(UnitName(model, unit.layer, unit.unit))
