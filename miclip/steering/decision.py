"""What a request that names a policy gets: the one place of the rules, for the activation service and for attach."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from miclip.errors import MiclipError
from miclip.steering.compiled import CompiledPolicy
from miclip.steering.edits import NO_EDITS, CompiledEdits


class Outcome(StrEnum):
    """What became of the steering that a request asked for."""

    NONE = "none"
    """It asked for none, or the edits change nothing."""
    APPLIED = "applied"
    """The edits are made."""
    STOPPED = "stopped"
    """Not applied: the kill switch is on."""
    NOT_IN_SHARE = "not_in_share"
    """Not applied: the request is not in the policy's share of the traffic."""
    NOT_FOUND = "not_found"
    """Not applied: there is no such policy."""
    EXPIRED = "expired"
    """Not applied: the policy's time to live is over."""
    OTHER_MODEL = "other_model"
    """Not applied: the policy steers another model."""
    UNFIT = "unfit"
    """Not applied: the model cannot be edited so; see ``Decision.problem``."""


@dataclass(frozen=True)
class SteeredRequest:
    """What the rules know of a request.

    Attributes:
        model: Id of the model that it asks.
        request_id: Its id, which a policy's share of the traffic is drawn from.
        stale: Whether the policies could not be refreshed when it came.
    """

    model: str
    request_id: str = ""
    stale: bool = False


@dataclass(frozen=True)
class Decision:
    """What a request gets.

    Attributes:
        outcome: What became of the steering.
        edits: The edits to make; empty unless ``APPLIED``.
        fingerprint: Of those edits; empty unless ``APPLIED``.
        version: Version of the policy; 0 where there is none.
        stale: Whether the policies could not be refreshed.
        problem: Why the model cannot be edited so; only where ``UNFIT``.
    """

    outcome: Outcome
    edits: CompiledEdits = NO_EDITS
    fingerprint: str = ""
    version: int = 0
    stale: bool = False
    problem: MiclipError | None = None


NOT_STEERED = Decision(Outcome.NONE)
"""The decision for a request that asks for no steering."""


def decide(policy: CompiledPolicy | None, stops: Container[str], request: SteeredRequest, now: datetime) -> Decision:
    """Decide what a request that names a policy gets.

    The first rule that holds decides: no such policy, expired, of another model, not in its share of the traffic,
    stopped, edits that do not fit the model, edits that change nothing.

    Args:
        policy: The policy that it names, compiled for the model of the request; ``None`` where there is none.
        stops: Ids of the models whose steering is stopped; ``""`` is all of them.
        request: The request.
        now: The moment at which it is decided, with its time zone.
    """
    if policy is None:
        return Decision(Outcome.NOT_FOUND, stale=request.stale)
    outcome = _outcome(policy, stops, request, now)
    version, problem = policy.policy.version, policy.problem if outcome is Outcome.UNFIT else None
    if outcome is Outcome.APPLIED:
        return Decision(outcome, policy.edits, policy.fingerprint, version, request.stale)
    return Decision(outcome, version=version, stale=request.stale, problem=problem)


def decide_inline(edits: CompiledEdits, fingerprint: str, stops: Container[str], request: SteeredRequest) -> Decision:
    """Decide what a request with edits of its own gets: the kill switch stops those too.

    Args:
        edits: Its edits, valid and compiled for the model.
        fingerprint: Of the edits.
        stops: As for :func:`decide`; empty where the edits are to be made also while steering is stopped.
        request: The request.
    """
    if is_stopped(stops, request.model):
        return Decision(Outcome.STOPPED, stale=request.stale)
    if not edits:
        return Decision(Outcome.NONE, stale=request.stale)
    return Decision(Outcome.APPLIED, edits, fingerprint, stale=request.stale)


def is_stopped(stops: Container[str], model: str) -> bool:
    """Return whether the kill switch stops a model, by itself or with all others."""
    return "" in stops or model in stops


def _outcome(compiled: CompiledPolicy, stops: Container[str], request: SteeredRequest, now: datetime) -> Outcome:
    policy = compiled.policy
    rules: tuple[tuple[Outcome, Callable[[], bool]], ...] = (
        (Outcome.EXPIRED, lambda: policy.expired(now)),
        (Outcome.OTHER_MODEL, lambda: policy.model != request.model),
        (Outcome.NOT_IN_SHARE, lambda: not policy.applies_to(request.request_id)),
        (Outcome.STOPPED, lambda: is_stopped(stops, request.model)),
        (Outcome.UNFIT, lambda: compiled.problem is not None),
        (Outcome.NONE, lambda: not compiled.edits),
    )
    return next((outcome for outcome, holds in rules if holds()), Outcome.APPLIED)
