"""What changed between two states of policies and stops, and since a position in the change stream."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from miclip.errors import InvalidInput
from miclip.names import check_id
from miclip.v1 import steering_pb2 as pb
from services.state.policy_store import Change, SteeringState, Stop, StoredPolicy
from services.steering.messages import policy_message, stop_message, stop_messages

PART_BYTES = 2**20
"""Size of a message of a snapshot; gRPC's own limit is four times as much."""
_TOKEN = re.compile(r"(\d{1,20}-\d{1,20}) (\d{1,11}\.\d{3}) (.{0,128})", re.ASCII)


@dataclass(frozen=True)
class InForce:
    """What is in force at one moment.

    Attributes:
        policies: Policies that have not expired, by id.
        stops: By model id; ``""`` is the stop of all models.
        expired: Policies that have expired and still lie in the store, by id.
        state: What it was made of.
    """

    policies: Mapping[str, StoredPolicy]
    stops: Mapping[str, Stop]
    expired: Mapping[str, StoredPolicy]
    state: SteeringState

    @classmethod
    def of(cls, state: SteeringState, model: str, now: datetime) -> InForce:
        """What is in force of ``model`` (empty: of all)."""
        own = {key: one for key, one in state.policies.items() if model in ("", one.model)}
        expired = {key: one for key, one in own.items() if one.expired(now)}
        stops = {key: one for key, one in state.stops.items() if model == "" or key in ("", model)}
        return cls({key: one for key, one in own.items() if key not in expired}, stops, expired, state)

    @cached_property
    def next_end(self) -> datetime | None:
        """When the next policy expires, and this is void; None when none does."""
        return min((one.expires_at for one in self.policies.values() if one.expires_at), default=None)

    @cached_property
    def snapshot(self) -> list[pb.PolicySnapshot]:
        """All of it as messages of about ``PART_BYTES``."""
        parts, size = [pb.PolicySnapshot(first=True, stops=stop_messages(self.stops))], 0
        for _, policy in sorted(self.policies.items()):
            message = policy_message(policy)
            if size and size + message.ByteSize() > PART_BYTES:
                parts.append(pb.PolicySnapshot())
                size = 0
            parts[-1].policies.append(message)
            size += message.ByteSize()
        parts[-1].last = True
        return parts


@dataclass(frozen=True)
class Position:
    """How far a stream has told: a position in the change stream, a moment, and the model it is about."""

    cursor: str
    at: float
    """Seconds since the epoch; what expired before was told."""
    model: str

    def token(self) -> str:
        """The position as clients send it back."""
        return base64.urlsafe_b64encode(f"{self.cursor} {self.at:.3f} {self.model}".encode()).decode()

    @classmethod
    def parse(cls, token: str) -> Position:
        """The position of a token; raises InvalidInput for one that was not made here."""
        try:
            found = _TOKEN.fullmatch(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode())
        except (ValueError, binascii.Error):
            found = None
        if found is None:
            text = "resume_token is not one that WatchPolicies sent; leave it empty to start with all there is."
            raise InvalidInput(text, field="resume_token", allowed="the resume_token of an earlier message")
        cursor, at, model = found.groups()
        return cls(cursor, float(at), check_id(model, field="resume_token") if model else "")


def between(before: InForce, after: InForce) -> list[pb.PolicyChange]:
    """The changes that make ``after`` of ``before``: what stops first, what resumes last."""
    stopped = [_stop_change(model, stop) for model, stop in after.stops.items() if before.stops.get(model) != stop]
    gone = [_gone(key, one.model, after) for key, one in before.policies.items() if key not in after.policies]
    resumed = [_stop_change(model, None) for model in before.stops if model not in after.stops]
    return [*stopped, *gone, *_written(before, after), *resumed]


def since(changes: Sequence[Change], last: float, now: InForce) -> list[pb.PolicyChange]:
    """The changes behind a position: of each policy and stop what it is now.

    Args:
        changes: What was written, deleted, stopped or resumed.
        last: Seconds since the epoch; what expired later is told.
        now: What is in force.
    """
    stops = [_stop_change(one.model, now.stops.get(one.model)) for one in changes if not one.policy_id]
    policies = {one.policy_id: one.model for one in changes if one.policy_id}
    then = datetime.fromtimestamp(last, UTC)
    ended = {key: one.model for key, one in now.expired.items() if one.expires_at and one.expires_at > then}
    return stops + [_now(key, model, now) for key, model in {**policies, **ended}.items()]


def _stop_change(model: str, stop: Stop | None) -> pb.PolicyChange:
    """That steering of a model (empty: of all) was stopped, or, without a stop, that it goes on."""
    kind = pb.POLICY_CHANGE_KIND_RESUMED if stop is None else pb.POLICY_CHANGE_KIND_STOPPED
    name = f"models/{model}" if model else ""
    return pb.PolicyChange(kind=kind, model=name, stop=None if stop is None else stop_message(model, stop))


def _written(before: InForce, after: InForce) -> Iterator[pb.PolicyChange]:
    for key, policy in sorted(after.policies.items(), key=lambda item: item[1].updated_at):
        known = before.policies.get(key)
        if known is None or known.etag != policy.etag:
            yield _write_change(policy, new=known is None or policy.version <= known.version)


def _write_change(policy: StoredPolicy, *, new: bool) -> pb.PolicyChange:
    kind = pb.POLICY_CHANGE_KIND_CREATED if new else pb.POLICY_CHANGE_KIND_UPDATED
    message = policy_message(policy)
    return pb.PolicyChange(kind=kind, name=message.name, model=message.model, policy=message)


def _gone(policy_id: str, model: str, now: InForce) -> pb.PolicyChange:
    expired = policy_id in now.expired
    kind = pb.POLICY_CHANGE_KIND_EXPIRED if expired else pb.POLICY_CHANGE_KIND_DELETED
    return pb.PolicyChange(kind=kind, name=f"policies/{policy_id}", model=f"models/{model}")


def _now(policy_id: str, model: str, now: InForce) -> pb.PolicyChange:
    policy = now.policies.get(policy_id)
    return _gone(policy_id, model, now) if policy is None else _write_change(policy, new=policy.version == 1)
