"""Stored policies and stops as messages."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import json_format

from miclip.v1 import steering_pb2 as pb
from services.state.policy_store import Stop, StoredPolicy
from services.wire import edits as wire


def policy_message(policy: StoredPolicy) -> pb.Policy:
    """A stored policy as its message."""
    edits = [wire.from_edit(edit, policy.model) for edit in policy.edits]
    message = pb.Policy(
        name=f"policies/{policy.policy_id}",
        model=f"models/{policy.model}",
        resolved_edits=edits,
        ttl_seconds=int(policy.ttl_seconds),
        traffic_share=policy.traffic_share,
        norm_limit=policy.norm_limit,
        description=policy.description,
        version=policy.version,
        etag=policy.etag,
        create_time=wire.timestamp(policy.created_at),
        update_time=wire.timestamp(policy.updated_at),
        created_by=policy.created_by,
    )
    message.MergeFrom(json_format.Parse(policy.asked, pb.Policy()))
    if policy.expires_at is not None:
        message.expire_time.CopyFrom(wire.timestamp(policy.expires_at))
    return message


def stop_message(model: str, stop: Stop) -> pb.SteeringStop:
    """A stop as its message; an empty ``model`` is all models."""
    return pb.SteeringStop(
        model=f"models/{model}" if model else "",
        reason=stop.reason,
        stop_time=wire.timestamp(stop.stopped_at),
        stopped_by=stop.stopped_by,
    )


def stop_messages(stops: Mapping[str, Stop]) -> list[pb.SteeringStop]:
    """Stops as messages, in order of their models."""
    return [stop_message(model, stop) for model, stop in sorted(stops.items())]
