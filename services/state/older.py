"""Policies and stops as earlier versions stored them, in the form of this one."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from miclip.errors import BadArtefact
from miclip.steering.policy import Policy, by_hand
from miclip.steering.stop import Stop
from miclip.v1 import steering_pb2 as pb
from miclip.wire.edits import read_edits
from miclip.wire.policies import read_concept


def older_policy(text: bytes) -> Policy:
    """A policy that held what was asked for as the JSON of a message; raises BadArtefact."""
    try:
        fields: dict[str, Any] = json.loads(text)
        asked = json_format.Parse(fields.pop("asked"), pb.Policy())
        fields["create_time"], fields["update_time"] = fields.pop("created_at"), fields.pop("updated_at")
    except (ValueError, TypeError, AttributeError, KeyError, json_format.Error) as error:
        raise BadArtefact("A stored policy is broken or newer than this program.") from error
    by_concept = asked.WhichOneof("steering") == "concept"
    concept = read_concept(asked.concept).model_dump() if by_concept else None
    requested = by_hand(read_edits(asked.edits.edits)).get("requested", ())
    return Policy.from_json(json.dumps({**fields, "concept": concept, "requested": [vars(one) for one in requested]}))


def older_stop(model: str, text: bytes) -> Stop:
    """A stop that did not hold its model."""
    fields = json.loads(text)
    return Stop(model=model, reason=fields["reason"], stop_time=fields["stopped_at"], stopped_by=fields["stopped_by"])
