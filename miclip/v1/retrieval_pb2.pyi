import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from miclip.v1 import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConceptList(_message.Message):
    __slots__ = ("concepts",)
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    concepts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, concepts: _Optional[_Iterable[str]] = ...) -> None: ...

class UnitDescription(_message.Message):
    __slots__ = ("unit", "concepts", "margin", "null_percentile", "abstained", "embedding", "ranking", "contrast", "stability", "reason", "confidence", "active_for", "suppresses")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    NULL_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FOR_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSES_FIELD_NUMBER: _ClassVar[int]
    unit: str
    concepts: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LabeledConcept]
    margin: float
    null_percentile: float
    abstained: bool
    embedding: _resources_pb2.UnitEmbedding
    ranking: _resources_pb2.LabelRanking
    contrast: float
    stability: float
    reason: _resources_pb2.AbstainReason
    confidence: float
    active_for: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LabeledConcept]
    suppresses: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LabeledConcept]
    def __init__(self, unit: _Optional[str] = ..., concepts: _Optional[_Iterable[_Union[_resources_pb2.LabeledConcept, _Mapping]]] = ..., margin: _Optional[float] = ..., null_percentile: _Optional[float] = ..., abstained: _Optional[bool] = ..., embedding: _Optional[_Union[_resources_pb2.UnitEmbedding, str]] = ..., ranking: _Optional[_Union[_resources_pb2.LabelRanking, str]] = ..., contrast: _Optional[float] = ..., stability: _Optional[float] = ..., reason: _Optional[_Union[_resources_pb2.AbstainReason, str]] = ..., confidence: _Optional[float] = ..., active_for: _Optional[_Iterable[_Union[_resources_pb2.LabeledConcept, _Mapping]]] = ..., suppresses: _Optional[_Iterable[_Union[_resources_pb2.LabeledConcept, _Mapping]]] = ...) -> None: ...

class LocatedUnit(_message.Message):
    __slots__ = ("unit", "score", "share")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    unit: str
    score: float
    share: float
    def __init__(self, unit: _Optional[str] = ..., score: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class ConceptLocalization(_message.Message):
    __slots__ = ("text", "units", "evidence", "mass")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    MASS_FIELD_NUMBER: _ClassVar[int]
    text: str
    units: _containers.RepeatedCompositeFieldContainer[LocatedUnit]
    evidence: _resources_pb2.LocalizationEvidence
    mass: float
    def __init__(self, text: _Optional[str] = ..., units: _Optional[_Iterable[_Union[LocatedUnit, _Mapping]]] = ..., evidence: _Optional[_Union[_resources_pb2.LocalizationEvidence, _Mapping]] = ..., mass: _Optional[float] = ...) -> None: ...

class UnitNeighbor(_message.Message):
    __slots__ = ("unit", "score")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    unit: str
    score: float
    def __init__(self, unit: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class TopImage(_message.Message):
    __slots__ = ("image", "value", "row", "thumbnail")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    image: str
    value: float
    row: int
    thumbnail: bytes
    def __init__(self, image: _Optional[str] = ..., value: _Optional[float] = ..., row: _Optional[int] = ..., thumbnail: _Optional[bytes] = ...) -> None: ...

class Histogram(_message.Message):
    __slots__ = ("edges", "counts")
    EDGES_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    edges: _containers.RepeatedScalarFieldContainer[float]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, edges: _Optional[_Iterable[float]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("name", "mean", "std", "maximum", "fraction_nonzero", "histogram", "top_images", "neighbors", "description", "causal_score")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    FRACTION_NONZERO_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    TOP_IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEIGHBORS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    mean: float
    std: float
    maximum: float
    fraction_nonzero: float
    histogram: Histogram
    top_images: _containers.RepeatedCompositeFieldContainer[TopImage]
    neighbors: _containers.RepeatedCompositeFieldContainer[UnitNeighbor]
    description: UnitDescription
    causal_score: float
    def __init__(self, name: _Optional[str] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., maximum: _Optional[float] = ..., fraction_nonzero: _Optional[float] = ..., histogram: _Optional[_Union[Histogram, _Mapping]] = ..., top_images: _Optional[_Iterable[_Union[TopImage, _Mapping]]] = ..., neighbors: _Optional[_Iterable[_Union[UnitNeighbor, _Mapping]]] = ..., description: _Optional[_Union[UnitDescription, _Mapping]] = ..., causal_score: _Optional[float] = ...) -> None: ...

class Vocabulary(_message.Message):
    __slots__ = ("name", "size", "sha256", "builtin", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BUILTIN_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    sha256: str
    builtin: bool
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., builtin: _Optional[bool] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DescribeUnitsRequest(_message.Message):
    __slots__ = ("units", "vocabulary", "concepts", "top_k", "embedding")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedScalarFieldContainer[str]
    vocabulary: str
    concepts: ConceptList
    top_k: int
    embedding: _resources_pb2.UnitEmbedding
    def __init__(self, units: _Optional[_Iterable[str]] = ..., vocabulary: _Optional[str] = ..., concepts: _Optional[_Union[ConceptList, _Mapping]] = ..., top_k: _Optional[int] = ..., embedding: _Optional[_Union[_resources_pb2.UnitEmbedding, str]] = ...) -> None: ...

class DescribeUnitsResponse(_message.Message):
    __slots__ = ("descriptions", "provenance", "timings", "promises", "verdict")
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PROMISES_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[UnitDescription]
    provenance: _resources_pb2.Provenance
    timings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Timing]
    promises: _containers.RepeatedCompositeFieldContainer[_resources_pb2.LayerPromise]
    verdict: _resources_pb2.ProbeVerdict
    def __init__(self, descriptions: _Optional[_Iterable[_Union[UnitDescription, _Mapping]]] = ..., provenance: _Optional[_Union[_resources_pb2.Provenance, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[_resources_pb2.Timing, _Mapping]]] = ..., promises: _Optional[_Iterable[_Union[_resources_pb2.LayerPromise, _Mapping]]] = ..., verdict: _Optional[_Union[_resources_pb2.ProbeVerdict, _Mapping]] = ...) -> None: ...

class LocalizeConceptsRequest(_message.Message):
    __slots__ = ("model", "texts", "images", "layers", "top_k", "method", "temperature")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    layers: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    method: _resources_pb2.LocalizationMethod
    temperature: float
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., images: _Optional[_Iterable[bytes]] = ..., layers: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., method: _Optional[_Union[_resources_pb2.LocalizationMethod, str]] = ..., temperature: _Optional[float] = ...) -> None: ...

class LocalizeConceptsResponse(_message.Message):
    __slots__ = ("localizations", "method", "provenance", "timings")
    LOCALIZATIONS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    localizations: _containers.RepeatedCompositeFieldContainer[ConceptLocalization]
    method: _resources_pb2.LocalizationMethod
    provenance: _resources_pb2.Provenance
    timings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Timing]
    def __init__(self, localizations: _Optional[_Iterable[_Union[ConceptLocalization, _Mapping]]] = ..., method: _Optional[_Union[_resources_pb2.LocalizationMethod, str]] = ..., provenance: _Optional[_Union[_resources_pb2.Provenance, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[_resources_pb2.Timing, _Mapping]]] = ...) -> None: ...

class GetUnitRequest(_message.Message):
    __slots__ = ("name", "include_thumbnails")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_THUMBNAILS_FIELD_NUMBER: _ClassVar[int]
    name: str
    include_thumbnails: bool
    def __init__(self, name: _Optional[str] = ..., include_thumbnails: _Optional[bool] = ...) -> None: ...

class GetUnitResponse(_message.Message):
    __slots__ = ("unit", "provenance")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    unit: Unit
    provenance: _resources_pb2.Provenance
    def __init__(self, unit: _Optional[_Union[Unit, _Mapping]] = ..., provenance: _Optional[_Union[_resources_pb2.Provenance, _Mapping]] = ...) -> None: ...

class ListUnitsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListUnitsResponse(_message.Message):
    __slots__ = ("units", "next_page_token", "total_size")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    next_page_token: str
    total_size: int
    def __init__(self, units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class CreateVocabularyRequest(_message.Message):
    __slots__ = ("vocabulary_id", "concepts")
    VOCABULARY_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    vocabulary_id: str
    concepts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, vocabulary_id: _Optional[str] = ..., concepts: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateVocabularyResponse(_message.Message):
    __slots__ = ("vocabulary",)
    VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    vocabulary: Vocabulary
    def __init__(self, vocabulary: _Optional[_Union[Vocabulary, _Mapping]] = ...) -> None: ...

class ListVocabulariesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVocabulariesResponse(_message.Message):
    __slots__ = ("vocabularies", "next_page_token")
    VOCABULARIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    vocabularies: _containers.RepeatedCompositeFieldContainer[Vocabulary]
    next_page_token: str
    def __init__(self, vocabularies: _Optional[_Iterable[_Union[Vocabulary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteVocabularyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteVocabularyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
