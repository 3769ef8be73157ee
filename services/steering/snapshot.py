"""All policies and stops as messages of a size that gRPC carries."""

from __future__ import annotations

from miclip.steering.changes import InForce
from miclip.v1 import steering_pb2 as pb
from miclip.wire.policies import write_policy, write_stop

PART_BYTES = 2**20
"""Size of a message of a snapshot; gRPC's own limit is four times as much."""


def snapshot_parts(in_force: InForce) -> list[pb.PolicySnapshot]:
    """All that is in force, as messages of about ``PART_BYTES``."""
    stops = [write_stop(stop) for _, stop in sorted(in_force.stops.items())]
    parts = [pb.PolicySnapshot(first=True, stops=stops)]
    size = 0
    for _, policy in sorted(in_force.policies.items()):
        message = write_policy(policy)
        if size and size + message.ByteSize() > PART_BYTES:
            parts.append(pb.PolicySnapshot())
            size = 0
        parts[-1].policies.append(message)
        size += message.ByteSize()
    parts[-1].last = True
    return parts
