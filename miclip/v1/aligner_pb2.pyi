import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from miclip.v1 import activation_pb2 as _activation_pb2
from miclip.v1 import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AlignmentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALIGNMENT_STATE_UNSPECIFIED: _ClassVar[AlignmentState]
    ALIGNMENT_STATE_QUEUED: _ClassVar[AlignmentState]
    ALIGNMENT_STATE_RUNNING: _ClassVar[AlignmentState]
    ALIGNMENT_STATE_SUCCEEDED: _ClassVar[AlignmentState]
    ALIGNMENT_STATE_FAILED: _ClassVar[AlignmentState]
    ALIGNMENT_STATE_CANCELLED: _ClassVar[AlignmentState]

class TraceMeasure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRACE_MEASURE_UNSPECIFIED: _ClassVar[TraceMeasure]
    TRACE_MEASURE_COSINE: _ClassVar[TraceMeasure]
    TRACE_MEASURE_PROBABILITY: _ClassVar[TraceMeasure]
ALIGNMENT_STATE_UNSPECIFIED: AlignmentState
ALIGNMENT_STATE_QUEUED: AlignmentState
ALIGNMENT_STATE_RUNNING: AlignmentState
ALIGNMENT_STATE_SUCCEEDED: AlignmentState
ALIGNMENT_STATE_FAILED: AlignmentState
ALIGNMENT_STATE_CANCELLED: AlignmentState
TRACE_MEASURE_UNSPECIFIED: TraceMeasure
TRACE_MEASURE_COSINE: TraceMeasure
TRACE_MEASURE_PROBABILITY: TraceMeasure

class AlignmentSettings(_message.Message):
    __slots__ = ("seed", "steps", "output_weight", "input_weight", "temperature")
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    seed: int
    steps: int
    output_weight: float
    input_weight: float
    temperature: float
    def __init__(self, seed: _Optional[int] = ..., steps: _Optional[int] = ..., output_weight: _Optional[float] = ..., input_weight: _Optional[float] = ..., temperature: _Optional[float] = ...) -> None: ...

class Alignment(_message.Message):
    __slots__ = ("name", "model", "probe_set", "layers", "settings", "activate", "state", "stage", "done", "total", "loss", "eta_seconds", "position", "atlas", "error", "create_time", "update_time", "clip_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROBE_SET_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ATLAS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    probe_set: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    settings: AlignmentSettings
    activate: bool
    state: AlignmentState
    stage: str
    done: int
    total: int
    loss: float
    eta_seconds: float
    position: int
    atlas: str
    error: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    clip_id: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., probe_set: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., settings: _Optional[_Union[AlignmentSettings, _Mapping]] = ..., activate: _Optional[bool] = ..., state: _Optional[_Union[AlignmentState, str]] = ..., stage: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., loss: _Optional[float] = ..., eta_seconds: _Optional[float] = ..., position: _Optional[int] = ..., atlas: _Optional[str] = ..., error: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clip_id: _Optional[str] = ...) -> None: ...

class AtlasLayer(_message.Message):
    __slots__ = ("name", "kind", "units", "default_embedding", "metrics", "promise")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: _resources_pb2.LayerKind
    units: int
    default_embedding: _resources_pb2.UnitEmbedding
    metrics: _containers.ScalarMap[str, float]
    promise: _resources_pb2.LayerPromise
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[_resources_pb2.LayerKind, str]] = ..., units: _Optional[int] = ..., default_embedding: _Optional[_Union[_resources_pb2.UnitEmbedding, str]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., promise: _Optional[_Union[_resources_pb2.LayerPromise, _Mapping]] = ...) -> None: ...

class Atlas(_message.Message):
    __slots__ = ("name", "model", "weights_sha256", "clip_id", "clip_dim", "probe_set", "probe_images", "probe_views", "probe_sha256", "settings", "layers", "bytes", "active", "licence", "verdict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    CLIP_DIM_FIELD_NUMBER: _ClassVar[int]
    PROBE_SET_FIELD_NUMBER: _ClassVar[int]
    PROBE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PROBE_VIEWS_FIELD_NUMBER: _ClassVar[int]
    PROBE_SHA256_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    weights_sha256: str
    clip_id: str
    clip_dim: int
    probe_set: str
    probe_images: int
    probe_views: int
    probe_sha256: str
    settings: AlignmentSettings
    layers: _containers.RepeatedCompositeFieldContainer[AtlasLayer]
    bytes: int
    active: bool
    licence: str
    verdict: _resources_pb2.ProbeVerdict
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., clip_id: _Optional[str] = ..., clip_dim: _Optional[int] = ..., probe_set: _Optional[str] = ..., probe_images: _Optional[int] = ..., probe_views: _Optional[int] = ..., probe_sha256: _Optional[str] = ..., settings: _Optional[_Union[AlignmentSettings, _Mapping]] = ..., layers: _Optional[_Iterable[_Union[AtlasLayer, _Mapping]]] = ..., bytes: _Optional[int] = ..., active: _Optional[bool] = ..., licence: _Optional[str] = ..., verdict: _Optional[_Union[_resources_pb2.ProbeVerdict, _Mapping]] = ...) -> None: ...

class EmbedUnitsRequest(_message.Message):
    __slots__ = ("units", "embedding")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedScalarFieldContainer[str]
    embedding: _resources_pb2.UnitEmbedding
    def __init__(self, units: _Optional[_Iterable[str]] = ..., embedding: _Optional[_Union[_resources_pb2.UnitEmbedding, str]] = ...) -> None: ...

class EmbedUnitsResponse(_message.Message):
    __slots__ = ("embeddings", "provenance")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Embedding]
    provenance: _resources_pb2.Provenance
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_resources_pb2.Embedding, _Mapping]]] = ..., provenance: _Optional[_Union[_resources_pb2.Provenance, _Mapping]] = ...) -> None: ...

class EmbedTextsRequest(_message.Message):
    __slots__ = ("texts", "clip_id")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    clip_id: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., clip_id: _Optional[str] = ...) -> None: ...

class EmbedTextsResponse(_message.Message):
    __slots__ = ("embeddings", "clip_id")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Embedding]
    clip_id: str
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_resources_pb2.Embedding, _Mapping]]] = ..., clip_id: _Optional[str] = ...) -> None: ...

class EmbedImagesRequest(_message.Message):
    __slots__ = ("images", "clip_id")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    clip_id: str
    def __init__(self, images: _Optional[_Iterable[bytes]] = ..., clip_id: _Optional[str] = ...) -> None: ...

class EmbedImagesResponse(_message.Message):
    __slots__ = ("embeddings", "clip_id")
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    CLIP_ID_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Embedding]
    clip_id: str
    def __init__(self, embeddings: _Optional[_Iterable[_Union[_resources_pb2.Embedding, _Mapping]]] = ..., clip_id: _Optional[str] = ...) -> None: ...

class LayerTrace(_message.Message):
    __slots__ = ("layer", "scores", "measure")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    scores: _containers.RepeatedScalarFieldContainer[float]
    measure: TraceMeasure
    def __init__(self, layer: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ..., measure: _Optional[_Union[TraceMeasure, str]] = ...) -> None: ...

class ImageTrace(_message.Message):
    __slots__ = ("layers", "predictions")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerTrace]
    predictions: _containers.RepeatedCompositeFieldContainer[_activation_pb2.Prediction]
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerTrace, _Mapping]]] = ..., predictions: _Optional[_Iterable[_Union[_activation_pb2.Prediction, _Mapping]]] = ...) -> None: ...

class TraceImagesRequest(_message.Message):
    __slots__ = ("model", "images", "concepts", "top_k")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    model: str
    images: _containers.RepeatedScalarFieldContainer[bytes]
    concepts: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    def __init__(self, model: _Optional[str] = ..., images: _Optional[_Iterable[bytes]] = ..., concepts: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ...) -> None: ...

class TraceImagesResponse(_message.Message):
    __slots__ = ("results", "provenance", "timings", "labels")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ImageTrace]
    provenance: _resources_pb2.Provenance
    timings: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Timing]
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, results: _Optional[_Iterable[_Union[ImageTrace, _Mapping]]] = ..., provenance: _Optional[_Union[_resources_pb2.Provenance, _Mapping]] = ..., timings: _Optional[_Iterable[_Union[_resources_pb2.Timing, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateAlignmentRequest(_message.Message):
    __slots__ = ("model", "probe_set", "layers", "settings", "activate", "clip")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROBE_SET_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    model: str
    probe_set: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    settings: AlignmentSettings
    activate: bool
    clip: str
    def __init__(self, model: _Optional[str] = ..., probe_set: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., settings: _Optional[_Union[AlignmentSettings, _Mapping]] = ..., activate: _Optional[bool] = ..., clip: _Optional[str] = ...) -> None: ...

class CreateAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class GetAlignmentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class ListAlignmentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAlignmentsResponse(_message.Message):
    __slots__ = ("alignments", "next_page_token")
    ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    alignments: _containers.RepeatedCompositeFieldContainer[Alignment]
    next_page_token: str
    def __init__(self, alignments: _Optional[_Iterable[_Union[Alignment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelAlignmentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CancelAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class WatchAlignmentRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WatchAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class ListAtlasesRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAtlasesResponse(_message.Message):
    __slots__ = ("atlases", "next_page_token")
    ATLASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    atlases: _containers.RepeatedCompositeFieldContainer[Atlas]
    next_page_token: str
    def __init__(self, atlases: _Optional[_Iterable[_Union[Atlas, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetAtlasRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAtlasResponse(_message.Message):
    __slots__ = ("atlas",)
    ATLAS_FIELD_NUMBER: _ClassVar[int]
    atlas: Atlas
    def __init__(self, atlas: _Optional[_Union[Atlas, _Mapping]] = ...) -> None: ...

class ActivateAtlasRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ActivateAtlasResponse(_message.Message):
    __slots__ = ("atlas",)
    ATLAS_FIELD_NUMBER: _ClassVar[int]
    atlas: Atlas
    def __init__(self, atlas: _Optional[_Union[Atlas, _Mapping]] = ...) -> None: ...
