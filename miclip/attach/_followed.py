"""What the server has said of policies and stops, made ready for forward passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from miclip.errors import BadArtefact, MiclipError
from miclip.names import parse_layer
from miclip.steering.compiled import CompiledPolicy, check_fit, compile_policy
from miclip.steering.edits import Edit, Op
from miclip.steering.policy import Policy
from miclip.v1 import resources_pb2
from miclip.v1 import steering_pb2 as pb

_GONE = (pb.POLICY_CHANGE_KIND_DELETED, pb.POLICY_CHANGE_KIND_EXPIRED)


@dataclass(frozen=True)
class State:
    """Policies and stops at one moment; replaced as a whole, so that a forward pass sees one of them.

    Attributes:
        policies: Compiled for the attached model, by the name of the policy, ``policies/{id}``.
        stops: Ids of the models whose steering is stopped; ``""`` is all of them.
    """

    policies: Mapping[str, CompiledPolicy] = field(default_factory=dict)
    stops: frozenset[str] = frozenset()


class FollowedPolicies:
    """Follows the messages of one stream and the ones that resume it; written by one thread, read by any.

    Args:
        layer_sizes: Units by name of the layers that can be edited here.
    """

    def __init__(self, layer_sizes: Mapping[str, int]) -> None:
        self._sizes = layer_sizes
        self._parts: State | None = None
        self._clock: tuple[float, datetime] | None = None
        self.state = State()
        self.whole = False
        """Whether all there is has been told."""

    def now(self) -> datetime:
        """The time by the server's clock, which a clock of this machine that is set does not disturb."""
        if self._clock is None:
            return datetime.now(UTC)
        heard, said = self._clock
        return said + timedelta(seconds=time.monotonic() - heard)

    def take(self, message: pb.WatchPoliciesResponse) -> None:
        """Take a message in; raises BadArtefact for a policy that this program is too old for."""
        self._clock = time.monotonic(), message.send_time.ToDatetime(UTC)
        event = message.WhichOneof("event")
        if event == "snapshot":
            self._take_part(message.snapshot)
            return
        self._parts = None  # a snapshot that was cut off is void
        if event == "change":
            self.state = self._changed(message.change)

    def _take_part(self, part: pb.PolicySnapshot) -> None:
        before = State(stops=frozenset(map(_model, part.stops))) if part.first or self._parts is None else self._parts
        self._parts = State({**before.policies, **self._compiled(part.policies)}, before.stops)
        if part.last:
            self.state, self._parts, self.whole = self._parts, None, True

    def _changed(self, change: pb.PolicyChange) -> State:
        policies, stops, model = dict(self.state.policies), self.state.stops, change.model.removeprefix("models/")
        if change.kind in _GONE:
            policies.pop(change.name, None)
        elif change.HasField("policy"):
            policies |= self._compiled([change.policy])
        elif change.kind == pb.POLICY_CHANGE_KIND_STOPPED:
            stops |= {model}
        elif change.kind == pb.POLICY_CHANGE_KIND_RESUMED:
            stops -= {model}
        return State(policies, stops)

    def _compiled(self, messages: Iterable[pb.Policy]) -> dict[str, CompiledPolicy]:
        return {
            message.name: compile_policy(_policy(message), self._sizes, check=partial(_check, message.name))
            for message in messages
        }


def _check(name: str, edits: Sequence[Edit], layer_sizes: Mapping[str, int]) -> None:
    """Check edits as ``check_fit`` does, and say which policy makes them."""
    try:
        check_fit(edits, layer_sizes)
    except MiclipError as error:
        raise type(error)(f"{name}: {error.message}", field=error.field) from None


def _policy(message: pb.Policy) -> Policy:
    return Policy(
        policy_id=message.name.removeprefix("policies/"),
        model=message.model.removeprefix("models/"),
        edits=tuple(map(_edit, message.resolved_edits)),
        version=message.version,
        etag=message.etag,
        ttl_seconds=message.ttl_seconds,
        traffic_share=message.traffic_share if message.HasField("traffic_share") else 1.0,
        updated_at=message.update_time.ToDatetime(UTC),
    )


def _edit(message: resources_pb2.Edit) -> Edit:
    kind = message.WhichOneof("op")
    if kind is None:
        raise BadArtefact("A policy makes an edit that this version of miclip does not know; upgrade it.")
    value: float = getattr(message, kind)
    return Edit(parse_layer(message.layer).layer, message.unit, Op(kind), value, message.reconstruct)


def _model(stop: pb.SteeringStop) -> str:
    return str(stop.model.removeprefix("models/"))
