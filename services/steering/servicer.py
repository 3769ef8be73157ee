"""The steering service: policies, previews and the kill switch. It never touches an image of the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from ray import serve

from miclip.errors import Conflict, InvalidInput, NotFound, NotReady
from miclip.names import parse_id, parse_model
from miclip.steering.policy import Policy
from miclip.steering.stop import Stop
from miclip.v1 import activation_pb2
from miclip.v1 import steering_pb2 as pb
from miclip.wire.policies import write_policy, write_stop
from miclip.wire.receipts import write_receipt
from services.metrics import series
from services.rpc import Call, Scope, Servicer, check_size, check_text, page_of, rpc
from services.state.policy_cache import PolicyCache
from services.steering.atlas_probes import atlas_norm_change
from services.steering.probes import GivenProbes, Probes, known_probes, no_probes
from services.steering.receipts import Measurer
from services.steering.resolver import Resolver, policy_id
from services.steering.watch import PolicyWatch


class SteeringServicer(Servicer):
    """Translates; ``miclip.steering`` defines policies, ``services.state.policy_store`` keeps them."""

    application = "steering"
    descriptor = pb.DESCRIPTOR.services_by_name["SteeringService"]

    async def start(self) -> None:
        """Connect to the other services."""
        activation = self.peer("activation")
        self.resolver = Resolver(activation, self.peer("retrieval"), self.settings)
        self.measurer = Measurer(
            activation,
            self.peer("aligner"),
            max_images=self.settings.max_images,
            max_texts=self.settings.max_texts,
        )
        self.policies = PolicyCache(self.store, self.application)
        self.policies.start()
        self.watch = PolicyWatch(self.policies, self.store, self.settings)
        self._background = asyncio.create_task(self.watch.end_with_the_replica())

    @rpc(Scope.STEER)
    async def CreatePolicy(self, request: pb.CreatePolicyRequest, call: Call) -> pb.CreatePolicyResponse:
        """Resolve, check and store a new policy."""
        _required(request, "policy")
        new_id = policy_id(request.policy_id)
        fields = await self._fields(request.policy)
        policy = Policy(policy_id=new_id, created_by=call.principal.key_id, **fields)
        await self._check_norm(policy)
        await self._delete_if_expired(new_id)
        await self.store.create_policy(policy, _audit("create", call, policy), self.settings.max_policies)
        series.POLICY_CHANGES.labels("create").inc()
        return pb.CreatePolicyResponse(policy=write_policy(policy))

    @rpc(Scope.READ)
    async def GetPolicy(self, request: pb.GetPolicyRequest, call: Call) -> pb.GetPolicyResponse:
        """Read a policy."""
        return pb.GetPolicyResponse(policy=write_policy(await self._live(request.name, "name")))

    @rpc(Scope.READ)
    async def ListPolicies(self, request: pb.ListPoliciesRequest, call: Call) -> pb.ListPoliciesResponse:
        """List policies, of one model or all."""
        model = parse_model(request.model, field="model").model if request.model else ""
        state = (await self.policies.newest()).state
        live = [p for _, p in sorted(state.policies.items()) if not p.expired() and model in ("", p.model)]
        page, token = page_of(live, request, self.settings.max_page_size)
        return pb.ListPoliciesResponse(
            policies=[write_policy(policy) for policy in page],
            next_page_token=token,
            stops=_stop_messages(state.stops),
        )

    @rpc(Scope.STEER)
    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, call: Call) -> pb.UpdatePolicyResponse:
        """Replace a policy by its next version."""
        _required(request, "policy")
        current = await self._live(request.policy.name, "policy.name")
        if not request.policy.etag:
            text = "policy.etag is required, as GetPolicy returned it."
            raise InvalidInput(text, field="policy.etag", allowed="the policy's current etag")
        if request.policy.model != f"models/{current.model}":
            text = f"policy.model: a policy stays with its model, models/{current.model}."
            raise InvalidInput(text, field="policy.model", allowed=f"models/{current.model}")
        fields = await self._fields(request.policy)
        policy = current.changed(**fields, created_by=call.principal.key_id)
        await self._check_norm(policy)
        try:
            await self.store.replace_policy(policy, request.policy.etag, _audit("update", call, policy))
        except (Conflict, NotFound) as error:
            error.rename(f"policy.{error.field}")
            raise
        series.POLICY_CHANGES.labels("update").inc()
        return pb.UpdatePolicyResponse(policy=write_policy(policy))

    @rpc(Scope.STEER)
    async def DeletePolicy(self, request: pb.DeletePolicyRequest, call: Call) -> pb.DeletePolicyResponse:
        """Delete a policy."""
        policy = await self._live(request.name, "name")
        await self.store.delete_policy(policy.policy_id, request.etag, _audit("delete", call, policy))
        series.POLICY_CHANGES.labels("delete").inc()
        return pb.DeletePolicyResponse()

    @rpc(Scope.STEER)
    async def PreviewPolicy(self, request: pb.PreviewPolicyRequest, call: Call) -> pb.PreviewPolicyResponse:
        """Measure a stored or proposed policy on images."""
        subject = request.WhichOneof("subject")
        if subject is None:
            raise InvalidInput("The request names no policy.", field="name", allowed="one of name, policy")
        check_size(request.images, "images", 0, self.settings.max_images)
        if subject == "name":
            policy = await self._live(request.name, "name")
        else:
            fields = await self._fields(request.policy)
            policy = Policy(policy_id="preview", **fields)
        model = await self.resolver.model(f"models/{policy.model}", "policy.model")
        probes: Probes | None = GivenProbes(request.images)
        if not request.images:
            probes = await asyncio.to_thread(known_probes, model, self.settings)
        if probes is None:
            raise no_probes(model, "images")
        with series.stage(self.application, "measure"):
            receipt = await self.measurer.receipt(
                model, policy.edits, probes, concept=policy.concept, target_label=request.target_label
            )
        if subject == "name":
            entry = _audit("preview", call, policy) | {"receipt": json_format.MessageToDict(write_receipt(receipt))}
            await self.store.record(entry)
        message = write_policy(policy)
        evidence = message.concept.evidence if message.concept.HasField("evidence") else None
        return pb.PreviewPolicyResponse(
            receipt=write_receipt(receipt), resolved_edits=message.resolved_edits, evidence=evidence
        )

    @rpc(Scope.STEER)
    async def StopSteering(self, request: pb.StopSteeringRequest, call: Call) -> pb.StopSteeringResponse:
        """Stop steering one model or all."""
        model, reason = await self._scope(request.model), self._reason(request.reason)
        stop = Stop(model=model, reason=reason, stop_time=datetime.now(UTC), stopped_by=call.principal.key_id)
        await self.store.set_stop(model, stop, _audit("stop", call) | {"model": model, "reason": reason})
        series.POLICY_CHANGES.labels("stop").inc()
        return pb.StopSteeringResponse(stops=_stop_messages(await self.store.stops()))

    @rpc(Scope.STEER)
    async def ResumeSteering(self, request: pb.ResumeSteeringRequest, call: Call) -> pb.ResumeSteeringResponse:
        """Let requests be steered again."""
        model, reason = await self._scope(request.model), self._reason(request.reason)
        await self.store.set_stop(model, None, _audit("resume", call) | {"model": model, "reason": reason})
        series.POLICY_CHANGES.labels("resume").inc()
        return pb.ResumeSteeringResponse(stops=_stop_messages(await self.store.stops()))

    @rpc(Scope.READ)
    async def WatchPolicies(
        self, request: pb.WatchPoliciesRequest, call: Call
    ) -> AsyncIterator[pb.WatchPoliciesResponse]:
        """Stream policies and stops, then their changes."""
        model = parse_model(request.model, field="model").model if request.model else ""
        async with contextlib.aclosing(self.watch.messages(model, request.resume_token)) as messages:
            async for message in messages:
                yield message

    async def _fields(self, policy: pb.Policy) -> dict[str, Any]:
        with series.stage(self.application, "resolve"):
            return await self.resolver.fields(policy, "policy")

    async def _live(self, name: str, field: str) -> Policy:
        asked = parse_id(name, "policies", field=field)
        try:
            policy = await self.store.policy(asked)
        except NotFound as error:
            error.rename(field)
            raise
        if policy.expired():
            raise NotFound(f"{field}: {name} has expired.", field=field)
        return policy

    async def _delete_if_expired(self, policy_id: str) -> None:
        """Delete an expired policy, so that its id is free again."""
        with contextlib.suppress(NotFound):
            policy = await self.store.policy(policy_id)
            if policy.expired():
                entry = {"action": "expire", "at": time.time(), "policy": policy_id}
                await self.store.delete_policy(policy_id, policy.etag, entry)

    async def _check_norm(self, policy: Policy) -> None:
        if not policy.norm_limit:
            return
        model = await self.resolver.model(f"models/{policy.model}", "policy.model")
        change = await self._norm_change(model, policy)
        if not change <= policy.norm_limit:  # also refuses NaN
            text = (
                f"policy.norm_limit is {policy.norm_limit:g}, but the edits change a layer by {change:.3g} times its "
                "typical norm. Use milder edits or fewer units, or raise the limit."
            )
            raise InvalidInput(text, field="policy.norm_limit", allowed=f"{change:.3g} or more for these edits")

    async def _norm_change(self, model: activation_pb2.Model, policy: Policy) -> float:
        """Measured on images; where the server has none of the model, computed from what its atlas stores."""
        probes = await asyncio.to_thread(known_probes, model, self.settings)
        if probes is not None:
            return await self.measurer.norm_change(model, policy.edits, probes)
        change = await asyncio.to_thread(atlas_norm_change, model, policy.edits)
        if change is None:
            raise no_probes(model, "policy.norm_limit")
        return change

    async def _scope(self, model: str) -> str:
        """Id of the model, empty for all; a model that does not exist is refused while that can be known."""
        if not model:
            return ""
        parsed = parse_model(model, field="model")
        with contextlib.suppress(NotReady):  # the kill switch works also while the activation service does not
            await self.resolver.model(model, "model")
        return parsed.model

    def _reason(self, reason: str) -> str:
        return check_text(reason, "reason", self.settings.max_text_chars)


def _required(request: Any, field: str) -> None:
    if not request.HasField(field):
        raise InvalidInput(f"{field} is required.", field=field, allowed="a policy")


def _stop_messages(stops: Mapping[str, Stop]) -> list[pb.SteeringStop]:
    return [write_stop(stop) for _, stop in sorted(stops.items())]


def _audit(action: str, call: Call, policy: Policy | None = None) -> dict[str, Any]:
    """Who did what when; the values that say what a policy does are in its fingerprint and the policy itself."""
    entry: dict[str, Any] = {
        "action": action,
        "at": time.time(),
        "by": call.principal.key_id,
        "request_id": call.request_id,
    }
    if policy is not None:
        entry |= {
            "policy": policy.policy_id,
            "version": policy.version,
            "fingerprint": policy.fingerprint,
            "value": json_format.MessageToDict(write_policy(policy)),
        }
    return entry


app = serve.deployment(name="steering")(SteeringServicer).bind()
