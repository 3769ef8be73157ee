"""Policies, stops and changes of them as messages, and back."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError

from miclip.errors import BadArtefact, InvalidInput
from miclip.names import parse_layer
from miclip.steering.changes import ChangeKind, PolicyChange
from miclip.steering.policy import ConceptSteering, Conditions, Policy, by_hand
from miclip.steering.stop import Stop
from miclip.steering.watching import PolicySnapshot, WatchMessage
from miclip.v1 import resources_pb2
from miclip.v1 import steering_pb2 as pb
from miclip.wire.common import read_evidence, write_evidence
from miclip.wire.edits import full_layer, read_edits, write_edits
from miclip.wire.times import read_time, write_time

_METHOD = "LOCALIZATION_METHOD_"
_KIND = "POLICY_CHANGE_KIND_"


def write_policy(policy: Policy) -> pb.Policy:
    """A policy as its message.

    Raises:
        InvalidInput: the message cannot hold a value.
    """
    try:
        message = pb.Policy(
            name=policy.name if policy.policy_id else "",
            model=f"models/{policy.model}",
            resolved_edits=write_edits(policy.edits, policy.model),
            version=policy.version,
            etag=policy.etag,
            create_time=write_time(policy.create_time),
            update_time=write_time(policy.update_time),
            expire_time=write_time(policy.expire_time) if policy.expire_time else None,
            created_by=policy.created_by,
        )
        _write_conditions(policy, message)
        if policy.concept:
            message.concept.CopyFrom(_write_concept(policy.concept, policy.model))
            return message
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"Policy: {error}") from error
    asked = write_edits(policy.requested or policy.edits, policy.model)
    message.edits.CopyFrom(resources_pb2.EditList(edits=asked))
    return message


def read_policy(message: pb.Policy) -> Policy:
    """A policy that a server sent.

    Raises:
        BadArtefact: this program is too old for it.
    """
    fields = read_conditions(message)
    if message.WhichOneof("steering") == "concept":
        fields["concept"] = read_concept(message.concept)
    else:
        fields |= by_hand(read_edits(message.edits.edits))
    fields |= {
        "policy_id": message.name.removeprefix("policies/"),
        "model": message.model.removeprefix("models/"),
        "edits": read_edits(message.resolved_edits),
        "version": message.version,
        "etag": message.etag,
        "create_time": read_time(message.create_time),
        "update_time": read_time(message.update_time),
        "created_by": message.created_by,
    }
    try:
        return Policy.model_validate(fields)
    except ValidationError as error:
        raise BadArtefact(f"{message.name} is a policy that this version of miclip cannot read; upgrade it.") from error


def read_conditions(message: pb.Policy) -> dict[str, Any]:
    """The conditions that a message sets, by name; those that are not set are left to their defaults."""
    values: dict[str, Any] = {}
    for name in Conditions.model_fields:
        value, field = getattr(message, name), message.DESCRIPTOR.fields_by_name[name]
        if not field.has_presence or message.HasField(name):
            values[name] = read_time(value) if isinstance(value, Timestamp) else value
    return values


def _write_conditions(policy: Conditions, message: pb.Policy) -> None:
    for name in Conditions.model_fields:
        value, field = getattr(policy, name), message.DESCRIPTOR.fields_by_name[name]
        if value is None:
            continue
        if field.message_type:
            getattr(message, name).CopyFrom(write_time(value))
        else:
            setattr(message, name, int(value) if field.cpp_type == field.CPPTYPE_UINT64 else value)


def _write_concept(concept: ConceptSteering, model: str) -> pb.ConceptSteering:
    method = f"{_METHOD}{(concept.method or 'unspecified').upper()}"
    return pb.ConceptSteering(
        text=concept.text,
        top_k=concept.top_k,
        scale=concept.scale,
        layers=[full_layer(layer, model) for layer in concept.layers],
        method=method,
        reconstruct=concept.reconstruct,
        evidence=write_evidence(concept.evidence) if concept.evidence else None,
    )


def read_concept(message: pb.ConceptSteering) -> ConceptSteering:
    """A concept with its choices; its layers must be names."""
    method = resources_pb2.LocalizationMethod.Name(message.method).removeprefix(_METHOD).lower()
    values = {
        "text": message.text,
        "top_k": message.top_k if message.HasField("top_k") else None,
        "scale": message.scale if message.HasField("scale") else None,
        "layers": tuple(parse_layer(layer).layer for layer in message.layers),
        "method": None if method == "unspecified" else method,
        "reconstruct": message.reconstruct,
        "evidence": read_evidence(message.evidence) if message.HasField("evidence") else None,
    }
    return ConceptSteering.model_validate(values)


def write_stop(stop: Stop) -> pb.SteeringStop:
    """A stop as its message."""
    return pb.SteeringStop(
        model=_model_name(stop.model),
        reason=stop.reason,
        stop_time=write_time(stop.stop_time),
        stopped_by=stop.stopped_by,
    )


def read_stop(message: pb.SteeringStop) -> Stop:
    """A stop that a server sent."""
    return Stop(
        model=message.model.removeprefix("models/"),
        reason=message.reason,
        stop_time=read_time(message.stop_time),
        stopped_by=message.stopped_by,
    )


def write_change(change: PolicyChange) -> pb.PolicyChange:
    """A change as its message."""
    return pb.PolicyChange(
        kind=f"{_KIND}{change.kind.name}",
        name=f"policies/{change.policy_id}" if change.policy_id else "",
        model=_model_name(change.model),
        policy=write_policy(change.policy) if change.policy else None,
        stop=write_stop(change.stop) if change.stop else None,
    )


def read_change(message: pb.PolicyChange) -> PolicyChange:
    """A change that a server sent; of a kind that this program does not know yet, ``OTHER``."""
    known = {kind.name: kind for kind in ChangeKind}
    names = {value: name.removeprefix(_KIND) for name, value in pb.PolicyChangeKind.items()}
    return PolicyChange(
        kind=known.get(names.get(message.kind, ""), ChangeKind.OTHER),
        model=message.model.removeprefix("models/"),
        policy_id=message.name.removeprefix("policies/"),
        policy=read_policy(message.policy) if message.HasField("policy") else None,
        stop=read_stop(message.stop) if message.HasField("stop") else None,
    )


def _model_name(model: str) -> str:
    return f"models/{model}" if model else ""


def read_watch_message(message: pb.WatchPoliciesResponse) -> WatchMessage:
    """A message of a watch."""
    event = message.WhichOneof("event")
    return WatchMessage(
        send_time=read_time(message.send_time),
        resume_token=message.resume_token,
        heartbeat_seconds=message.heartbeat_seconds,
        stale=message.stale,
        snapshot=_read_snapshot(message.snapshot) if event == "snapshot" else None,
        change=read_change(message.change) if event == "change" else None,
    )


def _read_snapshot(part: pb.PolicySnapshot) -> PolicySnapshot:
    policies = tuple(map(read_policy, part.policies))
    return PolicySnapshot(policies, tuple(map(read_stop, part.stops)), part.first, part.last)
