"""What changed between two states of policies and stops, and of what was written since an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property

from miclip.steering.policy import Policy
from miclip.steering.stop import Stop


class ChangeKind(StrEnum):
    """What happened."""

    CREATED = "created"
    """A policy was made."""
    UPDATED = "updated"
    """A policy has a new version."""
    DELETED = "deleted"
    """A policy was deleted."""
    EXPIRED = "expired"
    """A policy's time to live is over."""
    STOPPED = "stopped"
    """Steering was stopped."""
    RESUMED = "resumed"
    """Steering goes on."""
    OTHER = "other"
    """Something that this program does not know."""


@dataclass(frozen=True)
class PolicyChange:
    """One change.

    Attributes:
        kind: What happened.
        model: Id of the model; empty of a stop of all models.
        policy_id: Id of the policy; empty of a stop.
        policy: The policy as it is now, ``CREATED`` and ``UPDATED`` alone.
        stop: The stop, ``STOPPED`` alone.
    """

    kind: ChangeKind
    model: str
    policy_id: str = ""
    policy: Policy | None = None
    stop: Stop | None = None


@dataclass(frozen=True)
class Written:
    """That a policy was written or deleted, or (with an empty ``policy_id``) that steering was stopped or resumed."""

    policy_id: str
    model: str
    """Id of the model; empty of the stop of all."""


@dataclass(frozen=True)
class InForce:
    """What is in force at one moment.

    Attributes:
        policies: Policies that have not expired, by id.
        stops: By model id; ``""`` is the stop of all models.
        expired: Policies that have expired and are still stored, by id.
    """

    policies: Mapping[str, Policy]
    stops: Mapping[str, Stop]
    expired: Mapping[str, Policy]

    @classmethod
    def of(cls, policies: Mapping[str, Policy], stops: Mapping[str, Stop], model: str, now: datetime) -> InForce:
        """What is in force of ``model`` (empty: of all)."""
        own = {key: policy for key, policy in policies.items() if model in ("", policy.model)}
        expired = {key: policy for key, policy in own.items() if policy.expired(now)}
        own_stops = {key: stop for key, stop in stops.items() if model == "" or key in ("", model)}
        return cls({key: policy for key, policy in own.items() if key not in expired}, own_stops, expired)

    @cached_property
    def next_end(self) -> datetime | None:
        """When the next policy expires, and this is void; None when none does."""
        ends = (policy.expire_time for policy in self.policies.values())
        return min((end for end in ends if end), default=None)


def between(before: InForce, after: InForce) -> list[PolicyChange]:
    """The changes that make ``after`` of ``before``: what stops first, what resumes last."""
    stopped = [_stop_change(model, stop) for model, stop in after.stops.items() if before.stops.get(model) != stop]
    gone = [_gone(key, policy.model, after) for key, policy in before.policies.items() if key not in after.policies]
    resumed = [_stop_change(model, None) for model in before.stops if model not in after.stops]
    return [*stopped, *gone, *_written(before, after), *resumed]


def since(written: Sequence[Written], last: float, now: InForce) -> list[PolicyChange]:
    """The changes behind an earlier state: of each policy and stop what it is now.

    Args:
        written: What was written, deleted, stopped or resumed.
        last: Seconds since the epoch; what expired later is reported.
        now: What is in force.
    """
    stops = [_stop_change(one.model, now.stops.get(one.model)) for one in written if not one.policy_id]
    policies = {one.policy_id: one.model for one in written if one.policy_id}
    then = datetime.fromtimestamp(last, UTC)
    ended = {key: one.model for key, one in now.expired.items() if one.expire_time and one.expire_time > then}
    return stops + [_now(key, model, now) for key, model in {**policies, **ended}.items()]


def _stop_change(model: str, stop: Stop | None) -> PolicyChange:
    """That steering of a model (empty: of all) was stopped, or, without a stop, that it goes on."""
    return PolicyChange(ChangeKind.RESUMED if stop is None else ChangeKind.STOPPED, model, stop=stop)


def _written(before: InForce, after: InForce) -> Iterator[PolicyChange]:
    for key, policy in sorted(after.policies.items(), key=lambda item: item[1].update_time):
        known = before.policies.get(key)
        if known is None or known.etag != policy.etag:
            yield _write_change(policy, new=known is None or policy.version <= known.version)


def _write_change(policy: Policy, *, new: bool) -> PolicyChange:
    kind = ChangeKind.CREATED if new else ChangeKind.UPDATED
    return PolicyChange(kind, policy.model, policy.policy_id, policy)


def _gone(policy_id: str, model: str, now: InForce) -> PolicyChange:
    kind = ChangeKind.EXPIRED if policy_id in now.expired else ChangeKind.DELETED
    return PolicyChange(kind, model, policy_id)


def _now(policy_id: str, model: str, now: InForce) -> PolicyChange:
    policy = now.policies.get(policy_id)
    return _gone(policy_id, model, now) if policy is None else _write_change(policy, new=policy.version == 1)
