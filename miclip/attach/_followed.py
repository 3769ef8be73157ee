"""What the server has said of policies and stops, made ready for forward passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from miclip.errors import MiclipError
from miclip.steering.changes import ChangeKind, PolicyChange
from miclip.steering.compiled import CompiledPolicy, check_fit, compile_policy
from miclip.steering.edits import Edit
from miclip.steering.policy import Policy
from miclip.steering.watching import PolicySnapshot, WatchMessage


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

    def take(self, message: WatchMessage) -> None:
        """Take a message in."""
        self._clock = time.monotonic(), message.send_time
        if message.snapshot:
            self._take_part(message.snapshot)
            return
        self._parts = None  # a snapshot that was cut off is void
        if message.change:
            self.state = self._changed(message.change)

    def _take_part(self, part: PolicySnapshot) -> None:
        stops = frozenset(stop.model for stop in part.stops)
        before = State(stops=stops) if part.first or self._parts is None else self._parts
        self._parts = State({**before.policies, **self._compiled(part.policies)}, before.stops)
        if part.last:
            self.state, self._parts, self.whole = self._parts, None, True

    def _changed(self, change: PolicyChange) -> State:
        policies, stops = dict(self.state.policies), self.state.stops
        if change.kind in (ChangeKind.DELETED, ChangeKind.EXPIRED):
            policies.pop(f"policies/{change.policy_id}", None)
        elif change.policy:
            policies |= self._compiled([change.policy])
        elif change.kind is ChangeKind.STOPPED:
            stops |= {change.model}
        elif change.kind is ChangeKind.RESUMED:
            stops -= {change.model}
        return State(policies, stops)

    def _compiled(self, policies: Iterable[Policy]) -> dict[str, CompiledPolicy]:
        return {
            policy.name: compile_policy(policy, self._sizes, check=partial(_check, policy.name)) for policy in policies
        }


def _check(name: str, edits: Sequence[Edit], layer_sizes: Mapping[str, int]) -> None:
    """Check edits as ``check_fit`` does, and say which policy makes them."""
    try:
        check_fit(edits, layer_sizes)
    except MiclipError as error:
        raise type(error)(f"{name}: {error.message}", field=error.field) from None
