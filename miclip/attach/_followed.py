"""What the server has said of policies and stops, made ready for forward passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from miclip.errors import BadArtefact, InvalidInput, MiclipError, NotFound
from miclip.names import parse_layer
from miclip.steering.edits import Edit, Op, compile_edits
from miclip.steering.policy import Policy
from miclip.v1 import resources_pb2
from miclip.v1 import steering_pb2 as pb

_GONE = (pb.POLICY_CHANGE_KIND_DELETED, pb.POLICY_CHANGE_KIND_EXPIRED)


@dataclass(frozen=True)
class Rule:
    """A policy as a forward pass needs it.

    Attributes:
        policy: The policy.
        fingerprint: Of its edits; empty where they change nothing.
        problem: Why this model cannot be edited so; None where it can.
    """

    policy: Policy
    fingerprint: str
    problem: MiclipError | None


@dataclass(frozen=True)
class State:
    """Policies and stops at one moment; replaced as a whole, so that a forward pass sees one of them.

    Attributes:
        rules: By the name of the policy, ``policies/{id}``.
        stops: Ids of the models whose steering is stopped; ``""`` is all of them.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    stops: frozenset[str] = frozenset()


class Known:
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
        self._parts = State({**before.rules, **self._rules(part.policies)}, before.stops)
        if part.last:
            self.state, self._parts, self.whole = self._parts, None, True

    def _changed(self, change: pb.PolicyChange) -> State:
        rules, stops, model = dict(self.state.rules), self.state.stops, change.model.removeprefix("models/")
        if change.kind in _GONE:
            rules.pop(change.name, None)
        elif change.HasField("policy"):
            rules |= self._rules([change.policy])
        elif change.kind == pb.POLICY_CHANGE_KIND_STOPPED:
            stops |= {model}
        elif change.kind == pb.POLICY_CHANGE_KIND_RESUMED:
            stops -= {model}
        return State(rules, stops)

    def _rules(self, messages: Iterable[pb.Policy]) -> dict[str, Rule]:
        return {message.name: self._rule(_policy(message)) for message in messages}

    def _rule(self, policy: Policy) -> Rule:
        name, problem = f"policies/{policy.policy_id}", next(filter(None, map(self._problem, policy.edits)), None)
        if problem is not None:
            return Rule(policy, "", NotFound(f"{name}: {problem}", field="policy"))
        made = compile_edits([policy.edits], self._sizes)
        if not all(bool(one.gain.isfinite().all() and one.bias.isfinite().all()) for one in made.layers.values()):
            text = f"{name}: together, its edits of a unit amount to what is no number."
            return Rule(policy, "", InvalidInput(text, field="policy"))
        return Rule(policy, policy.fingerprint if made else "", None)

    def _problem(self, edit: Edit) -> str:
        units = self._sizes.get(edit.layer)
        if units is None:
            return f"the attached model has no layer {edit.layer!r}; it has {', '.join(self._sizes)}."
        return "" if edit.unit < units else f"{edit.layer!r} has {units} units, no unit {edit.unit}."


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
