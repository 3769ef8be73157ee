"""Plans of the steering service."""

from __future__ import annotations

from collections.abc import Iterable

from miclip.client.plan import Image, Plan, Rpc, build, every_page, qualified, read_images
from miclip.steering.policy import Policy
from miclip.steering.receipt import Preview
from miclip.steering.stop import Stop
from miclip.v1 import steering_pb2
from miclip.wire.policies import read_policy, read_stop, write_policy
from miclip.wire.receipts import read_preview


def create_policy(policy_id: str, policy: Policy) -> Plan[Policy]:
    """Make a policy (see ``make_policy``) live. Needs a key with the scope ``steer``.

    Args:
        policy_id: Id; empty lets the server make one.
        policy: The policy.

    Raises:
        InvalidInput: a value is out of range.
        AlreadyExists: the id is taken.
        NotFound: an unknown model or layer.
    """
    request = build(steering_pb2.CreatePolicyRequest, policy_id=policy_id, policy=write_policy(policy))
    response: steering_pb2.CreatePolicyResponse = yield Rpc("steering", "CreatePolicy", request, False)
    return read_policy(response.policy)


def get_policy(name: str) -> Plan[Policy]:
    """A policy; raises NotFound."""
    request = build(steering_pb2.GetPolicyRequest, name=qualified("policies", name))
    response: steering_pb2.GetPolicyResponse = yield Rpc("steering", "GetPolicy", request)
    return read_policy(response.policy)


def list_policies(model: str = "") -> Plan[tuple[Policy, ...]]:
    """All policies, or those of one model."""
    request = build(steering_pb2.ListPoliciesRequest, model=qualified("models", model))
    messages = yield from every_page("steering", "ListPolicies", request, "policies")
    return tuple(map(read_policy, messages))


def list_stops() -> Plan[tuple[Stop, ...]]:
    """Where steering is stopped; empty where it is nowhere."""
    request = build(steering_pb2.ListPoliciesRequest, page_size=1)
    response: steering_pb2.ListPoliciesResponse = yield Rpc("steering", "ListPolicies", request)
    return tuple(map(read_stop, response.stops))


def update_policy(policy: Policy) -> Plan[Policy]:
    """Replace a policy by a copy with other values; raises Conflict where another write came between.

    Needs a key with the scope ``steer``.

    Args:
        policy: As read before, with other values: ``policy.replaced(traffic_share=0.5)``.
    """
    request = build(steering_pb2.UpdatePolicyRequest, policy=write_policy(policy))
    response: steering_pb2.UpdatePolicyResponse = yield Rpc("steering", "UpdatePolicy", request, False)
    return read_policy(response.policy)


def delete_policy(name: str, *, etag: str = "") -> Plan[None]:
    """Delete a policy; with ``etag`` only if it is unchanged, else Conflict. Needs a key with the scope ``steer``."""
    request = build(steering_pb2.DeletePolicyRequest, name=qualified("policies", name), etag=etag)
    yield Rpc("steering", "DeletePolicy", request, False)


def preview_policy(policy: str | Policy, *, images: Iterable[Image] = (), target_label: str = "") -> Plan[Preview]:
    """Measure what a policy does without making it live: its receipt. Needs a key with the scope ``steer``.

    Args:
        policy: Name of a stored policy, or one of ``make_policy``.
        images: Images to measure on; default probe images that the server has.
        target_label: Label that counts as target; default the label that the concept is, else the labels that its
            evidence says it covers.
    """
    request = build(
        steering_pb2.PreviewPolicyRequest,
        name=qualified("policies", policy) if isinstance(policy, str) else None,
        policy=None if isinstance(policy, str) else write_policy(policy),
        images=read_images(images),
        target_label=target_label,
    )
    response: steering_pb2.PreviewPolicyResponse = yield Rpc("steering", "PreviewPolicy", request)
    return read_preview(response)


def stop_steering(reason: str, *, model: str = "") -> Plan[tuple[Stop, ...]]:
    """The kill switch: no request is steered, of one model or of all, until ``resume_steering``.

    Returns where steering is stopped now. Needs a key with the scope ``steer``.
    """
    request = build(steering_pb2.StopSteeringRequest, model=qualified("models", model), reason=reason)
    response: steering_pb2.StopSteeringResponse = yield Rpc("steering", "StopSteering", request)
    return tuple(map(read_stop, response.stops))


def resume_steering(reason: str, *, model: str = "") -> Plan[tuple[Stop, ...]]:
    """Let requests be steered again. Returns where steering is still stopped. Needs a key with the scope ``steer``."""
    request = build(steering_pb2.ResumeSteeringRequest, model=qualified("models", model), reason=reason)
    response: steering_pb2.ResumeSteeringResponse = yield Rpc("steering", "ResumeSteering", request)
    return tuple(map(read_stop, response.stops))


def watch_request(model: str, resume_token: str) -> Rpc:
    """The call that streams policies and stops."""
    request = build(steering_pb2.WatchPoliciesRequest, model=qualified("models", model), resume_token=resume_token)
    return Rpc("steering", "WatchPolicies", request)
