"""Plans of the steering service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from miclip.client.activation import AnyEdit, edit_list
from miclip.client.plan import (
    Image,
    Plan,
    Rpc,
    as_list,
    build,
    enum_value,
    every_page,
    layer_name,
    qualified,
    read_images,
)
from miclip.errors import InvalidInput
from miclip.v1 import resources_pb2, steering_pb2


def make_policy(
    *,
    model: str,
    concept: str = "",
    edits: Sequence[AnyEdit] | None = None,
    scale: float | None = None,
    top_k: int | None = None,
    layers: Sequence[str] = (),
    method: str | None = None,
    reconstruct: bool = False,
    ttl_seconds: int = 0,
    traffic_share: float | None = None,
    norm_limit: float = 0.0,
    description: str = "",
) -> steering_pb2.Policy:
    """Make the message of a policy, to create or preview. Nothing is sent.

    Args:
        model: Target model.
        concept: Steer the strongest units of this concept; either this or ``edits``.
        edits: Edits chosen by hand.
        scale: Factor of the concept's units; required with ``concept``.
        top_k: Number of the concept's units; default 5.
        layers: Layers to choose the concept's units from; default as ``localize``.
        method: How the concept's units are ranked; default ``attribution``.
        reconstruct: Of a concept's features: see ``Edit.reconstruct``, which says the same of one edit.
        ttl_seconds: Time to live; 0 is for ever.
        traffic_share: Share of the requests that are steered, above 0 to 1; default 1.
        norm_limit: Largest relative change of a layer; 0 is no limit.
        description: Free text for people.

    Raises:
        InvalidInput: both or none of ``concept`` and ``edits``, or a concept's choices beside ``edits``.
    """
    if bool(concept) == (edits is not None):
        raise InvalidInput("Give either a concept or edits.", field="policy.concept")
    if not concept and (scale is not None or top_k is not None or layers or method is not None or reconstruct):
        text = "scale, top_k, layers, method and reconstruct go with a concept."
        raise InvalidInput(text, field="policy.edits")
    by_concept = build(
        steering_pb2.ConceptSteering,
        text=concept,
        top_k=top_k,
        scale=scale,
        layers=[layer_name(model, layer) for layer in as_list(layers)],
        method=enum_value(resources_pb2.LocalizationMethod, method, "policy.concept.method"),
        reconstruct=reconstruct,
    )
    return build(
        steering_pb2.Policy,
        model=qualified("models", model),
        concept=by_concept if concept else None,
        edits=None if edits is None else edit_list(model, edits),
        ttl_seconds=ttl_seconds,
        traffic_share=traffic_share,
        norm_limit=norm_limit,
        description=description,
    )


def create_policy(policy_id: str, policy: steering_pb2.Policy) -> Plan[steering_pb2.Policy]:
    """Make a policy (see ``make_policy``) live. Needs a key with the scope ``steer``.

    Args:
        policy_id: Id; empty lets the server make one.
        policy: The policy.

    Raises:
        InvalidInput: a value is out of range.
        AlreadyExists: the id is taken.
        NotFound: an unknown model or layer.
    """
    request = build(steering_pb2.CreatePolicyRequest, policy_id=policy_id, policy=policy)
    response: steering_pb2.CreatePolicyResponse = yield Rpc("steering", "CreatePolicy", request, False)
    return response.policy


def get_policy(name: str) -> Plan[steering_pb2.Policy]:
    """A policy; raises NotFound."""
    request = build(steering_pb2.GetPolicyRequest, name=qualified("policies", name))
    response: steering_pb2.GetPolicyResponse = yield Rpc("steering", "GetPolicy", request)
    return response.policy


def list_policies(model: str = "") -> Plan[tuple[steering_pb2.Policy, ...]]:
    """All policies, or those of one model."""
    request = build(steering_pb2.ListPoliciesRequest, model=qualified("models", model))
    return (yield from every_page("steering", "ListPolicies", request, "policies"))


def list_stops() -> Plan[tuple[steering_pb2.SteeringStop, ...]]:
    """Where steering is stopped; empty where it is nowhere."""
    request = build(steering_pb2.ListPoliciesRequest, page_size=1)
    response: steering_pb2.ListPoliciesResponse = yield Rpc("steering", "ListPolicies", request)
    return tuple(response.stops)


def update_policy(policy: steering_pb2.Policy) -> Plan[steering_pb2.Policy]:
    """Replace a policy, read before and changed since; raises Conflict where another write came between.

    Needs a key with the scope ``steer``.
    """
    request = build(steering_pb2.UpdatePolicyRequest, policy=policy)
    response: steering_pb2.UpdatePolicyResponse = yield Rpc("steering", "UpdatePolicy", request, False)
    return response.policy


def delete_policy(name: str, *, etag: str = "") -> Plan[None]:
    """Delete a policy; with ``etag`` only if it is unchanged, else Conflict. Needs a key with the scope ``steer``."""
    request = build(steering_pb2.DeletePolicyRequest, name=qualified("policies", name), etag=etag)
    yield Rpc("steering", "DeletePolicy", request, False)


def preview_policy(
    policy: str | steering_pb2.Policy, *, images: Iterable[Image] = (), target_label: str = ""
) -> Plan[steering_pb2.PreviewPolicyResponse]:
    """Measure what a policy does without making it live: its receipt. Needs a key with the scope ``steer``.

    Args:
        policy: Name of a stored policy, or one of ``make_policy``.
        images: Images to measure on; default probe images that the server has.
        target_label: Label that counts as target; default the label nearest to the concept.
    """
    request = build(
        steering_pb2.PreviewPolicyRequest,
        name=qualified("policies", policy) if isinstance(policy, str) else None,
        policy=None if isinstance(policy, str) else policy,
        images=read_images(images),
        target_label=target_label,
    )
    response: steering_pb2.PreviewPolicyResponse = yield Rpc("steering", "PreviewPolicy", request)
    return response


def stop_steering(reason: str, *, model: str = "") -> Plan[tuple[steering_pb2.SteeringStop, ...]]:
    """The kill switch: no request is steered, of one model or of all, until ``resume_steering``.

    Returns where steering is stopped now. Needs a key with the scope ``steer``.
    """
    request = build(steering_pb2.StopSteeringRequest, model=qualified("models", model), reason=reason)
    response: steering_pb2.StopSteeringResponse = yield Rpc("steering", "StopSteering", request)
    return tuple(response.stops)


def resume_steering(reason: str, *, model: str = "") -> Plan[tuple[steering_pb2.SteeringStop, ...]]:
    """Let requests be steered again. Returns where steering is still stopped. Needs a key with the scope ``steer``."""
    request = build(steering_pb2.ResumeSteeringRequest, model=qualified("models", model), reason=reason)
    response: steering_pb2.ResumeSteeringResponse = yield Rpc("steering", "ResumeSteering", request)
    return tuple(response.stops)


def watch_request(model: str, resume_token: str) -> Rpc:
    """The call that streams policies and stops."""
    request = build(steering_pb2.WatchPoliciesRequest, model=qualified("models", model), resume_token=resume_token)
    return Rpc("steering", "WatchPolicies", request)
