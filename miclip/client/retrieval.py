"""Plans of the retrieval service."""

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
from miclip.errors import InvalidInput
from miclip.names import UnitName, parse_layer
from miclip.retrieval.results import DescribeResult, Description, LocalizeResult, UnitRecord, UnitStatistics
from miclip.settings import settings
from miclip.v1 import resources_pb2, retrieval_pb2
from miclip.wire.common import read_provenance, read_timings
from miclip.wire.promise import read_promise, read_verdict
from miclip.wire.retrieval import read_description, read_localize_result, read_record, read_statistics


def describe(
    units: Sequence[str | UnitName] = (),
    *,
    layer: str = "",
    vocabulary: str = "",
    concepts: Sequence[str] = (),
    top_k: int | None = None,
    embedding: str | None = None,
) -> Plan[DescribeResult]:
    """Find the concepts of units.

    Args:
        units: Names, ``models/{model}/layers/{layer}/units/{n}`` or ``…/dictionaries/{dictionary}/features/{n}``;
            either these or ``layer``.
        layer: Name of a layer, ``models/{model}/layers/{layer}``, or of a dictionary on one, all of whose units are
            described.
        vocabulary: Vocabulary to choose from; default the model's labels.
        concepts: Free concepts to choose from instead of a vocabulary.
        top_k: Concepts of a unit; default 5.
        embedding: ``filter``, ``pattern`` or ``causal``; default that of the layer.

    Raises:
        InvalidInput: both or none of ``units`` and ``layer``, both ``vocabulary`` and ``concepts``, or a bad value.
        NotFound: an unknown unit or vocabulary.
        NotAligned: the model or layer has no atlas.
    """
    if bool(units) == bool(layer):
        raise InvalidInput("Give either units or a layer.", field="units")
    if vocabulary and concepts:
        raise InvalidInput("Give either a vocabulary or concepts, not both.", field="concepts")
    names = name_list(units) if units else (yield from _units_of(layer))
    request = build(
        retrieval_pb2.DescribeUnitsRequest,
        vocabulary=qualified("vocabularies", vocabulary) or None,
        concepts=build(retrieval_pb2.ConceptList, concepts=as_list(concepts)) if concepts else None,
        top_k=top_k,
        embedding=enum_value(resources_pb2.UnitEmbedding, embedding, "embedding"),
    )
    descriptions: list[Description] = []
    timings: dict[str, float] = {}
    provenance = read_provenance(resources_pb2.Provenance())
    verdict = None
    for start in range(0, len(names), settings().max_units):
        del request.units[:]
        request.units.extend(names[start : start + settings().max_units])
        response: retrieval_pb2.DescribeUnitsResponse = yield Rpc("retrieval", "DescribeUnits", request)
        provenance = read_provenance(response.provenance)
        promises = dict(map(read_promise, response.promises))
        descriptions += [read_description(one, provenance.atlas, promises) for one in response.descriptions]
        verdict = read_verdict(response.verdict) if response.HasField("verdict") else None
        for stage, seconds in read_timings(response.timings).items():
            timings[stage] = timings.get(stage, 0.0) + seconds
    return DescribeResult(tuple(descriptions), verdict, provenance, timings)


def localize(
    texts: Sequence[str] | str = (),
    *,
    model: str,
    images: Iterable[Image] = (),
    layers: Sequence[str] = (),
    top_k: int | None = None,
    method: str | None = None,
    temperature: float | None = None,
) -> Plan[LocalizeResult]:
    """Find the units of concepts.

    Args:
        texts: Concepts to look for.
        model: Target model.
        images: Images to look for, as bytes or paths.
        layers: Layers to search; default the last before the logits.
        top_k: Units of a query; default 5.
        method: ``attribution`` (default), ``filter``, ``pattern`` or ``causal``.
        temperature: Of the weights of the probe images under ``attribution``, 0.001 to 10; default the server's.

    Raises:
        InvalidInput: nothing to look for, or a value out of range.
        NotFound: an unknown model or layer.
        NotAligned: the model or layer has no atlas.
    """
    request = build(
        retrieval_pb2.LocalizeConceptsRequest,
        model=qualified("models", model),
        texts=as_list(texts),
        images=read_images(images),
        layers=[layer_name(model, layer) for layer in as_list(layers)],
        top_k=top_k,
        method=enum_value(resources_pb2.LocalizationMethod, method, "method"),
        temperature=temperature,
    )
    response: retrieval_pb2.LocalizeConceptsResponse = yield Rpc("retrieval", "LocalizeConcepts", request)
    return read_localize_result(response)


def get_unit(name: str | UnitName, *, thumbnails: bool = False) -> Plan[UnitRecord]:
    """Read everything known about a unit: statistics, histogram, top images, neighbours, description.

    With ``thumbnails`` the top images carry theirs, WebP, where the atlas has them.
    """
    response: retrieval_pb2.GetUnitResponse = yield Rpc(
        "retrieval", "GetUnit", build(retrieval_pb2.GetUnitRequest, name=str(name), include_thumbnails=thumbnails)
    )
    return read_record(response)


def list_units(layer: str) -> Plan[tuple[UnitStatistics, ...]]:
    """All units of ``models/{model}/layers/{layer}`` in order, with their statistics."""
    request = build(retrieval_pb2.ListUnitsRequest, parent=layer)
    units = yield from every_page("retrieval", "ListUnits", request, "units")
    return tuple(map(read_statistics, units))


def create_vocabulary(vocabulary_id: str, concepts: Sequence[str]) -> Plan[retrieval_pb2.Vocabulary]:
    """Embed and keep a vocabulary; raises AlreadyExists. Needs a key with the scope ``align``."""
    request = build(retrieval_pb2.CreateVocabularyRequest, vocabulary_id=vocabulary_id, concepts=as_list(concepts))
    response: retrieval_pb2.CreateVocabularyResponse = yield Rpc("retrieval", "CreateVocabulary", request, False)
    return response.vocabulary


def list_vocabularies() -> Plan[tuple[retrieval_pb2.Vocabulary, ...]]:
    """All vocabularies."""
    request = retrieval_pb2.ListVocabulariesRequest()
    return (yield from every_page("retrieval", "ListVocabularies", request, "vocabularies"))


def delete_vocabulary(name: str) -> Plan[None]:
    """Delete a vocabulary that ``create_vocabulary`` made; raises NotFound. Needs a key with the scope ``align``."""
    request = build(retrieval_pb2.DeleteVocabularyRequest, name=qualified("vocabularies", name))
    yield Rpc("retrieval", "DeleteVocabulary", request, False)


def _units_of(layer: str) -> Plan[list[str]]:
    request = build(retrieval_pb2.ListUnitsRequest, parent=layer, page_size=1)
    response: retrieval_pb2.ListUnitsResponse = yield Rpc("retrieval", "ListUnits", request)
    found = parse_layer(layer, field="layer")
    return [str(UnitName(found.model, found.layer, unit)) for unit in range(response.total_size)]
