"""Which edits a request gets: its own, or those of the policy that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from miclip.errors import InvalidInput, NotFound, NotReady
from miclip.names import parse_id
from miclip.steering.compiled import CompiledPolicy, compile_policy
from miclip.steering.decision import NOT_STEERED, Decision, Outcome, SteeredRequest, decide, decide_inline
from miclip.steering.edits import CompiledEdits, compile_sample, fingerprint, validate_edits
from miclip.steering.policy import Policy
from miclip.v1 import activation_pb2 as pb
from miclip.v1 import resources_pb2
from services.rpc import Call, Scope
from services.state.policy_cache import PolicyCache
from services.wire import edits as wire

if TYPE_CHECKING:
    from miclip.models.target import TargetModel

Request = pb.PredictRequest | pb.CaptureActivationsRequest
Maximum = Callable[[str, int], float]

_LARGE = 64
"""Edits of one request that are too many to compile between two steps of the event loop."""


class RequestSteering:
    """Decides what requests get, by the policies that this replica knows.

    Args:
        policies: Knows the policies, and keeps what they were compiled to.
    """

    def __init__(self, policies: PolicyCache) -> None:
        self._policies = policies

    async def by_policy(self, name: str, target: TargetModel, call: Call) -> Decision:
        """Decide for a request that names a policy.

        Raises:
            NotFound: there is no such policy, or it has expired.
            InvalidInput: it steers another model.
            NotReady: it is unknown, and the store cannot be reached.
            MiclipError: the model cannot be edited so.
        """
        policy, view = await self._policies.find(parse_id(name, "policies", field="policy"))
        compiled = None if policy is None else await self._compiled(policy, target)
        request = SteeredRequest(target.name, call.request_id, view.stale)
        decision = decide(compiled, view.state.stops, request, datetime.now(UTC))
        _check(decision, name, policy, target.name)
        return decision

    async def inline(
        self, messages: Sequence[resources_pb2.Edit], target: TargetModel, maximum: Maximum, call: Call
    ) -> Decision:
        """Decide for a request with edits of its own.

        Raises:
            PermissionDenied: the caller must not steer.
            MiclipError: an edit is out of range.
        """
        call.principal.require(Scope.STEER)
        compile_ = partial(_compile_inline, messages, target, maximum)
        edits, digest = await asyncio.to_thread(compile_) if len(messages) > _LARGE else compile_()
        if not messages:
            return NOT_STEERED
        if not call.external:  # previews measure edits also while steering is stopped
            return decide_inline(edits, digest, (), SteeredRequest(target.name))
        view = await self._policies.view()
        return decide_inline(edits, digest, view.state.stops, SteeredRequest(target.name, stale=view.stale))

    async def _compiled(self, policy: Policy, target: TargetModel) -> CompiledPolicy:
        if policy.model != target.name:
            return CompiledPolicy(policy)  # never applied, whatever its edits are
        sizes, check = target.layer_sizes, partial(validate_edits, field="policy")
        compile_ = partial(compile_policy, layer_sizes=sizes, check=check, device=target.device)
        return await self._policies.compiled(policy, target.weights_sha256, compile_)


def message_of(decision: Decision, policy: str) -> pb.AppliedSteering:
    """Say what a request met; ``policy`` is the name that it gave, empty for none."""
    return pb.AppliedSteering(
        outcome=f"STEERING_OUTCOME_{decision.outcome.name}",
        policy=policy,
        policy_version=decision.version,
        fingerprint=decision.fingerprint,
        stale=decision.stale,
    )


def _compile_inline(
    messages: Sequence[resources_pb2.Edit], target: TargetModel, maximum: Maximum
) -> tuple[CompiledEdits, str]:
    edits = wire.to_edits(messages, target.name, target.layer_sizes, maximum, field="edits.edits")
    compiled = compile_sample(edits, target.device)
    return compiled, fingerprint(edits) if compiled else ""


def _check(decision: Decision, name: str, policy: Policy | None, model: str) -> None:
    """Raise what the caller is told where the policy cannot be followed."""
    match decision.outcome:
        case Outcome.NOT_FOUND if decision.stale:
            raise NotReady(f"policy: {name} is unknown here, and the store cannot be asked now.", field="policy")
        case Outcome.NOT_FOUND | Outcome.EXPIRED:
            state = "has expired" if policy else "does not exist"
            raise NotFound(f"policy: {name} {state}; ListPolicies shows what there is.", field="policy")
        case Outcome.OTHER_MODEL if policy:
            text = f"policy: {name} steers models/{policy.model}, not models/{model}."
            raise InvalidInput(text, field="policy", allowed=f"a policy of models/{model}")
        case Outcome.UNFIT if decision.problem:
            raise decision.problem.copy()
