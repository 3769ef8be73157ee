from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LayerKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAYER_KIND_UNSPECIFIED: _ClassVar[LayerKind]
    LAYER_KIND_CHANNELS: _ClassVar[LayerKind]
    LAYER_KIND_TOKENS: _ClassVar[LayerKind]
    LAYER_KIND_LOGITS: _ClassVar[LayerKind]
    LAYER_KIND_FEATURES: _ClassVar[LayerKind]

class UnitEmbedding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNIT_EMBEDDING_UNSPECIFIED: _ClassVar[UnitEmbedding]
    UNIT_EMBEDDING_FILTER: _ClassVar[UnitEmbedding]
    UNIT_EMBEDDING_PATTERN: _ClassVar[UnitEmbedding]
    UNIT_EMBEDDING_CAUSAL: _ClassVar[UnitEmbedding]

class LabelRanking(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_RANKING_UNSPECIFIED: _ClassVar[LabelRanking]
    LABEL_RANKING_COSINE: _ClassVar[LabelRanking]
    LABEL_RANKING_CAUSAL_SCORE: _ClassVar[LabelRanking]

class AbstainReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABSTAIN_REASON_UNSPECIFIED: _ClassVar[AbstainReason]
    ABSTAIN_REASON_EFFECT: _ClassVar[AbstainReason]
    ABSTAIN_REASON_CHANCE: _ClassVar[AbstainReason]
    ABSTAIN_REASON_PROMISE: _ClassVar[AbstainReason]
    ABSTAIN_REASON_CONFIDENCE: _ClassVar[AbstainReason]

class LocalizationMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCALIZATION_METHOD_UNSPECIFIED: _ClassVar[LocalizationMethod]
    LOCALIZATION_METHOD_ATTRIBUTION: _ClassVar[LocalizationMethod]
    LOCALIZATION_METHOD_FILTER: _ClassVar[LocalizationMethod]
    LOCALIZATION_METHOD_PATTERN: _ClassVar[LocalizationMethod]
    LOCALIZATION_METHOD_CAUSAL: _ClassVar[LocalizationMethod]
LAYER_KIND_UNSPECIFIED: LayerKind
LAYER_KIND_CHANNELS: LayerKind
LAYER_KIND_TOKENS: LayerKind
LAYER_KIND_LOGITS: LayerKind
LAYER_KIND_FEATURES: LayerKind
UNIT_EMBEDDING_UNSPECIFIED: UnitEmbedding
UNIT_EMBEDDING_FILTER: UnitEmbedding
UNIT_EMBEDDING_PATTERN: UnitEmbedding
UNIT_EMBEDDING_CAUSAL: UnitEmbedding
LABEL_RANKING_UNSPECIFIED: LabelRanking
LABEL_RANKING_COSINE: LabelRanking
LABEL_RANKING_CAUSAL_SCORE: LabelRanking
ABSTAIN_REASON_UNSPECIFIED: AbstainReason
ABSTAIN_REASON_EFFECT: AbstainReason
ABSTAIN_REASON_CHANCE: AbstainReason
ABSTAIN_REASON_PROMISE: AbstainReason
ABSTAIN_REASON_CONFIDENCE: AbstainReason
LOCALIZATION_METHOD_UNSPECIFIED: LocalizationMethod
LOCALIZATION_METHOD_ATTRIBUTION: LocalizationMethod
LOCALIZATION_METHOD_FILTER: LocalizationMethod
LOCALIZATION_METHOD_PATTERN: LocalizationMethod
LOCALIZATION_METHOD_CAUSAL: LocalizationMethod

class LayerPromise(_message.Message):
    __slots__ = ("layer", "wanted", "reached", "precision", "low", "coverage", "confidence")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    wanted: float
    reached: bool
    precision: float
    low: float
    coverage: float
    confidence: float
    def __init__(self, layer: _Optional[str] = ..., wanted: _Optional[float] = ..., reached: _Optional[bool] = ..., precision: _Optional[float] = ..., low: _Optional[float] = ..., coverage: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class ProbeVerdict(_message.Message):
    __slots__ = ("images", "labels", "predicted", "judged", "images_a_label", "agreement", "chance", "p_value", "known", "text")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    JUDGED_FIELD_NUMBER: _ClassVar[int]
    IMAGES_A_LABEL_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    CHANCE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    images: int
    labels: int
    predicted: int
    judged: int
    images_a_label: float
    agreement: float
    chance: float
    p_value: float
    known: bool
    text: str
    def __init__(self, images: _Optional[int] = ..., labels: _Optional[int] = ..., predicted: _Optional[int] = ..., judged: _Optional[int] = ..., images_a_label: _Optional[float] = ..., agreement: _Optional[float] = ..., chance: _Optional[float] = ..., p_value: _Optional[float] = ..., known: _Optional[bool] = ..., text: _Optional[str] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("layer", "unit", "scale", "add", "clamp", "relative_to_max", "reconstruct")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    CLAMP_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_TO_MAX_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    unit: int
    scale: float
    add: float
    clamp: float
    relative_to_max: bool
    reconstruct: bool
    def __init__(self, layer: _Optional[str] = ..., unit: _Optional[int] = ..., scale: _Optional[float] = ..., add: _Optional[float] = ..., clamp: _Optional[float] = ..., relative_to_max: _Optional[bool] = ..., reconstruct: _Optional[bool] = ...) -> None: ...

class EditList(_message.Message):
    __slots__ = ("edits",)
    EDITS_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    def __init__(self, edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ...) -> None: ...

class LabeledConcept(_message.Message):
    __slots__ = ("concept", "index", "score", "causal_score", "activation")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_SCORE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    concept: str
    index: int
    score: float
    causal_score: float
    activation: float
    def __init__(self, concept: _Optional[str] = ..., index: _Optional[int] = ..., score: _Optional[float] = ..., causal_score: _Optional[float] = ..., activation: _Optional[float] = ...) -> None: ...

class LabelShare(_message.Message):
    __slots__ = ("label", "share")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    label: str
    share: float
    def __init__(self, label: _Optional[str] = ..., share: _Optional[float] = ...) -> None: ...

class LocalizationEvidence(_message.Message):
    __slots__ = ("relevance", "null_percentile", "doubtful", "labels", "negation")
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    NULL_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    DOUBTFUL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NEGATION_FIELD_NUMBER: _ClassVar[int]
    relevance: float
    null_percentile: float
    doubtful: bool
    labels: _containers.RepeatedCompositeFieldContainer[LabelShare]
    negation: str
    def __init__(self, relevance: _Optional[float] = ..., null_percentile: _Optional[float] = ..., doubtful: _Optional[bool] = ..., labels: _Optional[_Iterable[_Union[LabelShare, _Mapping]]] = ..., negation: _Optional[str] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("stage", "seconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    seconds: float
    def __init__(self, stage: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("atlas", "clip_id", "vocabulary_sha256", "probe_sha256", "encoder_sha256", "layers", "weights_sha256")
    ATLAS_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SHA256_FIELD_NUMBER: _ClassVar[int]
    PROBE_SHA256_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    atlas: str
    clip_id: str
    vocabulary_sha256: str
    probe_sha256: str
    encoder_sha256: _containers.RepeatedScalarFieldContainer[str]
    layers: _containers.RepeatedScalarFieldContainer[str]
    weights_sha256: str
    def __init__(self, atlas: _Optional[str] = ..., clip_id: _Optional[str] = ..., vocabulary_sha256: _Optional[str] = ..., probe_sha256: _Optional[str] = ..., encoder_sha256: _Optional[_Iterable[str]] = ..., layers: _Optional[_Iterable[str]] = ..., weights_sha256: _Optional[str] = ...) -> None: ...
