from miclip.v1 import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SteeringOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEERING_OUTCOME_UNSPECIFIED: _ClassVar[SteeringOutcome]
    STEERING_OUTCOME_NONE: _ClassVar[SteeringOutcome]
    STEERING_OUTCOME_APPLIED: _ClassVar[SteeringOutcome]
    STEERING_OUTCOME_STOPPED: _ClassVar[SteeringOutcome]
    STEERING_OUTCOME_NOT_IN_SHARE: _ClassVar[SteeringOutcome]
STEERING_OUTCOME_UNSPECIFIED: SteeringOutcome
STEERING_OUTCOME_NONE: SteeringOutcome
STEERING_OUTCOME_APPLIED: SteeringOutcome
STEERING_OUTCOME_STOPPED: SteeringOutcome
STEERING_OUTCOME_NOT_IN_SHARE: SteeringOutcome

class Layer(_message.Message):
    __slots__ = ("name", "kind", "units", "aligned", "default_embedding", "dictionary")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    ALIGNED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    DICTIONARY_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _resources_pb2.LayerKind
    units: int
    aligned: bool
    default_embedding: _resources_pb2.UnitEmbedding
    dictionary: Dictionary
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_resources_pb2.LayerKind, str]] = ..., units: _Optional[int] = ..., aligned: _Optional[bool] = ..., default_embedding: _Optional[_Union[_resources_pb2.UnitEmbedding, str]] = ..., dictionary: _Optional[_Union[Dictionary, _Mapping]] = ...) -> None: ...

class Dictionary(_message.Message):
    __slots__ = ("sha256", "activation", "k", "explained_variance", "l0", "live_share", "agreement")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    L0_FIELD_NUMBER: _ClassVar[int]
    LIVE_SHARE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    activation: str
    k: int
    explained_variance: float
    l0: float
    live_share: float
    agreement: float
    def __init__(self, sha256: _Optional[str] = ..., activation: _Optional[str] = ..., k: _Optional[int] = ..., explained_variance: _Optional[float] = ..., l0: _Optional[float] = ..., live_share: _Optional[float] = ..., agreement: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "weights_sha256", "layers", "labels", "input_size", "atlas", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    ATLAS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    weights_sha256: str
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    labels: _containers.RepeatedScalarFieldContainer[str]
    input_size: int
    atlas: str
    device: str
    def __init__(self, name: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., input_size: _Optional[int] = ..., atlas: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_images", "max_image_bytes", "max_image_pixels", "max_image_edge", "max_top_k", "max_units", "max_texts", "max_text_chars", "max_vocabulary", "max_edits", "max_strength", "max_offset", "max_policies", "max_page_size", "request_timeout_seconds", "max_queued", "max_watchers", "max_watch_seconds", "watch_heartbeat_seconds")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_EDGE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_UNITS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXT_CHARS_FIELD_NUMBER: _ClassVar[int]
    MAX_VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    MAX_EDITS_FIELD_NUMBER: _ClassVar[int]
    MAX_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_POLICIES_FIELD_NUMBER: _ClassVar[int]
    MAX_PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_FIELD_NUMBER: _ClassVar[int]
    MAX_WATCHERS_FIELD_NUMBER: _ClassVar[int]
    MAX_WATCH_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WATCH_HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_images: int
    max_image_bytes: int
    max_image_pixels: int
    max_image_edge: int
    max_top_k: int
    max_units: int
    max_texts: int
    max_text_chars: int
    max_vocabulary: int
    max_edits: int
    max_strength: float
    max_offset: float
    max_policies: int
    max_page_size: int
    request_timeout_seconds: float
    max_queued: int
    max_watchers: int
    max_watch_seconds: float
    watch_heartbeat_seconds: float
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_images: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., max_image_pixels: _Optional[int] = ..., max_image_edge: _Optional[int] = ..., max_top_k: _Optional[int] = ..., max_units: _Optional[int] = ..., max_texts: _Optional[int] = ..., max_text_chars: _Optional[int] = ..., max_vocabulary: _Optional[int] = ..., max_edits: _Optional[int] = ..., max_strength: _Optional[float] = ..., max_offset: _Optional[float] = ..., max_policies: _Optional[int] = ..., max_page_size: _Optional[int] = ..., request_timeout_seconds: _Optional[float] = ..., max_queued: _Optional[int] = ..., max_watchers: _Optional[int] = ..., max_watch_seconds: _Optional[float] = ..., watch_heartbeat_seconds: _Optional[float] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "index", "logit", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    index: int
    logit: float
    probability: float
    def __init__(self, label: _Optional[str] = ..., index: _Optional[int] = ..., logit: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class AppliedSteering(_message.Message):
    __slots__ = ("outcome", "policy", "policy_version", "fingerprint", "stale")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    outcome: SteeringOutcome
    policy: str
    policy_version: int
    fingerprint: str
    stale: bool
    def __init__(self, outcome: _Optional[_Union[SteeringOutcome, str]] = ..., policy: _Optional[str] = ..., policy_version: _Optional[int] = ..., fingerprint: _Optional[str] = ..., stale: _Optional[bool] = ...) -> None: ...

class ImagePrediction(_message.Message):
    __slots__ = ("predictions", "baseline")
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    baseline: _containers.RepeatedCompositeFieldContainer[Prediction]
    def __init__(self, predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., baseline: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ...) -> None: ...

class UnitActivation(_message.Message):
    __slots__ = ("unit", "value")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    unit: str
    value: float
    def __init__(self, unit: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class LayerActivations(_message.Message):
    __slots__ = ("layer", "values", "strongest")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STRONGEST_FIELD_NUMBER: _ClassVar[int]
    layer: str
    values: _containers.RepeatedScalarFieldContainer[float]
    strongest: _containers.RepeatedCompositeFieldContainer[UnitActivation]
    def __init__(self, layer: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ..., strongest: _Optional[_Iterable[_Union[UnitActivation, _Mapping]]] = ...) -> None: ...

class ImageActivations(_message.Message):
    __slots__ = ("layers",)
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerActivations]
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerActivations, _Mapping]]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "limits")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    model: Model
    limits: Limits
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("model", "images", "policy", "edits", "include_baseline", "top_k")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_BASELINE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    policy: str
    edits: _resources_pb2.EditList
    include_baseline: bool
    top_k: int
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., policy: _Optional[str] = ..., edits: _Optional[_Union[_resources_pb2.EditList, _Mapping]] = ..., include_baseline: _Optional[bool] = ..., top_k: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("results", "steering", "timings", "weights_sha256")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImagePrediction]
    steering: AppliedSteering
    timings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Timing]
    weights_sha256: str
    def __init__(self, results: _Optional[_Iterable[_Union[ImagePrediction, _Mapping]]] = ..., steering: _Optional[_Union[AppliedSteering, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[_resources_pb2.Timing, _Mapping]]] = ..., weights_sha256: _Optional[str] = ...) -> None: ...

class CaptureActivationsRequest(_message.Message):
    __slots__ = ("model", "images", "layers", "policy", "edits", "top_k")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    layers: _containers.RepeatedScalarFieldContainer[str]
    policy: str
    edits: _resources_pb2.EditList
    top_k: int
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., layers: _Optional[_Iterable[str]] = ..., policy: _Optional[str] = ..., edits: _Optional[_Union[_resources_pb2.EditList, _Mapping]] = ..., top_k: _Optional[int] = ...) -> None: ...

class CaptureActivationsResponse(_message.Message):
    __slots__ = ("results", "steering", "timings", "weights_sha256")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImageActivations]
    steering: AppliedSteering
    timings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Timing]
    weights_sha256: str
    def __init__(self, results: _Optional[_Iterable[_Union[ImageActivations, _Mapping]]] = ..., steering: _Optional[_Union[AppliedSteering, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[_resources_pb2.Timing, _Mapping]]] = ..., weights_sha256: _Optional[str] = ...) -> None: ...
