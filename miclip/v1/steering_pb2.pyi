import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from miclip.v1 import resources_pb2 as _resources_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PolicyChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_CHANGE_KIND_UNSPECIFIED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_CREATED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_UPDATED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_DELETED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_EXPIRED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_STOPPED: _ClassVar[PolicyChangeKind]
    POLICY_CHANGE_KIND_RESUMED: _ClassVar[PolicyChangeKind]
POLICY_CHANGE_KIND_UNSPECIFIED: PolicyChangeKind
POLICY_CHANGE_KIND_CREATED: PolicyChangeKind
POLICY_CHANGE_KIND_UPDATED: PolicyChangeKind
POLICY_CHANGE_KIND_DELETED: PolicyChangeKind
POLICY_CHANGE_KIND_EXPIRED: PolicyChangeKind
POLICY_CHANGE_KIND_STOPPED: PolicyChangeKind
POLICY_CHANGE_KIND_RESUMED: PolicyChangeKind

class ConceptSteering(_message.Message):
    __slots__ = ("text", "top_k", "scale", "layers", "method", "reconstruct", "evidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    top_k: int
    scale: float
    layers: _containers.RepeatedScalarFieldContainer[str]
    method: _resources_pb2.LocalizationMethod
    reconstruct: bool
    evidence: _resources_pb2.LocalizationEvidence
    def __init__(self, text: _Optional[str] = ..., top_k: _Optional[int] = ..., scale: _Optional[float] = ..., layers: _Optional[_Iterable[str]] = ..., method: _Optional[_Union[_resources_pb2.LocalizationMethod, str]] = ..., reconstruct: _Optional[bool] = ..., evidence: _Optional[_Union[_resources_pb2.LocalizationEvidence, _Mapping]] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("name", "model", "concept", "edits", "resolved_edits", "ttl_seconds", "expire_time", "traffic_share", "norm_limit", "description", "version", "etag", "create_time", "update_time", "created_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_EDITS_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_SHARE_FIELD_NUMBER: _ClassVar[int]
    NORM_LIMIT_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    concept: ConceptSteering
    edits: _resources_pb2.EditList
    resolved_edits: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Edit]
    ttl_seconds: int
    expire_time: _timestamp_pb2.Timestamp
    traffic_share: float
    norm_limit: float
    description: str
    version: int
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    created_by: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., concept: _Optional[_Union[ConceptSteering, _Mapping]] = ..., edits: _Optional[_Union[_resources_pb2.EditList, _Mapping]] = ..., resolved_edits: _Optional[_Iterable[_Union[_resources_pb2.Edit, _Mapping]]] = ..., ttl_seconds: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., traffic_share: _Optional[float] = ..., norm_limit: _Optional[float] = ..., description: _Optional[str] = ..., version: _Optional[int] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_by: _Optional[str] = ...) -> None: ...

class SteeringStop(_message.Message):
    __slots__ = ("model", "reason", "stop_time", "stopped_by")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_TIME_FIELD_NUMBER: _ClassVar[int]
    STOPPED_BY_FIELD_NUMBER: _ClassVar[int]
    model: str
    reason: str
    stop_time: _timestamp_pb2.Timestamp
    stopped_by: str
    def __init__(self, model: _Optional[str] = ..., reason: _Optional[str] = ..., stop_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stopped_by: _Optional[str] = ...) -> None: ...

class UnitReceipt(_message.Message):
    __slots__ = ("unit", "mean_before", "mean_after", "target_change")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MEAN_BEFORE_FIELD_NUMBER: _ClassVar[int]
    MEAN_AFTER_FIELD_NUMBER: _ClassVar[int]
    TARGET_CHANGE_FIELD_NUMBER: _ClassVar[int]
    unit: str
    mean_before: float
    mean_after: float
    target_change: float
    def __init__(self, unit: _Optional[str] = ..., mean_before: _Optional[float] = ..., mean_after: _Optional[float] = ..., target_change: _Optional[float] = ...) -> None: ...

class TargetLabel(_message.Message):
    __slots__ = ("label", "share", "images", "change")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    label: str
    share: float
    images: int
    change: float
    def __init__(self, label: _Optional[str] = ..., share: _Optional[float] = ..., images: _Optional[int] = ..., change: _Optional[float] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("target_label", "target_change", "off_target_change", "specificity", "random_target_change", "random_off_target_change", "norm_change", "units", "images", "target_images", "seconds", "measured_on", "targets")
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    TARGET_CHANGE_FIELD_NUMBER: _ClassVar[int]
    OFF_TARGET_CHANGE_FIELD_NUMBER: _ClassVar[int]
    SPECIFICITY_FIELD_NUMBER: _ClassVar[int]
    RANDOM_TARGET_CHANGE_FIELD_NUMBER: _ClassVar[int]
    RANDOM_OFF_TARGET_CHANGE_FIELD_NUMBER: _ClassVar[int]
    NORM_CHANGE_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TARGET_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEASURED_ON_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    target_label: str
    target_change: float
    off_target_change: float
    specificity: float
    random_target_change: float
    random_off_target_change: float
    norm_change: float
    units: _containers.RepeatedCompositeFieldContainer[UnitReceipt]
    images: int
    target_images: int
    seconds: float
    measured_on: str
    targets: _containers.RepeatedCompositeFieldContainer[TargetLabel]
    def __init__(self, target_label: _Optional[str] = ..., target_change: _Optional[float] = ..., off_target_change: _Optional[float] = ..., specificity: _Optional[float] = ..., random_target_change: _Optional[float] = ..., random_off_target_change: _Optional[float] = ..., norm_change: _Optional[float] = ..., units: _Optional[_Iterable[_Union[UnitReceipt, _Mapping]]] = ..., images: _Optional[int] = ..., target_images: _Optional[int] = ..., seconds: _Optional[float] = ..., measured_on: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[TargetLabel, _Mapping]]] = ...) -> None: ...

class CreatePolicyRequest(_message.Message):
    __slots__ = ("policy_id", "policy")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy_id: str
    policy: Policy
    def __init__(self, policy_id: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class CreatePolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "next_page_token", "stops")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    next_page_token: str
    stops: _containers.RepeatedCompositeFieldContainer[SteeringStop]
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., stops: _Optional[_Iterable[_Union[SteeringStop, _Mapping]]] = ...) -> None: ...

class UpdatePolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class UpdatePolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: Policy
    def __init__(self, policy: _Optional[_Union[Policy, _Mapping]] = ...) -> None: ...

class DeletePolicyRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeletePolicyResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PreviewPolicyRequest(_message.Message):
    __slots__ = ("name", "policy", "images", "target_label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    policy: Policy
    images: _containers.RepeatedScalarFieldContainer[bytes]
    target_label: str
    def __init__(self, name: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., images: _Optional[_Iterable[bytes]] = ..., target_label: _Optional[str] = ...) -> None: ...

class PreviewPolicyResponse(_message.Message):
    __slots__ = ("receipt", "resolved_edits", "evidence")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    RESOLVED_EDITS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    resolved_edits: _containers.RepeatedCompositeFieldContainer[_resources_pb2.Edit]
    evidence: _resources_pb2.LocalizationEvidence
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., resolved_edits: _Optional[_Iterable[_Union[_resources_pb2.Edit, _Mapping]]] = ..., evidence: _Optional[_Union[_resources_pb2.LocalizationEvidence, _Mapping]] = ...) -> None: ...

class StopSteeringRequest(_message.Message):
    __slots__ = ("model", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    reason: str
    def __init__(self, model: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StopSteeringResponse(_message.Message):
    __slots__ = ("stops",)
    STOPS_FIELD_NUMBER: _ClassVar[int]
    stops: _containers.RepeatedCompositeFieldContainer[SteeringStop]
    def __init__(self, stops: _Optional[_Iterable[_Union[SteeringStop, _Mapping]]] = ...) -> None: ...

class ResumeSteeringRequest(_message.Message):
    __slots__ = ("model", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    reason: str
    def __init__(self, model: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ResumeSteeringResponse(_message.Message):
    __slots__ = ("stops",)
    STOPS_FIELD_NUMBER: _ClassVar[int]
    stops: _containers.RepeatedCompositeFieldContainer[SteeringStop]
    def __init__(self, stops: _Optional[_Iterable[_Union[SteeringStop, _Mapping]]] = ...) -> None: ...

class WatchPoliciesRequest(_message.Message):
    __slots__ = ("model", "resume_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    resume_token: str
    def __init__(self, model: _Optional[str] = ..., resume_token: _Optional[str] = ...) -> None: ...

class PolicySnapshot(_message.Message):
    __slots__ = ("policies", "stops", "first", "last")
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    stops: _containers.RepeatedCompositeFieldContainer[SteeringStop]
    first: bool
    last: bool
    def __init__(self, policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., stops: _Optional[_Iterable[_Union[SteeringStop, _Mapping]]] = ..., first: _Optional[bool] = ..., last: _Optional[bool] = ...) -> None: ...

class PolicyChange(_message.Message):
    __slots__ = ("kind", "name", "model", "policy", "stop")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    kind: PolicyChangeKind
    name: str
    model: str
    policy: Policy
    stop: SteeringStop
    def __init__(self, kind: _Optional[_Union[PolicyChangeKind, str]] = ..., name: _Optional[str] = ..., model: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., stop: _Optional[_Union[SteeringStop, _Mapping]] = ...) -> None: ...

class PolicyHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchPoliciesResponse(_message.Message):
    __slots__ = ("snapshot", "change", "heartbeat", "resume_token", "heartbeat_seconds", "stale", "send_time")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    snapshot: PolicySnapshot
    change: PolicyChange
    heartbeat: PolicyHeartbeat
    resume_token: str
    heartbeat_seconds: float
    stale: bool
    send_time: _timestamp_pb2.Timestamp
    def __init__(self, snapshot: _Optional[_Union[PolicySnapshot, _Mapping]] = ..., change: _Optional[_Union[PolicyChange, _Mapping]] = ..., heartbeat: _Optional[_Union[PolicyHeartbeat, _Mapping]] = ..., resume_token: _Optional[str] = ..., heartbeat_seconds: _Optional[float] = ..., stale: _Optional[bool] = ..., send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
